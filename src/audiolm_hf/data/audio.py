# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recorded audio as records: parquet files, folders of audio files, and lists of paths.

The first step of everything that learns or measures: paths go in, mono float32 arrays at one sampling rate come out,
with the speaker and accent of each recording. Files that cannot be read are left out and listed with the reason.
Audio is decoded with soundfile from bytes and resampled with soxr; torchcodec is never needed.
"""

import csv
import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
import soxr
import torch
from torch.utils.data import Dataset
from transformers.utils import logging

logger = logging.get_logger(__name__)

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64")
MANIFEST_SUFFIXES = (".txt", ".csv", ".jsonl")
_LABELS = ("speaker", "accent", "text", "source")


@dataclass(frozen=True)
class SkippedAudio:
    """A recording that was left out.

    Args:
        id (`str`): the recording, as in [`AudioRecord`].
        reason (`str`): why it could not be used.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class AudioRecord:
    """One decoded recording.

    Args:
        id (`str`): unique within the sources it was read with: the path and, in a parquet file, `#row`.
        array (`np.ndarray` of shape `(num_samples,)`): mono float32 in [-1, 1].
        sampling_rate (`int`): Hz.
        speaker, accent, text, source (`str`): the labels of the recording; `""` where none are given.
    """

    id: str
    array: np.ndarray
    sampling_rate: int
    speaker: str = ""
    accent: str = ""
    text: str = ""
    source: str = ""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.array) / self.sampling_rate


@dataclass(frozen=True)
class _Clip:
    """Where a recording is and what is known of it before it is decoded; `row` is -1 for a file of its own."""

    path: Path
    row: int
    duration: float
    speaker: str = ""
    accent: str = ""
    text: str = ""
    source: str = ""

    @property
    def id(self) -> str:
        return self.path.as_posix() if self.row < 0 else f"{self.path.as_posix()}#{self.row}"


def decode_audio(data: bytes | Path, sampling_rate: int) -> np.ndarray:
    """Decode one recording to mono at the asked rate.

    Args:
        data (`bytes` or `Path`): an encoded audio file, or where it lies.
        sampling_rate (`int`): Hz of the result; other rates are resampled.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32, contiguous.

    Raises:
        ValueError: the data is no audio that soundfile reads, holds no samples, or holds NaN or infinity.
    """
    try:
        channels, rate = sf.read(
            io.BytesIO(data) if isinstance(data, bytes) else data, dtype="float32", always_2d=True
        )
    except (sf.SoundFileError, OSError) as error:
        raise ValueError(f"soundfile cannot read it ({error})") from error
    array = channels.mean(axis=1)  # (num_samples, channels) -> (num_samples,)
    if not len(array):
        raise ValueError("it holds no samples")
    if not np.isfinite(array).all():
        raise ValueError("it holds NaN or infinite samples")
    if rate != sampling_rate:
        array = soxr.resample(array, rate, sampling_rate, quality="VHQ")
    return np.ascontiguousarray(array, dtype=np.float32)


