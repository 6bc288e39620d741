# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Figures of waveforms: distances between two, and properties of one.

Used by the codec and continuation evaluations. PESQ and STOI come from the optional packages of the extra
`evaluation`; the rest needs numpy and torch only.
"""

import numpy as np
import soxr
import torch
from transformers.audio_utils import mel_filter_bank

PESQ_SAMPLING_RATE = 16000  # ITU-T P.862.2, wide band
PESQ_LOWEST = 1.0  # end of the opinion scale that PESQ maps to
_SILENCE_FLOOR = 1e-10
# SoundStream's reconstruction loss: windows of 2^6 to 2^11 samples; bands so that none is narrower than a bin.
_MEL_SCALES = {64: 5, 128: 10, 256: 20, 512: 40, 1024: 80, 2048: 160}
_CONVERGENCE_WINDOWS = (512, 1024, 2048)


def match_lengths(*arrays: np.ndarray) -> list[np.ndarray]:
    """Trim arrays of shape `(num_samples,)` on the right to the shortest of them."""
    length = min(len(array) for array in arrays)
    return [array[:length] for array in arrays]


def pesq_wb(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Measure perceived speech quality, wide band (1.0 to 4.64; ITU-T P.862.2).

    Args:
        reference (`np.ndarray` of shape `(num_samples,)`): the original.
        estimate (`np.ndarray` of shape `(num_samples,)`): what is compared with it.
        sampling_rate (`int`): Hz; both are resampled to 16 kHz where it differs.

    Returns:
        `float`: the score; 1.0 for a silent estimate, which PESQ itself refuses; NaN where the reference holds no
        speech that PESQ detects.

    Raises:
        ImportError: the package `pesq` is not installed.
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
    """Measure short-time objective intelligibility (about 0 to 1) of equally long `(num_samples,)` arrays.

    Raises:
        ImportError: the package `pystoi` is not installed.
    """
    from pystoi import stoi as pystoi_stoi

    return float(pystoi_stoi(reference, estimate, sampling_rate))


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Measure the scale-invariant signal-to-distortion ratio of equally long arrays, in dB from -100 up."""
    reference = reference.astype(np.float64) - reference.mean()
    estimate = estimate.astype(np.float64) - estimate.mean()
    target = (estimate @ reference) / max(reference @ reference, _SILENCE_FLOOR) * reference
    noise = estimate - target
    return float(10 * np.log10(max((target @ target) / (noise @ noise + _SILENCE_FLOOR), _SILENCE_FLOOR)))


def power_spectrogram(array: np.ndarray, window_length: int = 1024, hop_length: int = 256) -> np.ndarray:
    """Compute a Hann-windowed power spectrogram.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): the signal; shorter than a window, it is zero padded.
        window_length (`int`, defaults to 1024): samples.
        hop_length (`int`, defaults to 256): samples.

    Returns:
        `np.ndarray` of shape `(frames, window_length // 2 + 1)`.
    """
    signal = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    signal = torch.nn.functional.pad(signal, (0, max(0, window_length - len(signal))))
    spectrum = torch.stft(
        signal, window_length, hop_length, window=torch.hann_window(window_length), center=False, return_complex=True
    )
    return spectrum.abs().square().T.numpy()  # (frequencies, frames) -> (frames, frequencies)


def log_mel(array: np.ndarray, sampling_rate: int, loudest: float | None = None, num_mels: int = 80) -> np.ndarray:
    """Compute a log-mel spectrogram.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): the signal.
        sampling_rate (`int`): Hz.
        loudest (`float`, *optional*): energy of 0 dB; everything 80 dB below it is cut to that. By default the
            loudest bin of this signal.
        num_mels (`int`, defaults to 80): bands.

    Returns:
        `np.ndarray` of shape `(frames, num_mels)`, dB.
    """
    mel = _mel_energies(array, sampling_rate, num_mels)
    loudest = max(float(mel.max()) if loudest is None else loudest, _SILENCE_FLOOR)
    return 10 * np.log10(np.maximum(mel / loudest, 1e-8))


