# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From a YAML file and `key=value` overrides to a checked dataclass, for every training.

`audiolm-hf train` comes in here: the key `kind` at the top of the file chooses the training, whose dataclass names
every other key and its type. A key or a value that does not fit is an error that says what would; so is a key of a
model (`backbone`, `codec`, `encoder`, `generation`) that its configuration does not have.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Annotated, Any

import yaml

from audiolm_hf.settings import Filled, OutputPath, Settings, Use, build
from audiolm_hf.strict_config_audiolm import did_you_mean
from audiolm_hf.training.model_fields import check_model_fields

TRAINING_KINDS = (
    "codec",
    "semantic_encoder",
    "centroids",
    "speaker_invariance",
    "tokenize",
    "stage",
    "lora",
    "assemble",
    "render",
    "recipe",
)


Recordings = Annotated[list[Annotated[str, Filled()]], Use.DATA]
DataFolder = OutputPath  # where it lies changes nothing; what it holds is compared


@dataclasses.dataclass
class AudioDataConfig(Settings):
    """Where recordings lie; shared by the trainings that read audio.

    Args:
        folder (`str`): folder of the data; given on the command line as `data.folder=...`.
        train (`list[str]`): parquet files, folders or manifests to learn from, relative to `folder`.
        validation (`list[str]`): the same for validation; never learned from.
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


def training_kind(kind: str) -> tuple[type, Callable[..., Path]]:
    """Look up a training by its name; its modules are imported only now.

    Args:
        kind (`str`): one of `TRAINING_KINDS`.

    Returns:
        `tuple`: the dataclass of its configuration, and the function that runs it.

    Raises:
        ValueError: there is no such training.
    """
    match kind:
        case "codec":
            from audiolm_hf.training.codec.trainer import CodecTrainingConfig, train_codec

            return CodecTrainingConfig, train_codec
        case "semantic_encoder":
            from audiolm_hf.training.tokenizer.semantic_encoder import (
                SemanticEncoderTrainingConfig,
                train_semantic_encoder,
            )

            return SemanticEncoderTrainingConfig, train_semantic_encoder
        case "centroids":
            from audiolm_hf.training.tokenizer.centroids import CentroidsTrainingConfig, train_centroids

            return CentroidsTrainingConfig, train_centroids
        case "speaker_invariance":
            from audiolm_hf.training.tokenizer.speaker_invariance import (
                SpeakerInvarianceConfig,
                train_speaker_invariance,
            )

            return SpeakerInvarianceConfig, train_speaker_invariance
        case "tokenize":
            from audiolm_hf.training.tokenize import TokenizeConfig, tokenize

            return TokenizeConfig, tokenize
        case "stage":
            from audiolm_hf.training.stages.training import StageTrainingConfig, train_stage

            return StageTrainingConfig, train_stage
        case "lora":
            from audiolm_hf.training.lora import LoraTrainingConfig, train_lora

            return LoraTrainingConfig, train_lora
        case "assemble":
            from audiolm_hf.training.assemble import AssembleConfig, assemble

            return AssembleConfig, assemble
        case "render":
            from audiolm_hf.training.render import RenderConfig, render

            return RenderConfig, render
        case "recipe":
            from audiolm_hf.training.recipe import RecipeConfig, run_recipe

            return RecipeConfig, run_recipe
    raise ValueError(f"kind is {kind!r}{did_you_mean(str(kind), TRAINING_KINDS)}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Read a training's YAML file into its dataclass.

    Args:
        path (`str` or `Path`): a YAML file with the key `kind` and the fields of that training's dataclass; where it
            has `output`, `$output` in the other texts stands for it.
        overrides (`list[str]`): `key=value` changes; dots reach into nested keys (`data.folder=/tmp/data`), in a
            list by the items' `name` or place (`steps.codec.max_steps=5`), and values are read as YAML.

    Returns:
        The dataclass of the training, with every value checked against its type.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type, or a malformed override.
    """
    return build_training(read_yaml(path, overrides), str(path), Path(path).parent)