class AudioSource(Sequence[AudioRecord]):
    """Recordings of any number of parquet files, folders, manifests and audio files, in a fixed order.

    Nothing is decoded before it is asked for. Recordings whose header cannot be read are left out at once; one that
    fails while it is decoded raises when indexed and is left out when iterated. Both are listed in `skipped`.

    Args:
        paths (`str`, `Path` or a sequence of them): parquet files with a column `audio` (a struct of `bytes` and
            `path`) and optional `speaker`, `accent`, `text`, `source`, `duration`; folders, searched for audio files;
            manifests (`.txt` with a path a line, `.csv` or `.jsonl` with a column `path` and the same optional
            columns; paths are relative to the manifest); or audio files.
        sampling_rate (`int`): Hz of the arrays that come out.
        min_duration_s (`float`, defaults to 0.0): shorter recordings are left out, in seconds.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path is of no kind named above, or nothing readable is left.
    """

    def __init__(
        self, paths: str | Path | Iterable[str | Path], sampling_rate: int = 16000, min_duration_s: float = 0.0
    ) -> None:
        self.sampling_rate = sampling_rate
        self.paths = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
        self._skipped: dict[str, str] = {}
        self._tables: dict[Path, pa.ChunkedArray] = {}
        self._clips: list[_Clip] = []
        for path in self.paths:
            self._clips += [clip for clip in self._index(path) if self._is_long_enough(clip, min_duration_s)]
        for skipped in self.skipped:
            logger.warning(f"Left out {skipped.id}: {skipped.reason}.")
        if not self._clips:
            raise ValueError(
                f"No readable audio of at least {min_duration_s} s in {[str(path) for path in self.paths]}; "
                f"{len(self._skipped)} left out. Give parquet files, folders, manifests or audio files."
            )

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> AudioRecord:  # type: ignore[override]
        clip = self._clips[index]
        try:
            array = decode_audio(self._encoded(clip), self.sampling_rate)
        except ValueError as error:
            self._skipped[clip.id] = str(error)
            raise ValueError(f"{clip.id}: {error}.") from error
        return AudioRecord(clip.id, array, self.sampling_rate, clip.speaker, clip.accent, clip.text, clip.source)

    def __iter__(self) -> Iterator[AudioRecord]:
        for index in range(len(self)):
            try:
                record = self[index]
            except ValueError as error:
                logger.warning(f"Left out {error}")
                continue
            yield record

    @property
    def skipped(self) -> list[SkippedAudio]:
        """What was left out so far, and why."""
        return [SkippedAudio(id, reason) for id, reason in self._skipped.items()]

    @property
    def ids(self) -> list[str]:
        """The id of every recording, in order."""
        return [clip.id for clip in self._clips]

    @property
    def durations(self) -> np.ndarray:
        """Stated length of every recording in seconds, float64."""
        return np.array([clip.duration for clip in self._clips])

    def _is_long_enough(self, clip: _Clip, min_duration_s: float) -> bool:
        if clip.duration >= min_duration_s:
            return True
        self._skipped[clip.id] = f"{clip.duration:.2f} s are shorter than min_duration_s={min_duration_s}"
        return False

    def _index(self, path: Path) -> Iterator[_Clip]:
        if not path.exists():
            raise FileNotFoundError(
                f"There is no {path}; give an existing parquet file, folder, manifest or audio file."
            )
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
            return self._index_files((file, {}) for file in files)
        suffix = path.suffix.lower()
        if suffix == ".parquet":
            return self._index_parquet(path)
        if suffix in MANIFEST_SUFFIXES:
            return self._index_files(_read_manifest(path))
        if suffix in AUDIO_SUFFIXES:
            return self._index_files([(path, {})])
        raise ValueError(
            f"{path} is neither a folder, a .parquet file, a manifest {MANIFEST_SUFFIXES} nor an audio file "
            f"{AUDIO_SUFFIXES}; convert it to one of these."
        )

    def _index_files(self, files: Iterable[tuple[Path, dict[str, str]]]) -> Iterator[_Clip]:
        for path, labels in files:
            duration = self._header_duration(path, path.as_posix())
            if duration is not None:
                yield _Clip(path, -1, duration, **labels)

    def _index_parquet(self, path: Path) -> Iterator[_Clip]:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if "audio" not in names:
            raise ValueError(f"{path} has the columns {names} but no `audio` (a struct of `bytes` and `path`).")
        labels = [name for name in (*_LABELS, "duration") if name in names]
        columns = file.read(columns=labels).to_pydict()
        for row in range(file.metadata.num_rows):
            clip = _Clip(path, row, 0.0, **{name: str(columns[name][row] or "") for name in labels if name in _LABELS})
            duration = columns["duration"][row] if "duration" in names else None
            if duration is None:
                duration = self._header_duration(self._encoded(clip), clip.id)
            if duration is not None:
                yield replace(clip, duration=duration)

    def _header_duration(self, data: bytes | Path, id: str) -> float | None:
        """Length in seconds by the file's header, or `None` (and an entry in `skipped`) if it cannot be read."""
        try:
            return float(sf.info(io.BytesIO(data) if isinstance(data, bytes) else data).duration)
        except (sf.SoundFileError, OSError) as error:
            self._skipped[id] = f"soundfile cannot read it ({error})"
            return None

    def _encoded(self, clip: _Clip) -> bytes | Path:
        if clip.row < 0:
            return clip.path
        if clip.path not in self._tables:
            self._tables[clip.path] = pq.read_table(clip.path, columns=["audio"], memory_map=True)["audio"]
        return self._tables[clip.path][clip.row].as_py()["bytes"] or b""


