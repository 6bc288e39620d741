# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Error rates against counted errors and a slow edit distance."""

from functools import cache

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics.words import edit_distance, error_rates, normalise_text


def slow_distance(a, b):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return distance(len(a), len(b))


def test_the_distance_is_that_of_the_slow_one():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), size=rng.integers(9))) for _ in range(2))
        assert edit_distance(a, b) == slow_distance(a, b), (a, b)


def test_rates_are_errors_over_all_words_and_letters():
    rates = error_rates(["THE CAT SAT", "on a mat"], ["the cat, sat.", "on mat too"])
    assert rates["wer"] == pytest.approx(2 / 6)  # a missing, too one too many
    assert rates["cer"] == pytest.approx(edit_distance("on a mat", "on mat too") / 19)
    assert error_rates(["one"], ["a b c"])["wer"] == 3.0  # insertions count, so that a rate can exceed 1
    assert np.isnan(error_rates([""], ["a"])["wer"])


def test_letters_of_all_languages_and_apostrophes_stay():
    assert normalise_text(" Don\u2019t -- 'Stop',  Zoë_2! ") == "don't stop zoë 2"
