# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How much tokens say about labels of the same frames: of phones, of pitch classes, of note onsets.

All figures are of joint counts. Counts of few frames flatter fine tokens, so each figure belongs beside that of the
same tokens in random order, see [`shuffled`].

Paper: the purities and the phone-normalised mutual information are those of HuBERT (arXiv 2106.07447).
"""

from typing import Any

import numpy as np


def joint_counts(tokens: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count how often each label and each token come together.

    Args:
        tokens (`np.ndarray` of shape `(frames,)`): one token for each frame.
        labels (`np.ndarray` of shape `(frames,)`): one label for each frame, of any type that can be sorted.

    Returns:
        `np.ndarray` of shape `(num_labels, num_tokens)`, float64: of the labels and tokens that occur.

    Raises:
        ValueError: the lengths differ or are 0.
    """
    if len(tokens) != len(labels) or not len(tokens):
        raise ValueError(f"There are {len(tokens)} tokens and {len(labels)} labels; give one label for each token.")
    rows, columns = (np.unique(values, return_inverse=True)[1] for values in (labels, tokens))
    counts = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(counts, (rows, columns), 1)
    return counts


def mutual_information(counts: np.ndarray) -> float:
    """Compute what columns say of rows, in bits, from counts of shape `(num_labels, num_tokens)`."""
    joint = counts / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    present = joint > 0
    return float((joint[present] * np.log2(joint[present] / independent[present])).sum())


def entropy(shares: np.ndarray) -> float:
    """Compute the entropy of counts or shares of any shape, in bits."""
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log2(shares)).sum())


def normalised_information(tokens: np.ndarray, labels: np.ndarray) -> float:
    """Compute which part of the labels' entropy the tokens explain; with phones as labels, PNMI.

    Args:
        tokens (`np.ndarray` of shape `(frames,)`): one token for each frame.
        labels (`np.ndarray` of shape `(frames,)`): one label for each frame.

    Returns:
        `float`: 0 (nothing) to 1 (the label is known); 0 where all labels are the same.
    """
    counts = joint_counts(tokens, labels)
    uncertainty = entropy(counts.sum(axis=1))
    return mutual_information(counts) / uncertainty if uncertainty > 0 else 0.0


def phone_purity(tokens: np.ndarray, labels: np.ndarray) -> float:
    """Compute how often a frame has the commonest label of its token; arguments as of [`normalised_information`]."""
    counts = joint_counts(tokens, labels)
    return float(counts.max(axis=0).sum() / counts.sum())


def cluster_purity(tokens: np.ndarray, labels: np.ndarray) -> float:
    """Compute how often a frame has the commonest token of its label; arguments as of [`normalised_information`]."""
    counts = joint_counts(tokens, labels)
    return float(counts.max(axis=1).sum() / counts.sum())


def activity_information(tokens: np.ndarray, activities: np.ndarray) -> float:
    """Compute which part of the entropy of yes-or-no labels the tokens explain, such as of sounding pitch classes.

    Args:
        tokens (`np.ndarray` of shape `(frames,)`): one token for each frame.
        activities (`np.ndarray` of shape `(frames, num_labels)`): bool; several may be true at once.

    Returns:
        `float`: summed information of the single labels, divided by their summed entropy; 0 to 1.
    """
    columns = [joint_counts(tokens, column) for column in activities.T]
    uncertainty = sum(entropy(counts.sum(axis=1)) for counts in columns)
    return sum(map(mutual_information, columns)) / uncertainty if uncertainty > 0 else 0.0


def shuffled(tokens: np.ndarray, seed: int = 0) -> np.ndarray:
    """Put tokens in random order: what their number alone would score."""
    return np.random.default_rng(seed).permutation(tokens)


def token_information(tokens: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Take all figures of tokens against labels.

    Args:
        tokens (`np.ndarray` of shape `(frames,)`): one token for each frame.
        labels (`np.ndarray` of shape `(frames,)`): one label for each frame.
        seed (`int`, defaults to 0): of the random order.

    Returns:
        `dict`: `pnmi`, `pnmi_shuffled` (its floor), `phone_purity`, `cluster_purity`.
    """
    return {
        "pnmi": normalised_information(tokens, labels),
        "pnmi_shuffled": normalised_information(shuffled(tokens, seed), labels),
        "phone_purity": phone_purity(tokens, labels),
        "cluster_purity": cluster_purity(tokens, labels),
    }


__all__ = [
    "activity_information",
    "cluster_purity",
    "entropy",
    "joint_counts",
    "mutual_information",
    "normalised_information",
    "phone_purity",
    "shuffled",
    "token_information",
]
