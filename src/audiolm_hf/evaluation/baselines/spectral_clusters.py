# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The yardsticks of semantic tokens: k-means clusters of log-mel spectra and of MFCC, at the tokens' own rate.

In: recordings; out: features and, once centroids are fitted on training recordings, tokens, as many and as fine as
those of a semantic tokenizer. What a learned encoder adds is what its tokens have over these.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.fft import dct
from sklearn.cluster import MiniBatchKMeans

from audiolm_hf.modeling_semantic_tokenizer_audiolm import log_mel_spectrogram, nearest_centroid

SpectralKind = Literal["log-mel", "MFCC"]
_WINDOW_RATE = 100  # of log_mel_spectrogram, Hz
_NUM_CEPSTRA = 13


def spectral_features(array: np.ndarray, sampling_rate: int, frame_rate: float, kind: SpectralKind) -> np.ndarray:
    """Compute features at the rate of tokens, each dimension with mean 0 and variance 1 over the recording.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): mono, in [-1, 1].
        sampling_rate (`int`): Hz.
        frame_rate (`float`): features a second, at most 100 Hz.
        kind (`"log-mel"` or `"MFCC"`): 80 bands; or 13 cepstra with first and second differences.

    Returns:
        `np.ndarray` of shape `(frames, hidden_size)`, float32; `frames` is the duration times the rate, rounded up.
    """
    num_frames = -(-len(array) // round(sampling_rate / frame_rate))
    window = torch.nn.functional.pad(torch.from_numpy(array), (0, sampling_rate // 40))[None]
    rows = log_mel_spectrogram(window, sampling_rate)[0].numpy()
    if kind == "MFCC":
        cepstra = dct(rows, axis=1, norm="ortho")[:, :_NUM_CEPSTRA]
        slopes = np.gradient(cepstra, axis=0)
        rows = np.concatenate([cepstra, slopes, np.gradient(slopes, axis=0)], axis=1)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-5)
    frames = np.minimum((np.arange(len(rows)) + 0.5) / _WINDOW_RATE * frame_rate, num_frames - 1).astype(int)
    sums = np.zeros((num_frames, rows.shape[1]))
    np.add.at(sums, frames, rows)
    counts = np.bincount(frames, minlength=num_frames)[:, None]
    return (sums / np.maximum(counts, 1)).astype(np.float32)


def fit_spectral_centroids(
    features: Iterable[np.ndarray], num_tokens: int, seed: int = 0, num_epochs: int = 20
) -> np.ndarray:
    """Cluster features of training recordings.

    Args:
        features (iterable of `np.ndarray` of shape `(frames, hidden_size)`): from [`spectral_features`].
        num_tokens (`int`): clusters.
        seed (`int`, defaults to 0): of the first centroids.
        num_epochs (`int`, defaults to 20): most passes over the features.

    Returns:
        `np.ndarray` of shape `(num_tokens, hidden_size)`, float32.

    Raises:
        ValueError: there are fewer frames than clusters.
    """
    rows = np.concatenate(list(features))
    if len(rows) < num_tokens:
        raise ValueError(f"There are {len(rows)} frames for {num_tokens} clusters; give more training recordings.")
    kmeans = MiniBatchKMeans(
        num_tokens, batch_size=max(10 * num_tokens, 4096), max_iter=num_epochs, n_init=1, random_state=seed
    )
    return kmeans.fit(rows).cluster_centers_.astype(np.float32)


def assign_centroids(features: Sequence[np.ndarray], centroids: np.ndarray) -> list[np.ndarray]:
    """Give the nearest centroid of every frame of each recording, int64 arrays of shape `(frames,)`."""
    table = torch.from_numpy(centroids)
    return [nearest_centroid(torch.from_numpy(rows), table).numpy() for rows in features]


__all__ = ["SpectralKind", "assign_centroids", "fit_spectral_centroids", "spectral_features"]
