# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Spectrograms and frame-wise loudness of waveforms, and PNG files of spectrograms."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

SILENCE_FLOOR = 1e-10


def power_spectrogram(array: np.ndarray, window_length: int = 1024, hop_length: int = 256) -> np.ndarray:
    """Return the Hann-windowed power spectrogram of a waveform, `(frames, window_length // 2 + 1)`.

    A waveform that is shorter than a window is zero padded.
    """
    signal = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    signal = torch.nn.functional.pad(signal, (0, max(0, window_length - len(signal))))
    spectrum = torch.stft(
        signal, window_length, hop_length, window=torch.hann_window(window_length), center=False, return_complex=True
    )
    return spectrum.abs().square().T.numpy()  # (frequencies, frames) -> (frames, frequencies)


def log_mel(array: np.ndarray, sampling_rate: int, loudest: float | None = None, num_mels: int = 80) -> np.ndarray:
    """Return a log-mel spectrogram in dB, `(frames, num_mels)`, clipped 80 dB below the energy `loudest`.

    `loudest` is 0 dB; by default it is that of the loudest bin.
    """
    mel = mel_energies(array, sampling_rate, num_mels)
    loudest = max(float(mel.max()) if loudest is None else loudest, SILENCE_FLOOR)
    return 10 * np.log10(np.maximum(mel / loudest, 1e-8))


def mel_energies(array: np.ndarray, sampling_rate: int, num_mels: int = 80, window_length: int = 1024) -> np.ndarray:
    """Return the energies of mel bands, `(frames, num_mels)`; the hop length is a quarter of the window."""
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
    """Return the loudness of a waveform in dB relative to full scale, at least -120."""
    return float(10 * np.log10(max(float((array.astype(np.float64) ** 2).mean()), 1e-12)))


def frame_levels(array: np.ndarray, sampling_rate: int, frame_rate: int = 50) -> np.ndarray:
    """Return the loudness of consecutive frames in dB relative to full scale, at least -120."""
    length = sampling_rate // frame_rate
    frames = array[: len(array) // length * length].reshape(-1, length).astype(np.float64)
    return 10 * np.log10(np.maximum((frames**2).mean(axis=1), 1e-12))


def save_spectrograms(
    arrays: Mapping[str, np.ndarray],
    sampling_rate: int,
    path: str | Path,
    boundary_s: float | None = None,
    colours: int | None = None,
) -> None:
    """Draw log-mel spectrograms of waveforms by title, one above the other, into a PNG file.

    A line is drawn at `boundary_s` seconds (the end of a prompt). Fewer colours make a smaller file.
    """
    from matplotlib.figure import Figure  # from the extra `train`
    from PIL import Image

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
    if colours is not None:
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
