# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Means over prompts with percentile bootstrap intervals by `scipy.stats.bootstrap`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
_LARGEST_BATCH = 10**7  # resampled values at a time


def summarize(values: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Return the `mean`, its 95 % bootstrap interval `low` and `high`, and the `count` of values that are not NaN."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2:  # scipy needs several different values
        return {"mean": mean, "low": mean, "high": mean, "count": len(known)}
    interval = bootstrap(
        (known,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        batch=max(1, min(NUM_RESAMPLES, _LARGEST_BATCH // len(known))),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {"mean": mean, "low": float(interval.low), "high": float(interval.high), "count": len(known)}


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Summarize the paired differences `first - second`; an interval without 0 is a significant difference."""
    if len(first) != len(second):
        raise ValueError(f"There are {len(first)} and {len(second)} values; give both for the same prompts.")
    return summarize(np.subtract(first, second).tolist(), seed)
