# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The parts of [`AudioLMModel`] as training and generation see them: stages, codec, rate and time grid."""

from typing import Any

import torch
from transformers import PreTrainedModel

from .acoustic_codec_audiolm import AcousticCodec, wrap_acoustic_codec
from .adapters_audiolm import bare_stage
from .time_grid_audiolm import TimeGrid


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
        """The codec seen through the contract that all codecs share."""
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
