# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Decoder of the codec for voices: a pulse train at the pitch, plus noise, through a time-varying filter.

Networks at the frame rate predict the filter, the share of noise and the fundamental frequency (F0), from which the
phases of the harmonics follow. The source is that of NSF (arXiv 1904.12088), harmonics and filtered noise are those of
DDSP (arXiv 2001.04643), blocks and overlapping windows those of Vocos (arXiv 2306.00814).

The noise is a function of the sample's position, and the phase has integer steps, so that decoding in windows gives
the same samples as decoding at once.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_audiolm import SoundStreamConfig
from .spectral_codec_audiolm import (
    LOG_MAGNITUDE_LIMIT,
    CausalConvNeXtBlock,
    frame_blocks,
    hann_window,
    inverse_spectrum,
    windowed_spectrum,
)

CYCLE = 2**32  # steps of phase in a period; sums of integers are exact, in windows of any length
HERTZ_STEPS = 2**16  # steps of F0 in a hertz
HIGHEST_HARMONIC = 0.95  # of half the sampling rate
PULSE_LEVEL = 0.7  # power of the pulse train in a window, relative to that of the noise
UNVOICED_HERTZ = 100.0  # placeholder where no frame nearby is voiced; the pulse train is multiplied by 0 there
POWER_FLOOR = 1e-5  # keeps the gradients of square roots finite
PITCH_NEIGHBOURS = 3  # bins on each side of the best one over which F0 is averaged
RANDOM_BITS = 32


class SourceFilter(NamedTuple):
    """Predictions of the decoder for every frame, float32."""

    log_magnitude: Tensor  # (batch, frames, bins), of the filter, natural logarithm
    noise_logits: Tensor  # (batch, frames, num_noise_bands), share of noise in the power
    phase: Tensor  # (batch, frames, num_phase_bands), of the filter, radians
    pitch_logits: Tensor  # (batch, frames, num_pitch_bins + 1), bins of F0, then voicing


@dataclass
class SourceState:
    """State between consecutive windows."""

    frame: int  # frames decoded so far
    f0: Tensor  # (batch, known), F0 in Hz of the last of them
    phase: Tensor  # (batch,), of the pulse train before the next sample, in steps of a cycle
    inputs: list[Tensor]  # of each causal block, from before the next window's frames


