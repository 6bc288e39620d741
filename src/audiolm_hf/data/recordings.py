# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recordings before decoding: their files, their labels, and the lists that name them.

Lists are not read with `datasets`, which has one type for a whole column and does not report which entry is wrong.
"""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from audiolm_hf.run_folder import named_files

if TYPE_CHECKING:
    from datasets import Dataset

MANIFEST_SUFFIXES = (".txt", ".csv", ".jsonl")
MAX_SECONDS = 10**9  # 32 years, more than any file has
# The labels, and what they are called in datasets of the Hub.
_LABELS = {
    "speaker": ("speaker", "speaker_id", "client_id"),
    "accent": ("accent", "accents"),
    "text": ("text", "sentence", "transcription"),
    "source": ("source",),
}


@dataclass(frozen=True)
class Clip:
    """A recording that is not decoded yet."""

    name: str  # of its file, relative to the given folder or list, so that it does not depend on their location
    path: Path  # the audio file, or the table or dataset that holds it
    row: int = -1  # in the table; -1 for a file of its own
    data: bytes | None = None  # the encoded audio, if it was streamed
    start_s: float = 0.0  # where it begins in the file, in seconds
    end_s: float | None = None  # where it ends, in seconds; the end of the file by default
    duration: float | None = None  # seconds, where a table states them
    speaker: str = ""  # this and the others are labels, empty where not given
    accent: str = ""
    text: str = ""
    source: str = ""

    @property
    def id(self) -> str:
        """The name, `#row` in a table, and start and end of a segment; unique in the list of recordings."""
        row = f"#{self.row}" if self.row >= 0 else ""
        whole = not self.start_s and self.end_s is None
        return self.name + row + ("" if whole else f"[{self.start_s}:{'' if self.end_s is None else self.end_s}]")


@dataclass(frozen=True)
class ClipList:
    """Recordings whose number is known, in a fixed order."""

    clips: list[Clip]  # the recordings
    datasets: dict[Path, "Dataset"] = field(default_factory=dict)  # by the paths of clips

    @property
    def key(self) -> str:
        """Hash of the recordings and their labels: 16 hexadecimal digits."""
        lines = ("\t".join((clip.id, clip.speaker, clip.accent, clip.source)) for clip in self.clips)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def files(self) -> dict[str, Path]:
        """The files that hold the recordings, by their names."""
        files: dict[str, Path] = {}
        for name, path in {clip.name: clip.path for clip in self.clips}.items():
            if path not in self.datasets:
                files[name] = path
                if path.suffix.lower() == ".parquet":
                    files |= files_beside(path, name)
                continue
            cached = (Path(entry["filename"]) for entry in self.datasets[path].cache_files)
            tables = named_files([path] if path.exists() else cached)
            files |= {f"{name}/{table}": file for table, file in tables.items()}
        return files


def label_columns(names: Iterable[str]) -> dict[str, str]:
    """Return, for each label, its column among the given names, if there is one."""
    there = set(names)
    found = {label: [name for name in others if name in there] for label, others in _LABELS.items()}
    return {label: columns[0] for label, columns in found.items() if columns}


def read_labels(row: dict[str, Any]) -> dict[str, Any]:
    """Return the labels in a row as text, by the fields of [`Clip`]."""
    return {label: str(row[column]) for label, column in label_columns(row).items() if row[column] is not None}


def read_manifest(path: Path) -> list[Clip]:
    """Read a list of recordings: `.txt` with paths relative to it, or `.csv` or `.jsonl` with `path` and labels."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    lines = [line for line in text.split("\n") if line.strip()]  # splitlines() would also split at other characters
    if path.suffix.lower() == ".csv":
        rows: Iterable[dict[str, Any]] = _parse_csv(text, path)
    elif path.suffix.lower() == ".jsonl":
        rows = (_parse_json(line, path) for line in lines)
    else:
        rows = ({"path": line.strip()} for line in lines)
    clips = [_read_entry(row, f"Entry {number} of {path}", path.parent) for number, row in enumerate(rows, start=1)]
    return number_names(_name_absolute_ones(clips))


def _parse_csv(text: str, path: Path) -> list[dict[str, Any]]:
    """Read the rows of a table that are not empty; a row with more values than columns is an error."""
    try:
        rows = [
            row for row in csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True) if any(row.values())
        ]
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV ({error}); put values with commas or quotes into quotes.") from None
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise ValueError(
                f"Entry {number} of {path} has more values than the header has columns, such as {row[None][0]!r}; put "
                "values with commas into quotes."
            )
    return rows


