# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The table of stages: what everything else needs to know about a stage, by its name.

A model has the stages that its configuration names; they run in the order of what they predict.

Paper: AudioLM (arXiv 2209.03143): the semantic, coarse and fine stage, and the temperatures of its inference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .config_values_audiolm import Within
from .configuration_audiolm import AudioLMConfig, AudioLMStageConfig
from .modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel, AudioLMStageModel
from .stage_examples_audiolm import build_layout_example
from .stage_generation_audiolm import generate_coarse_codes, generate_fine_codes, generate_semantic_tokens


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Args:
        model_class (subclass of [`AudioLMStageModel`]): its `config_class` has the name, `stage`, and the `layout`.
        generate (`Callable`): continues rows in windows. [`generate_semantic_tokens`] and [`generate_coarse_codes`]
            are the signatures of a stage that predicts semantic tokens, and of one that predicts codes.
        temperature (`float`, defaults to 1.0): with which it samples by default.
        options (`dict`, *optional*): further options of its sampling, by their names without the stage's: default, and
            what is allowed.
        optional (`bool`, defaults to `False`): `use_<stage>_stage=False` generates without it.
        build_example (`Callable`): builds a training sequence, with the arguments of [`build_stage_example`].
    """

    model_class: type[AudioLMStageModel]
    generate: Callable[..., list[Tensor]]
    temperature: float = 1.0
    options: Mapping[str, tuple[Any, Within]] = field(default_factory=dict)
    optional: bool = False
    build_example: Callable[..., dict[str, Tensor]] = build_layout_example

    @property
    def config_class(self) -> type[AudioLMStageConfig]:
        """Class of the stage's configuration."""
        return self.model_class.config_class

    @property
    def name(self) -> str:
        """How the stage is called in configurations, options and folders."""
        return self.config_class.stage


STAGES: dict[str, Stage] = {}


def register_stage(stage: Stage) -> None:
    """Add a stage to the table, or replace the one of its name, and `<stage>_config` to [`AudioLMConfig`]."""
    AudioLMConfig.add_stage(stage.config_class)
    STAGES[stage.name] = stage


register_stage(Stage(AudioLMSemanticModel, generate_semantic_tokens, temperature=0.6))
register_stage(
    Stage(
        AudioLMCoarseModel,
        generate_coarse_codes,
        temperature=0.8,
        options={"guidance_scale": (1.0, Within(0, 1000))},
    )
)
register_stage(
    Stage(
        AudioLMFineModel,
        generate_fine_codes,
        temperature=0.6,
        options={"batch_size": (32, Within(1, 2**20, whole=True))},
        optional=True,
    )
)


def build_stage_example(
    config: AudioLMStageConfig,
    semantic_tokens: Tensor,
    audio_codes: Tensor,
    *,
    ends_recording: bool = False,
    drop_condition: bool = False,
) -> dict[str, Tensor]:
    """Build one training sequence of any stage from a crop of a recording.

    Args:
        config ([`AudioLMStageConfig`]): the stage.
        semantic_tokens (`torch.LongTensor` of shape `(semantic_length,)`): of the crop, as
            `semantic_tokenizer.tokenize` returns them, repeats included; not used by the fine stage.
        audio_codes (`torch.LongTensor` of shape `(num_codebooks, frames)`): of the same crop, as
            `acoustic_codec.encode` returns them; not used by the semantic stage.
        ends_recording (`bool`, defaults to `False`): the crop reaches the end of its recording, so the end token is to
            be learned (semantic stage).
        drop_condition (`bool`, defaults to `False`): leave the semantic tokens out of the condition, so that the stage
            also learns the unconditional distribution that a `guidance_scale` needs.

    Returns:
        `dict`: `input_ids` and `labels` of shape `(sequence_length,)`; labels are -100 on what is not predicted.
    """
    build = STAGES[config.stage].build_example
    return build(config, semantic_tokens, audio_codes, ends_recording=ends_recording, drop_condition=drop_condition)
