# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What speakers have in common, on features made of sounds and voices."""

import numpy as np
import pytest

from audiolm_hf.training.tokenizer import speaker_invariance
from audiolm_hf.training.tokenizer.speaker_invariance import (
    average_over_speakers,
    nearest_of_others,
    without_speaker_directions,
)
from tests import reference


def sounds_and_voices(num_speakers=5, frames=60, seed=0):
    """Features of 4 sounds, each speaker shifted in a direction of their own; with both labels."""
    rng = np.random.default_rng(seed)
    places, shifts = 4 * rng.standard_normal((4, 12)), 2 * rng.standard_normal((num_speakers, 12))
    speakers = np.repeat(np.arange(num_speakers), frames)
    sounds = rng.integers(4, size=len(speakers))
    features = places[sounds] + shifts[speakers] + 0.3 * rng.standard_normal((len(speakers), 12))
    return features.astype(np.float32), speakers, sounds


def share_explained(features, labels):
    """Share of the variance that lies between the means of the labels."""
    means = np.stack([features[labels == label].mean(axis=0) for label in np.unique(labels)])
    return float(means[np.unique(labels, return_inverse=True)[1]].var(axis=0).sum() / features.var(axis=0).sum())


def test_speakers_have_one_mean_afterwards():
    features, speakers, sounds = sounds_and_voices()
    free = without_speaker_directions(features, speakers)
    assert share_explained(features, speakers) > 0.1
    for speaker in range(5):
        assert np.allclose(free[speakers == speaker].mean(axis=0), 0, atol=1e-4)
    assert np.linalg.matrix_rank(free, tol=1e-2) == 12 - 4  # five means about one centre span four directions
    assert share_explained(free, sounds) > 0.3


def test_one_mean_for_all_leaves_the_features_as_they_are():
    features = np.concatenate([sounds_and_voices(1)[0]] * 2)
    free = without_speaker_directions(features, np.repeat([0, 1], len(features) // 2))
    assert np.allclose(free, (features - features.mean(axis=0)) / features.std(axis=0), atol=1e-3)


def test_nearest_frames_of_others_are_those_of_a_plain_search(monkeypatch):
    features, speakers, _ = sounds_and_voices(3, frames=20)
    monkeypatch.setattr(speaker_invariance, "CHUNK", 7)
    found = nearest_of_others(features, speakers, 20, np.random.default_rng(0))
    assert np.allclose(found, reference.nearest_of_others(features, speakers.tolist()), atol=1e-5)


def test_a_sample_of_each_speaker_is_enough_to_look_through():
    features, speakers, sounds = sounds_and_voices()
    first, again, other = (
        nearest_of_others(features, speakers, 15, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert share_explained(first, sounds) > 0.8


def test_averages_keep_the_sounds_and_drop_the_voices():
    features, speakers, sounds = sounds_and_voices()
    before = features.copy()
    shared = average_over_speakers(features, speakers, num_rounds=2, frames_per_speaker=60, seed=0)
    assert shared.dtype == np.float32 and shared.shape == features.shape
    assert np.array_equal(features, before)
    assert share_explained(shared, sounds) > 0.9 > share_explained(features, sounds)
    assert share_explained(shared, speakers) < 0.01 < share_explained(features, speakers)


def test_one_speaker_is_refused():
    with pytest.raises(ValueError, match="All recordings are of the speaker 'ann'; give those of two"):
        nearest_of_others(np.zeros((3, 2), np.float32), np.array(["ann"] * 3), 2, np.random.default_rng(0))
