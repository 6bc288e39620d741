# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Intervals hold the true mean about as often as they say, pairs cancel what prompts have in common."""

import numpy as np
import pytest

from audiolm_hf.evaluation.bootstrap import paired_difference, summarize


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(150):
        found = summarize(generator.normal(3.0, 2.0, 30), trial)
        inside += found["low"] <= 3.0 <= found["high"]
    assert 0.86 < inside / 150 < 0.99


def test_intervals_are_those_of_the_seed():
    values = [1.0, 2.0, 5.0, 9.0]
    found = summarize(values, 1)
    assert found == summarize(values, 1)
    assert summarize(np.arange(30.0) ** 2, 1) != summarize(np.arange(30.0) ** 2, 2)
    assert 1.0 <= found["low"] < np.mean(values) == found["mean"] < found["high"] <= 9.0
    for certain in ([4.0, 4.0], [4.0]):
        assert summarize(certain) == {"mean": 4.0, "low": 4.0, "high": 4.0, "count": len(certain)}


def test_missing_values_are_left_out():
    assert summarize([1.0, float("nan"), 3.0])["mean"] == 2.0
    assert summarize([1.0, float("nan"), 3.0])["count"] == 2
    nothing = summarize([float("nan")])
    assert np.isnan(nothing["mean"]) and np.isnan(nothing["low"]) and nothing["count"] == 0


def test_pairs_cancel_what_prompts_share():
    prompts = np.random.default_rng(0).normal(0, 10, 20)
    difference = paired_difference(prompts + 1, prompts)
    assert difference["low"] == pytest.approx(1) and difference["high"] == pytest.approx(1)
    assert summarize(prompts + 1)["low"] < 0
    with pytest.raises(ValueError, match="2 and 1 values"):
        paired_difference([1.0, 2.0], [1.0])
