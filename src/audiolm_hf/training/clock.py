# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How far a training is, by steps or by time; its learning rate, its end, and its progress bar follow from that."""

import json
import math
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

CLOCK_FILE = "clock.json"
UNLIMITED_STEPS = 10**7  # stands for "no limit" where the Trainer wants a number
FINAL_FACTOR = 0.01  # of the peak learning rate


class TrainingClock:
    """The share of a training that is done: of its steps or of its minutes, whichever is further.

    Args:
        max_steps (`int`, *optional*): steps of the whole training.
        max_minutes (`float`, *optional*): minutes of the whole training, over all its resumptions.
    """

    def __init__(self, max_steps: int | None = None, max_minutes: float | None = None) -> None:
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self._before_s = 0.0
        self._started: float | None = None

    @property
    def step_limit(self) -> int:
        """`max_steps`, or a number that no training reaches."""
        return UNLIMITED_STEPS if self.max_steps is None else self.max_steps

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, those before a resumption included."""
        return self._before_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def start(self, before_s: float = 0.0) -> None:
        """Start to count, after `before_s` seconds of an earlier run."""
        self._before_s = before_s
        self._started = time.monotonic()

    def share_done(self, step: int) -> float:
        """Give the share of the training that is done after so many steps, 0 to 1."""
        shares = [0.0]
        if self.max_steps is not None:
            shares.append(step / self.max_steps)
        if self.max_minutes is not None:
            shares.append(self.elapsed_s / (60 * self.max_minutes))
        return min(1.0, max(shares))

    def learning_rate_factor(self, step: int, warmup_steps: int) -> float:
        """Give the learning rate of a step as a share of its peak: a linear rise, then a cosine."""
        rise = min(1.0, (step + 1) / max(1, warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * self.share_done(step)))
        return rise * (FINAL_FACTOR + (1 - FINAL_FACTOR) * cosine)


class ClockCallback(TrainerCallback):
    """Stops a Trainer when its clock has run out, keeps the time in its checkpoints, and draws a progress bar.

    Args:
        clock ([`TrainingClock`]): the clock.
    """

    def __init__(self, clock: TrainingClock) -> None:
        self.clock = clock
        self._bar: tqdm | None = None
        self._last: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock where the checkpoint left it."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / CLOCK_FILE
        self.clock.start(json.loads(path.read_text(encoding="utf-8"))["elapsed_s"] if path.is_file() else 0.0)
        if state.is_world_process_zero:
            self._bar = tqdm(total=self.clock.max_steps, initial=state.global_step, desc="train", unit="step")

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

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the time beside the checkpoint just written."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / CLOCK_FILE
        if state.is_world_process_zero and path.parent.is_dir():
            path.write_text(json.dumps({"elapsed_s": self.clock.elapsed_s}), encoding="utf-8")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


__all__ = ["ClockCallback", "TrainingClock"]
