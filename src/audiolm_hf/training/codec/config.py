# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configuration of the codec training."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.settings import (
    FILLED,
    Count,
    CountOrNone,
    InputPath,
    LearningRate,
    NotNegative,
    Seconds,
    Settings,
    Share,
)
from audiolm_hf.training.config import CropTrainingConfig, Warmup, check_model_keys, check_steps, model_keys, warmup_of


@dataclass
class DiscriminatorConfig(Settings):
    """Configuration of the discriminators and the adversarial losses."""

    start_step: CountOrNone | None = None  # first adversarial step; `None` trains without discriminators
    # window lengths of the spectral discriminators in samples, one for each
    window_lengths: list[Count] = field(default_factory=lambda: [2048, 1024, 512, 256, 128])
    # downsampling factors of the waveform discriminators, one for each
    downsamplings: list[Count] = field(default_factory=lambda: [1, 2, 4])
    num_channels: Count = 32  # channels of the first convolutions
    learning_rate: LearningRate = 3e-4  # learning rate of the discriminators
    update_probability: Share = 2 / 3  # probability that a step updates the discriminators
    # norm of the adversarial loss's gradient at the waveform, relative to that of the reconstruction losses
    adversarial_weight: NotNegative = 0.1
    # norm of the feature matching loss's gradient at the waveform, relative to that of the reconstruction losses
    feature_weight: NotNegative = 0.3
    warmup_steps: Count = 200  # steps over which both weights rise from 0


@dataclass(kw_only=True)
class CodecTrainingConfig(CropTrainingConfig):
    """Configuration of the codec training.

    The output folder has checkpoints, samples, the metrics in `log.jsonl`, and the codec in `final`.
    """

    # fields of [`SoundStreamConfig`] that differ from their defaults
    codec: dict[str, Any] = field(default_factory=dict)
    initial_weights: InputPath | None = None  # folder of a codec to start from; random weights by default
    train_decoder_only: bool = False  # freeze the encoder and the codebooks, so that the codes do not change
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)  # the discriminators
    max_steps: Count = 10000  # number of training steps
    decay_steps: CountOrNone = 2000  # last steps, in which the learning rate decays to 0 along a cosine
    warmup_steps: Warmup = 200.0
    learning_rate: LearningRate = 5e-4
    # window lengths of the mel loss in samples
    mel_window_lengths: Annotated[list[Count], FILLED] = field(default_factory=lambda: [2048, 1024, 512, 256, 128])
    # mel bands of the mel loss at each of these window lengths
    mel_bands: Annotated[list[Count], FILLED] = field(default_factory=lambda: [160, 80, 40, 20, 10])
    mel_weight: NotNegative = 15.0  # weight of the mel loss
    waveform_weight: NotNegative = 2.0  # weight of the mean absolute difference of waveforms
    commitment_weight: NotNegative = 0.25  # weight of the commitment loss
    loudness_weight: NotNegative = 0.0  # weight of [`LoudnessLoss`]; 0 disables it
    envelope_weight: NotNegative = 0.0  # weight of [`EnvelopeCorrelationLoss`]; 0 disables it
    # weight of the loss on the magnitudes that an iSTFT decoder predicts, see [`MagnitudeLoss`], or on those of a
    # harmonic decoder's output
    magnitude_weight: NotNegative = 0.0
    # weight of the losses on the pitch that a harmonic decoder predicts, see [`PitchLoss`]. If it is above 0, the
    # decoder is trained with the pitch of the recordings, measured by Praat.
    pitch_weight: NotNegative = 0.0
    # number of leading levels to train and validate; all by default. The other levels have to be trained afterwards.
    num_codebooks: Count | None = None
    # first step with the quantizer. Training the encoder and decoder without it first improves the initialization of
    # the codebooks.
    quantizer_start_step: CountOrNone = 400
    codebook_init_crops: Count = 256  # number of crops for the k-means that initializes the codebooks at that step
    eval_steps: Count = 1000  # steps between validations
    validation_crops: Count = 16  # number of validation crops
    validation_crop_length_s: Seconds = 4.0  # length of the validation crops in seconds
    save_steps: Count = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        # The other values of a trained codec's configuration are only known when it is loaded.
        build = None if self.initial_weights else partial(SoundStreamConfig, **self.codec)
        check_model_keys("codec", self.codec, model_keys(SoundStreamConfig), build)
        if len(self.mel_window_lengths) != len(self.mel_bands):
            counts = f"{len(self.mel_window_lengths)} and mel_bands {len(self.mel_bands)}"
            raise ValueError(f"mel_window_lengths has {counts} values; give as many.")
        warmup = warmup_of(self.warmup_steps, self.max_steps) if self.warmup_steps else 0
        if self.decay_steps + warmup > self.max_steps:
            raise ValueError(
                f"warmup_steps + decay_steps is {warmup + self.decay_steps}, more than max_steps={self.max_steps}."
            )
        check_steps(self.max_steps, {"discriminator.start_step": self.discriminator.start_step}, starts=True)
        if self.train_decoder_only and self.initial_weights is None:
            raise ValueError("train_decoder_only needs a trained encoder; give its folder as initial_weights.")