def _mel_energies(array: np.ndarray, sampling_rate: int, num_mels: int = 80, window_length: int = 1024) -> np.ndarray:
    power = power_spectrogram(array, window_length, window_length // 4)
    return power @ mel_filter_bank(
        num_frequency_bins=power.shape[1],
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        mel_scale="slaney",
    )


def frame_levels(array: np.ndarray, sampling_rate: int, frame_rate: int = 50) -> np.ndarray:
    """Measure the level of consecutive frames.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): the signal.
        sampling_rate (`int`): Hz.
        frame_rate (`int`, defaults to 50): frames a second.

    Returns:
        `np.ndarray` of shape `(frames,)`: dB relative to full scale, -120 at least; the rest of a frame is left out.
    """
    length = sampling_rate // frame_rate
    frames = array[: len(array) // length * length].reshape(-1, length).astype(np.float64)
    return 10 * np.log10(np.maximum((frames**2).mean(axis=1), 1e-12))


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Measure the mean absolute difference of two log-mel spectrograms of equally long arrays.

    Args:
        reference (`np.ndarray` of shape `(num_samples,)`): the original; its loudest bin is 0 dB for both.
        estimate (`np.ndarray` of shape `(num_samples,)`): what is compared with it.
        sampling_rate (`int`): Hz.

    Returns:
        `float`: dB.
    """
    loudest = float(_mel_energies(reference, sampling_rate).max())
    first, second = (log_mel(array, sampling_rate, loudest) for array in (reference, estimate))
    return float(np.abs(first - second).mean())


def multi_scale_mel_distance(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Measure the mean absolute difference of log-mel spectrograms of six resolutions.

    Args:
        reference (`np.ndarray` of shape `(num_samples,)`): the original; in each resolution its loudest bin is 0 dB,
            and what lies 80 dB below it does not count.
        estimate (`np.ndarray` of shape `(num_samples,)`): what is compared with it, equally long.
        sampling_rate (`int`): Hz.

    Returns:
        `float`: dB, averaged over windows of 64 to 2048 samples.

    Paper: SoundStream (arXiv 2107.03312), the reconstruction loss.
    """
    distances = []
    for window_length, num_mels in _MEL_SCALES.items():
        first, second = (_mel_energies(x, sampling_rate, num_mels, window_length) for x in (reference, estimate))
        floor = max(float(first.max()), _SILENCE_FLOOR) * 1e-8
        distances.append(np.abs(10 * np.log10(np.maximum(first, floor) / np.maximum(second, floor))).mean())
    return float(np.mean(distances))


def spectral_convergence(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Measure the error of a spectrogram's magnitudes relative to the original's: 0 is perfect, silence has 1.

    Args:
        reference (`np.ndarray` of shape `(num_samples,)`): the original.
        estimate (`np.ndarray` of shape `(num_samples,)`): what is compared with it, equally long.

    Returns:
        `float`: averaged over windows of 512, 1024 and 2048 samples.
    """
    errors = []
    for window in _CONVERGENCE_WINDOWS:
        first, second = (np.sqrt(power_spectrogram(array, window, window // 4)) for array in (reference, estimate))
        errors.append(np.linalg.norm(first - second) / max(float(np.linalg.norm(first)), _SILENCE_FLOOR))
    return float(np.mean(errors))


def sound_quality(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Compare a coded recording of any sound with its original.

    Args:
        reference (`np.ndarray` of shape `(num_samples,)`): the original.
        estimate (`np.ndarray` of shape `(num_samples,)`): what is compared with it; both are trimmed to the shorter.
        sampling_rate (`int`): Hz.

    Returns:
        `dict`: `si_sdr` (dB), `mel_distance` (dB), `multi_scale_mel_distance` (dB) and `spectral_convergence`.
    """
    reference, estimate = match_lengths(reference, estimate)
    return {
        "si_sdr": si_sdr(reference, estimate),
        "mel_distance": mel_distance(reference, estimate, sampling_rate),
        "multi_scale_mel_distance": multi_scale_mel_distance(reference, estimate, sampling_rate),
        "spectral_convergence": spectral_convergence(reference, estimate),
    }


def speech_quality(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Compare coded speech with its original by every distance of this file.

    Args:
        reference (`np.ndarray` of shape `(num_samples,)`): the original.
        estimate (`np.ndarray` of shape `(num_samples,)`): what is compared with it; both are trimmed to the shorter.
        sampling_rate (`int`): Hz.

    Returns:
        `dict`: `pesq_wb`, `stoi` and the keys of [`sound_quality`].
    """
    reference, estimate = match_lengths(reference, estimate)
    return {
        "pesq_wb": pesq_wb(reference, estimate, sampling_rate),
        "stoi": stoi(reference, estimate, sampling_rate),
    } | sound_quality(reference, estimate, sampling_rate)


__all__ = [
    "frame_levels",
    "log_mel",
    "match_lengths",
    "mel_distance",
    "multi_scale_mel_distance",
    "pesq_wb",
    "power_spectrogram",
    "si_sdr",
    "sound_quality",
    "spectral_convergence",
    "speech_quality",
    "stoi",
]