class _Past:
    """Inputs of the causal blocks from before a window, and those to keep for the next, which begins at `start`.

    They are `(batch, kernel_size - 1, hidden_size)` for each block in their order; zeros if there are none.
    """

    def __init__(self, inputs: list[Tensor], start: int, kernel_size: int) -> None:
        self.inputs, self.start, self.length = list(inputs), max(0, start), kernel_size - 1
        self.kept: list[Tensor] = []

    def through(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Apply the next block to `hidden (batch, frames, hidden_size)`, after its inputs from before."""
        if not isinstance(block, CausalConvNeXtBlock):
            return block(hidden)
        before = self.inputs.pop(0) if self.inputs else None
        before = hidden.new_zeros(len(hidden), self.length, hidden.shape[2]) if before is None else before
        self.kept.append(torch.cat([before, hidden], 1)[:, self.start : self.start + self.length])
        return block(hidden, before)


class HarmonicDecoder(nn.Module):
    """Filter, noise, phase and F0 of each frame by ConvNeXt blocks; harmonics and noise through that filter."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        size, num_bins = config.hidden_size, config.window_length // 2 + 1
        self.in_proj = nn.Linear(size, size)
        self.blocks = frame_blocks(config, config.num_decoder_layers, config.num_lookahead_layers)
        self.magnitude_proj = nn.Linear(size, num_bins)
        self.noise_proj = nn.Linear(size, config.num_noise_bands)
        self.phase_proj = nn.Linear(size, config.num_phase_bands)
        self.pitch_blocks = nn.ModuleList([CausalConvNeXtBlock(config), nn.LayerNorm(size)])
        self.pitch_proj = nn.Linear(size, config.num_pitch_bins + 1)

    def source_filter(
        self, latents: Tensor, frame_mask: Tensor | None = None, skipped: int = 0, past: _Past | None = None
    ) -> SourceFilter:
        """Predict filter and source from `latents (batch, frames, hidden_size)`, except for `skipped` leading frames.

        Blocks that look ahead need these; the others continue from their `past`, zeros by default.
        """
        hidden = self.in_proj(latents)
        first = 1 + self.config.num_lookahead_layers  # after a norm
        for place, block in enumerate(self.blocks):
            if place == first:
                hidden, frame_mask = hidden[:, skipped:], None if frame_mask is None else frame_mask[:, skipped:]
            # Blocks that look ahead must see zeros after the last frame, in a padded row as in an unpadded one.
            hidden = hidden if frame_mask is None else hidden.where(frame_mask[:, :, None] > 0, 0.0)
            hidden = block(hidden) if past is None or place < first else past.through(block, hidden)
        pitch = hidden
        for block in self.pitch_blocks:
            pitch = block(pitch) if past is None else past.through(block, pitch)
        return SourceFilter(
            self.magnitude_proj(hidden).float().clamp(max=LOG_MAGNITUDE_LIMIT),
            self.noise_proj(hidden).float(),
            self.phase_proj(hidden).float(),
            self.pitch_proj(pitch).float(),
        )

    @torch.no_grad()
    def f0(self, pitch_logits: Tensor) -> Tensor:
        """Return F0 in Hz, `(batch, frames)`, from `SourceFilter.pitch_logits`; 0 where a frame is not voiced."""
        bins, voicing = pitch_logits[..., :-1], pitch_logits[..., -1]
        around = torch.arange(-PITCH_NEIGHBOURS, PITCH_NEIGHBOURS + 1, device=bins.device)
        near = (bins.argmax(-1, keepdim=True) + around).clamp(0, bins.shape[-1] - 1)
        log_f0 = (bins.gather(-1, near).softmax(-1) * pitch_bins(self.config, bins.device).log()[near]).sum(-1)
        return log_f0.exp().where(voicing > 0, 0.0)

    def forward(self, latents: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Decode `(batch, frames, hidden_size)` to `(batch, frames * hop_length)`."""
        found = self.source_filter(latents, frame_mask)
        return self.synthesize(found, self.f0(found.pitch_logits), frame_mask)

    def decode_window(
        self, latents: Tensor, frame_mask: Tensor | None, state: SourceState | None, known: int, frames: int
    ) -> tuple[Tensor, SourceState]:
        """Decode the next `frames` of a recording, given with the frames that they depend on (see `context`).

        `latents (batch, window_frames, hidden_size)` begin `known` frames before the next one; `state` is what the
        previous window returned. Return samples `(batch, window_frames * hop_length)`, of which those of the next
        `frames` are valid, and the state after these.
        """
        skipped, hop_length = max(0, known - self._around()), self.config.hop_length
        known -= skipped
        past = _Past([] if state is None else state.inputs, known + frames - self._around(), self.config.kernel_size)
        found = self.source_filter(latents, frame_mask, skipped, past)
        f0, frame_mask = self.f0(found.pitch_logits), None if frame_mask is None else frame_mask[:, skipped:]
        state = SourceState(0, f0[:, :0], f0.new_zeros(len(f0), dtype=torch.long), []) if state is None else state
        # The F0 of a frame is the same in all windows.
        f0 = torch.cat([state.f0[:, state.f0.shape[1] - known :], f0[:, known:]], dim=1)
        audio_values = self.synthesize(found, f0, frame_mask, state.frame - known, known, state.phase)
        hertz = sample_f0(_hold(f0, frame_mask), hop_length)[:, known : known + frames]
        phase = (state.phase + phase_steps(hertz, self.config.sampling_rate).sum((1, 2))) % CYCLE
        state = SourceState(state.frame + frames, f0[:, : known + frames], phase, past.kept)
        return F.pad(audio_values, (skipped * hop_length, 0)), state

    def synthesize(
        self,
        found: SourceFilter,
        f0: Tensor,
        frame_mask: Tensor | None = None,
        first: int = 0,
        origin: int = 0,
        phase: Tensor | None = None,
    ) -> Tensor:
        """Return samples `(batch, frames * hop_length)` of harmonics and noise through the filter, in float32.

        `f0 (batch, frames)` is in Hz, 0 where there is no pitch. `first` is the index of the first frame in the
        recording, for the noise; `phase (batch,)`, in steps of a cycle, is that before frame `origin`.
        """
        hop_length, rate = self.config.hop_length, self.config.sampling_rate
        batch, frames = f0.shape
        hertz = sample_f0(_hold(f0, frame_mask), hop_length).flatten(1)
        phase = f0.new_zeros(batch, dtype=torch.long) if phase is None else phase
        pulses = pulse_train(hertz, rate, origin * hop_length, phase)
        noise = position_noise(first * hop_length, frames * hop_length, f0.device).expand(batch, -1)
        if frame_mask is not None:
            sample_mask = frame_mask.repeat_interleave(hop_length, dim=1)
            pulses, noise = pulses * sample_mask, noise * sample_mask
        with torch.autocast(f0.device.type, enabled=False):
            spectrum = self._filter(found, (f0 > 0).float()[..., None], pulses, noise)
            return inverse_spectrum(spectrum, self.config, frame_mask)

    def _filter(self, found: SourceFilter, voiced: Tensor, pulses: Tensor, noise: Tensor) -> Tensor:
        """Return spectra of the windows, `(batch, frames, bins)`, of both sources mixed and filtered."""
        config = self.config
        periodic = torch.sigmoid(-(found.noise_logits @ _noise_band_weights(config, voiced.device))) * voiced
        phase = F.interpolate(found.phase, size=periodic.shape[-1], mode="linear", align_corners=True)
        harmonic = (periodic + POWER_FLOOR).sqrt() * voiced * windowed_spectrum(pulses, config)
        source = harmonic * torch.polar(torch.ones_like(phase), phase)
        source = source + (1 - periodic + POWER_FLOOR).sqrt() * windowed_spectrum(noise, config)
        energy = hann_window(config, voiced.device).pow(2).sum()  # of white noise in a window, and so in each bin
        return found.log_magnitude.exp() / energy.sqrt() * source

    def context(self, aligned: bool = False) -> tuple[int, int]:
        """Return how many frames before and after a frame its samples depend on, without the phase of the pulses."""
        ahead = self.config.num_lookahead_layers * ((self.config.kernel_size - 1) // 2)
        return self._around() + ahead, self._around() + ahead

    def _around(self) -> int:
        """Return how many predicted frames before and after a frame its samples depend on."""
        config = self.config
        windows = math.ceil((config.window_length - config.hop_length) / (2 * config.hop_length))
        # To analyse the source, to synthesize, and to replace a low band; F0 is interpolated between two frames.
        return 2 * windows + 1 + 2 * (config.low_band_dim > 0)


def _hold(f0: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Repeat the F0 of the last real frame in the padding."""
    if frame_mask is None:
        return f0
    last = (frame_mask > 0).sum(1, keepdim=True).sub(1).clamp(min=0)
    return f0.where(frame_mask > 0, f0.gather(1, last))


def pitch_bins(config: SoundStreamConfig, device: torch.device) -> Tensor:
    """Return the frequencies of the bins of F0, Hz, `(num_pitch_bins,)`: equal steps of pitch."""
    lowest, highest = math.log(config.lowest_f0), math.log(config.highest_f0)
    return torch.linspace(lowest, highest, config.num_pitch_bins, device=device, dtype=torch.float32).exp()


def _noise_band_weights(config: SoundStreamConfig, device: torch.device) -> Tensor:
    """Return `(num_noise_bands, bins)`: the weight of each band in each bin, linear between the bands' mel centres."""
    top = config.sampling_rate / 2
    num_bins, num_bands = config.window_length // 2 + 1, config.num_noise_bands
    highest = 15 + math.log(top / 1000) * 27 / math.log(6.4) if top > 1000 else top * 3 / 200  # Slaney's mel scale
    mels = torch.linspace(0, highest, num_bands + 2, device=device, dtype=torch.float32)[1:-1]
    centres = torch.where(mels < 15, mels * 200 / 3, 1000 * ((mels - 15) * math.log(6.4) / 27).exp())
    bins = torch.linspace(0, top, num_bins, device=device, dtype=torch.float32).clamp(centres[0], centres[-1])
    right = torch.searchsorted(centres, bins).clamp(min=min(1, num_bands - 1))
    left = (right - 1).clamp(min=0)
    share = (bins - centres[left]) / (centres[right] - centres[left]).clamp(min=1e-6)
    weights = torch.zeros(num_bands, num_bins, device=device, dtype=torch.float32)
    return weights.scatter_add(0, left[None], (1 - share)[None]).scatter_add(0, right[None], share[None])


def sample_f0(f0: Tensor, hop_length: int) -> Tensor:
    """Interpolate F0 in Hz from the frames' centres `(batch, frames)` to samples `(batch, frames, hop_length)`.

    It is linear between voiced frames, that of the nearest voiced frame within a frame of it, and 100 Hz elsewhere.
    """
    place = (torch.arange(hop_length, device=f0.device, dtype=torch.float32) + 0.5) / hop_length - 0.5
    before, after = (-place).clamp(min=0), place.clamp(min=0)

    def interpolate(values: Tensor) -> Tensor:
        padded = torch.cat([values[:, :1], values, values[:, -1:]], dim=1)[..., None]
        return padded[:, :-2] * before + padded[:, 1:-1] * (1 - before - after) + padded[:, 2:] * after

    voiced = interpolate((f0 > 0).float())
    return (interpolate(f0) / voiced.clamp(min=1e-3)).where(voiced > 0.01, UNVOICED_HERTZ)


def phase_steps(hertz: Tensor, sampling_rate: int) -> Tensor:
    """Return the phase increments of samples in steps of a cycle, int64, from their F0 in Hz."""
    return (hertz * HERTZ_STEPS).round().long() * (CYCLE // HERTZ_STEPS) // sampling_rate


def pulse_train(hertz: Tensor, sampling_rate: int, origin: int, phase: Tensor) -> Tensor:
    """Return equally strong harmonics `(batch, num_samples)`, all cosines, as strong as white noise of variance 1.

    `hertz (batch, num_samples)` is the F0 of every sample, and `phase (batch,)`, in steps of a cycle, that before
    sample `origin`.
    """
    total = phase_steps(hertz, sampling_rate).cumsum(1)
    past = total[:, origin - 1 : origin] if origin else torch.zeros_like(total[:, :1])
    steps = (total - past + phase[:, None] + CYCLE // 2) % CYCLE - CYCLE // 2
    angle = steps.float() * (math.pi / CYCLE)  # half the phase, in [-pi / 2, pi / 2)
    num_harmonics = torch.floor(HIGHEST_HARMONIC * 0.5 * sampling_rate / hertz)
    sine, odd = angle.sin(), 2 * num_harmonics + 1
    at_pulse = sine.abs() < 1e-4
    kernel = torch.where(at_pulse, odd, (odd * angle).sin() / sine.where(~at_pulse, 1.0))  # 1 + 2 * sum of cosines
    return (kernel - 1) * (hertz / sampling_rate).sqrt() * PULSE_LEVEL


def position_noise(first: int, num_samples: int, device: torch.device) -> Tensor:
    """Return white noise `(num_samples,)` of variance 1, each sample a hash of its position from `first` on."""
    bits = torch.arange(first, first + num_samples, device=device) % 2**RANDOM_BITS
    for _ in range(2):
        bits = ((bits >> 16) ^ bits) * 0x45D9F3B % 2**RANDOM_BITS  # a product of 32 and 27 bits
    bits = (bits >> 16) ^ bits
    return ((bits >> 8).float() / 2**23 - 1) * math.sqrt(3)  # 24 bits are exact in float32
