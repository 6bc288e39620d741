# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How many threads a command uses: what suits the model, and no more than the process may use.

torch starts a thread for every core. With a small model, waiting for threads takes longer than computing.
"""

import os
import re
from pathlib import Path

import torch
from torch import nn

# Each product of a decoding step reads all weights once; below this many, a second thread costs more than it saves.
WEIGHTS_PER_THREAD = 25_000_000
THREADS_PER_CPU = 4  # at most

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use: its affinity, and the quota of its container."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _CGROUP / "cpu.max"  # "max 100000", or microseconds of processor time in each period
    allowed, _, period = quota.read_text().partition(" ") if quota.is_file() else ("max", "", "")
    return cpus if allowed == "max" else max(1, min(cpus, int(allowed) // int(period)))


def check_threads(asked: int | None) -> None:
    """Check that there are not far more threads than CPUs, with which OpenMP is slow and can crash."""
    limit = THREADS_PER_CPU * usable_cpus()
    if asked is not None and asked > limit:
        raise ValueError(f"--threads is {asked}; this process may use {usable_cpus()} CPUs, so give at most {limit}.")


def set_threads(model: nn.Module, asked: int | None = None) -> str:
    """Set torch's number of threads, and return a phrase with the number and its reason.

    The number is that `asked` for, that of `OMP_NUM_THREADS`, or one for every 25 million weights of the largest part.
    """
    check_threads(asked)
    if asked is not None:
        threads, reason = asked, "as asked"
    elif re.fullmatch(r"\s*0*[1-9]\d*\s*(,.*)?", os.environ.get("OMP_NUM_THREADS", "")):  # as OpenMP reads it
        threads, reason = torch.get_num_threads(), "as OMP_NUM_THREADS says"
    else:
        parts = list(model.children()) or [model]
        weights = max(sum(weight.numel() for weight in part.parameters()) for part in parts)
        threads = max(1, min(usable_cpus(), weights // WEIGHTS_PER_THREAD))
        reason = f"the largest part has {weights / 1e6:.1f} million weights; --threads sets another number"
    torch.set_num_threads(threads)
    return f"{threads} thread{'s' if threads > 1 else ''} ({reason})"