def build_training(values: dict[str, Any], where: str, here: Path) -> Any:
    """Build the dataclass of a training from the content of its file.

    Args:
        values (`dict`): with the key `kind`; not changed.
        where (`str`): what the errors call the place these values come from.
        here (`Path`): folder of the file, for a training that names other files.

    Returns:
        The dataclass of the training.

    Raises:
        ValueError: see [`load_config`].
    """
    config_class, _ = training_kind(values["kind"])
    settings = {key: value for key, value in values.items() if key not in ("kind", "output")}
    if "output" in values:
        settings = substitute(settings, {"output": str(values["output"])})
    names = {field.name for field in dataclasses.fields(config_class)}
    if "here" in names:
        settings.setdefault("here", str(here))
    if "every_step" in names:  # of a recipe: what it does not know itself is for its steps
        own = {key: value for key, value in settings.items() if key in names}
        settings = own | {"every_step": {key: value for key, value in settings.items() if key not in names}}
    config = build(config_class, settings, where)
    check_model_fields(values["kind"], settings, where)
    return config


def substitute(value: Any, names: dict[str, str]) -> Any:
    """Replace `$name` in every string of nested values."""
    if isinstance(value, str):
        return Template(value).safe_substitute(names)
    if isinstance(value, dict):
        return {key: substitute(inner, names) for key, inner in value.items()}
    return [substitute(inner, names) for inner in value] if isinstance(value, list) else value


def run_training(path: str | Path, overrides: Sequence[str] = (), overwrite: bool = False) -> Path:
    """Run the training that a YAML file describes, or resume it.

    Args:
        path (`str` or `Path`): see [`load_config`].
        overrides (`list[str]`): likewise.
        overwrite (`bool`, defaults to `False`): remove what the output folder holds if it is of another training.

    Returns:
        `Path`: file or folder of the result.

    Raises:
        ValueError: see [`load_config`], and [`~audiolm_hf.run_folder.hold_folder`].
    """
    kind = read_yaml(path, overrides)["kind"]
    return training_kind(kind)[1](load_config(path, overrides), overwrite=overwrite)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses mappings with two equal keys, of which YAML's own loader keeps the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        repeated = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        if repeated is not None:
            problem = f"the key {repeated!r} stands twice; keep one of them"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply overrides, without checking any key but `kind`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give the YAML file of a training.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; it must hold `key: value` lines.")
    values = _unshared(values)
    for override in overrides:
        _apply_override(values, override)
    if "kind" not in values:
        raise ValueError(f"{path} has no key `kind`; add `kind: ` with one of {', '.join(TRAINING_KINDS)}.")
    return values


def _unshared(value: Any) -> Any:
    """A copy in which two places never hold one object, as YAML's `*alias` makes them do; an override is for one."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"The override {override!r} is not of the form key=value, such as data.folder=/tmp/data.")
    *parents, last = key.split(".")
    inner: Any = values
    for parent in parents:
        inner = _item_of(inner, parent, override) if isinstance(inner, list) else inner.setdefault(parent, {})
        if not isinstance(inner, (dict, list)):
            raise ValueError(f"The override {override!r} reaches into {parent!r}, which holds one value; shorten it.")
    if isinstance(inner, list):
        raise ValueError(f"The override {override!r} ends in a list; give the list whole, or reach into an item.")
    try:
        inner[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"The override {override!r} is not valid YAML after the =: {error}.") from error


def _item_of(items: list[Any], name: str, override: str) -> Any:
    """The item of a list with that `name` or at that place."""
    named = {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
    if name in named:
        return named[name]
    if name.isdecimal() and int(name) < len(items):
        return items[int(name)]
    known = [*named] or [str(place) for place in range(len(items))]
    raise ValueError(
        f"The override {override!r} reaches for {name!r} in a list that does not have it{did_you_mean(name, known)}"
    )


__all__ = [
    "TRAINING_KINDS",
    "AudioDataConfig",
    "DataFolder",
    "Recordings",
    "build_training",
    "load_config",
    "read_yaml",
    "run_training",
    "substitute",
    "training_kind",
]
