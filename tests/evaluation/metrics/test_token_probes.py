# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Distances against loop oracles; accuracies on tokens that know, or do not know, the word and the speaker."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf.evaluation.metrics.token_probes import (
    character_probe_error_rate,
    edit_distances,
    same_word_accuracy,
    speaker_probe_accuracy,
    token_histograms,
    warping_distances,
)
from tests import reference

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(rows=sequences)
def test_edit_distances_are_the_oracle(rows):
    found = edit_distances([np.array(row) for row in rows])
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            expected = reference.edit_distance(first, second) / max(len(first), len(second))
            assert found[i, j] == pytest.approx(expected)


def test_warping_distances_are_the_oracle():
    generator = np.random.default_rng(0)
    rows = [generator.standard_normal((length, 3)) for length in (1, 4, 6, 3)]
    found = warping_distances(rows)
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            costs = [[1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)) for b in second] for a in first]
            expected = reference.warping_cost(costs) / (len(first) + len(second))
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_warping_does_not_see_speed():
    rows = np.random.default_rng(0).standard_normal((5, 8))
    assert warping_distances([rows, np.repeat(rows, 2, axis=0)])[0, 1] == pytest.approx(0, abs=1e-6)


def test_empty_sequences_are_refused():
    with pytest.raises(ValueError, match="at least one entry"):
        edit_distances([np.array([1]), np.array([], dtype=np.int64)])


def test_histograms_are_shares():
    found = token_histograms([np.array([0, 2, 2, 2]), np.array([1])], 4)
    assert found.tolist() == [[0.25, 0, 0.75, 0], [0, 1, 0, 0]]


def test_speaker_probe_finds_speakers_only_where_they_are():
    generator = np.random.default_rng(0)
    speakers = [f"s{i % 3}" for i in range(90)]
    recordings = [f"r{i // 3 % 10}-{i % 3}" for i in range(90)]
    blind = generator.standard_normal((90, 6))
    knowing = blind + 3 * np.eye(6)[[i % 3 for i in range(90)]]
    assert speaker_probe_accuracy(knowing, speakers, recordings) > 0.9
    assert speaker_probe_accuracy(blind, speakers, recordings) < 0.6


def test_same_word_is_looked_for_among_other_speakers():
    words = ["one", "two", "one", "two"]
    speakers = ["a", "a", "b", "b"]
    by_word = np.array([[word != other for other in words] for word in words], dtype=np.float32)
    by_speaker = np.array([[a != b for b in speakers] for a in speakers], dtype=np.float32)
    assert same_word_accuracy(by_word, words, speakers) == 1.0
    assert same_word_accuracy(by_speaker + np.array([0.1, 0, 0.1, 0]), words, speakers) == 0.5
    with pytest.raises(ValueError, match="two or more"):
        same_word_accuracy(by_word, words, ["a"] * 4)


def test_character_probe_reads_tokens_that_spell():
    generator = np.random.default_rng(0)
    letters = "abcd "
    texts = ["".join(generator.choice(list(letters), 6)) for _ in range(120)]
    spelling = [np.repeat([letters.index(letter) for letter in text], 3) for text in texts]
    deaf = [generator.integers(5, size=18) for _ in texts]
    state = torch.get_rng_state()
    heard = character_probe_error_rate((spelling[:100], texts[:100]), (spelling[100:], texts[100:]), 5, num_epochs=15)
    unheard = character_probe_error_rate((deaf[:100], texts[:100]), (deaf[100:], texts[100:]), 5, num_epochs=3)
    assert heard < 0.4
    assert unheard > 0.6
    assert torch.equal(torch.get_rng_state(), state)
