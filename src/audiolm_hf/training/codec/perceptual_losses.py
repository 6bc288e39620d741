# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Perceptual losses of the codec.

`LoudnessLoss` follows the perceptual model of PESQ (ITU-T P.862): loudness in Bark bands, masking of small errors, and
a higher weight of added sound than of missing sound. `EnvelopeCorrelationLoss` follows STOI (Taal et al. 2011): the
correlation of third-octave envelopes over segments of 0.384 s. Both are differentiable approximations.
"""

import math

import torch
from torch import Tensor, nn

# Mean power of a scaled target over all bands, relative to the hearing threshold; close to the 79 dB of P.862.
TARGET_POWER = 3e8
LOUDNESS_EXPONENT = 0.23  # Zwicker's law
LOUDNESS_SCALE = 0.187
THRESHOLD_POWER = 0.25  # hearing threshold where the ear is most sensitive
NUM_BARK_BANDS = 49
MASKED_SHARE = 0.25  # a difference below this share of the lower loudness is inaudible
FRAMES_PER_EVENT = 20
EVENT_EXPONENT = 6.0  # high, so that the worst frame of an event dominates
QUIETEST_TARGET_DB = -45.0  # dBFS; a quieter target is a pause and is not scaled to the loudness of speech
NUM_THIRD_OCTAVES = 15  # STOI: from 150 Hz
FRAMES_PER_SEGMENT = 30  # STOI: 0.384 s
ACTIVE_SHARE = 1e-4  # of the loudest segment's energy, 40 dB below it; STOI also excludes silence
LEAST_MODULATION = 0.01  # relative to a band's envelope; the correlation of flatter envelopes is undefined
LEAST_BAND_POWER = 1e-6  # 100 dB below a tone of full scale
HIGHEST_GAIN = 100.0  # 40 dB; higher gains would give huge gradients


def bark(frequency: Tensor) -> Tensor:
    """Convert Hz to Bark (Traunmüller 1990)."""
    return 26.81 * frequency / (1960.0 + frequency) - 0.53


def bark_filters(sampling_rate: int, window_length: int, num_bands: int) -> Tensor:
    """Return the weights of frequency bins in equally wide Bark bands, `(num_bins, num_bands)`; rows add up to 1."""
    width = sampling_rate / window_length
    centers = torch.arange(window_length // 2 + 1) * width
    low = bark((centers - width / 2).clamp(min=0.0))
    high = bark((centers + width / 2).clamp(max=sampling_rate / 2))
    edges = torch.linspace(float(low[0]), float(high[-1]), num_bands + 1)
    overlap = torch.minimum(high[:, None], edges[None, 1:]) - torch.maximum(low[:, None], edges[None, :-1])
    return overlap.clamp(min=0.0) / (high - low)[:, None]


def hearing_threshold(frequency: Tensor) -> Tensor:
    """Return the hearing threshold as power at each frequency in Hz, 1 at its minimum (Terhardt 1979)."""
    khz = (frequency / 1000.0).clamp(min=0.02)
    decibels = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    return 10 ** ((decibels - decibels.min()) / 10)


def _band_power(values: Tensor, fft_length: int, window: Tensor, filters: Tensor) -> Tensor:
    """Return the power in bands, `(batch, frames, num_bands)`; the hop is half a window."""
    length = len(window)
    spectrum = torch.stft(values.float(), fft_length, length // 2, length, window, return_complex=True)
    return torch.view_as_real(spectrum).pow(2).sum(-1).transpose(1, 2) @ filters


class LoudnessLoss(nn.Module):
    """Disturbance of loudness in points of the raw PESQ scale, about 4.5 minus PESQ; the hop is half a window."""

    filters: Tensor
    window: Tensor
    threshold: Tensor

    def __init__(self, sampling_rate: int, window_length: int = 512) -> None:
        super().__init__()
        self.window_length = self.min_num_samples = window_length
        filters = bark_filters(sampling_rate, window_length, NUM_BARK_BANDS)
        self.band_width = float(bark(torch.tensor(sampling_rate / 2)) - bark(torch.tensor(0.0))) / NUM_BARK_BANDS
        frequency = torch.linspace(0, sampling_rate / 2, window_length // 2 + 1)
        centers = (filters * frequency[:, None]).sum(0) / filters.sum(0)
        self.register_buffer("filters", filters, persistent=False)
        window = torch.hann_window(window_length)
        # Of white noise at that level: the same in every bin.
        self.least_power = 10 ** (QUIETEST_TARGET_DB / 10) * float(window.pow(2).sum()) * len(frequency)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("threshold", THRESHOLD_POWER * hearing_threshold(centers), persistent=False)

    def forward(self, audio_values: Tensor, target_values: Tensor) -> Tensor:
        """Return the mean loss, of shape `()`, of two batches of shape `(batch, num_samples)`."""
        values = (audio_values, target_values)
        estimate, target = (_band_power(each, self.window_length, self.window, self.filters) for each in values)
        gain = TARGET_POWER / target.sum(2).mean(1).clamp(min=self.least_power)[:, None, None]
        target, estimate = target * gain, estimate * gain
        heard, wanted = self._loudness(estimate), self._loudness(target)
        masked = MASKED_SHARE * torch.minimum(heard, wanted).detach()
        disturbance = ((heard - wanted).abs() - masked).clamp(min=0.0)
        # Added sound is more disturbing than missing sound.
        ratio = ((estimate.detach() + 50.0) / (target + 50.0)) ** 1.2
        asymmetry = torch.where(ratio < 3.0, torch.zeros_like(ratio), ratio.clamp(max=12.0))
        symmetric = self.band_width**1.5 * NUM_BARK_BANDS * (disturbance.pow(2).mean(2) + 1e-8).sqrt()
        added = self.band_width * (disturbance * asymmetry).sum(2)
        return (0.1 * self._over_time(symmetric) + 0.0309 * self._over_time(added)).mean()

    def _loudness(self, power: Tensor) -> Tensor:
        relative = (power / self.threshold).clamp(min=1.0)
        scale = LOUDNESS_SCALE * (self.threshold / 0.5) ** LOUDNESS_EXPONENT
        return scale * ((0.5 + 0.5 * relative) ** LOUDNESS_EXPONENT - 1.0)

    def _over_time(self, disturbance: Tensor) -> Tensor:
        """Average disturbances `(batch, frames)` to `(batch,)`: a high norm within events, their root mean square."""
        size = min(FRAMES_PER_EVENT, disturbance.shape[1])
        events = disturbance.clamp(max=45.0).unfold(1, size, max(1, size // 2))
        # Relative to the loudest, so that the high power neither overflows nor vanishes.
        peak = events.amax(2, keepdim=True).detach().clamp(min=1e-4)
        norms = peak[..., 0] * ((events / peak).pow(EVENT_EXPONENT).mean(2) + 1e-8) ** (1 / EVENT_EXPONENT)
        return (norms.pow(2).mean(1) + 1e-8).sqrt()


class EnvelopeCorrelationLoss(nn.Module):
    """One minus the mean correlation of third-octave envelopes over segments of 0.384 s."""

    filters: Tensor
    window: Tensor

    def __init__(self, sampling_rate: int) -> None:
        super().__init__()
        self.window_length = round(0.0256 * sampling_rate)
        self.fft_length = 2 ** math.ceil(math.log2(self.window_length))
        self.min_num_samples = (FRAMES_PER_SEGMENT - 1) * (self.window_length // 2)
        frequency = torch.linspace(0, sampling_rate / 2, self.fft_length // 2 + 1)
        centers = 150.0 * 2 ** (torch.arange(NUM_THIRD_OCTAVES) / 3)
        if sampling_rate / 2 < centers[-1] * 2 ** (1 / 6):
            raise ValueError(f"envelope_weight above 0 needs 8600 Hz or more; the codec has {sampling_rate} Hz.")
        inside = (frequency[:, None] >= centers / 2 ** (1 / 6)) & (frequency[:, None] < centers * 2 ** (1 / 6))
        self.register_buffer("filters", inside.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)

    def forward(self, audio_values: Tensor, target_values: Tensor) -> Tensor:
        """Return the mean loss, of shape `()`, of two batches `(batch, num_samples)`; 0 for silent targets."""
        estimate, target = self._segments(audio_values), self._segments(target_values)
        energy = target.pow(2).sum((2, 3))
        size = target.norm(dim=3)
        # Clip the estimate at 15 dB above the target, as STOI does to limit the effect of a single frame.
        gain = (size / estimate.norm(dim=3)).clamp(max=HIGHEST_GAIN)[..., None]
        estimate = torch.minimum(estimate * gain, target * (1 + 10 ** (15 / 20)))
        estimate, target = estimate - estimate.mean(3, keepdim=True), target - target.mean(3, keepdim=True)
        least = LEAST_MODULATION * size
        modulation = target.norm(dim=3)
        scale = torch.maximum(estimate.norm(dim=3), least) * torch.maximum(modulation, least)
        lost = 1 - (estimate * target).sum(3) / scale
        loudest = energy.amax(1, keepdim=True)
        active = (modulation > least) & (energy > ACTIVE_SHARE * loudest)[..., None]
        # Average each clip first, so that the result does not depend on the other clips of the batch.
        return ((lost * active).sum((1, 2)) / active.sum((1, 2)).clamp(min=1)).mean()

    def _segments(self, values: Tensor) -> Tensor:
        """Return the envelopes `(batch, segments, bands, 30)`; segments overlap by half."""
        power = _band_power(values, self.fft_length, self.window, self.filters)
        envelopes = (power + LEAST_BAND_POWER).sqrt().transpose(1, 2)
        return envelopes.unfold(2, FRAMES_PER_SEGMENT, FRAMES_PER_SEGMENT // 2).transpose(1, 2)
