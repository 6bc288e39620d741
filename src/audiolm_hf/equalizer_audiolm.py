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

from .loudness_audiolm import SILENCE, active_frames

NUM_BANDS = 19  # the lowest up to 100 Hz, the others of equal width in octaves
LOWEST_EDGE_HZ = 100.0
WINDOW_S = 0.064  # of the spectra
FILTER_S = 0.032  # length of the filter, which sees half of it ahead
MIN_LENGTH_S = 1.0  # of a prompt; a shorter one has too few sounds
MAX_GAIN_DB = 30.0
_FFT_BLOCK = 256  # FFTs of sizes with large prime factors take several times as long
FLOOR = 1e-12  # power relative to that of the prompt, of bands in which there is nothing


def band_levels(audio: Tensor, sampling_rate: int) -> NDArray[np.float64] | None:
    """Return the levels `(19,)` of a recording's long-term spectrum in dB, relative to its mean over all frequencies.

    The recording `(num_samples,)` has at least 64 ms. Its pauses and rare loud clicks do not count. If there is
    nothing else, the result is `None`.
    """
    hop_length = round(WINDOW_S * sampling_rate / 2)
    audio = audio.detach().cpu().double()
    audio = audio - audio.mean()
    if audio.square().mean().sqrt() <= SILENCE:
        return None
    active = active_frames(audio, hop_length)
    frames = audio.unfold(0, 2 * hop_length, hop_length)[active[1:] & active[:-1]]
    window = torch.hann_window(2 * hop_length, device="cpu", dtype=torch.float64)
    power = torch.fft.rfft((frames - frames.mean(1, keepdim=True)) * window).abs().square().sum(0).numpy()
    if power.mean() <= SILENCE**2 * max(1, len(frames)) * float(window.square().sum()):
        return None
    hertz = np.fft.rfftfreq(2 * hop_length, 1 / sampling_rate)
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
        check_bands(levels_db, std_db)
        if levels_db is None or std_db is None or len(audio) < MIN_LENGTH_S * sampling_rate:
            return cls()
        found = band_levels(audio, sampling_rate)
        if found is None:
            return cls()
        missing = np.asarray(levels_db) - found
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
        """Filter without a shift in time; the last 16 ms of each piece are yielded with the next one."""
        taps = self._taps(gains_db)
        reach = len(taps) // 2
        rest = torch.zeros(reach, device="cpu")
        for piece in pieces:
            rest = torch.cat([rest.to(piece), piece])
            if len(rest) > 2 * reach:
                yield convolved(rest, taps)
                rest = rest[-2 * reach :]
        if len(rest) > reach:
            yield convolved(F.pad(rest, (0, reach)), taps)

    def _taps(self, gains_db: NDArray[np.float64]) -> Tensor:
        """Return the symmetric impulse response `(odd length,)` of a filter that shifts nothing in time."""
        half = round(FILTER_S * self.sampling_rate / 2)
        edges = _edges(self.sampling_rate)
        centres = np.sqrt(np.maximum(edges[:-1], LOWEST_EDGE_HZ / 2) * edges[1:])
        decibels = np.interp(np.fft.rfftfreq(2 * half, 1 / self.sampling_rate), centres, gains_db)
        response = torch.from_numpy(np.fft.irfft(10 ** (decibels / 20)))
        taps = torch.cat([response.roll(half), response[half : half + 1]])
        return (taps * torch.hann_window(2 * half + 1, periodic=False, device="cpu", dtype=torch.float64)).float()


def convolved(audio: Tensor, taps: Tensor) -> Tensor:
    """Return the output of a filter with symmetric `taps` wherever it overlaps `audio (num_samples,)` completely.

    It is computed on the CPU, because GPUs may round factors to 10 bits, and by FFT, which takes a quarter of the time
    of a convolution.
    """
    size = _FFT_BLOCK * -(-len(audio) // _FFT_BLOCK)
    spectrum = torch.fft.rfft(audio.cpu(), size) * torch.fft.rfft(taps, size).conj()
    return torch.fft.irfft(spectrum, size)[: len(audio) - len(taps) + 1].to(audio)


def check_bands(levels_db: Sequence[float] | None, std_db: Sequence[float] | None) -> None:
    """Raise a `ValueError` unless both lists have as many values as there are bands, or neither is given."""
    counts = [0 if values is None else len(values) for values in (levels_db, std_db)]
    if counts not in ([0, 0], [NUM_BANDS, NUM_BANDS]):
        raise ValueError(
            f"spectrum_db has {counts[0]} bands, and spectrum_std_db {counts[1]}; give {NUM_BANDS} each, or none."
        )


def measure_spectrum(recordings: Iterable[Tensor], sampling_rate: int) -> tuple[list[float], list[float]]:
    """Return the median levels and their standard deviations, `(19,)` each, in dB, over recordings `(num_samples,)`.

    Those that are silent or shorter than 1 s do not count.
    """
    heard = [audio for audio in recordings if len(audio) >= MIN_LENGTH_S * sampling_rate]
    found = [levels for audio in heard if (levels := band_levels(audio, sampling_rate)) is not None]
    if not found:
        raise ValueError("No recording has a spectrum; give some of at least 1 s that are not silent.")
    return np.median(found, axis=0).round(1).tolist(), np.std(found, axis=0).round(1).tolist()
