# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Codes and semantic tokens <-> the flat id sequences that the stages model, and batches of these for training.

Every stage has one vocabulary, `semantic | level 0 | level 1 | ... | bos eos separator padding` (see
`AudioLMStageConfig`), and a [`StageLayout`] that says what its sequences consist of:

| stage | sequence | predicted |
|---|---|---|
| semantic | bos, semantic tokens, eos where the recording ends | everything after bos |
| coarse | bos, semantic tokens, separator, coarse codes | the coarse codes |
| fine | bos, coarse codes, separator, fine codes | the fine codes |
| parallel | for each frame a row of its semantic tokens and a code, or mask, of every level | the masked codes |

Papers: AudioLM (arXiv 2209.03143), hierarchical modeling of semantic and acoustic tokens; codes are laid out
frame-major, level-minor. SoundStorm (arXiv 2305.09636), masks of the parallel stage.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .configuration_audiolm import SEMANTIC_LEVEL, AudioLMStageConfig
from .input_checks_audiolm import check_ids, check_tensor
from .time_grid_audiolm import TimeGrid

IGNORE_INDEX = -100  # label of a position that is not predicted, as everywhere in transformers
NO_LEVEL = -2  # the "level" of ids that are never predicted


def remove_repeats(semantic_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return semantic tokens `(semantic_length,)` without consecutive repeats, and how often each occurred in a row.

    Paper: AudioLM (arXiv 2209.03143), stages 1 and 2.
    """
    check_tensor("semantic_tokens", semantic_tokens, "(semantic_length,), one recording at a time", 1)
    return torch.unique_consecutive(semantic_tokens, return_counts=True)


def level_range(config: AudioLMStageConfig, level: int) -> tuple[int, int]:
    """Return the range of ids, first and one past the last, among which a token of a level is chosen.

    That of `SEMANTIC_LEVEL` ends with the end token in the semantic stage; see also [`forbidden_id`].
    """
    if level == SEMANTIC_LEVEL:
        return 0, config.end_token_id + 1 if config.layout.predicts_end else config.num_semantic_tokens
    start = config.acoustic_offset + level * config.codebook_size
    return start, start + config.codebook_size


def forbidden_id(config: AudioLMStageConfig, level: int) -> int | None:
    """Return the one id inside [`level_range`] that is never chosen: the semantic stage's beginning token."""
    return config.begin_token_id if level == SEMANTIC_LEVEL and config.layout.predicts_end else None


def token_levels(tokens: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Return the level of every token of a stage's sequence, or label, in the same shape.

    It is `SEMANTIC_LEVEL` for semantic tokens and the end token of the semantic stage, and `NO_LEVEL` for ids that are
    never predicted.
    """
    codes = tokens - config.acoustic_offset
    is_code = (codes >= 0) & (codes < config.num_stage_codebooks * config.codebook_size)
    is_semantic = (tokens >= 0) & (tokens < config.acoustic_offset)
    if config.layout.predicts_end:
        is_semantic |= tokens == config.end_token_id
    levels = torch.where(is_code, codes.div(config.codebook_size, rounding_mode="floor"), NO_LEVEL)
    return torch.where(is_semantic, SEMANTIC_LEVEL, levels)


def is_condition(tokens: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Return a mask of the ids before the prediction: those of levels that are not predicted, and the separator."""
    condition = torch.tensor(config.condition_levels, dtype=torch.int64, device=tokens.device)
    return torch.isin(token_levels(tokens, config), condition) | (tokens == config.separator_token_id)


def level_mask(config: AudioLMStageConfig) -> Tensor:
    """Return a mask `(len(config.predicted_levels), vocab_size)` of the ids allowed at each turn of the levels."""
    levels = config.predicted_levels
    allowed = torch.zeros(len(levels), config.vocab_size, dtype=torch.bool, device="cpu")
    for turn, level in enumerate(levels):
        start, stop = level_range(config, level)
        allowed[turn, start:stop] = True
        forbidden = forbidden_id(config, level)
        if forbidden is not None:
            allowed[turn, forbidden] = False
    return allowed


def semantic_ids(semantic_tokens: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Check the semantic tokens of a crop, and remove repeats if the stage has `remove_repeats`."""
    check_ids("semantic_tokens", semantic_tokens, config.num_semantic_tokens)
    check_tensor("semantic_tokens", semantic_tokens, "(semantic_length,), one recording at a time", 1)
    return remove_repeats(semantic_tokens.long())[0] if config.remove_repeats else semantic_tokens.long()


def _first_ids(levels: list[int], config: AudioLMStageConfig, device: torch.device) -> Tensor:
    return config.acoustic_offset + torch.tensor(levels, device=device) * config.codebook_size


def code_ids(audio_codes: Tensor, levels: list[int], config: AudioLMStageConfig) -> Tensor:
    """Flatten adjacent levels of `audio_codes (num_codebooks, frames)` into ids of a stage, frame by frame."""
    check_tensor("audio_codes", audio_codes, "(num_codebooks, frames) of one recording", 2)
    if len(audio_codes) <= levels[-1]:
        raise ValueError(f"audio_codes has {len(audio_codes)} codebooks; give {levels[-1] + 1} or more.")
    codes = audio_codes[levels[0] : levels[-1] + 1]
    check_ids("audio_codes", codes, config.codebook_size)
    return (codes.long() + _first_ids(levels, config, codes.device)[:, None]).t().reshape(-1)


def codes_of_ids(input_ids: Tensor, levels: list[int], config: AudioLMStageConfig) -> Tensor:
    """Return the codes of ids `(batch, frames * len(levels))` of a stage; the inverse of [`code_ids`]."""
    frames = input_ids.shape[1] // len(levels)
    ids = input_ids.long().reshape(len(input_ids), frames, len(levels))
    codes = ids - _first_ids(levels, config, ids.device)
    check_ids("input_ids, less the first id of their level,", codes, config.codebook_size)
    return codes.transpose(1, 2)


def level_ids(levels: list[int], semantic_tokens: Tensor, audio_codes: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Lay out the tokens of some levels of one crop as ids of a stage: semantic tokens, then codes."""
    codes = [level for level in levels if level != SEMANTIC_LEVEL]
    parts = [semantic_ids(semantic_tokens, config)] if SEMANTIC_LEVEL in levels else []
    return torch.cat([*parts, code_ids(audio_codes, codes, config)] if codes else parts)


def frame_rows(
    semantic_tokens: Tensor, starts: Tensor, audio_codes: Tensor, num_frames: int, config: AudioLMStageConfig
) -> Tensor:
    """Return the ids `(num_frames, tokens_per_frame + levels)` of the parallel stage; frames without codes are masked.

    `starts (semantic_length,)`, on the CPU, are the frames with which tokens begin; `audio_codes` are of the first
    frames. Without semantic tokens, there is no condition.
    """
    levels, width = config.predicted_levels, config.tokens_per_frame
    rows = torch.tensor(config.mask_token_ids, device=audio_codes.device).expand(num_frames, -1).clone()
    rows[: audio_codes.shape[1]] = code_ids(audio_codes, levels, config).view(-1, len(levels))
    ids, frames = semantic_ids(semantic_tokens, config), torch.arange(num_frames, device="cpu")
    last = torch.searchsorted(starts.long(), frames, right=True) - 1
    first = torch.minimum(torch.searchsorted(starts.long(), frames), last)
    places = first[:, None] + torch.arange(width, device="cpu")
    exists = (places >= 0) & (places <= last[:, None])
    condition = rows.new_full((num_frames, width), config.absent_token_id)
    condition[exists.to(rows.device)] = ids[places[exists].to(ids.device)]
    return torch.cat([condition, rows], 1)


def without_condition(rows: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Return rows `(..., columns)` of the parallel stage without semantic tokens, for guidance."""
    rows = rows.clone()
    rows[..., : config.tokens_per_frame] = config.absent_token_id
    return rows


def hide_codes(
    example: dict[str, Tensor], config: AudioLMStageConfig, rng: np.random.Generator, level: int | None = None
) -> dict[str, Tensor]:
    """Mask the codes that an example of the parallel stage predicts, and label only these; copy other examples.

    The first t frames stay, t uniform. One level, uniform unless given, is masked and predicted at a share of the
    other frames, cos(u) with u uniform in [0, pi/2], at least at one of them. The levels above it are masked at all
    of the other frames.

    Paper: SoundStorm (arXiv 2305.09636), masking.
    """
    if not config.layout.parallel:
        return dict(example)
    input_ids, labels = example["input_ids"].clone(), torch.full_like(example["labels"], IGNORE_INDEX)
    frames, levels = len(input_ids), len(config.predicted_levels)
    start = int(rng.integers(frames))
    level = int(rng.integers(levels)) if level is None else level
    share = math.cos(rng.random() * math.pi / 2)
    hidden = rng.random(frames) < share
    hidden[:start] = False
    if not hidden.any():
        hidden[rng.integers(start, frames)] = True
    places, column = torch.from_numpy(np.flatnonzero(hidden)), input_ids.shape[1] - levels + level
    labels[places, column] = example["labels"][places, column]
    masks = input_ids.new_tensor(config.mask_token_ids)
    input_ids[places, column] = masks[level]
    input_ids[start:, column + 1 :] = masks[level + 1 :]
    return {"input_ids": input_ids, "labels": labels}


def stage_context(condition: Tensor | None, tokens: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Build the ids before the next prediction: bos, the condition and a separator if any, ids already known."""
    begin, separator = tokens.new_tensor([[config.begin_token_id], [config.separator_token_id]])
    return torch.cat([begin, tokens] if condition is None else [begin, condition, separator, tokens])


def count_positions(inputs: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
    """Return the positions of new ids after `past` earlier ones, without counting padding."""
    length = inputs.shape[1]
    if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
    return torch.arange(past, past + length, device=inputs.device)[None]


def aligned_position_ids(
    input_ids: Tensor, position_ids: Tensor, config: AudioLMStageConfig, attention_mask: Tensor | None = None
) -> Tensor:
    """Return position ids in which each condition token has the position of the tokens predicted for the same time.

    With consecutive positions, the distance between a code and the semantic tokens of its time grows along the
    sequence, and attention has to learn every distance. Aligned, it is the same everywhere: condition token j of
    `input_ids (batch, sequence_length)` has the position of predicted token `floor(j * condition_stride)`. Rows
    without the beginning token or the separator, and rows that are already aligned, do not change.
    """
    if config.condition_stride is None:
        return position_ids
    if attention_mask is not None and attention_mask.shape == input_ids.shape:
        input_ids = input_ids.masked_fill(attention_mask == 0, config.vocab_size)  # not an id
    separator = input_ids == config.separator_token_id
    before = separator.int().cumsum(1) == 0
    begins = (input_ids == config.begin_token_id).any(1, keepdim=True)
    is_condition = before & begins & separator.any(1, keepdim=True) & (input_ids < config.begin_token_id)
    start = (position_ids * separator).sum(1, keepdim=True) + 1
    place = is_condition.long().cumsum(1) - 1
    stride = Fraction(config.condition_stride).limit_denominator(10**6)  # exact, as 8/3 is not a float
    beside = start + place * stride.numerator // stride.denominator
    return torch.where(is_condition, beside, position_ids)


def build_stage_example(
    config: AudioLMStageConfig,
    semantic_tokens: Tensor,
    audio_codes: Tensor,
    *,
    ends_recording: bool = False,
    drop_condition: bool = False,
) -> dict[str, Tensor]:
    """Build one training sequence of a stage from a crop of a recording.

    Args:
        config ([`AudioLMStageConfig`]): the stage.
        semantic_tokens (`torch.LongTensor` of shape `(semantic_length,)`): of the crop, as
            `semantic_tokenizer.tokenize` returns them, repeats included; not used by the fine stage.
        audio_codes (`torch.LongTensor` of shape `(num_codebooks, frames)`): of the same crop, as
            `acoustic_codec.encode` returns them; not used by the semantic stage.
        ends_recording (`bool`, defaults to `False`): the recording ends with the crop, which the semantic stage learns
            as its end token.
        drop_condition (`bool`, defaults to `False`): leave semantic tokens out of the condition, so that the stage
            can be guided.

    Returns:
        `dict`: `input_ids` and `labels` of shape `(sequence_length,)`; labels are -100 on what is not predicted. Those
        of the parallel stage are `(frames, columns)`, with all codes; see [`hide_codes`].
    """
    if config.layout.parallel:
        places = torch.arange(0 if drop_condition else len(semantic_tokens), dtype=torch.float64, device="cpu")
        starts = TimeGrid(config.frames_per_token, Fraction(1)).frames_of_tokens(places)
        tokens, frames = semantic_tokens[: len(starts)], audio_codes.shape[1]
        input_ids = frame_rows(tokens, starts, audio_codes, frames, config)
        labels = input_ids.clone()
        labels[:, : -len(config.predicted_levels)] = IGNORE_INDEX
        return {"input_ids": input_ids, "labels": labels}
    condition = None
    if config.condition_levels:
        condition = level_ids(config.condition_levels, semantic_tokens, audio_codes, config)
        if drop_condition and SEMANTIC_LEVEL in config.condition_levels:
            condition = condition[:0]
    tokens = level_ids(config.predicted_levels, semantic_tokens, audio_codes, config)
    if config.layout.predicts_end and ends_recording:
        tokens = torch.cat([tokens, tokens.new_tensor([config.end_token_id])])
    input_ids = stage_context(condition, tokens, config)
    labels = input_ids.clone()
    labels[: len(input_ids) - len(tokens)] = IGNORE_INDEX
    return {"input_ids": input_ids, "labels": labels}


def pad_examples(examples: Sequence[dict[str, Tensor]], config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Stack sequences `(sequence_length, ...)` into a batch, padded on the right, with a mask."""
    input_ids = [example["input_ids"] for example in examples]
    labels = [example["labels"] for example in examples]
    return {
        "input_ids": pad_sequence(input_ids, batch_first=True, padding_value=config.padding_token_id),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
        "attention_mask": pad_sequence([ids.new_ones(len(ids)) for ids in input_ids], batch_first=True),
    }


@dataclass
class AudioLMStageCollator:
    """Collate training sequences into batches; the `data_collator` of [`~transformers.Trainer`] for a stage.

    Args:
        config ([`AudioLMStageConfig`]): the stage.
        seed (`int`, defaults to 0): of the masks of the parallel stage, which differ in every batch.

    Example:
    ```python
    stage = model.coarse
    examples = [build_stage_example(stage.config, tokens, codes) for tokens, codes in crops]
    collator = AudioLMStageCollator(stage.config)
    Trainer(stage, TrainingArguments("runs/own"), train_dataset=examples, data_collator=collator).train()
    ```
    """

    config: AudioLMStageConfig
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Stack and check what [`build_stage_example`] returned, tensors or lists; see [`hide_codes`]."""
        if not isinstance(examples, Sequence) or not examples:
            raise ValueError(f"examples is {examples!r}; give a list of what build_stage_example returns.")
        read = [self._read(example, f"Example {place}") for place, example in enumerate(examples)]
        return pad_examples([hide_codes(example, self.config, self._rng) for example in read], self.config)

    def _read(self, example: Any, name: str) -> dict[str, Tensor]:
        """Check one example, and return its ids and labels as tensors."""
        if not isinstance(example, Mapping) or not {"input_ids", "labels"} <= example.keys():
            keys = ", ".join(map(str, example)) if isinstance(example, Mapping) else type(example).__name__
            raise ValueError(f"{name} has {keys}; give input_ids and labels, as build_stage_example returns.")
        try:
            row = {key: torch.as_tensor(example[key]) for key in ("input_ids", "labels")}
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} has input_ids or labels that are not a list of integers.") from None
        check_ids(f"input_ids of {name}", row["input_ids"], self.config.vocab_size)
        check_tensor(f"labels of {name}", row["labels"], "of integers (torch.int64)")
        labels = row["labels"].masked_fill(row["labels"] == IGNORE_INDEX, 0)
        check_ids(f"labels of {name}, except {IGNORE_INDEX},", labels, self.config.vocab_size)
        shapes = {tuple(values.shape) for values in row.values()}
        if len(shapes) > 1 or len(min(shapes)) != 1 + self.config.layout.parallel or 0 in min(shapes):
            raise ValueError(
                f"{name} has input_ids and labels of the shapes {' and '.join(map(str, sorted(shapes)))}; give one "
                "length, 1 or more, as build_stage_example does."
            )
        return {key: values.long() for key, values in row.items()}
