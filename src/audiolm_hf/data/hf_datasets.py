# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recordings of a `datasets` dataset: saved to disk, of the Hub by name, downloaded or streamed.

In: a folder or a name; out: a [`ClipList`] or a [`ClipStream`] of encoded audio. `datasets` would decode it with
torchcodec; here it is told not to, and soundfile decodes later.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from datasets.utils.file_utils import xopen

from audiolm_hf.data.recordings import Clip, ClipList, label_columns, read_labels
from audiolm_hf.run_folder import named_files


class EncodedAudio(Audio):
    """Audio that stays as it is encoded; unlike its parent it does without torchcodec."""

    def encode_example(self, value: str | bytes | dict[str, Any]) -> dict[str, Any]:
        """Return one value of the column as `bytes` and `path`."""
        if isinstance(value, str):
            return {"bytes": None, "path": value}
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        return {"bytes": value.get("bytes"), "path": value.get("path")}


@dataclass(frozen=True)
class ClipStream:
    """Recordings that are read one after the other from a `datasets.IterableDataset`."""

    name: str  # of the dataset, configuration and split; ids begin with it
    dataset: IterableDataset  # with one column of audio that stays encoded, see [`open_dataset`]
    num_clips: int | None = None  # how many there are, where the dataset says so
    files: dict[str, Path] = field(default_factory=dict)  # of a dataset on this machine
    datasets: ClassVar[dict[Path, Dataset]] = {}

    @property
    def key(self) -> str:
        """Hash of the name: 16 hexadecimal digits."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    def clips(self, first_row: int) -> Iterator[Clip]:
        """Read the recordings from where the dataset stands; the first of them is row `first_row` of the whole."""
        for row, example in enumerate(self.dataset, start=first_row):
            encoded = read_encoded(example, self.dataset.features)
            labels = _label_values(example, self.dataset.features)
            if isinstance(encoded, bytes):
                yield Clip(f"{self.name}#{row}", Path(self.name), data=encoded, **labels)
            else:
                yield Clip(f"{self.name}#{row}", encoded, **labels)


def open_saved_dataset(folder: Path) -> ClipList:
    """List the recordings of a dataset that `save_to_disk` wrote; its files are mapped into memory, not read."""
    dataset = load_from_disk(str(folder))
    if isinstance(dataset, DatasetDict):
        splits = ", ".join(str(folder / split) for split in dataset)
        raise ValueError(f"{folder} holds several splits; give those to use: {splits}.")
    return _list_rows(folder.resolve().name, folder, _encoded(dataset, str(folder)))


def open_dataset(
    name: str, split: str | None, config_name: str | None = None, revision: str | None = None, streaming: bool = False
) -> ClipList | ClipStream:
    """Open a dataset by what `datasets.load_dataset` takes; `streaming` reads it without downloading it first."""
    if split is None:
        raise ValueError(f"No split of {name} is named; give --split, such as --split train.")
    try:
        dataset = load_dataset(name, config_name, split=split, revision=revision, streaming=streaming)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no dataset {name!r} ({error}); give --dataset user/name as on the Hub, or recordings on disk "
            "with --data."
        ) from error
    except DatasetGenerationError as error:
        raise ValueError(
            f"`datasets` could not prepare {name} ({error.__cause__ or error}); with --streaming nothing is prepared, "
            "and a folder of audio files needs no preparation with --data."
        ) from error
    here = Path(name).exists()
    short = Path(name).resolve().name if here else name
    full_name = "/".join(part for part in (short, config_name, revision, split) if part)
    dataset = _encoded(dataset, name)
    if not streaming:
        return _list_rows(full_name, Path(name if here else full_name), dataset)
    splits = dataset.info.splits or {}
    num_clips = splits[split].num_examples if split in splits else None
    return ClipStream(full_name, dataset, num_clips, named_files([Path(name)]) if here else {})


def _encoded(dataset: Dataset | IterableDataset, name: str) -> Dataset | IterableDataset:
    """Keep the audio, as it is encoded, and the labels of a dataset."""
    features = dataset.features or {}
    audio = _audio_column(features, name)
    labels = sorted(set(label_columns(features).values()) - {audio})
    return dataset.select_columns([audio, *labels]).cast_column(audio, EncodedAudio(decode=False))


def _audio_column(features: dict[str, Any], name: str) -> str:
    """Return the name of the one column of audio; where there are several, `audio`."""
    columns = [column for column, feature in features.items() if isinstance(feature, Audio)]
    if "audio" in columns:
        return "audio"
    if len(columns) != 1:
        described = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
        raise ValueError(
            f"{name} has {len(columns) or 'no'} columns of audio among {described or 'its unknown columns'}; it needs "
            "one of the type datasets.Audio, or one of several called `audio`: rename_column and cast_column of "
            "`datasets` make it."
        )
    return columns[0]


def _list_rows(name: str, path: Path, dataset: Dataset) -> ClipList:
    """List the rows of a dataset, without reading its audio."""
    features, columns = dataset.features, sorted(label_columns(dataset.features).values())
    rows = dataset.select_columns(columns) if columns else [{}] * len(dataset)
    labels = (_label_values(row, features) for row in rows)
    clips = [Clip(name, path, row, **values) for row, values in enumerate(labels)]
    return ClipList(clips, {path: dataset})


def _label_values(row: dict[str, Any], features: Features) -> dict[str, Any]:
    """Return the labels of one row as text; classes by their names."""
    named = {name: features[name] for name, value in row.items() if value is not None}
    classes = {name: kind.int2str(row[name]) for name, kind in named.items() if isinstance(kind, ClassLabel)}
    return read_labels(row | classes)


def read_encoded(row: dict[str, Any], features: Features) -> bytes | Path:
    """Return the encoded audio of one row: its bytes (none where there is no audio), or their file on this machine."""
    audio = row[_audio_column(features, "The dataset")] or {"bytes": None, "path": None}
    if audio["bytes"] is not None:
        return audio["bytes"]
    if not audio["path"]:
        return b""
    if "://" not in audio["path"]:
        return Path(audio["path"])
    with xopen(audio["path"], "rb") as file:
        return file.read()
