# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From paths to recordings that are not decoded yet, and from these to their encoded audio.

In: parquet files, folders, lists, datasets saved to disk, audio files; out: a [`ClipList`]. Parquet files are read
here by row groups: `datasets` would copy them whole into its cache (66 MB for 68, in 1.4 s; all audio is read in
0.05 s), and needs torchcodec for a folder of audio files.
"""

import difflib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from audiolm_hf.data.cache import ByteCache
from audiolm_hf.data.recordings import (
    MANIFEST_SUFFIXES,
    Clip,
    ClipList,
    audio_column,
    files_beside,
    label_columns,
    number_names,
    open_table,
    read_labels,
    read_manifest,
)
from audiolm_hf.run_folder import named_files, walk_files

if TYPE_CHECKING:
    from datasets import Dataset

_CACHED_BYTES = 2**28  # of encoded audio in parquet files
_FFMPEG_SUFFIXES = (".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".wma", ".amr")
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64"),
    *_FFMPEG_SUFFIXES,  # without ffmpeg they are listed, and left out with the reason
)
_SAVED_DATASET_FILES = ("state.json", "dataset_dict.json")  # one of them marks a folder of `save_to_disk`


class ClipReader:
    """Fetches the encoded audio of clips; tables stay open between calls."""

    def __init__(self, datasets: dict[Path, "Dataset"]) -> None:
        self._datasets = datasets
        self._files: dict[Path, tuple[pq.ParquetFile, list[int]]] = {}  # and the row after each row group
        self._groups: ByteCache[pa.ChunkedArray] = ByteCache(_CACHED_BYTES, attrgetter("nbytes"))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_files": {}}  # open files do not travel to another process

    def read(self, clip: Clip) -> bytes | Path:
        """Return a clip's encoded audio, or the file that holds it and nothing else."""
        if clip.data is not None:
            return clip.data
        if clip.row < 0:
            return clip.path
        if clip.path in self._datasets:
            from audiolm_hf.data.hf_datasets import read_encoded

            dataset = self._datasets[clip.path]
            return read_encoded(dataset[clip.row], dataset.features)
        cell = self._parquet_cell(clip)
        if isinstance(cell, bytes) or cell is None:
            return cell or b""
        if cell["bytes"] is None and cell.get("path"):
            return clip.path.parent / cell["path"]
        return cell["bytes"] or b""

    def _parquet_cell(self, clip: Clip) -> Any:
        if clip.path not in self._files:
            opened = pq.ParquetFile(clip.path, memory_map=True)
            sizes = (opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups))
            self._files[clip.path] = opened, list(accumulate(sizes))
        file, ends = self._files[clip.path]
        group = bisect_right(ends, clip.row)
        column = audio_column(file.schema_arrow, clip.path)
        cells = self._groups.get((clip.path, group), lambda: file.read_row_group(group, columns=[column])[column])
        return cells[clip.row - ends[group]].as_py()  # counted from the end of the group


def list_clips(paths: str | Path | Iterable[str | Path]) -> ClipList:
    """List the recordings of parquet files, folders, saved datasets, lists and audio files, in their order."""
    datasets: dict[Path, Dataset] = {}
    clips: list[Clip] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        clips += _list_path(Path(path), datasets)
    return ClipList(number_names(clips), datasets)


def check_unique(source: ClipList) -> None:
    """Raise a `ValueError` where there are no recordings, or one of them is listed twice."""
    if not source.clips:
        raise ValueError("There are no recordings in what was given; give folders, lists or files that hold some.")
    twice = [id for id, count in Counter(clip.id for clip in source.clips).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} recordings are listed twice, such as {twice[0]}; list each once.")


def recording_files(paths: Iterable[Path]) -> dict[str, Path]:
    """List the files that hold recordings, as of [`list_clips`], by names that do not depend on where they lie."""
    named: dict[str, Path] = {}
    for place, path in enumerate(paths, start=1):
        _require(path)
        listed = named_files([path])
        if path.is_dir() and not _is_saved_dataset(path):
            listed = {name: file for name, file in listed.items() if file.suffix.lower() in AUDIO_SUFFIXES}
        if path.suffix.lower() in MANIFEST_SUFFIXES:
            listed |= {f"{path.name}/{clip.name}": clip.path for clip in read_manifest(path)}
        if path.suffix.lower() == ".parquet":
            listed |= files_beside(path, path.name)
        named |= {f"{name} ({place})" if name in named else name: file for name, file in listed.items()}
    return named


def _is_saved_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED_DATASET_FILES)


def _require(path: Path) -> None:
    """Check that a path exists; the error suggests the closest name in its folder."""
    if path.exists():
        return
    others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = "".join(
        f" (did you mean {path.parent / name}?)" for name in difflib.get_close_matches(path.name, others, n=1)
    )
    raise FileNotFoundError(
        f"There is no file or folder {path}{near}; give an existing parquet file, folder, list or audio file. A "
        "dataset of the Hub is for `audiolm-hf tokenize --dataset`."
    )


def _list_path(path: Path, datasets: dict[Path, "Dataset"]) -> list[Clip]:
    _require(path)
    if path.is_dir():
        return _list_folder(path, datasets)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix in MANIFEST_SUFFIXES:
        return read_manifest(path)
    if suffix in AUDIO_SUFFIXES:
        return [Clip(path.name, path)]
    raise ValueError(
        f"{path} is neither a folder, a .parquet file, a list {MANIFEST_SUFFIXES} nor an audio file "
        f"{AUDIO_SUFFIXES}; convert it to one of these."
    )


def _list_folder(path: Path, datasets: dict[Path, "Dataset"]) -> list[Clip]:
    if _is_saved_dataset(path):
        from audiolm_hf.data.hf_datasets import open_saved_dataset

        saved = open_saved_dataset(path)
        datasets |= saved.datasets
        return saved.clips
    found = walk_files(path)
    files = [file for file in found if file.suffix.lower() in AUDIO_SUFFIXES]
    tables = [file for file in found if file.suffix.lower() == ".parquet"]
    if tables and not files:
        raise ValueError(
            f"{path} holds no audio files but {len(tables)} parquet files, such as {tables[0]}; name those to use "
            f"(perhaps {path / '*.parquet'})."
        )
    return [Clip(file.relative_to(path).as_posix(), file) for file in files]


def _parquet_rows(path: Path) -> list[Clip]:
    file = open_table(path)
    audio_column(file.schema_arrow, path)  # raises where there is none
    known = {*label_columns(file.schema_arrow.names).values(), "duration"}
    columns = [name for name in file.schema_arrow.names if name in known]
    rows = file.read(columns=columns).to_pylist() or [{}] * file.metadata.num_rows
    return [
        Clip(path.name, path, row, duration=values.get("duration"), **read_labels(values))
        for row, values in enumerate(rows)
    ]
