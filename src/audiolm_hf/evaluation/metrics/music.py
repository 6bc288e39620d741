# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Pitch classes, key, note onsets and loudness of a piano continuation, compared with its prompt.

The pitch-class filters are hand-written, because the semantic tokenizer of music is trained with them, and training
should not depend on librosa. None of the libraries in use estimates keys.
"""

from functools import cache

import numpy as np
import torch

from audiolm_hf.evaluation.metrics.spectrograms import level_db, power_spectrogram
from audiolm_hf.onsets_audiolm import onset_times

PITCH_CLASSES = 12
_CHROMA_WINDOW_S = 0.256  # resolves semitones above 130 Hz
_CHROMA_RANGE_HZ = (65.0, 2100.0)  # C2 to C7
# Krumhansl and Kessler's tone profiles, from C
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@cache
def pitch_class_filters(window: int, sampling_rate: int, lowest_hz: float, highest_hz: float) -> np.ndarray:
    """Return the weights of a spectrum's frequencies in the pitch classes from C, `(window // 2 + 1, 12)`.

    A frequency between the two bounds is assigned to the nearest semitone, with less weight halfway between two.
    """
    hertz = np.arange(window // 2 + 1) * sampling_rate / window
    inside = (hertz >= lowest_hz) & (hertz <= highest_hz)
    semitones = 69 + 12 * np.log2(np.where(inside, hertz, 440.0) / 440.0)
    nearest = np.round(semitones)
    weights = np.where(inside, np.exp(-0.5 * ((semitones - nearest) / 0.2) ** 2), 0.0)
    filters = np.zeros((len(hertz), PITCH_CLASSES))
    filters[np.arange(len(hertz)), nearest.astype(int) % PITCH_CLASSES] = weights
    return filters


def pitch_class_histogram(array: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the share of each pitch class in a waveform's amplitudes, `(12,)` from C; zeros for silence."""
    window = round(_CHROMA_WINDOW_S * sampling_rate)
    amplitudes = np.sqrt(power_spectrogram(array, window, window // 4))
    chroma = amplitudes @ pitch_class_filters(window, sampling_rate, *_CHROMA_RANGE_HZ)  # (frames, 12)
    total = chroma.sum(axis=0).astype(np.float64)
    return total / total.sum() if total.sum() > 1e-6 else np.zeros(PITCH_CLASSES)


def histogram_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Correlate two pitch-class histograms; 0 where one is flat."""
    if min(first.std(), second.std()) < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def estimate_key(histogram: np.ndarray) -> tuple[int, str]:
    """Return tonic (0 for C) and mode of the key whose profile fits a histogram best (Krumhansl and Schmuckler)."""
    keys = [(tonic, mode) for mode in ("major", "minor") for tonic in range(PITCH_CLASSES)]
    profiles = {"major": _MAJOR, "minor": _MINOR}
    fits = [histogram_similarity(histogram, np.roll(profiles[mode], tonic)) for tonic, mode in keys]
    return keys[int(np.argmax(fits))]


def key_agreement(first: tuple[int, str], second: tuple[int, str]) -> float:
    """Score two keys as MIREX does: 1 if equal, 0.5 a fifth apart, 0.3 relative, 0.2 parallel, else 0."""
    interval = (second[0] - first[0]) % PITCH_CLASSES
    if first[1] == second[1]:
        return {0: 1.0, 5: 0.5, 7: 0.5}.get(interval, 0.0)
    if interval == 0:
        return 0.2
    return 0.3 if interval == (9 if first[1] == "major" else 3) else 0.0


def music_metrics(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Return the metrics of a continuation and its prompt, mono waveforms `(num_samples,)`.

    `same_key` (1 or 0), `key_agreement` (0 to 1), `pitch_class_similarity` (-1 to 1), `onset_rate` (per second),
    `onset_ratio` (the smaller by the larger rate, 0 to 1), `inter_onset_ratio` (the same for the median times between
    onsets) and `loudness_difference_db` (absolute).
    """
    histograms = [pitch_class_histogram(part, sampling_rate) for part in (array, prompt)]
    keys = [estimate_key(histogram) for histogram in histograms]
    sounding = all(histogram.any() for histogram in histograms)
    onsets = [onset_times(torch.as_tensor(part), sampling_rate).numpy() for part in (array, prompt)]
    rates = [len(times) * sampling_rate / len(part) for times, part in zip(onsets, (array, prompt), strict=True)]
    gaps = [float(np.median(np.diff(times))) if len(times) > 1 else 0.0 for times in onsets]
    levels = [level_db(part) for part in (array, prompt)]
    return {
        "same_key": float(sounding and keys[0] == keys[1]),
        "key_agreement": key_agreement(*keys) if sounding else 0.0,
        "pitch_class_similarity": histogram_similarity(*histograms),
        "onset_rate": rates[0],
        "onset_ratio": _smaller_by_larger(*rates),
        "inter_onset_ratio": _smaller_by_larger(*gaps),
        "loudness_difference_db": abs(levels[0] - levels[1]),
    }


def _smaller_by_larger(first: float, second: float) -> float:
    return min(first, second) / max(first, second) if max(first, second) > 0 else 0.0
