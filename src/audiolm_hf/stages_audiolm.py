# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The table of stages: what everything else needs to know about a stage, by its name.

A model has the stages that its configuration names; they run in the order of what they predict.

Papers: AudioLM (arXiv 2209.03143): the semantic, coarse and fine stage, and the temperatures of its inference.
SoundStorm (arXiv 2305.09636): the parallel stage and its passes. MaskGIT (arXiv 2202.04200): the noise of its choices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from .acoustic_codec_audiolm import wrap_acoustic_codec
from .adapters_audiolm import bare_stage
from .codec_interface_audiolm import AcousticCodec
from .config_values_audiolm import Allowed, Rule, Within
from .configuration_audiolm import AudioLMConfig, AudioLMStageConfig
from .modeling_parallel_audiolm import AudioLMParallelModel
from .modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel, AudioLMStageBase
from .stage_generation_audiolm import (
    generate_coarse_codes,
    generate_fine_codes,
    generate_parallel_codes,
    generate_semantic_tokens,
)
from .time_grid_audiolm import TimeGrid
from .token_feed_audiolm import Pieces


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Args:
        model_class (subclass of [`AudioLMStageModel`] or [`AudioLMParallelModel`]): its `config_class` has the name,
            `stage`, and the `layout`.
        generate (`Callable`): continues rows in windows, and yields a [`~token_feed_audiolm.Piece`] for every row, as
            [`generate_semantic_tokens`] does or, for codes, [`generate_coarse_codes`]. What a row yields in all
            depends on its inputs and seed, not on the other rows or on how its condition was split into pieces, and
            it has a code for every frame of its semantic tokens. [`~stage_windows_audiolm.CodeWindows`] has the
            windows.
        temperature (`float`, defaults to 1.0): its default sampling temperature.
        options (`dict`, *optional*): further options of its sampling, by their names without the stage's: default, and
            what is allowed.
        optional (`bool`, defaults to `False`): `use_<stage>_stage=False` generates without it.
    """

    model_class: type[AudioLMStageBase]
    generate: Callable[..., Pieces]
    temperature: float = 1.0
    options: Mapping[str, tuple[Any, Allowed]] = field(default_factory=dict)
    optional: bool = False

    @property
    def config_class(self) -> type[AudioLMStageConfig]:
        """Class of the stage's configuration."""
        return self.model_class.config_class

    @property
    def backbone_type(self) -> str:
        """`model_type` of the default backbone."""
        return self.config_class.sub_configs_defaults["backbone_config"].model_type

    @property
    def name(self) -> str:
        """Name of the stage in configurations, options and folders."""
        return self.config_class.stage


STAGES: dict[str, Stage] = {}


def register_stage(stage: Stage) -> None:
    """Add a stage to the table (or replace the one with its name), and `<stage>_config` to [`AudioLMConfig`]."""
    AudioLMConfig.add_stage(stage.config_class)
    STAGES[stage.name] = stage


_PASSES = Within(1, 1000, whole=True)
_GUIDANCE_SCALE = {"guidance_scale": (1.0, Within(0, 1000))}


def _are_passes(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(map(_PASSES.holds, values))


_CANDIDATES = {"num_candidates": (1, Within(1, 100, whole=True))}
register_stage(Stage(AudioLMSemanticModel, generate_semantic_tokens, temperature=0.6, options=_CANDIDATES))
register_stage(Stage(AudioLMCoarseModel, generate_coarse_codes, temperature=0.8, options=_GUIDANCE_SCALE))
register_stage(
    Stage(
        AudioLMFineModel,
        generate_fine_codes,
        temperature=0.6,
        options={"batch_size": (32, Within(1, 2**20, whole=True))},
        optional=True,
    )
)
register_stage(
    Stage(
        AudioLMParallelModel,
        generate_parallel_codes,
        options={
            "num_passes": (6, Rule(f"{_PASSES}, or a list of these", _are_passes)),
            "choice_temperature": (1.6, Within(0, 1e4)),
            "first_window_s": (1000.0, Within(0, 1e7, above=True)),
            "context_share": (0.5, Within(0.05, 0.75)),
            **_GUIDANCE_SCALE,
        },
    )
)


class PartsMixin:
    """What a model with both tokenizers and stages has."""

    config: Any
    training: bool
    device: torch.device
    semantic_tokenizer: Any
    codec: Any

    @property
    def stages(self) -> dict[str, PreTrainedModel]:
        """The stages by name, in the order in which they generate; the first one predicts semantic tokens."""
        return {name: bare_stage(getattr(self, name)) for name in self.config.stage_configs}

    @property
    def acoustic_codec(self) -> AcousticCodec:
        """The codec, with the interface that all codecs share."""
        return wrap_acoustic_codec(self.codec)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of the audio that goes in and comes out, Hz."""
        return self.config.sampling_rate

    @property
    def time_grid(self) -> TimeGrid:
        """The times of semantic tokens and codec frames."""
        semantic, codec = self.config.semantic_tokenizer_config, self.acoustic_codec
        return TimeGrid.from_hops(semantic.hop_length, semantic.sampling_rate, codec.hop_length, codec.sampling_rate)
