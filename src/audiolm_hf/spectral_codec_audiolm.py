# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Encoder and decoder of the codec at the frame rate, between a short-time transform and its inverse.

They are causal variants of Vocos (arXiv 2306.00814), and much faster on a CPU than the strided convolutions of
SoundStream (arXiv 2107.03312, section III).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_audiolm import SoundStreamConfig

LAYER_SCALE = 0.1  # start of the residual branches' gain
PHASE_MOMENTUM = 0.99  # of fast Griffin-Lim
LOG_MAGNITUDE_LIMIT = 6.0  # e^6 is above any bin of a full-scale tone in a 1280-sample window


def windowed_spectrum(input_values: Tensor, config: SoundStreamConfig) -> Tensor:
    """Return complex spectra `(batch, frames, bins)` of windows centred on the frames of `(batch, num_samples)`."""
    excess = (config.window_length - config.hop_length) // 2
    frames = F.pad(input_values.float(), (excess, excess)).unfold(1, config.window_length, config.hop_length)
    return torch.fft.rfft(frames * hann_window(config, frames.device))


def hann_window(config: SoundStreamConfig, device: torch.device) -> Tensor:
    """Return the window `(window_length,)` that analyses and synthesizes."""
    return torch.hann_window(config.window_length, device=device, dtype=torch.float32)


def inverse_spectrum(spectrum: Tensor, config: SoundStreamConfig, frame_mask: Tensor | None) -> Tensor:
    """Return waveforms `(batch, frames * hop_length)` whose windows have complex spectra `(batch, frames, bins)`."""
    window = hann_window(config, spectrum.device)
    frames = torch.fft.irfft(spectrum, n=config.window_length) * window
    mask = frames.new_ones(frames.shape[:2]) if frame_mask is None else frame_mask.to(frames.dtype)
    envelope = mask[:, :, None] * window.pow(2)
    return _overlap_add(frames * mask[:, :, None], config) / _overlap_add(envelope, config).clamp(min=1e-3)


def _overlap_add(frames: Tensor, config: SoundStreamConfig) -> Tensor:
    """Overlap-add windows `(batch, frames, window_length)`, without the excess at both ends."""
    window_length, hop_length = config.window_length, config.hop_length
    num_samples = (frames.shape[1] - 1) * hop_length + window_length
    summed = F.fold(frames.transpose(1, 2), (1, num_samples), (1, window_length), stride=(1, hop_length))
    excess = (window_length - hop_length) // 2
    return summed[:, 0, 0, excess : num_samples - excess]


class CausalConvNeXtBlock(nn.Module):
    """Depthwise convolution over past frames, then a two-layer network on each frame, added to the input.

    With `centred`, the convolution sees as many frames after the current one as before it.
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

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform `(batch, frames, hidden_size)` to the same shape."""
        padding = (self.depthwise.kernel_size[0] - 1 - self.ahead, self.ahead)
        mixed = self.depthwise(F.pad(hidden_states.transpose(1, 2), padding)).transpose(1, 2)
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
        """Logarithm of the magnitude, and phase, of each window: twice `(batch, frames, bins)`, float32."""
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
        """Synthesize with consistent phases, estimated from the initial `phase`.

        The estimation is fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013) with `config.phase_iterations`
        iterations.
        """
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
