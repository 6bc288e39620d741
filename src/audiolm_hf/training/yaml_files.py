# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Read nested values from a YAML file and `key=value` overrides."""

from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from audiolm_hf.config_values_audiolm import did_you_mean


class _UniqueKeyLoader(yaml.SafeLoader):
    """A YAML loader for which a repeated key is an error; that of PyYAML silently keeps the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        repeated = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        if repeated is not None:
            problem = f"the key {repeated!r} occurs twice; keep one of them"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, overrides: Sequence[str] = (), phase: str | None = None) -> dict[str, Any]:
    """Read the YAML file of a training, select one of its phases, and apply overrides.

    Its key `phases` has, by the name of a phase, the keys in which several trainings of a part differ; the key `phase`
    of the file or an override selects one of them, else the argument does.
    """
    path = Path(path)
    values = read_mapping(path)
    chosen = [override.partition("=")[2] for override in overrides if override.startswith("phase=")][::-1]
    values = _choose_phase(values, [*chosen, values.pop("phase", None)], phase, path)
    for override in overrides:
        if not override.startswith("phase="):
            _apply_override(values, override)
    return values


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give a YAML file, such as one in configs.")
    try:
        # copied, so that an override affects only one of several values that share an object by YAML's `*alias`
        values = copied(_parse(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is not valid YAML: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply, or a value holds itself by an alias.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; it must hold `key: value` lines.")
    return values


def _parse(text: str) -> Any:
    """Return the value of YAML; all flaws, such as those of dates and long numbers, raise a ValueError."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _choose_phase(values: dict[str, Any], chosen: list[Any], default: str | None, path: Path) -> dict[str, Any]:
    """Merge the selected phase, or the default one, into the other keys."""
    phases, name = values.pop("phases", None), next((name for name in chosen if name is not None), None)
    if phases is None:
        if name is not None:
            raise ValueError(f"The phase of {path} is {name!r}, but it has no `phases`; leave out phase={name}.")
        return values
    if not isinstance(phases, dict) or not all(isinstance(changes, dict) for changes in phases.values()):
        raise ValueError(f"phases in {path} is {type(phases).__name__}; give the keys of each phase under its name.")
    name = default if name is None else name
    if name not in phases:
        raise ValueError(f"The phase of {path} is {name!r}; choose one: phase={', '.join(map(str, phases))}.")
    return merge(values, phases[name])


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `values` updated recursively with the changes."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged


def copied(value: Any, change: Callable[[str], str] = str) -> Any:
    """Return a copy of nested values, with all strings changed."""
    if isinstance(value, dict):
        return {key: copied(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def substitute(value: Any, names: dict[str, str]) -> Any:
    """Replace `$name` in every string of nested values."""
    return copied(value, lambda text: Template(text).safe_substitute(names))


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
        inner[last] = _parse(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The override {override!r} is not valid YAML after the =: {error}.") from error


def _item_of(items: list[Any], name: str, override: str) -> Any:
    """Return the item of a list with that `name`, or at that index."""
    named = {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
    if name in named:
        return named[name]
    if name.isdecimal() and int(name) < len(items):
        return items[int(name)]
    known = [*named] or [str(place) for place in range(len(items))]
    raise ValueError(
        f"The override {override!r} reaches for {name!r} in a list that does not have it{did_you_mean(name, known)}"
    )
