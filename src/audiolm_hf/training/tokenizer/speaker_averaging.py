# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Cross-speaker nearest-neighbour averaging, which removes most of the voice from the features of a speech encoder.

Every frame is replaced by the mean of the nearest frames of all other speakers, one of each. This is the regression of
kNN-VC (arXiv 2305.18975), but towards all speakers at once.
"""

import numpy as np
import torch

from audiolm_hf.progress import progress_bar

CHUNK = 32768  # number of frames whose distances are computed at once


def without_speaker_directions(features: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Standardize features `(frames, hidden_size)`, and remove the subspace spanned by the means of the speakers."""
    names = np.unique(speakers)
    standard = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-5)
    means = np.stack([standard[speakers == name].mean(axis=0) for name in names])
    _, lengths, directions = np.linalg.svd(means.astype(np.float64), full_matrices=False)
    kept = directions[lengths > 1e-4].astype(np.float32)
    return (standard - (standard @ kept.T) @ kept).astype(np.float32)


def nearest_of_others(
    features: np.ndarray, speakers: np.ndarray, frames_per_speaker: int, rng: np.random.Generator
) -> np.ndarray:
    """Replace every frame by the mean of the nearest frames of all other speakers, one of each."""
    names = np.unique(speakers)
    if len(names) < 2:
        raise ValueError(
            f"All recordings are of the speaker {str(names[0])!r}; an average over others needs two or more speakers."
        )
    frames = torch.from_numpy(features)
    total = torch.zeros_like(frames)
    for name in progress_bar(names, desc="averaging", unit="speaker"):
        own = np.flatnonzero(speakers == name)
        pool = frames[rng.permutation(own)[:frames_per_speaker]]
        half_norms = pool.square().sum(dim=1) / 2
        for others in torch.from_numpy(np.flatnonzero(speakers != name)).split(CHUNK):
            total[others] += pool[(half_norms - frames[others] @ pool.T).argmin(dim=1)]
    return (total / (len(names) - 1)).numpy()


def average_over_speakers(
    features: np.ndarray, speakers: np.ndarray, num_rounds: int, frames_per_speaker: int, seed: int
) -> np.ndarray:
    """Remove the speaker from features by repeated [`without_speaker_directions`] and [`nearest_of_others`].

    Args:
        features (`np.ndarray` of shape `(frames, hidden_size)`): features of all recordings.
        speakers (`np.ndarray` of shape `(frames,)`): speaker of every frame; at least two.
        num_rounds (`int`): number of rounds; more than three change little.
        frames_per_speaker (`int`): number of random frames of each speaker that are compared.
        seed (`int`): random seed of these frames.
    """
    for index in range(num_rounds):
        rng = np.random.default_rng([seed, index])
        features = nearest_of_others(without_speaker_directions(features, speakers), speakers, frames_per_speaker, rng)
    return features
