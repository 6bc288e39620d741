# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a stage."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from audiolm_hf.settings import Count, CountOrNone, Decay, Filled, InputPath, NamedInput, Seconds, Share, Use
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.training.config import TrainingConfig, backbone_keys, check_model_keys


@dataclass(kw_only=True)
class StageTrainingConfig(TrainingConfig):
    """Configuration of stage training; the checkpoint with the best validation is saved in `final`.

    Args:
        stage (`str`): the stage, `"semantic"`, `"coarse"`, `"fine"` or `"parallel"`.
        train_tokens (`list[str]`): token datasets of the training data.
        validation_tokens (`list[str]`): token datasets that choose the best checkpoint.
        window_length_s (`float`): length of the crops, and of the windows in generation, in seconds.
        backbone (`dict`): `model_type` of the decoder (by default `"llama"`; of the parallel stage's encoder
            `"eurobert"`) and fields of its configuration. With `warm_start`, fields that differ from those of the
            language model.
        num_coarse_codebooks (`int`): number of leading levels that the coarse stage predicts.
        num_fine_codebooks (`int`, *optional*): number of levels after them that the fine, or parallel, stage predicts;
            by default all that the tokens have. 0 for a parallel stage that predicts the leading levels alone.
        remove_repeats (`bool`): remove consecutive repeats of semantic tokens.
        initial_weights (`str`, *optional*): folder of a stage model to start from, instead of random weights.
        warm_start (`str`, *optional*): folder of a text language model whose decoder the stage starts from.
        codec (`str`, *optional*): folder of the SoundStream whose codebooks initialize the embeddings of the codes,
            and which decodes samples.
        semantic_tokenizer (`str`, *optional*): folder of the tokenizer whose centroids initialize the embeddings of
            the semantic tokens.
        batch_tokens (`int`): maximum number of ids (parallel stage: frames) per batch, including padding, over all
            processes.
        gradient_accumulation_steps (`int`): parts of a batch that each process computes one after the other, to save
            memory; the result is the same.
        gradient_checkpointing (`bool`): recompute activations in the backward pass, to save memory.
        torch_compile (`bool`): compile the decoder.
        max_steps (`int`): number of optimizer steps.
        decay_steps (`int`, *optional*): last steps, in which the learning rate decays to 1 % along a cosine; by
            default all steps after the warmup. 0 keeps it constant.
        corruption (`float`): share of input ids, 0 to 1, that are replaced at random; conditioning ids are not
            replaced.
        condition_dropout (`float`): share of coarse or parallel sequences without semantic tokens, 0 to 1.
        align_condition (`bool`): assign each conditioning token the position of the codes at the same time, so that
            their distance is the same everywhere (coarse and fine stage; the parallel stage always does).
        eval_steps (`int`): steps between validations and checkpoints.
        sample_steps (`int`, *optional*): steps between audio samples, a multiple of `eval_steps`; requires `codec`.
        patience (`int`, *optional*): number of validations without improvement after which the training stops.
        logging_steps (`int`): steps between logged training metrics.
    """

    stage: str
    train_tokens: Annotated[list[InputPath], Filled()]
    validation_tokens: Annotated[list[InputPath], Filled()]
    window_length_s: Seconds
    backbone: dict[str, Any] = field(default_factory=dict)
    num_coarse_codebooks: Count = 4
    num_fine_codebooks: CountOrNone | None = None
    remove_repeats: bool = False
    initial_weights: NamedInput | None = None
    warm_start: InputPath | None = None
    codec: InputPath | None = None
    semantic_tokenizer: InputPath | None = None
    batch_tokens: Count = 8192
    gradient_accumulation_steps: Count = 1
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    max_steps: Count
    decay_steps: CountOrNone | None = None
    weight_decay: Decay = 0.1
    corruption: Share = 0.0
    condition_dropout: Share = 0.0
    align_condition: bool = False
    eval_steps: Count = 200
    sample_steps: Annotated[Count | None, Use.FREE] = None
    patience: Count | None = None
    logging_steps: Annotated[Count, Use.FREE] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it must be one of {', '.join(map(repr, STAGES))}.")
        backbone = {"model_type": STAGES[self.stage].backbone_type} | self.backbone
        check_model_keys("backbone", self.backbone, backbone_keys(backbone))
        layout = STAGES[self.stage].config_class.layout
        if self.condition_dropout and "semantic" not in layout.condition:
            raise ValueError(
                f"condition_dropout is {self.condition_dropout} for the {self.stage} stage; only a stage that is "
                "conditioned on semantic tokens, such as coarse, has it."
            )
        if self.align_condition and not layout.condition:
            raise ValueError(f"align_condition is True, but the {self.stage} stage has no condition; leave it out.")
        self._check_start()
        self._check_samples()

    def _check_start(self) -> None:
        if self.warm_start is not None and STAGES[self.stage].config_class.layout.parallel:
            raise ValueError(
                f"warm_start is {self.warm_start!r}, a decoder of text, and the {self.stage} stage is an encoder; "
                "leave it out."
            )
        if self.initial_weights is None:
            if not self.backbone and self.warm_start is None:
                raise ValueError("Neither backbone nor warm_start is given; name the decoder's sizes or a folder.")
            return
        if self.warm_start is not None:
            raise ValueError(
                f"initial_weights is {self.initial_weights!r} and warm_start {self.warm_start!r}; a stage starts from "
                "one of them."
            )
        if self.semantic_tokenizer or (self.codec and not self.sample_steps):
            raise ValueError(
                f"initial_weights is {self.initial_weights!r}, so the embeddings are there already; leave out codec "
                "and semantic_tokenizer."
            )

    def _check_samples(self) -> None:
        if self.sample_steps is None:
            return
        if "semantic" in STAGES[self.stage].config_class.layout.predicted:
            raise ValueError(
                f"sample_steps is given for the {self.stage} stage, whose tokens cannot be decoded to audio."
            )
        if STAGES[self.stage].config_class.layout.parallel:
            raise ValueError(
                f"sample_steps is given for the {self.stage} stage, which generates in a whole model only; leave it "
                "out, and assemble one."
            )
        if self.codec is None:
            raise ValueError("sample_steps is given without codec; name the codec that decodes the samples.")
        if self.sample_steps % self.eval_steps:
            raise ValueError(
                f"sample_steps is {self.sample_steps}, which is no multiple of eval_steps, {self.eval_steps}."
            )
