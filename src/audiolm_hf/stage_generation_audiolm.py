# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Each stage over any length, in windows: from the known tokens or codes of every row to those of the whole row.

Every row moves its window when its own is full, so that its result does not depend on the other rows.

Papers: AudioLM (arXiv 2209.03143), inference; windows of 30 / 10 / 3 s, the fine stage in chunks. SoundStorm (arXiv
2305.09636), the parallel stage.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from .configuration_audiolm import AudioLMStageConfig
from .sampling_audiolm import (
    Progress,
    ProgressCallback,
    TokenSampler,
    fill_frames,
    parallel_noise,
    row_noise,
    sample_tokens,
)
from .time_grid_audiolm import TimeGrid
from .token_layout_audiolm import code_ids, codes_of_ids, frame_rows, semantic_ids, stage_context


def _fitted_start(start: int, known: int, target: int, window: int, first: bool) -> int:
    """Move a window's start so that something fits after what is known: half a window of it stays as context.

    A window moves before the first token if the rest does not fit, and afterwards when it is full.
    """
    room = start + window - known
    if room >= target - known or (room > 0 and not first):
        return start
    return max(start, known - window // 2)


def _window_tokens(config: AudioLMStageConfig, frame_rate: float) -> int:
    """Return the semantic tokens, or frames, that one window of a stage holds; at least 2."""
    return max(2, int(config.window_length_s * frame_rate))


def generate_semantic_tokens(
    model: PreTrainedModel,
    prompts: list[Tensor],
    num_tokens: int,
    seeds: list[tuple[int, ...]],
    sampler: TokenSampler,
    *,
    token_rate: float,
    min_tokens: int = 0,
    callback: ProgressCallback | None = None,
) -> list[Tensor]:
    """Continue semantic tokens until the end token or a number of tokens, in windows.

    Args:
        model ([`AudioLMSemanticModel`]): the stage.
        prompts (`list[torch.LongTensor]`): tokens of each row, without repeats if the stage has `remove_repeats`; may
            be empty.
        num_tokens (`int`): most tokens to add to a row.
        seeds (`list[tuple[int, ...]]`): seed and path of each row, see [`row_noise`].
        sampler ([`TokenSampler`]): how to choose.
        token_rate (`float`): tokens per second, Hz.
        min_tokens (`int`, defaults to 0): the end token is not chosen before this many.
        callback (`ProgressCallback`, *optional*): called with stage, done, total.

    Returns:
        `list[torch.LongTensor]`: the new tokens of each row, without the end token.
    """
    window = _window_tokens(model.config, token_rate)
    noise = torch.stack([row_noise(seed, path, num_tokens) for seed, *path in seeds])
    rows, starts = list(prompts), [0] * len(prompts)
    targets = [len(prompt) + num_tokens for prompt in prompts]
    progress = Progress(callback, model.config.stage, num_tokens * len(prompts))
    active = list(range(len(prompts)))
    while active:
        made = [len(rows[row]) - len(prompts[row]) for row in active]
        for row, count in zip(active, made, strict=True):
            starts[row] = _fitted_start(starts[row], len(rows[row]), targets[row], window, first=count == 0)
        steps = min(min(targets[row], starts[row] + window) - len(rows[row]) for row in active)
        new = sample_tokens(
            model,
            [stage_context(None, rows[row][starts[row] :], model.config) for row in active],
            torch.stack([noise[row, count : count + steps] for row, count in zip(active, made, strict=True)]),
            sampler,
            num_forbidden_ends=torch.tensor([min_tokens - count for count in made], device=rows[0].device),
            progress=progress,
        )
        unended = []
        for row, tokens in zip(active, new, strict=True):
            kept = tokens[tokens != model.config.end_token_id]
            rows[row] = torch.cat([rows[row], kept])
            if len(kept) == steps and len(rows[row]) < targets[row]:
                unended.append(row)
        active = unended
    progress.advance(progress.total)
    return [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]


@dataclass
class TimedTokens:
    """Semantic tokens of one row, and on the CPU the codec frames to which they belong, both `(semantic_length,)`."""

    tokens: Tensor
    starts: Tensor

    def between(self, start: int, stop: int) -> "TimedTokens":
        """Return the tokens of codec frames `[start, stop)`, with their frames counted from `start`."""
        first, last = torch.searchsorted(self.starts, self.starts.new_tensor([start, stop])).tolist()
        return TimedTokens(self.tokens[first:last], self.starts[first:last] - start)


@dataclass
class CodeRows:
    """Rows whose codes the stages generate, one stage after the other.

    Args:
        semantic_tokens (`list[TimedTokens]`): of each row, from its first frame to its last.
        known_codes (`list[torch.LongTensor]`): codes of shape `(num_codebooks, frames)` of each row's prompt.
        num_frames (`list[int]`): frames that each row is to have in all.
        seeds (`list[tuple[int, ...]]`): seed and path of each row, see [`row_noise`].
        grid ([`TimeGrid`]): the times of tokens and frames.
        codes (`list[torch.LongTensor]`): codes of shape `(levels, num_frames)` of each row from earlier stages.
        callback (`ProgressCallback`, *optional*): called with stage, done, total.
    """

    semantic_tokens: list[TimedTokens]
    known_codes: list[Tensor]
    num_frames: list[int]
    seeds: list[tuple[int, ...]]
    grid: TimeGrid
    codes: list[Tensor] = field(default_factory=list)
    callback: ProgressCallback | None = None


def _move_windows(active: list[int], rows: list[Tensor], starts: list[int], given: CodeRows, window: int) -> list[int]:
    """Move the starts of the windows of active rows, in place, to a unit of the grid; return the ends, in frames."""
    stops = []
    for row in active:
        known, target = rows[row].shape[1], given.num_frames[row]
        first = known == given.known_codes[row].shape[1]
        starts[row] = given.grid.unit_start(_fitted_start(starts[row], known, target, window, first))
        stops.append(min(target, starts[row] + window))
    return stops


def generate_coarse_codes(model: PreTrainedModel, given: CodeRows, sampler: TokenSampler) -> list[Tensor]:
    """Continue codes under semantic tokens, in windows that both share and that begin where units of the grid begin.

    For a stage that predicts levels from 0 on. Return codes `(levels, num_frames)` of each row, known ones included.
    """
    config, grid, num_frames = model.config, given.grid, given.num_frames
    levels = len(config.predicted_levels)
    known_codes = [codes[:levels] for codes in given.known_codes]
    window = grid.frames_of(max(2, grid.units(config.window_length_s)))
    rows, starts = [*known_codes], [0] * len(known_codes)
    totals = [max(0, total - codes.shape[1]) * levels for total, codes in zip(num_frames, known_codes, strict=True)]
    noise = [row_noise(seed, path, total) for (seed, *path), total in zip(given.seeds, totals, strict=True)]
    progress = Progress(given.callback, config.stage, sum(totals))
    while active := [row for row, codes in enumerate(rows) if codes.shape[1] < num_frames[row]]:
        stops = _move_windows(active, rows, starts, given, window)
        steps = levels * min(stop - rows[row].shape[1] for row, stop in zip(active, stops, strict=True))
        known_ids = [code_ids(rows[row][:, starts[row] :], config.predicted_levels, config) for row in active]
        semantic = [
            semantic_ids(given.semantic_tokens[row].between(starts[row], stop).tokens, config)
            for row, stop in zip(active, stops, strict=True)
        ]
        made = [(rows[row].shape[1] - known_codes[row].shape[1]) * levels for row in active]
        new = sample_tokens(
            model,
            [stage_context(*pair, config) for pair in zip(semantic, known_ids, strict=True)],
            torch.stack([noise[row][count : count + steps] for row, count in zip(active, made, strict=True)]),
            sampler,
            unconditional_contexts=None
            if sampler.guidance_scale == 1
            else [stage_context(ids[:0], ids, config) for ids in known_ids],
            progress=progress,
        )
        for row, new_codes in zip(active, codes_of_ids(new, config.predicted_levels, config), strict=True):
            rows[row] = torch.cat([rows[row], new_codes], 1)
    return rows


def generate_parallel_codes(model: PreTrainedModel, given: CodeRows, sampler: TokenSampler) -> list[Tensor]:
    """Predict codes under semantic tokens, in windows like those of [`generate_coarse_codes`], each all at once."""
    config, grid = model.config, given.grid
    levels = len(config.predicted_levels)
    rows, starts = [codes[:levels] for codes in given.known_codes], [0] * len(given.known_codes)
    missing = [total - codes.shape[1] for total, codes in zip(given.num_frames, rows, strict=True)]
    progress = Progress(given.callback, config.stage, sum(max(0, count) * levels for count in missing))
    window, place = grid.frames_of(max(2, grid.units(config.window_length_s))), 0
    while active := [row for row, codes in enumerate(rows) if codes.shape[1] < given.num_frames[row]]:
        ids, num_known, noise = [], [], []
        for row, stop in zip(active, _move_windows(active, rows, starts, given, window), strict=True):
            known, timed = rows[row][:, starts[row] :], given.semantic_tokens[row].between(starts[row], stop)
            ids.append(frame_rows(timed.tokens, timed.starts, known, stop - starts[row], config))
            num_known.append(known.shape[1])
            seed, *path = given.seeds[row]
            new = len(ids[-1]) - num_known[-1]
            noise.append(parallel_noise(seed, [*path, place], new, sampler.passes(levels)))
        filled = fill_frames(model, ids, num_known, noise, sampler, progress=progress)
        for row, count, codes in zip(active, num_known, filled, strict=True):
            new_ids = codes[count:, config.tokens_per_frame :].reshape(1, -1)
            rows[row] = torch.cat([rows[row], codes_of_ids(new_ids, config.predicted_levels, config)[0]], 1)
        place += 1
    return rows


def _chunks(known: int, total: int, window: int) -> list[tuple[int, int, int]]:
    """Cut new frames into chunks of about equal length: (first context frame, first new frame, end)."""
    if known >= total:
        return []
    context = min(known, window // 3)
    count = math.ceil((context + total - known) / window)
    bounds = [known - context + (context + total - known) * index // count for index in range(count + 1)]
    return [(start, max(start, known), stop) for start, stop in pairwise(bounds) if stop > known]


def generate_fine_codes(model: PreTrainedModel, given: CodeRows, sampler: TokenSampler) -> list[Tensor]:
    """Add levels to codes, in independent chunks that are sampled together, `batch_size` of the sampler at a time.

    The first chunk of a row begins in its prompt, up to a third of a window before the first new frame. Arguments and
    result are those of [`generate_coarse_codes`], for a stage that predicts levels from the leading ones.
    """
    config, seeds = model.config, given.seeds
    predicted, levels = config.predicted_levels, len(config.predicted_levels)
    window = _window_tokens(config, float(1 / given.grid.frame_s))
    rows = [torch.cat([codes, codes.new_zeros(levels, codes.shape[1])]) for codes in given.codes]
    chunks: list[tuple[int, int, tuple[int, int, int]]] = []
    for row, (codes, known) in enumerate(zip(rows, given.known_codes, strict=True)):
        codes[:, : known.shape[1]] = known[: len(codes)]
        spans = _chunks(known.shape[1], codes.shape[1], window)
        chunks += [(row, index, span) for index, span in enumerate(spans)]
    chunks.sort(key=lambda chunk: chunk[2][2] - chunk[2][1])  # of like length together
    progress = Progress(given.callback, config.stage, sum((stop - new) * levels for _, _, (_, new, stop) in chunks))
    size = sampler.batch_size or max(1, len(chunks))
    for group in (chunks[index : index + size] for index in range(0, len(chunks), size)):
        steps = levels * max(stop - new for _, _, (_, new, stop) in group)
        contexts, noise = [], []
        for row, index, (start, new, stop) in group:
            condition = code_ids(rows[row][:, start:stop], config.condition_levels, config)
            contexts.append(stage_context(condition, code_ids(rows[row][:, start:new], predicted, config), config))
            own_noise = row_noise(seeds[row][0], [*seeds[row][1:], index], (stop - new) * levels)
            noise.append(F.pad(own_noise, (0, steps - len(own_noise))))
        tokens = sample_tokens(model, contexts, torch.stack(noise), sampler, progress=progress)
        codes = codes_of_ids(tokens, predicted, config)
        for (row, _, (_, new, stop)), new_codes in zip(group, codes, strict=True):
            rows[row][predicted, new:stop] = new_codes[:, : stop - new]
    return rows
