# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Train a speech encoder from scratch by masked prediction, for the semantic tokenizer.

Spans of the input are masked, and the encoder predicts the cluster of every masked frame (HuBERT, arXiv 2106.07447).
The first iteration uses clusters of MFCC, of pitch classes for music, or of a teacher's states. Each later one
continues from the weights of the previous encoder, with clusters of one of its layers. `centroids.py` quantizes a
layer of the result.
"""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel, Wav2Vec2BertConfig
from transformers.utils import logging

from audiolm_hf.configuration_audiolm import AudioLMSemanticTokenizerConfig
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.baselines.token_systems import fit_kmeans
from audiolm_hf.files import replace_folder
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import FILLED, BatchSize, Count, CountOrNone, NamedInput, NotNegative, Settings
from audiolm_hf.training.checkpointing import kept_tensors
from audiolm_hf.training.config import EncoderCrop, MaskedTrainingConfig, Warmup, check_model_keys, model_keys
from audiolm_hf.training.loop import start_accelerator, stop_tracking
from audiolm_hf.training.processes import mean_over_processes, own_rows
from audiolm_hf.training.run import one_run
from audiolm_hf.training.tokenizer.centroids import assign_clusters
from audiolm_hf.training.tokenizer.chroma import chroma_features
from audiolm_hf.training.tokenizer.encoder_trainer import EncoderTrainer
from audiolm_hf.training.tokenizer.spectrum_crops import (
    CropBatch,
    SpectrumTable,
    cepstral_features,
    encoder_states,
    masked_batch,
    num_table_frames,
    standardized,
)
from audiolm_hf.training.tokenizer.teacher import SAMPLING_RATE, Teacher

logger = logging.get_logger(__name__)

SPLITS = ("training", "validation")


@dataclass
class IterationConfig(Settings):
    """An iteration of masked prediction."""

    num_clusters: Count  # number of targets
    max_steps: Count  # number of training steps
    # index of the `hidden_states` to cluster, of the previous encoder or of the teacher. It is ignored if the first
    # iteration clusters MFCC or chroma.
    layer: CountOrNone = 0


@dataclass(kw_only=True)
class SemanticEncoderTrainingConfig(MaskedTrainingConfig):
    """Configuration of the training of a speech encoder by masked prediction; the encoder is saved in `encoder`."""

    encoder: dict[str, Any]  # fields of `Wav2Vec2BertConfig` that differ from its defaults
    iterations: Annotated[list[IterationConfig], FILLED]  # the iterations in order
    # features that the first iteration clusters; `"chroma"` is for music, see [`chroma_features`]
    first_targets: Literal["mfcc", "chroma", "teacher"] = "mfcc"
    # folder or Hub name of a pretrained speech encoder of transformers with 50 frames per second, such as
    # `facebook/w2v-bert-2.0`, for `first_targets: teacher`
    teacher: NamedInput | None = None
    batch_size: BatchSize = 12
    crop_length_s: EncoderCrop = 3.2
    # weight of the loss on unmasked frames; without it, a small encoder only predicts the prior in its first few
    # hundred steps
    visible_weight: NotNegative = 1.0
    warmup_steps: Warmup = 0.08
    validation_batches: Count = 8  # number of batches per validation
    eval_steps: Count = 250  # steps between validations

    def __post_init__(self) -> None:
        super().__post_init__()
        encoder = {"model_type": "wav2vec2-bert"} | self.encoder
        build = partial(AudioLMSemanticTokenizerConfig, encoder_config=encoder, layer=0)
        check_model_keys("encoder", self.encoder, model_keys(Wav2Vec2BertConfig), build)
        if (self.first_targets == "teacher") != (self.teacher is not None):
            raise ValueError(
                f"first_targets is {self.first_targets!r} and teacher {self.teacher!r}; a teacher needs "
                "`first_targets: teacher`, which needs a teacher."
            )


class MaskedPredictionModel(nn.Module):
    """A speech encoder with a linear classifier of frames, for training."""

    def __init__(self, encoder: PreTrainedModel, num_clusters: int, visible_weight: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.visible_weight = visible_weight
        self.classifier = nn.Linear(encoder.config.hidden_size, num_clusters)

    def forward(self, batch: CropBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the loss, and the cross-entropy and accuracy of masked frames, to be averaged over processes."""
        hidden_states = self.encoder(
            batch.input_features, attention_mask=batch.attention_mask, mask_time_indices=batch.masked
        ).last_hidden_state
        logits = self.classifier(hidden_states).float()
        losses = functional.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")
        visible = ~batch.masked if batch.attention_mask is None else (batch.attention_mask == 1) & ~batch.masked
        counts = mean_over_processes(torch.stack([batch.masked.sum(), visible.sum()]).float()).clamp(min=1)
        masked_loss = losses[batch.masked].sum() / counts[0]
        visible_loss = losses[visible].sum() / counts[1]
        accuracy = (logits.argmax(dim=-1) == batch.targets)[batch.masked].sum() / counts[0]
        return masked_loss + self.visible_weight * visible_loss, masked_loss.detach(), accuracy


