# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Error rates against counted errors."""

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics.words import error_rates, normalise_text


def test_rates_are_errors_over_all_words_and_letters():
    rates = error_rates(["THE CAT SAT", "on a mat"], ["the cat, sat.", "on mat too"])
    assert rates["wer"] == pytest.approx(2 / 6)  # a missing, too one too many
    assert rates["cer"] == pytest.approx(5 / 19)  # 2 letters missing, 3 of " too" and a space
    assert error_rates(["one"], ["a b c"])["wer"] == 3.0  # insertions count, so that a rate can exceed 1
    assert np.isnan(error_rates([""], ["a"])["wer"])


def test_letters_of_all_languages_and_apostrophes_stay():
    assert normalise_text(" Don\u2019t -- 'Stop',  Zoë_2! ") == "don't stop zoë 2"
