# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The lowest frequencies of a waveform as a few numbers per frame of codes, and back.

A wrong phase is inaudible above 1 kHz, but audible below, where the ear resolves single harmonics, and PESQ behaves
alike. Networks at the frame rate predict magnitudes but not phases there, so the codec can code the coefficients of
this band directly. They are those of a modified discrete cosine transform (Princen, Johnson and Bradley 1987) with one
window per frame, which overlap by half; the transform is critically sampled and exactly invertible.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

COMPRESSION = 2 / 3  # loud coefficients are coded more coarsely than soft ones


def low_band_basis(hop_length: int, num_coefficients: int, device: torch.device) -> Tensor:
    """Return cosines under a sine window, `(2 * hop_length, num_coefficients)`, for analysis and synthesis."""
    samples = torch.arange(2 * hop_length, device=device, dtype=torch.float32)[:, None] + 0.5
    frequencies = torch.arange(num_coefficients, device=device, dtype=torch.float32) + 0.5
    window = torch.sin(math.pi / (2 * hop_length) * samples)
    return (
        math.sqrt(2 / hop_length) * window * torch.cos(math.pi / hop_length * (samples + hop_length / 2) * frequencies)
    )


def cosine_analysis(values: Tensor, basis: Tensor) -> Tensor:
    """Return coefficients `(batch, frames, num_coefficients)` of waveforms `(batch, num_samples)` of whole frames."""
    hop_length = len(basis) // 2
    half = hop_length // 2
    return F.pad(values.float(), (half, hop_length - half)).unfold(1, 2 * hop_length, hop_length) @ basis


def cosine_synthesis(coefficients: Tensor, basis: Tensor) -> Tensor:
    """Return waveforms `(batch, frames * hop_length)` of coefficients `(batch, frames, num_coefficients)`."""
    hop_length = len(basis) // 2
    num_samples = coefficients.shape[1] * hop_length
    windows = (coefficients @ basis.t()).transpose(1, 2)
    summed = F.fold(windows, (1, num_samples + hop_length), (1, 2 * hop_length), stride=(1, hop_length))
    half = hop_length // 2
    return summed[:, 0, 0, half : half + num_samples]


def compress_low_band(coefficients: Tensor, scale: float) -> Tensor:
    """Scale and compress coefficients of any shape for quantization; `scale` is their weight."""
    return scale * coefficients.sign() * coefficients.abs() ** COMPRESSION


def expand_low_band(low_band: Tensor, scale: float) -> Tensor:
    """Undo [`compress_low_band`]."""
    return low_band.sign() * (low_band.abs() / scale) ** (1 / COMPRESSION)
