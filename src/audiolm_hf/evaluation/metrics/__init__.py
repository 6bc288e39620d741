# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Metrics as modules of `evaluate`: each folder holds one, for `evaluate.load`."""

from pathlib import Path


def metric_folder(name: str) -> str:
    """Find a metric that comes with the package.

    Args:
        name (`str`): one of [`list_metrics`].

    Returns:
        `str`: path for `evaluate.load`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in list_metrics():
        raise ValueError(f"There is no metric {name!r}; there are {list_metrics()}.")
    return str(Path(__file__).parent / name)


def list_metrics() -> list[str]:
    """Name the metrics that come with the package, sorted."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/*.py"))


__all__ = ["list_metrics", "metric_folder"]
