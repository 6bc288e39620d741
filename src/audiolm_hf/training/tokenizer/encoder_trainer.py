# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The training loop of `semantic_encoder.py` and `speaker_invariance.py`: steps, validations, log and checkpoints."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from audiolm_hf.training.checkpointing import (
    append_log,
    load_training_state,
    rewind_log,
    save_training_state,
    stop_diverged,
)
from audiolm_hf.training.config import TrainingConfig
from audiolm_hf.training.processes import announce, mean_over_processes
from audiolm_hf.training.schedule import learning_rate_factor

ADAM_BETAS = (0.9, 0.98)  # HuBERT


class EncoderTrainer:
    """Train a model, resuming from its last checkpoint.

    Args:
        config ([`TrainingConfig`]): optimizer and schedule.
        accelerator (`Accelerator`): precision, processes and trackers.
        model (`nn.Module`): returns the loss and the `metrics` of a batch, all of which become means over the batch
            when averaged over the processes. The learning rate of a child named `adversary` is multiplied by its
            `learning_rate_factor`.
        batch (`Callable[[int, int], Any]`): returns this process's part of a batch; the first argument is 0 for
            training and 1 for validation, the second one is the step.
        folder (`Path`): folder for `log.jsonl` and the checkpoints.
        max_steps (`int`): number of steps.
        save_steps (`int`): steps between checkpoints.
        metrics (`Sequence[str]`): names of the model's outputs after the loss.
        logging_steps (`int`): steps between entries of the log.
        validation_batches (`int`, defaults to 0): number of validation batches for each entry of the log.
        steps_before (`int`, defaults to 0): offset of the steps in a tracker.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: nn.Module,
        batch: Callable[[int, int], Any],
        folder: Path,
        max_steps: int,
        save_steps: int,
        metrics: Sequence[str],
        logging_steps: int,
        validation_batches: int = 0,
        steps_before: int = 0,
    ) -> None:
        self.config, self.accelerator, self.batch = config, accelerator, batch
        self.folder, self.checkpoints = folder, folder / "checkpoints"
        self.max_steps, self.save_steps, self.metrics = max_steps, save_steps, metrics
        self.logging_steps, self.validation_batches, self.steps_before = (
            logging_steps,
            validation_batches,
            steps_before,
        )
        optimizer = torch.optim.AdamW(_parameter_groups(model, config.weight_decay), betas=ADAM_BETAS)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.step = 0

    def run(self) -> None:
        """Train to the last step."""
        self._load_checkpoint()
        progress = tqdm(
            total=self.max_steps,
            initial=self.step,
            desc=self.folder.name,
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        while self.step < self.max_steps:
            metrics = self._train_step()
            self.step += 1
            progress.update()
            progress.set_postfix({name: f"{value:.3f}" for name, value in metrics.items()}, refresh=False)
            last = self.step == self.max_steps
            if last or self.step % self.logging_steps == 0:
                self._log({**metrics, **self._validate()})
            if last or self.step % self.save_steps == 0:
                self._save_checkpoint()
        progress.close()

    def _train_step(self) -> dict[str, float]:
        share = learning_rate_factor(self.step, self.max_steps, self.config.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share * group["learning_rate_factor"]
        # Dropout must not depend on the steps before resuming.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        self.model.train()
        batch = self.batch(0, self.step)
        with self.accelerator.autocast():
            loss, *metrics = self.model(batch)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        values = dict(zip(self.metrics, mean_over_processes(torch.stack(metrics)).tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                stop_diverged(f"{name} is {value}", self.step, self.checkpoints)
        return values

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        if not self.validation_batches:
            return {}
        self.model.eval()
        batches = [self.batch(1, index) for index in range(self.validation_batches)]
        with self.accelerator.autocast():
            results = [self.model(batch)[1:] for batch in batches]
        means = mean_over_processes(torch.stack([torch.stack(metrics) for metrics in results]).mean(dim=0))
        return {f"validation_{name}": value for name, value in zip(self.metrics, means.tolist(), strict=True)}

    def _log(self, metrics: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            append_log(self.folder / "log.jsonl", {"step": self.step, **metrics})
        self.accelerator.log(metrics, step=self.steps_before + self.step)

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.accelerator.unwrap_model(self.model)}

    def _save_checkpoint(self) -> None:
        if self.accelerator.is_main_process:
            save_training_state(self.checkpoints, self.step, self._modules(), {"optimizer": self.optimizer}, {})
        self.accelerator.wait_for_everyone()

    def _load_checkpoint(self) -> None:
        state = load_training_state(self.checkpoints, self._modules(), {"optimizer": self.optimizer})
        if state is not None:
            self.step = state["step"]
            announce(f"Resuming {self.folder.name} from step {self.step}.")
        if self.accelerator.is_main_process:
            rewind_log(self.folder / "log.jsonl", self.step)
        self.accelerator.wait_for_everyone()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups with weight decay for matrices only, and none for the adversary."""
    adversary = list(model.adversary.parameters()) if hasattr(model, "adversary") else []
    against = {id(parameter) for parameter in adversary}
    parameters = [parameter for parameter in model.parameters() if id(parameter) not in against]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    for group in groups:
        group["learning_rate_factor"] = 1.0
    if adversary:
        factor = model.adversary.learning_rate_factor
        groups.append({"params": adversary, "weight_decay": 0.0, "learning_rate_factor": factor})
    return groups
