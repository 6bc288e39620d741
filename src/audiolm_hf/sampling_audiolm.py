# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Sampling of the tokens of a stage, each from the ids of its level: id sequences in, the ids that follow out.

Causal stages continue sequences token by token; the parallel stage fills the masks of its frames in few passes.

A row's result depends on its context and random numbers only, up to rounding (see [`AudioLMModel.generate`]).

Papers: AudioLM (arXiv 2209.03143), inference; SoundStorm (arXiv 2305.09636) and MaskGIT (arXiv 2202.04200), iterative
parallel decoding.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .captured_steps_audiolm import CapturedTokenSteps
from .configuration_audiolm import AudioLMStageConfig
from .packed_encoder_audiolm import pack_encoder
from .packed_products_audiolm import fast_products, has_fixed_shapes
from .row_steps_audiolm import RowSteps, RowTokenSteps, can_step_rows
from .stage_cache_audiolm import fixed_length
from .stage_steps_audiolm import StageSteps, TokenSteps, guided_scores
from .token_layout_audiolm import (
    level_mask,
    level_range,
    token_levels,
    without_condition,
)

ProgressCallback = Callable[[str, int, int], None]


@dataclass
class TokenSampler:
    """Chooses one token for each row from its scores; the options are those of [`AudioLMGenerationConfig`]."""

    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    guidance_scale: float = 1.0
    batch_size: int | None = None
    num_candidates: int = 1
    num_passes: int | list[int] = 6
    choice_temperature: float = 1.6
    first_window_s: float = 1000.0
    context_share: float = 0.5
    warpers: LogitsProcessorList = field(init=False)

    def __post_init__(self) -> None:
        self.warpers = LogitsProcessorList()
        if self.temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            self.warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            self.warpers.append(TopPLogitsWarper(self.top_p))

    @cached_property
    def row_temperature(self) -> float | None:
        """What the scores of one row are divided by, 0 for the highest score; `None` if more is done to them."""
        if not self.do_sample:
            return 0.0
        return None if self.top_k or self.top_p < 1 else float(self.temperature)

    def choose(self, scores: Tensor, noise: Tensor) -> Tensor:
        """Choose a column of `scores (batch, ids of the level)` for each row by `noise (batch,)` in [0, 1)."""
        if not self.do_sample:
            return scores.argmax(-1)
        # The inverse of the cumulative distribution: one number a row, and the same on every device.
        noise = noise.to(_precise(scores.device))
        for warp in self.warpers:  # their list would inspect the signature of each for every token
            scores = warp(None, scores)
        cumulative = scores.softmax(-1, dtype=noise.dtype).cumsum(-1)
        drawn = noise[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, drawn, right=True)[:, 0].clamp(max=scores.shape[1] - 1)

    def passes(self, num_levels: int) -> list[int]:
        """Return the passes of each level of the parallel stage; a number is that of the first, and the others 1."""
        if isinstance(self.num_passes, int):
            return [self.num_passes] + [1] * (num_levels - 1)
        return self.num_passes