@one_run("semantic_encoder", "encoder")
def train_semantic_encoder(config: SemanticEncoderTrainingConfig) -> None:
    """Train an encoder in all iterations, or resume its training; the result is in `encoder`."""
    accelerator = start_accelerator(config, "semantic-encoder")
    rows = own_rows(config.batch_size)
    tables = [
        SpectrumTable.from_records(progress_bar(AudioSource(paths, SAMPLING_RATE), desc=f"{name} spectra"))
        for name, paths in zip(SPLITS, (config.data.train_paths, config.data.validation_paths), strict=True)
    ]
    for index in range(len(config.iterations)):
        folder = Path(config.output_folder) / f"iteration_{index + 1}"
        if (folder / "encoder" / "model.safetensors").is_file():
            continue  # finished before resuming
        folder.mkdir(parents=True, exist_ok=True)
        encoder = _start_encoder(config, index)
        with accelerator.main_process_first():  # the others read the file that the main process writes
            make = partial(_iteration_targets, config, index, encoder, tables, accelerator.device)
            kept = kept_tensors(folder / "targets.safetensors", make)
        targets = [kept[name].numpy() for name in SPLITS]
        _train_iteration(config, index, accelerator, rows, encoder, tables, targets)
        if accelerator.is_main_process:
            replace_folder(folder / "encoder", encoder.save_pretrained)
        accelerator.wait_for_everyone()
    stop_tracking(accelerator)
    if accelerator.is_main_process:
        replace_folder(
            Path(config.output_folder) / "encoder", partial(shutil.copytree, folder / "encoder", dirs_exist_ok=True)
        )
    accelerator.wait_for_everyone()


def _start_encoder(config: SemanticEncoderTrainingConfig, index: int) -> PreTrainedModel:
    if index:
        folder = Path(config.output_folder) / f"iteration_{index}" / "encoder"
        return AutoModel.from_pretrained(folder, attn_implementation=config.attn_implementation)
    torch.manual_seed(config.seed)
    encoder_config = Wav2Vec2BertConfig(**config.encoder)
    return AutoModel.from_config(encoder_config, attn_implementation=config.attn_implementation)


def _iteration_targets(
    config: SemanticEncoderTrainingConfig,
    index: int,
    encoder: PreTrainedModel,
    tables: list[SpectrumTable],
    device: torch.device,
) -> dict[str, torch.Tensor]:
    features = [
        _target_features(config, index, encoder, table, paths, device)
        for table, paths in zip(tables, (config.data.train_paths, config.data.validation_paths), strict=True)
    ]
    chosen = np.random.default_rng(config.seed).permutation(len(features[0]))[: config.max_kmeans_frames]
    mean, std = features[0].mean(axis=0), features[0].std(axis=0) + 1e-5
    centroids = fit_kmeans((features[0][chosen] - mean) / std, config.iterations[index].num_clusters, config.seed)
    clusters = [torch.from_numpy(assign_clusters((part - mean) / std, centroids)) for part in features]
    return dict(zip(SPLITS, clusters, strict=True))


def _target_features(
    config: SemanticEncoderTrainingConfig,
    index: int,
    encoder: PreTrainedModel,
    table: SpectrumTable,
    paths: list[Path],
    device: torch.device,
) -> np.ndarray:
    """Return the features of all frames of a table to cluster, float32 of shape `(frames, hidden_size)`."""
    layer, kind = config.iterations[index].layer, "features" if index else config.first_targets
    if kind in ("features", "mfcc"):
        recordings = progress_bar([table.recording(place) for place in range(len(table))], desc=kind)
        if kind == "mfcc":
            return np.concatenate([cepstral_features(features) for features in recordings])
        return np.concatenate([standardized(encoder_states(features, encoder, layer)) for features in recordings])
    source = progress_bar(AudioSource(paths, SAMPLING_RATE), desc=kind)
    if config.teacher is None:
        return np.concatenate([chroma_features(record.array, record.sampling_rate) for record in source])
    teacher = Teacher(config.teacher, layer, device)
    states = (teacher.states(record.array, num_table_frames(record)) for record in source)
    return np.concatenate([standardized(rows).astype(np.float16) for rows in states]).astype(np.float32)


def _train_iteration(
    config: SemanticEncoderTrainingConfig,
    index: int,
    accelerator: Accelerator,
    rows: slice,
    encoder: PreTrainedModel,
    tables: list[SpectrumTable],
    targets: list[np.ndarray],
) -> None:

    def batch(part: int, step: int) -> CropBatch:
        """Return this process's crops of a step."""
        # The last 0 keeps the random numbers with which the bundled checkpoints were trained.
        rng = np.random.default_rng([config.seed, index, part, step, 0])
        warp = 0.0 if part else config.vocal_tract_warp
        drawn = masked_batch(tables[part], targets[part], rng, config, warp, rows)
        return drawn.map(lambda tensor: tensor.to(accelerator.device))

    torch.manual_seed(config.seed + index)  # for the initial weights of the classifier
    EncoderTrainer(
        config,
        accelerator,
        MaskedPredictionModel(encoder, config.iterations[index].num_clusters, config.visible_weight),
        batch,
        folder=Path(config.output_folder) / f"iteration_{index + 1}",
        max_steps=config.iterations[index].max_steps,
        names=("loss", "accuracy"),
        logging_steps=config.eval_steps,
        save_steps=config.save_steps,
        validation_batches=config.validation_batches,
        # The steps of a tracker continue over all iterations.
        steps_before=sum(iteration.max_steps for iteration in config.iterations[:index]),
    ).run()
