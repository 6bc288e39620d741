# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Where recordings are, before any is decoded: the step from paths to things that can be handed to a process.

In: parquet files, folders, lists, datasets saved to disk, audio files; or a dataset of the Hub. Out: a [`ClipList`] of
known length, or a [`ClipStream`]. A [`ClipReader`] fetches the encoded audio of a clip when it is wanted.
"""

import difflib
import hashlib
import os
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from audiolm_hf.data.manifests import MANIFEST_SUFFIXES, Labels, ManifestEntry, label_columns, read_manifest
from audiolm_hf.run_folder import named_files, walk_files

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_FFMPEG_SUFFIXES = (".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".wma", ".amr")
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64"),
    *_FFMPEG_SUFFIXES,  # without ffmpeg they are listed, and left out with the reason
)
_SAVED_DATASET_FILES = ("state.json", "dataset_dict.json")  # one of them marks a folder of `save_to_disk`


@dataclass(frozen=True)
class Clip:
    """A recording that is not decoded yet: where it is, and what is known of it.

    Args:
        id (`str`): unique within the sources it was listed with: the path, in a table `#row`, and the part cut out.
        path (`Path`): the audio file, or the table or dataset that holds it.
        row (`int`, defaults to -1): in the table; -1 for a file of its own.
        data (`bytes`, *optional*): the encoded audio itself, where it was streamed.
        start_s (`float`, defaults to 0.0): where it begins in the file, in seconds.
        end_s (`float`, *optional*): where it ends, in seconds; the end of the file by default.
        duration (`float`, *optional*): seconds, where a table states them.
        speaker, accent, text, source (`str`): labels; `""` where none are given.
    """

    id: str
    path: Path
    row: int = -1
    data: bytes | None = None
    start_s: float = 0.0
    end_s: float | None = None
    duration: float | None = None
    speaker: str = ""
    accent: str = ""
    text: str = ""
    source: str = ""


@dataclass(frozen=True)
class ClipList:
    """Recordings whose number is known, in a fixed order.

    Args:
        clips (`list[Clip]`): the recordings.
        datasets (`dict`): the `datasets.Dataset` behind every path of a clip that is one.
    """

    clips: list[Clip]
    datasets: dict[Path, "Dataset"] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of what is listed, with its labels: 16 hexadecimal digits."""
        lines = ("\t".join((clip.id, clip.speaker, clip.accent, clip.source)) for clip in self.clips)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def files(self) -> dict[str, Path]:
        """The files that hold the recordings, by their paths."""
        files: dict[str, Path] = {}
        for path in dict.fromkeys(clip.path for clip in self.clips):
            held = (
                [Path(entry["filename"]) for entry in self.datasets[path].cache_files]
                if path in self.datasets
                else [path]
            )
            files |= {file.as_posix(): file for file in held}
        return files


