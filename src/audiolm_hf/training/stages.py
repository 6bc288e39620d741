# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Train one of the three stages on token datasets, with transformers' Trainer.

In: token datasets (`audiolm-hf tokenize`) and a configuration; out, in `output_folder`: `final/` (the best stage
model, `save_pretrained`), `checkpoints/` to resume from, and `report.json` (steps, time, bits per level).

Paper: AudioLM (arXiv 2209.03143), training of the three stages.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainerControl, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from audiolm_hf.configuration_audiolm import (
    AudioLMCoarseConfig,
    AudioLMFineConfig,
    AudioLMSemanticConfig,
    AudioLMStageConfig,
)
from audiolm_hf.data.crops import StageBatches, validation_batches
from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer
from audiolm_hf.data.tokens import TokenDataset, TokenInfo
from audiolm_hf.modeling_stage_audiolm import (
    AudioLMCoarseModel,
    AudioLMFineModel,
    AudioLMSemanticModel,
    AudioLMStageModel,
)
from audiolm_hf.training.clock import ClockCallback, TrainingClock
from audiolm_hf.training.config import dump_config
from audiolm_hf.training.embeddings import code_vectors, start_embeddings_
from audiolm_hf.training.stage_bits import stage_bits

logger = logging.get_logger(__name__)

_STAGES: dict[str, tuple[type[AudioLMStageConfig], type[AudioLMStageModel]]] = {
    "semantic": (AudioLMSemanticConfig, AudioLMSemanticModel),
    "coarse": (AudioLMCoarseConfig, AudioLMCoarseModel),
    "fine": (AudioLMFineConfig, AudioLMFineModel),
}


