# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The processor: converts audio of any kind to model inputs, and model outputs to arrays and files.

In: paths, bytes, arrays or rows of `datasets` at any sampling rates; out: `input_values` and `attention_mask` of
[`AudioLMFeatureExtractor`].
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import AudioKwargs, ProcessingKwargs, ProcessorMixin

from .audio_file_audiolm import check_ending, check_folder, read_audio, write_audio
from .audio_samples_audiolm import as_float32, check_sampling_rate, is_array
from .config_values_audiolm import FLAG, did_you_mean, plain
from .input_checks_audiolm import check_ids, check_waveform
from .provenance_audiolm import provenance
from .strict_config_audiolm import refuse_short_name
from .watermark_audiolm import add_watermark, check_watermark

_KEYS = {"auto_map", "feature_extractor", "processor_class"}  # of processor_config.json
_FORMS = (
    "a path, bytes, an array with sampling_rate=..., (rate, array), {'array', 'raw' or 'audio', 'sampling_rate'}, "
    "{'bytes' or 'path'}, a torchcodec AudioDecoder, or a list of these"
)


class AudioLMProcessor(ProcessorMixin):
    """Reads audio for [`AudioLMModel`] by an [`AudioLMFeatureExtractor`], and writes generated audio."""

    checkpoint: str | None = None  # folder or Hub name that the processor was loaded from

    def __init__(self, feature_extractor: Any) -> None:
        super().__init__(feature_extractor)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "AudioLMProcessor":
        """Load a processor, see `ProcessorMixin.from_pretrained`; it names this checkpoint in the files it writes."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        processor.checkpoint = os.fspath(pretrained_model_name_or_path)
        return processor

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read `processor_config.json`; unknown keys are errors."""
        refuse_short_name(pretrained_model_name_or_path)
        try:
            fields, kwargs = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        except AttributeError as error:  # transformers takes the file for an object
            raise ValueError(
                f"processor_config.json of {pretrained_model_name_or_path} holds no JSON object ({error}); save it "
                "again."
            ) from None
        for name in fields.keys() - _KEYS:
            raise ValueError(f"{cls.__name__} has no key {name!r}{did_you_mean(name, _KEYS)}")
        extractor = fields.get("feature_extractor", {})
        if not isinstance(extractor, dict):
            raise ValueError(f"feature_extractor is {extractor!r}; give the fields of an AudioLMFeatureExtractor.")
        return fields, kwargs

    @property
    def sampling_rate(self) -> int:
        """Sampling rate of the model's input and output, in Hz."""
        return self.feature_extractor.sampling_rate

    @property
    def tokenizer(self) -> NoReturn:
        """Not available; the error names the `processing_class` for `Trainer`."""
        raise AttributeError("There is no tokenizer; give Trainer processing_class=processor.feature_extractor.")

    def __call__(self, audio: Any = None, **kwargs: Any) -> BatchFeature:
        """Read a recording or a list of recordings into a batch.

        Args:
            audio: a path (`str`, `Path`), the `bytes` of a file, an array or tensor of shape `(num_samples,)` or
                `(num_channels, num_samples)`, 1 or 2 channels, with `sampling_rate`, a tuple `(rate, array)` of Gradio
                (channels last), a dictionary `{"array", "raw" or "audio", "sampling_rate"}` or `{"bytes" or "path"}`
                (a value of `datasets.Audio(decode=False)`), an `AudioDecoder` or `AudioSamples` of torchcodec (a value
                of `datasets.Audio()`), a row of a dataset with one of these as `audio`; or a list or column of these,
                mixed and at different rates.
            kwargs: options, all of them optional, as follows.
            sampling_rate (`int`, *optional*): rate of recordings given as bare arrays, Hz; of others it is their own.
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask (*optional*): as in
                [`AudioLMFeatureExtractor`].
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"` or `"np"`.

        Returns:
            `BatchFeature` with `input_values` float32 and `attention_mask`, both `(batch, num_samples)`.

        Raises:
            TypeError: if a recording has another form, or an option is unknown.
            ValueError: if a file cannot be decoded, or a recording cannot be used (see [`AudioLMFeatureExtractor`]).
            FileNotFoundError: if a path does not lead to a file.
        """
        if audio is None:
            raise ValueError(f"audio is None; give {_FORMS}.")
        kwargs = plain(kwargs)
        known = {"common_kwargs", *ProcessingKwargs.__annotations__, *AudioKwargs.__annotations__}
        for name in sorted(kwargs.keys() - known):
            raise TypeError(f"{type(self).__name__} does not know the option {name!r}.")
        options = {"return_tensors": "pt", **self._merge_kwargs(ProcessingKwargs, **kwargs)["audio_kwargs"]}
        sampling_rate = options.pop("sampling_rate", None)
        if sampling_rate is not None:
            check_sampling_rate(sampling_rate)
        items = _as_list(audio)
        names = [f"Recording {index}" for index in range(len(items))] if len(items) > 1 else ["audio"]
        clips = [self._load(item, sampling_rate, name) for item, name in zip(items, names, strict=True)]
        arrays, rates = [clip for clip, _ in clips], [rate for _, rate in clips]
        return self.feature_extractor(arrays, sampling_rate=rates, **options)

    def batch_decode(self, output: Any, return_full_audio: bool = True) -> list[np.ndarray]:
        """Trim every row of a generated batch to its length.

        Args:
            output ([`AudioLMGenerateOutput`]): `audio_values (rows, num_samples)`, `audio_lengths (rows,)` and
                `prompt_lengths (rows,)`.
            return_full_audio (`bool`, defaults to `True`): keep the prompt in front of its continuation.

        Returns:
            `list[np.ndarray]`: float32 arrays of shape `(num_samples,)`.

        Raises:
            TypeError: if a tensor is of another kind.
            ValueError: if `output` is something else, the lengths do not fit, or `return_full_audio` is not a bool.
        """
        if not isinstance(output, Mapping):
            raise TypeError(f"output is a {type(output).__name__}; give what AudioLMModel.generate returns.")
        missing = {"audio_values", "audio_lengths", "prompt_lengths"} - set(output)
        if missing:
            raise ValueError(f"output has no {', '.join(sorted(missing))}; give what AudioLMModel.generate returns.")
        return_full_audio = FLAG.check("return_full_audio", return_full_audio)
        check_waveform(output["audio_values"], "audio_values")
        rows, width = output["audio_values"].shape
        for name, most in (("audio_lengths", width), ("prompt_lengths", output["audio_lengths"])):
            check_ids(name, output[name], width + 1)
            if output[name].shape != (rows,) or (output[name] > most).any():
                raise ValueError(
                    f"{name} is {output[name].tolist()} and audio_values {(rows, width)}; give a length for each row, "
                    "of the prompt no longer than of the whole."
                )
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
        watermark: bool = False,
    ) -> list[Path]:
        """Write generated audio to files that are marked as generated in their metadata. Existing files are replaced.

        Args:
            audio: an array or tensor of shape `(num_samples,)`, a pipeline result (`{"audio", "sampling_rate"}`), a
                tuple `(rate, array)`, a list of these, or what `AudioLMModel.generate` returns. Floats in [-1, 1], or
                uint8, int16 or int32 samples; arrays without a rate are at the processor's.
            saving_path (`str`, `os.PathLike` or a list of these): one path for each recording, ending in .wav, .flac,
                .opus or .mp3.
            checkpoint (`str`, *optional*): folder or Hub name of the model, whose name and hash go into the metadata;
                by default where this processor was loaded from.
            seed (`int`, *optional*): seed of the generation, for the metadata.
            watermark (`bool`, defaults to `False`): also mark the samples, see
                [`~audiolm_hf.watermark_audiolm.add_watermark`].

        Returns:
            `list[Path]` of the files.

        Raises:
            TypeError: if a recording is not audio.
            ValueError: if the number of paths is wrong or one is given twice, an ending is unknown, or its format does
                not support the rate.
            FileNotFoundError: if the folder of a path does not exist.
            ImportError: if `watermark` is set and the package resemble-perth is missing.
        """
        FLAG.check("watermark", watermark)
        if watermark:
            check_watermark()
        is_output = isinstance(audio, Mapping) and "audio_values" in audio
        given = self.batch_decode(audio) if is_output else _as_list(audio)
        clips = [self._samples(clip, f"Recording {index}") for index, clip in enumerate(given)]
        paths: list[Any] = list(saving_path) if isinstance(saving_path, list | tuple) else [saving_path]
        if not all(isinstance(path, str | os.PathLike) for path in paths):
            raise TypeError(f"saving_path is {saving_path!r}; give a path, or a list of one for each recording.")
        if len(clips) != len(paths):
            raise ValueError(f"{len(clips)} recordings were given for {len(paths)} paths; give one path for each.")
        if len({os.path.realpath(path) for path in paths}) < len(paths):
            raise ValueError(f"saving_path is {list(map(str, paths))}; give each recording a path of its own.")
        for path, (_, rate) in zip(paths, clips, strict=True):
            check_ending(path, rate)
            check_folder(path)
        metadata = provenance(checkpoint or self.checkpoint, seed)
        if watermark:
            clips = [(add_watermark(clip, rate), rate) for clip, rate in clips]
        return [write_audio(path, clip, rate, metadata) for path, (clip, rate) in zip(paths, clips, strict=True)]

    def _load(self, item: Any, sampling_rate: int | None, name: str) -> tuple[Any, int | None]:
        """Return the samples and the sampling rate of a recording; files are read at the model's sampling rate."""
        if isinstance(item, Mapping):
            for key in ("array", "raw", "audio", "bytes", "path"):
                if item.get(key) is not None:
                    own = item.get("sampling_rate")
                    return self._load(item[key], sampling_rate if own is None else own, name)
            raise ValueError(f"{name} is a dictionary with the keys {sorted(map(str, item))}; give {_FORMS}.")
        if isinstance(item, str | os.PathLike | bytes | bytearray) or hasattr(item, "read"):
            return read_audio(item, self.sampling_rate)
        if _is_decoder(item):
            try:
                samples = item.get_all_samples() if hasattr(item, "get_all_samples") else item
            except RuntimeError as error:
                raise ValueError(f"{name} cannot be decoded by torchcodec ({error}); give a whole file.") from None
            return samples.data.mean(0), samples.sample_rate
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], np.ndarray):
            return item[1].T, check_sampling_rate(item[0], f"the rate of {name}")
        if isinstance(item, list | tuple) and not is_clip(item):
            raise TypeError(f"{name} is a list of {len(item)} inside another list; give one flat list of recordings.")
        if isinstance(item, list | tuple | np.ndarray) or (is_array(item) and not isinstance(item, np.generic)):
            if sampling_rate is None:
                raise ValueError(
                    "sampling_rate is missing, and an array has none. Pass sampling_rate=... in Hz, or "
                    "{'array': ..., 'sampling_rate': ...}."
                )
            return item, sampling_rate
        raise TypeError(f"{name} is of type {type(item).__name__}; give {_FORMS}.")

    def _samples(self, clip: Any, name: str) -> tuple[np.ndarray, int]:
        """Return the samples `(num_samples,)` and the rate of what is to be saved."""
        if isinstance(clip, str | os.PathLike | bytes | bytearray):
            raise TypeError(f"{name} is a file; give samples, a pipeline result or what generate returns.")
        audio, rate = self._load(clip, self.sampling_rate, name)
        samples = as_float32(audio, name)
        if samples.ndim != 1:
            raise ValueError(f"{name} has shape {samples.shape}; give (num_samples,), one recording for each path.")
        return samples, check_sampling_rate(rate)


def is_clip(audio: Any) -> bool:
    """Return whether something is one recording, rather than a list, a column of a dataset or a generator of them.

    A flat list of numbers is one recording, and so is the `(rate, array)` of Gradio.
    """
    if isinstance(audio, list | tuple):
        return len(audio) > 0 and isinstance(audio[0], Number)
    if isinstance(audio, str | bytes | bytearray | Mapping) or is_array(audio):
        return True
    is_many = isinstance(audio, Iterable) or hasattr(audio, "__getitem__")
    return hasattr(audio, "read") or _is_decoder(audio) or not is_many


def _as_list(audio: Any) -> list[Any]:
    """Return a list of recordings; a single one becomes a list of one."""
    clips = [audio] if is_clip(audio) else list(audio)
    if not clips:
        raise ValueError(f"audio is an empty list; give {_FORMS}.")
    return clips


def _is_decoder(item: Any) -> bool:
    """Return whether an object is an `AudioDecoder` or `AudioSamples` of torchcodec, which may not be installed."""
    if hasattr(item, "__array__"):  # may have `data`, too, which some types of samples cannot show
        return False
    return hasattr(item, "get_all_samples") or (hasattr(item, "data") and hasattr(item, "sample_rate"))