@dataclass(frozen=True)
class ClipStream:
    """Recordings that are read one after the other from a `datasets.IterableDataset`.

    Args:
        name (`str`): of the dataset, configuration and split; ids begin with it.
        dataset (`datasets.IterableDataset`): see [`~audiolm_hf.data.hf_datasets.undecoded`].
        num_clips (`int`, *optional*): how many there are, where the dataset says so.
    """

    name: str
    dataset: "IterableDataset"
    num_clips: int | None = None

    @property
    def files(self) -> dict[str, Path]:
        """None: what is streamed is known by its name alone."""
        return {}

    @property
    def key(self) -> str:
        """Hash of the name: 16 hexadecimal digits."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    def clips(self, first_row: int) -> Iterator[Clip]:
        """Read the recordings from where the dataset stands; the first of them is row `first_row` of the whole."""
        from audiolm_hf.data.hf_datasets import label_values, read_encoded

        for row, example in enumerate(self.dataset, start=first_row):
            encoded = read_encoded(example, self.dataset.features)
            labels = label_values(example, self.dataset.features)
            id = f"{self.name}#{row}"
            if isinstance(encoded, bytes):
                yield Clip(id, Path(self.name), data=encoded, **labels)
            else:
                yield Clip(id, encoded, **labels)


class ClipReader:
    """Fetches the encoded audio of clips; tables stay open between calls.

    Args:
        datasets (`dict`): those of the [`ClipList`].
        max_row_groups (`int`, *optional*): parts of parquet files kept in memory; all that were met by default. Clips
            that are read in order need one.
    """

    def __init__(self, datasets: dict[Path, "Dataset"], max_row_groups: int | None = None) -> None:
        self.datasets = datasets
        self.max_row_groups = max_row_groups
        self._files: dict[Path, tuple[pq.ParquetFile, list[int]]] = {}  # and the row after each row group
        self._groups: OrderedDict[tuple[Path, int], pa.ChunkedArray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_files": {}, "_groups": OrderedDict()}  # open files do not travel to another process

    def read(self, clip: Clip) -> bytes | Path:
        """Give a clip's encoded audio, or the file that holds it and nothing else."""
        if clip.data is not None:
            return clip.data
        if clip.row < 0:
            return clip.path
        if clip.path in self.datasets:
            from audiolm_hf.data.hf_datasets import read_encoded

            dataset = self.datasets[clip.path]
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
        key = (clip.path, group)
        if key not in self._groups:
            column = _audio_column(file.schema_arrow, clip.path)
            self._groups[key] = file.read_row_group(group, columns=[column])[column]
            while self.max_row_groups is not None and len(self._groups) > self.max_row_groups:
                self._groups.popitem(last=False)
        return self._groups[key][clip.row - ends[group]].as_py()  # counted from the end of the group


def list_clips(paths: str | Path | Iterable[str | Path]) -> ClipList:
    """List the recordings of any number of places.

    Args:
        paths (`str`, `Path` or a sequence of them): parquet files with a column `audio` (a struct of `bytes` and
            `path`) and optional `speaker`, `accent`, `text`, `source`, `duration`; folders, searched for audio files
            that are not hidden, through links, too; datasets saved to disk by `datasets`; lists, see
            [`~audiolm_hf.data.manifests.read_manifest`]; or audio files.

    Returns:
        [`ClipList`]: in the order of the paths; files of a folder by name.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path is of no kind named above.
    """
    datasets: dict[Path, Dataset] = {}
    clips: list[Clip] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        clips += _list_path(Path(path), datasets)
    return ClipList(clips, datasets)


def dataset_clips(name: str, dataset: "Dataset") -> ClipList:
    """List the rows of a dataset that was opened by name, see [`~audiolm_hf.data.hf_datasets.open_dataset`]."""
    return ClipList(_dataset_rows(Path(name), dataset), {Path(name): dataset})


def check_unique(source: ClipList) -> None:
    """Check that no recording is listed twice.

    Raises:
        ValueError: one is.
    """
    twice = [id for id, count in Counter(clip.id for clip in source.clips).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} recordings are listed more than once, such as {twice[0]}; list each of them once."
        )


