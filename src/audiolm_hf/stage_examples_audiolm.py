# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training sequences of the stages, and batches of them.

In: semantic tokens and codes of a crop; out: `input_ids` and `labels`, and what [`~transformers.Trainer`] takes.

Paper: AudioLM (arXiv 2209.03143), training of the three stages.
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
    coarse_ids,
    conditioned_context,
    fine_ids,
    semantic_context,
    semantic_ids,
    special_token,
)


def _example(input_ids: Tensor, num_predicted: int) -> dict[str, Tensor]:
    labels = input_ids.clone()
    labels[: len(input_ids) - num_predicted] = IGNORE_INDEX
    return {"input_ids": input_ids, "labels": labels}


def build_semantic_example(
    semantic_tokens: Tensor, config: AudioLMStageConfig, *, ends_recording: bool
) -> dict[str, Tensor]:
    """Build one training sequence of the semantic stage from a crop.

    Args:
        semantic_tokens (`torch.LongTensor` of shape `(semantic_length,)`): the crop, repeats included.
        config ([`AudioLMSemanticConfig`]): the stage.
        ends_recording (`bool`): the crop reaches the end of its recording, so the end token is to be learned.

    Returns:
        `dict`: `input_ids` and `labels` of shape `(sequence_length,)`.
    """
    tokens = semantic_ids(semantic_tokens, config)
    if ends_recording:
        tokens = torch.cat([tokens, special_token(config.end_token_id, tokens)])
    return _example(semantic_context(tokens, config), len(tokens))


def build_coarse_example(
    semantic_tokens: Tensor, audio_codes: Tensor, config: AudioLMStageConfig, *, drop_condition: bool = False
) -> dict[str, Tensor]:
    """Build one training sequence of the coarse stage from a crop.

    Args:
        semantic_tokens (`torch.LongTensor` of shape `(semantic_length,)`): the crop, repeats included.
        audio_codes (`torch.LongTensor` of shape `(num_codebooks, frames)`): codes of the same crop; levels beyond
            the coarse ones are left out.
        config ([`AudioLMCoarseConfig`]): the stage.
        drop_condition (`bool`, defaults to `False`): leave the semantic tokens out, so that the stage also learns
            the unconditional distribution that `coarse_guidance_scale` needs.

    Returns:
        `dict`: `input_ids` and `labels` of shape `(sequence_length,)`; labels on coarse codes alone.
    """
    condition = semantic_ids(semantic_tokens, config)[: 0 if drop_condition else None]
    tokens = coarse_ids(audio_codes, config)
    return _example(conditioned_context(condition, tokens, config), len(tokens))


def build_fine_example(audio_codes: Tensor, config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Build one training sequence of the fine stage from a crop.

    Args:
        audio_codes (`torch.LongTensor` of shape `(num_codebooks, frames)`): all levels of the crop.
        config ([`AudioLMFineConfig`]): the stage.

    Returns:
        `dict`: `input_ids` and `labels` of shape `(sequence_length,)`; labels on fine codes alone.
    """
    tokens = fine_ids(audio_codes, config)
    return _example(conditioned_context(coarse_ids(audio_codes, config), tokens, config), len(tokens))


def build_stage_example(
    config: AudioLMStageConfig,
    semantic_tokens: Tensor,
    audio_codes: Tensor,
    *,
    ends_recording: bool = False,
    drop_condition: bool = False,
) -> dict[str, Tensor]:
    """Build one training sequence of any stage from a crop of a recording.

    Args:
        config ([`AudioLMStageConfig`]): the stage.
        semantic_tokens (`torch.LongTensor` of shape `(semantic_length,)`): of the crop, as
            `semantic_tokenizer.tokenize` returns them; not used by the fine stage.
        audio_codes (`torch.LongTensor` of shape `(num_codebooks, frames)`): of the same crop, as
            `acoustic_codec.encode` returns them; not used by the semantic stage.
        ends_recording (`bool`, defaults to `False`): the crop reaches the end of its recording (semantic stage).
        drop_condition (`bool`, defaults to `False`): leave the semantic tokens out (coarse stage).

    Returns:
        `dict`: `input_ids` and `labels` of shape `(sequence_length,)`.
    """
    if config.stage == "semantic":
        return build_semantic_example(semantic_tokens, config, ends_recording=ends_recording)
    if config.stage == "coarse":
        return build_coarse_example(semantic_tokens, audio_codes, config, drop_condition=drop_condition)
    return build_fine_example(audio_codes, config)


def pad_examples(examples: Sequence[dict[str, Tensor]], config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Stack sequences into one batch, padded on the right.

    Args:
        examples (sequence of `dict`): `input_ids` and `labels` of shape `(sequence_length,)` each.
        config ([`AudioLMStageConfig`]): names the padding id.

    Returns:
        `dict`: `input_ids`, `labels` (-100 on padding) and `attention_mask`, of shape `(batch, sequence_length)`.
    """
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


__all__ = [
    "AudioLMStageCollator",
    "build_coarse_example",
    "build_fine_example",
    "build_semantic_example",
    "build_stage_example",
    "pad_examples",
]
