# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The table of trainings by the key `kind` of a YAML file, and help on their keys."""

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from audiolm_hf.config_values_audiolm import did_you_mean
from audiolm_hf.settings import build, type_text
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
    "onset_rates": ("stages.onset_rates", "OnsetRatesConfig", "fit_onset_rates"),
    "assemble": ("assemble", "AssembleConfig", "assemble"),
    "detector": ("detector.trainer", "DetectorTrainingConfig", "train_detector"),
    "render": ("render", "RenderConfig", "render"),
    "recipe": ("recipe", "RecipeConfig", "run_recipe"),
}
RECIPE = "recipe"  # a list of trainings
TRAINING_KINDS = tuple(_TRAININGS)
_WIDTH = 110  # of the help
# The name and the comment of a field of a dataclass, or a comment above it.
_FIELD = re.compile(r"^    (?:(\w+):[^#\n]*)?(?:# (.*))?$", re.MULTILINE)


def training_kind(kind: str, where: str = "") -> tuple[type, Callable[..., Path]]:
    """Return the configuration class and the function of a training; an unknown kind is an error, after `where`."""
    if kind not in TRAINING_KINDS:
        raise ValueError(f"{where}kind is {kind!r}{did_you_mean(str(kind), TRAINING_KINDS)}")
    module, config_class, run = _TRAININGS[kind]
    found = import_module(f"audiolm_hf.training.{module}")
    return getattr(found, config_class), getattr(found, run)


def own_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a training's file without `kind`, and with the value of `output` in place of `$output`."""
    settings = {key: value for key, value in values.items() if key not in ("kind", "output")}
    return substitute(settings, {"output": str(values["output"])}) if "output" in values else settings


def build_training(values: dict[str, Any], where: str) -> Any:
    """Build the configuration of a training from the content of its file."""
    return build(training_kind(values["kind"], f"{where}: ")[0], own_settings(values), where)


def describe_keys(config_class: type) -> str:
    """Return a line for every key: its type, its default if it has one, and its description."""
    return "\n".join(
        textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
        for line in _lines(config_class, "")
    )


def _lines(config_class: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(config_class)
    texts = key_texts(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        facts = [type_text(hint)]
        if field.default is not dataclasses.MISSING:
            facts += [] if field.default is None else [f"default {field.default}"]
        elif field.default_factory is dataclasses.MISSING:
            facts.append("required")
        yield f"{prefix}{field.name} ({', '.join(facts)}): {texts[field.name]}"
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                kind = {list: "[]", dict: ".NAME"}.get(typing.get_origin(hint) or hint, "")
                yield from _lines(inner, f"{prefix}{field.name}{kind}.")


def key_texts(config_class: type) -> dict[str, str]:
    """Return the comments on the fields of a dataclass and its bases, beside or above them, by field."""
    texts: dict[str, str] = {}
    for each in filter(dataclasses.is_dataclass, config_class.__mro__):
        above = ""
        for name, comment in (found.groups() for found in _FIELD.finditer(inspect.getsource(each))):
            text = f"{above} {comment or ''}".strip()
            above = "" if name else text
            if name and text:
                texts.setdefault(name, text.replace("`", "").rstrip(".") + ".")
    return texts