def _precise(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


class LevelLogitsProcessor(LogitsProcessor):
    """Allow only the ids of the level whose turn it is, for plain `generate` of a stage model.

    A token of a predicted level is followed by one of the next; whatever else a row ends with (a separator, a token of
    the condition, nothing at all), by one of the first.
    """

    def __init__(self, config: AudioLMStageConfig) -> None:
        self.allowed = level_mask(config)
        levels = token_levels(torch.arange(config.vocab_size, device="cpu"), config)
        self.next_turns = torch.zeros_like(levels)
        for turn, level in enumerate(config.predicted_levels, start=1):
            self.next_turns[levels == level] = turn % len(self.allowed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Set the scores `(batch, vocab_size)` of all other ids to minus infinity."""
        self.allowed, self.next_turns = self.allowed.to(scores.device), self.next_turns.to(scores.device)
        # Without ids (a prompt of embeddings), every row begins with the first level.
        turns = self.next_turns[input_ids[:, -1]] if input_ids.shape[1] else input_ids.new_zeros(len(input_ids))
        return scores.masked_fill(~self.allowed[turns], -torch.inf)


class RowNoise:
    """Uniform numbers in [0, 1) for one row, drawn in order; every path (row, stage, chunk) has its own generator."""

    def __init__(self, seed: int, path: Sequence[int]) -> None:
        state = np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0]
        self.generator = torch.Generator("cpu").manual_seed(int(state >> np.uint64(1)))

    def draw(self, count: int) -> Tensor:
        """Return the next `count` numbers; they do not depend on how many are drawn at once."""
        return torch.rand(count, generator=self.generator, device="cpu", dtype=torch.float32)


def row_noise(seed: int, path: Sequence[int], count: int) -> Tensor:
    """Return the first `count` numbers of [`RowNoise`]."""
    return RowNoise(seed, path).draw(count)


class Progress:
    """Reports how much of a stage is done to an optional callback."""

    def __init__(self, callback: ProgressCallback | None, stage: str, total: int) -> None:
        self.callback, self.stage, self.total, self.done = callback, stage, total, 0

    def advance(self, count: int) -> None:
        """Report that `count` more tokens are done; never more than the total."""
        self.done = min(self.done + count, self.total)
        if self.callback is not None:
            self.callback(self.stage, self.done, self.total)


def sample_tokens(*args: Any, **kwargs: Any) -> Tensor:
    """Return all tokens `(batch, num_tokens)` of [`sample_blocks`]."""
    return torch.cat([*sample_blocks(*args, **kwargs)], 1)


@torch.no_grad()
def sample_blocks(
    model: PreTrainedModel,
    contexts: list[Tensor],
    noise: Tensor,
    sampler: TokenSampler,
    *,
    num_forbidden_ends: Tensor | None = None,
    unconditional_contexts: list[Tensor] | None = None,
    progress: Progress | None = None,
    block: int | None = None,
) -> Iterator[Tensor]:
    """Continue id sequences of any lengths by one stage, all by `num_tokens`, a block of tokens at a time.

    Args:
        model ([`AudioLMStageModel`]): the stage.
        contexts (`list[torch.LongTensor]`): ids of each row; the next token is of the first predicted level.
        noise (`torch.FloatTensor` of shape `(batch, num_tokens)`): uniform numbers, one for every token to come.
        sampler ([`TokenSampler`]): how to choose.
        num_forbidden_ends (`torch.LongTensor` of shape `(batch,)`, *optional*): first steps without the end token.
        unconditional_contexts (`list[torch.LongTensor]`, *optional*): the contexts without their condition, for
            guidance.
        progress ([`Progress`], *optional*): advanced by the number of new tokens; those after a row's end may be left
            out.
        block (`int`, *optional*): tokens of a row after which they are handed over; all of them by default.

    Yields:
        `torch.LongTensor` of shape `(batch, block)`; after a row's end token there are end tokens only, and the block
        in which the last row ends has all those that remain.
    """
    num_tokens = noise.shape[1]
    steps = _token_steps(model, contexts, unconditional_contexts or [], noise, sampler, num_forbidden_ends)
    report = (lambda count: None) if progress is None else progress.advance
    start, ended = 0, num_tokens == 0
    while not ended:
        stop = min(start + (block or num_tokens), num_tokens)
        ended = steps.take(start, stop, report) or stop == num_tokens
        _require_usable(steps.highest.isfinite(), model.config)  # once a block: an accelerator has to be waited for
        if not ended:
            yield steps.tokens[:, start:stop].clone()  # the next step reads the last one
            start = stop
    if steps.stage_steps.fixed:
        steps.stage_steps.cache.keep(model.model)
    yield steps.tokens[:, start:]


def _token_steps(
    model: PreTrainedModel,
    contexts: list[Tensor],
    unconditional_contexts: list[Tensor],
    noise: Tensor,
    sampler: TokenSampler,
    num_forbidden_ends: Tensor | None,
) -> TokenSteps:
    """Return the fastest steps that a model, a device and the options allow."""
    rows, device = contexts + unconditional_contexts, contexts[0].device
    steps: Any
    if can_step_rows(model.model, len(rows)):
        steps = RowSteps(model, rows, noise.shape[1])
        plain = sampler.row_temperature is not None and not unconditional_contexts and steps.head is not None
        kind = RowTokenSteps if plain else TokenSteps
    else:
        steps = StageSteps(model, rows, noise.shape[1])
        kind = CapturedTokenSteps if steps.captures else TokenSteps
    return kind(steps, sampler, noise.to(device, _precise(device)), num_forbidden_ends)


def _require_usable(usable: Tensor, config: AudioLMStageConfig) -> None:
    if not usable.all():
        raise ValueError(
            f"The {config.stage} stage's scores are NaN or infinite, so nothing can be sampled from them. Check its "
            'weights and options, or load it with dtype="float32".'
        )


def masked_counts(count: int, num_passes: int) -> list[int]:
    """Return how many of `count` codes are masked before each pass, and after the last one: on a cosine, down to 0.

    Every pass predicts at least one code, as long as there is one.
    """
    counts = [count]
    for done in range(1, num_passes):
        share = math.cos(math.pi / 2 * done / num_passes)
        counts.append(max(0, min(counts[-1] - 1, int(count * share))))
    return [*counts, 0]


def parallel_noise(seed: int, path: Sequence[int], count: int, passes: Sequence[int]) -> Tensor:
    """Draw the numbers `(passes, 2, count)` for `count` frames: a code's and its place's, in all passes of a row."""
    total = sum(number for number in passes if number > 1)
    return row_noise(seed, path, total * 2 * count).view(total, 2, count)


@torch.no_grad()
def fill_frames(
    model: PreTrainedModel,
    rows: list[Tensor],
    num_known: list[int],
    noise: list[Tensor],
    sampler: TokenSampler,
    *,
    progress: Progress | None = None,
) -> list[Tensor]:
    """Predict the masked codes of frames by the parallel stage, level by level.

    In each pass over a level, a code is drawn for every frame that is still masked, and those are kept of which the
    model is most confident: the highest log-probability, plus Gumbel noise that fades with the passes. The codes of a
    level with one pass are the most likely ones.

    Args:
        model ([`AudioLMParallelModel`]): the stage.
        rows (`list[torch.LongTensor]`): ids `(frames, columns)` of each row, see [`frame_rows`]; masks at the end.
        num_known (`list[int]`): frames of each row before the masks, which remain.
        noise (`list[torch.FloatTensor]`): of each row, see [`parallel_noise`].
        sampler ([`TokenSampler`]): how to choose.
        progress ([`Progress`], *optional*): advanced by one for every code of every row.

    Returns:
        `list[torch.LongTensor]`: the rows with codes in place of masks.
    """
    config, device = model.config, rows[0].device
    lengths = torch.tensor([len(row) for row in rows], device=device)
    longest, fixed = int(lengths.max()), has_fixed_shapes(model.model)
    frames = torch.arange(fixed_length(longest) if fixed else longest, device=device)
    ids = pad_sequence(rows, batch_first=True, padding_value=config.padding_token_id)
    ids = F.pad(ids, (0, 0, 0, len(frames) - longest), value=config.padding_token_id)
    whole = not fixed and bool((lengths == longest).all())
    mask = None if whole else (frames < lengths[:, None]).long()
    prefix = frames < torch.tensor(num_known, device=device)[:, None]
    new = ~prefix & (frames < lengths[:, None])
    num_new = [len(row) - known for row, known in zip(rows, num_known, strict=True)]
    passes = sampler.passes(len(config.predicted_levels))
    drawn = noise[0].new_zeros(sum(number for number in passes if number > 1), 2, *new.shape)
    for row, (known, row_numbers) in enumerate(zip(num_known, noise, strict=True)):
        drawn[:, :, row, known : known + row_numbers.shape[2]] = row_numbers
    numbers = iter(drawn.to(device))
    usable = torch.ones((), dtype=torch.bool, device=device)
    passes_of_rows = _Passes(model, ids, lengths.tolist(), mask, prefix, sampler.guidance_scale)
    for level, number in zip(config.predicted_levels, passes, strict=True):
        column = config.tokens_per_frame + level
        counts = torch.tensor([masked_counts(count, number) for count in num_new], device="cpu")
        masked = new
        for done in range(number):
            draw = next(numbers) if number > 1 else None
            num_accepted = counts[:, done] - counts[:, done + 1]
            if not num_accepted.any():  # few frames need fewer passes
                continue
            scores = passes_of_rows.scores(ids, masked, level)
            usable &= scores.isfinite().all()
            chosen, confidence = _choose_codes(scores, draw, masked, sampler, 1 - (done + 1) / number)
            ranks = confidence.new_full(masked.shape, -torch.inf).masked_scatter(masked, confidence)
            ranks = ranks.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            accepted = masked & (ranks < num_accepted.to(device)[:, None])
            codes = torch.zeros_like(ids[..., column]).masked_scatter(masked, chosen + level_range(config, level)[0])
            ids[..., column] = torch.where(accepted, codes, ids[..., column])
            masked = masked & ~accepted
            if progress is not None:
                progress.advance(int(num_accepted.sum()))
    _require_usable(usable, config)
    return [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]


class _Passes:
    """Passes of the parallel stage over the frames of rows; with `prefix_attention`, packed ones skip the prefix.

    `ids (batch, frames, columns)` are of all frames, and `prefix (batch, frames)` is true for those before the masks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        ids: Tensor,
        lengths: list[int],
        mask: Tensor | None,
        prefix: Tensor,
        guidance_scale: float,
    ) -> None:
        self.model, self.guidance_scale, self.prefix = model, guidance_scale, None
        repeats = 1 if guidance_scale == 1 else 2
        self.mask = None if mask is None else mask.repeat(repeats, 1)
        self.encoder = pack_encoder(model.model, lengths * repeats)
        prefix = prefix.repeat(repeats, 1)
        self.read = torch.ones_like(prefix) if self.mask is None else self.mask.bool()
        if model.config.prefix_attention:
            self.prefix = prefix
            if self.encoder is not None:
                self.read &= ~prefix
                self.encoder.read_prefix(self._embed(ids, prefix), prefix.sum(1).tolist())

    def _embed(self, ids: Tensor, wanted: Tensor) -> Tensor:
        if self.guidance_scale != 1:
            ids = torch.cat([ids, without_condition(ids, self.model.config)])
        return self.model.embed(ids[wanted][None])[0]

    def scores(self, ids: Tensor, masked: Tensor, level: int) -> Tensor:
        """Return the scores `(codes, codebook_size)` of the codes of a level at the masked frames, row by row."""
        guided = self.guidance_scale != 1
        masked = masked.repeat(2, 1) if guided else masked
        if self.encoder is not None:
            states = self.encoder.states(self._embed(ids, self.read), masked[self.read])
        else:
            ids = torch.cat([ids, without_condition(ids, self.model.config)]) if guided else ids
            with fast_products(self.model.model):
                states = self.model.encode(ids, self.mask, self.prefix)[masked]
        with fast_products(self.model.model):
            scores = self.model.level_logits(states, level).to(ids.device)
        return guided_scores(scores, self.guidance_scale) if guided else scores


def _choose_codes(
    scores: Tensor, draw: Tensor | None, masked: Tensor, sampler: TokenSampler, remaining: float
) -> tuple[Tensor, Tensor]:
    """Return codes, and the confidence in each, both `(codes,)`; the most likely ones where `draw` has no numbers.

    `remaining`, from 1 to 0, is the share of passes to come.
    """
    if draw is None:
        chosen = scores.argmax(-1)
        return chosen, torch.zeros_like(chosen, dtype=torch.float32)
    chosen = sampler.choose(scores, draw[0][masked])
    confidence = scores.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
    if sampler.do_sample:
        uniform = draw[1][masked].clamp(min=torch.finfo(torch.float32).tiny)
        confidence = confidence - sampler.choice_temperature * remaining * torch.log(-torch.log(uniform))
    return chosen, confidence
