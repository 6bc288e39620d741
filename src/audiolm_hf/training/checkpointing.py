# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the trainings that have a loop of their own: written whole or not at all, without pickles.

A checkpoint is a folder `step-00001000` of safetensors files, one for each module and optimizer, and `state.json`. It
is written under another name, forced to the disk and renamed, so that a killed training leaves no broken one behind;
should the newest be damaged all the same, the one before it is taken. Finished models and logs are kept whole alike.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import logging

logger = logging.get_logger(__name__)

STATE_FILE = "state.json"
PARTIAL = ".partial-"  # begins the name of a folder that is not complete, or being removed


def save_training_state(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write a checkpoint and remove all but the newest `keep`.

    Args:
        folder (`Path`): folder of the checkpoints.
        step (`int`): steps done.
        modules (`dict[str, nn.Module]`): what to save, by name.
        optimizers (`dict[str, torch.optim.Optimizer]`): their states, by name.
        state (`dict`): anything JSON holds.
        keep (`int`, defaults to 2): checkpoints left in the folder.

    Returns:
        `Path`: the new checkpoint.
    """
    for left_behind in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left_behind)

    def write(partial: Path) -> None:
        for name, module in modules.items():
            tensors = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
            save_file(tensors, partial / f"{name}.safetensors")
        for name, optimizer in optimizers.items():
            save_file(_optimizer_tensors(optimizer), partial / f"{name}.safetensors")
        (partial / STATE_FILE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")

    target = folder / f"step-{step:08d}"
    replace_folder(target, write)
    for old in find_checkpoints(folder)[:-keep]:
        _remove_folder(old)
    return target


def find_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def load_training_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Load the newest checkpoint that is whole into modules and optimizers.

    Args:
        folder (`Path`): folder of the checkpoints that [`save_training_state`] wrote.
        modules (`dict[str, nn.Module]`): names as they were saved; any other saved name is left alone.
        optimizers (`dict[str, torch.optim.Optimizer]`): likewise.

    Returns:
        `dict` or `None`: the `state` of the checkpoint, which holds `step`; `None` if there is no checkpoint.

    Raises:
        ValueError: there are checkpoints, and none of them can be read.
    """
    checkpoints = find_checkpoints(folder)
    for checkpoint in reversed(checkpoints):
        try:
            tensors = {name: load_file(checkpoint / f"{name}.safetensors") for name in [*modules, *optimizers]}
            state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
            step = int(state["step"])
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            logger.warning(f"The checkpoint {checkpoint} is damaged and left out: {error}")
            continue
        for name, module in modules.items():
            module.load_state_dict(tensors[name])
        for name, optimizer in optimizers.items():
            _load_optimizer(optimizer, tensors[name])
        logger.info(f"Going on from step {step} ({checkpoint}).")
        return state
    if checkpoints:
        raise ValueError(
            f"None of the {len(checkpoints)} checkpoints in {folder} can be read; remove them to restart."
        )
    return None


def replace_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write a folder so that it is whole whenever it is there under its name.

    Args:
        folder (`Path`): the folder; one that is there already is replaced.
        write (`Callable[[Path], Any]`): puts the files into the empty folder that it is given.
    """
    partial = folder.with_name(PARTIAL + folder.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    for path in [*partial.rglob("*"), partial]:
        _force_to_disk(path)
    if folder.exists():
        _remove_folder(folder)
    partial.replace(folder)
    _force_to_disk(folder.parent)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file so that it is whole whenever it is there under its name; arguments as of [`replace_folder`]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(PARTIAL + path.name)
    write(partial)
    _force_to_disk(partial)
    partial.replace(path)
    _force_to_disk(path.parent)


def append_log(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line of JSON to a log; `entry` holds `step`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def rewind_log(path: Path, step: int) -> None:
    """Drop the entries after a step, which will be done again, and a line that was not written to its end.

    Args:
        path (`Path`): a log of [`append_log`]; it need not be there.
        step (`int`): steps done.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        replace_file(path, lambda partial: partial.write_text("".join(kept), encoding="utf-8"))


def _remove_folder(folder: Path) -> None:
    """Remove a folder that is never seen half removed under its name."""
    removed = folder.with_name(f"{PARTIAL}removed-{folder.name}")
    shutil.rmtree(removed, ignore_errors=True)
    folder.replace(removed)
    shutil.rmtree(removed)


def _force_to_disk(path: Path) -> None:
    if os.name != "posix":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Flatten the state of an optimizer; its settings come from the configuration again."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": value.detach().cpu().contiguous().clone()
        for index, entries in state.items()
        for key, value in entries.items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


__all__ = [
    "append_log",
    "find_checkpoints",
    "load_training_state",
    "replace_file",
    "replace_folder",
    "rewind_log",
    "save_training_state",
]
