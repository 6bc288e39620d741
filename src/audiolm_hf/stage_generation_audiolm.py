# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Each stage over any length, in windows: from the known tokens or codes of every row to those that follow.

A stage yields pieces as soon as it has them, and waits for those of the stage before it.

Papers: AudioLM (arXiv 2209.03143), inference, the fine stage in chunks. SoundStorm (arXiv 2305.09636), the parallel
stage.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from .candidates_audiolm import sample_best
from .sampling_audiolm import (
    Progress,
    ProgressCallback,
    RowNoise,
    TokenSampler,
    fill_frames,
    parallel_noise,
    row_noise,
    sample_blocks,
    sample_tokens,
)
from .stage_windows_audiolm import CodeRows, CodeWindows, fitted_start, window_tokens
from .token_feed_audiolm import Feed, Piece, Pieces
from .token_layout_audiolm import code_ids, codes_of_ids, frame_rows, semantic_ids, stage_context

BLOCK_S = 0.16  # seconds of tokens after which a stage hands them over


def generate_semantic_tokens(
    model: PreTrainedModel,
    prompts: list[Tensor],
    num_tokens: int,
    seeds: list[tuple[int, ...]],
    sampler: TokenSampler,
    *,
    token_rate: float,
    min_tokens: int = 0,
    onset_rates: list[float | None] | None = None,
    callback: ProgressCallback | None = None,
) -> Pieces:
    """Continue semantic tokens until the end token or a number of tokens, in windows.

    With `sampler.num_candidates` above 1, every window of a row is sampled this many times, and the candidate is kept
    that is most like the prompt, see [`sample_best`].

    Args:
        model ([`AudioLMSemanticModel`]): the stage.
        prompts (`list[torch.LongTensor]`): tokens of each row, without repeats if the stage has `remove_repeats`; may
            be empty.
        num_tokens (`int`): most tokens to add to a row.
        seeds (`list[tuple[int, ...]]`): seed and path of each row, see [`RowNoise`].
        sampler ([`TokenSampler`]): how to choose.
        token_rate (`float`): tokens per second, Hz.
        min_tokens (`int`, defaults to 0): the end token is not chosen before this many.
        onset_rates (`list[float | None]`, *optional*): note onsets per second of each prompt, for a stage with rates.
        callback (`ProgressCallback`, *optional*): called with stage, done, total.

    Yields:
        `list[Piece]`: the next tokens of each row, without the end token.
    """
    window, block = window_tokens(model.config, token_rate), max(1, round(BLOCK_S * token_rate))
    noise = [_candidate_noise(sampler, prompt, *row) for prompt, row in zip(prompts, seeds, strict=True)]
    rows, starts, made = list(prompts), [0] * len(prompts), [0] * len(prompts)  # rows from the starts of their windows
    progress = Progress(callback, model.config.stage, num_tokens * len(prompts))
    active = list(range(len(prompts) if num_tokens else 0))
    while active:
        left = []
        for row in active:
            known = starts[row] + len(rows[row])
            target, first = known + num_tokens - made[row], made[row] == 0
            start = fitted_start(starts[row], known, target, window, first, context=window // 2)
            rows[row], starts[row] = rows[row][start - starts[row] :], start
            left.append(min(num_tokens - made[row], window - len(rows[row])))
        forbidden = torch.tensor([min_tokens - made[row] for row in active], device=rows[0].device)
        blocks: Iterable[Iterable[Tensor]]
        if sampler.num_candidates > 1:  # row by row, so that the result does not depend on the other rows
            rates = onset_rates or [None] * len(prompts)
            windows = zip(active, left, forbidden.split(1), strict=True)
            best = [
                sample_best(model, prompts[row], rows[row], noise[row], room, sampler, ends, progress, rates[row])
                for row, room, ends in windows
            ]
            blocks = [best]
        else:
            contexts = [stage_context(None, rows[row], model.config) for row in active]
            draws = torch.stack([noise[row][0].draw(min(left)) for row in active])
            blocks = sample_blocks(
                model, contexts, draws, sampler, num_forbidden_ends=forbidden, progress=progress, block=block
            )
        unended = active
        for new in blocks:
            pieces = [Piece(row[:0], True) for row in rows]
            for row, tokens in zip(active, new, strict=True):
                kept = tokens[tokens != model.config.end_token_id]
                rows[row], made[row] = torch.cat([rows[row], kept]), made[row] + len(kept)
                pieces[row] = Piece(kept, len(kept) < len(tokens) or made[row] == num_tokens)
            unended = [row for row in unended if not pieces[row].last]
            if not unended:
                progress.advance(progress.total)
            yield pieces
        active = unended


def _candidate_noise(sampler: TokenSampler, prompt: Tensor, seed: int, *path: int) -> list[RowNoise]:
    """Return the noise of each candidate of a row; one if all would be the same, or if there is no prompt."""
    count = sampler.num_candidates if sampler.do_sample and len(prompt) else 1
    if count == 1:
        return [RowNoise(seed, path)]
    return [RowNoise(seed, (*path, number)) for number in range(count)]


def generate_coarse_codes(model: PreTrainedModel, given: CodeRows, sampler: TokenSampler) -> Pieces:
    """Continue codes under semantic tokens, in windows that both share; for a stage that predicts levels from 0 on.

    Yields:
        `list[Piece]`: the next codes `(levels, frames)` of each row.
    """
    config, windows = model.config, CodeWindows(model.config, given)
    predicted, levels = config.predicted_levels, len(config.predicted_levels)
    noise, progress = [RowNoise(seed, path) for seed, *path in given.seeds], given.progress(config)
    while active := windows.move():
        steps = levels * min(windows.stops[row] - windows.known(row) for row in active)
        contexts = [windows.context(row) for row in active]
        known_ids = [code_ids(codes, predicted, config) for codes, _, _ in contexts]
        semantic = [semantic_ids(tokens, config) for _, tokens, _ in contexts]
        blocks = sample_blocks(
            model,
            [stage_context(*pair, config) for pair in zip(semantic, known_ids, strict=True)],
            torch.stack([noise[row].draw(steps) for row in active]),
            sampler,
            unconditional_contexts=None
            if sampler.guidance_scale == 1
            else [stage_context(ids[:0], ids, config) for ids in known_ids],
            progress=progress,
            block=levels * max(1, round(BLOCK_S / given.grid.frame_s)),
        )
        for new in blocks:
            yield windows.add(active, new)
    progress.advance(progress.total)


def generate_parallel_codes(model: PreTrainedModel, given: CodeRows, sampler: TokenSampler) -> Pieces:
    """Predict codes under semantic tokens, in windows like those of [`generate_coarse_codes`], each all at once."""
    config, place = model.config, 0
    windows = CodeWindows(config, given, sampler.context_share, sampler.first_window_s)
    passes, progress = sampler.passes(len(config.predicted_levels)), given.progress(config)
    while active := windows.move():
        ids, num_known, noise = [], [], []
        for row in active:
            known, tokens, frames = windows.context(row)
            num_new = windows.stops[row] - windows.known(row)
            ids.append(frame_rows(tokens, frames, known, known.shape[1] + num_new, config))
            num_known.append(known.shape[1])
            seed, *path = given.seeds[row]
            noise.append(parallel_noise(seed, [*path, place], num_new, passes))
        filled = fill_frames(model, ids, num_known, noise, sampler, progress=progress)
        new = zip(num_known, filled, strict=True)
        yield windows.add(active, (row_ids[count:, config.tokens_per_frame :].flatten() for count, row_ids in new))
        place += 1
    progress.advance(progress.total)


@dataclass
class _Chunk:
    """Frames of a row from `start`, those from `new` to `stop` without codes of the fine stage."""

    row: int
    index: int
    start: int
    new: int
    stop: int


class _Chunks:
    """The chunks of all rows, of `window` frames each, cut as the codes arrive; the last of a row may be shorter.

    The first chunk of a row begins in its prompt, up to a third of a window before the first new frame.
    """

    def __init__(self, feed: Feed, prompt_lengths: list[int], window: int) -> None:
        self.feed, self.prompt_lengths, self.window = feed, prompt_lengths, window
        self.next = [0] * len(prompt_lengths)

    def take(self, most: int) -> list[_Chunk]:
        """Wait for the next chunks of every row, at most `most` of each."""
        chunks = [self._take(row) for _ in range(most) for row in range(len(self.next))]
        return [chunk for chunk in chunks if chunk is not None]

    def _take(self, row: int) -> _Chunk | None:
        known, index = self.prompt_lengths[row], self.next[row]
        start = known - min(known, self.window // 3) + index * self.window
        self.feed.reach(row, start + self.window + 1)  # by one more, it is not the last chunk
        new, stop = max(start, known), min(self.feed.count(row), start + self.window)
        if stop <= new:
            return None
        self.next[row] += 1
        return _Chunk(row, index, start, new, stop)

    def is_last(self, chunk: _Chunk) -> bool:
        """Return whether no chunk of the row follows."""
        return self.feed.ended[chunk.row] and chunk.stop == self.feed.count(chunk.row)


def generate_fine_codes(model: PreTrainedModel, given: CodeRows, sampler: TokenSampler) -> Pieces:
    """Add levels to codes, in independent chunks: first one of each row, then two together, then four and so on.

    At most `batch_size` of the sampler are sampled together. Arguments and pieces are those of
    [`generate_coarse_codes`], for a stage that predicts levels from the leading ones; pieces have these too.
    """
    config, progress = model.config, given.progress(model.config)
    num_condition, size = len(config.condition_levels), sampler.batch_size or 1
    feed = Feed([codes[:num_condition] for codes in given.prompt_codes], given.codes)
    window = window_tokens(config, float(1 / given.grid.frame_s))
    chunks, most = _Chunks(feed, [codes.shape[1] for codes in given.prompt_codes], window), 1
    while taken := chunks.take(most):
        made: list[list[Tensor]] = [[] for _ in given.prompt_codes]
        ordered = sorted(taken, key=lambda chunk: chunk.stop - chunk.new)  # of like length together
        codes = {}
        for group in (ordered[index : index + size] for index in range(0, len(ordered), size)):
            for chunk, fine in zip(group, _fine_codes(model, given, feed, group, sampler, progress), strict=True):
                codes[chunk.row, chunk.index] = torch.cat([feed.between(chunk.row, chunk.new, chunk.stop), fine])
        last = [True] * len(made)
        for chunk in taken:
            made[chunk.row].append(codes[chunk.row, chunk.index])
            last[chunk.row] = chunks.is_last(chunk)
            feed.forget(chunk.row, chunk.stop)
        none = given.prompt_codes[0].new_zeros(num_condition + len(config.predicted_levels), 0)
        yield [Piece(torch.cat([none, *row], 1), end) for row, end in zip(made, last, strict=True)]
        most = min(2 * most, size)
    progress.advance(progress.total)


def _fine_codes(
    model: PreTrainedModel,
    given: CodeRows,
    feed: Feed,
    group: list[_Chunk],
    sampler: TokenSampler,
    progress: Progress,
) -> list[Tensor]:
    """Sample the codes `(predicted levels, frames)` of the new frames of some chunks together."""
    config, levels = model.config, len(model.config.predicted_levels)
    steps, contexts, noise = levels * max(chunk.stop - chunk.new for chunk in group), [], []
    for chunk in group:
        known = given.prompt_codes[chunk.row][:, chunk.start : chunk.new]
        condition = code_ids(feed.between(chunk.row, chunk.start, chunk.stop), config.condition_levels, config)
        contexts.append(stage_context(condition, code_ids(known, config.predicted_levels, config), config))
        seed, *path = given.seeds[chunk.row]
        own_noise = row_noise(seed, [*path, chunk.index], (chunk.stop - chunk.new) * levels)
        noise.append(F.pad(own_noise, (0, steps - len(own_noise))))
    tokens = sample_tokens(model, contexts, torch.stack(noise), sampler, progress=progress)
    codes = codes_of_ids(tokens, config.predicted_levels, config)
    return [row[:, : chunk.stop - chunk.new] for chunk, row in zip(group, codes, strict=True)]
