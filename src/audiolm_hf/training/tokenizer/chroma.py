# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Pitch classes and onset strengths of recordings, which the first encoder of music learns to predict."""

import numpy as np

from audiolm_hf.evaluation.metrics.music import pitch_class_filters
from audiolm_hf.training.tokenizer.spectrum_crops import FRAME_RATE

_PITCH_WINDOW_S = 0.128  # resolves semitones above 520 Hz, and lower ones by their harmonics
_RISE_WINDOW_S = 0.064
_PITCH_RANGE_HZ = (63.5, 2093.0)  # C2 to C7
_NUM_RISE_BANDS = 6  # octaves from 62.5 Hz
_LEVEL_FLOOR = 1e-4  # energy of a band below which changes are ignored


def chroma_features(array: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return pitch classes and onset strengths of a waveform at 50 Hz, float32 of shape `(frames, 18)`.

    They are the square roots of the amplitudes of 12 pitch classes from C, normalized to length 1 (nearly 0 in
    silence), and the increase of the energy of 6 octaves within 40 ms, in dB.
    """
    num_frames = -(-len(array) // (2 * sampling_rate // FRAME_RATE)) * 2
    filters = pitch_class_filters(round(_PITCH_WINDOW_S * sampling_rate), sampling_rate, *_PITCH_RANGE_HZ)
    classes = np.sqrt(_amplitudes(array, sampling_rate, num_frames, _PITCH_WINDOW_S) @ filters)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True) + 1e-3
    power = _amplitudes(array, sampling_rate, num_frames, _RISE_WINDOW_S) ** 2
    window = round(_RISE_WINDOW_S * sampling_rate)
    hertz = np.arange(window // 2 + 1)[:, None] * sampling_rate / window
    edges = 62.5 * 2.0 ** np.arange(_NUM_RISE_BANDS + 1)  # of octaves
    octaves = ((hertz >= edges[:-1]) & (hertz < edges[1:])).astype(np.float64)
    levels = 10 * np.log10(power @ octaves + _LEVEL_FLOOR)
    before = np.concatenate([levels[:2], levels[:-2]])
    return np.concatenate([classes, np.maximum(levels - before, 0)], axis=1).astype(np.float32)


def _amplitudes(array: np.ndarray, sampling_rate: int, num_frames: int, window_s: float) -> np.ndarray:
    """Return amplitude spectra `(num_frames, frequencies)` of Hann windows centred on the frames."""
    hop, window = sampling_rate // FRAME_RATE, round(window_s * sampling_rate)
    left = (window - hop) // 2
    padded = np.pad(array, (left, max(0, num_frames * hop + window - len(array))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: num_frames * hop : hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1].astype(np.float32), axis=1))
