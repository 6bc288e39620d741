# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Interpolated Kneser-Ney n-grams, the baseline of the stages' likelihoods.

A model is the distribution of one kind of token, such as the codes of level 2, given the preceding tokens of any kind.
The implementation is based on sorted arrays. NLTK is too slow for millions of tokens, and KenLM only predicts the
words of a single vocabulary.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999), modified Kneser-Ney.
"""

from dataclasses import dataclass

import numpy as np

LEAST_DISCOUNT = 0.05  # so that unseen tokens have some probability whatever the counts


@dataclass(frozen=True)
class _Order:
    """Counts of one context length.

    Keys are sorted. A key in `context_keys` combines the index of the next shorter context with one more token, one in
    `gram_keys` the index of a context with an outcome. `weights` are the probabilities of the grams before backing
    off, and `backoff` is the remaining probability of each context for the shorter one.
    """

    context_keys: np.ndarray
    gram_keys: np.ndarray
    weights: np.ndarray
    backoff: np.ndarray


class NGramModel:
    """Distribution of the next token of one kind, given the tokens before it.

    It is fitted on `targets (num_tokens,)` in `[0, num_outcomes)`, and on the ids before each, `contexts (num_tokens,
    order - 1)`, the nearest last. The longest context uses counts. Every shorter one uses the number of different
    tokens on its left (Kneser-Ney), except in a unigram model. Each order has three discounts, from its counts of
    counts.
    """

    def __init__(self, contexts: np.ndarray, targets: np.ndarray, num_outcomes: int) -> None:
        self.num_outcomes = num_outcomes
        self._num_ids = int(contexts.max(initial=0)) + 1
        self._orders = self._fit(contexts.astype(np.int64), targets.astype(np.int64))

    def _fit(self, contexts: np.ndarray, targets: np.ndarray) -> list[_Order]:
        """Index the contexts from short to long, then count the grams from long to short."""
        places = np.zeros(len(targets), dtype=np.int64)
        context_keys = [np.zeros(1, dtype=np.int64)]
        for distance in range(1, contexts.shape[1] + 1):
            keys, places = np.unique(places * self._num_ids + contexts[:, -distance], return_inverse=True)
            context_keys.append(keys)
        gram_keys, counts = np.unique(places * self.num_outcomes + targets, return_counts=True)
        orders = []
        for keys in reversed(context_keys):
            orders.append(self._make_order(keys, gram_keys, counts))
            parents = keys[gram_keys // self.num_outcomes] // self._num_ids
            gram_keys, counts = np.unique(
                parents * self.num_outcomes + gram_keys % self.num_outcomes, return_counts=True
            )
        return orders[::-1]

    def _make_order(self, context_keys: np.ndarray, gram_keys: np.ndarray, counts: np.ndarray) -> _Order:
        discounts = estimate_discounts(counts)[np.minimum(counts, 3) - 1]
        places = gram_keys // self.num_outcomes
        totals = np.bincount(places, counts, len(context_keys))
        return _Order(
            context_keys=context_keys,
            gram_keys=gram_keys,
            weights=(counts - discounts) / totals[places],
            backoff=np.bincount(places, discounts, len(context_keys)) / totals,
        )

    def probabilities(self, contexts: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the probabilities of `targets`, which sum to 1 for each context; see the class for the arguments."""
        probabilities = np.full(len(targets), 1 / self.num_outcomes)
        places = np.zeros(len(targets), dtype=np.int64)
        seen = np.ones(len(targets), dtype=bool)
        for distance, order in enumerate(self._orders):
            if distance:
                ids = contexts[:, -distance].astype(np.int64)
                seen &= ids < self._num_ids
                places, found = _find(order.context_keys, places * self._num_ids + ids)
                seen &= found
            grams, has_gram = _find(order.gram_keys, places * self.num_outcomes + targets)
            mixed = np.where(has_gram, order.weights[grams], 0.0) + order.backoff[places] * probabilities
            probabilities = np.where(seen, mixed, probabilities)
        return probabilities

    def bits(self, contexts: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the negative log-likelihood of each token in bits; see [`NGramModel.probabilities`]."""
        return -np.log2(self.probabilities(contexts, targets))


def estimate_discounts(counts: np.ndarray) -> np.ndarray:
    """Return the discounts of counts of 1, 2, and 3 or more from `(num_grams,)` counts; the n-th is in `(0, n]`."""
    once, twice, thrice, four_times = (max(1, int((counts == times).sum())) for times in (1, 2, 3, 4))
    share = once / (once + 2 * twice)
    estimates = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four_times / thrice]
    return np.clip(estimates, LEAST_DISCOUNT, [1.0, 2.0, 3.0])


def _find(sorted_keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of keys (0 for missing ones), and whether each key exists."""
    places = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    found = sorted_keys[places] == wanted
    return np.where(found, places, 0), found


def context_matrix(ids: np.ndarray, order: int, start_id: int) -> np.ndarray:
    """Return the ids `(sequence_length, order - 1)` before each id, the nearest last, `start_id` before the first."""
    padded = np.concatenate([np.full(order - 1, start_id, dtype=ids.dtype), ids])
    if order == 1:
        return np.zeros((len(ids), 0), dtype=ids.dtype)
    return np.lib.stride_tricks.sliding_window_view(padded, order - 1)[: len(ids)]
