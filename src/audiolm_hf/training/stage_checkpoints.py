# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the Trainer that can be trusted after a crash.

The Trainer writes a checkpoint file by file. Only when all of them are there does a seal join them, with the size and
hash of each; a checkpoint without its seal, or with other content than sealed, is not resumed from.
"""

import hashlib
import json
import shutil
from pathlib import Path

from transformers.utils import logging

logger = logging.get_logger(__name__)

SEAL_FILE = "sealed.json"


def seal_checkpoint(folder: Path) -> None:
    """Declare a checkpoint complete as it is now.

    Args:
        folder (`Path`): `checkpoint-<step>`.
    """
    seal = folder / SEAL_FILE
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != seal)
    hashes = {str(path.relative_to(folder)): _hash(path) for path in files}
    unfinished = folder.with_name(f".{folder.name}-{SEAL_FILE}")
    unfinished.write_text(json.dumps(hashes, indent=2), encoding="utf-8")
    unfinished.replace(seal)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_flaw(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint.

    Args:
        folder (`Path`): `checkpoint-<step>`.

    Returns:
        `str`, or `None` where everything is as it was sealed.
    """
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
        if _hash(folder / name) != expected:
            return f"{name} is not what was saved"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, sealed or not, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint to resume from; those passed over are named in a warning.

    Args:
        folder (`Path`): of the checkpoints; need not exist.

    Returns:
        `Path`, or `None` where there is no whole checkpoint.
    """
    for checkpoint in reversed(list_checkpoints(folder)):
        flaw = checkpoint_flaw(checkpoint)
        if flaw is None:
            return checkpoint
        logger.warning(f"{checkpoint} cannot be resumed from: {flaw}. Going back to the one before.")
    return None


def remove_old_checkpoints(folder: Path, best: Path | None, keep: int = 2) -> None:
    """Remove all checkpoints but the newest `keep` and the best.

    Args:
        folder (`Path`): of the checkpoints.
        best (`Path`, *optional*): the one with the best validation.
        keep (`int`, defaults to 2): two, so that there is one before the last.
    """
    for checkpoint in list_checkpoints(folder)[:-keep]:
        if best is None or checkpoint.name != best.name:
            (checkpoint / SEAL_FILE).unlink(missing_ok=True)  # first, or half of it might pass for a whole one
            shutil.rmtree(checkpoint)


__all__ = [
    "checkpoint_flaw",
    "list_checkpoints",
    "newest_checkpoint",
    "remove_old_checkpoints",
    "seal_checkpoint",
]
