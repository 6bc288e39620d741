# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Train the codec on random crops, with or without discriminators; a resumed training gives the same result.

Every process draws the whole batch and takes its rows, so that the result does not depend on the number of processes.
The discriminators are updated with a probability, as in EnCodec (arXiv 2210.13438, section 3.4).
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data.audio import AudioCropDataset, AudioSource, load_audio_segments
from audiolm_hf.evaluation.metrics.resynthesis import mel_distance, si_sdr
from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms
from audiolm_hf.files import replace_file, replace_folder
from audiolm_hf.input_checks_audiolm import check_num_codebooks
from audiolm_hf.provenance_audiolm import provenance
from audiolm_hf.training.checkpointing import stop_diverged
from audiolm_hf.training.codec import losses
from audiolm_hf.training.codec.config import CodecTrainingConfig
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.codec.initial import start_codec
from audiolm_hf.training.codec.perceptual_losses import EnvelopeCorrelationLoss, LoudnessLoss
from audiolm_hf.training.codec.pitch import PitchCache
from audiolm_hf.training.loop import TrainingLoop, start_accelerator, stop_tracking
from audiolm_hf.training.processes import mean_over_processes, own_rows
from audiolm_hf.training.run import one_run

LARGEST_GAIN_DB = 6.0  # maximum random gain of a crop, up or down
VOICING_WEIGHT = 5.0  # of the loss of voicing relative to that of the pitch
NUM_SAMPLES_SHOWN = 3  # validation recordings that are written as audio and spectrogram


@one_run("codec", "final")
def train_codec(config: CodecTrainingConfig) -> None:
    """Train a codec, or resume its training; the result is in `output_folder/final`."""
    trainer = CodecTrainer(config)
    trainer.run()
    stop_tracking(trainer.accelerator)
    if trainer.accelerator.is_main_process:
        replace_folder(trainer.folder / "final", trainer.model.save_pretrained)
    trainer.accelerator.wait_for_everyone()


