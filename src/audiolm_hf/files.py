# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Files and folders that are whole whenever they are there under their names, whatever happens while they are written.

Each is written beside its place, forced to the disk, and moved there. Audio has the same from
[`~audiolm_hf.audio_file_audiolm.write_audio`], which also travels with exported checkpoints.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

PARTIAL = ".partial-"  # begins the name of what is not complete, or being removed


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file in one step; an error leaves the old one.

    Args:
        path (`Path`): the file; its folder is made if it is not there.
        write (`Callable[[Path], Any]`): writes the file that it is given, whose ending is that of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        write(partial)
        _force_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _force_to_disk(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file in one step, see [`replace_file`]."""
    replace_file(path, lambda partial: partial.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write a text to a file in one step, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value to a JSON file in one step."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file in one step."""
    replace_file(path, lambda partial: save_file(dict(tensors), partial))


def replace_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write a folder so that it is whole whenever it is there under its name.

    Args:
        folder (`Path`): the folder; one that is there already is replaced.
        write (`Callable[[Path], Any]`): puts the files into the empty folder that it is given.
    """
    partial = _write_partial(folder, folder.parent, write)
    if folder.exists():
        remove_folder(folder)
    partial.replace(folder)
    _force_to_disk(folder.parent)


def fill_folder(folder: Path, write: Callable[[Path], Any], last: str = "config.json") -> None:
    """Write files into a folder that is kept; as long as `last` is not there, they are not complete.

    Args:
        folder (`Path`): the folder; files of the same names are replaced.
        write (`Callable[[Path], Any]`): puts the files into the empty folder that it is given.
        last (`str`, defaults to `"config.json"`): the file without which nothing reads the others.
    """
    (folder / last).unlink(missing_ok=True)
    partial = _write_partial(folder, folder, write)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == last):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    partial.rmdir()
    _force_to_disk(folder)


def _write_partial(folder: Path, parent: Path, write: Callable[[Path], Any]) -> Path:
    partial = parent / f"{PARTIAL}{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
    except Exception:
        shutil.rmtree(partial)
        raise
    for path in [*partial.rglob("*"), partial]:
        _force_to_disk(path)
    return partial


def remove_folder(folder: Path) -> None:
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


__all__ = [
    "PARTIAL",
    "fill_folder",
    "remove_folder",
    "replace_file",
    "replace_folder",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
]
