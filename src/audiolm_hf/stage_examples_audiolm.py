# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training sequences of the stages, and batches of them for [`~transformers.Trainer`].

Paper: AudioLM (arXiv 2209.03143), training of the stages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .configuration_audiolm import AudioLMStageConfig
from .input_checks_audiolm import check_ids, check_tensor
from .token_layout_audiolm import (
    IGNORE_INDEX,
    SEMANTIC_LEVEL,
    level_ids,
    special_token,
    stage_context,
)


def build_layout_example(
    config: AudioLMStageConfig,
    semantic_tokens: Tensor,
    audio_codes: Tensor,
    *,
    ends_recording: bool = False,
    drop_condition: bool = False,
) -> dict[str, Tensor]:
    """Build one training sequence of a stage from a crop, as its layout says; see [`build_stage_example`]."""
    condition = None
    if config.condition_levels:
        condition = level_ids(config.condition_levels, semantic_tokens, audio_codes, config)
        if drop_condition and SEMANTIC_LEVEL in config.condition_levels:
            condition = condition[:0]
    tokens = level_ids(config.predicted_levels, semantic_tokens, audio_codes, config)
    if config.layout.predicts_end and ends_recording:
        tokens = torch.cat([tokens, special_token(config.end_token_id, tokens)])
    input_ids = stage_context(condition, tokens, config)
    labels = input_ids.clone()
    labels[: len(input_ids) - len(tokens)] = IGNORE_INDEX
    return {"input_ids": input_ids, "labels": labels}


def pad_examples(examples: Sequence[dict[str, Tensor]], config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Stack sequences `(sequence_length,)` into a batch, padded on the right, with a mask."""
    input_ids = [example["input_ids"] for example in examples]
    labels = [example["labels"] for example in examples]
    return {
        "input_ids": pad_sequence(input_ids, batch_first=True, padding_value=config.padding_token_id),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
        "attention_mask": pad_sequence([torch.ones_like(ids) for ids in input_ids], batch_first=True),
    }


@dataclass
class AudioLMStageCollator:
    """Make batches of training sequences; the `data_collator` of [`~transformers.Trainer`] for a stage.

    Args:
        config ([`AudioLMStageConfig`]): the stage.

    Example:
    ```python
    stage = model.coarse
    examples = [build_stage_example(stage.config, tokens, codes) for tokens, codes in crops]
    collator = AudioLMStageCollator(stage.config)
    Trainer(stage, TrainingArguments("runs/own"), train_dataset=examples, data_collator=collator).train()
    ```
    """

    config: AudioLMStageConfig

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Stack what [`build_stage_example`] returned, tensors or lists; see [`pad_examples`].

        Raises:
            TypeError: the ids of an example are no integers.
            ValueError: there is no example, one has no `input_ids` and `labels` of one length, or an id is not one of
                the stage's.
        """
        if not isinstance(examples, Sequence) or not examples:
            raise ValueError(
                f"examples is {examples!r}; give a list of one or more of what build_stage_example returns."
            )
        return pad_examples(
            [self._read(example, f"Example {place}") for place, example in enumerate(examples)], self.config
        )

    def _read(self, example: Any, name: str) -> dict[str, Tensor]:
        """Check one example, and return its ids and labels as tensors."""
        if not isinstance(example, Mapping) or not {"input_ids", "labels"} <= example.keys():
            keys = ", ".join(map(str, example)) if isinstance(example, Mapping) else type(example).__name__
            raise ValueError(
                f"{name} has {keys}; it must have input_ids and labels, as build_stage_example returns them."
            )
        try:
            row = {key: torch.as_tensor(example[key]) for key in ("input_ids", "labels")}
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} has input_ids or labels that are no list of integers.") from None
        check_ids(f"input_ids of {name}", row["input_ids"], self.config.vocab_size)
        check_tensor(f"labels of {name}", row["labels"], "of integers (torch.int64)")
        labels = row["labels"].masked_fill(row["labels"] == IGNORE_INDEX, 0)
        check_ids(f"labels of {name}, but for {IGNORE_INDEX},", labels, self.config.vocab_size)
        shapes = {tuple(values.shape) for values in row.values()}
        if len(shapes) > 1 or len(min(shapes)) != 1 or (0,) in shapes:
            raise ValueError(
                f"{name} has input_ids and labels of the shapes {' and '.join(map(str, sorted(shapes)))}; give one "
                "length, 1 or more, as build_stage_example does."
            )
        return {key: values.long() for key, values in row.items()}
