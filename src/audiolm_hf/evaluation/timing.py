# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Seconds of a call, with all that an accelerator still has to do for it; shared by the measurements of speed."""

import platform
import time
from collections.abc import Callable

import torch


def synchronize(device: str) -> None:
    """Wait until an accelerator has done all that it was given."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()


def time_call(run: Callable[[], object], device: str) -> float:
    """Seconds of one call, the device's work included."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def device_name(device: str) -> str:
    """What the driver calls the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads" if device == "cpu" else device


__all__ = ["device_name", "synchronize", "time_call"]
