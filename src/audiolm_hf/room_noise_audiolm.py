# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Noise like that of a prompt's pauses, which a codec of few levels removes, so that pauses would decay into silence.

In: a prompt and its resynthesis; out: noise with the spectrum that the resynthesis lacks in the softest parts of the
prompt. Its spectrum does not change in the course of a continuation.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .equalizer_audiolm import convolved
from .sampling_audiolm import RowNoise

HOP_S = 0.008  # windows are four times as long
MIN_LENGTH_S = 1.0  # of a prompt; a shorter one need not have a pause
NUM_WINDOWS = 8  # whose power is averaged
QUANTILE = 0.1  # of these averages over time: the level in pauses, as about a fifth of speech is pauses
QUANTILE_OF_NOISE = 0.48  # the same quantile of steady noise, relative to its power
NUM_BINS = 9  # of a window, over which the spectrum is smoothed


class RoomNoise:
    """Noise that is added to the continuation of one prompt.

    Args:
        share (`float`): share of the missing power that is added, from 0 to 1.
        sampling_rate (`int`): in Hz.
        noise ([`RowNoise`]): the random numbers of the row.
    """

    def __init__(self, share: float, sampling_rate: int, noise: RowNoise) -> None:
        self.share, self.noise = share, noise
        self.hop_length, self.min_length = round(HOP_S * sampling_rate), round(MIN_LENGTH_S * sampling_rate)
        self.window = torch.hann_window(4 * self.hop_length, device="cpu", dtype=torch.float32)
        self.impulse_response: Tensor | None = None
        self._white = torch.zeros(0, device="cpu")  # the last white noise that was filtered

    def fit(self, prompt: Tensor, decoded: Tensor) -> None:
        """Set the spectrum from a prompt and its resynthesis, both `(num_samples,)`; none from a prompt below 1 s."""
        if not self.share or len(prompt) < self.min_length:
            return
        floor, decoded_floor = (self._floor(audio.detach().float().cpu()) for audio in (prompt, decoded))
        amplitude = (self.share * (floor - decoded_floor).clamp(min=0)).sqrt()
        self.impulse_response = torch.fft.irfft(amplitude).roll(len(self.window) // 2) * self.window
        self._white = self._draw(len(self.window) - 1)

    def add(self, audio: Tensor) -> Tensor:
        """Return the next samples `(num_samples,)` of the continuation with noise."""
        if self.impulse_response is None or not len(audio):
            return audio
        white = torch.cat([self._white, self._draw(len(audio))])
        self._white = white[len(audio) :]
        return audio + convolved(white, self.impulse_response).to(audio)

    def _draw(self, count: int) -> Tensor:
        """Return white noise of power 1; uniform numbers do not depend on how many are drawn at once."""
        return (self.noise.draw(count) - 0.5) * 12**0.5

    def _floor(self, audio: Tensor) -> Tensor:
        """Return the power of the pauses in each frequency bin, relative to white noise of power 1."""
        length = len(self.window)
        spectrum = torch.stft(audio, length, self.hop_length, window=self.window, center=False, return_complex=True)
        power = spectrum.abs().square() / self.window.square().sum()
        levels = F.avg_pool1d(power[None], NUM_WINDOWS, 1)[0].quantile(QUANTILE, dim=1) / QUANTILE_OF_NOISE
        return F.avg_pool1d(levels[None, None], NUM_BINS, 1, NUM_BINS // 2, count_include_pad=False)[0, 0]
