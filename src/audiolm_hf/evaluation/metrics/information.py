# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Mutual information of tokens and labels of the same frames, such as phones, pitch classes or note onsets.

With few frames, scores are biased in favour of many tokens, so compare every score with that of shuffled tokens.

Paper: the purities and the phone-normalized mutual information (PNMI) are those of HuBERT (arXiv 2106.07447).
"""

import numpy as np
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix


def normalized_information(tokens: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the labels' entropy that the tokens explain, 0 to 1; with phones as labels, PNMI.

    There is one token for each frame, and one label, or several independent ones `(frames, num_labels)`, such as
    sounding pitch classes, whose information and entropies are summed.
    """
    if len(tokens) != len(labels) or not len(tokens):
        raise ValueError(f"There are {len(tokens)} tokens and {len(labels)} labels; give one label for each token.")
    columns = labels.reshape(len(labels), -1).T
    uncertainty = sum(float(entropy(np.unique(column, return_counts=True)[1])) for column in columns)
    information = sum(float(mutual_info_score(column, tokens)) for column in columns)
    return information / uncertainty if uncertainty > 0 else 0.0


def shuffled(tokens: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return tokens in random order, whose score is due to chance."""
    return np.random.default_rng(seed).permutation(tokens)


def token_information(tokens: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return how tokens `(frames,)` agree with labels of the same frames.

    `pnmi`, `pnmi_shuffled` (of tokens in random order), `phone_purity` (share of frames with the most frequent label
    of their token) and `cluster_purity` (share with the most frequent token of their label).
    """
    pnmi, pnmi_shuffled = (normalized_information(each, labels) for each in (tokens, shuffled(tokens, seed)))
    counts = contingency_matrix(labels, tokens)  # (num_labels, num_tokens)
    return {
        "pnmi": pnmi,
        "pnmi_shuffled": pnmi_shuffled,
        "phone_purity": float(counts.max(axis=0).sum() / counts.sum()),
        "cluster_purity": float(counts.max(axis=1).sum() / counts.sum()),
    }