@dataclass
class StageTrainingConfig:
    """What one stage's training needs.

    Args:
        stage (`"semantic"`, `"coarse"` or `"fine"`): which one.
        output_folder (`str`): where everything goes; a training found there is resumed.
        train_tokens (`list[str]`): token datasets to learn from.
        validation_tokens (`list[str]`): token datasets to choose the best checkpoint by.
        backbone (`dict`): fields of the decoder's configuration; `model_type` chooses it, `"llama"` by default.
        window_length_s (`float`): seconds per crop, in training and later in generation.
        num_coarse_codebooks (`int`, defaults to 4): leading levels that the coarse stage predicts.
        remove_repeats (`bool`, defaults to `False`): model semantic tokens without consecutive repeats.
        initial_weights (`str`, *optional*): folder of a stage model to start from, instead of random weights.
        codec (`str`, *optional*): folder of the SoundStream whose codebooks start the embeddings of the codes.
        semantic_tokenizer (`str`, *optional*): folder of the tokenizer whose centroids start the embeddings of the
            semantic tokens.
        batch_tokens (`int`, defaults to 8192): most ids per batch, padding included.
        max_steps (`int`, *optional*): optimizer steps; give this or `max_minutes` or both.
        max_minutes (`float`, *optional*): stop, with the learning rate at its end, after so many minutes of training.
        learning_rate (`float`, defaults to 1e-3): peak; a cosine takes it down to a hundredth.
        warmup_steps (`int`, defaults to 100): steps of linear rise before.
        weight_decay (`float`, defaults to 0.1): of AdamW, on everything but norms and biases.
        beta2 (`float`, defaults to 0.95): of AdamW; beta1 is 0.9.
        max_grad_norm (`float`, defaults to 1.0): longer gradients are scaled down.
        corruption (`float`, defaults to 0.0): share of input ids replaced at random, 0 to 1.
        drop_condition (`float`, defaults to 0.0): share of coarse sequences without semantic tokens, 0 to 1.
        evaluation_steps (`int`, defaults to 200): steps between validations and checkpoints.
        patience (`int`, *optional*): stop after so many validations without improvement.
        logging_steps (`int`, defaults to 20): steps between logged training figures.
        bf16 (`bool`, defaults to `True`): compute in bfloat16 where it is safe; weights stay float32.
        use_cpu (`bool`, defaults to `False`): stay on the CPU even where there is an accelerator.
        seed (`int`, defaults to 0): of weights, crops and order.
    """

    stage: Literal["semantic", "coarse", "fine"]
    output_folder: str
    train_tokens: list[str]
    validation_tokens: list[str]
    backbone: dict[str, Any]
    window_length_s: float
    num_coarse_codebooks: int = 4
    remove_repeats: bool = False
    initial_weights: str | None = None
    codec: str | None = None
    semantic_tokenizer: str | None = None
    batch_tokens: int = 8192
    max_steps: int | None = None
    max_minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    beta2: float = 0.95
    max_grad_norm: float = 1.0
    corruption: float = 0.0
    drop_condition: float = 0.0
    evaluation_steps: int = 200
    patience: int | None = None
    logging_steps: int = 20
    bf16: bool = True
    use_cpu: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("Neither max_steps nor max_minutes is given; give one, or training would never end.")
        for name, share in (("corruption", self.corruption), ("drop_condition", self.drop_condition)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it is a share, so give a number from 0 to 1.")
        if self.initial_weights is not None and (self.codec or self.semantic_tokenizer):
            raise ValueError(
                f"initial_weights is {self.initial_weights!r}, so the embeddings are there already; leave out codec "
                "and semantic_tokenizer."
            )
        if self.drop_condition and self.stage != "coarse":
            raise ValueError(
                f"drop_condition is {self.drop_condition} for the {self.stage} stage; only the coarse stage has it."
            )


def build_stage_config(config: StageTrainingConfig, tokens: TokenDataset) -> AudioLMStageConfig:
    """Size a stage by the tokens it is to learn.

    Args:
        config ([`StageTrainingConfig`]): names the backbone and the crop.
        tokens ([`TokenDataset`]): the training data.

    Returns:
        [`AudioLMStageConfig`]: of the class of the stage.

    Raises:
        ValueError: there are no levels left for the fine stage.
    """
    info: TokenInfo = tokens.info
    num_fine_codebooks = info.num_codebooks - config.num_coarse_codebooks
    if not 1 <= config.num_coarse_codebooks < info.num_codebooks:
        raise ValueError(
            f"num_coarse_codebooks is {config.num_coarse_codebooks}; the tokens have {info.num_codebooks} levels, so "
            f"give 1 to {info.num_codebooks - 1}."
        )
    config_class, _ = _STAGES[config.stage]
    return config_class(
        backbone_config={"model_type": "llama"} | config.backbone,
        num_semantic_tokens=info.num_semantic_tokens,
        codebook_size=info.codebook_size,
        num_coarse_codebooks=config.num_coarse_codebooks,
        num_fine_codebooks=num_fine_codebooks,
        window_length_s=config.window_length_s,
        remove_repeats=config.remove_repeats,
        mean_semantic_duration=mean_semantic_duration(tokens) if config.remove_repeats else 1.0,
    )


def mean_semantic_duration(tokens: TokenDataset) -> float:
    """Count the semantic tokens per run of equal ones, over a whole dataset."""
    total = sum(len(record.semantic_tokens) for record in tokens)
    runs = sum(1 + int((record.semantic_tokens[1:] != record.semantic_tokens[:-1]).sum()) for record in tokens)
    return total / runs


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
        super().__init__(**kwargs)
        self.clock = clock
        self.warmup_steps = warmup_steps
        self.bf16_evaluation = bf16_evaluation

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Warm up by steps, then follow a cosine over the share of the training that is done."""
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
        figures = stage_bits(self.model, self.eval_dataset, self.bf16_evaluation)
        metrics = {
            f"{metric_key_prefix}_{figure}" + ("" if name == "all" else f"_{name}"): values[figure]
            for name, values in figures.items()
            for figure in ("bits", "accuracy")
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # the batches are shuffled already


def _only(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate a list of one ready-made batch."""
    return batches[0]


def _training_arguments(config: StageTrainingConfig, clock: TrainingClock) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(Path(config.output_folder) / "checkpoints"),
        max_steps=clock.step_limit,
        per_device_train_batch_size=1,  # one item is a whole batch
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
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_bits",
        greater_is_better=False,
        logging_steps=config.logging_steps,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,  # ClockCallback draws the bar
    )


