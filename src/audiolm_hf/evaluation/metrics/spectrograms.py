# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Spectrograms and frame levels of waveforms, and pictures of them as PNG files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

SILENCE_FLOOR = 1e-10


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
    mel = mel_energies(array, sampling_rate, num_mels)
    loudest = max(float(mel.max()) if loudest is None else loudest, SILENCE_FLOOR)
    return 10 * np.log10(np.maximum(mel / loudest, 1e-8))


def mel_energies(array: np.ndarray, sampling_rate: int, num_mels: int = 80, window_length: int = 1024) -> np.ndarray:
    """Return the energies of mel bands, `(frames, num_mels)`; frames are a quarter of a window apart."""
    power = power_spectrogram(array, window_length, window_length // 4)
    return power @ mel_filter_bank(
        num_frequency_bins=power.shape[1],
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        mel_scale="slaney",
    )


def level_db(array: np.ndarray) -> float:
    """Return the level of a waveform in dB relative to full scale, -120 at least."""
    return float(10 * np.log10(max(float((array.astype(np.float64) ** 2).mean()), 1e-12)))


def frame_levels(array: np.ndarray, sampling_rate: int, frame_rate: int = 50) -> np.ndarray:
    """Return the levels of consecutive frames.

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


def save_spectrograms(
    arrays: Mapping[str, np.ndarray], sampling_rate: int, path: str | Path, boundary_s: float | None = None
) -> None:
    """Draw one log-mel spectrogram under the other.

    Args:
        arrays (`dict[str, np.ndarray]`): titles and waveforms of shape `(num_samples,)`.
        sampling_rate (`int`): Hz.
        path (`str` or `Path`): PNG file to write.
        boundary_s (`float`, *optional*): a line is drawn at this time, in seconds (end of a prompt).
    """
    from matplotlib.figure import Figure  # of the extra `evaluation`

    figure = Figure(figsize=(10, 2.2 * len(arrays)), layout="constrained")
    for axes, (title, array) in zip(
        np.atleast_1d(figure.subplots(len(arrays), sharex=True)), arrays.items(), strict=True
    ):
        decibels = log_mel(array, sampling_rate)
        duration = len(array) / sampling_rate
        axes.imshow(
            decibels.T,
            origin="lower",
            aspect="auto",
            extent=(0, duration, 0, decibels.shape[1]),
            cmap="magma",
            vmin=decibels.max() - 80,
            vmax=decibels.max(),
        )
        axes.set(title=title, ylabel="mel band")
        if boundary_s is not None:
            axes.axvline(boundary_s, color="white", linestyle="--", linewidth=1)
    axes.set_xlabel("seconds")
    figure.savefig(path, dpi=80)


__all__ = [
    "SILENCE_FLOOR",
    "frame_levels",
    "level_db",
    "log_mel",
    "mel_energies",
    "power_spectrogram",
    "save_spectrograms",
]
