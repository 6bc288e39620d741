# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configuration of SoundStream, the codec of this package."""

import math
from typing import Any, Literal

from .config_values_audiolm import COUNT, LAYERS, LEVELS, RATE, SHARE, Within
from .strict_config_audiolm import StrictConfig, checked, strict

_F0 = Within(1, 384_000)


@strict
class SoundStreamConfig(StrictConfig):
    """Configuration of [`SoundStreamModel`], a causal neural codec with a residual vector quantizer.

    Args:
        sampling_rate (`int`, defaults to 16000): samples per second of the audio, Hz.
        strides (`list[int]`, defaults to `[2, 4, 5, 8]`): their product is `hop_length`, samples per frame.
        num_codebooks (`int`, defaults to 12): levels of the residual quantizer (Q of the paper).
        codebook_size (`int`, defaults to 1024): entries of each codebook (N of the paper).
        codebook_dim (`int`, defaults to 32): width of the space in which the quantizer works.
        encoder_type (`"spectral"` or `"convolutional"`, defaults to `"spectral"`): short-time spectra and causal
            ConvNeXt blocks at the frame rate; or strided causal convolutions on the waveform (SoundStream).
        decoder_type (`"istft"`, `"harmonic"` or `"mirrored"`, defaults to `"istft"`): causal ConvNeXt blocks at the
            frame rate and an inverse short-time transform; such blocks for pitch and filter of harmonics and noise
            (for voices); or transposed convolutions that mirror the encoder (SoundStream).
        hidden_size (`int`, defaults to 256): width of the ConvNeXt blocks, and of the latent before the quantizer.
        intermediate_size (`int`, defaults to 768): inner width of the ConvNeXt blocks.
        num_encoder_layers, num_decoder_layers (`int`, default to 6 and 8): ConvNeXt blocks.
        kernel_size (`int`, defaults to 7): frames that a ConvNeXt block sees, the last of which is the current one.
        window_length (`int`, defaults to 1280): samples of the analysis and synthesis windows (not mirrored).
        num_channels (`int`, defaults to 32): channels of the first convolution (convolutional, mirrored).
        codebook_decay (`float`, defaults to 0.99): decay of the moving averages (SoundStream).
        dead_code_threshold (`float`, defaults to 0.1): a code whose moving use is below this share of its level's mean
            is replaced by an encoder output.
        quantizer_dropout (`float`, defaults to 0.25): share of training examples that use a random number of levels.
        low_band_dim (`int`, defaults to 0): lowest MDCT coefficients of each frame, `frame_rate / 2` Hz wide each,
            that are coded as they are, including the phase, in addition to the latent.
        low_band_start_level (`int`, defaults to 4): first level that codes them; those before, which the coarse stage
            predicts, code the latent alone.
        low_band_scale (`float`, defaults to 40.0): weight of the coefficients in the choice of codes.
        phase_iterations (`int`, defaults to 0): rounds of fast Griffin-Lim in `decode` where no low band is coded, for
            sounds that hold their pitch, such as a piano's (istft only). A decoded sample then depends on all frames.
        num_lookahead_layers (`int`, defaults to 2): first blocks of the decoder that see `(kernel_size - 1) // 2`
            frames after the current one; this and what follows is for the harmonic decoder only.
        lowest_f0, highest_f0 (`float`, default to 55.0 and 520.0): range of the fundamental frequency, Hz.
        num_pitch_bins (`int`, defaults to 160): bins of the fundamental frequency, in equal steps of pitch.
        num_noise_bands (`int`, defaults to 80): bands, on a mel scale, in which the share of noise is set.
        num_phase_bands (`int`, defaults to 40): points, evenly from 0 Hz to half the sampling rate, between which the
            phase of the filter is interpolated.
    """

    model_type = "soundstream"

    sampling_rate: int = checked(16000, RATE, trained=True)
    strides: list[int] | tuple[int, ...] = checked((2, 4, 5, 8), Within(1, 4096, whole=True), trained=True)
    num_codebooks: int = checked(12, LEVELS, trained=True)
    codebook_size: int = checked(1024, COUNT, trained=True)
    codebook_dim: int = checked(32, COUNT, trained=True)
    encoder_type: Literal["spectral", "convolutional"] = checked("spectral", trained=True)
    decoder_type: Literal["istft", "harmonic", "mirrored"] = checked("istft", trained=True)
    hidden_size: int = checked(256, COUNT, trained=True)
    intermediate_size: int = checked(768, COUNT, trained=True)
    num_encoder_layers: int = checked(6, LAYERS, trained=True)
    num_decoder_layers: int = checked(8, LAYERS, trained=True)
    kernel_size: int = checked(7, Within(1, 4096, whole=True), trained=True)
    window_length: int = checked(1280, Within(2, 2**20, whole=True), trained=True)
    num_channels: int = checked(32, COUNT, trained=True)
    codebook_decay: float | int = checked(0.99, SHARE)
    dead_code_threshold: float | int = checked(0.1, SHARE)
    quantizer_dropout: float | int = checked(0.25, SHARE)
    low_band_dim: int = checked(0, Within(0, 2**20, whole=True), trained=True)
    low_band_start_level: int = checked(4, Within(0, 256, whole=True), trained=True)
    low_band_scale: float | int = checked(40.0, Within(0, 1e6, above=True), trained=True)
    phase_iterations: int = checked(0, Within(0, 1000, whole=True))
    num_lookahead_layers: int = checked(2, LAYERS, trained=True)
    lowest_f0: float | int = checked(55.0, _F0, trained=True)
    highest_f0: float | int = checked(520.0, _F0, trained=True)
    num_pitch_bins: int = checked(160, Within(2, 2**12, whole=True), trained=True)
    num_noise_bands: int = checked(80, Within(1, 2**12, whole=True), trained=True)
    num_phase_bands: int = checked(40, Within(1, 2**12, whole=True), trained=True)
    initializer_range: float | int = checked(0.02, SHARE)

    def __post_init__(self, **kwargs: Any) -> None:
        self.strides = list(self.strides)
        quantizer_type = kwargs.pop("quantizer_type", "ema")  # of older files
        if quantizer_type != "ema":
            raise ValueError(
                f"SoundStreamConfig.quantizer_type is {quantizer_type!r}, which this version no longer has; use the "
                "version that the codec was trained with, or train it again without this key."
            )
        super().__post_init__(**kwargs)

    def validate_geometry(self) -> None:
        """Check that the windows fit the hop."""
        excess = self.window_length - self.hop_length
        if self.encoder_type == "spectral" or self.decoder_type != "mirrored":
            if excess <= 0 or excess % 2:
                raise ValueError(
                    f"SoundStreamConfig.window_length is {self.window_length} and hop_length {self.hop_length} (the "
                    "product of strides); window_length - hop_length must be positive and even."
                )

    def validate_phase(self) -> None:
        """Check that there are phases to change."""
        if self.phase_iterations and self.decoder_type != "istft":
            raise ValueError(
                f"SoundStreamConfig.phase_iterations is {self.phase_iterations} with decoder_type "
                f'{self.decoder_type!r}; it can be 0, and above 0 with "istft" only.'
            )

    def validate_pitch(self) -> None:
        """Check that a harmonic decoder has a range of pitch and the layers that look ahead."""
        if self.decoder_type != "harmonic":
            return
        if not self.lowest_f0 < self.highest_f0 <= self.sampling_rate / 4:
            raise ValueError(
                f"SoundStreamConfig.lowest_f0 is {self.lowest_f0} and highest_f0 {self.highest_f0}; give a range that "
                f"rises and ends at {self.sampling_rate / 4:g} Hz (sampling_rate / 4) or below."
            )
        layers = Within(0, self.num_decoder_layers, whole=True)
        layers.check("SoundStreamConfig.num_lookahead_layers", self.num_lookahead_layers, " (num_decoder_layers)")

    def validate_low_band(self) -> None:
        """Check that the low band fits the frame, the quantizer and its levels."""
        if self.low_band_dim == 0:
            return
        width = Within(0, self.hop_length, whole=True)
        width.check("SoundStreamConfig.low_band_dim", self.low_band_dim, " (hop_length)")
        levels = Within(0, self.num_codebooks - 1, whole=True)
        levels.check("SoundStreamConfig.low_band_start_level", self.low_band_start_level, " (num_codebooks - 1)")

    @property
    def hop_length(self) -> int:
        """Audio samples per frame of codes."""
        return math.prod(self.strides)

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second, Hz."""
        return self.sampling_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits per second of all codebooks together."""
        return self.frame_rate * self.num_codebooks * math.log2(self.codebook_size)
