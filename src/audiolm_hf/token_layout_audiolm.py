# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Codes and semantic tokens <-> the flat id sequences that the stages model.

Pure functions. In: `semantic_tokens` and `audio_codes (batch, num_codebooks, frames)`; out: id sequences, and back.
Every stage has one vocabulary, `semantic | level 0 | level 1 | ... | bos eos separator padding` (see
`AudioLMStageConfig`), and a [`StageLayout`] that says what its sequences consist of:

| stage | sequence | predicted |
|---|---|---|
| semantic | bos, semantic tokens, eos where the recording ends | everything after bos |
| coarse | bos, semantic tokens, separator, coarse codes | the coarse codes |
| fine | bos, coarse codes, separator, fine codes | the fine codes |

Paper: AudioLM (arXiv 2209.03143), hierarchical modeling of semantic and acoustic tokens; codes are laid out
frame-major, level-minor.
"""

from fractions import Fraction

import torch
from torch import Tensor

from .configuration_audiolm import SEMANTIC_LEVEL, AudioLMStageConfig
from .input_checks_audiolm import check_ids, check_tensor

IGNORE_INDEX = -100  # label of a position that is not predicted, as everywhere in transformers
NO_LEVEL = -2  # the "level" of ids that are never predicted


def flatten_codes(audio_codes: Tensor, *, codebook_size: int, first_level: int = 0, offset: int = 0) -> Tensor:
    """Flatten codes `(batch, num_codebooks, frames)` into tokens, frame by frame and level by level within a frame.

    Args:
        audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): codes in `[0, codebook_size)`.
        codebook_size (`int`): entries of each codebook.
        first_level (`int`, defaults to 0): level of the first codebook given.
        offset (`int`, defaults to 0): id of code 0 of level 0.

    Returns:
        `torch.LongTensor` of shape `(batch, frames * num_codebooks)`: ids `offset + level * codebook_size + code`.
    """
    if audio_codes.dim() != 3:
        raise ValueError(f"audio_codes has shape {tuple(audio_codes.shape)}; give (batch, num_codebooks, frames).")
    check_ids("audio_codes", audio_codes, codebook_size)
    levels = torch.arange(audio_codes.shape[1], device=audio_codes.device) + first_level
    tokens = audio_codes.long() + (offset + levels * codebook_size)[:, None]
    return tokens.transpose(1, 2).reshape(audio_codes.shape[0], -1)  # (batch, frames * num_codebooks)


def unflatten_tokens(
    tokens: Tensor, *, num_codebooks: int, codebook_size: int, first_level: int = 0, offset: int = 0
) -> Tensor:
    """Return the codes of tokens `(batch, frames * num_codebooks)`; the inverse of [`flatten_codes`]."""
    if tokens.dim() != 2 or tokens.shape[1] % num_codebooks:
        raise ValueError(
            f"tokens has shape {tuple(tokens.shape)}; give (batch, sequence_length) with a sequence_length that is a "
            f"multiple of num_codebooks = {num_codebooks}."
        )
    frames = tokens.shape[1] // num_codebooks
    levels = torch.arange(num_codebooks, device=tokens.device) + first_level
    codes = tokens.long().reshape(tokens.shape[0], frames, num_codebooks) - offset - levels * codebook_size
    check_ids("tokens, less the first id of their level,", codes, codebook_size)
    return codes.transpose(1, 2)  # (batch, num_codebooks, frames)


def remove_repeats(semantic_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return semantic tokens `(semantic_length,)` without consecutive repeats, and how often each was there.

    Paper: AudioLM (arXiv 2209.03143), stages 1 and 2.
    """
    if semantic_tokens.dim() != 1:
        raise ValueError(f"semantic_tokens has shape {tuple(semantic_tokens.shape)}; give one recording at a time.")
    tokens, durations = torch.unique_consecutive(semantic_tokens, return_counts=True)
    return tokens, durations


def restore_repeats(semantic_tokens: Tensor, durations: Tensor) -> Tensor:
    """Repeat every token by its duration; the inverse of [`remove_repeats`]."""
    return torch.repeat_interleave(semantic_tokens, durations)


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


