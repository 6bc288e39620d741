# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What the trainings' configurations share: where recordings lie, how weights are learned, which keys a model has."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from transformers import CONFIG_MAPPING

from audiolm_hf.config_values_audiolm import did_you_mean
from audiolm_hf.settings import (
    Decay,
    Filled,
    LearningRate,
    NotNegative,
    OutputPath,
    Positive,
    Seed,
    Settings,
    Use,
)

Recordings = Annotated[list[Annotated[str, Filled()]], Use.DATA]
DataFolder = OutputPath  # where it lies changes nothing; what it holds is compared

# Understood by every configuration though no field of it.
_ALWAYS_KNOWN = ("model_type", "attn_implementation", "rope_theta")
_DEFAULT_BACKBONE = "llama"


@dataclasses.dataclass
class AudioDataConfig(Settings):
    """Where recordings lie; shared by the trainings that read audio.

    Args:
        folder (`str`): folder of the data; given on the command line as `data.folder=...`.
        train (`list[str]`): parquet files, folders or manifests to train on, relative to `folder`.
        validation (`list[str]`): the same for validation; never trained on.
    """

    folder: DataFolder
    train: Annotated[Recordings, Filled()]
    validation: Recordings = dataclasses.field(default_factory=list)

    @property
    def train_paths(self) -> list[Path]:
        """The training data, joined with the folder."""
        return [Path(self.folder) / name for name in self.train]

    @property
    def validation_paths(self) -> list[Path]:
        """The validation data, joined with the folder."""
        return [Path(self.folder) / name for name in self.validation]


@dataclasses.dataclass(kw_only=True)
class TrainingConfig(Settings):
    """The keys of every training that updates weights by gradients.

    Args:
        output_folder (`str`): receives everything; a run that is found there is resumed.
        learning_rate (`float`): highest learning rate of AdamW.
        warmup_steps (`float`): steps of linear rise to it; a number below 1 is a share of all steps.
        weight_decay (`float`): of AdamW, on matrices.
        max_grad_norm (`float`): gradients with a larger norm are scaled down to it.
        bf16 (`bool`): compute in bfloat16 where that is safe; weights stay float32.
        use_cpu (`bool`): stay on the CPU even where there is an accelerator.
        report_to (`list[str]`): where metrics are sent besides the run's own log: `tensorboard`, `wandb`, `trackio`.
        seed (`int`): of everything random.
    """

    output_folder: OutputPath
    learning_rate: LearningRate = 1e-3
    warmup_steps: NotNegative = 100.0
    weight_decay: Decay = 0.01
    max_grad_norm: Positive = 1.0
    bf16: bool = True
    use_cpu: Annotated[bool, Use.FREE] = False
    report_to: Annotated[list[Literal["tensorboard", "wandb", "trackio"]], Use.FREE] = dataclasses.field(
        default_factory=list
    )
    seed: Seed = 0


def check_model_keys(name: str, values: Collection[str], known: Collection[str]) -> None:
    """Refuse keys that a model's configuration does not have, which transformers would take without a word.

    Args:
        name (`str`): key of the training under which they stand.
        values (`dict`): what stands there.
        known (`Collection[str]`): the keys that the model has, see [`model_keys`].

    Raises:
        ValueError: names the nearest key that is known.
    """
    for key in values:
        if known and key not in known:
            raise ValueError(f"{name}: unknown key {key!r}{did_you_mean(str(key), known)}")


def model_keys(config_class: Any) -> list[str]:
    """List every key of a model's configuration; empty if it does not declare them."""
    if not dataclasses.is_dataclass(config_class):
        return []
    names = [field.name for field in dataclasses.fields(config_class)]
    return [*names, *config_class.attribute_map, *_ALWAYS_KNOWN]


def backbone_keys(backbone: dict[str, Any]) -> list[str]:
    """List every key of the decoder that `model_type` names, a Llama by default; an unknown type is an error."""
    model_type = backbone.get("model_type", _DEFAULT_BACKBONE)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"backbone: model_type is {model_type!r}, which transformers does not know"
            f"{did_you_mean(str(model_type), CONFIG_MAPPING)}"
        )
    return model_keys(CONFIG_MAPPING[model_type])
