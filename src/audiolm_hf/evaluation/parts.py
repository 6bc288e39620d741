# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Evaluations in parts that are kept: a part whose checkpoint, data and options are unchanged is not done again."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

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


def describe_files(paths: Sequence[str | Path]) -> list[list[Any]]:
    """Name and size of data files, so that a part is done again when they change."""
    return [[Path(path).name, Path(path).stat().st_size] for path in paths]


def kept_part(folder: str | Path, name: str, key: dict[str, Any], evaluate: Callable[[], dict[str, Any]]) -> dict:
    """Give a part's figures, from an earlier run where that was the same.

    Args:
        folder (`str` or `Path`): where parts are kept, `<name>.json` each.
        name (`str`): of the part.
        key (`dict`): all that its figures depend on; of types that JSON has.
        evaluate (callable): takes the figures.

    Returns:
        `dict`: the figures, as JSON gives them back (`None` where a figure is not a number).
    """
    path = Path(folder) / f"{name}.json"
    key = json.loads(json.dumps(key))
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            logger.info(f"{path} is of the same checkpoint, data and options; used again.")
            return kept["report"]
    text = to_json({"key": key, "report": evaluate()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return json.loads(text)["report"]


def to_json(report: Any) -> str:
    """Write JSON that every reader takes: NaN and infinity become null."""
    return json.dumps(_finite(report), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["checkpoint_hash", "describe_files", "kept_part", "to_json"]
