# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recordings as mono float32 arrays at one sampling rate, with their labels, and random crops of them.

Everything that is trained or evaluated on audio starts here. Recordings that cannot be read are left out and listed
with the reason. Audio is decoded with soundfile or ffmpeg and resampled with soxr, without torchcodec.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import soxr
import torch
from transformers.utils import logging

from audiolm_hf.audio_decoding_audiolm import decode_mono, measure_duration
from audiolm_hf.audio_samples_audiolm import check_sampling_rate
from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.cache import ByteCache
from audiolm_hf.data.clips import ClipReader, list_clips
from audiolm_hf.data.recordings import Clip

logger = logging.get_logger(__name__)
Speed = Annotated[float, Within(0.5, 2)]  # at which a recording is played
_CACHED_BYTES = 2**31  # of decoded audio, 2 bytes a sample


@dataclass(frozen=True)
class AudioRecord:
    """One decoded recording."""

    id: str  # unique within the sources it was read with, see [`Clip`]
    array: np.ndarray  # (num_samples,), mono float32 in [-1, 1]
    sampling_rate: int  # Hz
    speaker: str = ""  # this and the others are labels, empty where not given
    accent: str = ""
    text: str = ""
    source: str = ""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.array) / self.sampling_rate


def decode_audio(
    data: bytes | Path, sampling_rate: int, start_s: float = 0.0, end_s: float | None = None
) -> np.ndarray:
    """Decode a sound file, or a part of it, to mono float32 `(num_samples,)` at a sampling rate in Hz."""
    array = decode_mono(data, sampling_rate, start_s, end_s)
    if not len(array):
        raise ValueError("it holds no samples" + (f" after {start_s} s" if start_s else ""))
    if not np.isfinite(array).all():
        raise ValueError("it holds NaN or infinite samples")
    return array


def to_int16(array: np.ndarray) -> np.ndarray:
    """Round samples in [-1, 1] to int16, with 32767 as full scale."""
    return np.clip(np.round(array * 32767.0), -32767, 32767).astype(np.int16)


def decode_clip(clip: Clip, reader: ClipReader, sampling_rate: int) -> AudioRecord:
    """Decode one recording with its labels; errors as of [`decode_audio`]."""
    array = decode_audio(reader.read(clip), sampling_rate, clip.start_s, clip.end_s)
    return AudioRecord(clip.id, array, sampling_rate, clip.speaker, clip.accent, clip.text, clip.source)


def change_speed(record: AudioRecord, speed: float) -> AudioRecord:
    """Return a recording played `speed` times as fast, which also changes its pitch and its voice.

    Source: speed perturbation (Ko et al., Audio Augmentation for Speech Recognition, Interspeech 2015).
    """
    if speed == 1:
        return record
    return replace(record, array=soxr.resample(record.array, record.sampling_rate * speed, record.sampling_rate))


class AudioSource(Sequence[AudioRecord]):
    """Recordings of any number of parquet files, folders, lists and audio files, in a fixed order.

    Recordings are only decoded when they are used. Those whose header cannot be read are left out at once; one that
    fails while it is decoded raises when indexed and is left out when iterated. Both are listed in `skipped`.
    """

    def __init__(self, paths: str | Path | Iterable[str | Path], sampling_rate: int = 16000) -> None:
        self.sampling_rate = check_sampling_rate(sampling_rate)
        self.paths = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
        self.skipped: dict[str, str] = {}  # the reason, by the id of what was left out so far
        listed = list_clips(self.paths)
        self._reader = ClipReader(listed.datasets)
        self._clips = [clip for clip in map(self._with_duration, listed.clips) if clip is not None]
        for id, reason in self.skipped.items():
            logger.warning(f"Left out {id}: {reason}.")
        if not self._clips:
            raise ValueError(
                f"No readable audio in {[str(path) for path in self.paths]}; {len(self.skipped)} left out. Give "
                "parquet files, folders, lists or audio files."
            )
        self.ids = [clip.id for clip in self._clips]
        self.speakers = [clip.speaker for clip in self._clips]  # "" where none is given
        self.durations = np.array([clip.duration for clip in self._clips], dtype=np.float64)  # seconds, as stated

    def labels(self, column: str) -> list[str]:
        """Return a label of every recording: `speaker`, `accent` or `source`, or any column of parquet files."""
        if column in ("speaker", "accent", "source"):
            return [getattr(clip, column) for clip in self._clips]
        columns: dict[Path, list[Any]] = {}
        for path in {clip.path for clip in self._clips}:
            known = pq.read_schema(path).names if path.suffix == ".parquet" else ["speaker", "accent", "source"]
            if column not in known:
                raise ValueError(f"{path} has no label {column!r}; it has {', '.join(known)}.")
            columns[path] = pq.read_table(path, columns=[column])[column].to_pylist()
        values = (columns[clip.path][clip.row] for clip in self._clips)
        return ["" if value is None else str(value) for value in values]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> AudioRecord:  # type: ignore[override]
        clip = self._clips[index]
        try:
            return decode_clip(clip, self._reader, self.sampling_rate)
        except ValueError as error:
            self.skipped[clip.id] = str(error)
            raise ValueError(f"{clip.id}: {error}.") from error

    def __iter__(self) -> Iterator[AudioRecord]:
        for index in range(len(self)):
            try:
                record = self[index]
            except ValueError as error:
                logger.warning(f"Left out {error}")
                continue
            yield record

    def _with_duration(self, clip: Clip) -> Clip | None:
        """Set the length from the file; `None` (and an entry in `skipped`) if that cannot be read."""
        if clip.duration is not None and 0 < clip.duration < math.inf:
            return clip
        try:
            length = measure_duration(self._reader.read(clip))
        except ValueError as error:
            self.skipped[clip.id] = str(error)
            return None
        end_s = length if clip.end_s is None else min(clip.end_s, length)
        return replace(clip, duration=max(0.0, end_s - clip.start_s))


