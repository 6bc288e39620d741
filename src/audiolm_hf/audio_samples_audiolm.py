# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Samples of audio: checks of sampling rates, conversion of any type to float32, and resampling.

soxr resamples files in blocks, and recordings between the codec and a speech encoder of another rate, on the CPU.
"""

import array
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config_values_audiolm import Within
from .input_checks_audiolm import LARGEST_FLOAT

try:
    import soxr
except ImportError:  # only needed for audio at another rate than the model's
    soxr = None

SAMPLING_RATES = range(1000, 1_000_001)  # Hz; rates outside this range are taken to be mistakes
# Zero point and full scale of the integer sample types of audio files.
_INTEGER_SAMPLES = {"uint8": (128.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31)}


def check_sampling_rate(sampling_rate: Any, name: str = "sampling_rate") -> int:
    """Check and return a sampling rate in Hz."""
    return Within(SAMPLING_RATES.start, SAMPLING_RATES.stop - 1, whole=True).check(name, sampling_rate, ", in Hz")


def is_array(item: Any) -> bool:
    """Return whether an object is an array of numbers, of numpy, torch, pandas or any library with `__array__`."""
    if isinstance(item, torch.Tensor | np.generic | array.array):
        return True
    return hasattr(item, "__array__") and np.asarray(item).dtype.kind not in "OSU"


def to_mono(audio: np.ndarray) -> np.ndarray:
    """Average the channels of `(num_channels, num_samples)`."""
    return audio.mean(axis=0, dtype=np.float32)


def resampler(rate: int, target_rate: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Return a function that resamples float32 `(num_samples,)` in blocks; its second argument marks the last one."""
    if rate == target_rate:
        return lambda audio, last: audio
    if soxr is None:
        raise ImportError(f"Resampling from {rate} to {target_rate} Hz needs the package soxr: pip install soxr")
    stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="VHQ")
    return lambda audio, last: stream.resample_chunk(audio, last)


def as_float32(clip: Any, name: str, copy: bool = True) -> np.ndarray:
    """Return the samples of a recording as float32, in the same shape; integers are divided by their full scale.

    Without `copy`, an array of float32 is returned as it is.
    """
    if isinstance(clip, str | bytes | dict) or clip is None:
        raise TypeError(f"{name} is of type {type(clip).__name__}, not an array; use the processor for files.")
    if np.ma.is_masked(clip):
        raise ValueError(f"{name} is a masked array; fill what is masked, such as with array.filled(0).")
    try:
        if isinstance(clip, torch.Tensor):
            clip = clip.detach().cpu()
            clip = clip.float() if clip.is_floating_point() else clip
        audio = np.asarray(clip)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} cannot be read as an array of numbers (type {type(clip).__name__}).") from None
    if audio.dtype.name in _INTEGER_SAMPLES:
        zero, full_scale = _INTEGER_SAMPLES[audio.dtype.name]
        return ((audio.astype(np.float64) - zero) / full_scale).astype(np.float32)
    if isinstance(clip, list | tuple) and audio.dtype.kind in "OSU":
        raise TypeError(f"{name} cannot be read as an array of numbers (a list of other things).")
    if not np.issubdtype(audio.dtype, np.floating):
        what = "a list of whole numbers" if isinstance(clip, list | tuple) else f"of dtype {audio.dtype}"
        raise TypeError(f"{name} is {what}; give floats in [-1, 1], or an array of uint8, int16 or int32 samples.")
    peak = max(float(audio.max(initial=0.0)), -float(audio.min(initial=0.0)))
    if LARGEST_FLOAT < peak < math.inf:
        raise ValueError(
            f"{name} has floats up to {peak:.6g}; floats are given in [-1, 1]. Give the samples of a file as the "
            "integers they are, or divide them by the full scale of their type (32768 for int16)."
        )
    with np.errstate(over="ignore"):  # to infinity, which is refused where samples must be finite
        return audio.astype(np.float32, copy=copy)


def resample(input_values: Tensor, rate: int, target_rate: int) -> Tensor:
    """Resample audio `(batch, num_samples)` to `(batch, ceil(num_samples * target_rate / rate))`, float32.

    Audio is taken as silent before its beginning and after its end.
    """
    length = -(-input_values.shape[1] * target_rate // rate)
    resampled = input_values.new_zeros(len(input_values), length, dtype=torch.float32)
    for row, audio in zip(resampled, input_values.detach().float().cpu(), strict=True):
        found = torch.from_numpy(resampler(rate, target_rate)(audio.numpy(), True))[:length]
        row[: len(found)] = found
    return resampled
