# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The configuration of one stage's training, checked as far as it can be without data."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.settings import (
    Count,
    CountOrNone,
    Decay,
    Filled,
    InputPath,
    LearningRate,
    NamedInput,
    OutputPath,
    Positive,
    Seconds,
    Seed,
    Settings,
    Share,
    Use,
)
from audiolm_hf.training.config import backbone_keys, check_model_keys


@dataclass
class StageTrainingConfig(Settings):
    """What one stage's training needs.

    Args:
        stage (`"semantic"`, `"coarse"` or `"fine"`): which one.
        output_folder (`str`): where everything goes; a training found there is resumed.
        train_tokens (`list[str]`): token datasets to learn from.
        validation_tokens (`list[str]`): token datasets to choose the best checkpoint by.
        window_length_s (`float`): seconds per crop, in training and later in generation.
        backbone (`dict`): fields of the decoder's configuration; `model_type` chooses it, `"llama"` by default. With
            `warm_start`, only what is to differ from the language model's.
        num_coarse_codebooks (`int`, defaults to 4): leading levels that the coarse stage predicts.
        remove_repeats (`bool`, defaults to `False`): model semantic tokens without consecutive repeats.
        initial_weights (`str`, *optional*): folder of a stage model to start from, instead of random weights.
        warm_start (`str`, *optional*): folder of a text language model whose decoder the stage starts from.
        codec (`str`, *optional*): folder of the SoundStream whose codebooks start the embeddings of the codes, and
            which makes samples audible.
        semantic_tokenizer (`str`, *optional*): folder of the tokenizer whose centroids start the embeddings of the
            semantic tokens.
        batch_tokens (`int`, defaults to 8192): most ids per batch, padding included, over all processes.
        gradient_accumulation_steps (`int`, defaults to 1): parts that each process takes of a batch, one after the
            other, to save memory. What is learned from the batch is the same.
        gradient_checkpointing (`bool`, defaults to `False`): compute activations again in the backward pass, to save
            memory.
        torch_compile (`bool`, defaults to `False`): compile the decoder.
        max_steps (`int`, *optional*): optimizer steps; give this or `max_minutes` or both.
        max_minutes (`float`, *optional*): stop, with the learning rate at its end, after so many minutes of training.
        learning_rate (`float`, defaults to 1e-3): peak.
        schedule (`"cosine"`, `"linear"` or `"constant"`, defaults to `"cosine"`): after the rise; the first two go
            down to a hundredth of the peak.
        warmup_steps (`int`, defaults to 100): steps of linear rise before.
        weight_decay (`float`, defaults to 0.1): of AdamW, on everything but norms and biases.
        beta2 (`float`, defaults to 0.95): of AdamW; beta1 is 0.9.
        max_grad_norm (`float`, defaults to 1.0): longer gradients are scaled down.
        corruption (`float`, defaults to 0.0): share of input ids replaced at random, 0 to 1; not of the condition.
        drop_condition (`float`, defaults to 0.0): share of coarse sequences without semantic tokens, 0 to 1.
        align_condition (`bool`, defaults to `False`): give each condition token the position of what is predicted for
            its time, so that attention finds it at one distance everywhere (coarse and fine stage).
        evaluation_steps (`int`, defaults to 200): steps between validations and checkpoints.
        sample_evaluations (`int`, *optional*): validations between samples to hear and see, which need `codec`.
        patience (`int`, *optional*): stop after so many validations without improvement.
        logging_steps (`int`, defaults to 20): steps between logged training figures.
        report_to (`list[str]`, defaults to `[]`): where figures are sent as well: `"tensorboard"`, `"wandb"`,
            `"trackio"`.
        bf16 (`bool`, defaults to `True`): compute in bfloat16 where it is safe; weights stay float32.
        use_cpu (`bool`, defaults to `False`): stay on the CPU even where there is an accelerator.
        seed (`int`, defaults to 0): of weights, crops and order.
    """

    stage: Literal["semantic", "coarse", "fine"]
    output_folder: OutputPath
    train_tokens: Annotated[list[InputPath], Filled()]
    validation_tokens: Annotated[list[InputPath], Filled()]
    window_length_s: Seconds
    backbone: dict[str, Any] = field(default_factory=dict)
    num_coarse_codebooks: Count = 4
    remove_repeats: bool = False
    initial_weights: NamedInput | None = None
    warm_start: InputPath | None = None
    codec: InputPath | None = None
    semantic_tokenizer: InputPath | None = None
    batch_tokens: Count = 8192
    gradient_accumulation_steps: Count = 1
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    max_steps: Count | None = None
    max_minutes: Positive | None = None
    learning_rate: LearningRate = 1e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: CountOrNone = 100
    weight_decay: Decay = 0.1
    beta2: Annotated[float, Within(0, 1, below=True)] = 0.95
    max_grad_norm: Positive = 1.0
    corruption: Share = 0.0
    drop_condition: Share = 0.0
    align_condition: bool = False
    evaluation_steps: Count = 200
    sample_evaluations: Annotated[Count | None, Use.FREE] = None
    patience: Count | None = None
    logging_steps: Annotated[Count, Use.FREE] = 20
    report_to: Annotated[list[Literal["tensorboard", "wandb", "trackio"]], Use.FREE] = field(default_factory=list)
    bf16: bool = True
    use_cpu: Annotated[bool, Use.FREE] = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_model_keys("backbone", self.backbone, backbone_keys(self.backbone))
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("Neither max_steps nor max_minutes is given; give one, or training would never end.")
        if self.drop_condition and self.stage != "coarse":
            raise ValueError(
                f"drop_condition is {self.drop_condition} for the {self.stage} stage; only the coarse stage has it."
            )
        self._check_start()
        self._check_samples()

    def _check_start(self) -> None:
        """Check that the weights come from one place."""
        if self.initial_weights is None:
            if not self.backbone and self.warm_start is None:
                raise ValueError("Neither backbone nor warm_start is given; name the decoder's sizes or a folder.")
            return
        if self.warm_start is not None:
            raise ValueError(
                f"initial_weights is {self.initial_weights!r} and warm_start {self.warm_start!r}; a stage starts from "
                "one of them."
            )
        if self.semantic_tokenizer or (self.codec and not self.sample_evaluations):
            raise ValueError(
                f"initial_weights is {self.initial_weights!r}, so the embeddings are there already; leave out codec "
                "and semantic_tokenizer."
            )

    def _check_samples(self) -> None:
        """Check that samples can be heard."""
        if self.sample_evaluations is None:
            return
        if self.stage == "semantic":
            raise ValueError(
                "sample_evaluations is given for the semantic stage, whose tokens have no sound of theirs."
            )
        if self.codec is None:
            raise ValueError("sample_evaluations is given without codec; name the codec that decodes the samples.")


__all__ = ["StageTrainingConfig"]