def level_mask(config: AudioLMStageConfig, device: torch.device | str = "cpu") -> Tensor:
    """Return a mask `(len(config.predicted_levels), vocab_size)` of the ids allowed at each turn of the levels."""
    levels = config.predicted_levels
    allowed = torch.zeros(len(levels), config.vocab_size, dtype=torch.bool, device=device)
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
    if semantic_tokens.dim() != 1:
        raise ValueError(f"semantic_tokens has shape {tuple(semantic_tokens.shape)}; give one recording at a time.")
    return remove_repeats(semantic_tokens)[0] if config.remove_repeats else semantic_tokens.long()


def code_ids(audio_codes: Tensor, levels: list[int], config: AudioLMStageConfig) -> Tensor:
    """Flatten some adjacent levels of `audio_codes (num_codebooks, frames)` into ids of a stage."""
    check_tensor("audio_codes", audio_codes, "(num_codebooks, frames)")
    first, stop = levels[0], levels[-1] + 1
    if audio_codes.dim() != 2 or audio_codes.shape[0] < stop:
        raise ValueError(
            f"audio_codes has shape {tuple(audio_codes.shape)}; give (num_codebooks, frames) of one recording, with "
            f"{stop} codebooks or more."
        )
    return flatten_codes(
        audio_codes[None, first:stop],
        codebook_size=config.codebook_size,
        first_level=first,
        offset=config.acoustic_offset,
    )[0]


def codes_of_ids(input_ids: Tensor, levels: list[int], config: AudioLMStageConfig) -> Tensor:
    """Return the codes of ids `(batch, frames * len(levels))` of a stage; the inverse of [`code_ids`]."""
    return unflatten_tokens(
        input_ids,
        num_codebooks=len(levels),
        codebook_size=config.codebook_size,
        first_level=levels[0],
        offset=config.acoustic_offset,
    )


def level_ids(levels: list[int], semantic_tokens: Tensor, audio_codes: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Lay out the tokens of some levels of one crop as ids of a stage: semantic tokens, then codes."""
    codes = [level for level in levels if level != SEMANTIC_LEVEL]
    parts = [semantic_ids(semantic_tokens, config)] if SEMANTIC_LEVEL in levels else []
    return torch.cat([*parts, code_ids(audio_codes, codes, config)] if codes else parts)


def special_token(token_id: int, like: Tensor) -> Tensor:
    """Return one id as a sequence, on the device of another."""
    return torch.tensor([token_id], dtype=torch.int64, device=like.device)


def stage_context(condition: Tensor | None, tokens: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Build the ids before the next prediction: bos, the condition and a separator if any, ids already known."""
    begin = special_token(config.begin_token_id, tokens)
    if condition is None:
        return torch.cat([begin, tokens])
    return torch.cat([begin, condition, special_token(config.separator_token_id, tokens), tokens])


def count_positions(inputs: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
    """Return the positions of new ids after `past` earlier ones, without counting padding."""
    length = inputs.shape[1]
    if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
    return torch.arange(past, past + length, device=inputs.device)[None]


def side_by_side_positions(input_ids: Tensor, position_ids: Tensor, config: AudioLMStageConfig) -> Tensor:
    """Return positions with every condition token at the place where the tokens of its time are predicted.

    Counted up, the distance from a code to the semantic tokens of its time is another at every place, and attention
    has to learn each of them. Side by side it is the same everywhere.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, sequence_length)`): ids of the coarse or fine stage.
        position_ids (`torch.LongTensor` of shape `(batch, sequence_length)` or `(1, sequence_length)`): counted up, or
            the result of this function, which it does not change again.
        config ([`AudioLMStageConfig`]): the stage; its `condition_stride` is the distance of two condition tokens.

    Returns:
        `torch.LongTensor` of shape `(batch, sequence_length)`: condition token j at the place of predicted token
        `floor(j * condition_stride)`; all others, rows that lack the beginning token or the separator, and all without
        a stride, as they were.
    """
    if config.condition_stride is None:
        return position_ids
    separator = input_ids == config.separator_token_id
    before = separator.int().cumsum(1) == 0
    begins = (input_ids == config.begin_token_id).any(1, keepdim=True)
    is_condition = before & begins & separator.any(1, keepdim=True) & (input_ids < config.begin_token_id)
    start = (position_ids * separator).sum(1, keepdim=True) + 1
    place = is_condition.long().cumsum(1) - 1
    stride = Fraction(config.condition_stride).limit_denominator(10**6)  # exact: 8/3 is no float
    beside = start + place * stride.numerator // stride.denominator
    return torch.where(is_condition, beside, position_ids)
