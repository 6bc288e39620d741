# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Dataclasses whose fields are checked against their annotations.

Settings come from YAML files, from the command line or from Python. The fields of dataclasses derived from
[`Settings`] are checked before any work. `Annotated` types such as [`Count`] or [`Share`] have ranges, and
[`InputPath`] and [`OutputPath`] mark the strings that are paths, for `run_folder.py`.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from audiolm_hf.config_values_audiolm import Allowed, Rule, Within, did_you_mean, plain

MAX_COUNT = 10**9

# Old keys -> the keys that replace them.
RENAMED_KEYS = {
    "num_steps": "max_steps",
    "validation_steps": "eval_steps",
    "evaluation_steps": "eval_steps",
    "checkpoint_steps": "save_steps",
    "log_steps": "logging_steps",
    "max_gradient_norm": "max_grad_norm",
    "mixed_precision": "bf16, true or false",
    "device": "use_cpu, true or false",
    "warmup_share": "warmup_steps, a number below 1",
    "schedule": "decay_steps, which is 0 for a constant learning rate",
    "max_minutes": "max_steps",
    "initial_codec": "initial_weights",
    "drop_condition": "condition_dropout",
    "consensus_rounds": "averaging_rounds",
    "semantic": "stages.semantic",
    "coarse": "stages.coarse",
    "fine": "stages.fine",
}


def matching(pattern: str, text: str) -> Rule:
    """Return a rule for text that matches a regular expression as a whole, which `text` describes."""
    return Rule(text, lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None)


def _is_filled(value: Any) -> bool:
    return bool(value) and not (isinstance(value, str) and (not value.strip() or "\0" in value))


FILLED = Rule("a value that is not empty", _is_filled)  # a string or a list


class Use:
    """Role of a field for [`~audiolm_hf.run_folder.hold_folder`]."""

    INPUT = "input"  # files whose content is compared
    NAMED_INPUT = "named input"  # such files, or a name on the Hub
    DATA = "data"  # recordings, relative to the field `folder` of the same dataclass
    FREE = "free"  # does not change the result


Count = Annotated[int, Within(1, MAX_COUNT, whole=True)]
CountOrNone = Annotated[int, Within(0, MAX_COUNT, whole=True)]  # 0 switches something off
Seed = Annotated[int, Within(0, 2**32 - 1, whole=True)]
Positive = Annotated[float, Within(0, MAX_COUNT, above=True)]
NotNegative = Annotated[float, Within(0, MAX_COUNT)]
Share = Annotated[float, Within(0, 1)]
PartialShare = Annotated[float, Within(0, 1, below=True)]
LearningRate = Annotated[float, Within(0, 1, above=True)]
Decay = Annotated[float, Within(0, 10)]  # of AdamW
BatchSize = Annotated[int, Within(1, 2**16, whole=True)]
Seconds = Annotated[float, Within(0, 3600, above=True)]  # of a crop
Filename = Annotated[str, matching(r"[A-Za-z0-9][\w.-]{,99}", "a name of letters, digits, `_`, `-` and `.`")]
Text = Annotated[str, FILLED]
InputPath = Annotated[str, FILLED, Use.INPUT]
NamedInput = Annotated[str, FILLED, Use.NAMED_INPUT]
OutputPath = Annotated[str, FILLED, Use.FREE]


class Settings:
    """Base of dataclasses that are checked when they are created; numbers given as strings are converted.

    The `__post_init__` of a subclass must call this one first.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = convert(hints[field.name], getattr(self, field.name), field.name)
            object.__setattr__(self, field.name, value)  # of frozen ones, too


def build(config_class: type, values: dict[str, Any], where: str = "configuration") -> Any:
    """Build a dataclass, whose fields can be dataclasses, from nested values; `where` names their source in errors."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for key in values:
        if key not in fields and key in RENAMED_KEYS and re.split(r"\W", RENAMED_KEYS[key])[0] in fields:
            raise ValueError(f"{where}: the old key {key!r} is now {RENAMED_KEYS[key]}.")
        if key not in fields:
            known = [f"{path}.{key}" for path in _paths_with(config_class, key, values)] or fields
            raise ValueError(f"{where}: unknown key {key!r}{did_you_mean(str(key), known)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{where}: the key {name!r} is missing; add {'.'.join([*where.split(': ')[1:], name])}.")
    converted = {key: convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return config_class(**converted)
    except ValueError as error:  # of fields that do not fit each other
        raise ValueError(f"{where}: {error}") from error


def _paths_with(config_class: type, key: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield the paths to a dataclass's inner dataclasses that have a key; `values` have the keys of dictionaries."""
    for name, hint in typing.get_type_hints(config_class).items():
        for inner in filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint))):
            if key in [field.name for field in dataclasses.fields(inner)]:
                given = values.get(name)
                names = given if typing.get_origin(hint) is dict and isinstance(given, dict) else ()
                places = names if names else ("0",) if typing.get_origin(hint) is list else ()
                yield from [f"{name}.{each}" for each in places] or [name]


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return a value converted to its annotated type; `where` is its name in errors."""
    value, origin, arguments = plain(value), typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = convert(arguments[0], value, where)
        for mark in arguments[1:]:
            if isinstance(mark, Allowed):
                mark.check(where, value)
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return convert(next(each for each in arguments if each is not type(None)), value, where)
    if origin is typing.Literal:
        if any(value == known and type(value) is type(known) for known in arguments):
            return value
        raise ValueError(f"{where} is {value!r}; it must be one of {', '.join(map(repr, arguments))}.")
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(convert(arguments[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {
            convert(arguments[0], key, f"{where}: the key"): convert(arguments[1], inner, f"{where}.{key}")
            for key, inner in value.items()
        }
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            value = float(value)  # YAML 1.1 reads 1e-3 as a string
        except (ValueError, OverflowError):
            raise ValueError(f"{where} is {value!r}; it must be a number.") from None
    expected = origin or hint
    if hint is Any or (isinstance(value, expected) and not (isinstance(value, bool) and expected is not bool)):
        _require_finite(value, where)
        return value
    raise ValueError(f"{where} is {value!r} ({type(value).__name__}); it must be {type_text(hint)}.")


def type_text(hint: Any) -> str:
    """Return a type without its ranges and marks, such as `list of str`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(each) for each in arguments if each is not type(None)) + ", optional"
    if origin in (list, tuple, dict) and arguments[-1] is not Any:
        return f"{origin.__name__} of {type_text(arguments[-1])}"
    return "keys below" if dataclasses.is_dataclass(hint) else (origin or hint).__name__


def _require_finite(value: Any, where: str) -> None:
    """Check for NaN and infinity in values without annotations, such as the fields of a model's configuration."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _require_finite(inner, f"{where}.{key}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value!r}; it must be a finite number.")