def number_names(clips: list[Clip]) -> list[Clip]:
    """Add numbers to names that several files share; a file that is listed twice keeps one name."""
    folders: dict[Path, Path] = {}
    names: dict[Path, str] = {}
    taken: set[str] = set()
    numbered = []
    for clip in clips:
        parent = clip.path.parent
        if parent not in folders:
            folders[parent] = parent.resolve()
        file = folders[parent] / clip.path.name
        if file not in names:
            free = (f"{clip.name} ({number})" for number in count(2))
            names[file] = clip.name if clip.name not in taken else next(name for name in free if name not in taken)
            taken.add(names[file])
        numbered.append(clip if names[file] == clip.name else replace(clip, name=names[file]))
    return numbered


def audio_column(schema: pa.Schema, path: Path) -> str:
    """Return the name of the column of encoded audio: `audio`, or the only struct that has `bytes`."""
    structs = [field.name for field in schema if pa.types.is_struct(field.type) and "bytes" in field.type.names]
    if "audio" in schema.names:
        kind = schema.field("audio").type
        if "audio" in structs or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return "audio"
        raise ValueError(
            f"{path} has a column `audio` of {kind}; it must hold encoded files, as binary or as a struct of `bytes` "
            "and `path`."
        )
    if len(structs) != 1:
        raise ValueError(f"{path} has the columns {schema.names} but no `audio` (a struct of `bytes` and `path`).")
    return structs[0]


def open_table(path: Path) -> pq.ParquetFile:
    """Open a parquet file."""
    try:
        return pq.ParquetFile(path, memory_map=True)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a parquet file that can be read ({error}); make or copy it again.") from error


def files_beside(table: Path, name: str) -> dict[str, Path]:
    """Return the files that a parquet file names where it has no audio itself, by names that begin with `name`."""
    file = open_table(table)
    if "midi" in file.schema_arrow.names:  # pieces to render
        return {}
    column = audio_column(file.schema_arrow, table)
    paths: dict[str, Path] = {}
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = {chunk.path_in_schema: chunk.statistics for chunk in map(group.column, range(group.num_columns))}
        stated = chunks.get(f"{column}.bytes")
        if f"{column}.path" in chunks and not (stated and stated.has_null_count and stated.null_count == 0):
            cells = file.read_row_group(number, columns=[f"{column}.path"])[column].to_pylist()
            paths |= {cell["path"]: table.parent / cell["path"] for cell in cells if cell and cell["path"]}
    clips = [Clip(Path(path).as_posix(), file) for path, file in paths.items()]
    return {f"{name}/{clip.name}": clip.path for clip in number_names(_name_absolute_ones(clips))}


def _name_absolute_ones(clips: list[Clip]) -> list[Clip]:
    """Name clips with absolute paths relative to their common folder or, without one, by their file name."""
    absolute = [path for path in (Path(clip.name) for clip in clips) if path.is_absolute()]
    if not absolute:
        return clips
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    named = {
        path.as_posix(): path.name if common == Path(common.anchor) else path.relative_to(common).as_posix()
        for path in absolute
    }
    return [replace(clip, name=named.get(clip.name, clip.name)) for clip in clips]


def _parse_json(line: str, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a line that is not JSON ({error}): {line[:80]!r}.") from error
    if not isinstance(row, dict):
        raise ValueError(f'{path} has the line {line[:80]!r}; give one object a line, such as {{"path": "a.wav"}}.')
    return row


def _read_entry(row: dict[str, Any], name: str, folder: Path) -> Clip:
    if not row.get("path"):
        raise ValueError(f"{name} has no `path` but {sorted(map(str, row))}; name the column `path`.")
    if not isinstance(row["path"], str) or "\0" in row["path"]:
        raise ValueError(f"{name} has `path` = {row['path']!r}; give the path of an audio file as text.")
    start_s, end_s = _read_seconds(row, "start", name) or 0.0, _read_seconds(row, "end", name)
    if end_s is not None and end_s <= start_s:
        raise ValueError(f"{name} ends at {end_s} s, but starts at {start_s} s; give a later `end`.")
    name = os.path.normpath(row["path"])
    return Clip(Path(name).as_posix(), folder / row["path"], start_s=start_s, end_s=end_s, **read_labels(row))


def _read_seconds(row: dict[str, Any], column: str, name: str) -> float | None:
    value = row.get(column)
    if value in (None, ""):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"{name} has `{column}` = {value!r}; give seconds from 0 to {MAX_SECONDS}.")
    return seconds
