# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The feature extractor: checks audio in memory, and converts it to a mono float32 batch at the model's sampling rate.

In: arrays or tensors of any sampling rate and common sample type; out: `input_values` and `attention_mask`, both
`(batch, num_samples)`.
"""

import inspect
from collections.abc import Sequence
from numbers import Number
from typing import Any, ClassVar

import numpy as np
import torch
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import PaddingStrategy, TensorType

from .audio_samples_audiolm import as_float32, check_sampling_rate, resampler, to_mono
from .config_values_audiolm import FLAG, Within, did_you_mean, plain

_LENGTH = Within(1, 2**30, whole=True)  # 18 hours at 16 kHz
_MONO = Within(1, 1, whole=True)
_CARRIED = {"auto_map", "feature_extractor_type", "processor_class", "return_attention_mask"}  # by transformers


class AudioFeatures(BatchFeature):
    """What [`AudioLMFeatureExtractor`] returns: `to` moves the samples, but leaves them in float32.

    The tokenizer and the codec work in float32, so `inputs.to(model.device, model.dtype)` does not round them.
    """

    def to(self, *args: Any, **kwargs: Any) -> "AudioFeatures":
        """Move to a device, as `BatchFeature.to` does; a dtype is ignored."""
        exact = {name: value for name, value in self.items() if isinstance(value, torch.Tensor)}
        super().to(*args, **kwargs)
        self.data |= {name: value.to(self.data[name].device) for name, value in exact.items()}
        return self


class AudioLMFeatureExtractor(SequenceFeatureExtractor):
    """Converts audio of any sampling rate, number of channels and sample type to a padded mono batch.

    Args:
        feature_size (`int`, defaults to 1): number of output channels; only 1 (mono) is supported.
        sampling_rate (`int`, defaults to 16000): sampling rate of the output in Hz.
        padding_value (`float`, defaults to 0.0): value for padding short rows of a batch.
        padding_side (`str`, defaults to `"right"`): side of the padding; only `"right"` is supported.
        min_length_s (`float`, defaults to 0.1): minimum length of audio in seconds; shorter audio is an error.
        silence_threshold_db (`float`, defaults to -80.0): minimum peak of audio in dB of full scale; quieter audio is
            an error.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        padding_side: str = "right",
        min_length_s: float = 0.1,
        silence_threshold_db: float = -80.0,
        **kwargs: Any,
    ) -> None:
        for name in kwargs.keys() - _CARRIED:
            known = {*inspect.signature(AudioLMFeatureExtractor).parameters, "return_attention_mask"} - {"kwargs"}
            raise ValueError(f"{type(self).__name__} has no key {name!r}{did_you_mean(name, known)}")
        kwargs = plain(kwargs)
        FLAG.check("return_attention_mask", kwargs.get("return_attention_mask"), optional=True)
        if padding_side != "right":
            raise ValueError(f"padding_side is {padding_side!r}; only 'right' is supported.")
        super().__init__(
            feature_size=_MONO.check("feature_size", feature_size),
            sampling_rate=check_sampling_rate(sampling_rate),
            padding_value=Within(-1, 1).check("padding_value", padding_value),
            padding_side=padding_side,
            **kwargs,
        )
        self.min_length_s = Within(0, 3600).check("min_length_s", min_length_s)
        self.silence_threshold_db = Within(-1000, 0).check("silence_threshold_db", silence_threshold_db)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build an extractor from the fields of `preprocessor_config.json`."""
        if not isinstance(feature_extractor_dict, dict):
            raise ValueError(f"preprocessor_config.json holds {feature_extractor_dict!r}; give an object of fields.")
        return super().from_dict(feature_extractor_dict, **kwargs)

    def __call__(
        self,
        raw_audio: np.ndarray | torch.Tensor | Sequence[Any],
        sampling_rate: int | Sequence[int] | None = None,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
    ) -> BatchFeature:
        """Check, mix to mono, resample and pad one recording or a list of recordings.

        Args:
            raw_audio (`np.ndarray`, `torch.Tensor` or a list of these): each recording of shape `(num_samples,)` or
                `(num_channels, num_samples)`, 1 or 2 channels; float samples, or uint8, int16, int32 at full scale. A
                flat list of numbers is one recording.
            sampling_rate (`int` or `list[int]`): rate of the recordings, or one rate for each recording, Hz.
            padding (`bool`, `str` or `PaddingStrategy`, defaults to `True`): as in `SequenceFeatureExtractor.pad`.
            max_length (`int`, *optional*): samples at the model's rate to pad or cut to.
            truncation (`bool`, defaults to `False`): cut rows that are longer than `max_length`.
            pad_to_multiple_of (`int`, *optional*): pad rows to a multiple of this many samples.
            return_attention_mask (`bool`, *optional*): whether to return the mask; by default it is returned.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`.

        Returns:
            `BatchFeature` with `input_values` float32 in [-1, 1] and `attention_mask` (1 = real), both of shape
            `(batch, num_samples)`.

        Raises:
            TypeError: if a recording is not numeric audio.
            ValueError: if one is empty, does not have 1 or 2 channels, has NaN or infinite samples, is too short,
                silent or far above full scale, if its rate is missing or invalid, or an option is out of range.
        """
        max_length = _LENGTH.check("max_length", max_length, ", of samples", optional=True)
        pad_to_multiple_of = _LENGTH.check("pad_to_multiple_of", pad_to_multiple_of, ", of samples", optional=True)
        truncation = FLAG.check("truncation", truncation, optional=True)
        return_attention_mask = FLAG.check("return_attention_mask", return_attention_mask, optional=True)
        padding = plain(padding)
        if not isinstance(padding, bool | str):  # a PaddingStrategy is text, too
            raise ValueError(f"padding is {padding!r}; give True, False, 'longest', 'max_length' or 'do_not_pad'.")
        many = isinstance(raw_audio, list | tuple) and not isinstance(next(iter(raw_audio), None), Number)
        clips = list(raw_audio) if many else [raw_audio]
        rates = self._rates(sampling_rate, len(clips))
        names = [f"Recording {index}" for index in range(len(clips))] if len(clips) > 1 else ["The audio"]
        rows = [self._prepare(clip, rate, name) for clip, rate, name in zip(clips, rates, names, strict=True)]
        masked = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        if len(rows) == 1 and padding is True and max_length is None and pad_to_multiple_of is None:
            # There is nothing to pad, and `pad` would copy a recording that may last hours.
            mask = {"attention_mask": np.ones((1, len(rows[0])), dtype=np.int32)} if masked else {}
            return AudioFeatures({"input_values": rows[0][None], **mask}, tensor_type=return_tensors)
        padded = self.pad(
            BatchFeature({"input_values": rows}),
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )
        return AudioFeatures(padded.data)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and `auto_map` only if the code is saved, too, as transformers does for remote code."""
        fields = super().to_dict()
        if self._auto_class is None:
            fields.pop("auto_map", None)
        return fields

    def _rates(self, sampling_rate: int | Sequence[int] | None, num_clips: int) -> list[int]:
        """Return a sampling rate for each clip."""
        if num_clips == 0:
            raise ValueError("raw_audio is an empty list; give at least one recording.")
        if sampling_rate is None:
            raise ValueError(
                "sampling_rate is missing, and an array has none. Pass sampling_rate=... in Hz (the model "
                f"works at {self.sampling_rate} Hz, other rates are resampled)."
            )
        rates: list[Any] = (
            list(sampling_rate) if isinstance(sampling_rate, list | tuple) else [sampling_rate] * num_clips
        )
        if len(rates) != num_clips:
            raise ValueError(
                f"{len(rates)} sampling rates were given for {num_clips} recordings; give one, or one for each."
            )
        return [check_sampling_rate(rate) for rate in rates]

    def _prepare(self, clip: Any, rate: int, name: str) -> np.ndarray:
        """Convert a recording to `(num_samples,)` float32 at the model's sampling rate."""
        audio = _one_channel(as_float32(clip, name), name)
        if not np.isfinite(audio).all():
            raise ValueError(f"{name} has NaN or infinite samples; repair or drop it.")
        self._check_sound(audio, rate, name)
        audio = resampler(rate, self.sampling_rate)(audio, True)
        # Mixing cannot pass full scale, but resampling and lossy decoders overshoot it slightly.
        peak = max(float(audio.max()), -float(audio.min()))
        return audio / peak if peak > 1 else audio

    def _check_sound(self, audio: np.ndarray, rate: int, name: str) -> None:
        """Check that audio is not too short or silent."""
        length_s = len(audio) / rate
        if length_s < self.min_length_s:
            lasts = f"{length_s:.3f} s ({len(audio)} samples at {rate} Hz)"
            raise ValueError(f"{name} lasts {lasts}; give at least {self.min_length_s} s.")
        # A constant offset is as silent as zeros.
        mean = float(audio.mean())
        peak = max(float(audio.max()) - mean, mean - float(audio.min()))
        if peak <= 10.0 ** (self.silence_threshold_db / 20):
            raise ValueError(f"{name} is silent: its peak {peak:.1e} is below {self.silence_threshold_db} dB.")


def _one_channel(audio: np.ndarray, name: str) -> np.ndarray:
    """Average the channels of `(num_channels, num_samples)`, of which there are one or two."""
    if audio.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {audio.shape}; give (num_samples,) or (num_channels, num_samples).")
    if audio.ndim == 2 and audio.shape[0] == 0:
        raise ValueError(f"{name} has 0 channels (shape {audio.shape}); give at least one.")
    if audio.shape[-1] == 0:
        raise ValueError(f"{name} is empty (shape {audio.shape}); give audio with samples in it.")
    if audio.ndim == 1:
        return audio
    if audio.shape[0] > audio.shape[1]:
        raise ValueError(f"{name} has more channels than samples, {audio.shape}; transpose it, channels come first.")
    if audio.shape[0] > 2:
        raise ValueError(
            f"{name} has shape {audio.shape}: {audio.shape[0]} channels. Give several recordings as a list, such as "
            "list(array), and mix more than two channels first, such as by array.mean(0)."
        )
    return to_mono(audio)
