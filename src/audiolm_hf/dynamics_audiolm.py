# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Levels of soft sounds like those of a prompt, which a codec of few levels makes softer than they were.

In: a prompt and its resynthesis; out: a gain for every level of decoded audio, by which a continuation is amplified.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_S = 0.01  # a level is that of two blocks, one before and one after it
MIN_LENGTH_S = 1.0  # of a prompt; a shorter one has too few levels
SHARE_OF_LEVELS = 0.1  # those of a prompt that are averaged, as its resynthesis has about the same level there
MAX_GAIN_DB = 9.0
SILENCE = 1e-20  # power of silence


class Dynamics:
    """Gains for the continuation of one prompt.

    Args:
        share (`float`): share of the missing decibels that is restored, from 0 to 1.
        sampling_rate (`int`): in Hz.
    """

    def __init__(self, share: float, sampling_rate: int) -> None:
        self.share = share
        self.block_length, self.min_length = round(BLOCK_S * sampling_rate), round(MIN_LENGTH_S * sampling_rate)
        self.levels, self.gains = np.zeros(1), np.zeros(1)  # in dB

    def fit(self, prompt: Tensor, decoded: Tensor) -> None:
        """Set the gains from a prompt and its resynthesis, both `(num_samples,)`; one below 1 s sets none."""
        if not self.share or len(prompt) < self.min_length:
            return
        wanted, found = self._levels(prompt), self._levels(decoded)
        order, count = np.argsort(found, kind="stable"), max(1, round(SHARE_OF_LEVELS * len(found)))
        wanted, self.levels = (np.convolve(each[order], np.ones(count) / count, "valid") for each in (wanted, found))
        # Louder audio stays louder.
        self.gains = self.share * np.clip(np.maximum.accumulate(wanted) - self.levels, 0, MAX_GAIN_DB)

    def apply(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Amplify a continuation `(num_samples,)` that arrives in pieces; the samples do not depend on these.

        Between blocks, the gain changes linearly in dB, from 0 at the beginning. The last block, whose gain depends on
        the next one, is held back.
        """
        if not self.gains.any():
            yield from pieces
            return
        rest, gain = torch.zeros(0, device="cpu"), 0.0
        for piece in pieces:
            rest = torch.cat([rest.to(piece), piece])
            count = len(rest) // self.block_length - 1
            if count > 0:
                levels = self._levels(rest[: (count + 1) * self.block_length])
                gains = np.concatenate([[gain], np.interp(levels, self.levels, self.gains)])
                yield self._amplified(rest[: count * self.block_length], gains)
                rest, gain = rest[count * self.block_length :], gains[-1]
        yield rest * 10 ** (gain / 20)

    def _levels(self, audio: Tensor) -> NDArray[np.float64]:
        """Return the levels between the blocks of `audio`, in dB."""
        blocks = audio[: len(audio) // self.block_length * self.block_length].view(-1, self.block_length)
        powers = blocks.detach().cpu().double().square().mean(1).numpy()
        return 10 * np.log10((powers[1:] + powers[:-1]) / 2 + SILENCE)

    def _amplified(self, audio: Tensor, gains: NDArray[np.float64]) -> Tensor:
        """Amplify whole blocks by gains at their beginnings and at the end, in dB."""
        ramp = np.arange(self.block_length) / self.block_length
        decibels = gains[:-1, None] + (gains[1:] - gains[:-1])[:, None] * ramp
        return audio * torch.from_numpy(10 ** (decibels / 20)).flatten().to(audio)
