# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Initialize a stage with the decoder of a text language model, without its word embeddings.

Paper: TWIST (arXiv 2305.13009) and Slam.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from audiolm_hf.checkpoint_audiolm import read_model_type
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel


def warm_backbone_config(folder: str | Path, changes: dict[str, Any]) -> PreTrainedConfig:
    """Return the configuration of a language model's decoder with `changes`, for a stage with the same sizes."""
    model_type = read_model_type(folder)
    if changes.get("model_type", model_type) != model_type:
        raise ValueError(
            f"backbone.model_type is {changes['model_type']!r}, but {folder} holds a {model_type!r}; leave it out."
        )
    config = AutoConfig.from_pretrained(folder)
    if config.is_encoder_decoder or config.get_text_config() is not config:
        raise ValueError(f"{folder} holds a {model_type!r}, which is not one decoder of text, such as Llama.")
    config.dtype = torch.float32
    for name, value in changes.items():
        if name != "model_type":
            setattr(config, name, value)
    return config


def warm_start_(model: AudioLMStageModel, folder: str | Path) -> None:
    """Load a language model's decoder into a stage, in place; the embeddings and the head do not change."""
    decoder = AutoModel.from_pretrained(folder, dtype="float32")
    weights, expected = (_without_embeddings(part) for part in (decoder, model.model))
    flaws = sorted(weights.keys() ^ expected.keys())
    flaws += sorted(name for name in weights.keys() & expected.keys() if weights[name].shape != expected[name].shape)
    if flaws:
        raise ValueError(
            f"The decoder in {folder} does not fit the stage's: {len(flaws)} weights are missing or of another shape, "
            f"for example {flaws[0]}. Leave the sizes out of `backbone`; they are the language model's."
        )
    model.model.load_state_dict(weights, strict=False)


def _without_embeddings(decoder: PreTrainedModel) -> dict[str, torch.Tensor]:
    table = decoder.get_input_embeddings().weight.data_ptr()
    return {name: tensor for name, tensor in decoder.state_dict().items() if tensor.data_ptr() != table}
