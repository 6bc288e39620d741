# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Train the codec on random crops, with or without discriminators; a resumed training gives the same result.

All random numbers of a step (crops, quantizer dropout, replaced codes) follow from the seed and the step. A checkpoint
therefore only has weights, optimizers and metrics that are not logged yet. Every process draws the whole batch and
takes its rows, so that the result does not depend on the number of processes. The discriminators start at `start_step`
and are updated with a probability, as in EnCodec (arXiv 2210.13438, section 3.4).
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor
from tqdm import tqdm

from audiolm_hf.data.audio import AudioCropDataset, AudioSource, FramePitch, load_audio_segments
from audiolm_hf.files import replace_folder
from audiolm_hf.input_checks_audiolm import check_num_codebooks
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.training.checkpointing import (
    append_log,
    load_training_state,
    rewind_log,
    save_training_state,
    stop_diverged,
)
from audiolm_hf.training.codec.config import CodecTrainingConfig
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.codec.initial import start_codec
from audiolm_hf.training.codec.losses import (
    MagnitudeLoss,
    MultiScaleMelLoss,
    OutputMagnitudeLoss,
    PitchLoss,
    adversarial_loss,
    balanced_gradient,
    discriminator_loss,
    feature_matching_loss,
)
from audiolm_hf.training.codec.perceptual_losses import EnvelopeCorrelationLoss, LoudnessLoss
from audiolm_hf.training.codec.pitch import PitchCache
from audiolm_hf.training.codec.validation import validate_codec
from audiolm_hf.training.processes import announce, mean_over_processes, own_rows
from audiolm_hf.training.run import one_run
from audiolm_hf.training.schedule import learning_rate_factor
from audiolm_hf.training.tracking import start_accelerator, stop_tracking

LARGEST_GAIN_DB = 6.0  # of crops, up or down
VOICING_WEIGHT = 5.0  # of the loss of voicing relative to that of the pitch


@one_run("codec", "final")
def train_codec(config: CodecTrainingConfig) -> None:
    """Train a codec, or resume its training; the result is in `output_folder/final`.

    Raises:
        ValueError: `batch_size` is not a multiple of the number of processes, or crops are shorter than a window of a
            loss.
        ImportError: a tracker of `report_to` is not installed.
    """
    CodecTrainer(config).train()


