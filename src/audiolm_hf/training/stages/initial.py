# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The initial weights of a stage: embeddings from codebooks and centroids, and a decoder from a text language model.

With random embeddings, a stage first has to learn which codes stand for similar latents. The initial embedding of a
code is its codebook vector under a random rotation, plus a random vector for its level. Language models give their
decoder without their word embeddings, as in TWIST (arXiv 2305.13009) and Slam.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from audiolm_hf.checkpoint_audiolm import read_model_type
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase, AudioLMStageModel
from audiolm_hf.token_layout_audiolm import SEMANTIC_LEVEL, level_range


def code_vectors(codec: PreTrainedModel) -> list[Tensor]:
    """Return the vectors `(codebook_size, hidden_size)` by level that codes of a SoundStream add to the latent."""
    if codec.config.model_type != "soundstream":
        raise ValueError(f"codec is a {codec.config.model_type!r}, not a SoundStream; leave the key out.")
    codes = torch.arange(codec.config.codebook_size)
    return [level.decode(codes).detach().float() for level in codec.quantizer.levels]


@torch.no_grad()
def start_embeddings_(
    model: AudioLMStageBase,
    levels: list[Tensor] | None = None,
    centroids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Initialize a stage's tied embeddings, in place, with vectors by level and centroids `(tokens, hidden_size)`."""
    table = model.get_input_embeddings().weight
    size = table.shape[1]
    if levels is not None:
        dim = levels[0].shape[1]
        rotation = _random_rotation(dim, size, generator)
        for level in range(model.config.num_stage_codebooks):
            start, stop = level_range(model.config, level)
            _place(table[start:stop], levels[level] @ rotation, generator)
    if centroids is not None and model.config.acoustic_offset:
        start, stop = level_range(model.config, SEMANTIC_LEVEL)
        stop = min(stop, model.config.num_semantic_tokens)
        _place(table[start:stop], centroids.float() @ _random_rotation(centroids.shape[1], size, generator), generator)


def _random_rotation(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    """Draw a matrix `(rows, columns)` that preserves distances if there are enough columns."""
    noise = torch.randn(max(rows, columns), max(rows, columns), generator=generator)
    return torch.linalg.qr(noise)[0][:rows, :columns]


def _place(rows: Tensor, vectors: Tensor, generator: torch.Generator | None) -> None:
    """Write vectors plus a common random vector into rows of the table, with the previous scale of the rows."""
    scale = rows.norm(dim=1).mean()
    vectors = vectors - vectors.mean(dim=0)
    vectors = vectors / vectors.norm(dim=1).mean().clamp(min=1e-6)
    direction = torch.randn(rows.shape[1], generator=generator)
    rows.copy_(scale * (vectors + direction / direction.norm()) / 2**0.5)


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
