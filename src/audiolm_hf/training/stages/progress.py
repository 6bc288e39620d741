# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The progress bar of stage training, which replaces that of transformers' Trainer, and early ends."""

import math
from typing import Any

from transformers import TrainerCallback

from audiolm_hf.progress import progress_bar
from audiolm_hf.training.interruption import Interruption
from audiolm_hf.training.processes import announce


class ProgressCallback(TrainerCallback):
    """A progress bar with the training loss and the last validation loss in bits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar: Any = None
        self._shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step:
            announce(f"Resuming {self.name} from step {state.global_step}.")
        if state.is_world_process_zero:
            self._bar = progress_bar(total=state.max_steps, initial=state.global_step, desc=self.name, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self._shown["bits"] = f"{logs['loss'] / math.log(2):.3f}"
        if "eval_bits" in logs:
            self._shown["validation"] = f"{logs['eval_bits']:.3f}"
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class StopCallback(TrainerCallback):
    """Saves a checkpoint and ends the training after the step in which it is interrupted."""

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption
        self.stopping = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.interruption.requested(args.device):
            self.stopping = control.should_save = control.should_training_stop = True


class PatienceCallback(TrainerCallback):
    """Ends the training after `patience` validations without a better one; `None` never ends it.

    They are counted in the log, so that a resumed training ends where an uninterrupted one does.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        values = [entry["eval_bits"] for entry in state.log_history if "eval_bits" in entry]
        if self.patience and values and len(values) - 1 - values.index(min(values)) >= self.patience:
            control.should_training_stop = True

    on_train_begin = on_evaluate  # of a training that was interrupted after its last validation
