# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The table of trainings: what the key `kind` of a YAML file chooses."""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from audiolm_hf.config_values_audiolm import did_you_mean
from audiolm_hf.settings import build
from audiolm_hf.training.yaml_files import substitute

# Kind -> module of this package, dataclass of its configuration, and function that runs it. A module is imported when
# its training is asked for, as several of them load libraries that the others do without.
_TRAININGS = {
    "codec": ("codec.trainer", "CodecTrainingConfig", "train_codec"),
    "semantic_encoder": ("tokenizer.semantic_encoder", "SemanticEncoderTrainingConfig", "train_semantic_encoder"),
    "centroids": ("tokenizer.centroids", "CentroidsTrainingConfig", "train_centroids"),
    "speaker_invariance": ("tokenizer.speaker_invariance", "SpeakerInvarianceConfig", "train_speaker_invariance"),
    "tokenize": ("tokenize", "TokenizeConfig", "tokenize"),
    "stage": ("stages.training", "StageTrainingConfig", "train_stage"),
    "lora": ("stages.lora", "LoraTrainingConfig", "train_lora"),
    "assemble": ("assemble", "AssembleConfig", "assemble"),
    "render": ("render", "RenderConfig", "render"),
}
RECIPE = "recipe"  # several of the others, see `recipe.py`
TRAINING_KINDS = (*_TRAININGS, RECIPE)


def training_kind(kind: str) -> tuple[type, Callable[..., Path]]:
    """Look up a training by its name.

    Args:
        kind (`str`): one of `TRAINING_KINDS` but `recipe`.

    Returns:
        `tuple`: the dataclass of its configuration, and the function that runs it.

    Raises:
        ValueError: there is no such training.
    """
    if kind not in (*_TRAININGS,):
        raise ValueError(f"kind is {kind!r}{did_you_mean(str(kind), TRAINING_KINDS)}")
    module, config_class, run = _TRAININGS[kind]
    found = import_module(f"audiolm_hf.training.{module}")
    return getattr(found, config_class), getattr(found, run)


def training_keys(kind: str) -> set[str]:
    """Return the keys of a training's configuration."""
    return {field.name for field in dataclasses.fields(training_kind(kind)[0])}


def build_training(values: dict[str, Any], where: str) -> Any:
    """Build the dataclass of a training from the content of its file.

    Args:
        values (`dict`): with the key `kind`; not changed. Where it has `output`, `$output` in the other texts
            stands for it.
        where (`str`): what the errors call the place these values come from.

    Returns:
        The dataclass of the training, with every value checked.

    Raises:
        ValueError: an unknown or missing key, or a value that does not fit.
    """
    config_class, _ = training_kind(values["kind"])
    settings = {key: value for key, value in values.items() if key not in ("kind", "output")}
    if "output" in values:
        settings = substitute(settings, {"output": str(values["output"])})
    return build(config_class, settings, where)
