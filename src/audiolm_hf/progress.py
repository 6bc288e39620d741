# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The progress bar of all commands, which writes little where standard error is not a terminal."""

import math
import sys
from collections.abc import Iterable, Sized
from typing import Any

from tqdm import tqdm

_SHARES = 10  # of the work, with a line after each
_INTERVAL_S = 30.0  # between lines where the amount of work is not known


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """Return a `tqdm` bar; in a pipe or a file it writes a line per tenth of the work, or else per 30 s."""
    if sys.stderr is not None and not sys.stderr.isatty():
        total = options.get("total", len(iterable) if isinstance(iterable, Sized) else None)
        interval_s, steps = (_INTERVAL_S, None) if total is None else (0.0, max(1, total / _SHARES))
        options |= {"mininterval": interval_s, "miniters": steps, "maxinterval": math.inf}
    return tqdm(iterable, **options)
