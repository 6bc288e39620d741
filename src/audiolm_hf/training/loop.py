# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The training loop of all models except the stages, which use transformers' Trainer: log, trackers, checkpoints."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from audiolm_hf.progress import progress_bar
from audiolm_hf.training.checkpointing import append_log, load_training_state, rewind_log, save_training_state
from audiolm_hf.training.config import TrainingConfig, learning_rate_factor
from audiolm_hf.training.processes import announce, delayed_interruption
from audiolm_hf.training.run import describe_config


class TrainingLoop:
    """A loop of steps that resumes from its last checkpoint.

    A subclass sets the modules and optimizers to save. It defines `_train_step`, which returns the values shown in the
    progress bar, and `metrics`, which returns the values to log and is called in all processes. The random numbers of
    a step depend only on the seed and the step, so that checkpoints need no random state. `steps_before` is added to
    the steps in trackers.
    """

    modules: dict[str, nn.Module]  # by the names of their files
    optimizers: dict[str, Any]
    metrics: Any
    _train_step: Any

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        folder: Path,
        max_steps: int,
        save_steps: int,
        logging_steps: int,
        decay_steps: int | None = None,
        steps_before: int = 0,
    ) -> None:
        self.config, self.accelerator = config, accelerator
        self.folder, self.checkpoints = folder, folder / "checkpoints"
        self.max_steps, self.decay_steps, self.steps_before = max_steps, decay_steps, steps_before
        self.save_steps, self.logging_steps = save_steps, logging_steps
        self.step = 0
        self.state: dict[str, Any] = {}  # saved in the checkpoints as JSON

    def run(self) -> None:
        """Train to the last step."""
        self._resume()
        progress = progress_bar(
            total=self.max_steps,
            initial=self.step,
            desc=self.folder.name,
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        shown: dict[str, float] = {}
        with progress, delayed_interruption() as interruption:
            while self.step < self.max_steps:
                shown |= self._train_step()
                self.step += 1
                stopping, last = interruption.requested(self.accelerator.device), self.step == self.max_steps
                if last or self.step % self.logging_steps == 0:
                    shown |= {name: value for name, value in self._log().items() if name.startswith("valid")}
                if last or stopping or self.step % self.save_steps == 0:
                    self._save()
                progress.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)
                progress.update()
                if stopping:
                    interruption.stop(self.step, self.checkpoints)

    def start_step(self, optimizer: Any) -> None:
        """Seed the random numbers of a step, and set its learning rate."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        share = learning_rate_factor(self.step, self.max_steps, self.config.warmup_steps, self.decay_steps)
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share * group.get("learning_rate_factor", 1.0)

    def optimize(self, loss: torch.Tensor, module: nn.Module, optimizer: Any) -> None:
        """Update the weights of a module, with clipped gradients."""
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(module.parameters(), self.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    def _log(self) -> dict[str, float]:
        metrics = self.metrics()
        if self.accelerator.is_main_process:
            append_log(self.folder / "log.jsonl", {"step": self.step, **metrics})
        self.accelerator.log(metrics, step=self.steps_before + self.step)
        return metrics

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_training_state(self.checkpoints, self.step, self.modules, self.optimizers, self.state)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state = load_training_state(self.checkpoints, self.modules, self.optimizers)
        if state is not None:
            self.step = state.pop("step")
            self.state.update(state)
            announce(f"Resuming {self.folder.name} from step {self.step}.")
        if self.accelerator.is_main_process:
            rewind_log(self.folder / "log.jsonl", self.step)
        self.accelerator.wait_for_everyone()


def require_trackers(config: TrainingConfig) -> None:
    """Check that the packages of `report_to` are installed; a missing one raises an `ImportError`."""
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"report_to names {name!r}, which is not installed; run `pip install {name}`.")


def start_accelerator(config: TrainingConfig, name: str, **options: Any) -> Accelerator:
    """Build the accelerator of this process with `options`, and open the trackers as project `name`."""
    require_trackers(config)
    accelerator = Accelerator(
        mixed_precision="bf16" if config.bf16 else "no",
        cpu=config.use_cpu or not torch.accelerator.is_available(),
        log_with=list(config.report_to) or None,
        project_dir=config.output_folder,
        **options,
    )
    plain = (bool, int, float, str)
    settings, _ = describe_config(config)  # without the paths of this machine
    values = {key: value if isinstance(value, plain) else str(value) for key, value in settings.items()}
    accelerator.init_trackers(f"audiolm_hf-{name}", values)
    return accelerator


def stop_tracking(accelerator: Accelerator) -> None:
    """Close the trackers, without leaving the process group as `Accelerator.end_training` does."""
    for tracker in accelerator.trackers:
        tracker.finish()
