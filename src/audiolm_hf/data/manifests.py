# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Lists of recordings: a path a line, or a table with a column `path`, labels and the part to cut out of the file.

In: `.txt`, `.csv` or `.jsonl`; out: one [`ManifestEntry`] per recording, in the order of the list.
"""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST_SUFFIXES = (".txt", ".csv", ".jsonl")
LABELS = ("speaker", "accent", "text", "source")
MAX_SECONDS = 10**9  # 32 years: more is no time in a file
Labels = dict[str, Any]  # text by names of LABELS; `Any` so that they can be given to what has other fields, too
# Where a label is found if not under its own name: what it is called in datasets of the Hub.
_OTHER_NAMES = {
    "speaker": ("speaker_id", "client_id"),
    "accent": ("accents",),
    "text": ("sentence", "transcription"),
    "source": (),
}


@dataclass(frozen=True)
class ManifestEntry:
    """One recording of a list.

    Args:
        path (`Path`): the audio file.
        start_s (`float`): where the recording begins in the file, in seconds.
        end_s (`float`, *optional*): where it ends, in seconds; the end of the file by default.
        labels (`dict`): those of `LABELS` that are given.
    """

    path: Path
    start_s: float = 0.0
    end_s: float | None = None
    labels: Labels = field(default_factory=dict)


def label_columns(names: Iterable[str]) -> dict[str, str]:
    """Find the columns that hold the labels.

    Args:
        names (iterable of `str`): the columns there are.

    Returns:
        `dict[str, str]`: column of each label that is there.
    """
    there = set(names)
    found = {label: [name for name in (label, *_OTHER_NAMES[label]) if name in there] for label in LABELS}
    return {label: columns[0] for label, columns in found.items() if columns}


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Read a list of recordings.

    Args:
        path (`Path`): a `.txt` file with a path a line, or a `.csv` (with a header) or `.jsonl` file with `path` and
            optional `speaker`, `accent`, `text`, `source`, `start` and `end` (seconds). Paths are relative to it.

    Returns:
        `list[ManifestEntry]`: one per recording.

    Raises:
        ValueError: the list is no text, or an entry has no `path`, is no JSON object, or cuts a part that cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if path.suffix.lower() == ".txt":
        return [ManifestEntry(path.parent / line.strip()) for line in lines]
    rows = csv.DictReader(lines) if path.suffix.lower() == ".csv" else (_parse_json(line, path) for line in lines)
    return [_read_entry(row, f"Entry {number} of {path}", path) for number, row in enumerate(rows, start=1)]


def _parse_json(line: str, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a line that is not JSON ({error}): {line[:80]!r}.") from error
    if not isinstance(row, dict):
        raise ValueError(f'{path} has the line {line[:80]!r}; give one object a line, such as {{"path": "a.wav"}}.')
    return row


def _read_entry(row: dict[str, Any], name: str, manifest: Path) -> ManifestEntry:
    if not row.get("path"):
        raise ValueError(f"{name} has no `path` but {sorted(map(str, row))}; name the column `path`.")
    if not isinstance(row["path"], str) or "\0" in row["path"]:
        raise ValueError(f"{name} has `path` = {row['path']!r}; give the path of an audio file as text.")
    start_s, end_s = _read_seconds(row, "start", name), _read_seconds(row, "end", name)
    if end_s is not None and end_s <= (start_s or 0.0):
        raise ValueError(f"{name} ends at {end_s} s, but starts at {start_s or 0.0} s; give a later `end`.")
    labels = {label: str(row[column]) for label, column in label_columns(row).items() if row[column] not in (None, "")}
    return ManifestEntry(manifest.parent / row["path"], start_s or 0.0, end_s, labels)


def _read_seconds(row: dict[str, Any], column: str, name: str) -> float | None:
    value = row.get(column)
    if value in (None, ""):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(
            f"{name} has `{column}` = {value!r}; give seconds from the beginning of the file, 0 to {MAX_SECONDS}."
        )
    return seconds


__all__ = ["LABELS", "MANIFEST_SUFFIXES", "Labels", "ManifestEntry", "label_columns", "read_manifest"]
