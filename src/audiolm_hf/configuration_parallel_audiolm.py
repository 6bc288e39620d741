# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configuration of the parallel acoustic stage: its rows of ids, and which encoders it can have.

Paper: SoundStorm (arXiv 2305.09636).
"""

import inspect
import math
from fractions import Fraction
from typing import Any, ClassVar

from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING, AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_stage_audiolm import AudioLMStageConfig, StageLayout, composition_flaw, setting_flaw
from .strict_config_audiolm import checked, strict

# Their convolutions, pooling, hashes or landmarks also take in padding, or only a part of the frames.
_OTHER_ATTENTION = (
    "convbert", "funnel", "ibert", "longformer", "mobilebert", "mra", "nystromformer", "reformer", "yoso"
)  # fmt: skip
_USE_AN_ENCODER = "use the configuration of an encoder of text alone, such as EuroBERT or ModernBERT"


@strict
class AudioLMParallelConfig(AudioLMStageConfig):
    r"""Stages 2 and 3 at once: codes of all frames from semantic tokens, level by level, in a few passes.

    A sequence has a row for every frame: the semantic tokens of its time, then a code of every level, or the mask id
    of that level. Other fields are those of [`AudioLMStageConfig`].

    Args:
        backbone_config (`PreTrainedConfig` or `dict`): any encoder that `AutoModel` builds, that takes
            `inputs_embeds` and `attention_mask`, and that has a masked language model, which looks in both directions;
            others are refused with the reason. Defaults to EuroBERT, a bidirectional Llama with rotary positions.
        num_fine_codebooks (`int`, defaults to 8): levels after the `num_coarse_codebooks` first ones that this stage
            predicts, too; 0 where a fine stage predicts them, or none does.
        condition_stride (`float`, *optional*): tokens predicted for each semantic token, which determines the frames
            that a token belongs to; by default two frames for each token.
        prefix_attention (`bool`, defaults to `False`): whether the known frames (in training those before the first
            mask) attend only to each other, so that generation on a CPU computes them once per window rather than in
            every pass. Requires EuroBERT as the encoder.
    """

    model_type = "audiolm_parallel"
    stage = "parallel"
    layout = StageLayout(condition=("semantic",), predicted=("coarse", "fine"), parallel=True)
    sub_configs_defaults: ClassVar[dict] = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="eurobert")
    }

    prefix_attention: bool = checked(False, trained=True)

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for name in ("mask_token_id", "cls_token_id", "sep_token_id"):  # of a text model; nothing reads them here
            if hasattr(self.backbone_config, name):
                setattr(self.backbone_config, name, self.mask_token_ids[0])
        if self.condition_stride is None:
            self.condition_stride = 2.0 * len(self.predicted_levels)

    def validate_backbone(self) -> None:
        """Check that the backbone is an encoder that the stage can use."""
        flaw = _encoder_flaw(self.backbone_config)
        if flaw is not None:
            raise ValueError(f"backbone_config has model_type {self.backbone_config.model_type!r}, which {flaw}.")
        if self.prefix_attention and self.backbone_config.model_type != "eurobert":
            raise ValueError(
                f"prefix_attention is True, but backbone_config has model_type {self.backbone_config.model_type!r}, "
                "whose attention may differ from layer to layer; use 'eurobert', or leave prefix_attention out."
            )

    def _validate_condition_stride(self) -> None:
        if self.remove_repeats:
            raise ValueError(f"{type(self).__name__}.remove_repeats is True, but the tokens need times; leave it out.")

    def sequence_length(self, num_semantic_tokens: int, num_frames: int) -> int:
        """Return the number of frames."""
        return num_frames

    @property
    def frames_per_token(self) -> Fraction:
        """Frames in the time of one semantic token."""
        return Fraction(self.condition_stride or 0).limit_denominator(10**6) / len(self.predicted_levels)

    @property
    def tokens_per_frame(self) -> int:
        """Largest number of semantic tokens in a frame: the columns before those of the codes."""
        return math.ceil(1 / self.frames_per_token)

    @property
    def layout_size(self) -> int:
        """Ids of the flat vocabulary: those of [`AudioLMStageConfig`], and a mask id for every level."""
        return super().layout_size + self.num_stage_codebooks

    @property
    def mask_token_ids(self) -> range:
        """Ids that stand for a code that is to be predicted, one for each level."""
        return range(self.begin_token_id - self.num_stage_codebooks, self.begin_token_id)

    @property
    def absent_token_id(self) -> int:
        """Id that stands for a missing semantic token."""
        return self.separator_token_id


def _encoder_flaw(config: PreTrainedConfig) -> str | None:
    if getattr(config, "is_encoder_decoder", False):
        return f"has a decoder; {_USE_AN_ENCODER}"
    flaw = composition_flaw(config)
    if flaw is not None:
        return f"{flaw}; {_USE_AN_ENCODER}"
    if not {"inputs_embeds", "attention_mask"} <= {*inspect.signature(MODEL_MAPPING[type(config)].forward).parameters}:
        return f"does not take inputs_embeds and an attention_mask; {_USE_AN_ENCODER}"
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or getattr(config, "is_decoder", False):
        return f"does not look in both directions, as a masked language model does; {_USE_AN_ENCODER}"
    if config.model_type in _OTHER_ATTENTION:
        return f"does not attend to all frames and to nothing else; {_USE_AN_ENCODER}"
    return setting_flaw(config)
