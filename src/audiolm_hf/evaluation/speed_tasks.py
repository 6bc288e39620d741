# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Work of a stage that is timed: an artificial context, and as many tokens after it as a window has."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
from audiolm_hf.sampling_audiolm import TokenSampler, fill_frames, parallel_noise, row_noise, sample_tokens
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, build_stage_example

Run = tuple[dict[str, Any], Callable[[], object]]  # a row of the report, and what is timed for it


def stage_task(model: AudioLMModel, name: str, length_s: float) -> tuple[Tensor, int, float]:
    """Return the artificial input for timing a stage on at most a window of audio.

    It consists of the ids of the condition `(sequence_length,)`, the number of tokens to sample, and their length in
    seconds of audio.
    """
    config, codec = model.stages[name].config, model.acoustic_codec
    frames = max(1, int(codec.frame_rate * min(length_s, config.window_length_s)))
    num_tokens = max(1, model.time_grid.tokens_within(frames))
    semantic_tokens = (torch.arange(num_tokens) / config.mean_semantic_duration).long() % config.num_semantic_tokens
    audio_codes = (torch.arange(frames) % codec.codebook_size).expand(codec.num_codebooks, -1)
    example = build_stage_example(config, semantic_tokens, audio_codes, ends_recording=False)
    predicted = example["labels"] != IGNORE_INDEX
    return example["input_ids"][~predicted], int(predicted.sum()), frames / codec.frame_rate


def sample(stage: AudioLMStageBase, context: Tensor, num_tokens: int, batch: int) -> Tensor:
    """Sample tokens `(batch, num_tokens)` after a context, in rows with equal inputs and different random numbers."""
    sampler = TokenSampler(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    if stage.config.layout.parallel:
        return _fill(stage, context, sampler, batch)
    noise = torch.stack([row_noise(0, (row,), num_tokens) for row in range(batch)]).to(stage.device)
    never_end = None
    if stage.config.layout.predicts_end:
        never_end = torch.full((batch,), num_tokens, device=stage.device)
    contexts = [context.to(stage.device)] * batch
    return sample_tokens(stage, contexts, noise, sampler, num_forbidden_ends=never_end)


def _fill(stage: Any, context: Tensor, sampler: TokenSampler, batch: int) -> Tensor:
    """Predict all codes of the frames of a context, frame by frame in the result."""
    width = stage.config.tokens_per_frame
    condition = context.view(-1, width)
    masks = torch.tensor(stage.config.mask_token_ids).expand(len(condition), -1)
    rows = torch.cat([condition, masks], 1).to(stage.device)
    passes = sampler.passes(masks.shape[1])
    noise = [parallel_noise(0, (row,), len(rows), passes) for row in range(batch)]
    filled = fill_frames(stage, [rows] * batch, [0] * batch, noise, sampler)
    return torch.stack([ids[:, width:].flatten() for ids in filled])
