# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The training loop of the semantic encoder, its speaker-invariant fine-tuning, and the detector."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from audiolm_hf.training.checkpointing import stop_diverged
from audiolm_hf.training.config import TrainingConfig
from audiolm_hf.training.loop import TrainingLoop
from audiolm_hf.training.processes import mean_over_processes

ADAM_BETAS = (0.9, 0.98)  # HuBERT


class EncoderTrainer(TrainingLoop):
    """Train a model that computes its own loss.

    `model` returns the loss of a batch and one value for each of `names`; averaged over the processes, each must be
    the mean over the batch. The learning rate of a submodule `adversary` is multiplied by its `learning_rate_factor`.
    `batch(part, step)` returns this process's share of a batch; `part` is 0 for training and 1 for validation. `steps`
    are those of [`TrainingLoop`].
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: nn.Module,
        batch: Callable[[int, int], Any],
        folder: Path,
        names: Sequence[str],
        validation_batches: int = 0,
        **steps: int,
    ) -> None:
        super().__init__(config, accelerator, folder, **steps)
        self.batch, self.names, self.validation_batches = batch, names, validation_batches
        optimizer = torch.optim.AdamW(_parameter_groups(model, config.weight_decay), betas=ADAM_BETAS)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.modules, self.optimizers = {"model": model}, {"optimizer": self.optimizer}
        self.values: dict[str, float] = {}

    def _train_step(self) -> dict[str, float]:
        self.start_step(self.optimizer)
        self.model.train()
        batch = self.batch(0, self.step)
        with self.accelerator.autocast():
            loss, *values = self.model(batch)
        self.optimize(loss, self.model, self.optimizer)
        self.values = dict(zip(self.names, mean_over_processes(torch.stack(values)).tolist(), strict=True))
        for name, value in self.values.items():
            if not math.isfinite(value):
                stop_diverged(f"{name} is {value}", self.step, self.checkpoints)
        return self.values

    @torch.no_grad()
    def metrics(self) -> dict[str, float]:
        """Return the values of the last step and of the validation batches."""
        if not self.validation_batches:
            return self.values
        self.model.eval()
        batches = [self.batch(1, index) for index in range(self.validation_batches)]
        with self.accelerator.autocast():
            results = torch.stack([torch.stack(self.model(batch)[1:]) for batch in batches])
        means = mean_over_processes(results.mean(dim=0)).tolist()
        return self.values | {f"validation_{name}": value for name, value in zip(self.names, means, strict=True)}


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups with weight decay for matrices only, and none for the adversary."""
    adversary = list(model.adversary.parameters()) if hasattr(model, "adversary") else []
    adversary_ids = {id(parameter) for parameter in adversary}
    parameters = [parameter for parameter in model.parameters() if id(parameter) not in adversary_ids]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if adversary:
        factor = model.adversary.learning_rate_factor
        groups.append({"params": adversary, "weight_decay": 0.0, "learning_rate_factor": factor})
    return groups
