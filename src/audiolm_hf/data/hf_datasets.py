# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recordings of a `datasets` dataset: saved to disk, of the Hub by name, downloaded or streamed.

In: a folder or a name; out: a dataset with one column of encoded audio, bytes or a path. `datasets` would decode it
with torchcodec; here it is told not to, and soundfile decodes later.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from datasets.utils.file_utils import xopen

from audiolm_hf.data.manifests import Labels, label_columns


class EncodedAudio(Audio):
    """Audio that stays as it is encoded; unlike its parent it does without torchcodec."""

    def encode_example(self, value: str | bytes | dict[str, Any]) -> dict[str, Any]:
        """Give one value of the column as `bytes` and `path`."""
        if isinstance(value, str):
            return {"bytes": None, "path": value}
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        return {"bytes": value.get("bytes"), "path": value.get("path")}


def open_saved_dataset(folder: Path) -> Dataset:
    """Open a dataset that `save_to_disk` wrote; its files are mapped into memory, not read.

    Args:
        folder (`Path`): of the dataset, or of one split of several.

    Returns:
        `datasets.Dataset`: see [`undecoded`].

    Raises:
        ValueError: the folder holds several splits, or none of the columns is audio.
    """
    dataset = load_from_disk(str(folder))
    if isinstance(dataset, DatasetDict):
        splits = ", ".join(str(folder / split) for split in dataset)
        raise ValueError(f"{folder} holds several splits; give those to use: {splits}.")
    return undecoded(dataset, str(folder))


def open_dataset(
    name: str,
    split: str | None,
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Open a dataset by the name that `datasets.load_dataset` knows it by.

    Args:
        name (`str`): `user/name` on the Hub, or a local folder of data files.
        split (`str`): such as `train`, or `train[:10%]` unless it is streamed.
        config_name (`str`, *optional*): which of the dataset's configurations.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        streaming (`bool`, defaults to `False`): read while working instead of downloading everything first.

    Returns:
        `datasets.Dataset` or `datasets.IterableDataset`: see [`undecoded`].

    Raises:
        FileNotFoundError: there is no such dataset.
        ValueError: there is no such split or configuration, or none of the columns is audio.
    """
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
    return undecoded(dataset, name)


def undecoded(dataset: Dataset | IterableDataset, name: str) -> Dataset | IterableDataset:
    """Keep the audio, as it is encoded, and the labels of a dataset.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): with one column of audio, or one called `audio`.
        name (`str`): of the dataset, for errors.

    Returns:
        the same kind of dataset: the column of audio, as `bytes` and `path`, and the columns of labels.

    Raises:
        ValueError: there is no column of audio, or several and none is called `audio`.
    """
    features = dataset.features or {}
    audio = audio_column(features, name)
    labels = sorted(set(label_columns(features).values()) - {audio})
    return dataset.select_columns([audio, *labels]).cast_column(audio, EncodedAudio(decode=False))


def audio_column(features: dict[str, Any], name: str) -> str:
    """Find the one column of audio; where there are several, that called `audio`."""
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


def label_values(row: dict[str, Any], features: Features) -> Labels:
    """Give the labels of one row as text; classes by their names."""
    labels: Labels = {}
    for label, column in label_columns(features).items():
        value, feature = row[column], features[column]
        if value is not None:
            labels[label] = feature.int2str(value) if isinstance(feature, ClassLabel) else str(value)
    return labels


def read_labels(dataset: Dataset) -> Iterator[Labels]:
    """Give the labels of every row of a dataset, without reading its audio."""
    columns = sorted(label_columns(dataset.features).values())
    if not columns:
        yield from ({} for _ in range(len(dataset)))
        return
    features = dataset.features
    for row in dataset.select_columns(columns):
        yield label_values(row, features)


def read_encoded(row: dict[str, Any], features: Features) -> bytes | Path:
    """Give the encoded audio of one row: its bytes, or where they lie on this machine.

    Args:
        row (`dict`): of an [`undecoded`] dataset.
        features (`datasets.Features`): of the dataset.

    Returns:
        `bytes` or `Path`; no bytes at all where neither is given.
    """
    audio = row[audio_column(features, "The dataset")] or {"bytes": None, "path": None}
    if audio["bytes"] is not None:
        return audio["bytes"]
    if not audio["path"]:
        return b""
    if "://" not in audio["path"]:
        return Path(audio["path"])
    with xopen(audio["path"], "rb") as file:
        return file.read()


__all__ = [
    "EncodedAudio",
    "audio_column",
    "label_values",
    "open_dataset",
    "open_saved_dataset",
    "read_encoded",
    "read_labels",
    "undecoded",
]