def recording_files(paths: Iterable[Path]) -> dict[str, Path]:
    """List the files that hold the recordings of any number of places, see [`list_clips`], without opening tables.

    Args:
        paths (iterable of `Path`): as of [`list_clips`].

    Returns:
        `dict[str, Path]`: by names that do not depend on where the paths lie.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    named: dict[str, Path] = {}
    for place, path in enumerate(paths, start=1):
        _require(path)
        listed = named_files([path])
        if path.is_dir() and not _is_saved_dataset(path):
            listed = {name: file for name, file in listed.items() if file.suffix.lower() in AUDIO_SUFFIXES}
        if path.suffix.lower() in MANIFEST_SUFFIXES:
            for entry in read_manifest(path):
                listed[f"{path.name}/{os.path.relpath(entry.path, path.parent)}"] = entry.path
        named |= {f"{name} ({place})" if name in named else name: file for name, file in listed.items()}
    return named


def _is_saved_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED_DATASET_FILES)


def _require(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {path}{_nearest(path)}; give an existing parquet file, folder, list or audio file, or the "
            "name of a dataset with --dataset."
        )


def _list_path(path: Path, datasets: dict[Path, "Dataset"]) -> list[Clip]:
    _require(path)
    if path.is_dir():
        return _list_folder(path, datasets)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix in MANIFEST_SUFFIXES:
        return [_entry_clip(entry) for entry in read_manifest(path)]
    if suffix in AUDIO_SUFFIXES:
        return [Clip(path.as_posix(), path)]
    raise ValueError(
        f"{path} is neither a folder, a .parquet file, a manifest {MANIFEST_SUFFIXES} nor an audio file "
        f"{AUDIO_SUFFIXES}; convert it to one of these."
    )


def _nearest(path: Path) -> str:
    """Suggest what lies in the same folder under a similar name."""
    if not path.parent.is_dir():
        return ""
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""


def _entry_clip(entry: ManifestEntry) -> Clip:
    id = entry.path.as_posix()
    if entry.start_s or entry.end_s is not None:
        id += f"[{entry.start_s}:{'' if entry.end_s is None else entry.end_s}]"
    return Clip(id, entry.path, start_s=entry.start_s, end_s=entry.end_s, **entry.labels)


def _list_folder(path: Path, datasets: dict[Path, "Dataset"]) -> list[Clip]:
    if _is_saved_dataset(path):
        from audiolm_hf.data.hf_datasets import open_saved_dataset

        datasets[path] = open_saved_dataset(path)
        return _dataset_rows(path, datasets[path])
    found = walk_files(path)
    files = [file for file in found if file.suffix.lower() in AUDIO_SUFFIXES]
    tables = [file for file in found if file.suffix.lower() == ".parquet"]
    if tables and not files:
        raise ValueError(
            f"{path} holds no audio files but {len(tables)} parquet files, such as {tables[0]}; name those to use "
            f"(perhaps {path / '*.parquet'})."
        )
    return [Clip(file.as_posix(), file) for file in files]


def _dataset_rows(path: Path, dataset: "Dataset") -> list[Clip]:
    from audiolm_hf.data.hf_datasets import read_labels

    return [Clip(f"{path.as_posix()}#{row}", path, row, **labels) for row, labels in enumerate(read_labels(dataset))]


def _parquet_rows(path: Path) -> list[Clip]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a parquet file that can be read ({error}); make or copy it again.") from error
    _audio_column(file.schema_arrow, path)
    names = file.schema_arrow.names
    columns = label_columns(names)
    stated = ["duration"] if "duration" in names else []
    table = file.read(columns=[*columns.values(), *stated]).to_pydict()
    durations: list[float | None] = table["duration"] if stated else [None] * file.metadata.num_rows
    clips = []
    for row, duration in enumerate(durations):
        labels: Labels = {
            label: str(table[name][row]) for label, name in columns.items() if table[name][row] is not None
        }
        clips.append(Clip(f"{path.as_posix()}#{row}", path, row, duration=duration, **labels))
    return clips


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _audio_column(schema: pa.Schema, path: Path) -> str:
    """Find the column of encoded audio: `audio`, or the only struct that has `bytes`."""
    if "audio" in schema.names:
        kind = schema.field("audio").type
        is_encoded = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _has_bytes(kind)
        if not is_encoded:
            raise ValueError(
                f"{path} has a column `audio` of {kind}; it must hold encoded files, as binary or as a struct of "
                "`bytes` and `path`."
            )
        return "audio"
    structs = [field.name for field in schema if _has_bytes(field.type)]
    if len(structs) != 1:
        raise ValueError(f"{path} has the columns {schema.names} but no `audio` (a struct of `bytes` and `path`).")
    return structs[0]


__all__ = [
    "AUDIO_SUFFIXES",
    "Clip",
    "ClipList",
    "ClipReader",
    "ClipStream",
    "check_unique",
    "dataset_clips",
    "list_clips",
    "recording_files",
]
