# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Metrics of a detector of generated audio from its scores, of which higher ones are more real."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

THRESHOLD = 0.5  # clips of lower scores are called generated
NUM_RESAMPLES = 1000
FALSE_POSITIVE_RATES = (1e-2, 1e-3)


def _error_rates(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores, the labels (1 for real), and the rates of both errors at every threshold, stacked."""
    scores, labels = np.concatenate([real, generated]), np.repeat([1, 0], [len(real), len(generated)])
    accepted, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    return scores, labels, np.stack([1 - found, accepted])


def equal_error_rate(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the rate at which as many real clips are called generated as generated ones real.

    Between two thresholds, the rates are interpolated: 0.5 if all scores are equal.
    """
    _, _, (missed, accepted) = _error_rates(np.asarray(real), np.asarray(generated))
    place = int(np.argmax(missed <= accepted))  # rates of missed ones fall from 1, those of accepted ones rise from 0
    gap = missed[place] - accepted[place], missed[place - 1] - accepted[place - 1]
    share = gap[1] / (gap[1] - gap[0])
    return float(missed[place - 1] + share * (missed[place] - missed[place - 1]))


def even_odds_threshold(real: ArrayLike, generated: ArrayLike) -> float | None:
    """Return the score at which both labels are equally likely by a logistic regression (Platt scaling).

    Both classes have the same weight. None if real clips do not have the higher scores on average.
    """
    real, generated = np.asarray(real), np.asarray(generated)
    if not real.mean() > generated.mean():
        return None
    scores, labels = np.concatenate([real, generated]), np.repeat([1, 0], [len(real), len(generated)])
    standard = (scores - scores.mean()) / scores.std()
    fitted = LogisticRegression(class_weight="balanced").fit(standard[:, None], labels)
    return float(scores.mean() - scores.std() * fitted.intercept_[0] / fitted.coef_[0, 0])


def balanced_accuracy(real: ArrayLike, generated: ArrayLike) -> float:
    """Return the mean of both classes' accuracies at the threshold."""
    return float(np.mean([(np.asarray(real) >= THRESHOLD).mean(), (np.asarray(generated) < THRESHOLD).mean()]))


def detection_metrics(real: ArrayLike, generated: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Return the metrics of the scores of real and of generated clips, all finite, one or more of each.

    They are `accuracy` at 0.5, the mean of both classes', and the share of real clips below 0.5, `false_positives`;
    `eer` with its 95 % bootstrap interval over the clips (`eer_low`, `eer_high`); `auc`; `tpr_at_0.01` and
    `tpr_at_0.001`, the shares of generated clips that are found at thresholds that call at most this share of real
    clips generated; `num_real` and `num_generated`.
    """
    classes = tuple(np.asarray(scores, dtype=np.float64) for scores in (real, generated))
    for name, scores in zip(("real", "generated"), classes, strict=True):
        if not len(scores) or not np.isfinite(scores).all():
            raise ValueError(f"There are {len(scores)} scores of {name} clips; give at least one, all of them finite.")
    scores, labels, (missed, accepted) = _error_rates(*classes)
    interval = (
        bootstrap(
            classes,
            equal_error_rate,
            n_resamples=NUM_RESAMPLES,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        if min(map(len, classes)) > 1
        else None
    )
    eer = equal_error_rate(*classes)
    return {
        "accuracy": balanced_accuracy(*classes),
        "false_positives": float((classes[0] < THRESHOLD).mean()),
        "eer": eer,
        "eer_low": eer if interval is None else float(interval.low),
        "eer_high": eer if interval is None else float(interval.high),
        "auc": float(roc_auc_score(labels, scores)),
        **{
            f"tpr_at_{rate:g}": float((1 - accepted[missed <= rate]).max(initial=0.0)) for rate in FALSE_POSITIVE_RATES
        },
        "num_real": len(classes[0]),
        "num_generated": len(classes[1]),
    }
