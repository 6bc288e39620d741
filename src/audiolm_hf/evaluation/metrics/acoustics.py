# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Loudness, silence, flatness, repetition and timbre of a continuation compared with its prompt, for any audio."""

import numpy as np

from audiolm_hf.evaluation.metrics.spectrograms import frame_levels, level_db, log_mel, power_spectrogram

SILENCE_DB = -35.0  # relative to the prompt's loud frames; only pauses are below
REPEAT_WINDOW_S = 0.5  # about two syllables, which speech does not repeat by chance


def silence_share(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> float:
    """Return the share of 20 ms frames that lie 35 dB or more below the loud frames of the prompt."""
    loud = np.percentile(frame_levels(prompt, sampling_rate), 95)
    return float((frame_levels(array, sampling_rate) < loud + SILENCE_DB).mean())


def spectral_flatness(array: np.ndarray) -> float:
    """Return the mean spectral flatness, geometric by arithmetic mean: 0.56 for white noise, near 0 for voices."""
    power = power_spectrogram(array).astype(np.float64) + 1e-12
    return float((np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)).mean())


def repetition(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> float:
    """Return how much a continuation repeats its prompt or itself: 1 for a copy.

    The highest correlations of every half second of its log-mel spectrogram with any earlier half second are averaged.
    """
    loudest = max(float(power_spectrogram(prompt).max()), 1e-10)
    mels = np.concatenate([log_mel(part, sampling_rate, loudest, num_mels=40) for part in (prompt, array)])
    boundary = len(log_mel(prompt, sampling_rate, loudest, num_mels=40))
    window = round(REPEAT_WINDOW_S * sampling_rate / 256)  # frames of power_spectrogram
    views = np.lib.stride_tricks.sliding_window_view(mels, window, axis=0).reshape(len(mels) - window + 1, -1)
    views = views - views.mean(axis=1, keepdims=True)
    views = views / np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-6)
    peaks = [
        float((views[: start - window + 1] @ views[start]).max()) for start in range(boundary, len(views), window)
    ]
    return float(np.mean(peaks)) if peaks else float("nan")


def timbre_similarity(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> float:
    """Return the correlation of the average log-mel spectra of the loud half of the frames of both."""
    averages = []
    for part in (array, prompt):
        mel = log_mel(part, sampling_rate)
        loudness = mel.mean(axis=1)
        averages.append(mel[loudness >= np.median(loudness)].mean(axis=0))
    if min(average.std() for average in averages) < 1e-6:  # silence has no timbre
        return 0.0
    return float(np.corrcoef(*averages)[0, 1])


def acoustic_metrics(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Return `loudness_db`, `silence_share`, `flatness`, `repetition` and `timbre_similarity` of a continuation."""
    return {
        "loudness_db": level_db(array),
        "silence_share": silence_share(array, prompt, sampling_rate),
        "flatness": spectral_flatness(array),
        "repetition": repetition(array, prompt, sampling_rate),
        "timbre_similarity": timbre_similarity(array, prompt, sampling_rate),
    }
