# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Encoder and decoder of the codec at the frame rate, between a short-time transform and its inverse.

They are causal variants of Vocos (arXiv 2306.00814), and much faster on a CPU than the strided convolutions of
SoundStream (arXiv 2107.03312, section III).

A wrong phase is inaudible above 1 kHz but audible below, so the codec can also code the lowest coefficients of a
modified discrete cosine transform (MDCT; Princen, Johnson and Bradley 1987) with one window per frame: its low band.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_audiolm import SoundStreamConfig

LAYER_SCALE = 0.1  # start of the residual branches' gain
PHASE_MOMENTUM = 0.99  # of fast Griffin-Lim
LOG_MAGNITUDE_LIMIT = 6.0  # e^6 is above any bin of a full-scale tone in a 1280-sample window
LOW_BAND_EXPONENT = 2 / 3  # loud coefficients are coded more coarsely than soft ones


def _windows(values: Tensor, window_length: int, hop_length: int) -> Tensor:
    """Return windows `(batch, frames, window_length)` centred on the frames of `(batch, num_samples)`."""
    before = (window_length - hop_length) // 2
    return F.pad(values.float(), (before, window_length - hop_length - before)).unfold(1, window_length, hop_length)


def _overlap_add(windows: Tensor, hop_length: int) -> Tensor:
    """Add windows `(batch, frames, window_length)` up to `(batch, frames * hop_length)`."""
    frames, window_length = windows.shape[1:]
    num_samples = (frames - 1) * hop_length + window_length
    summed = F.fold(windows.transpose(1, 2), (1, num_samples), (1, window_length), stride=(1, hop_length))
    before = (window_length - hop_length) // 2
    return summed[:, 0, 0, before : before + frames * hop_length]


def mdct_basis(hop_length: int, num_coefficients: int, device: torch.device) -> Tensor:
    """Return cosines under a sine window, `(2 * hop_length, num_coefficients)`."""
    samples = torch.arange(2 * hop_length, device=device, dtype=torch.float32)[:, None] + 0.5
    frequencies = torch.arange(num_coefficients, device=device, dtype=torch.float32) + 0.5
    window = torch.sin(math.pi / (2 * hop_length) * samples)
    return (
        math.sqrt(2 / hop_length) * window * torch.cos(math.pi / hop_length * (samples + hop_length / 2) * frequencies)
    )


