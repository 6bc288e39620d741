# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Pictures of sounds: log-mel spectrograms as PNG files, for training samples, cards and the eye."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from audiolm_hf.evaluation.signal import log_mel


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


__all__ = ["save_spectrograms"]
