# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""transformers' Trainer as the stages need it: ready-made batches, the clock's schedule, checkpoints with seals.

In: a stage model and batches in parts (`data/crops.py`), one part for every process and accumulation step; a step's
loss is the mean over all labels of its batch, wherever they were computed, so one process and many learn the same.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerControl, TrainingArguments

from audiolm_hf.compat_audiolm import CHECKPOINTING
from audiolm_hf.training.checkpointing import remove_old_checkpoints, require_finite, seal_checkpoint, stop_diverged
from audiolm_hf.training.stages.bits import stage_bits
from audiolm_hf.training.stages.clock import TrainingClock, write_elapsed
from audiolm_hf.training.stages.config import StageTrainingConfig


class StageTrainer(Trainer):
    """transformers' Trainer over ready-made batches, with the clock's schedule and validation in bits per level.

    Args:
        clock ([`TrainingClock`]): says how far the training is.
        warmup_steps (`int`): steps of linear rise.
        bf16_evaluation (`bool`): as in training.
        **kwargs: of [`~transformers.Trainer`]; `eval_dataset` is a list of batches from [`validation_batches`].
    """

    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None
    control: TrainerControl

    def __init__(
        self,
        clock: TrainingClock,
        warmup_steps: int,
        bf16_evaluation: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=_only, **kwargs)
        self.remove_callback(PrinterCallback)  # the bar shows what it would print
        self.clock = clock
        self.warmup_steps = warmup_steps
        self.bf16_evaluation = bf16_evaluation

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        """Do one forward and backward pass; a loss that is not finite ends the training."""
        loss = super().training_step(*arguments, **options)
        if not bool(torch.isfinite(loss)):
            stop_diverged(f"the loss is {float(loss)}", self.state.global_step, Path(self.args.output_dir))
        return loss

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Leave out the head that a checkpoint does not repeat, as it is tied to the embeddings."""
        tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Warm up by steps, then follow the schedule over the share of the training that is done."""
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: self.clock.learning_rate_factor(step, self.warmup_steps),
            )
        return self.lr_scheduler

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure bits per token and accuracy on the validation batches, over all labels and per level."""
        metrics = {
            f"{metric_key_prefix}_{figure}" + ("" if name == "all" else f"_{name}"): values[figure]
            for name, values in self.validate(self.bf16_evaluation).items()
            for figure in ("bits", "accuracy")
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def validate(self, bf16: bool = False) -> dict[str, dict[str, float]]:
        """Score the validation batches, every process its share; see [`stage_bits`] for what is returned."""
        if "token_losses" not in vars(self.model):
            register_fsdp_forward_method(self.model, "token_losses")  # does nothing where the model is whole
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        return stage_bits(self.model, self.eval_dataset, bf16, *share)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        require_finite(self.model, self.state.global_step, Path(self.args.output_dir))
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir)
            checkpoint = folder / f"checkpoint-{self.state.global_step}"
            write_elapsed(checkpoint, self.clock)
            seal_checkpoint(checkpoint)
            best = self.state.best_model_checkpoint
            remove_old_checkpoints(folder, None if best is None else Path(best))
        self.accelerator.wait_for_everyone()

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # the batches are shuffled already


def _only(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate a list of one ready-made batch."""
    return batches[0]


def training_arguments(config: StageTrainingConfig, clock: TrainingClock) -> TrainingArguments:
    """Translate a stage's configuration for the Trainer.

    Args:
        config ([`StageTrainingConfig`]): the configuration.
        clock ([`TrainingClock`]): knows the number of steps.

    Returns:
        [`~transformers.TrainingArguments`].

    Raises:
        ValueError: `report_to` names what is not installed, or one process would use several accelerators.
    """
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"report_to names {name!r}, which is not installed; run `pip install {name}`.")
    arguments = TrainingArguments(
        output_dir=str(Path(config.output_folder) / "checkpoints"),
        max_steps=clock.step_limit,
        per_device_train_batch_size=1,  # one item is a whole part of a batch
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        adam_beta2=config.beta2,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        use_cpu=config.use_cpu or not torch.accelerator.is_available(),
        seed=config.seed,
        data_seed=config.seed,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=config.evaluation_steps,
        save_steps=config.evaluation_steps,
        load_best_model_at_end=True,
        metric_for_best_model="eval_bits",
        greater_is_better=False,
        logging_steps=config.logging_steps,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        use_cache=True,  # what the Trainer sets in the configuration is saved; the loss uses none
        ddp_find_unused_parameters=False,  # every parameter has its part in every loss
        report_to=config.report_to or "none",
        run_name=f"{config.stage}-{Path(config.output_folder).name}",
        disable_tqdm=True,  # ClockCallback draws the bar
        **{CHECKPOINTING: config.gradient_checkpointing, f"{CHECKPOINTING}_kwargs": {"use_reentrant": False}},
    )
    if arguments.n_gpu > 1:
        raise ValueError(
            f"One process sees {arguments.n_gpu} accelerators; start one process for each with `torchrun` or "
            "`accelerate launch`, or show it one (CUDA_VISIBLE_DEVICES=0)."
        )
    return arguments


__all__ = ["StageTrainer", "training_arguments"]
