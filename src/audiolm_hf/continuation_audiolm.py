# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From prompts to the samples that continue them, piece by piece: stages, codec, levels, room noise, transition.

The pieces, their random numbers and the codec's windows do not depend on when a piece is asked for, so that a stream
has the samples of the whole output, bit for bit.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .dynamics_audiolm import Dynamics
from .equalizer_audiolm import Equalizer
from .generation_config_audiolm import AudioLMGenerationConfig
from .loudness_audiolm import Loudness, soft_limit
from .onsets_audiolm import MIN_LENGTH_S, onset_rate
from .room_noise_audiolm import RoomNoise
from .sampling_audiolm import ProgressCallback, RowNoise, TokenSampler
from .stage_windows_audiolm import CodeRows
from .stages_audiolm import STAGES
from .token_feed_audiolm import Piece, Pieces, TimedTokens
from .token_layout_audiolm import semantic_ids

ROOM_NOISE = 1000  # last number of the path of its random numbers, above those of the stages
CALIBRATION_S = 10.0  # seconds of a prompt that are decoded, to compare their loudness with the prompt's


@dataclass
class Prompt:
    """A recording, `(num_samples,)`; tokens `(semantic_length,)` and codes `(levels, frames)` of its end."""

    audio: Tensor
    semantic_tokens: Tensor
    audio_codes: Tensor
    loudness: Loudness = field(default_factory=Loudness)
    equalizer: Equalizer = field(default_factory=Equalizer)


