# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The checkpoints and the example prompts that come with the package: from short name to path."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKPOINTS = _PACKAGE / "checkpoints"

DEFAULT_CHECKPOINT = "speech-tiny"
_EXAMPLE_PROMPTS = {"speech-tiny": "librispeech_19-198-0020.flac", "piano-tiny": "piano_haydn_33_3.flac"}


def bundled_folder(name: str) -> str:
    """Return the path of the folder of a bundled checkpoint, whether it is there or not."""
    return str(_CHECKPOINTS / name)


def list_checkpoints() -> list[str]:
    """Return the sorted names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in _CHECKPOINTS.glob("*/config.json"))


def checkpoint(name: str = DEFAULT_CHECKPOINT) -> str:
    """Return the folder of a checkpoint that comes with the package.

    Args:
        name (`str`, defaults to `"speech-tiny"`): one of [`list_checkpoints`].

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in list_checkpoints():
        raise ValueError(f"There is no bundled checkpoint {name!r}; there are {list_checkpoints()}.")
    return bundled_folder(name)


def is_path(name: str) -> bool:
    """Return whether a name of a model can only be a path, not a name on the Hub."""
    return name.count("/") > 1 or name.startswith((".", "/", "~"))


def resolve_checkpoint(name_or_path: str | os.PathLike) -> str:
    """Return the folder of a bundled checkpoint by its short name; return folders and Hub names as they are."""
    text = os.fspath(name_or_path)
    if text and Path(text).is_dir():
        return text
    if text in list_checkpoints():
        return checkpoint(text)
    if "/" not in text or is_path(text) or text.endswith("/"):
        raise ValueError(
            f"The checkpoint {text!r} is not found: it is neither a folder nor one of the bundled {list_checkpoints()}"
            ". A checkpoint of the Hub is named user/name."
        )
    return text


def resolve_detector(name_or_path: str | os.PathLike = DEFAULT_CHECKPOINT) -> str:
    """Return the folder of a detector, or of the detector in a checkpoint's subfolder; Hub names are returned."""
    try:
        folder = Path(resolve_checkpoint(name_or_path))
    except ValueError:
        raise ValueError(
            f"The detector {str(name_or_path)!r} is not found. Give the folder of a detector, user/name of one on the "
            "Hub, or the folder or bundled name of a checkpoint that has one in its subfolder detector; there are "
            f"{list_checkpoints()}."
        ) from None
    inside = folder / "detector"
    return str(inside if (inside / "config.json").is_file() else folder)


def example_prompt(checkpoint: str | os.PathLike = DEFAULT_CHECKPOINT) -> str:
    """Return the path of the bundled example prompt of a checkpoint, by its name or folder.

    It is 4 seconds of piano for `"piano-tiny"` (piano-midi.de, CC BY-SA 3.0 DE), else of speech (LibriSpeech, CC BY
    4.0).
    """
    path = Path(checkpoint)
    name = path.name if path.parent == _CHECKPOINTS else os.fspath(checkpoint)
    return str(_PACKAGE / "examples" / _EXAMPLE_PROMPTS.get(name, _EXAMPLE_PROMPTS[DEFAULT_CHECKPOINT]))
