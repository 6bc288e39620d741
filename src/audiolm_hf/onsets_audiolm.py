# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Note onsets of a recording."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

MIN_LENGTH_S = 1.0  # of a prompt; a shorter one has too few onsets for a rate
_WINDOW, _HOP = 1024, 256  # samples
_NUM_MELS = 80
_FLOOR_DB = -60.0  # relative to the loudest bin; changes below it are ignored
_RISE_DB = 1.5  # mean rise in a frame over its surroundings
_GAP_S = 0.05  # minimum time between two onsets
_SURROUNDINGS_S = 0.15  # in each direction


def onset_times(array: Tensor, sampling_rate: int) -> Tensor:
    """Return the times of note onsets, `(num_onsets,)` in seconds: peaks of the rise of the log-mel spectrum.

    Args:
        array (`torch.FloatTensor` of shape `(num_samples,)`): a mono waveform; zero padded to one window.
        sampling_rate (`int`): samples per second, Hz.
    """
    signal = F.pad(array.float().cpu(), (0, max(0, _WINDOW - len(array))))
    window = torch.hann_window(_WINDOW, device="cpu", dtype=torch.float32)
    spectrum = torch.stft(signal, _WINDOW, _HOP, window=window, center=False, return_complex=True)
    mel = (spectrum.abs().square().T.double() @ _mel_filters(sampling_rate)).clamp(min=1e-18)
    decibels = 10 * torch.log10(mel / mel.max().clamp(min=1e-10)).clamp(min=_FLOOR_DB / 10)
    rise = (decibels[2:] - decibels[:-2]).clamp(min=0).mean(1)[None]
    if not rise.shape[1]:
        return torch.zeros(0, device="cpu")
    gap, around = (round(seconds * sampling_rate / _HOP) for seconds in (_GAP_S, _SURROUNDINGS_S))
    highest = F.max_pool1d(rise, 2 * gap + 1, stride=1, padding=gap)
    mean = F.avg_pool1d(F.pad(rise, (around, around), mode="replicate"), 2 * around + 1, stride=1)
    tops = ((rise == highest) & (rise > mean + _RISE_DB))[0].nonzero()[:, 0]
    return (tops + 1) * _HOP / sampling_rate + _WINDOW / 2 / sampling_rate  # the middle of the window


def onset_rate(array: Tensor, sampling_rate: int) -> float:
    """Return the number of note onsets per second of a mono waveform `(num_samples,)`."""
    return len(onset_times(array, sampling_rate)) * sampling_rate / len(array)


@cache
def _mel_filters(sampling_rate: int) -> Tensor:
    filters = mel_filter_bank(
        num_frequency_bins=_WINDOW // 2 + 1,
        num_mel_filters=_NUM_MELS,
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).double()
