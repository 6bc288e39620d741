# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Pitch (by Praat), syllables and pauses of speech, for comparing averages over many clips.

Praat is GPL and is in the extra `train` as `praat-parselmouth`; it is only imported where it is used.
"""

import numpy as np
from scipy.signal import find_peaks

from audiolm_hf.evaluation.metrics.spectrograms import frame_levels

FRAME_RATE = 100  # Hz
PITCH_RANGE_HZ = (60.0, 400.0)
PAUSE_DB = -25.0  # relative to the loud frames
MIN_PAUSE_S = 0.2  # shorter gaps belong to consonants
_SYLLABLE_DIP_DB = 2.0  # between two nuclei (de Jong and Wempe, 2009)
_MIN_SYLLABLE_FRAMES = 8  # between nuclei; speech has fewer than 12 syllables per second


def pitch_track(array: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return Praat's pitch by autocorrelation, `(frames,)` in Hz for every 10 ms; NaN where there is none."""
    import parselmouth

    pitch = np.full(len(array) * FRAME_RATE // sampling_rate, np.nan)
    if len(array) < 3 * sampling_rate / PITCH_RANGE_HZ[0]:  # Praat's window: three periods of the lowest pitch
        return pitch
    sound = parselmouth.Sound(array.astype(np.float64), sampling_rate)
    found = sound.to_pitch_ac(1 / FRAME_RATE, pitch_floor=PITCH_RANGE_HZ[0], pitch_ceiling=PITCH_RANGE_HZ[1])
    frames = (found.xs() * FRAME_RATE).astype(int)
    inside = frames < len(pitch)
    hertz = found.selected_array["frequency"]
    pitch[frames[inside]] = np.where(hertz > 0, hertz, np.nan)[inside]
    return pitch


def pause_share(array: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Return the share of time in pauses: 0.2 s or more, 25 dB below the loud frames of the reference (a prompt)."""
    quiet = frame_levels(array, sampling_rate, FRAME_RATE) < _loudness(reference, sampling_rate) + PAUSE_DB
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    return float(lengths[lengths >= MIN_PAUSE_S * FRAME_RATE].sum() / max(len(quiet), 1))


def _loudness(array: np.ndarray, sampling_rate: int) -> float:
    return float(np.percentile(frame_levels(array, sampling_rate, FRAME_RATE), 95))


def syllable_rate(array: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Return syllables per second: voiced peaks of the loudness with a dip of 2 dB between them.

    Peaks 25 dB below the loud frames of the reference (a prompt) are ignored. The time includes pauses.
    """
    levels = frame_levels(array, sampling_rate, FRAME_RATE)
    smooth = np.convolve(levels, np.hanning(7) / np.hanning(7).sum(), mode="same")
    threshold = _loudness(reference, sampling_rate) + PAUSE_DB
    peaks = find_peaks(smooth, height=threshold, prominence=_SYLLABLE_DIP_DB, distance=_MIN_SYLLABLE_FRAMES)[0]
    voiced = ~np.isnan(pitch_track(array, sampling_rate)[: len(levels)])
    return float(voiced[peaks].sum() / (len(array) / sampling_rate))


def prosody_metrics(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Return the metrics of a waveform `(num_samples,)`; its loudness is relative to the prompt's loud frames.

    `syllable_rate` (per second), `pause_share`, `voiced_share`, `pitch_hz` (median; NaN without voice) and
    `pitch_spread` (in semitones, 1.48 times the median absolute deviation; NaN without voice).
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
