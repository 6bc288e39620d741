# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How far a training is, by steps or by time; its learning rate, its end, and its progress bar follow from that."""

import json
import math
import time
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from audiolm_hf.training.processes import announce

CLOCK_FILE = "clock.json"
UNLIMITED_STEPS = 10**7  # stands for "no limit" where the Trainer wants a number
FINAL_FACTOR = 0.01  # of the peak learning rate


class TrainingClock:
    """The share of a training that is done: of its steps or of its minutes, whichever is further.

    The clock stands still between readings, and a reading is the main process's on every process, so that all of
    them take the same learning rate and stop after the same step.

    Args:
        max_steps (`int`, *optional*): steps of the whole training.
        max_minutes (`float`, *optional*): minutes of the whole training, over all its resumptions.
        schedule (`"cosine"`, `"linear"` or `"constant"`, defaults to `"cosine"`): the learning rate after its rise;
            the first two end at a hundredth of the peak.
    """

    def __init__(
        self,
        max_steps: int | None = None,
        max_minutes: float | None = None,
        schedule: Literal["cosine", "linear", "constant"] = "cosine",
    ) -> None:
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self.schedule = schedule
        self.elapsed_s = 0.0  # seconds of training at the last reading, those before a resumption included
        self._before_s = 0.0
        self._started: float | None = None

    @property
    def step_limit(self) -> int:
        """`max_steps`, or a number that no training reaches."""
        return UNLIMITED_STEPS if self.max_steps is None else self.max_steps

    def start(self, before_s: float = 0.0) -> None:
        """Start to count, after `before_s` seconds of an earlier run."""
        self.elapsed_s = self._before_s = before_s
        self._started = time.monotonic()

    def read(self, device: torch.device | None = None) -> None:
        """Take the time; where it decides anything, the main process tells it to the others.

        Args:
            device (`torch.device`, *optional*): that the processes exchange tensors on.
        """
        if self._started is not None:
            self.elapsed_s = self._before_s + time.monotonic() - self._started
        if self.max_minutes is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            told = torch.tensor(self.elapsed_s, dtype=torch.float64, device=device)
            torch.distributed.broadcast(told, src=0)
            self.elapsed_s = float(told)

    def share_done(self, step: int) -> float:
        """Give the share of the training that is done after so many steps, 0 to 1."""
        shares = [0.0]
        if self.max_steps is not None:
            shares.append(step / self.max_steps)
        if self.max_minutes is not None:
            shares.append(self.elapsed_s / (60 * self.max_minutes))
        return min(1.0, max(shares))

    def learning_rate_factor(self, step: int, warmup_steps: int) -> float:
        """Give the learning rate of a step as a share of its peak: a linear rise, then the schedule."""
        rise = min(1.0, (step + 1) / max(1, warmup_steps))
        done = self.share_done(step)
        left = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[self.schedule]
        return rise * (FINAL_FACTOR + (1 - FINAL_FACTOR) * left)


def write_elapsed(folder: Path, clock: TrainingClock) -> None:
    """Put the time of a clock into a checkpoint's folder."""
    (folder / CLOCK_FILE).write_text(json.dumps({"elapsed_s": clock.elapsed_s}), encoding="utf-8")


def read_elapsed(folder: Path) -> float:
    """Give the seconds that [`write_elapsed`] put into a folder; 0 where there are none."""
    path = folder / CLOCK_FILE
    return json.loads(path.read_text(encoding="utf-8"))["elapsed_s"] if path.is_file() else 0.0


class ClockCallback(TrainerCallback):
    """Reads the clock at every step, stops a Trainer when it has run out, and draws a progress bar.

    Args:
        clock ([`TrainingClock`]): the clock.
        name (`str`): of the training, for the bar.
    """

    def __init__(self, clock: TrainingClock, name: str) -> None:
        self.clock = clock
        self.name = name
        self._bar: tqdm | None = None
        self._last: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock where the checkpoint left it."""
        self.clock.start(read_elapsed(Path(args.output_dir) / f"checkpoint-{state.global_step}"))
        if state.global_step:
            announce(f"Resuming {self.name} from step {state.global_step}.")
        if state.is_world_process_zero:
            self._bar = tqdm(total=self.clock.max_steps, initial=state.global_step, desc=self.name, unit="step")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the clock, before the next learning rate and the end are decided by it."""
        self.clock.read(args.device)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance the bar; at the end of the time, validate, save and stop."""
        if self.clock.share_done(state.global_step) >= 1:
            control.should_evaluate = True
            control.should_save = True
            control.should_training_stop = True
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the training loss in bits, the last validation and the time left of a time budget."""
        logs = logs or {}
        if "loss" in logs:
            self._last["bits"] = f"{float(logs['loss']) / math.log(2):.3f}"
        if "eval_bits" in logs:
            self._last["validation"] = f"{logs['eval_bits']:.3f}"
        if self.clock.max_minutes is not None:
            self._last["left"] = f"{max(0.0, self.clock.max_minutes - self.clock.elapsed_s / 60):.1f} min"
        if self._bar is not None:
            self._bar.set_postfix(self._last)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


__all__ = ["ClockCallback", "TrainingClock", "read_elapsed", "write_elapsed"]