class CodecTrainer:
    """The parts of one codec training: model, discriminators, optimizers, data and metrics."""

    def __init__(self, config: CodecTrainingConfig) -> None:
        self.config = config
        self.folder = Path(config.output_folder)
        torch.manual_seed(config.seed)
        self.codec = start_codec(config.initial_weights, config.codec)
        self.accelerator = _accelerator(config, self.codec)
        self.own_rows = own_rows(config.batch_size)
        self.reconstruction_weights = {
            "mel": config.mel_weight,
            "waveform": config.waveform_weight,
            "loudness": config.loudness_weight,
            "envelope": config.envelope_weight,
            "magnitude": config.magnitude_weight if self.codec.config.decoder_type == "harmonic" else 0.0,
        }
        self.reconstruction_losses = self._build_reconstruction_losses()
        held = config.magnitude_weight and not self.reconstruction_weights["magnitude"]
        self.magnitude_loss = MagnitudeLoss(self.codec.config) if held else None
        self.pitch_loss = PitchLoss(self.codec.config) if config.pitch_weight else None
        self.num_codebooks = check_num_codebooks(config.num_codebooks, self.codec.config.num_codebooks)
        crop_length = round(config.crop_length_s * self.sampling_rate)
        self._check_crop_length(crop_length)
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
        self.crops = AudioCropDataset(source, crop_length, config.seed, pitch=self._pitch())
        self.metrics: dict[str, list[float]] = defaultdict(list)
        self.step = 0
        self.loss = 0.0

    @property
    def _model(self) -> SoundStreamModel:
        return self.accelerator.unwrap_model(self.codec)

    @property
    def sampling_rate(self) -> int:
        """Sampling rate of the codec, in Hz."""
        return self._model.config.sampling_rate

    def _pitch(self) -> FramePitch | None:
        if self.pitch_loss is None:
            return None
        return PitchCache(self.folder / "pitch", self.sampling_rate, self._model.config.hop_length)

    def _build_reconstruction_losses(self) -> dict[str, torch.nn.Module]:
        """Return the losses whose weight is not 0."""
        config, rate = self.config, self.sampling_rate
        losses: dict[str, Callable[[], torch.nn.Module]] = {
            "mel": lambda: MultiScaleMelLoss(rate, config.mel_window_lengths, config.mel_bands),
            "waveform": torch.nn.L1Loss,
            "loudness": lambda: LoudnessLoss(rate),
            "envelope": lambda: EnvelopeCorrelationLoss(rate),
            "magnitude": lambda: OutputMagnitudeLoss(self.codec.config),
        }
        return {
            name: build().to(self.accelerator.device)
            for name, build in losses.items()
            if self.reconstruction_weights[name]
        }

    def _check_crop_length(self, crop_length: int) -> None:
        """Check that crops are long enough for the losses and discriminators."""
        needed = {
            f"the {name} loss": loss.min_num_samples
            for name, loss in self.reconstruction_losses.items()
            if isinstance(loss, MultiScaleMelLoss | LoudnessLoss | EnvelopeCorrelationLoss)
        }
        if self.config.discriminator.start_step is not None:
            needed["the largest discriminator"] = max(self.config.discriminator.window_lengths, default=1)
        for name, num_samples in needed.items():
            if crop_length < num_samples:
                raise ValueError(
                    f"crop_length_s is {self.config.crop_length_s}, {crop_length} samples, and {name} needs "
                    f"{num_samples}; give at least {num_samples / self.sampling_rate:g} s or leave it out."
                )

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
        shown: dict[str, Any] = {}
        while self.step < self.config.max_steps:
            self._train_step()
            self.step += 1
            shown["loss"] = f"{self.loss:.3f}"
            progress.set_postfix(shown, refresh=False)
            progress.update()
            if self.step % self.config.eval_steps == 0 or self.step == self.config.max_steps:
                shown |= self._validate()
            if self.step % self.config.save_steps == 0 or self.step == self.config.max_steps:
                self._save()
        progress.close()
        stop_tracking(self.accelerator)
        if self.accelerator.is_main_process:
            replace_folder(self.folder / "final", self._model.save_pretrained)
        self.accelerator.wait_for_everyone()
        return self.folder / "final"

    def _resume(self) -> None:
        state = load_training_state(self.folder / "checkpoints", self._modules(), self._optimizers())
        if state is not None:
            self.step = state["step"]
            self.metrics.update(state["metrics"])
            announce(f"Resuming the codec from step {self.step}.")
        if self.accelerator.is_main_process:
            rewind_log(self.folder / "log.jsonl", self.step)
        self.accelerator.wait_for_everyone()

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"codec": self._model, "discriminator": self.accelerator.unwrap_model(self.discriminator)}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "optimizer": self.optimizer.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer.optimizer,
        }

    def _save(self) -> None:
        state = {"config": asdict(self.config), "metrics": self.metrics}
        if self.accelerator.is_main_process:
            save_training_state(self.folder / "checkpoints", self.step, self._modules(), self._optimizers(), state)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _initialize_codebooks(self) -> None:
        self._model.eval()
        # Crops after the last training step's, so that none is used twice.
        first = self.config.max_steps
        size = self.config.batch_size
        batches = [
            self.crops.batch(first + index, size)["input_values"].to(self.accelerator.device)
            for index in range(max(1, self.config.codebook_init_crops // size))
        ]
        latents = torch.cat([self._model.encoder(batch) for batch in batches]).float()
        self._model.quantizer.initialize(latents, self._model.low_band(torch.cat(batches)))

    def _draw_batch(self) -> tuple[Tensor, Tensor | None]:
        """Return this process's crops of the current step, `(batch, num_samples)`, with random gains, and their F0."""
        crops = self.crops.batch(self.step, self.config.batch_size)
        batch = crops["input_values"]
        gain_db = LARGEST_GAIN_DB * (2 * torch.rand(len(batch), 1) - 1)
        batch = batch * 10 ** (gain_db / 20)
        # Louder crops must not clip.
        batch = batch / batch.abs().amax(1, keepdim=True).clamp(min=1.0)
        device = self.accelerator.device
        f0 = crops["f0"][self.own_rows].to(device) if "f0" in crops else None
        return batch[self.own_rows].to(device), f0

    def _train_step(self) -> None:
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        config = self.config
        target, f0 = self._draw_batch()
        share = learning_rate_factor(self.step, config.max_steps, config.warmup_steps, config.decay_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * share
        quantized = self.config.initial_weights is not None or self.step >= self.config.quantizer_start_step
        if quantized and self._model.quantizer.needs_initialization:
            self._initialize_codebooks()
        self.codec.train()
        if self.config.train_decoder_only:
            self._model.quantizer.eval()
        with self.accelerator.autocast():
            output = self.codec(target, num_codebooks=self.num_codebooks if quantized else 0, f0=f0)
        audio_values = output.audio_values.float()
        self._record(commitment=output.commitment_loss)
        gradient = self._gradient(audio_values, target, self._reconstruction_loss(audio_values, target))
        # The gradient of this product at the waveform is `gradient`, so that one backward pass is enough for all
        # losses.
        self.accelerator.backward((audio_values * gradient).sum() + self._inner_loss(output, target, f0))
        self.accelerator.clip_grad_norm_(self.codec.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _inner_loss(self, output: Any, target: Tensor, f0: Tensor | None) -> Tensor:
        """Return the losses of the codec's intermediate predictions."""
        config = self.config
        total = config.commitment_weight * output.commitment_loss + output.codebook_loss
        if self.magnitude_loss is not None:
            magnitude = self.magnitude_loss(output.log_magnitude, target)
            self._record(magnitude=magnitude)
            total = total + config.magnitude_weight * magnitude
        if self.pitch_loss is not None:
            voicing, pitch = self.pitch_loss(output.pitch_logits, f0)
            self._record(voicing=voicing, pitch=pitch)
            total = total + config.pitch_weight * (VOICING_WEIGHT * voicing + pitch)
        return total

    def _reconstruction_loss(self, audio_values: Tensor, target: Tensor) -> Tensor:
        losses = {name: loss(audio_values, target) for name, loss in self.reconstruction_losses.items()}
        self._record(**losses)
        total = torch.stack([self.reconstruction_weights[name] * value for name, value in losses.items()]).sum()
        self.loss = float(total.detach())
        return total

    def _gradient(self, audio_values: Tensor, target: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the gradient of all losses at the waveform, after updating the discriminators."""
        settings = self.config.discriminator
        if settings.start_step is None or self.step < settings.start_step:
            return balanced_gradient(audio_values, reconstruction, {}, {})[0]
        if torch.rand(()) < settings.update_probability:
            self._train_discriminator(audio_values.detach(), target)
        # The discriminators need no gradients here, and must not wait for those of other processes.
        discriminator = self.accelerator.unwrap_model(self.discriminator)
        with self.accelerator.autocast():
            fake_scores, fake_features = discriminator(audio_values)
            with torch.no_grad():
                _, real_features = discriminator(target)
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
        self.accelerator.clip_grad_norm_(self.discriminator.parameters(), self.config.max_grad_norm)
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        self._record(discriminator=loss)

    def _record(self, **losses: Tensor) -> None:
        for name, value in losses.items():
            self.metrics[name].append(float(value.detach()))
            if not math.isfinite(self.metrics[name][-1]):
                stop_diverged(f"the {name} loss is {self.metrics[name][-1]}", self.step, self.folder / "checkpoints")

    def _mean_metrics(self) -> dict[str, float]:
        """Return the means of the metrics since the last validation, over all processes."""
        means = torch.tensor([np.mean(values) for values in self.metrics.values()], device=self.accelerator.device)
        names = list(self.metrics)
        self.metrics.clear()
        return dict(zip(names, mean_over_processes(means).tolist(), strict=True))

    def _validate(self) -> dict[str, float]:
        """Reconstruct the validation crops, log the metrics and write a few samples."""
        metrics = self._mean_metrics()
        if not self.accelerator.is_main_process:
            return {}
        config = self.config
        if config.data.validation:
            source = AudioSource(config.data.validation_paths, self.sampling_rate)
            segments = load_audio_segments(source, config.validation_crop_length_s, config.validation_crops)
            samples = self.folder / "samples" / f"step-{self.step:08d}"
            metrics |= validate_codec(self._model, segments, samples, self.num_codebooks)
        append_log(self.folder / "log.jsonl", {"step": self.step, "time": time.time(), **metrics})
        self.accelerator.log(metrics, step=self.step)
        return {name: round(value, 3) for name, value in metrics.items() if name == "valid_mel_db"}


def _accelerator(config: CodecTrainingConfig, codec: SoundStreamModel) -> Accelerator:
    """Build the accelerator of this process."""
    settings = DistributedDataParallelKwargs(
        # The quantizer synchronizes its codebooks, and broadcasts in place would break backward passes.
        broadcast_buffers=False,
        # The quantizer, which may have parameters, is not used in the first steps, and the pitch may have no loss.
        find_unused_parameters=codec.config.quantizer_type == "factorized" or codec.config.decoder_type == "harmonic",
    )
    return start_accelerator(config, "codec", kwargs_handlers=[settings])