class CodecTrainer(TrainingLoop):
    """The parts of one codec training: model, discriminators, optimizers, data and metrics."""

    config: CodecTrainingConfig

    def __init__(self, config: CodecTrainingConfig) -> None:
        torch.manual_seed(config.seed)
        self.model = start_codec(config.initial_weights, config.codec)
        is_harmonic = self.model.config.decoder_type == "harmonic"
        settings = DistributedDataParallelKwargs(
            # The quantizer synchronizes its codebooks, and broadcasts in place would break backward passes.
            broadcast_buffers=False,
            find_unused_parameters=is_harmonic,  # the pitch predictor may get no gradients
        )
        super().__init__(
            config,
            start_accelerator(config, "codec", kwargs_handlers=[settings]),
            Path(config.output_folder),
            config.max_steps,
            config.save_steps,
            config.eval_steps,
            config.decay_steps,
        )
        self.own_rows = own_rows(config.batch_size)
        self.sampling_rate = self.model.config.sampling_rate
        self.reconstruction_losses = {
            name: (weight, build().to(self.accelerator.device))
            for name, (weight, build) in _reconstruction_losses(config, self.model.config).items()
            if weight
        }
        of_prediction = config.magnitude_weight and not is_harmonic
        self.magnitude_loss = losses.MagnitudeLoss(self.model.config) if of_prediction else None
        self.pitch_loss = losses.PitchLoss(self.model.config) if config.pitch_weight else None
        self.num_codebooks = check_num_codebooks(config.num_codebooks, self.model.config.num_codebooks)
        crop_length = round(config.crop_length_s * self.sampling_rate)
        self._check_crop_length(crop_length)
        self._prepare()
        pitch = PitchCache(self.folder / "pitch", self.sampling_rate, self.model.config.hop_length)
        source = AudioSource(config.data.train_paths, self.sampling_rate)
        self.crops = AudioCropDataset(source, crop_length, config.seed, pitch=pitch if self.pitch_loss else None)
        self.state["metrics"] = {}  # values since the last validation

    def _prepare(self) -> None:
        """Build the discriminators and optimizers, and prepare all of them with Accelerate."""
        config, settings = self.config, self.config.discriminator
        discriminator = CodecDiscriminator(settings.window_lengths, settings.downsamplings, settings.num_channels)
        if config.train_decoder_only:
            self.model.encoder.requires_grad_(False)
            self.model.quantizer.requires_grad_(False)
        trained = self.model.decoder if config.train_decoder_only else self.model
        parts = ((trained, config.learning_rate), (discriminator, settings.learning_rate))
        optimizers = [
            torch.optim.AdamW(part.parameters(), rate, (0.8, 0.99), weight_decay=config.weight_decay)
            for part, rate in parts
        ]
        self.codec, self.discriminator, self.optimizer, self.discriminator_optimizer = self.accelerator.prepare(
            self.model, discriminator, *optimizers
        )
        self.modules = {"codec": self.model, "discriminator": discriminator}
        self.optimizers = {"optimizer": self.optimizer, "discriminator_optimizer": self.discriminator_optimizer}

    def _check_crop_length(self, crop_length: int) -> None:
        frame = self.model.config.hop_length
        if self.config.data.validation and self.config.validation_crop_length_s * self.sampling_rate < frame:
            raise ValueError(
                f"validation_crop_length_s is {self.config.validation_crop_length_s}; give at least "
                f"{frame / self.sampling_rate:g} s, a frame."
            )
        needed = {"a frame": frame} | {
            f"the {name} loss": loss.min_num_samples
            for name, (_, loss) in self.reconstruction_losses.items()
            if isinstance(loss, losses.MultiScaleMelLoss | LoudnessLoss | EnvelopeCorrelationLoss)
        }
        if self.config.discriminator.start_step is not None:
            needed["the largest discriminator"] = max(self.config.discriminator.window_lengths, default=1)
        for name, num_samples in needed.items():
            if crop_length < num_samples:
                raise ValueError(
                    f"crop_length_s is {self.config.crop_length_s}, {crop_length} samples, and {name} needs "
                    f"{num_samples}; give at least {num_samples / self.sampling_rate:g} s or leave it out."
                )

    @torch.no_grad()
    def _initialize_codebooks(self) -> None:
        self.model.eval()
        # The crops that would follow those of the last training step, so that none is used twice.
        first = self.config.max_steps
        size = self.config.batch_size
        batches = [
            self.crops.batch(first + index, size)["input_values"].to(self.accelerator.device)
            for index in range(max(1, self.config.codebook_init_crops // size))
        ]
        latents = torch.cat([self.model.encoder(batch) for batch in batches]).float()
        self.model.quantizer.initialize(latents, self.model.low_band(torch.cat(batches)))

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

    def _train_step(self) -> dict[str, float]:
        self.start_step(self.optimizer)
        config = self.config
        target, f0 = self._draw_batch()
        quantized = config.initial_weights is not None or self.step >= config.quantizer_start_step
        if quantized and self.model.quantizer.needs_initialization:
            self._initialize_codebooks()
        self.codec.train()
        if config.train_decoder_only:
            self.model.quantizer.eval()
        with self.accelerator.autocast():
            output = self.codec(target, num_codebooks=self.num_codebooks if quantized else 0, f0=f0)
        audio_values = output.audio_values.float()
        self._record(commitment=output.commitment_loss)
        found = {name: loss(audio_values, target) for name, (_, loss) in self.reconstruction_losses.items()}
        self._record(**found)
        weighted = [self.reconstruction_losses[name][0] * value for name, value in found.items()]
        reconstruction = torch.stack(weighted).sum()
        gradient = self._gradient(audio_values, target, reconstruction)
        # The gradient of this product at the waveform is `gradient`, so that one backward pass is enough for all
        # losses.
        loss = (audio_values * gradient).sum() + self._inner_loss(output, target, f0)
        self.optimize(loss, self.codec, self.optimizer)
        return {"loss": float(reconstruction.detach())}

    def _inner_loss(self, output: Any, target: Tensor, f0: Tensor | None) -> Tensor:
        """Return the losses of the codec's intermediate predictions."""
        config = self.config
        total = config.commitment_weight * output.commitment_loss
        if self.magnitude_loss is not None:
            magnitude = self.magnitude_loss(output.log_magnitude, target)
            self._record(magnitude=magnitude)
            total = total + config.magnitude_weight * magnitude
        if self.pitch_loss is not None:
            voicing, pitch = self.pitch_loss(output.pitch_logits, f0)
            self._record(voicing=voicing, pitch=pitch)
            total = total + config.pitch_weight * (VOICING_WEIGHT * voicing + pitch)
        return total

    def _gradient(self, audio_values: Tensor, target: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the gradient of all losses at the waveform, after updating the discriminators."""
        settings = self.config.discriminator
        if settings.start_step is None or self.step < settings.start_step:
            return losses.balanced_gradient(audio_values, reconstruction, {}, {})[0]
        if torch.rand(()) < settings.update_probability:
            self._train_discriminator(audio_values.detach(), target)
        # Without the DDP wrapper: the discriminators need no gradients here, and must not wait for other processes.
        discriminator = self.modules["discriminator"]
        with self.accelerator.autocast():
            fake_scores, fake_features = discriminator(audio_values)
            with torch.no_grad():
                _, real_features = discriminator(target)
        found = {
            "adversarial": losses.adversarial_loss(fake_scores),
            "feature": losses.feature_matching_loss(real_features, fake_features),
        }
        self._record(**found)
        rise = min(1.0, (self.step - settings.start_step + 1) / settings.warmup_steps)
        weights = {"adversarial": settings.adversarial_weight * rise, "feature": settings.feature_weight * rise}
        return losses.balanced_gradient(audio_values, reconstruction, found, weights)[0]

    def _train_discriminator(self, audio_values: Tensor, target: Tensor) -> None:
        with self.accelerator.autocast():
            real_scores, _ = self.discriminator(target)
            fake_scores, _ = self.discriminator(audio_values)
            loss = losses.discriminator_loss(real_scores, fake_scores)
        self.optimize(loss, self.discriminator, self.discriminator_optimizer)
        self._record(discriminator=loss)

    def _record(self, **values: Tensor) -> None:
        for name, loss in values.items():
            value = float(loss.detach())
            self.state["metrics"].setdefault(name, []).append(value)
            if not math.isfinite(value):
                stop_diverged(f"the {name} loss is {value}", self.step, self.checkpoints)

    def metrics(self) -> dict[str, float]:
        """Return the mean losses since the last validation and, in the main process, metrics of validation crops."""
        names, values = zip(*self.state["metrics"].items(), strict=True)
        means = torch.tensor([np.mean(each) for each in values], device=self.accelerator.device)
        metrics = dict(zip(names, mean_over_processes(means).tolist(), strict=True))
        self.state["metrics"] = {}
        config = self.config
        if self.accelerator.is_main_process and config.data.validation:
            source = AudioSource(config.data.validation_paths, self.sampling_rate)
            segments = load_audio_segments(source, config.validation_crop_length_s, config.validation_crops)
            metrics |= self._validate(segments)
        return metrics

    @torch.no_grad()
    def _validate(self, segments: list[np.ndarray]) -> dict[str, float]:
        """Return metrics of resynthesized recordings; write the audio and spectrograms of the first few."""
        self.model.eval()
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        codes: list[Tensor] = []
        for segment in segments:
            values = torch.from_numpy(segment)[None].to(self.model.device)
            audio_codes: Any = self.model.encode(values, num_codebooks=self.num_codebooks).audio_codes
            decoded = self.model.decode(audio_codes, num_samples=len(segment)).audio_values[0].float().cpu().numpy()
            pairs.append((segment, decoded))
            codes.append(audio_codes[0].cpu())
        folder = self.folder / "samples" / f"step-{self.step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, (original, decoded) in enumerate(pairs[:NUM_SAMPLES_SHOWN]):
            write_audio(folder / f"{index}-original.wav", original, self.sampling_rate)
            write_audio(folder / f"{index}-decoded.wav", decoded, self.sampling_rate, provenance())
            arrays = {"original": original, "decoded": decoded}
            replace_file(folder / f"{index}.png", partial(save_spectrograms, arrays, self.sampling_rate))
        metrics = {
            "valid_mel_db": float(np.mean([mel_distance(*pair, self.sampling_rate) for pair in pairs])),
            "valid_si_sdr": float(np.mean([si_sdr(*pair) for pair in pairs])),
        }
        return metrics | {
            f"codes_used_{level}": len(each.unique()) for level, each in enumerate(torch.cat(codes, dim=1))
        }


def _reconstruction_losses(
    config: CodecTrainingConfig, codec: SoundStreamConfig
) -> dict[str, tuple[float, Callable[[], torch.nn.Module]]]:
    rate, windows, bands = codec.sampling_rate, config.mel_window_lengths, config.mel_bands
    of_output = config.magnitude_weight if codec.decoder_type == "harmonic" else 0.0
    return {
        "mel": (config.mel_weight, lambda: losses.MultiScaleMelLoss(rate, windows, bands)),
        "waveform": (config.waveform_weight, torch.nn.L1Loss),
        "loudness": (config.loudness_weight, lambda: LoudnessLoss(rate)),
        "envelope": (config.envelope_weight, lambda: EnvelopeCorrelationLoss(rate)),
        "magnitude": (of_output, lambda: losses.MagnitudeLoss(codec)),
    }
