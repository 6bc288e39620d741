# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Trains the codec, adversarially if asked, on random crops; stops and resumes at any step with the same result.

Everything random in step n (crops, quantizer dropout, replaced codes) follows from the seed and n, so a checkpoint
holds weights and optimizers only. Losses: see `codec_losses`. The discriminators start at `adversarial_start_step`
and are updated with a probability, as in EnCodec (arXiv 2210.13438, section 3.4).
"""

import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile as sf
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor
from tqdm import tqdm
from transformers.utils import logging

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data.audio import AudioCropDataset, AudioSource, load_audio_segments
from audiolm_hf.evaluation.signal import mel_distance, si_sdr
from audiolm_hf.evaluation.spectrogram import save_spectrograms
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.training.checkpointing import find_checkpoints, load_training_state, save_training_state
from audiolm_hf.training.codec_losses import (
    MultiScaleMelLoss,
    adversarial_loss,
    balanced_gradient,
    discriminator_loss,
    feature_matching_loss,
)
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.discriminators import CodecDiscriminator
from audiolm_hf.training.perceptual_losses import EnvelopeCorrelationLoss, LoudnessLoss

logger = logging.get_logger(__name__)

NUM_SAMPLES_SHOWN = 3  # validation clips written as audio and spectrogram


@dataclass
class DiscriminatorConfig:
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

    start_step: int | None = None
    window_lengths: list[int] = field(default_factory=lambda: [2048, 1024, 512, 256, 128])
    downsamplings: list[int] = field(default_factory=lambda: [1, 2, 4])
    num_channels: int = 32
    learning_rate: float = 3e-4
    update_probability: float = 2 / 3
    adversarial_weight: float = 0.1
    feature_weight: float = 0.3
    warmup_steps: int = 200


@dataclass
class CodecTrainingConfig:
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
        quantizer_start_step (`int`): steps before it train encoder and decoder without quantizer, so that the
            codebooks are placed among latents that mean something.
        codebook_init_crops (`int`): crops whose latents place the codebooks by k-means at that step.
        max_gradient_norm (`float`): gradients are scaled down to it.
        validation_steps (`int`): steps between validations.
        validation_crops, validation_crop_length_s: how much is validated on.
        checkpoint_steps (`int`): steps between checkpoints.
        mixed_precision (`str`): `"bf16"` or `"no"`.
        seed (`int`): of everything random.
    """

    output_folder: str
    data: AudioDataConfig
    codec: dict[str, Any] = field(default_factory=dict)
    initial_codec: str | None = None
    train_decoder_only: bool = False
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    max_steps: int = 10000
    decay_steps: int = 2000
    warmup_steps: int = 200
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    batch_size: int = 8
    crop_length_s: float = 1.0
    gain_db: float = 6.0
    mel_window_lengths: list[int] = field(default_factory=lambda: [2048, 1024, 512, 256, 128])
    mel_bands: list[int] = field(default_factory=lambda: [160, 80, 40, 20, 10])
    mel_weight: float = 15.0
    waveform_weight: float = 2.0
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    loudness_weight: float = 0.0
    envelope_weight: float = 0.0
    quantizer_start_step: int = 400
    codebook_init_crops: int = 256
    max_gradient_norm: float = 1.0
    validation_steps: int = 1000
    validation_crops: int = 16
    validation_crop_length_s: float = 4.0
    checkpoint_steps: int = 500
    mixed_precision: Literal["bf16", "no"] = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.decay_steps + self.warmup_steps > self.max_steps:
            raise ValueError(
                f"warmup_steps + decay_steps is {self.warmup_steps + self.decay_steps}, more than "
                f"max_steps={self.max_steps}; lower the one or raise the other."
            )
        if self.train_decoder_only and self.initial_codec is None:
            raise ValueError("train_decoder_only needs a trained encoder; give its folder as initial_codec.")


