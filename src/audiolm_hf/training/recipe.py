# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Several trainings as one: a recipe's steps run in order, and what is done is not done again.

A step is what `audiolm-hf train` takes: the name of a YAML file, or its keys in place. All steps are checked before
the first one runs. A finished step leaves a mark in `output_folder/steps`; after an interruption the same command goes
on with the first step that has none, which itself goes on from its last checkpoint.

Paper: AudioLM (arXiv 2209.03143), training of all its parts.
"""

import dataclasses
import json
import os
import string
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState
from transformers.utils import logging

from audiolm_hf.training.config import build_training, read_yaml, training_kind

logger = logging.get_logger(__name__)

ONE_PROCESS_KINDS = ("render", "centroids", "tokenize", "assemble")  # the first process alone does these
POLL_S = 1.0  # seconds between looks for the mark of the first process


@dataclass
class RecipeData:
    """What the steps' `data` have in common.

    Args:
        folder (`str`): folder of the data, for every step; given on the command line as `data.folder=...`.
        train (`list[str]`): as in [`AudioDataConfig`]; where given, for every step, whatever its file names.
        validation (`list[str]`): likewise.
    """

    folder: str
    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)


@dataclass
class RecipeConfig:
    """The steps, and what they share.

    In the strings of steps `$output` stands for `output_folder`, `$data` for `data.folder` and `$here` for the folder
    of the recipe's file; `$here` also in `data.folder`.

    Args:
        steps (`list[dict]`): each with a `name` of its own and either `kind` and the keys of that training, or
            `config`, the name of its YAML file, from the recipe's folder; other keys then change that file's.
        output_folder (`str`): receives the marks of finished steps in `steps`.
        data ([`RecipeData`], *optional*): goes into the `data` of every step that has one.
        here (`str`, defaults to `"."`): the recipe's folder; known without being given.
    """

    steps: list[dict[str, Any]]
    output_folder: str
    data: RecipeData | None = None
    here: str = "."

    def __post_init__(self) -> None:
        if self.data is not None:
            self.data.folder = string.Template(self.data.folder).safe_substitute(here=self.here)
        resolve_steps(self)


@dataclass(frozen=True)
class Step:
    """One training of a recipe, checked and ready.

    Args:
        name (`str`): its name in the recipe.
        kind (`str`): of the training.
        config: the dataclass of that training.
    """

    name: str
    kind: str
    config: Any


def resolve_steps(recipe: RecipeConfig) -> list[Step]:
    """Read and check every step.

    Args:
        recipe ([`RecipeConfig`]): the recipe.

    Returns:
        `list[Step]`: in order.

    Raises:
        FileNotFoundError: a step's file is not there.
        ValueError: a step without or with a repeated name, or with keys or values that do not fit its training.
    """
    steps: list[Step] = []
    for place, values in enumerate(recipe.steps):
        name = values.get("name")
        if not isinstance(name, str) or name in [step.name for step in steps]:
            raise ValueError(f"steps[{place}] has the name {name!r}; give every step a `name` of its own.")
        steps.append(_resolve_step(recipe, name, {key: value for key, value in values.items() if key != "name"}))
    if not steps:
        raise ValueError("steps is empty; name at least one training.")
    return steps


def _resolve_step(recipe: RecipeConfig, name: str, values: dict[str, Any]) -> Step:
    where, here = f"step {name}", Path(recipe.here)
    if "config" in values:
        path = here / str(values["config"])
        where, here = f"step {name} ({path})", path.parent
        values = _merge(read_yaml(path), {key: value for key, value in values.items() if key != "config"})
    if "kind" not in values:
        raise ValueError(f"{where} has neither `kind` nor `config` but {', '.join(values)}; give one of the two.")
    if values["kind"] == "recipe":
        raise ValueError(f"{where} is a recipe itself; put its steps into this one.")
    config_class, _ = training_kind(values["kind"])
    names = {"output": recipe.output_folder, "here": str(here)}
    if recipe.data is not None:
        names["data"] = recipe.data.folder
        if "data" in {entry.name for entry in dataclasses.fields(config_class)}:
            values = values | {"data": _complete_data(recipe.data, values.get("data") or {})}
    return Step(name, values["kind"], build_training(_substitute(values, names), where, here))


def _complete_data(shared: RecipeData, own: dict[str, Any]) -> dict[str, Any]:
    given = {name: paths for name, paths in (("train", shared.train), ("validation", shared.validation)) if paths}
    return own | given | {"folder": shared.folder}


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with the changes made, key by key in nested ones."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged


def _substitute(value: Any, names: dict[str, str]) -> Any:
    """Replace `$name` in every string."""
    if isinstance(value, str):
        return string.Template(value).safe_substitute(names)
    if isinstance(value, dict):
        return {key: _substitute(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_substitute(inner, names) for inner in value]
    return value


def run_recipe(recipe: RecipeConfig) -> list[str]:
    """Run the steps that are not done.

    Under `torchrun` every process calls this: trainings share their work, and what one process does alone the others
    wait for.

    Args:
        recipe ([`RecipeConfig`]): the recipe.

    Returns:
        `list[str]`: names of the steps that were run now.

    Raises:
        ValueError: a step was done with other settings than those of now.
    """
    steps = resolve_steps(recipe)
    marks = [Path(recipe.output_folder) / "steps" / f"{step.name}.json" for step in steps]
    done = [_is_done(step, mark) for step, mark in zip(steps, marks, strict=True)]
    ran = []
    for place, (step, mark) in enumerate(zip(steps, marks, strict=True), start=1):
        title = f"Step {place} of {len(steps)}, {step.name} ({step.kind})"
        if done[place - 1]:
            logger.warning(f"{title}: done before.")
            continue
        logger.warning(f"{title}.")
        _run_step(step, mark)
        ran.append(step.name)
    return ran


def _run_step(step: Step, mark: Path) -> None:
    first = int(os.environ.get("RANK", "0")) == 0
    start = time.monotonic()
    if first or step.kind not in ONE_PROCESS_KINDS:
        AcceleratorState._reset_state()  # the next training may compute in another precision
        training_kind(step.kind)[1](step.config)
    if first:
        _write_mark(step, mark, time.monotonic() - start)
    while not mark.exists():
        time.sleep(POLL_S)


def _settings(step: Step) -> dict[str, Any]:
    return json.loads(json.dumps({"kind": step.kind} | dataclasses.asdict(step.config)))


def _write_mark(step: Step, mark: Path, seconds: float) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    partial = mark.with_suffix(".unfinished")
    text = json.dumps({"minutes": seconds / 60, "settings": _settings(step)}, indent=2)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(mark)


def _is_done(step: Step, mark: Path) -> bool:
    if not mark.exists():
        return False
    old, new = json.loads(mark.read_text(encoding="utf-8"))["settings"], _settings(step)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        raise ValueError(
            f"The step {step.name} was done with other {', '.join(changed)} than asked for now, and later steps build "
            f"on it; give another output_folder, or remove {mark} and what the step wrote to do it again."
        )
    return True


__all__ = ["RecipeConfig", "RecipeData", "Step", "resolve_steps", "run_recipe"]
