# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Audio in whatever form it is at hand -> the model's input; the model's output -> arrays and files.

Comes in: paths, bytes, arrays, rows of `datasets`, at any rate, mixed. Goes out: `input_values` and `attention_mask`
of [`AudioLMFeatureExtractor`]. Behind the model, `batch_decode` cuts each row to its length and `save_audio` writes
files that say they are generated.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import AudioKwargs, ProcessingKwargs, ProcessorMixin

from .audio_file_audiolm import provenance, read_audio, write_audio

_FORMS = (
    "a path, bytes, an array with sampling_rate=..., {'array' or 'raw', 'sampling_rate'} or {'bytes' or 'path'}, or a "
    "list of these"
)


class AudioLMProcessor(ProcessorMixin):
    r"""Read audio of any form for [`AudioLMModel`], and write what it generates.

    Args:
        feature_extractor ([`AudioLMFeatureExtractor`]): checks, mixes, resamples and pads.
    """

    def __init__(self, feature_extractor: Any) -> None:
        super().__init__(feature_extractor)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of what goes in and comes out of the model, Hz."""
        return self.feature_extractor.sampling_rate

    @property
    def model_input_names(self) -> list[str]:
        """Keys of what `__call__` returns."""
        return self.feature_extractor.model_input_names

    def __call__(self, audio: Any = None, **kwargs: Any) -> BatchFeature:
        """Read one clip or a list of clips, and make one batch.

        Args:
            audio: a path (`str`, `Path`), the `bytes` of a file, an array or tensor of shape `(num_samples,)` or
                `(num_channels, num_samples)` with `sampling_rate`, a dictionary `{"array" or "raw",
                "sampling_rate"}` or `{"bytes" or "path"}` (a row of `datasets.Audio(decode=False)`), or a list of
                these, mixed and at different rates.
            kwargs: options, all of them optional, as follows.
            sampling_rate (`int`, *optional*): rate of clips given as bare arrays, Hz.
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask: as in
                [`AudioLMFeatureExtractor`].
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"` or `"np"`.

        Returns:
            `BatchFeature` with `input_values` float32 and `attention_mask`, both `(batch, num_samples)`.

        Raises:
            TypeError: if a clip has another form, or an option is unknown.
            ValueError: if a file cannot be decoded, or a clip cannot be used (see [`AudioLMFeatureExtractor`]).
            FileNotFoundError: if a path does not lead to a file.
        """
        if audio is None:
            raise ValueError(f"audio is None; give {_FORMS}.")
        options = {"return_tensors": "pt", **self._options(kwargs)}
        sampling_rate = options.pop("sampling_rate", None)
        clips = [_load(item, sampling_rate) for item in _as_list(audio)]
        arrays, rates = [clip for clip, _ in clips], [rate for _, rate in clips]
        return self.feature_extractor(arrays, sampling_rate=rates, **options)

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Sort options as every transformers processor does, but refuse unknown ones."""
        known = {"common_kwargs", *ProcessingKwargs.__annotations__, *AudioKwargs.__annotations__}
        unknown = sorted(set(kwargs) - known)
        if unknown:
            raise TypeError(f"{type(self).__name__} does not know the option {unknown[0]!r}.")
        return self._merge_kwargs(ProcessingKwargs, **kwargs)["audio_kwargs"]

    def batch_decode(self, output: Any, return_full_audio: bool = True) -> list[np.ndarray]:
        """Cut every row of a generated batch to its own length.

        Args:
            output ([`AudioLMGenerateOutput`]): `audio_values (rows, num_samples)`, `audio_lengths (rows,)` and
                `prompt_lengths (rows,)`.
            return_full_audio (`bool`, defaults to `True`): keep the prompt in front of its continuation.

        Returns:
            `list[np.ndarray]`: float32 arrays of shape `(num_samples,)`.
        """
        lengths = zip(output["audio_lengths"].tolist(), output["prompt_lengths"].tolist(), strict=True)
        starts_ends = [(0 if return_full_audio else prompt_length, length) for length, prompt_length in lengths]
        rows = output["audio_values"].detach().float().cpu().numpy()
        return [row[start:end].copy() for row, (start, end) in zip(rows, starts_ends, strict=True)]

    def save_audio(
        self,
        audio: Any,
        saving_path: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        checkpoint: str | None = None,
        seed: int | None = None,
    ) -> list[Path]:
        """Write generated audio, with text fields that say so.

        Args:
            audio: an array or tensor of shape `(num_samples,)`, a list of these, a pipeline result
                (`{"audio", "sampling_rate"}`) or a list of these, or what `AudioLMModel.generate` returns.
            saving_path (`str`, `os.PathLike` or a list of these): one path for each clip, ending in .wav, .flac, .ogg.
            checkpoint (`str`, *optional*): name of the model, for the text fields.
            seed (`int`, *optional*): seed of the generation, for the text fields.

        Returns:
            `list[Path]` of the files.

        Raises:
            ValueError: if the numbers of clips and paths differ, or an ending is unknown.
        """
        is_output = isinstance(audio, Mapping) and "audio_values" in audio
        clips = self.batch_decode(audio) if is_output else [_samples(clip) for clip in _as_list(audio)]
        paths = [saving_path] if isinstance(saving_path, str | os.PathLike) else list(saving_path)
        if len(clips) != len(paths):
            raise ValueError(f"{len(clips)} clips were given for {len(paths)} paths; give one path for each clip.")
        metadata = provenance(checkpoint, seed)
        rate = self.sampling_rate
        return [write_audio(path, clip, rate, metadata) for clip, path in zip(clips, paths, strict=True)]


