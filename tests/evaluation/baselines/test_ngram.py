# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf.evaluation.baselines.ngram import NGramModel, context_matrix, estimate_discounts
from tests.reference import kneser_ney_probability


def model_of(ids, order, num_outcomes):
    return NGramModel(context_matrix(ids, order, start_id=num_outcomes), ids, num_outcomes)


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    test=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    order=st.integers(1, 4),
)
def test_probabilities_are_those_of_the_loop(ids, test, order):
    ids, test = np.array(ids), np.array(test)
    contexts = context_matrix(test, order, start_id=5)
    train = context_matrix(ids, order, start_id=5)
    grams = [(tuple(row), target) for row, target in zip(train.tolist(), ids.tolist(), strict=True)]
    expected = [
        kneser_ney_probability(grams, tuple(row), target, 5)
        for row, target in zip(contexts.tolist(), test.tolist(), strict=True)
    ]
    np.testing.assert_allclose(NGramModel(train, ids, 5).probabilities(contexts, test), expected, rtol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one_after_seen_and_unseen_contexts(order):
    rng = np.random.default_rng(0)
    model = model_of(rng.zipf(1.5, 500) % 20, order, num_outcomes=20)
    for context in rng.integers(0, 40, (10, order - 1)):
        total = model.probabilities(np.tile(context, (20, 1)), np.arange(20)).sum()
        assert total == pytest.approx(1, abs=1e-9)


def test_repeated_pattern_is_learned_and_beats_the_unigram():
    ids = np.tile([0, 1, 2, 3], 100)
    contexts = context_matrix(ids, 5, start_id=9)
    assert model_of(ids, 5, 4).bits(contexts, ids)[8:].mean() < 0.2
    np.testing.assert_allclose(model_of(ids, 1, 4).bits(contexts[:, :0], ids), 2, atol=0.01)


def test_higher_order_gains_where_the_past_matters():
    rng = np.random.default_rng(1)
    ids = np.zeros(4000, dtype=np.int64)
    for place in range(2, len(ids)):
        ids[place] = (ids[place - 2] + 1 + (rng.random() < 0.1)) % 8
    train, test = ids[:3000], ids[3000:]
    bits = {
        order: model_of(train, order, 8).bits(context_matrix(test, order, 8), test).mean() for order in (1, 2, 3, 5)
    }
    assert bits[3] < 0.8 < bits[2]
    assert bits[5] < 1.1 * bits[3]  # more context than helps does little harm
    assert bits[1] > 2.5


def test_context_matrix_lists_the_ids_before():
    ids = np.array([5, 6, 7])
    assert context_matrix(ids, 3, start_id=9).tolist() == [[9, 9], [9, 5], [5, 6]]
    assert context_matrix(ids, 1, start_id=9).shape == (3, 0)


def test_discounts_stay_within_their_counts():
    for counts in ([1], [1, 1, 2], [5, 5, 5], [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]):
        discounts = estimate_discounts(np.array(counts))
        assert (discounts > 0).all()
        assert (discounts <= [1, 2, 3]).all()
