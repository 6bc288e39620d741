# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Discriminators of the codec training: waveforms in, scores and features out.

They score complex short-time spectra at several window lengths (EnCodec, arXiv 2210.13438, section 3.4) and the
waveform at several rates (SoundStream, arXiv 2107.03312, section III-E). The trained codec is saved without them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

LEAK = 0.2  # slope of the leaky ReLU on the negative side


class SpectralDiscriminator(nn.Module):
    """2-D convolutions over the real and imaginary parts of a short-time spectrum."""

    window: Tensor

    def __init__(self, window_length: int, num_channels: int) -> None:
        super().__init__()
        self.window_length = window_length
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)
        layers = [nn.Conv2d(2, num_channels, (3, 9), padding=(1, 4))]
        for dilation in (1, 2, 4):
            layers.append(
                nn.Conv2d(
                    num_channels, num_channels, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4)
                )
            )
        layers.append(nn.Conv2d(num_channels, num_channels, (3, 3), padding=(1, 1)))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.head = weight_norm(nn.Conv2d(num_channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, audio_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the score map of waveforms `(batch, num_samples)`, and the features of every layer."""
        length = self.window_length
        spectrum = torch.stft(audio_values.float(), length, length // 4, window=self.window, return_complex=True)
        hidden = torch.view_as_real(spectrum / self.window.sum()).permute(0, 3, 2, 1)  # -> (batch, 2, frames, bins)
        # Cube-root compression raises quiet bins.
        hidden = hidden * (hidden.pow(2).sum(1, keepdim=True) + 1e-8).pow(-1 / 3)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), LEAK)
            features.append(hidden)
        return self.head(hidden), features


class WaveformDiscriminator(nn.Module):
    """Strided grouped convolutions over a waveform that is first downsampled by averaging."""

    def __init__(self, downsampling: int, num_channels: int) -> None:
        super().__init__()
        self.downsampling = downsampling
        channels = num_channels
        layers = [nn.Conv1d(1, channels, 15, padding=7)]
        for _ in range(3):
            groups = channels // 4
            layers.append(nn.Conv1d(channels, channels * 2, 41, stride=4, groups=groups, padding=20))
            channels *= 2
        layers.append(nn.Conv1d(channels, channels, 5, padding=2))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.head = weight_norm(nn.Conv1d(channels, 1, 3, padding=1))

    def forward(self, audio_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the scores over time of waveforms `(batch, num_samples)`, and the features of every layer."""
        hidden = audio_values[:, None]
        if self.downsampling > 1:
            hidden = F.avg_pool1d(hidden, self.downsampling)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), LEAK)
            features.append(hidden)
        return self.head(hidden), features


class CodecDiscriminator(nn.Module):
    """All discriminators of a training as one module; see `DiscriminatorConfig`."""

    def __init__(self, window_lengths: Sequence[int], downsamplings: Sequence[int], num_channels: int) -> None:
        super().__init__()
        if num_channels % 4:
            raise ValueError(f"discriminator num_channels is {num_channels}; give a multiple of 4.")
        spectral = [SpectralDiscriminator(length, num_channels) for length in window_lengths]
        self.discriminators = nn.ModuleList(
            [*spectral, *(WaveformDiscriminator(factor, num_channels) for factor in downsamplings)]
        )

    def forward(self, audio_values: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Return the scores and features of waveforms `(batch, num_samples)`, as lists by discriminator."""
        results = [discriminator(audio_values) for discriminator in self.discriminators]
        return [scores for scores, _ in results], [features for _, features in results]