def _read_manifest(path: Path) -> list[tuple[Path, dict[str, str]]]:
    """Paths and labels listed by a manifest."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows: list[dict[str, Any]]
    if path.suffix.lower() == ".txt":
        rows = [{"path": line.strip()} for line in lines]
    elif path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(lines))
    else:
        rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows, start=1):
        if not row.get("path"):
            raise ValueError(f"Entry {number} of {path} has no `path` but {sorted(row)}; name the column `path`.")
    return [
        (path.parent / row["path"], {name: str(row[name]) for name in _LABELS if row.get(name) is not None})
        for row in rows
    ]


def load_audio_segments(
    source: AudioSource, segment_length_s: float, max_segments: int | None = None
) -> list[np.ndarray]:
    """Cut every recording into consecutive segments.

    Args:
        source ([`AudioSource`]): the recordings.
        segment_length_s (`float`): longest segment, in seconds; the last of a recording may be shorter.
        max_segments (`int`, *optional*): stop after so many.

    Returns:
        `list[np.ndarray]`: float32 arrays of shape `(num_samples,)`, in the order of the recordings.
    """
    length = round(segment_length_s * source.sampling_rate)
    if length < 1:
        raise ValueError(f"segment_length_s is {segment_length_s}; it must be at least one sample long.")
    segments: list[np.ndarray] = []
    for record in source:
        for start in range(0, len(record.array), length):
            if max_segments is not None and len(segments) >= max_segments:
                return segments
            segments.append(record.array[start : start + length])
    return segments


class AudioCropDataset(Dataset):
    """Endless random crops of one length; crop `i` depends on the seed, `i` and the source alone.

    A training that is stopped after step n and resumed at step n therefore sees what an uninterrupted one sees, with
    no state to save. Long recordings are drawn in proportion to their length. Decoded audio is kept as 16 bit
    integers up to `cache_bytes`, and every crop passes through them, so that the cache changes nothing.

    Args:
        source ([`AudioSource`]): the recordings.
        crop_length (`int`): samples per crop; a shorter recording is used whole and zero padded on the right.
        seed (`int`, defaults to 0): of the choice of recordings and positions.
        cache_bytes (`int`, defaults to 2 GiB): decoded audio kept in memory (2 bytes a sample).

    Raises:
        ValueError: `crop_length` is below 1.
    """

    def __init__(self, source: AudioSource, crop_length: int, seed: int = 0, cache_bytes: int = 2**31) -> None:
        if crop_length < 1:
            raise ValueError(f"crop_length is {crop_length} samples; it must be at least 1.")
        self.source = source
        self.crop_length = crop_length
        self.seed = seed
        self.cache_bytes = cache_bytes
        self._cumulative = np.cumsum(source.durations) / source.durations.sum()
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cached_bytes = 0
        self._unreadable: set[int] = set()

    def __len__(self) -> int:
        """Crops that cover the source about once; larger indices are just as valid."""
        total = self.source.durations.sum() * self.source.sampling_rate
        return max(1, int(total // self.crop_length))

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Crop number `index`: `input_values` float32 and `attention_mask` int64, both of shape `(num_samples,)`."""
        rng = np.random.default_rng([self.seed, index])
        samples = self._draw(rng)
        start = int(rng.integers(max(1, len(samples) - self.crop_length + 1)))
        crop = torch.from_numpy(samples[start : start + self.crop_length].astype(np.float32) / 32767.0)
        padding = self.crop_length - len(crop)
        mask = torch.ones(len(crop), dtype=torch.long)
        pad = torch.nn.functional.pad
        return {"input_values": pad(crop, (0, padding)), "attention_mask": pad(mask, (0, padding))}

    def batch(self, step: int, batch_size: int) -> dict[str, torch.Tensor]:
        """Stack the crops of one training step.

        Args:
            step (`int`): training step, from 0.
            batch_size (`int`): crops per step.

        Returns:
            `dict`: `input_values` and `attention_mask` of shape `(batch, num_samples)`.
        """
        crops = [self[step * batch_size + row] for row in range(batch_size)]
        return {name: torch.stack([crop[name] for crop in crops]) for name in crops[0]}

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Samples of a random readable recording, int16."""
        while len(self._unreadable) < len(self.source):
            clip = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self.source) - 1)
            if clip in self._unreadable:
                continue
            try:
                return self._samples(clip)
            except ValueError as error:
                self._unreadable.add(clip)
                logger.warning(f"Left out {error}")
        raise ValueError(f"None of the {len(self.source)} recordings can be decoded: {self.source.skipped[:3]}.")

    def _samples(self, clip: int) -> np.ndarray:
        if clip in self._cache:
            self._cache.move_to_end(clip)
            return self._cache[clip]
        array = np.clip(np.round(self.source[clip].array * 32767.0), -32767, 32767).astype(np.int16)
        self._cache[clip] = array
        self._cached_bytes += array.nbytes
        while self._cached_bytes > self.cache_bytes and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return array


__all__ = [
    "AudioCropDataset",
    "AudioRecord",
    "AudioSource",
    "SkippedAudio",
    "decode_audio",
    "load_audio_segments",
]
