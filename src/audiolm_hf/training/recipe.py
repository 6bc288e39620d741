# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Run the training that a YAML file describes, or several as one recipe. `audiolm-hf train` comes in here.

A recipe's steps run in order, and what is done is not done again.

A step is what `audiolm-hf train` takes: the name of a YAML file, or its keys in place. All steps are checked before
the first one runs. Each is a run of a folder of its own inside the recipe's: after an interruption the same command
passes over the finished ones and resumes the first that is not.

Paper: AudioLM (arXiv 2209.03143), training of all its parts.
"""

import dataclasses
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from accelerate.state import AcceleratorState

from audiolm_hf.config_values_audiolm import did_you_mean
from audiolm_hf.run_folder import hold_folder
from audiolm_hf.settings import RENAMED_KEYS, Filled, OutputPath, Settings, build
from audiolm_hf.training.kinds import RECIPE, TRAINING_KINDS, build_training, training_keys, training_kind
from audiolm_hf.training.processes import announce, process_rank
from audiolm_hf.training.yaml_files import merge, read_yaml, substitute

_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass
class RecipeConfig(Settings):
    """The steps, and what they share.

    In the strings of steps `$output` stands for `output_folder`, `$data` for `data.folder` and `$here` for the folder
    of the recipe's file; `$here` also in `data.folder`.

    Args:
        steps (`list[dict]`): each with a `name` of its own and either `kind` and the keys of that training, or
            `config`, the name of its YAML file, from the recipe's folder; other keys then change that file's,
            and `phase`, by default the step's name, chooses one of its phases.
        output_folder (`str`): every step writes to a folder inside it.
        every_step (`dict`): keys for all steps that know them, before the steps' own; in the file and on the command
            line they stand beside `steps`: `seed=1`, `data.folder=...`.
        here (`str`, defaults to `"."`): the recipe's folder; known without being given.
    """

    steps: Annotated[list[dict[str, Any]], Filled()]
    output_folder: OutputPath
    every_step: dict[str, Any] = field(default_factory=dict)
    here: str = "."

    def __post_init__(self) -> None:
        super().__post_init__()
        self.every_step = substitute(self.every_step, {"here": self.here})
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
        ValueError: a step's name is no plain word or another's, its output folder is another's or not inside the
            recipe's, or its keys or values do not fit its training; or a key for every step is known to none.
    """
    steps: list[Step] = []
    known: set[str] = set()
    for place, values in enumerate(recipe.steps):
        name = values.get("name")
        if not isinstance(name, str) or not _STEP_NAME.fullmatch(name) or name in [step.name for step in steps]:
            raise ValueError(
                f"steps[{place}] has the name {name!r}; give every step a `name` of its own, of letters, digits, `_`, "
                "`-` and `.`."
            )
        own = {key: value for key, value in values.items() if key != "name"}
        step, keys = _resolve_step(recipe, name, own)
        _check_folder(recipe, step, steps)
        steps.append(step)
        known |= keys
    for key in recipe.every_step:
        if key not in known and key in RENAMED_KEYS:
            raise ValueError(f"the key {key!r} of before is now {RENAMED_KEYS[key]}.")
        if key not in known:
            names = [field.name for field in dataclasses.fields(RecipeConfig) if field.name != "every_step"]
            raise ValueError(
                f"neither the recipe nor one of its steps has the key {key!r}{did_you_mean(key, [*names, *known])}"
            )
    return steps


def _resolve_step(recipe: RecipeConfig, name: str, values: dict[str, Any]) -> tuple[Step, set[str]]:
    """A step, and the keys of its training."""
    where, here = f"step {name}", Path(recipe.here)
    if "config" in values:
        path = here / str(values["config"])
        where, here = f"step {name} ({path})", path.parent
        own = {key: value for key, value in values.items() if key not in ("config", "phase")}
        values = merge(read_yaml(path, phase=values.get("phase", name)), own)
    if "kind" not in values:
        raise ValueError(f"{where} has neither `kind` nor `config` but {', '.join(values)}; give one of the two.")
    if values["kind"] == RECIPE:
        raise ValueError(f"{where} is a recipe itself; put its steps into this one.")
    keys = training_keys(values["kind"])
    values = merge(values, {key: value for key, value in recipe.every_step.items() if key in keys})
    values.pop("output", None)
    names = {"output": recipe.output_folder, "here": str(here)}
    shared_data = recipe.every_step.get("data")
    if isinstance(shared_data, dict) and "folder" in shared_data:
        names["data"] = str(shared_data["folder"])
    return Step(name, values["kind"], build_training(substitute(values, names), where)), keys


def _check_folder(recipe: RecipeConfig, step: Step, others: list[Step]) -> None:
    """Refuse a step that does not write to a folder of its own inside the recipe's."""
    folder, root = Path(step.config.output_folder).resolve(), Path(recipe.output_folder).resolve()
    if folder == root or root not in folder.parents:
        raise ValueError(
            f"step {step.name} writes to {step.config.output_folder}, which is not inside the recipe's output_folder "
            f"{recipe.output_folder}; begin it with $output/."
        )
    for other in others:
        taken = Path(other.config.output_folder).resolve()
        if taken == folder or taken in folder.parents or folder in taken.parents:
            raise ValueError(
                f"The steps {other.name} and {step.name} write to {other.config.output_folder} and "
                f"{step.config.output_folder}; give each a folder of its own, outside of the other's."
            )


def run_recipe(recipe: RecipeConfig, overwrite: bool = False) -> Path:
    """Run the steps that are not done.

    Under `torchrun` every process calls this: trainings share their work, and what one process does alone the others
    wait for.

    Args:
        recipe ([`RecipeConfig`]): the recipe.
        overwrite (`bool`, defaults to `False`): do those steps again that were done with other settings.

    Returns:
        `Path`: result of the last step.

    Raises:
        ValueError: a step was done with other settings than those of now.
        BlockingIOError: another process runs a recipe in `output_folder`.
    """
    steps = resolve_steps(recipe)
    result = Path(recipe.output_folder)
    with ExitStack() as stack:
        if not process_rank():
            stack.enter_context(hold_folder(result, "recipe", {}, {}, shared=True))
        for place, step in enumerate(steps, start=1):
            announce(f"Step {place} of {len(steps)}, {step.name} ({step.kind}).")
            AcceleratorState._reset_state()  # the next training may compute in another precision
            result = training_kind(step.kind)[1](step.config, overwrite=overwrite)
    return result


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
    return _load(path, overrides)[1]


def _load(path: str | Path, overrides: Sequence[str]) -> tuple[str, Any]:
    """The kind of a training, and its dataclass."""
    values = read_yaml(path, overrides)
    if "kind" not in values:
        raise ValueError(f"{path} has no key `kind`; add `kind: ` with one of {', '.join(TRAINING_KINDS)}.")
    if values["kind"] != RECIPE:
        return values["kind"], build_training(values, str(path))
    settings = {key: value for key, value in values.items() if key not in ("kind", "output")}
    if "output" in values:
        settings = substitute(settings, {"output": str(values["output"])})
    names = {field.name for field in dataclasses.fields(RecipeConfig)}
    own = {"here": str(Path(path).parent)} | {key: value for key, value in settings.items() if key in names}
    # What a recipe does not know itself is for its steps.
    every_step = {key: value for key, value in settings.items() if key not in names}
    return RECIPE, build(RecipeConfig, own | {"every_step": every_step}, str(path))


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
    kind, config = _load(path, overrides)
    run = run_recipe if kind == RECIPE else training_kind(kind)[1]
    return run(config, overwrite=overwrite)