def mdct(values: Tensor, basis: Tensor) -> Tensor:
    """Return coefficients `(batch, frames, num_coefficients)` of waveforms `(batch, num_samples)` of whole frames."""
    return _windows(values, len(basis), len(basis) // 2) @ basis


def inverse_mdct(coefficients: Tensor, basis: Tensor) -> Tensor:
    """Return waveforms `(batch, frames * hop_length)` of coefficients `(batch, frames, num_coefficients)`."""
    return _overlap_add(coefficients @ basis.t(), len(basis) // 2)


def compress_low_band(coefficients: Tensor, scale: float) -> Tensor:
    """Scale and compress coefficients of any shape for quantization."""
    return scale * coefficients.sign() * coefficients.abs() ** LOW_BAND_EXPONENT


def expand_low_band(low_band: Tensor, scale: float) -> Tensor:
    """Undo [`compress_low_band`]."""
    return low_band.sign() * (low_band.abs() / scale) ** (1 / LOW_BAND_EXPONENT)


def windowed_spectrum(input_values: Tensor, config: SoundStreamConfig) -> Tensor:
    """Return complex spectra `(batch, frames, bins)` of windows centred on the frames of `(batch, num_samples)`."""
    windows = _windows(input_values, config.window_length, config.hop_length)
    return torch.fft.rfft(windows * hann_window(config, windows.device))


def hann_window(config: SoundStreamConfig, device: torch.device) -> Tensor:
    """Return the window `(window_length,)` of the analysis and the synthesis."""
    return torch.hann_window(config.window_length, device=device, dtype=torch.float32)


def inverse_spectrum(spectrum: Tensor, config: SoundStreamConfig, frame_mask: Tensor | None) -> Tensor:
    """Return waveforms `(batch, frames * hop_length)` whose windows have complex spectra `(batch, frames, bins)`."""
    window = hann_window(config, spectrum.device)
    frames = torch.fft.irfft(spectrum, n=config.window_length) * window
    mask = frames.new_ones(frames.shape[:2]) if frame_mask is None else frame_mask.to(frames.dtype)
    envelope = mask[:, :, None] * window.pow(2)
    hop_length = config.hop_length
    return _overlap_add(frames * mask[:, :, None], hop_length) / _overlap_add(envelope, hop_length).clamp(min=1e-3)


class CausalConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames, then a two-layer network on each frame, added to the input.

    The convolution sees past frames only or, with `centred`, as many after the current one as before it.
    """

    def __init__(self, config: SoundStreamConfig, centred: bool = False) -> None:
        super().__init__()
        size = config.hidden_size
        self.ahead = (config.kernel_size - 1) // 2 if centred else 0
        self.depthwise = nn.Conv1d(size, size, config.kernel_size, groups=size)
        self.norm = nn.LayerNorm(size)
        self.up_proj = nn.Linear(size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, size)
        self.scale = nn.Parameter(torch.full((size,), LAYER_SCALE))

    def forward(self, hidden_states: Tensor, before: Tensor | None = None) -> Tensor:
        """Transform `(batch, frames, hidden_size)` to the same shape.

        `before (batch, kernel_size - 1, hidden_size)`, for a block that is not centred, are the frames before these;
        zeros by default.
        """
        padding = (self.depthwise.kernel_size[0] - 1 - self.ahead, self.ahead)
        seen = hidden_states.transpose(1, 2)
        seen = F.pad(seen, padding) if before is None else torch.cat([before.transpose(1, 2), seen], 2)
        mixed = self.depthwise(seen).transpose(1, 2)
        return hidden_states + self.scale * self.down_proj(F.gelu(self.up_proj(self.norm(mixed))))


def frame_blocks(config: SoundStreamConfig, num_layers: int, num_centred: int = 0) -> nn.Sequential:
    """Build ConvNeXt blocks between layer norms, the first `num_centred` of them centred on their frame."""
    blocks = [CausalConvNeXtBlock(config, centred=index < num_centred) for index in range(num_layers)]
    return nn.Sequential(nn.LayerNorm(config.hidden_size), *blocks, nn.LayerNorm(config.hidden_size))


class SpectralEncoder(nn.Module):
    """Short-time spectra, centred on each frame, through causal ConvNeXt blocks."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        num_bins = config.window_length // 2 + 1
        self.in_proj = nn.Linear(3 * num_bins, config.hidden_size)
        self.blocks = frame_blocks(config, config.num_encoder_layers)

    def forward(self, input_values: Tensor) -> Tensor:
        """Encode `(batch, num_samples)`, a whole number of frames, to `(batch, frames, hidden_size)`."""
        spectrum = windowed_spectrum(input_values, self.config)
        magnitude = spectrum.abs().clamp(min=1e-5)
        # Loudness, and the phase weighted by the cube root of the magnitude, so that quiet bins weigh little.
        phase = torch.view_as_real(spectrum / magnitude.pow(2 / 3)).flatten(2)
        features = torch.cat([magnitude.log(), phase], dim=-1)
        return self.blocks(self.in_proj(features))


class ISTFTDecoder(nn.Module):
    """Causal ConvNeXt blocks, then magnitude and phase of overlapping windows, centred on each frame."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        num_bins = config.window_length // 2 + 1
        self.in_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.blocks = frame_blocks(config, config.num_decoder_layers)
        self.out_proj = nn.Linear(config.hidden_size, 2 * num_bins)

    def spectrum(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return log magnitude and phase of each window, both `(batch, frames, bins)`, float32."""
        log_magnitude, phase = self.out_proj(self.blocks(self.in_proj(latents))).float().chunk(2, dim=-1)
        return log_magnitude.clamp(max=LOG_MAGNITUDE_LIMIT), phase

    def forward(self, latents: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Decode `(batch, frames, hidden_size)` to `(batch, frames * hop_length)`."""
        return self.synthesize(*self.spectrum(latents), frame_mask)

    def context(self, aligned: bool) -> tuple[int, int]:
        """Return how many frames before and after a frame its samples depend on, with phases aligned or not."""
        config = self.config
        overlapping = math.ceil(config.window_length / config.hop_length) - 1
        around = math.ceil((config.window_length - config.hop_length) / (2 * config.hop_length))
        around += overlapping * config.phase_iterations * aligned  # each round takes in the windows that overlap
        return around + config.num_decoder_layers * (config.kernel_size - 1), around

    def synthesize(self, log_magnitude: Tensor, phase: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Add the windows of spectra `(batch, frames, bins)` up to `(batch, frames * hop_length)`."""
        return inverse_spectrum(torch.polar(log_magnitude.exp(), phase), self.config, frame_mask)

    def align_phase(self, log_magnitude: Tensor, phase: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Synthesize with phases that agree, by fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013)."""
        magnitude = log_magnitude.exp()
        mask = log_magnitude.new_ones(magnitude.shape[:2]) if frame_mask is None else frame_mask.to(magnitude.dtype)
        sample_mask = mask.repeat_interleave(self.config.hop_length, dim=1)
        spectrum = torch.polar(magnitude, phase)
        before = torch.zeros_like(spectrum)
        for _ in range(self.config.phase_iterations):
            waveform = inverse_spectrum(spectrum, self.config, frame_mask) * sample_mask
            consistent = windowed_spectrum(waveform, self.config)
            guess = consistent + PHASE_MOMENTUM * (consistent - before)
            before = consistent
            spectrum = torch.polar(magnitude, guess.angle())
        return inverse_spectrum(spectrum, self.config, frame_mask)
