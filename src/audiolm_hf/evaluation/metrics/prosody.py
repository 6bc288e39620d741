# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How speech moves: pitch, syllables and pauses of a waveform, to stand beside those of real speech.

Everything is counted on frames of 10 ms. The figures are simple ones, meant for comparing averages over many clips by
the same measure, not for phonetics of a single one.
"""

import numpy as np

from audiolm_hf.evaluation.metrics.spectrograms import frame_levels

FRAME_RATE = 100  # frames of this file, Hz
PITCH_RANGE_HZ = (60.0, 400.0)
VOICED_CORRELATION = 0.7  # a frame that repeats itself less than this has no pitch
PAUSE_DB = -25.0  # below the loud frames
MIN_PAUSE_S = 0.2  # shorter gaps belong to consonants
_SYLLABLE_DIP_DB = 2.0  # between two nuclei (de Jong and Wempe, 2009)
_PITCH_WINDOW_S = 0.05  # three periods of the lowest pitch


def pitch_track(array: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Follow the pitch by the autocorrelation of 50 ms windows, divided by that of the window.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): mono.
        sampling_rate (`int`): Hz.

    Returns:
        `np.ndarray` of shape `(frames,)`: Hz at 100 frames a second; NaN where there is no pitch.
    """
    window, hop = round(_PITCH_WINDOW_S * sampling_rate), sampling_rate // FRAME_RATE
    if len(array) < window:
        return np.full(0, np.nan)
    frames = np.lib.stride_tricks.sliding_window_view(array.astype(np.float64), window)[::hop]
    taper = np.hanning(window)
    frames = (frames - frames.mean(axis=1, keepdims=True)) * taper
    correlation = _autocorrelation(frames) / np.maximum(_autocorrelation(taper[None]), 1e-9)
    energy = correlation[:, :1]
    shortest, longest = (round(sampling_rate / pitch) for pitch in PITCH_RANGE_HZ[::-1])
    lags = correlation[:, shortest : longest + 1] / np.maximum(energy, 1e-12)
    # Tops alone: short lags are high for being near 0, not for being a period.
    inner = lags[:, 1:-1]
    tops = np.where((inner >= lags[:, :-2]) & (inner > lags[:, 2:]), inner, -1.0)
    peaks = tops.max(axis=1, keepdims=True)
    lag = (tops >= 0.9 * peaks).argmax(axis=1) + 1  # the earliest nearly best: later ones are multiples of the period
    voiced = (peaks[:, 0] > VOICED_CORRELATION) & (energy[:, 0] > 1e-10)
    return np.where(voiced, sampling_rate / (lag + shortest), np.nan)


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    size = 2 * frames.shape[1]
    return np.fft.irfft(np.abs(np.fft.rfft(frames, size)) ** 2, size)[:, : frames.shape[1]]


def pause_share(array: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Measure the share of time in pauses: 0.2 s or more, 25 dB below the loud frames of the reference (a prompt)."""
    quiet = frame_levels(array, sampling_rate, FRAME_RATE) < _loudness(reference, sampling_rate) + PAUSE_DB
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    return float(lengths[lengths >= MIN_PAUSE_S * FRAME_RATE].sum() / max(len(quiet), 1))


def _loudness(array: np.ndarray, sampling_rate: int) -> float:
    return float(np.percentile(frame_levels(array, sampling_rate, FRAME_RATE), 95))


def syllable_rate(array: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Count syllables a second: loud, voiced tops of the level with a dip of 2 dB between them.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): mono.
        reference (`np.ndarray` of shape `(num_samples,)`): a prompt; tops 25 dB below its loud frames do not count.
        sampling_rate (`int`): Hz.

    Returns:
        `float`: syllables a second, pauses counted in.
    """
    levels = frame_levels(array, sampling_rate, FRAME_RATE)
    smooth = np.convolve(levels, np.hanning(7) / np.hanning(7).sum(), mode="same")
    pitch = pitch_track(array, sampling_rate)
    voiced = np.zeros(len(smooth), dtype=bool)
    offset = round(_PITCH_WINDOW_S * FRAME_RATE / 2)  # a pitch frame stands for the middle of its window
    span = voiced[offset : offset + len(pitch)]
    span[:] = ~np.isnan(pitch[: len(span)])
    threshold = _loudness(reference, sampling_rate) + PAUSE_DB
    count, top, valley = 0, -np.inf, -np.inf
    rising = True
    for level, has_voice in zip(smooth, voiced, strict=True):
        if rising and level > top:
            top, top_voiced = level, has_voice
        elif rising and level < top - _SYLLABLE_DIP_DB:
            count += int(top > threshold and top_voiced)
            rising, valley = False, level
        elif not rising and level < valley:
            valley = level
        elif not rising and level > valley + _SYLLABLE_DIP_DB:
            rising, top, top_voiced = True, level, has_voice
    return count / (len(array) / sampling_rate)


def prosody_figures(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Take all figures of this file.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): what is measured.
        prompt (`np.ndarray` of shape `(num_samples,)`): its loud frames are the measure of quiet.
        sampling_rate (`int`): Hz.

    Returns:
        `dict`: `syllable_rate` (a second), `pause_share`, `voiced_share`, `pitch_hz` (median; NaN without voice) and
        `pitch_spread` (in semitones, 1.48 times the median absolute deviation, which octave errors hardly move; NaN
        without voice).
    """
    pitch = pitch_track(array, sampling_rate)
    voiced = pitch[~np.isnan(pitch)]
    semitones = 12 * np.log2(voiced)
    spread = 1.48 * np.median(np.abs(semitones - np.median(semitones))) if len(voiced) else np.nan
    return {
        "syllable_rate": syllable_rate(array, prompt, sampling_rate),
        "pause_share": pause_share(array, prompt, sampling_rate),
        "voiced_share": len(voiced) / max(len(pitch), 1),
        "pitch_hz": float(np.median(voiced)) if len(voiced) else float("nan"),
        "pitch_spread": float(spread),
    }


__all__ = ["pause_share", "pitch_track", "prosody_figures", "syllable_rate"]
