# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The table of trainings by the key `kind` of a YAML file."""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from audiolm_hf.config_values_audiolm import did_you_mean
from audiolm_hf.settings import build
from audiolm_hf.training.yaml_files import substitute

# Kind -> module of this package, dataclass of its configuration, and function that runs it. Modules are imported on
# demand, because some of them need libraries that the others do not need.
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
RECIPE = "recipe"  # a list of trainings, see `recipe.py`
TRAINING_KINDS = (*_TRAININGS, RECIPE)


def training_kind(kind: str) -> tuple[type, Callable[..., Path]]:
    """Return the configuration class and the function of a training; an unknown kind is an error."""
    if kind not in (*_TRAININGS,):
        raise ValueError(f"kind is {kind!r}{did_you_mean(str(kind), TRAINING_KINDS)}")
    module, config_class, run = _TRAININGS[kind]
    found = import_module(f"audiolm_hf.training.{module}")
    return getattr(found, config_class), getattr(found, run)


def training_keys(kind: str) -> set[str]:
    """Return the keys of a training's configuration."""
    return {field.name for field in dataclasses.fields(training_kind(kind)[0])}


def build_training(values: dict[str, Any], where: str) -> Any:
    """Build the configuration of a training from the content of its file, in which `output` replaces `$output`.

    Raises:
        ValueError: a key is unknown or missing, or a value is not allowed; the message begins with `where`.
    """
    config_class, _ = training_kind(values["kind"])
    settings = {key: value for key, value in values.items() if key not in ("kind", "output")}
    if "output" in values:
        settings = substitute(settings, {"output": str(values["output"])})
    return build(config_class, settings, where)
