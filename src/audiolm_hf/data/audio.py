# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recorded audio as records: parquet files, folders of audio files, lists of paths, and `datasets` saved to disk.

The first step of everything that learns or measures: paths go in, mono float32 arrays at one sampling rate come out,
with the speaker and accent of each recording. Files that cannot be read are left out and listed with the reason.
Audio is decoded with soundfile or ffmpeg and resampled with soxr; torchcodec is never needed.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.utils import logging

from audiolm_hf.audio_decoding_audiolm import decode_mono, measure_duration
from audiolm_hf.audio_samples_audiolm import check_sampling_rate
from audiolm_hf.data.clips import Clip, ClipReader, list_clips

logger = logging.get_logger(__name__)


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


def decode_audio(
    data: bytes | Path, sampling_rate: int, start_s: float = 0.0, end_s: float | None = None
) -> np.ndarray:
    """Decode one recording to mono at the asked rate.

    Args:
        data (`bytes` or `Path`): an encoded audio file, or where it lies.
        sampling_rate (`int`): Hz of the result; other rates are resampled.
        start_s (`float`, defaults to 0.0): where the recording begins in the file, in seconds.
        end_s (`float`, *optional*): where it ends, in seconds; no later than the end of the file.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32, contiguous.

    Raises:
        ValueError: the data is no audio that soundfile or ffmpeg reads, holds no samples, or holds NaN or infinity.
    """
    array = decode_mono(data, sampling_rate, start_s, end_s)
    if not len(array):
        raise ValueError("it holds no samples" + (f" after {start_s} s" if start_s else ""))
    if not np.isfinite(array).all():
        raise ValueError("it holds NaN or infinite samples")
    return array


class AudioSource(Sequence[AudioRecord]):
    """Recordings of any number of parquet files, folders, manifests and audio files, in a fixed order.

    Nothing is decoded before it is asked for. Recordings whose header cannot be read are left out at once; one that
    fails while it is decoded raises when indexed and is left out when iterated. Both are listed in `skipped`.

    Args:
        paths (`str`, `Path` or a sequence of them): parquet files, folders, lists, datasets saved to disk or audio
            files, see [`~audiolm_hf.data.clips.list_clips`].
        sampling_rate (`int`): Hz of the arrays that come out.
        min_duration_s (`float`, defaults to 0.0): shorter recordings are left out, in seconds.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path is of no kind named above, or nothing readable is left.
    """

    def __init__(
        self, paths: str | Path | Iterable[str | Path], sampling_rate: int = 16000, min_duration_s: float = 0.0
    ) -> None:
        self.sampling_rate = check_sampling_rate(sampling_rate)
        if not 0 <= min_duration_s < math.inf:
            raise ValueError(f"min_duration_s is {min_duration_s}; give 0 or more seconds.")
        self.paths = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
        self._skipped: dict[str, str] = {}
        listed = list_clips(self.paths)
        self._reader = ClipReader(listed.datasets)
        timed = (self._with_duration(clip) for clip in listed.clips)
        self._clips = [clip for clip in timed if clip is not None and self._is_long_enough(clip, min_duration_s)]
        self._durations = np.array([clip.duration for clip in self._clips], dtype=np.float64)
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
            array = decode_audio(self._reader.read(clip), self.sampling_rate, clip.start_s, clip.end_s)
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
    def speakers(self) -> list[str]:
        """The speaker of every recording, in order; `""` where none is given."""
        return [clip.speaker for clip in self._clips]

    @property
    def durations(self) -> np.ndarray:
        """Stated length of every recording in seconds, float64."""
        return self._durations

    def _is_long_enough(self, clip: Clip, min_duration_s: float) -> bool:
        if clip.duration is None or clip.duration >= min_duration_s:
            return True
        self._skipped[clip.id] = f"{clip.duration:.2f} s are shorter than min_duration_s={min_duration_s}"
        return False

    def _with_duration(self, clip: Clip) -> Clip | None:
        """Add the length by the file itself; `None` (and an entry in `skipped`) if that cannot be read."""
        if clip.duration is not None and 0 < clip.duration < math.inf:
            return clip
        try:
            length = measure_duration(self._reader.read(clip))
        except ValueError as error:
            self._skipped[clip.id] = str(error)
            return None
        end_s = length if clip.end_s is None else min(clip.end_s, length)
        return replace(clip, duration=max(0.0, end_s - clip.start_s))


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
    if not 1 / source.sampling_rate <= segment_length_s < math.inf:
        raise ValueError(f"segment_length_s is {segment_length_s}; it must be at least one sample long, and finite.")
    length = round(segment_length_s * source.sampling_rate)
    segments: list[np.ndarray] = []
    for record in source:
        for start in range(0, len(record.array), length):
            if max_segments is not None and len(segments) >= max_segments:
                return segments
            segments.append(record.array[start : start + length])
    return segments


FramePitch = Callable[[np.ndarray, int, int], np.ndarray]  # int16 recording, first sample, samples -> Hz of each frame


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
        pitch ([`FramePitch`], *optional*): adds `f0 (frames,)`, Hz, to every crop.

    Raises:
        ValueError: `crop_length` is below 1.
    """

    def __init__(
        self,
        source: AudioSource,
        crop_length: int,
        seed: int = 0,
        cache_bytes: int = 2**31,
        pitch: FramePitch | None = None,
    ) -> None:
        if crop_length < 1:
            raise ValueError(f"crop_length is {crop_length} samples; it must be at least 1.")
        self.source = source
        self.crop_length = crop_length
        self.seed = seed
        self.cache_bytes = cache_bytes
        self.pitch = pitch
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
        values = {"input_values": pad(crop, (0, padding)), "attention_mask": pad(mask, (0, padding))}
        if self.pitch is not None:
            values["f0"] = torch.from_numpy(self.pitch(samples, start, self.crop_length))
        return values

    def batch(self, step: int, batch_size: int) -> dict[str, torch.Tensor]:
        """Stack the crops of one training step.

        Args:
            step (`int`): training step, from 0.
            batch_size (`int`): crops per step.

        Returns:
            `dict`: `input_values` and `attention_mask` of shape `(batch, num_samples)`, and `f0` of shape
            `(batch, frames)` where it is asked for.
        """
        crops = [self[step * batch_size + row] for row in range(batch_size)]
        return {name: torch.stack([crop[name] for crop in crops]) for name in crops[0]}

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Samples of a random readable recording, int16."""
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
            weights[clip] = 0.0  # what is drawn next does not depend on what was found unreadable before
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
