# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How sure a mean is: percentile intervals of means over prompts, drawn again and again with a fixed seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

NUM_RESAMPLES = 10_000
LEVEL = 0.95


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """Estimate where the mean would lie with other prompts.

    Args:
        values (sequence of `float`): one figure of each prompt; NaN entries are left out.
        seed (`int`, defaults to 0): of the draws.
        num_resamples (`int`, defaults to 10000): draws of as many prompts, with replacement.
        level (`float`, defaults to 0.95): share of the draws whose mean lies inside.

    Returns:
        `tuple[float, float]`: lower and upper end; NaN where there is no value.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(len(known), size=(num_resamples, len(known)))
    low, high = np.quantile(known[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(values: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Give `mean`, `low` and `high` (the bootstrap interval) and `count` of figures; NaN entries are left out."""
    known = [value for value in values if not np.isnan(value)]
    low, high = bootstrap_interval(known, seed)
    return {"mean": float(np.mean(known)) if known else float("nan"), "low": low, "high": high, "count": len(known)}


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Summarise `first - second`, prompt by prompt; with an interval that leaves out 0 the difference is significant.

    Args:
        first (sequence of `float`): one figure of each prompt.
        second (sequence of `float`): that of another system for the same prompts.
        seed (`int`, defaults to 0): of the draws.

    Returns:
        `dict`: as of [`summarise`].

    Raises:
        ValueError: the lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"There are {len(first)} and {len(second)} figures; give both for the same prompts.")
    return summarise([a - b for a, b in zip(first, second, strict=True)], seed)


__all__ = ["bootstrap_interval", "paired_difference", "summarise"]