def load_audio_segments(source: AudioSource, segment_length_s: float, max_segments: int) -> list[np.ndarray]:
    """Return the first consecutive segments `(num_samples,)` of recordings, of at most `segment_length_s`."""
    length = max(1, round(segment_length_s * source.sampling_rate))
    arrays = (record.array for record in source)
    segments = (array[start : start + length] for array in arrays for start in range(0, len(array), length))
    return list(islice(segments, max_segments))


FramePitch = Callable[[np.ndarray, int, int], np.ndarray]  # int16 recording, first sample, samples -> Hz of each frame


class AudioCropDataset:
    """Endless random crops of one length; crop `i` depends on the seed, `i` and the source alone.

    So a training resumes exactly without saved state. Recordings are drawn in proportion to their length. Decoded
    audio is rounded to 16-bit integers, which are cached as far as there is room. `pitch` adds `f0 (frames,)`, Hz, to
    every crop; short recordings are zero padded.
    """

    def __init__(self, source: AudioSource, crop_length: int, seed: int = 0, pitch: FramePitch | None = None) -> None:
        self.source, self.crop_length, self.seed, self.pitch = source, crop_length, seed, pitch
        self._cache: ByteCache[np.ndarray] = ByteCache(_CACHED_BYTES, attrgetter("nbytes"))
        self._unreadable: set[int] = set()

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return crop number `index`: `input_values` float32 of shape `(num_samples,)`."""
        rng = np.random.default_rng([self.seed, index])
        samples = self._draw(rng)
        start = int(rng.integers(max(1, len(samples) - self.crop_length + 1)))
        crop = torch.from_numpy(samples[start : start + self.crop_length].astype(np.float32) / 32767.0)
        values = {"input_values": torch.nn.functional.pad(crop, (0, self.crop_length - len(crop)))}
        if self.pitch is not None:
            values["f0"] = torch.from_numpy(self.pitch(samples, start, self.crop_length))
        return values

    def batch(self, step: int, batch_size: int) -> dict[str, torch.Tensor]:
        """Stack the crops of a training step, counted from 0; the first dimension of all tensors is `batch`."""
        crops = [self[step * batch_size + row] for row in range(batch_size)]
        return {name: torch.stack([crop[name] for crop in crops]) for name in crops[0]}

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the samples of a random readable recording, int16."""
        weights = self.source.durations.copy()
        while weights.any():
            cumulative = np.cumsum(weights)
            clip = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
            clip = min(clip, len(weights) - 1)  # where the product was rounded up
            if clip not in self._unreadable:
                try:
                    return self._samples(clip)
                except ValueError as error:
                    self._unreadable.add(clip)
                    logger.warning(f"Left out {error}")
            weights[clip] = 0.0  # drawn and dropped in every run, so that no draw depends on earlier ones
        first = dict(islice(self.source.skipped.items(), 3))
        raise ValueError(f"None of the {len(self.source)} recordings can be decoded: {first}.")

    def _samples(self, clip: int) -> np.ndarray:
        return self._cache.get(clip, lambda: to_int16(self.source[clip].array))
