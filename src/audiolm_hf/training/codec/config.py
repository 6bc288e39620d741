# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Everything that can be set in a codec training, as its YAML file holds it; `codec` is what runs it."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.settings import (
    BatchSize,
    Count,
    CountOrNone,
    Decay,
    InputPath,
    LearningRate,
    NotNegative,
    OutputPath,
    Positive,
    Seconds,
    Seed,
    Settings,
    Share,
    Use,
)
from audiolm_hf.training.config import AudioDataConfig, check_model_keys, model_keys
from audiolm_hf.training.tracking import Tracker


@dataclass
class DiscriminatorConfig(Settings):
    """The discriminators and their part in the loss.

    Args:
        start_step (`int`, *optional*): first adversarial step; `None` trains without discriminators.
        window_lengths (`list[int]`): samples, one spectral discriminator each.
        downsamplings (`list[int]`): factors, one waveform discriminator each.
        num_channels (`int`): channels of the first convolutions.
        learning_rate (`float`): of the discriminators.
        update_probability (`float`): share of the steps in which they learn.
        adversarial_weight, feature_weight (`float`): size of the gradients at the waveform, relative to that of the
            reconstruction losses.
        warmup_steps (`int`): steps over which both weights rise from 0.
    """

    start_step: CountOrNone | None = None
    window_lengths: list[Count] = field(default_factory=lambda: [2048, 1024, 512, 256, 128])
    downsamplings: list[Count] = field(default_factory=lambda: [1, 2, 4])
    num_channels: Count = 32
    learning_rate: LearningRate = 3e-4
    update_probability: Share = 2 / 3
    adversarial_weight: NotNegative = 0.1
    feature_weight: NotNegative = 0.3
    warmup_steps: Count = 200


@dataclass
class CodecTrainingConfig(Settings):
    """One codec training, as its YAML file holds it.

    Args:
        output_folder (`str`): checkpoints, samples, figures and, in `final`, the trained codec.
        data ([`AudioDataConfig`]): recordings.
        codec (`dict`): fields of [`SoundStreamConfig`] that differ from their defaults.
        initial_codec (`str`, *optional*): folder of a codec to start from instead of random weights.
        train_decoder_only (`bool`): leave encoder and codebooks, and thus all codes, as they are.
        max_steps (`int`): training steps in all.
        decay_steps (`int`): last steps, over which the learning rate falls to 0 along a cosine.
        warmup_steps (`int`): first steps, over which it rises from 0.
        learning_rate (`float`): highest learning rate (AdamW, betas 0.8 and 0.99).
        weight_decay (`float`): of AdamW.
        batch_size (`int`): crops per step, over all processes.
        crop_length_s (`float`): seconds.
        gain_db (`float`): crops are made louder or quieter by up to so many decibels.
        mel_window_lengths, mel_bands (`list[int]`): scales of the mel loss.
        mel_weight, waveform_weight, commitment_weight, codebook_weight (`float`): weights of the losses.
        loudness_weight, envelope_weight (`float`): weights of the losses that follow a listener, see
            `perceptual_losses`; 0 leaves them out.
        magnitude_weight (`float`): weight of the loss on the magnitudes that an iSTFT decoder holds, see
            [`MagnitudeLoss`], or on those of a harmonic decoder's output.
        pitch_weight (`float`): weight of the losses of the pitch that a harmonic decoder finds, see [`PitchLoss`];
            while it is above 0, the decoder sounds at the pitch of the recordings, as Praat measures it.
        pitch_folder (`str`, *optional*): where measured pitch is kept, for any number of trainings; `pitch` in the
            output folder by default.
        num_codebooks (`int`, *optional*): leading levels that are trained, and validated; all of them by default. The
            others have to be trained after.
        quantizer_start_step (`int`): steps before it train encoder and decoder without quantizer, so that the
            codebooks are placed among latents that mean something.
        codebook_init_crops (`int`): crops whose latents place the codebooks by k-means at that step.
        max_gradient_norm (`float`): gradients are scaled down to it.
        validation_steps (`int`): steps between validations.
        validation_crops, validation_crop_length_s: how much is validated on.
        checkpoint_steps (`int`): steps between checkpoints.
        mixed_precision (`str`): `"bf16"` or `"no"`.
        report_to (`str`): where figures go besides `log.jsonl`: `"none"`, `"tensorboard"`, `"wandb"` or `"trackio"`.
        seed (`int`): of everything random.
    """

    output_folder: OutputPath
    data: AudioDataConfig
    codec: dict[str, Any] = field(default_factory=dict)
    initial_codec: InputPath | None = None
    train_decoder_only: bool = False
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    max_steps: Count = 10000
    decay_steps: CountOrNone = 2000
    warmup_steps: CountOrNone = 200
    learning_rate: LearningRate = 5e-4
    weight_decay: Decay = 0.01
    batch_size: BatchSize = 8
    crop_length_s: Seconds = 1.0
    gain_db: Annotated[float, Within(0, 60)] = 6.0
    mel_window_lengths: list[Count] = field(default_factory=lambda: [2048, 1024, 512, 256, 128])
    mel_bands: list[Count] = field(default_factory=lambda: [160, 80, 40, 20, 10])
    mel_weight: NotNegative = 15.0
    waveform_weight: NotNegative = 2.0
    commitment_weight: NotNegative = 0.25
    codebook_weight: NotNegative = 1.0
    loudness_weight: NotNegative = 0.0
    envelope_weight: NotNegative = 0.0
    magnitude_weight: NotNegative = 0.0
    pitch_weight: NotNegative = 0.0
    pitch_folder: OutputPath | None = None
    num_codebooks: Count | None = None
    quantizer_start_step: CountOrNone = 400
    codebook_init_crops: Count = 256
    max_gradient_norm: Positive = 1.0
    validation_steps: Count = 1000
    validation_crops: Count = 16
    validation_crop_length_s: Seconds = 4.0
    checkpoint_steps: Count = 500
    mixed_precision: Literal["bf16", "no"] = "bf16"
    report_to: Annotated[Tracker, Use.FREE] = "none"
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_model_keys("codec", self.codec, model_keys(SoundStreamConfig))
        if self.decay_steps + self.warmup_steps > self.max_steps:
            raise ValueError(
                f"warmup_steps + decay_steps is {self.warmup_steps + self.decay_steps}, more than "
                f"max_steps={self.max_steps}; lower the one or raise the other."
            )
        if self.train_decoder_only and self.initial_codec is None:
            raise ValueError("train_decoder_only needs a trained encoder; give its folder as initial_codec.")


__all__ = ["CodecTrainingConfig", "DiscriminatorConfig"]
