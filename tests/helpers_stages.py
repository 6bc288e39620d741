# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Small trainings of the stages, run the same way by one process and by several; a case is what it changes."""

from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from audiolm_hf.settings import build
from audiolm_hf.training.stages.trainer import StageTrainer
from audiolm_hf.training.stages.training import StageTrainingConfig, build_stage_trainer

BACKBONE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
CASES = {
    "semantic": {"stage": "semantic", "corruption": 0.2},
    "coarse": {"stage": "coarse", "condition_dropout": 0.3, "window_length_s": 0.4},
    "fine": {"stage": "fine", "window_length_s": 0.6, "batch_tokens": 640},
    "accumulated": {"stage": "fine", "window_length_s": 0.6, "batch_tokens": 640, "gradient_accumulation_steps": 2},
    "checkpointing": {"stage": "fine", "window_length_s": 0.6, "batch_tokens": 640, "gradient_checkpointing": True},
    "sharded": {"stage": "fine", "window_length_s": 0.6, "batch_tokens": 640},
    "distilled": {"stage": "parallel", "initial_weights": "teacher", "distill_guidance_scale": 2, "batch_tokens": 400},
    "idle": {"stage": "semantic", "batch_tokens": 20},  # one sequence a batch: nothing is left for the second process
}


def config_of(folders, output, **changes):
    """A training of a tiny stage on the token datasets `folders`, for training and for validation."""
    values = {
        "stage": "semantic",
        "output_folder": str(output),
        "train_tokens": [str(folders[0])],
        "validation_tokens": [str(folders[1])],
        "backbone": BACKBONE,
        "window_length_s": 0.8,
        "num_coarse_codebooks": 2,
        "batch_tokens": 128,
        "max_steps": 6,
        "warmup_steps": min(2, changes.get("max_steps") or 2),
        "eval_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "bf16": False,
        "use_cpu": True,
    } | changes
    return build(StageTrainingConfig, values)


class InterruptedTrainingError(Exception):
    """Stands in for a killed process."""


@contextmanager
def interrupted_after(steps: int):
    """Let a training end after so many steps as if its process were killed."""
    step = StageTrainer.training_step

    def step_or_end(trainer, *arguments, **options):
        if trainer.state.global_step >= steps:
            raise InterruptedTrainingError
        return step(trainer, *arguments, **options)

    with pytest.raises(InterruptedTrainingError), patch.object(StageTrainer, "training_step", step_or_end):
        yield


def resumed_config(source: Path, output: Path):
    """A training of 4 steps."""
    changes = {"stage": "coarse", "eval_steps": 2, "max_steps": 4}
    changes |= {"codec": str(source / "codec"), "window_length_s": 0.4}
    return config_of((source / "train", source / "validation"), output, **changes)


def run_case(case: str, source: Path, output: Path, **changes) -> dict[str, torch.Tensor]:
    """Train a case: the weights after the last step, and the figures of every step and validation."""
    changes = CASES[case] | changes
    if "initial_weights" in changes:
        changes["initial_weights"] = str(source / changes["initial_weights"])
    config = config_of((source / "train", source / "validation"), output, **changes)
    trainer = build_stage_trainer(config)
    labels = []
    step = trainer.training_step

    def counted(model, inputs, *arguments):
        labels.append(int((inputs["labels"] != -100).sum()))
        return step(model, inputs, *arguments)

    trainer.training_step = counted
    trainer.train()
    weights = trainer.accelerator.get_state_dict(trainer.model)
    figures = {
        f"{name}-{entry['step']}": torch.tensor(entry[name])
        for entry in trainer.state.log_history
        for name in ("loss", "grad_norm", "learning_rate", "eval_bits", "eval_accuracy")
        if name in entry
    }
    figures["labels"] = torch.tensor(labels)
    figures["sharded"] = torch.tensor(isinstance(trainer.model, FSDPModule))
    return {name: tensor.detach().clone() for name, tensor in weights.items()} | figures