def _as_list(audio: Any) -> list[Any]:
    """Put a single clip into a list; a flat list of numbers is one clip."""
    if not isinstance(audio, list | tuple):
        return [audio]
    if len(audio) == 0:
        raise ValueError(f"audio is an empty list; give {_FORMS}.")
    return [np.asarray(audio)] if isinstance(audio[0], int | float) else list(audio)


def _load(item: Any, sampling_rate: int | None) -> tuple[Any, int | None]:
    """Bring one clip of any form to samples and their rate."""
    if isinstance(item, Mapping):
        return _load_mapping(item, sampling_rate)
    if isinstance(item, str | os.PathLike | bytes | bytearray) or hasattr(item, "read"):
        return read_audio(item)
    if isinstance(item, np.ndarray | torch.Tensor | list):
        if sampling_rate is None:
            raise ValueError(
                "sampling_rate is missing: an array does not tell its rate. Pass sampling_rate=... in Hz, or "
                "{'array': ..., 'sampling_rate': ...}."
            )
        return item, sampling_rate
    raise TypeError(f"audio is of type {type(item).__name__}; give {_FORMS}.")


def _load_mapping(item: Mapping[str, Any], sampling_rate: int | None) -> tuple[Any, int | None]:
    """Read `{"array" or "raw", "sampling_rate"}` or `{"bytes" or "path"}`."""
    for key in ("array", "raw"):
        if item.get(key) is not None:
            return _load(item[key], item.get("sampling_rate", sampling_rate))
    for key in ("bytes", "path"):
        if item.get(key) is not None:
            return read_audio(item[key])
    raise ValueError(f"audio is a dictionary with the keys {sorted(map(str, item))}; give {_FORMS}.")


def _samples(clip: Any) -> np.ndarray:
    """Take `(num_samples,)` float32 from an array, a tensor or a pipeline result."""
    if isinstance(clip, Mapping):
        clip = clip["audio"]
    if isinstance(clip, torch.Tensor):
        clip = clip.detach().float().cpu()
    return np.asarray(clip, dtype=np.float32)


__all__ = ["AudioLMProcessor"]
