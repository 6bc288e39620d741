# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Read the YAML file of any training or recipe, and run it. `audiolm-hf train` comes in here."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_hf.settings import build
from audiolm_hf.training.kinds import RECIPE, TRAINING_KINDS, build_training, training_kind
from audiolm_hf.training.recipe import RecipeConfig, run_recipe
from audiolm_hf.training.yaml_files import read_yaml, substitute


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
