# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Shared parts of the training configurations: data, optimization, learning-rate schedule, and a model's keys."""

import dataclasses
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from transformers import CONFIG_MAPPING

from audiolm_hf.config_values_audiolm import Within, did_you_mean
from audiolm_hf.settings import (
    FILLED,
    BatchSize,
    Count,
    Decay,
    LearningRate,
    OutputPath,
    PartialShare,
    Positive,
    Seconds,
    Seed,
    Settings,
    Text,
    Use,
)
from audiolm_hf.stages_audiolm import STAGES

Recordings = Annotated[list[Text], Use.DATA]
DataFolder = OutputPath  # a run depends on its content, not on its path

EncoderCrop = Annotated[float, Within(0.04, 3600)]  # seconds of a crop, at least one semantic token
MaskLength = Annotated[float, Within(0.02, 3600)]  # seconds, at least one frame
Warmup = Annotated[float, Within(0, 10**7)]  # may exceed max_steps, which an override can shorten

# Accepted by every configuration, although they are not fields of it.
_ALWAYS_KNOWN = ("model_type", "attn_implementation", "rope_theta")


@dataclasses.dataclass
class AudioDataConfig(Settings):
    """Recordings of the trainings that read audio."""

    folder: DataFolder  # folder of the data, usually set on the command line as `data.folder=...`
    # parquet files, folders or lists of the training data, relative to `folder`
    train: Annotated[Recordings, FILLED]
    validation: Recordings = dataclasses.field(default_factory=list)  # the same for the validation data

    @property
    def train_paths(self) -> list[Path]:
        """Paths of the training data."""
        return [Path(self.folder) / name for name in self.train]

    @property
    def validation_paths(self) -> list[Path]:
        """Paths of the validation data."""
        return [Path(self.folder) / name for name in self.validation]


@dataclasses.dataclass(kw_only=True)
class TrainingConfig(Settings):
    """Shared configuration of all trainings by gradient descent."""

    output_folder: OutputPath  # output folder; a run in this folder is resumed
    learning_rate: LearningRate = 1e-3  # peak learning rate of AdamW
    warmup_steps: Warmup = 100.0  # steps of linear warmup; a number below 1 is a share of all steps
    weight_decay: Decay = 0.01  # weight decay of AdamW for matrices
    max_grad_norm: Positive = 1.0  # maximum norm of the gradients, for clipping
    bf16: bool = True  # compute in bfloat16 where it is safe; weights stay float32
    use_cpu: Annotated[bool, Use.FREE] = False  # use the CPU even if there is an accelerator
    # trackers that receive the metrics: `tensorboard`, `wandb`, `trackio`
    report_to: Annotated[list[Literal["tensorboard", "wandb", "trackio"]], Use.FREE] = dataclasses.field(
        default_factory=list
    )
    seed: Seed = 0  # random seed


@dataclasses.dataclass(kw_only=True)
class CropTrainingConfig(TrainingConfig):
    """Shared configuration of the trainings on crops of recordings."""

    data: AudioDataConfig  # the recordings
    batch_size: BatchSize = 8  # crops per step, over all processes
    crop_length_s: Seconds = 1.0  # length of the crops in seconds
    save_steps: Count = 250  # steps between checkpoints


@dataclasses.dataclass(kw_only=True)
class MaskedTrainingConfig(CropTrainingConfig):
    """Shared configuration of the trainings of a speech encoder."""

    crop_length_s: EncoderCrop = 1.0
    mask_share: PartialShare = 0.5  # share of masked frames
    mask_length_s: MaskLength = 0.2  # length of a masked span in seconds, below that of a crop
    # maximum relative warp of the frequency axis of a crop
    vocal_tract_warp: PartialShare = 0.15
    # attention implementation of the encoder during training
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    max_kmeans_frames: Count = 200_000  # maximum number of frames, or tokens, for the k-means of the targets

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_length_s >= self.crop_length_s:
            raise ValueError(
                f"mask_length_s is {self.mask_length_s}, and crop_length_s {self.crop_length_s}; give shorter spans."
            )


def ordered_stages(stages: dict[str, Any]) -> dict[str, Any]:
    """Return values by stage in the order in which the stages generate; an unknown stage is an error."""
    for name in stages:
        if name not in STAGES:
            raise ValueError(f"stages: unknown stage {name!r}{did_you_mean(str(name), STAGES)}")
    return {name: stages[name] for name in STAGES if name in stages}


def check_model_keys(name: str, values: dict[str, Any], known: Collection[str], build: Callable | None = None) -> None:
    """Check that a model has all keys in `values`, the mapping `name` in YAML; transformers would accept any key.

    `build` builds the model's configuration, which checks the values.
    """
    for key in values:
        if known and key not in known:
            raise ValueError(f"{name}: unknown key {key!r}{did_you_mean(str(key), known)}")
    try:
        if build is not None:
            build()
    except Exception as error:  # of any type, such as a division by a size of 0
        raise ValueError(f"{name}, {values}: {' '.join(str(error).split())}") from error


def model_keys(config_class: Any) -> list[str]:
    """Return all keys of a model's configuration; empty if it does not declare them."""
    if not dataclasses.is_dataclass(config_class):
        return []
    names = [field.name for field in dataclasses.fields(config_class)]
    return [*names, *config_class.attribute_map, *_ALWAYS_KNOWN]


def backbone_keys(backbone: dict[str, Any]) -> list[str]:
    """Return all keys of the decoder or encoder `model_type`; an unknown type is an error."""
    model_type = backbone["model_type"]
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ValueError(f"backbone: model_type is {model_type!r}{did_you_mean(str(model_type), CONFIG_MAPPING)}")
    return model_keys(CONFIG_MAPPING[model_type])


def check_steps(max_steps: int, steps: dict[str, float | None], starts: bool = False) -> None:
    """Check that all numbers in `steps` are at most `max_steps`, or below it if something `starts` at that step."""
    for name, value in steps.items():
        if value is not None and value > max_steps - starts:
            raise ValueError(f"{name} is {value:g}, and the training has only max_steps={max_steps}; give less.")


def warmup_of(warmup_steps: float, max_steps: int) -> int:
    """Return the number of warmup steps; a number below 1 is a share of all steps, as in `TrainingArguments`."""
    return max(1, round(warmup_steps * max_steps if warmup_steps < 1 else warmup_steps))


def learning_rate_factor(
    step: int, max_steps: int, warmup_steps: float, decay_steps: int | None = None, floor: float = 0.0
) -> float:
    """Return the learning rate as a share of its peak.

    It decays to `floor` in the last `decay_steps`, by default all steps after the warmup. Unlike in transformers'
    `get_wsd_schedule`, the rate of the first step is above 0, and the decay may begin during the warmup; the bundled
    checkpoints depend on both.
    """
    warmup = warmup_of(warmup_steps, max_steps)
    rise = min(1.0, (step + 1) / warmup)
    length = max_steps - warmup if decay_steps is None else decay_steps
    if not length:
        return rise
    progress = min(1.0, max(0.0, (step - max_steps + length) / length))
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
