# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Figures of music on made notes: keys, pitch classes and onsets that are known."""

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics.music import (
    estimate_key,
    histogram_similarity,
    key_agreement,
    music_metrics,
    pitch_class_histogram,
)
from tests.helpers_sounds import C_MAJOR, RATE, notes


def test_a_note_is_its_pitch_class():
    for pitch in (48, 57, 61, 83):
        assert pitch_class_histogram(notes([pitch], 1.0), RATE).argmax() == pitch % 12
    assert not pitch_class_histogram(np.zeros(RATE), RATE).any()


def test_key_of_a_scale_is_found_in_any_transposition():
    for shift in (0, 3, 8):
        assert estimate_key(pitch_class_histogram(notes([p + shift for p in C_MAJOR]), RATE)) == (shift, "major")
    minor = (57, 60, 64, 62, 65, 69, 64, 68, 71, 57, 60, 64)
    assert estimate_key(pitch_class_histogram(notes(minor), RATE)) == (9, "minor")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, "major"), (0, "major"), 1.0),
        ((0, "major"), (7, "major"), 0.5),
        ((0, "minor"), (5, "minor"), 0.5),
        ((0, "major"), (9, "minor"), 0.3),
        ((9, "minor"), (0, "major"), 0.3),
        ((2, "major"), (2, "minor"), 0.2),
        ((0, "major"), (6, "major"), 0.0),
        ((0, "major"), (7, "minor"), 0.0),
    ],
)
def test_near_keys_count_in_part(first, second, expected):
    assert key_agreement(first, second) == expected


def test_a_piece_is_nearer_to_itself_than_to_another():
    prompt, same = notes(C_MAJOR), notes(C_MAJOR[::-1])
    other = 0.2 * notes([pitch + 6 for pitch in C_MAJOR[:6]], 0.5)
    near, far = (music_metrics(array, prompt, RATE) for array in (same, other))
    assert near["same_key"] == near["key_agreement"] == 1
    assert far["key_agreement"] == 0
    assert near["pitch_class_similarity"] > 0.9 > 0 > far["pitch_class_similarity"]
    assert near["inter_onset_ratio"] > 0.9 > 0.6 > far["inter_onset_ratio"]
    assert near["onset_ratio"] > 0.85 > far["onset_ratio"]
    assert near["onset_rate"] == pytest.approx(4, abs=0.5)
    assert far["loudness_difference_db"] > 10 > 1 > near["loudness_difference_db"]


def test_silence_agrees_with_nothing():
    figures = music_metrics(np.zeros(RATE, np.float32), notes(C_MAJOR), RATE)
    assert figures["same_key"] == figures["key_agreement"] == figures["pitch_class_similarity"] == 0
    assert figures["onset_rate"] == figures["onset_ratio"] == figures["inter_onset_ratio"] == 0
    assert histogram_similarity(np.ones(12), np.arange(12.0)) == 0