class Continuation:
    """Rows to continue, in one call of `generate` or `stream`.

    Args:
        model ([`AudioLMModel`]): has the stages and the codec.
        rows (`list[Prompt]`): one for each continuation.
        indices (`list[int]`): the number of each row among those of its prompt.
        seed (`int`): of all rows.
        options ([`AudioLMGenerationConfig`]): how to sample.
        given_tokens (`list[torch.LongTensor]`, *optional*): semantic tokens of each row in place of the stage's.
        callback (`ProgressCallback`, *optional*): called with stage, done, total.
    """

    def __init__(
        self,
        model: Any,
        rows: list[Prompt],
        indices: list[int],
        seed: int,
        options: AudioLMGenerationConfig,
        given_tokens: list[Tensor] | None = None,
        callback: ProgressCallback | None = None,
    ) -> None:
        self.model, self.codec, self.rows, self.options = model, model.acoustic_codec, rows, options
        self.indices, self.seed, self.callback, self.given_tokens = indices, seed, callback, given_tokens
        self.duration = 1.0 if given_tokens else mean_duration(model)
        self.token_rate = model.semantic_tokenizer.config.semantic_frame_rate / self.duration
        if given_tokens:
            self.num_tokens = [len(tokens) for tokens in given_tokens]
            token_s = model.time_grid.token_s
            self.most_samples = [round(count * token_s * model.sampling_rate) for count in self.num_tokens]
        else:
            self.num_tokens = [_ceil(options.continuation_length_s * self.token_rate)] * len(rows)
            self.most_samples = [max(1, round(options.continuation_length_s * model.sampling_rate))] * len(rows)
        self.tokens = TimedTokens(
            [row.semantic_tokens for row in rows],
            self._semantic_pieces(),
            grid=model.time_grid,
            duration=self.duration,
            num_frames=self._num_frames,
        )

    def _semantic_pieces(self) -> Pieces:
        """Run stage 1."""
        if self.given_tokens:
            return iter([[Piece(tokens, True) for tokens in self.given_tokens]])
        (name, stage), *_ = self.model.stages.items()
        num_tokens, sampler = self.num_tokens[0], TokenSampler(**self.options.stage_values(name))
        uses_rates = sampler.num_candidates > 1 and getattr(stage.config, "has_onset_rates", False)
        return STAGES[name].generate(
            stage,
            [semantic_ids(row.semantic_tokens, stage.config) for row in self.rows],
            num_tokens,
            [(self.seed, index, 0) for index in self.indices],
            sampler,
            token_rate=self.token_rate,
            min_tokens=min(num_tokens, _ceil(self.options.min_continuation_length_s * self.token_rate)),
            callback=self.callback,
            **({"onset_rates": [self._onset_rate(row) for row in self.rows]} if uses_rates else {}),
        )

    def _onset_rate(self, row: Prompt) -> float | None:
        """Return a prompt's note onsets per second, where it has semantic tokens; `None` if that is below 1 s."""
        length = round(len(row.semantic_tokens) * self.model.time_grid.token_s * self.model.sampling_rate)
        if length < MIN_LENGTH_S * self.model.sampling_rate:
            return None
        return onset_rate(row.audio[-length:], self.model.sampling_rate)

    def codes(self, in_turn: bool = False) -> Pieces:
        """Run all stages, each as far as the next one needs it or, `in_turn`, to its end before the next one begins.

        Pieces are codes `(levels, frames)` that follow the prompts.
        """
        known, hop_length = [row.audio_codes for row in self.rows], self.codec.hop_length
        most = [codes.shape[1] + _ceil(n / hop_length) for codes, n in zip(known, self.most_samples, strict=True)]
        given = CodeRows(self.tokens, known, most, [], callback=self.callback)
        if in_turn:
            self.tokens.source = iter([*self.tokens.source])
        for place, name in enumerate(self._used_stages, start=1):
            rows = replace(given, seeds=[(self.seed, index, place) for index in self.indices])
            sampler = TokenSampler(**self.options.stage_values(name))
            pieces = STAGES[name].generate(self.model.stages[name], rows, sampler)
            given = replace(given, codes=iter([*pieces]) if in_turn else pieces)
        return given.codes

    @property
    def _used_stages(self) -> list[str]:
        return self.options.used_stages(self.model.config)[1:]

    def num_levels(self) -> int:
        """Return how many levels the codes of [`Continuation.codes`] have."""
        return max(self.model.config.stage_configs[name].num_stage_codebooks for name in self._used_stages)

    def num_samples(self, row: int, num_tokens: int) -> int:
        """Return the number of samples of the new tokens of a row."""
        most = self.most_samples[row]
        if num_tokens == self.num_tokens[row]:
            return most
        return min(most, round(num_tokens * self.model.sampling_rate / self.token_rate))

    def _num_frames(self, row: int, num_tokens: int) -> int:
        return self.rows[row].audio_codes.shape[1] + _ceil(self.num_samples(row, num_tokens) / self.codec.hop_length)

    def audio(self, row: int, codes: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode codes `(levels, frames)`, piece by piece, to the samples that continue the prompt of a row."""
        prompt, made = self.rows[row], 0
        known = prompt.audio_codes[: self.num_levels()]
        numbers = RowNoise(self.seed, [self.indices[row], ROOM_NOISE])
        noise = RoomNoise(self.options.room_noise, self.model.sampling_rate, numbers)
        dynamics = Dynamics(self.options.dynamics, self.model.sampling_rate)
        for samples in decode_continuation(self.codec, replace(prompt, audio_codes=known), codes, dynamics, noise):
            # Until the row has ended, this is a lower bound.
            samples = samples[: self.num_samples(row, self.tokens.num_new(row)) - made]
            made += len(samples)
            if len(samples):
                yield samples


def mean_duration(model: Any) -> float:
    """Return the number of tokenizer steps of one token of the semantic stage."""
    config = next(iter(model.stages.values())).config
    return config.mean_semantic_duration if config.remove_repeats else 1.0


def _ceil(count: float) -> int:
    """Round up, ignoring the rounding errors of floats."""
    return math.ceil(count - 1e-6)


def decode_continuation(
    codec: Any, prompt: Prompt, codes: Iterable[Tensor], dynamics: Dynamics, noise: RoomNoise
) -> Iterator[Tensor]:
    """Decode codes `(levels, frames)`, piece by piece, to the samples `(num_samples,)` that continue a prompt.

    The prompt may be empty, and its `audio_codes` have the same levels. The continuation is amplified by `dynamics`,
    brought to the prompt's spectrum and loudness, and has `noise` added.
    """
    known, loudness, hop_length = prompt.audio_codes, prompt.loudness, codec.hop_length
    known = known[:, max(0, known.shape[1] - round(CALIBRATION_S * codec.frame_rate)) :]
    boundary = known.shape[1] * hop_length
    end = prompt.audio[len(prompt.audio) - boundary :]
    windows = codec.decode_windows(chain([known[None]], (piece[None] for piece in codes)), known.shape[1])
    decoded = _first((window[0] for window in windows), boundary + 1, end)
    if len(decoded) <= boundary:
        return
    if boundary:
        given = loudness.normalize(end)
        resynthesis = torch.cat([*prompt.equalizer.undo([decoded[:boundary]])])
        loudness = loudness.calibrated(given, resynthesis, hop_length)
        dynamics.fit(prompt.equalizer.apply(given) / loudness.correction, decoded[:boundary])
    amplified = dynamics.apply(chain([decoded[boundary:]], (window[0] for window in windows)))
    pieces = map(loudness.restore, prompt.equalizer.undo(chain([decoded[:boundary]], amplified)))
    restored = _first(pieces, boundary + hop_length, end)
    if boundary:
        noise.fit(end, restored[:boundary])
    yield soft_limit(noise.add(_join(end, restored, hop_length)))
    for piece in pieces:
        yield soft_limit(noise.add(piece))


def _first(pieces: Iterator[Tensor], length: int, like: Tensor) -> Tensor:
    """Return the first pieces that together have at least a length, or all; joined, on the device of `like`."""
    joined = like.new_zeros(0)
    while len(joined) < length and (piece := next(pieces, None)) is not None:
        joined = torch.cat([joined, piece])
    return joined


def _join(prompt: Tensor, decoded: Tensor, fade_length: int) -> Tensor:
    """Return what follows the prompt in `decoded`, made continuous with the prompt's own last sample.

    The codec's error just before the boundary, mirrored, fades out over `fade_length` samples after it.
    """
    boundary = len(prompt)
    continuation = decoded[boundary:].clone()
    length = min(fade_length, boundary, len(continuation))
    if length:
        error = prompt[-length:] - decoded[boundary - length : boundary]
        fade = torch.linspace(1, 0, length + 1, device=decoded.device, dtype=decoded.dtype)[:-1]
        continuation[:length] += error.flip(0) * fade
    return continuation


def regrouped(chunks: Iterator[Tensor], length: int) -> Iterator[Tensor]:
    """Cut samples that arrive in chunks into chunks of `length`; the last may be shorter."""
    rest = torch.zeros(0, device="cpu")
    for chunk in chunks:
        rest = torch.cat([rest.to(chunk), chunk])
        while len(rest) >= length:
            yield rest[:length]
            rest = rest[length:]
    if len(rest):
        yield rest
