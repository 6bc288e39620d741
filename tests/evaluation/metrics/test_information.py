# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Information against the loop oracle; perfect labels score 1, random ones near 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf.evaluation.metrics.information import normalized_information, shuffled, token_information
from tests import reference

pairs = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(pairs=pairs)
def test_information_is_the_oracle(pairs):
    tokens, labels = map(list, zip(*pairs, strict=True))
    entropy = reference.mutual_information(labels, labels)
    expected = reference.mutual_information(tokens, labels) / entropy if entropy > 1e-9 else 0.0
    assert normalized_information(np.array(tokens), np.array(labels)) == pytest.approx(expected, abs=1e-9)


def test_perfect_tokens_score_one_and_random_ones_near_zero():
    generator = np.random.default_rng(0)
    labels = generator.choice(list("abcdefgh"), 20000)
    perfect = np.unique(labels, return_inverse=True)[1]
    assert normalized_information(perfect, labels) == pytest.approx(1)
    assert normalized_information(generator.integers(8, size=20000), labels) < 0.01
    metrics = token_information(perfect, labels)
    assert metrics["phone_purity"] == metrics["cluster_purity"] == 1 == pytest.approx(metrics["pnmi"])
    assert metrics["pnmi_shuffled"] < 0.01
    finer = 2 * perfect + generator.integers(2, size=20000)
    assert token_information(finer, labels)["phone_purity"] == 1
    assert token_information(finer, labels)["cluster_purity"] == pytest.approx(0.5, abs=0.02)


def test_one_label_alone_holds_nothing_to_know():
    assert normalized_information(np.array([0, 1]), np.array(["a", "a"])) == 0


def test_activities_are_taken_together():
    generator = np.random.default_rng(0)
    activities = generator.random((5000, 3)) < 0.4
    known = activities @ np.array([1, 2, 4])
    assert normalized_information(known, activities) == pytest.approx(1)
    assert normalized_information(activities[:, 0].astype(int), activities) == pytest.approx(1 / 3, abs=0.03)
    assert normalized_information(shuffled(known), activities) < 0.01


def test_shuffling_keeps_the_tokens():
    tokens = np.arange(50)
    assert sorted(shuffled(tokens, 1)) == tokens.tolist()
    assert (shuffled(tokens, 1) != shuffled(tokens, 2)).any()
    assert (shuffled(tokens, 1) == shuffled(tokens, 1)).all()


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 tokens and 1 labels"):
        normalized_information(np.array([0, 1]), np.array(["a"]))
    with pytest.raises(ValueError, match="0 tokens"):
        normalized_information(np.array([]), np.array([]))
