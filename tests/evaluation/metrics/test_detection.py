# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Error rates with known answers: a perfect detector, a coin, one that is always wrong, and ties."""

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics import detection
from audiolm_hf.evaluation.metrics.detection import detection_metrics, equal_error_rate, even_odds_threshold


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(detection, "NUM_RESAMPLES", 200)


@pytest.mark.parametrize(
    ("real", "generated", "expected"),
    [
        ([0.9, 0.8, 0.7], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.8, 0.9, 0.95], 1.0),
        ([0.5] * 3, [0.5] * 4, 0.5),  # ties
        ([0.0, 1.0], [0.0, 1.0], 0.5),
        ([0.9, 0.8, 0.7, 0.2], [0.1, 0.15, 0.3, 0.05], 0.25),
        ([0.9], [0.1], 0.0),
    ],
)
def test_equal_error_rate_has_known_answers(real, generated, expected):
    assert equal_error_rate(real, generated) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("real", "generated", "expected"),
    [
        ([0.9, 0.7, 0.8], [0.1, 0.2, 0.3], 0.5),
        ([0.9, 0.7, 0.8] * 5, [0.1, 0.2, 0.3], 0.5),  # both classes have the same weight
        ([2.0], [-4.0], -1.0),
        ([0.5] * 3, [0.5] * 4, None),
        ([0.1, 0.2], [0.8, 0.9], None),  # no threshold separates real clips from generated ones
    ],
)
def test_the_threshold_of_even_odds_has_known_answers(real, generated, expected):
    assert even_odds_threshold(real, generated) == (
        expected if expected is None else pytest.approx(expected, abs=0.01)
    )


def test_the_threshold_of_even_odds_is_that_of_a_slow_search():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(2, 1.5, 3000), rng.normal(-1, 1, 500)
    densities = [
        lambda x, each=each: np.exp(-((x - each.mean()) ** 2) / (2 * each.var())) / each.std()
        for each in (real, generated)
    ]
    grid = np.linspace(-1, 2, 601)
    crossing = grid[np.argmin(abs(densities[0](grid) - densities[1](grid)))]
    assert even_odds_threshold(real, generated) == pytest.approx(crossing, abs=0.2)
    assert even_odds_threshold(3 * real - 7, 3 * generated - 7) == pytest.approx(
        3 * even_odds_threshold(real, generated) - 7
    )


def test_equal_error_rate_is_where_both_errors_are_equal():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(1, 1, 4000), rng.normal(-1, 1, 4000)
    assert equal_error_rate(real, generated) == pytest.approx(0.1587, abs=0.015)  # of two normal distributions
    assert equal_error_rate(3 * real - 7, 3 * generated - 7) == equal_error_rate(real, generated)
    assert equal_error_rate(-generated, -real) == pytest.approx(equal_error_rate(real, generated))


def test_metrics_of_a_coin_and_of_a_perfect_detector():
    rng = np.random.default_rng(1)
    coin = detection_metrics(rng.random(300), rng.random(300))
    assert coin["eer"] == pytest.approx(0.5, abs=0.08) and coin["eer_low"] < 0.5 < coin["eer_high"]
    assert coin["auc"] == pytest.approx(0.5, abs=0.08) and coin["accuracy"] == pytest.approx(0.5, abs=0.08)
    assert coin["tpr_at_0.01"] < 0.1
    assert detection_metrics([0.9, 0.8, 0.4, 0.5], [0.1, 0.6])["false_positives"] == 0.25
    perfect = detection_metrics([0.9, 0.8, 0.6], [0.1, 0.4])
    assert perfect == {
        **{
            "accuracy": 1,
            "false_positives": 0,
            "eer": 0,
            "eer_low": 0,
            "eer_high": 0,
            "auc": 1,
            "tpr_at_0.01": 1,
            "tpr_at_0.001": 1,
        },
        **{"num_real": 3, "num_generated": 2},
    }


def test_rates_of_detection_are_those_at_few_false_alarms():
    real = np.linspace(0.1, 1, 200)  # two of 200 are 1 %
    generated = np.array([0.0, 0.05, 0.103, 0.5])
    metrics = detection_metrics(real, generated)
    assert metrics["tpr_at_0.001"] == 0.5 and metrics["tpr_at_0.01"] == 0.75


def test_accuracy_weighs_both_classes_the_same():
    assert detection_metrics([0.9] * 9 + [0.1], [0.6])["accuracy"] == pytest.approx(0.45)


@pytest.mark.parametrize(("real", "generated"), [([], [0.1]), ([0.1], []), ([float("nan")], [0.1])])
def test_missing_scores_are_refused(real, generated):
    with pytest.raises(ValueError, match="scores of (real|generated) clips; give at least one"):
        detection_metrics(real, generated)
