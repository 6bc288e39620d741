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

THRESHOLD = 0.5  # of the score
WATERMARK_RATE = 32000  # Hz, of the networks
MIN_LENGTH_S = 0.5
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


def add_watermark(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return a copy of a recording with a watermark, which marks it as generated.

    Args:
        audio (`np.ndarray` of shape `(num_samples,)`): float32, at least 0.5 s.
        sampling_rate (`int`): Hz.

    Raises:
        ImportError: if resemble-perth is missing.
        ValueError: if the recording is too short or silent, and so cannot carry a watermark.
    """
    network = _network()
    _check_length(audio, sampling_rate)
    if not np.any(audio):
        raise ValueError("The recording is silent, so it cannot carry a watermark; save it without one.")
    marked = np.asarray(network.apply_watermark(np.asarray(audio, np.float32), sample_rate=sampling_rate))
    missing = max(0, len(audio) - len(marked))  # resampling rounds lengths
    return np.pad(marked, (0, missing))[: len(audio)].astype(np.float32)


def watermark_score(audio: np.ndarray, sampling_rate: int) -> float:
    """Return how surely a recording `(num_samples,)` has the watermark, from 0 to 1; 0 for silence.

    Arguments and errors are those of [`add_watermark`], except for silence.
    """
    network = _network()
    _check_length(audio, sampling_rate)
    if not np.any(audio):
        return 0.0
    return float(np.mean(network.get_watermark(np.asarray(audio, np.float32), sampling_rate, round=False)))


def _check_length(audio: np.ndarray, sampling_rate: int) -> None:
    if len(audio) < MIN_LENGTH_S * sampling_rate:
        raise ValueError(
            f"The recording lasts {len(audio) / sampling_rate:.3f} s; a watermark needs {MIN_LENGTH_S} s or more."
        )


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
        except (ImportError, OSError) as error:  # also a torchaudio for another build of torch
            raise ImportError(
                f"resemble-perth cannot be imported ({error}). It needs setuptools below 81, and a torchaudio for the "
                f"build of torch that is installed: {_INSTALL}",
                name="perth",
            ) from error
