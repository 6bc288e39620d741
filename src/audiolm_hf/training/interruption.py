# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Stop a training between two steps when it is interrupted, so that it resumes to the same result."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch

from audiolm_hf.training.processes import is_distributed, process_rank, sum_over_processes


class Interruption:
    """Whether SIGINT (Ctrl-C) or SIGTERM has come; the first of them lets the current step end."""

    def __init__(self) -> None:
        self.came = False

    def requested(self, device: torch.device | str = "cpu") -> bool:
        """Return whether to stop after this step, which all processes decide together."""
        if not is_distributed():
            return self.came
        return bool(sum_over_processes(torch.tensor(float(self.came), device=device)))

    def stop(self, step: int, folder: Path) -> NoReturn:
        """End the training after its checkpoint is saved."""
        raise KeyboardInterrupt(f"stopped at step {step}, which is saved in {folder}; the same command resumes.")


@contextmanager
def delayed_interruption() -> Iterator[Interruption]:
    """Delay the first SIGINT or SIGTERM of a training loop to the end of the step; a second one stops at once.

    An ignored signal, such as that of a background process, stays ignored.
    """
    interruption = Interruption()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def wait(number: int, frame: Any) -> None:
        interruption.came = True
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
