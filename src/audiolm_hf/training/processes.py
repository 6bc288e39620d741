# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training in several processes, which an interruption ends between two steps.

Every process draws the whole batch and takes its rows, and the denominators of losses are summed over all processes,
so that the steps are those of one process with the same batch.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers.utils import logging

from audiolm_hf.run_folder import Interrupted

logger = logging.get_logger(__name__)

REST_S = 0.2  # what gloo's threads need to release their last tensors


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def process_count() -> int:
    """Return the number of processes that train together."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def process_rank() -> int:
    """Return the number of this process among those that `torchrun` started; 0 for one alone."""
    return int(os.environ.get("RANK", "0"))


def training_device(use_cpu: bool) -> torch.device:
    """Return the accelerator of this machine, or the CPU without one or if asked for."""
    accelerator = None if use_cpu or not torch.accelerator.is_available() else torch.accelerator.current_accelerator()
    return accelerator or torch.device("cpu")


def announce(text: str) -> None:
    """Log the progress of a training in the main process; `transformers.logging` can disable it."""
    if not process_rank():
        logger.warning(text)


def own_rows(batch_size: int) -> slice:
    """Return the rows of a batch (its size is over all processes) that belong to this process."""
    count = process_count()
    if batch_size % count:
        raise ValueError(f"batch_size is {batch_size}; give a multiple of {count}, the number of processes.")
    return slice(torch.distributed.get_rank() if count > 1 else 0, None, count)


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of the `values` of all processes, without gradients."""
    total = values.detach().clone()
    if is_distributed():
        torch.distributed.all_reduce(total)
    return total


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of the `values` of all processes, without gradients."""
    return sum_over_processes(values) / process_count()


def leave_processes() -> None:
    """Leave the process group, because its threads may abort a process that exits."""
    if is_distributed():
        # Leaving joins gloo's threads while it holds Python's lock, which they may still wait for: torch 2.6 then
        # never returned.
        torch.distributed.barrier()
        time.sleep(REST_S)
        torch.distributed.destroy_process_group()


class Interruption:
    """Whether SIGINT (Ctrl-C) or SIGTERM has come; the first of them lets the current step end."""

    def __init__(self) -> None:
        self.number = 0

    def requested(self, device: torch.device | str = "cpu") -> bool:
        """Return whether to stop after this step, which all processes decide together."""
        if not is_distributed():
            return bool(self.number)
        return bool(sum_over_processes(torch.tensor(float(self.number), device=device)))

    def stop(self, step: int, folder: Path) -> NoReturn:
        """End the training after its checkpoint is saved."""
        message = f"stopped at step {step}, which is saved in {folder}; the same command resumes."
        raise Interrupted(message, self.number or signal.SIGINT)


@contextmanager
def delayed_interruption() -> Iterator[Interruption]:
    """Delay the first SIGINT or SIGTERM, unless ignored, to the end of the step; a second one stops at once."""
    interruption = Interruption()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def wait(number: int, frame: Any) -> None:
        interruption.number = number
        restore()
        if not process_rank():
            sys.stderr.write("\nStopping after this step; a second signal stops at once.\n")

    if threading.current_thread() is threading.main_thread():  # others cannot have handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, wait)
    try:
        yield interruption
    finally:
        restore()
