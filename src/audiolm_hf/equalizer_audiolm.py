# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Spectra of prompts: brought to that of the training data before the tokenizers, restored in the continuation.

In: a prompt from any microphone, room or instrument; out: the prompt with a long-term spectrum as in the training data
and, after the codec, a continuation with that of the given prompt. Differences that are usual among the training data
stay. The filter is fixed before the first sample of the continuation.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .loudness_audiolm import SILENCE

NUM_BANDS = 19  # the lowest up to 100 Hz, the others of equal width in octaves
LOWEST_EDGE_HZ = 100.0
WINDOW_S = 0.064  # of the spectra
FILTER_S = 0.032  # length of the filter, which sees half of it ahead
MIN_LENGTH_S = 1.0  # of a prompt; a shorter one has too few sounds
MAX_GAIN_DB = 30.0
FLOOR = 1e-12  # power relative to that of the prompt, of bands in which there is nothing


def band_levels(audio: Tensor, sampling_rate: int) -> NDArray[np.float64]:
    """Return the levels `(19,)` of a recording's long-term spectrum in dB, relative to its mean over all frequencies.

    The recording `(num_samples,)` must not be silent, nor shorter than 64 ms.
    """
    length = round(WINDOW_S * sampling_rate)
    window = torch.hann_window(length, device="cpu", dtype=torch.float64)
    frames = audio.detach().cpu().double().unfold(0, length, length // 2)
    power = torch.fft.rfft(frames * window).abs().square().mean(0).numpy()
    hertz = np.fft.rfftfreq(length, 1 / sampling_rate)
    edges, width = _edges(sampling_rate), hertz[1]  # a band has at least one frequency
    bands = [power[(hertz >= low) & (hertz < high + width)] for low, high in itertools.pairwise(edges)]
    return 10 * np.log10(np.array([band.mean() for band in bands]) / power.mean() + FLOOR)


def _edges(sampling_rate: int) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.geomspace(LOWEST_EDGE_HZ, sampling_rate / 2, NUM_BANDS)])


class Equalizer:
    """A filter for one prompt, and its inverse for the continuation.

    Args:
        gains_db (`np.ndarray` of shape `(19,)`, *optional*): of each band. Without them, audio is not changed.
        gain (`float`, defaults to 1.0): factor of the filtered audio.
        sampling_rate (`int`, defaults to 16000): in Hz.
    """

    def __init__(
        self, gains_db: NDArray[np.float64] | None = None, gain: float = 1.0, sampling_rate: int = 16000
    ) -> None:
        self.gains_db, self.gain, self.sampling_rate = gains_db, gain, sampling_rate

    @classmethod
    def of(
        cls, audio: Tensor, levels_db: Sequence[float] | None, std_db: Sequence[float] | None, sampling_rate: int
    ) -> "Equalizer":
        """Return the filter of a prompt `(num_samples,)`.

        Each band is brought to within `std_db` of the training data's `levels_db`, and the whole to the same power
        as before. Without levels, prompts are not changed, nor are those that are silent or shorter than 1 s.
        """
        too_short = len(audio) < MIN_LENGTH_S * sampling_rate
        if levels_db is None or std_db is None or too_short or audio.square().mean().sqrt() <= SILENCE:
            return cls()
        missing = np.asarray(levels_db) - band_levels(audio, sampling_rate)
        gains_db = np.sign(missing) * np.maximum(np.abs(missing) - np.asarray(std_db), 0)
        if not gains_db.any():
            return cls()
        filtered = cls(np.clip(gains_db, -MAX_GAIN_DB, MAX_GAIN_DB), 1.0, sampling_rate)
        filtered.gain = float(audio.norm() / filtered.apply(audio).norm())
        return filtered

    def apply(self, audio: Tensor) -> Tensor:
        """Filter a whole recording `(num_samples,)`."""
        if self.gains_db is None:
            return audio
        return torch.cat([*self._filtered([audio], self.gains_db)]) * self.gain

    def undo(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Reverse the filter in audio `(num_samples,)` that arrives in pieces; the samples do not depend on these."""
        if self.gains_db is None:
            yield from pieces
            return
        for piece in self._filtered(pieces, -self.gains_db):
            yield piece / self.gain

    def _filtered(self, pieces: Iterable[Tensor], gains_db: NDArray[np.float64]) -> Iterator[Tensor]:
        """Filter without delay; the last 16 ms of each piece are held back."""
        taps = self._taps(gains_db)
        reach = len(taps) // 2
        rest = torch.zeros(reach, device="cpu")
        for piece in pieces:
            rest = torch.cat([rest.to(piece), piece])
            if len(rest) > 2 * reach:
                yield _convolved(rest, taps)
                rest = rest[-2 * reach :]
        if len(rest) > reach:
            yield _convolved(F.pad(rest, (0, reach)), taps)

    def _taps(self, gains_db: NDArray[np.float64]) -> Tensor:
        """Return an impulse response `(odd length,)` without delay at its middle."""
        half = round(FILTER_S * self.sampling_rate / 2)
        edges = _edges(self.sampling_rate)
        centres = np.sqrt(np.maximum(edges[:-1], LOWEST_EDGE_HZ / 2) * edges[1:])
        decibels = np.interp(np.fft.rfftfreq(2 * half, 1 / self.sampling_rate), centres, gains_db)
        response = torch.from_numpy(np.fft.irfft(10 ** (decibels / 20)))
        taps = torch.cat([response.roll(half), response[half : half + 1]])
        return (taps * torch.hann_window(2 * half + 1, periodic=False, device="cpu", dtype=torch.float64)).float()


def _convolved(audio: Tensor, taps: Tensor) -> Tensor:
    return F.conv1d(audio[None, None], taps[None, None].to(audio))[0, 0]


def measure_spectrum(recordings: Iterable[Tensor], sampling_rate: int) -> tuple[list[float], list[float]]:
    """Return the median levels and their standard deviations, `(19,)` each, in dB, over recordings `(num_samples,)`.

    Those that are silent or shorter than 64 ms do not count.
    """
    least = round(WINDOW_S * sampling_rate)
    heard = [audio for audio in recordings if len(audio) >= least and audio.any()]
    if not heard:
        raise ValueError("No recording has a spectrum; give some that are not silent.")
    levels = np.array([band_levels(audio, sampling_rate) for audio in heard])
    return np.median(levels, axis=0).round(1).tolist(), levels.std(axis=0).round(1).tolist()
