# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From a YAML file and `key=value` overrides to a checked dataclass, for every training.

`audiolm-hf train` comes in here: the key `kind` at the top of the file chooses the training, whose dataclass names
every other key and its type. A key or a value that does not fit is an error that says what would; so is a key of a
model (`backbone`, `codec`, `encoder`, `generation`) that its configuration does not have.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

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


@dataclasses.dataclass
class AudioDataConfig:
    """Where recordings lie; shared by the trainings that read audio.

    Args:
        folder (`str`): folder of the data; given on the command line as `data.folder=...`.
        train (`list[str]`): parquet files, folders or manifests to learn from, relative to `folder`.
        validation (`list[str]`): the same for validation; never learned from.
    """

    folder: str
    train: list[str]
    validation: list[str] = dataclasses.field(default_factory=list)

    @property
    def train_paths(self) -> list[Path]:
        """The training data, joined with the folder."""
        return [Path(self.folder) / name for name in self.train]

    @property
    def validation_paths(self) -> list[Path]:
        """The validation data, joined with the folder."""
        return [Path(self.folder) / name for name in self.validation]


def training_kind(kind: str) -> tuple[type, Callable[[Any], Any]]:
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
            from audiolm_hf.training.codec import CodecTrainingConfig, train_codec

            return CodecTrainingConfig, train_codec
        case "semantic_encoder":
            from audiolm_hf.training.semantic_encoder import SemanticEncoderTrainingConfig, train_semantic_encoder

            return SemanticEncoderTrainingConfig, train_semantic_encoder
        case "centroids":
            from audiolm_hf.training.centroids import CentroidsTrainingConfig, train_centroids

            return CentroidsTrainingConfig, train_centroids
        case "speaker_invariance":
            from audiolm_hf.training.speaker_invariance import SpeakerInvarianceConfig, train_speaker_invariance

            return SpeakerInvarianceConfig, train_speaker_invariance
        case "tokenize":
            from audiolm_hf.training.tokenize import TokenizeConfig, tokenize

            return TokenizeConfig, tokenize
        case "stage":
            from audiolm_hf.training.stages import StageTrainingConfig, train_stage

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
        path (`str` or `Path`): a YAML file with the key `kind` and the fields of that training's dataclass.
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
    settings = {key: value for key, value in values.items() if key != "kind"}
    config_class, _ = training_kind(values["kind"])
    if "here" in {field.name for field in dataclasses.fields(config_class)}:
        settings.setdefault("here", str(here))
    config = build_config(config_class, settings, where)
    check_model_fields(values["kind"], settings, where)
    return config


def run_training(path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Run the training that a YAML file describes; see [`load_config`] for the arguments and errors."""
    kind = read_yaml(path, overrides)["kind"]
    return training_kind(kind)[1](load_config(path, overrides))


def read_yaml(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply overrides, without checking any key but `kind`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give the YAML file of a training.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def build_config(config_class: type, values: dict[str, Any], where: str = "configuration") -> Any:
    """Build a dataclass from nested values.

    Args:
        config_class (`type`): a dataclass; fields may be dataclasses too.
        values (`dict`): one value for each field that is to differ from its default.
        where (`str`): what the errors call the place these values come from.

    Returns:
        An instance of `config_class`.

    Raises:
        ValueError: an unknown key, a field without a value, or a value of the wrong type.
    """
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for key in values:
        if key not in fields:
            raise ValueError(f"{where}: unknown key {key!r}{did_you_mean(str(key), fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{where}: the key {name!r} is missing; add it to the file or give {name}=... beside it.")
    return config_class(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def dump_config(config: Any) -> str:
    """Write a dataclass as the YAML text that rebuilds it, without its `kind`."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type, or an error that names the place."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ValueError(f"{where} is {value!r}; it must be one of {', '.join(map(repr, arguments))}.")
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build_config(hint, value, where)  # type: ignore[arg-type]
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        return origin(_convert(arguments[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        return _to_float(value, where)
    expected = origin or hint
    if hint is Any or (isinstance(value, expected) and not (isinstance(value, bool) and expected is not bool)):
        return value
    raise ValueError(f"{where} is {value!r} ({type(value).__name__}); it must be {_type_name(hint)}.")


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    failures = []
    for argument in arguments:
        if argument is not type(None):
            try:
                return _convert(argument, value, where)
            except ValueError as error:
                failures.append(error)
    raise failures[0]


def _to_float(value: int | str, where: str) -> float:
    try:
        return float(value)  # YAML 1.1 reads 1e-3 as a string
    except ValueError:
        raise ValueError(f"{where} is {value!r}; it must be a number.") from None


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


__all__ = [
    "TRAINING_KINDS",
    "AudioDataConfig",
    "build_config",
    "build_training",
    "dump_config",
    "load_config",
    "read_yaml",
    "run_training",
    "training_kind",
]