def train_codec(config: CodecTrainingConfig) -> Path:
    """Train a codec to the end, resuming from the newest checkpoint in its output folder.

    Args:
        config ([`CodecTrainingConfig`]): the training.

    Returns:
        `Path`: folder of the trained codec.
    """
    return CodecTrainer(config).train()


class CodecTrainer:
    """The parts of one codec training: model, discriminators, optimizers, data and figures."""

    def __init__(self, config: CodecTrainingConfig) -> None:
        self.config = config
        self.folder = Path(config.output_folder)
        torch.manual_seed(config.seed)
        self.codec = self._build_codec()
        self.accelerator = _accelerator(config, self.codec)
        self.reconstruction_weights = {
            "mel": config.mel_weight,
            "waveform": config.waveform_weight,
            "loudness": config.loudness_weight,
            "envelope": config.envelope_weight,
        }
        self.reconstruction_losses = self._build_reconstruction_losses()
        settings = config.discriminator
        self.discriminator = CodecDiscriminator(settings.window_lengths, settings.downsamplings, settings.num_channels)
        if config.train_decoder_only:
            self.codec.encoder.requires_grad_(False)
            self.codec.quantizer.requires_grad_(False)
        trained = self.codec.decoder if config.train_decoder_only else self.codec
        self.optimizer: Any = torch.optim.AdamW(
            trained.parameters(), config.learning_rate, (0.8, 0.99), weight_decay=config.weight_decay
        )
        self.discriminator_optimizer: Any = torch.optim.AdamW(
            self.discriminator.parameters(), settings.learning_rate, (0.8, 0.99), weight_decay=config.weight_decay
        )
        self.codec, self.discriminator, self.optimizer, self.discriminator_optimizer = self.accelerator.prepare(
            self.codec, self.discriminator, self.optimizer, self.discriminator_optimizer
        )
        source = AudioSource(config.data.train_paths, self.sampling_rate)
        crop_length = round(config.crop_length_s * self.sampling_rate)
        self.crops = AudioCropDataset(source, crop_length, config.seed)
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.step = 0

    @property
    def _model(self) -> SoundStreamModel:
        return self.accelerator.unwrap_model(self.codec)

    @property
    def sampling_rate(self) -> int:
        """Of the codec, Hz."""
        return self._model.config.sampling_rate

    def _build_codec(self) -> SoundStreamModel:
        if self.config.initial_codec is None:
            return SoundStreamModel(SoundStreamConfig(**self.config.codec))
        return SoundStreamModel.from_pretrained(self.config.initial_codec, dtype=torch.float32)

    def _build_reconstruction_losses(self) -> dict[str, torch.nn.Module]:
        """The losses whose weight is not 0."""
        config, rate = self.config, self.codec.config.sampling_rate
        losses = {
            "mel": MultiScaleMelLoss(rate, config.mel_window_lengths, config.mel_bands),
            "waveform": torch.nn.L1Loss(),
            "loudness": LoudnessLoss(rate),
            "envelope": EnvelopeCorrelationLoss(rate),
        }
        return {
            name: loss.to(self.accelerator.device)
            for name, loss in losses.items()
            if self.reconstruction_weights[name]
        }

    def train(self) -> Path:
        """Run the remaining steps and save the codec in `final`."""
        self._resume()
        progress = tqdm(
            total=self.config.max_steps,
            initial=self.step,
            desc="codec",
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        while self.step < self.config.max_steps:
            self._train_step()
            self.step += 1
            progress.update()
            if self.step % self.config.validation_steps == 0 or self.step == self.config.max_steps:
                progress.set_postfix(self._validate())
            if self.step % self.config.checkpoint_steps == 0 or self.step == self.config.max_steps:
                self._save()
        progress.close()
        if self.accelerator.is_main_process:
            self._model.save_pretrained(self.folder / "final")
        return self.folder / "final"

    def _resume(self) -> None:
        checkpoints = find_checkpoints(self.folder / "checkpoints")
        if checkpoints:
            self.step = load_training_state(checkpoints[-1], self._modules(), self._optimizers())["step"]
            logger.info(f"Going on from step {self.step} ({checkpoints[-1]}).")

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"codec": self._model, "discriminator": self.accelerator.unwrap_model(self.discriminator)}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "optimizer": self.optimizer.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer.optimizer,
        }

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_training_state(
                self.folder / "checkpoints", self.step, self._modules(), self._optimizers(), asdict(self.config)
            )
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _initialize_codebooks(self) -> None:
        self._model.eval()
        # Crops past the end of the training's own, so that none is seen twice.
        first = self.config.max_steps
        size = self.config.batch_size
        latents = [
            self._model.encoder(self.crops.batch(first + index, size)["input_values"].to(self.accelerator.device))
            for index in range(max(1, self.config.codebook_init_crops // size))
        ]
        self._model.quantizer.initialize(torch.cat(latents).float())

    def _learning_rate(self) -> float:
        config = self.config
        remaining = config.max_steps - self.step
        if self.step < config.warmup_steps:
            return config.learning_rate * (self.step + 1) / config.warmup_steps
        if remaining < config.decay_steps:
            return config.learning_rate * 0.5 * (1 - np.cos(np.pi * remaining / config.decay_steps))
        return config.learning_rate

    def _draw_batch(self) -> Tensor:
        """This process's crops of the current step, `(batch, num_samples)`, at random gains."""
        batch = self.crops.batch(self.step, self.config.batch_size)["input_values"]
        gain_db = self.config.gain_db * (2 * torch.rand(len(batch), 1) - 1)
        batch = batch * 10 ** (gain_db / 20)
        # Louder crops must not clip.
        batch = batch / batch.abs().amax(1, keepdim=True).clamp(min=1.0)
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        return batch[rank::count].to(self.accelerator.device)

    def _train_step(self) -> None:
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        target = self._draw_batch()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        quantized = self.config.initial_codec is not None or self.step >= self.config.quantizer_start_step
        if quantized and self._model.quantizer.needs_initialization:
            self._initialize_codebooks()
        self.codec.train()
        if self.config.train_decoder_only:
            self._model.quantizer.eval()
        with self.accelerator.autocast():
            output = self.codec(target, num_codebooks=None if quantized else 0)
        audio_values = output.audio_values.float()
        self._record(commitment=output.commitment_loss)
        gradient = self._gradient(audio_values, target, self._reconstruction_loss(audio_values, target))
        quantization = (
            self.config.commitment_weight * output.commitment_loss + self.config.codebook_weight * output.codebook_loss
        )
        # The product's gradient at the waveform is `gradient`: one backward pass serves all losses.
        self.accelerator.backward((audio_values * gradient).sum() + quantization)
        self.accelerator.clip_grad_norm_(self.codec.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _reconstruction_loss(self, audio_values: Tensor, target: Tensor) -> Tensor:
        losses = {name: loss(audio_values, target) for name, loss in self.reconstruction_losses.items()}
        self._record(**losses)
        return torch.stack([self.reconstruction_weights[name] * value for name, value in losses.items()]).sum()

    def _gradient(self, audio_values: Tensor, target: Tensor, reconstruction: Tensor) -> Tensor:
        """Gradient of all losses at the waveform; teaches the discriminators on the way."""
        settings = self.config.discriminator
        if settings.start_step is None or self.step < settings.start_step:
            return balanced_gradient(audio_values, reconstruction, {}, {})[0]
        if torch.rand(()) < settings.update_probability:
            self._train_discriminator(audio_values.detach(), target)
        with self.accelerator.autocast():
            fake_scores, fake_features = self.discriminator(audio_values)
            with torch.no_grad():
                _, real_features = self.discriminator(target)
        losses = {
            "adversarial": adversarial_loss(fake_scores),
            "feature": feature_matching_loss(real_features, fake_features),
        }
        self._record(**losses)
        rise = min(1.0, (self.step - settings.start_step + 1) / settings.warmup_steps)
        weights = {"adversarial": settings.adversarial_weight * rise, "feature": settings.feature_weight * rise}
        return balanced_gradient(audio_values, reconstruction, losses, weights)[0]

    def _train_discriminator(self, audio_values: Tensor, target: Tensor) -> None:
        with self.accelerator.autocast():
            real_scores, _ = self.discriminator(target)
            fake_scores, _ = self.discriminator(audio_values)
            loss = discriminator_loss(real_scores, fake_scores)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.discriminator.parameters(), self.config.max_gradient_norm)
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        self._record(discriminator=loss)

    def _record(self, **losses: Tensor) -> None:
        for name, value in losses.items():
            self.figures[name].append(float(value.detach()))

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Reconstruct the validation crops; append the figures to `log.jsonl` and write a few samples."""
        if not self.accelerator.is_main_process:
            return {}
        figures = {name: float(np.mean(values)) for name, values in self.figures.items() if values}
        self.figures.clear()
        model = self._model.eval()
        pairs = []
        codes = []
        if self.config.data.validation:
            source = AudioSource(self.config.data.validation_paths, self.sampling_rate)
            segments = load_audio_segments(source, self.config.validation_crop_length_s, self.config.validation_crops)
            for segment in segments:
                values = torch.from_numpy(segment)[None].to(self.accelerator.device)
                audio_codes = model.encode(values).audio_codes
                decoded = model.decode(audio_codes, num_samples=len(segment)).audio_values[0].cpu().numpy()
                pairs.append((segment, decoded))
                codes.append(audio_codes[0].cpu())
            figures |= _validation_figures(pairs, torch.cat(codes, dim=1), self.sampling_rate)
            self._write_samples(pairs[:NUM_SAMPLES_SHOWN])
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.step, "time": time.time(), **figures}) + "\n")
        return {name: round(value, 3) for name, value in figures.items() if name in ("mel", "valid_mel_db")}

    def _write_samples(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        folder = self.folder / "samples" / f"step-{self.step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, (original, decoded) in enumerate(pairs):
            sf.write(folder / f"{index}-original.wav", original, self.sampling_rate)
            sf.write(folder / f"{index}-decoded.wav", np.clip(decoded, -1, 1), self.sampling_rate)
            save_spectrograms({"original": original, "decoded": decoded}, self.sampling_rate, folder / f"{index}.png")


def _accelerator(config: CodecTrainingConfig, codec: SoundStreamModel) -> Accelerator:
    """Set up for one process or for several, on a CPU too."""
    settings = DistributedDataParallelKwargs(
        # The quantizer keeps its codebooks equal by itself, and copies made in place would spoil backward passes.
        broadcast_buffers=False,
        # The first steps leave out the quantizer, which has parameters in every level then.
        find_unused_parameters=codec.config.quantizer_type == "factorized",
    )
    return Accelerator(
        mixed_precision=config.mixed_precision, cpu=not torch.accelerator.is_available(), kwargs_handlers=[settings]
    )


def _validation_figures(
    pairs: list[tuple[np.ndarray, np.ndarray]], codes: Tensor, sampling_rate: int
) -> dict[str, float]:
    figures = {
        "valid_mel_db": float(
            np.mean([mel_distance(original, decoded, sampling_rate) for original, decoded in pairs])
        ),
        "valid_si_sdr": float(np.mean([si_sdr(original, decoded) for original, decoded in pairs])),
    }
    for level, level_codes in enumerate(codes):
        figures[f"codes_used_{level}"] = len(level_codes.unique())
    return figures


__all__ = ["CodecTrainer", "CodecTrainingConfig", "DiscriminatorConfig", "train_codec"]
