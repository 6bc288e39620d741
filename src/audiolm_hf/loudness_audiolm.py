# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Loudness of prompts: normalized to that of the training data before the tokenizers, restored in the continuation.

In: a prompt of any loudness, with any constant offset; out: the prompt at the loudness of the training data and, after
the codec, a continuation as loud as the given prompt. The gain is fixed before the first sample of the continuation.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

ACTIVE_DB = 25.0  # frames this far below the mean power are pauses
BURST_DB = 20.0  # frames this far above the rest are a click or a thump, unless they are many:
BURST_FRAMES = 0.03  # largest share of frames; more are the sound itself, such as a metronome
SILENCE = 1e-6  # RMS relative to full scale; quieter prompts are not normalized
MAX_CORRECTION_DB = 6.0  # of the codec's change of loudness
SOFT_LIMIT = 0.9  # amplitude from which samples are compressed, so that none passes full scale


def active_frames(audio: Tensor, frame_length: int) -> Tensor:
    """Return a mask `(num_samples // frame_length,)` of the frames that are neither pauses nor rare bursts."""
    power, usual = _frame_power(audio, frame_length), ~_rare_bursts(audio, frame_length)
    return usual & (power >= power[usual].mean() * 10 ** (-ACTIVE_DB / 10))


def _frames(audio: Tensor, frame_length: int) -> Tensor:
    return audio[: len(audio) // frame_length * frame_length].view(-1, frame_length)


def _frame_power(audio: Tensor, frame_length: int) -> Tensor:
    return _frames(audio, frame_length).square().mean(1)


def _rare_bursts(audio: Tensor, frame_length: int) -> Tensor:
    """Return a mask of frames far louder than all others, such as a click's; of no frame if there are many."""
    power = _frame_power(audio, frame_length)
    most = max(1, int(BURST_FRAMES * len(power)))
    rest = power.sort().values[:-most]
    if not len(rest) or rest.mean() <= SILENCE**2:
        return torch.zeros_like(power, dtype=torch.bool)
    level = rest[rest >= rest.mean() * 10 ** (-ACTIVE_DB / 10)].mean()
    bursts = power > level * 10 ** (BURST_DB / 10)
    return bursts if bursts.sum() <= most else torch.zeros_like(bursts)


@dataclass
class Loudness:
    """The normalization of a prompt, which is reversed in its continuation."""

    offset: float = 0.0  # constant that is subtracted
    gain: float = 1.0  # factor of the rest
    correction: float = 1.0  # factor that compensates the codec's change of loudness

    @classmethod
    def of(cls, audio: Tensor, loudness_db: float, frame_length: int) -> "Loudness":
        """Return the normalization of a prompt `(num_samples,)` to `loudness_db`, the RMS of its active frames."""
        offset = audio.mean()
        bursts = _rare_bursts(audio - offset, frame_length)
        if bursts.any():
            offset = _frames(audio, frame_length)[~bursts].mean()
        audio = audio - offset
        rms = _frame_power(audio, frame_length)[active_frames(audio, frame_length)].mean().sqrt()
        return cls(float(offset), 10 ** (loudness_db / 20) / float(rms) if rms > SILENCE else 1.0)

    def normalize(self, audio: Tensor) -> Tensor:
        """Normalize samples of the prompt, of any shape, to the loudness of the training data."""
        return (audio - self.offset) * self.gain

    def calibrated(self, audio: Tensor, decoded: Tensor, frame_length: int) -> "Loudness":
        """Set the correction from a normalized prompt and its resynthesis, both `(num_samples,)`.

        With few levels, the resynthesis can be quieter or louder than the prompt.
        """
        active = active_frames(audio, frame_length)
        power, decoded_power = (
            float(_frame_power(values, frame_length)[active].mean()) for values in (audio, decoded)
        )
        if min(power, decoded_power) <= SILENCE**2:
            return self
        limit = 10 ** (MAX_CORRECTION_DB / 20)
        return replace(self, correction=min(max(math.sqrt(power / decoded_power), 1 / limit), limit))

    def restore(self, decoded: Tensor) -> Tensor:
        """Restore the loudness and offset of the prompt in decoded samples of any shape."""
        return decoded * (self.correction / self.gain) + self.offset


def soft_limit(audio: Tensor) -> Tensor:
    """Compress samples above 0.9, so that all are within [-1, 1]."""
    limited, loud = audio.clone(), audio.abs() > SOFT_LIMIT
    room, values = 1 - SOFT_LIMIT, audio[loud]
    limited[loud] = values.sign() * (SOFT_LIMIT + room * torch.tanh((values.abs() - SOFT_LIMIT) / room))
    return limited
