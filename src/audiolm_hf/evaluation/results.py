# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Evaluations in parts that are kept: each is a run of a folder of its own, and not done twice."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import logging

from audiolm_hf.run_folder import hold_folder, replace_file

logger = logging.get_logger(__name__)

HASHED_FILES = ("config.json", "generation_config.json", "processor_config.json", "model.safetensors")


def checkpoint_hash(folder: str | Path) -> str:
    """Hash everything of a checkpoint that decides what it does.

    Args:
        folder (`str` or `Path`): written by `save_pretrained`.

    Returns:
        `str`: SHA-256 of its configurations and weights, hexadecimal.

    Raises:
        FileNotFoundError: it holds no weights in one safetensors file.
    """
    path = Path(folder)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(f"There is no {path / 'model.safetensors'}; give the folder of a whole AudioLM.")
    total = hashlib.sha256()
    for name in HASHED_FILES:
        if (path / name).is_file():
            total.update(name.encode())
            total.update((path / name).read_bytes())
    return total.hexdigest()


def kept_part(
    folder: str | Path,
    name: str,
    settings: dict[str, Any],
    inputs: dict[str, dict[str, Path]],
    evaluate: Callable[[], dict[str, Any]],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Give a part's figures, from an earlier run if there was one.

    Args:
        folder (`str` or `Path`): where parts are kept, each in a folder of its name.
        name (`str`): of the part.
        settings (`dict`): all that its figures depend on but files; of types that JSON has.
        inputs (`dict`): the files, see [`~audiolm_hf.run_folder.hold_folder`].
        evaluate (callable): takes the figures.
        overwrite (`bool`, defaults to `False`): take them again where they are of other settings or files.

    Returns:
        `dict`: the figures, as JSON gives them back (`None` where a figure is not a number).

    Raises:
        ValueError: the figures that are kept are of other settings or files.
    """
    part = Path(folder) / name
    path = part / "report.json"
    with hold_folder(part, f"evaluate {name}", settings, inputs, overwrite=overwrite) as held:
        if held.done:
            logger.info(f"{path} is of the same checkpoint, data and options; used again.")
        else:
            text = to_json(evaluate())
            replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
            held.finish(path)
    return json.loads(path.read_text(encoding="utf-8"))


def to_json(report: Any) -> str:
    """Write JSON that every reader takes: NaN and infinity become null."""
    return json.dumps(_finite(report), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["checkpoint_hash", "kept_part", "to_json"]
