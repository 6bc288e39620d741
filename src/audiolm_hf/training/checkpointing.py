# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the trainings that have a loop of their own: written whole or not at all, without pickles.

A checkpoint is a folder `step-00001000` of safetensors files, one for each module and optimizer, and `state.json`. It
is written under another name and renamed when complete, so that a killed training leaves no broken one behind.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

STATE_FILE = "state.json"


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
    target = folder / f"step-{step:08d}"
    partial = folder / f".partial-{step:08d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, module in modules.items():
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
        save_file(tensors, partial / f"{name}.safetensors")
    for name, optimizer in optimizers.items():
        save_file(_optimizer_tensors(optimizer), partial / f"{name}.safetensors")
    (partial / STATE_FILE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    for old in find_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def find_checkpoints(folder: Path) -> list[Path]:
    """List the complete checkpoints of a folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{STATE_FILE}"))


def load_training_state(
    checkpoint: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any]:
    """Load a checkpoint into modules and optimizers, and return its `state`, which holds `step`.

    Args:
        checkpoint (`Path`): a folder that [`save_training_state`] wrote.
        modules (`dict[str, nn.Module]`): names as they were saved; any other saved name is left alone.
        optimizers (`dict[str, torch.optim.Optimizer]`): likewise.
    """
    for name, module in modules.items():
        module.load_state_dict(load_file(checkpoint / f"{name}.safetensors"))
    for name, optimizer in optimizers.items():
        _load_optimizer(optimizer, load_file(checkpoint / f"{name}.safetensors"))
    return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))


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


__all__ = ["find_checkpoints", "load_training_state", "save_training_state"]
