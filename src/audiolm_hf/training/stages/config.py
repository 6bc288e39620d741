# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a stage."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.settings import (
    FILLED,
    Count,
    CountOrNone,
    Decay,
    InputPath,
    NamedInput,
    NotNegative,
    PartialShare,
    Seconds,
    Use,
)
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.training.config import TrainingConfig, backbone_keys, check_model_keys

GuidanceScale = Annotated[float, Within(0, 100)]


@dataclass(kw_only=True)
class StageTrainingConfig(TrainingConfig):
    """Configuration of stage training; the checkpoint with the best validation is saved in `final`."""

    stage: str  # the stage, `"semantic"`, `"coarse"`, `"fine"` or `"parallel"`
    train_tokens: Annotated[list[InputPath], FILLED]  # token datasets of the training data
    validation_tokens: Annotated[list[InputPath], FILLED]  # token datasets that choose the best checkpoint
    window_length_s: Seconds  # length of the crops, and of the windows in generation, in seconds
    # seconds of every window of the coarse or parallel stage that come from elsewhere in the recording, in half of the
    # crops, and in generation from the beginning of the first window, so that later windows have its voice
    anchor_length_s: NotNegative = 0.0
    # `model_type` of the decoder (by default `"llama"`; of the parallel stage's encoder `"eurobert"`) and fields of
    # its configuration. With `warm_start`, fields that differ from those of the language model.
    backbone: dict[str, Any] = field(default_factory=dict)
    num_coarse_codebooks: Count = 4  # number of leading levels that the coarse stage predicts
    # number of levels after them that the fine, or parallel, stage predicts; by default all that the tokens have. 0
    # for a parallel stage that predicts the leading levels alone.
    num_fine_codebooks: CountOrNone | None = None
    remove_repeats: bool = False  # remove consecutive repeats of semantic tokens
    initial_weights: NamedInput | None = None  # folder of a stage model to start from, instead of random weights
    warm_start: InputPath | None = None  # folder of a text language model whose decoder the stage starts from
    codec: InputPath | None = None  # folder of the SoundStream whose codebooks initialize the embeddings of the codes
    # folder of the tokenizer whose centroids initialize the embeddings of the semantic tokens
    semantic_tokenizer: InputPath | None = None
    # maximum number of ids (parallel stage: frames) per batch, including padding, over all processes
    batch_tokens: Count = 8192
    # parts of a batch that each process computes one after the other, to save memory; the result is the same
    gradient_accumulation_steps: Count = 1
    gradient_checkpointing: bool = False  # recompute activations in the backward pass, to save memory
    torch_compile: bool = False  # compile the decoder
    max_steps: Count  # number of optimizer steps
    # last steps, in which the learning rate decays to 1 % along a cosine; by default all steps after the warmup. 0
    # keeps it constant.
    decay_steps: CountOrNone | None = None
    weight_decay: Decay = 0.1
    # share of input ids, 0 to 1, that are replaced at random; conditioning ids are not replaced
    corruption: PartialShare = 0.0
    condition_dropout: PartialShare = 0.0  # share of coarse or parallel sequences without semantic tokens, 0 to 1
    # guidance scale of the coarse or parallel stage in `initial_weights`, whose guided predictions replace the codes
    # as targets, so that the trained stage does not need guidance, which doubles the passes
    distill_guidance_scale: GuidanceScale | None = None
    # the same for the prompt, the first `anchor_length_s` of every sequence (parallel stage: the frames before the
    # first mask): above 1, the trained stage keeps more of its voice and sound
    distill_prompt_scale: GuidanceScale | None = None
    # assign each conditioning token the position of the codes at the same time, so that their distance is the same
    # everywhere (coarse and fine stage; the parallel stage always does)
    align_condition: bool = False
    # frames before the first mask attend only to each other, so that generation on a CPU computes them once, not in
    # every pass (parallel stage)
    prefix_attention: bool = False
    eval_steps: Count = 200  # steps between validations and checkpoints
    patience: Count | None = None  # number of validations without improvement after which the training stops
    logging_steps: Annotated[Count, Use.FREE] = 20  # steps between logged training metrics

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it must be one of {', '.join(map(repr, STAGES))}.")
        backbone = {"model_type": STAGES[self.stage].backbone_type} | self.backbone
        layout = STAGES[self.stage].config_class.layout
        # A language model's other values are only known when it is loaded, and so are the numbers of tokens.
        smallest = {"num_semantic_tokens": 1, "codebook_size": 1, "backbone_config": backbone}
        checked = None if self.warm_start else partial(STAGES[self.stage].config_class, **smallest)
        check_model_keys("backbone", self.backbone, backbone_keys(backbone), checked if self.backbone else None)
        if self.condition_dropout and "semantic" not in layout.condition:
            raise ValueError(
                f"condition_dropout is {self.condition_dropout} for the {self.stage} stage; only a stage that is "
                "conditioned on semantic tokens, such as coarse, has it."
            )
        if self.align_condition and not layout.condition:
            raise ValueError(f"align_condition is True, but the {self.stage} stage has no condition; leave it out.")
        if self.prefix_attention and not layout.parallel:
            raise ValueError(
                f"prefix_attention is True for the {self.stage} stage; only the parallel stage has it. Leave it out."
            )
        self._check_start()

    def _check_start(self) -> None:
        if self.warm_start is not None and STAGES[self.stage].config_class.layout.parallel:
            raise ValueError(
                f"warm_start is {self.warm_start!r}, a decoder, and the {self.stage} stage an encoder; leave it out."
            )
        self._check_distillation()
        if self.initial_weights is None:
            if not self.backbone and self.warm_start is None:
                raise ValueError("Neither backbone nor warm_start is given; name the decoder's sizes or a folder.")
            return
        if self.warm_start is not None:
            raise ValueError("initial_weights and warm_start are given; a stage starts from one of them.")
        if self.semantic_tokenizer or self.codec:
            raise ValueError("initial_weights have embeddings; leave out codec and semantic_tokenizer.")

    def _check_distillation(self) -> None:
        layout = STAGES[self.stage].config_class.layout
        for name in ("distill_guidance_scale", "distill_prompt_scale"):
            if getattr(self, name) is None:
                continue
            if not self.initial_weights or "semantic" not in layout.condition:
                raise ValueError(
                    f"{name} is for a coarse or parallel stage that starts from its teacher; name that in "
                    "initial_weights, or leave the scale out."
                )
        unknown = not layout.parallel and (self.anchor_length_s == 0 or self.remove_repeats)
        if self.distill_prompt_scale is not None and unknown:
            raise ValueError(
                f"distill_prompt_scale is given, but windows of the {self.stage} stage do not begin with a prompt of "
                "known length; set anchor_length_s, and leave out remove_repeats."
            )
