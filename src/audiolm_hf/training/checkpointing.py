# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the trainings, with a seal that shows whether they are complete and unchanged, and without pickles.

A checkpoint is a folder whose name ends in its step. The seal, which has the hash of every file, is written last. A
checkpoint that is incomplete or was changed is skipped, and the previous one is used.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.utils import logging

from audiolm_hf.files import PARTIAL, remove_folder, replace_folder, write_json, write_tensors, write_text
from audiolm_hf.run_folder import file_hash

logger = logging.get_logger(__name__)

STATE_FILE = "state.json"
SEAL_FILE = "sealed.json"


def save_training_state(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    state: Mapping[str, Any],
) -> Path:
    """Write a checkpoint of modules, optimizers and JSON `state`, and remove all but the newest two."""
    for module in modules.values():
        require_finite(module, step, folder)

    def write(partial: Path) -> None:
        for name, module in modules.items():
            tensors = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
            save_file(tensors, partial / f"{name}.safetensors")
        for name, optimizer in optimizers.items():
            save_file(_optimizer_tensors(optimizer), partial / f"{name}.safetensors")
        (partial / STATE_FILE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")
        seal_checkpoint(partial)

    target = folder / f"step-{step:08d}"
    replace_folder(target, write)
    remove_old_checkpoints(folder)
    return target


def require_finite(module: nn.Module, step: int, folder: Path) -> None:
    """Raise an error for weights that are NaN or infinite, see [`stop_diverged`]."""
    for name, tensor in module.state_dict().items():
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if local.is_floating_point() and not bool(torch.isfinite(local).all()):
            stop_diverged(f"the weight {name} is not finite", step, folder)


def stop_diverged(cause: str, step: int, folder: Path) -> NoReturn:
    """Stop a diverged training with an error that has the step, the cause and the last checkpoint."""
    kept = newest_checkpoint(folder)
    left = "there is no checkpoint before it" if kept is None else f"the weights before it are in {kept}"
    raise ValueError(f"The training diverged at step {step}: {cause}; {left}. Lower learning_rate.")


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, sealed or not, oldest first."""
    found = [
        path
        for path in folder.glob("*-*")
        if path.is_dir() and not path.name.startswith(".") and path.name.rpartition("-")[2].isdecimal()
    ]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def remove_old_checkpoints(folder: Path, best: Path | None = None) -> None:
    """Remove all checkpoints except the best and the newest two, the older of which replaces a damaged last one."""
    for left_behind in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left_behind)
    for checkpoint in find_checkpoints(folder)[:-2]:
        if best is None or checkpoint.name != best.name:
            remove_folder(checkpoint)


def seal_checkpoint(folder: Path) -> None:
    """Write the seal of a complete checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL_FILE)
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    write_json(folder / SEAL_FILE, hashes)


def checkpoint_flaw(folder: Path) -> str | None:
    """Return why a checkpoint cannot be used; `None` if it is complete and unchanged."""
    seal = folder / SEAL_FILE
    if not seal.is_file():
        return "it was not finished"
    try:
        hashes = json.loads(seal.read_text(encoding="utf-8"))
    except ValueError:
        return f"{SEAL_FILE} is damaged"
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_hash(folder / name) != expected:
            return f"{name} is not what was saved"
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest usable checkpoint, with a warning for each one skipped; `None` if none was ever finished."""
    flaw = None
    for checkpoint in reversed(find_checkpoints(folder)):
        flaw = checkpoint_flaw(checkpoint)
        if flaw is None:
            return checkpoint
        logger.warning(f"{checkpoint} cannot be resumed from: {flaw}. Going back to the one before.")
    if any((checkpoint / SEAL_FILE).is_file() for checkpoint in find_checkpoints(folder)):
        raise ValueError(f"None of the checkpoints in {folder} is as it was saved; --overwrite starts again.")
    return None


def load_training_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Load the newest usable checkpoint of [`save_training_state`], if there is one, and return its state."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        return None
    for name, module in modules.items():
        module.load_state_dict(load_file(checkpoint / f"{name}.safetensors"))
    for name, optimizer in optimizers.items():
        _load_optimizer(optimizer, load_file(checkpoint / f"{name}.safetensors"))
    return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))


def kept_tensors(path: Path, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return tensors that are made once and saved to a file for resumed runs; a damaged file is made again."""
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError as error:
            logger.warning(f"{path} is damaged ({error}); it is made again.")
    write_tensors(path, make())
    return load_file(path)


def append_log(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a line of JSON to a log; `entry` must have the key `step`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def rewind_log(path: Path, step: int) -> None:
    """Remove the entries after a step, which will be repeated, and an incomplete last line of a log."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        write_text(path, "".join(kept))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Flatten the state of an optimizer, without its settings, which come from the configuration."""
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
