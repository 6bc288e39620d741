# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Run the training in a YAML file, or a recipe of several trainings; the implementation of `audiolm-hf train`.

All steps of a recipe are checked before the first one runs. Each has its own subfolder, so that rerunning the command
skips the finished steps and resumes the first unfinished one.
"""

import dataclasses
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from accelerate.state import AcceleratorState

from audiolm_hf.config_values_audiolm import did_you_mean
from audiolm_hf.run_folder import hold_folder
from audiolm_hf.settings import FILLED, RENAMED_KEYS, OutputPath, Settings, build
from audiolm_hf.training.kinds import RECIPE, TRAINING_KINDS, build_training, own_settings, training_kind
from audiolm_hf.training.processes import announce, process_rank
from audiolm_hf.training.yaml_files import merge, read_yaml, substitute

_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass
class RecipeConfig(Settings):
    """Configuration of a recipe.

    In the strings of the steps, `$output` is replaced by `output_folder`, `$data` by `data.folder` and `$here` by the
    folder of the recipe's file. `$here` is also replaced in `data.folder`.
    """

    # the trainings. Each has a unique `name` and either `kind` and the keys of the training, or `config`, the path of
    # its YAML file relative to the recipe; other keys then override those of the file, and `phase`, by default the
    # name of the step, selects one of its phases.
    steps: Annotated[list[dict[str, Any]], FILLED]
    output_folder: OutputPath  # folder with a subfolder for every step
    # keys for all steps that have them, overridden by the steps' own. In the file and on the command line they are
    # next to `steps`: `seed=1`, `data.folder=...`.
    every_step: dict[str, Any] = field(default_factory=dict)
    here: str = "."  # folder of the recipe's file, which is set automatically

    def __post_init__(self) -> None:
        super().__post_init__()
        self.every_step = substitute(self.every_step, {"here": self.here})
        resolve_steps(self)


class Step(NamedTuple):
    """A checked training of a recipe."""

    name: str
    kind: str
    config: Any


def resolve_steps(recipe: RecipeConfig) -> list[Step]:
    """Read and check every step."""
    steps: list[Step] = []
    known: set[str] = set()
    for place, values in enumerate(recipe.steps):
        name = values.get("name")
        if not isinstance(name, str) or not _STEP_NAME.fullmatch(name) or name in [step.name for step in steps]:
            raise ValueError(
                f"steps[{place}] has the name {name!r}; give one of its own, of letters, digits, `_`, `-`, `.`."
            )
        own = {key: value for key, value in values.items() if key != "name"}
        step, keys = _resolve_step(recipe, name, own)
        _check_folder(recipe, step, steps)
        steps.append(step)
        known |= keys
    for key in recipe.every_step:
        if key not in known and key in RENAMED_KEYS:
            raise ValueError(f"the old key {key!r} is now {RENAMED_KEYS[key]}.")
        if key not in known:
            names = [field.name for field in dataclasses.fields(RecipeConfig) if field.name != "every_step"]
            raise ValueError(
                f"neither the recipe nor a step has the key {key!r}{did_you_mean(str(key), [*names, *known])}"
            )
    return steps


def _resolve_step(recipe: RecipeConfig, name: str, values: dict[str, Any]) -> tuple[Step, set[str]]:
    where, here = f"step {name}", Path(recipe.here)
    if "config" in values:
        path = here / str(values["config"])
        where, here = f"step {name} ({path})", path.parent
        own = {key: value for key, value in values.items() if key not in ("config", "phase")}
        chosen = [f"phase={values['phase']}"] if "phase" in values else []
        values = merge(read_yaml(path, chosen, phase=name), own)
    if "kind" not in values:
        raise ValueError(
            f"{where} has neither `kind` nor `config` but {', '.join(map(str, values))}; give one of the two."
        )
    if values["kind"] == RECIPE:
        raise ValueError(f"{where} is a recipe itself; put its steps into this one.")
    keys = {field.name for field in dataclasses.fields(training_kind(values["kind"], f"{where}: ")[0])}
    values = merge(values, {key: value for key, value in recipe.every_step.items() if key in keys})
    values.pop("output", None)
    names = {"output": recipe.output_folder, "here": str(here)}
    shared_data = recipe.every_step.get("data")
    if isinstance(shared_data, dict) and "folder" in shared_data:
        names["data"] = str(shared_data["folder"])
    return Step(name, values["kind"], build_training(substitute(values, names), where)), keys


def _check_folder(recipe: RecipeConfig, step: Step, others: list[Step]) -> None:
    """Check that a step writes to its own subfolder of the recipe's output folder."""
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
    """Run the unfinished steps of a recipe, in all processes of `torchrun`, and return the result of the last one."""
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
    """Load the configuration of a training from its YAML file, and check all values.

    The value of `output` replaces `$output` in other strings. Dots in an override `key=value` select nested keys
    (`data.folder=/tmp/data`), and items of lists by `name` or index (`steps.codec.max_steps=5`).
    """
    return _load(path, overrides)[1]


def _load(path: str | Path, overrides: Sequence[str]) -> tuple[str, Any]:
    values = read_yaml(path, overrides)
    if "kind" not in values:
        raise ValueError(f"{path} has no key `kind`; add `kind: ` with one of {', '.join(TRAINING_KINDS)}.")
    if values["kind"] != RECIPE:
        return values["kind"], build_training(values, str(path))
    names = {field.name for field in dataclasses.fields(RecipeConfig)}
    own: dict[str, Any] = {"here": str(Path(path).parent), "every_step": {}}
    for key, value in own_settings(values).items():
        (own if key in names else own["every_step"])[key] = value  # unknown keys of a recipe are for its steps
    return RECIPE, build(RecipeConfig, own, str(path))


def run_training(path: str | Path, overrides: Sequence[str] = (), overwrite: bool = False) -> Path:
    """Run or resume the training of a YAML file, see [`load_config`], and return the path of the result."""
    kind, config = _load(path, overrides)
    return training_kind(kind)[1](config, overwrite=overwrite)
