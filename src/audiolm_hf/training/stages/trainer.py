# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""transformers' Trainer for the stages, with prepared batches, a learning-rate schedule, and hashed checkpoints.

The loss of a step is the mean over all labels of its batch, so that the result does not depend on the number of
processes and accumulation steps.
"""

import errno
import json
import math
import os
import shutil
import time
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from audiolm_hf.compat_audiolm import CHECKPOINTING
from audiolm_hf.files import write_json
from audiolm_hf.progress import progress_bar
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX
from audiolm_hf.training.checkpointing import remove_old_checkpoints, require_finite, seal_checkpoint, stop_diverged
from audiolm_hf.training.config import learning_rate_factor
from audiolm_hf.training.flops import peak_flops
from audiolm_hf.training.loop import require_trackers
from audiolm_hf.training.processes import Interruption, announce
from audiolm_hf.training.stages.bits import stage_bits
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.distillation import GuidanceTeacher

ADAM_BETA2 = 0.95
FINAL_SHARE = 0.01  # final learning rate as a share of the peak
_SHARED_ARGUMENTS = (  # keys that transformers' `TrainingArguments` also has
    *("max_steps", "learning_rate", "weight_decay", "max_grad_norm", "bf16", "seed"),
    *("gradient_accumulation_steps", "logging_steps"),
)
LOADING_PROCESSES = 4  # prepare batches while an accelerator computes
NEARLY_FULL = 2**20  # with fewer free bytes than this, a failed save is attributed to a full disk


class StageTrainer(Trainer):
    """transformers' Trainer for prepared batches (a list in `eval_dataset`), with MFU in the log.

    With a `teacher`, its predictions replace the labels as targets, in training and in validation.
    """

    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None
    control: TrainerControl

    def __init__(
        self,
        config: StageTrainingConfig,
        flops_per_token: float,
        teacher: GuidanceTeacher | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=itemgetter(0), **kwargs)  # an item is a prepared batch
        self.teacher = teacher
        self.remove_callback(PrinterCallback)  # the progress bar shows the metrics
        self.add_callback(_BestCheckpoint)
        self.config = config
        self.flops_per_token = flops_per_token
        self._logged_at = time.monotonic()
        self._tokens = 0  # tokens since the last log

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], *arguments: Any) -> Tensor:
        """Run a forward and backward pass; a loss that is not finite stops the training."""
        self._tokens += inputs["input_ids"].numel()
        loss = super().training_step(model, inputs, *arguments)
        if not bool(torch.isfinite(loss)):
            stop_diverged(f"the loss is {float(loss)}", self.state.global_step, Path(self.args.output_dir))
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch, or of this process's part of it."""
        if self.teacher is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        losses = self._distilled(model, **inputs)[0].sum()
        count = (inputs["labels"] != IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch
        return losses * self.accelerator.num_processes / count  # DDP takes the mean of the processes

    def _distilled(
        self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        uncached = {} if labels.dim() == 3 else {"use_cache": False}  # an encoder has no cache
        logits = model(input_ids=input_ids, attention_mask=attention_mask, **uncached).logits
        return self.teacher.losses(logits, input_ids, attention_mask, labels)

    def log(self, logs: dict[str, float], *arguments: Any) -> None:
        """Add the speed and, on a known accelerator, the model FLOPs utilization (MFU) to the training metrics."""
        if "loss" in logs:
            now = time.monotonic()
            logs["tokens_per_s"] = self.args.world_size * self._tokens / (now - self._logged_at)
            if (peak := peak_flops(self.args.device)) is not None:
                logs["mfu"] = logs["tokens_per_s"] * self.flops_per_token / (self.args.world_size * peak)
            self._logged_at, self._tokens = now, 0
        super().log(logs, *arguments)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Suppress the warning about the head, which checkpoints lack because it is tied to the embeddings."""
        tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Build the learning-rate schedule, see [`learning_rate_factor`]."""
        if self.lr_scheduler is None:
            steps, warmup, decay = self.config.max_steps, self.config.warmup_steps, self.config.decay_steps
            decay = steps if decay is None else decay
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: learning_rate_factor(step, steps, warmup, decay, floor=FINAL_SHARE),
            )
        return self.lr_scheduler

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute bits per token and accuracy on the validation batches, over all labels and per level."""
        metrics = {
            f"{metric_key_prefix}_{metric}" + ("" if name == "all" else f"_{name}"): values[metric]
            for name, values in self.validate(self.config.bf16).items()
            for metric in ("bits", "accuracy")
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def validate(self, bf16: bool = False) -> dict[str, dict[str, float]]:
        """Return [`stage_bits`] of the validation batches, which are divided among the processes."""
        if "token_losses" not in vars(self.model):
            register_fsdp_forward_method(self.model, "token_losses")  # no effect without FSDP
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        losses = self.model.token_losses if self.teacher is None else partial(self._distilled, self.model)
        return stage_bits(self.model, self.eval_dataset, bf16, *share, token_losses=losses)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        require_finite(self.model, self.state.global_step, Path(self.args.output_dir))
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:  # torch.save does not report a full disk as such
            if shutil.disk_usage(self.args.output_dir).free > NEARLY_FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.args.output_dir) from error
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir)
            checkpoint = folder / f"checkpoint-{self.state.global_step}"
            (checkpoint / TRAINING_ARGS_NAME).unlink()  # only has settings and paths of this machine
            state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            write_json(checkpoint / TRAINER_STATE_NAME, state | {"best_model_checkpoint": None})
            seal_checkpoint(checkpoint)
            best = self.state.best_model_checkpoint
            remove_old_checkpoints(folder, None if best is None else Path(best))
        self.accelerator.wait_for_everyone()


class _BestCheckpoint(TrainerCallback):
    """A callback that finds the best checkpoint of a resumed training, whose folder may have been moved."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.best_global_step:
            state.best_model_checkpoint = str(Path(args.output_dir) / f"checkpoint-{state.best_global_step}")


class _TrainingArguments(TrainingArguments):
    """`TrainingArguments` that pass no absolute paths to trackers."""

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict().items()
        return {
            key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            for key, value in values
        }


def training_arguments(config: StageTrainingConfig) -> TrainingArguments:
    """Return the `TrainingArguments` of a stage's configuration."""
    require_trackers(config)
    use_cpu = config.use_cpu or not torch.accelerator.is_available()
    eval_steps = min(config.eval_steps, config.max_steps)  # validate at least once
    arguments = _TrainingArguments(
        **{name: getattr(config, name) for name in _SHARED_ARGUMENTS},
        eval_steps=eval_steps,
        output_dir=str(Path(config.output_folder) / "checkpoints"),
        per_device_train_batch_size=1,  # an item is a part of a batch
        adam_beta2=ADAM_BETA2,
        use_cpu=use_cpu,
        data_seed=config.seed,
        train_sampling_strategy="sequential",  # the batches are already shuffled
        eval_strategy="steps",
        save_strategy="steps",
        save_steps=eval_steps,
        load_best_model_at_end=True,
        metric_for_best_model="eval_bits",
        greater_is_better=False,
        dataloader_num_workers=0 if use_cpu else LOADING_PROCESSES,
        remove_unused_columns=False,
        use_cache=True,  # the Trainer saves this value in the configuration; the loss does not use a cache
        ddp_find_unused_parameters=False,  # every loss depends on all parameters
        report_to=config.report_to or "none",
        run_name=f"{config.stage}-{Path(config.output_folder).name}",
        disable_tqdm=True,  # replaced by ProgressCallback
        **{CHECKPOINTING: config.gradient_checkpointing, f"{CHECKPOINTING}_kwargs": {"use_reentrant": False}},
    )
    if arguments.n_gpu > 1:
        raise ValueError(
            f"One process sees {arguments.n_gpu} accelerators; start one process for each with `torchrun` or "
            "`accelerate launch`, or show it one (CUDA_VISIBLE_DEVICES=0)."
        )
    return arguments


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
    """Ends the training after `patience` validations without improvement, counted in the log, also when resumed."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        values = [entry["eval_bits"] for entry in state.log_history if "eval_bits" in entry]
        if self.patience and values and len(values) - 1 - values.index(min(values)) >= self.patience:
            control.should_training_stop = True

    on_train_begin = on_evaluate  # for a training that was interrupted after its last validation
