# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Available memory, and a check that work fits into it before it begins."""

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes of memory available to this process in its machine and container."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        entries = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(entries["MemAvailable"].split()[0]) * 1024
    elif hasattr(os, "sysconf"):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:  # Windows does not say
        available = 2**62
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        available = min(available, int(text) - int(used.read_text()))
    return max(0, available)


def check_memory(needed: float, what: str, advice: str, device: torch.device | None = None) -> None:
    """Check that work fits into memory.

    Args:
        needed (`float`): required bytes.
        what (`str`): name of the work, for the beginning of the error message.
        advice (`str`): what to change, for the end of the error message.
        device (`torch.device`, *optional*): device of the work; for a GPU, its total memory is used.

    Raises:
        ValueError: less memory is available.
    """
    if device is not None and device.type == "meta":
        return
    on_gpu = device is not None and device.type == "cuda"
    available = torch.cuda.get_device_properties(device).total_memory if on_gpu else available_memory()
    if needed > available:
        raise ValueError(
            f"{what} would take about {needed / 1e9:.3g} GB of memory, and {available / 1e9:.3g} GB are available; "
            f"{advice}."
        )
