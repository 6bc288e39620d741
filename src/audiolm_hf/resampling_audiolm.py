# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From one sampling rate to another, in torch: a windowed sinc in polyphase form, with the filter of soxr's `"VHQ"`.

What is below 0.91 of the lower Nyquist frequency stays, nothing above it comes back as an alias. Rates are a ratio of
integers, so output sample `m` lies exactly at input time `m * down / up`: there is no drift.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# The filter of soxr's "VHQ", found from its response to an impulse; times in samples of the lower rate.
CUTOFF = 0.95566416  # of the lower Nyquist frequency; half way down
HALF_LENGTH = 132.8333  # of the Kaiser window
BETA = 18.433496  # its shape: stopband 170 dB down
MAX_PHASES = 1280  # filters of a ratio; 44.1 kHz to 16 kHz has 160


def check_rates(rate: int, target_rate: int) -> None:
    """Check that the ratio of two sampling rates is simple enough for resampling."""
    phases = target_rate // math.gcd(rate, target_rate)
    if phases > MAX_PHASES:
        raise ValueError(
            f"Resampling from {rate} Hz to {target_rate} Hz takes {phases} filters, and at most {MAX_PHASES} are "
            "supported; use rates with a larger common divisor, such as 16000, 22050, 24000, 44100 or 48000 Hz."
        )


@lru_cache(maxsize=8)
def _filters(up: int, down: int) -> tuple[np.ndarray, int, int]:
    """Tabulate the filters (samples in, samples out) of a stretch, its input step, and the samples seen before it."""
    band = min(1.0, up / down)  # lower Nyquist frequency, relative to that of the input
    half = math.ceil(HALF_LENGTH / band)
    periods = math.ceil(2 * half / down)  # a stretch about as long as a filter costs least
    inputs = np.arange(-half, periods * down + half)
    distance = band * (inputs[:, None] - np.arange(periods * up) * (down / up))
    window = np.i0(BETA * np.sqrt(np.clip(1 - (distance / HALF_LENGTH) ** 2, 0, None))) / np.i0(BETA)
    filters = band * CUTOFF * np.sinc(CUTOFF * distance) * window * (np.abs(distance) <= HALF_LENGTH)
    return filters.astype(np.float32), periods * down, half


def resample(input_values: Tensor, rate: int, target_rate: int) -> Tensor:
    """Resample audio; what lies before its beginning and after its end is silence.

    Args:
        input_values (`torch.Tensor` of shape `(batch, num_samples)`): audio.
        rate (`int`): its samples per second, Hz.
        target_rate (`int`): samples per second of the result, Hz.

    Returns:
        `torch.FloatTensor` of shape `(batch, ceil(num_samples * target_rate / rate))`, float32, on the same device.
        Behind its first sample, white noise differs from that of soxr's `"VHQ"` by at most 1e-3 of the loudest sample,
        and from 24 and 48 kHz to 16 kHz by at most 1e-6.
    """
    check_rates(rate, target_rate)
    divisor = math.gcd(rate, target_rate)
    filters, step, half = _filters(target_rate // divisor, rate // divisor)
    num_samples = input_values.shape[1]
    stretches = -(-num_samples // step)
    with torch.autocast(input_values.device.type, enabled=False):
        padded = torch.nn.functional.pad(input_values.float(), (half, stretches * step - num_samples + half))
        rows = padded.unfold(1, step + 2 * half, step)  # (batch, stretches, samples in)
        resampled = rows @ torch.from_numpy(filters).to(rows.device)
    return resampled.flatten(1)[:, : -(-num_samples * target_rate // rate)]
