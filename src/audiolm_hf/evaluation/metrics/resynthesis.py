# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Metrics of resynthesized audio: PESQ and STOI (packages of the extra `evaluation`), SI-SDR, spectral distances."""

from importlib import import_module

import numpy as np
import soxr

from audiolm_hf.evaluation.metrics.spectrograms import SILENCE_FLOOR, log_mel, mel_energies, power_spectrogram

PESQ_SAMPLING_RATE = 16000  # ITU-T P.862.2, wide band
PESQ_LOWEST = 1.0  # lower end of the opinion scale
# SoundStream's reconstruction loss: windows of 2^6 to 2^11 samples, and bands that are at least one bin wide.
_MEL_SCALES = {64: 5, 128: 10, 256: 20, 512: 40, 1024: 80, 2048: 160}
_CONVERGENCE_WINDOWS = (512, 1024, 2048)


def match_lengths(*arrays: np.ndarray) -> list[np.ndarray]:
    """Trim waveforms `(num_samples,)` on the right to the shortest of them."""
    length = min(len(array) for array in arrays)
    return [array[:length] for array in arrays]


def require_speech_metrics() -> None:
    """Import the packages of PESQ and STOI, so that a missing one raises an error before any work."""
    for name in ("pesq", "pystoi"):
        import_module(name)


def pesq_wb(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Return the wide-band perceived speech quality of equally long waveforms (1.0 to 4.64; ITU-T P.862.2).

    It is 1.0 for a silent estimate, which PESQ does not accept, and NaN if PESQ detects no speech in the reference.
    """
    from pesq import NoUtterancesError, pesq

    if not np.any(estimate):
        return PESQ_LOWEST
    if sampling_rate != PESQ_SAMPLING_RATE:
        reference, estimate = (soxr.resample(x, sampling_rate, PESQ_SAMPLING_RATE) for x in (reference, estimate))
    try:
        return float(pesq(PESQ_SAMPLING_RATE, reference, estimate, "wb"))
    except NoUtterancesError:
        return float("nan")


def stoi(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Return the short-time objective intelligibility (about 0 to 1) of equally long `(num_samples,)` arrays."""
    from pystoi import stoi as pystoi_stoi

    return float(pystoi_stoi(reference, estimate, sampling_rate))


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the scale-invariant signal-to-distortion ratio of equally long arrays, in dB, at least -100."""
    reference = reference.astype(np.float64) - reference.mean()
    estimate = estimate.astype(np.float64) - estimate.mean()
    target = (estimate @ reference) / max(reference @ reference, SILENCE_FLOOR) * reference
    noise = estimate - target
    return float(10 * np.log10(max((target @ target) / (noise @ noise + SILENCE_FLOOR), SILENCE_FLOOR)))


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Return the mean absolute difference in dB of log-mel spectrograms, relative to the reference's loudest bin."""
    loudest = float(mel_energies(reference, sampling_rate).max())
    first, second = (log_mel(array, sampling_rate, loudest) for array in (reference, estimate))
    return float(np.abs(first - second).mean())


def multi_scale_mel_distance(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Return [`mel_distance`] averaged over windows of 64 to 2048 samples, the resolutions of SoundStream's loss.

    At each resolution, values are clipped 80 dB below the loudest bin of the reference.
    """
    distances = []
    for window_length, num_mels in _MEL_SCALES.items():
        first, second = (mel_energies(x, sampling_rate, num_mels, window_length) for x in (reference, estimate))
        floor = max(float(first.max()), SILENCE_FLOOR) * 1e-8
        distances.append(np.abs(10 * np.log10(np.maximum(first, floor) / np.maximum(second, floor))).mean())
    return float(np.mean(distances))


def spectral_convergence(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the relative error of magnitude spectrograms of equally long `(num_samples,)` arrays; 1 for silence."""
    errors = []
    for window in _CONVERGENCE_WINDOWS:
        first, second = (np.sqrt(power_spectrogram(array, window, window // 4)) for array in (reference, estimate))
        errors.append(np.linalg.norm(first - second) / max(float(np.linalg.norm(first)), SILENCE_FLOOR))
    return float(np.mean(errors))


def audio_quality(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Compare resynthesized audio with its original, `(num_samples,)` arrays trimmed to the shorter.

    Returns `si_sdr`, `mel_distance`, `multi_scale_mel_distance` (all in dB) and `spectral_convergence`.
    """
    reference, estimate = match_lengths(reference, estimate)
    return {
        "si_sdr": si_sdr(reference, estimate),
        "mel_distance": mel_distance(reference, estimate, sampling_rate),
        "multi_scale_mel_distance": multi_scale_mel_distance(reference, estimate, sampling_rate),
        "spectral_convergence": spectral_convergence(reference, estimate),
    }


def speech_quality(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Compare resynthesized speech with its original: [`audio_quality`], `pesq_wb` and `stoi`."""
    reference, estimate = match_lengths(reference, estimate)
    return {
        "pesq_wb": pesq_wb(reference, estimate, sampling_rate),
        "stoi": stoi(reference, estimate, sampling_rate),
    } | audio_quality(reference, estimate, sampling_rate)
