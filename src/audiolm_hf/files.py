# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Atomic writing of files and folders: under its name, each is always complete.

They are written under another name, flushed to the disk, and renamed. [`~audiolm_hf.audio_file_audiolm.write_audio`]
does the same for audio files.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

PARTIAL = ".partial-"  # prefix of files and folders that are incomplete or being removed


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Name a file or folder in errors that name none, such as of a full disk."""
    try:
        yield
    except SafetensorError as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file atomically, by a function that gets a path of the same ending; errors leave the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        with _named_errors(path):
            write(partial)
            _force_to_disk(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _force_to_disk(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file atomically."""
    replace_file(path, lambda partial: partial.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write text to a file atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value to a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file atomically."""
    replace_file(path, lambda partial: save_file(dict(tensors), partial))


def replace_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write a folder atomically, in place of an existing one, through a function that gets an empty folder."""
    partial = _write_partial(folder, folder.parent, write)
    if folder.exists():
        remove_folder(folder)
    partial.replace(folder)
    _force_to_disk(folder.parent)


def fill_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write files to a folder that may have other files; they are incomplete until `config.json` exists."""
    (folder / "config.json").unlink(missing_ok=True)
    partial = _write_partial(folder, folder, write)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == "config.json"):
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
        with _named_errors(folder):
            write(partial)
    except BaseException:
        shutil.rmtree(partial)
        raise
    for path in [*partial.rglob("*"), partial]:
        _force_to_disk(path)
    return partial


def remove_folder(folder: Path) -> None:
    """Remove a folder atomically."""
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