def build_stage_model(config: StageTrainingConfig, stage_config: AudioLMStageConfig) -> AudioLMStageModel:
    """Build the stage that training starts from: given weights, or random ones with embeddings placed by `codec`."""
    model_class = _STAGES[config.stage][1]
    if config.initial_weights is not None:
        return model_class.from_pretrained(config.initial_weights, dtype="float32", config=stage_config)
    model = model_class(stage_config)
    start_embeddings_(
        model,
        levels=None if config.codec is None else code_vectors(load_codec(config.codec).model),
        centroids=None
        if config.semantic_tokenizer is None
        else load_semantic_tokenizer(config.semantic_tokenizer).centroids,
        generator=torch.Generator().manual_seed(config.seed),
    )
    return model


def build_stage_trainer(config: StageTrainingConfig, model: PreTrainedModel | None = None) -> StageTrainer:
    """Put model, data and schedule together, ready to train; see [`train_stage`]."""
    set_seed(config.seed)
    tokens = TokenDataset(config.train_tokens)
    if model is None:
        model = build_stage_model(config, build_stage_config(config, tokens))
    stage_config = model.config
    clock = TrainingClock(config.max_steps, config.max_minutes)
    batches = StageBatches(
        tokens,
        stage_config,
        batch_tokens=config.batch_tokens,
        num_batches=clock.step_limit,
        seed=config.seed,
        corruption=config.corruption,
        drop_condition=config.drop_condition,
    )
    callbacks: list[Any] = [ClockCallback(clock)]
    if config.patience is not None:
        callbacks.append(EarlyStoppingCallback(config.patience))
    return StageTrainer(
        clock=clock,
        warmup_steps=config.warmup_steps,
        bf16_evaluation=config.bf16,
        model=model,
        args=_training_arguments(config, clock),
        train_dataset=batches,
        eval_dataset=validation_batches(TokenDataset(config.validation_tokens), stage_config, config.batch_tokens),
        data_collator=_only,
        callbacks=callbacks,
    )


def train_stage(config: StageTrainingConfig, model: PreTrainedModel | None = None) -> Path:
    """Train one stage, or resume its training, and keep the checkpoint with the best validation.

    Args:
        config ([`StageTrainingConfig`]): everything.
        model ([`AudioLMStageModel`] or a `PeftModel` of one, *optional*): train this one, in place of the one that
            `config` describes; of a `PeftModel` only the adapter is trained and saved.

    Returns:
        `Path`: the folder of the finished model, `output_folder/final`.

    Raises:
        ValueError: the token datasets do not agree with each other or with the configuration.
    """
    trainer = build_stage_trainer(config, model)
    parameters = trainer.model.num_parameters()
    logger.info(f"The {config.stage} stage has {parameters} parameters.")
    output = Path(config.output_folder)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text("kind: stage\n" + dump_config(config), encoding="utf-8")
    checkpoints = output / "checkpoints"
    trainer.train(resume_from_checkpoint=get_last_checkpoint(checkpoints) if checkpoints.is_dir() else None)
    final = output / "final"
    trainer.model.save_pretrained(final)
    report = {
        "stage": config.stage,
        "parameters": parameters,
        "steps": trainer.state.global_step,
        "minutes": trainer.clock.elapsed_s / 60,
        "best_step": trainer.state.best_global_step,
        "threads": torch.get_num_threads(),
        "validation": stage_bits(trainer.model, trainer.eval_dataset),
        "log": trainer.state.log_history,
    }
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return final


__all__ = [
    "StageTrainer",
    "StageTrainingConfig",
    "build_stage_config",
    "build_stage_model",
    "build_stage_trainer",
    "mean_semantic_duration",
    "train_stage",
]
