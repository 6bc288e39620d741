# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The lowest frequencies of a waveform as a few numbers per frame of codes, and back.

Between the codec's waveform and its quantizer. A listener, and PESQ, forgive a wrong phase above 1 kHz but hear it
below, where the ear resolves single harmonics; networks at the frame rate give the magnitudes there and not the phase.
So the codec can code these coefficients themselves. They are those of a modified discrete cosine transform (Princen,
Johnson and Bradley 1987): one window per frame, half overlapping, as many numbers as samples, exactly invertible.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

COMPRESSION = 2 / 3  # loud coefficients are coded more coarsely than soft ones


def low_band_basis(hop_length: int, num_coefficients: int, device: torch.device) -> Tensor:
    """Cosines under a sine window, `(2 * hop_length, num_coefficients)`; the same ones analyse and synthesise."""
    samples = torch.arange(2 * hop_length, device=device, dtype=torch.float32)[:, None] + 0.5
    frequencies = torch.arange(num_coefficients, device=device, dtype=torch.float32) + 0.5
    window = torch.sin(math.pi / (2 * hop_length) * samples)
    return (
        math.sqrt(2 / hop_length) * window * torch.cos(math.pi / hop_length * (samples + hop_length / 2) * frequencies)
    )


def analyze_low_band(input_values: Tensor, hop_length: int, num_coefficients: int, scale: float) -> Tensor:
    """Transform waveforms to compressed coefficients.

    Args:
        input_values (`torch.FloatTensor` of shape `(batch, num_samples)`): a whole number of frames.
        hop_length (`int`): samples per frame.
        num_coefficients (`int`): of the lowest frequencies; each spans `sampling_rate / (2 * hop_length)` Hz.
        scale (`float`): what compressed coefficients are multiplied with.

    Returns:
        `torch.FloatTensor` of shape `(batch, frames, num_coefficients)`.
    """
    half = hop_length // 2
    windows = F.pad(input_values.float(), (half, hop_length - half)).unfold(1, 2 * hop_length, hop_length)
    coefficients = windows @ low_band_basis(hop_length, num_coefficients, input_values.device)
    return scale * coefficients.sign() * coefficients.abs() ** COMPRESSION


def synthesize_low_band(low_band: Tensor, hop_length: int, scale: float) -> Tensor:
    """Transform compressed coefficients `(batch, frames, num_coefficients)` to waveforms `(batch, num_samples)`."""
    expanded = low_band.sign() * (low_band.abs() / scale) ** (1 / COMPRESSION)
    windows = expanded @ low_band_basis(hop_length, low_band.shape[2], low_band.device).t()
    num_samples = low_band.shape[1] * hop_length
    half = hop_length // 2
    summed = F.fold(
        windows.transpose(1, 2), (1, num_samples + hop_length), (1, 2 * hop_length), stride=(1, hop_length)
    )
    return summed[:, 0, 0, half : half + num_samples]


__all__ = ["analyze_low_band", "low_band_basis", "synthesize_low_band"]
