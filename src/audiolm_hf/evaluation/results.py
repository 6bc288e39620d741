# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Saved results of the protocols; each is a run in its own folder, and is not computed again."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import logging

from audiolm_hf.evaluation.report import from_json, to_json
from audiolm_hf.files import write_text
from audiolm_hf.run_folder import hold_folder

logger = logging.get_logger(__name__)

HASHED_FILES = ("config.json", "generation_config.json", "processor_config.json", "model.safetensors")


def checkpoint_hash(folder: str | Path) -> str:
    """Return the hexadecimal SHA-256 of the configurations and weights in a folder written by `save_pretrained`."""
    path = Path(folder)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(f"There is no {path / 'model.safetensors'}; give the folder of a whole AudioLM.")
    total = hashlib.sha256()
    for name in HASHED_FILES:
        if (path / name).is_file():
            total.update(name.encode())
            total.update((path / name).read_bytes())
    return total.hexdigest()


def kept_result(
    folder: str | Path,
    name: str,
    settings: dict[str, Any],
    inputs: dict[str, dict[str, Path]],
    evaluate: Callable[[], dict[str, Any]],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Return the result of a protocol as read from its JSON file, from an earlier run if there was one.

    The result depends on `settings` and on the files `inputs`, see [`~audiolm_hf.run_folder.hold_folder`].
    """
    own = Path(folder) / name
    path = own / "report.json"
    with hold_folder(own, f"evaluate {name}", settings, inputs, overwrite=overwrite) as held:
        if held.done:
            logger.info(f"{path} is of the same checkpoint, data and options; used again.")
        else:
            write_text(path, to_json(evaluate()))
            held.finish(path)
    return from_json(path.read_text(encoding="utf-8"))
