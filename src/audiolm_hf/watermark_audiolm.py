# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""An inaudible watermark in generated audio, by the package resemble-perth, whose weights are in its wheel.

Metadata are lost when a file is edited or encoded again; the watermark is in the samples. What it survives is
measured by [`~audiolm_hf.evaluation.protocols.watermark`].
"""

import contextlib
import functools
import importlib.util
import io
import warnings
from typing import Any

import numpy as np
import torch

from .audio_samples_audiolm import as_float32, check_sampling_rate

THRESHOLD = 0.5  # of the score
WATERMARK_RATE = 32000  # Hz, of the networks
MIN_LENGTH_S = 0.5
_PIECE_S = 60
_CONTEXT_S = 1  # read before and after each piece, several times what the network sees
_INSTALL = 'pip install "audiolm_hf[watermark]"'


def watermark_is_available() -> bool:
    """Return whether the package of the watermark is installed and can be imported."""
    try:
        _network()
    except ImportError:
        return False
    return True


def check_watermark() -> None:
    """Check that the package of the watermark works; else an `ImportError` says what is missing."""
    _network()


@torch.no_grad()
def add_watermark(audio: Any, sampling_rate: int) -> np.ndarray:
    """Return a copy of a recording with a watermark, which marks it as generated.

    Args:
        audio (`np.ndarray` or `torch.Tensor` of shape `(num_samples,)`): floats in [-1, 1], or uint8, int16 or int32
            samples; at least 0.5 s.
        sampling_rate (`int`): Hz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`, float32.

    Raises:
        ImportError: if resemble-perth is missing.
        ValueError: if the recording is too short, or the watermark is not found in it afterwards, as in silence.
    """
    network, samples = _network(), _check(audio, sampling_rate)
    marked = np.empty_like(samples)
    around = round(_CONTEXT_S * sampling_rate)
    for piece in _pieces(len(samples), sampling_rate):
        start = max(0, piece.start - around)
        heard = samples[start : piece.stop + around]
        made = network.apply_watermark(heard, sample_rate=sampling_rate) if np.ptp(heard) else heard
        made = np.pad(made, (0, max(0, len(heard) - len(made))))  # resampling rounds lengths
        marked[piece] = made[piece.start - start :][: piece.stop - piece.start]
    if watermark_score(np.round(marked * 2**15) / 2**15, sampling_rate) < THRESHOLD:  # in 16 bits, as in files
        raise ValueError(
            "The watermark is not found in the recording after it was added, as where one is silent or nearly so; "
            "save it without one."
        )
    return marked


@torch.no_grad()
def watermark_score(audio: Any, sampling_rate: int) -> float:
    """Return how surely a recording has the watermark, from 0 to 1; 0 for silence, also with an offset.

    Arguments and errors are those of [`add_watermark`]. The score of more than a minute is the mean over its pieces.
    """
    network, samples = _network(), _check(audio, sampling_rate)
    scores = []
    for piece in _pieces(len(samples), sampling_rate):
        if np.ptp(samples[piece]):  # the network finds a watermark in a constant
            scores.append(np.mean(network.get_watermark(samples[piece], sampling_rate, round=False)))
    return float(np.nan_to_num(np.mean(scores))) if scores else 0.0  # NaN where sound is too soft for its floats


def _check(audio: Any, sampling_rate: int) -> np.ndarray:
    """Return a recording as float32 samples."""
    rate, samples = check_sampling_rate(sampling_rate), as_float32(audio, "The recording", copy=False)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"The recording has shape {samples.shape}; give (num_samples,) of finite samples.")
    if len(samples) < MIN_LENGTH_S * rate:
        raise ValueError(
            f"The recording lasts {len(samples) / rate:.3f} s; a watermark needs {MIN_LENGTH_S} s or more."
        )
    return samples


def _pieces(num_samples: int, sampling_rate: int) -> list[slice]:
    """Return equal parts of a recording that are processed at once, which limits the memory."""
    size = -(-num_samples // -(-num_samples // (_PIECE_S * sampling_rate)))
    return [slice(start, min(start + size, num_samples)) for start in range(0, num_samples, size)]


@functools.cache
def _network() -> Any:
    """Load the watermark's networks once."""
    if importlib.util.find_spec("perth") is None:
        raise ImportError(f"The watermark needs resemble-perth, which is not installed: {_INSTALL}", name="perth")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints what it loads
        warnings.simplefilter("ignore")  # of setuptools, about pkg_resources
        try:
            from perth.perth_net.perth_net_implicit.perth_watermarker import PerthImplicitWatermarker

            return PerthImplicitWatermarker()
        except Exception as error:  # whatever a torchaudio for another build of torch or missing weights raise
            raise ImportError(
                f"resemble-perth cannot be imported ({error}). It needs setuptools below 81, and a torchaudio for the "
                f"build of torch that is installed: {_INSTALL}",
                name="perth",
            ) from error
