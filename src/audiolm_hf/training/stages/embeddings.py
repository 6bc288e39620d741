# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Start a stage's embeddings where the tokens are: at the vectors of the codebooks and centroids they stand for.

Random embeddings make a stage learn first that two neighbouring codes mean nearly the same latent, code by code, for
twelve thousand codes. With the vectors given it starts from there. A code's embedding is a random rotation of its
codebook vector, plus a direction of its own for the level; it is learned further like any other.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.token_layout_audiolm import SEMANTIC_LEVEL, level_range


def code_vectors(codec: PreTrainedModel) -> list[Tensor]:
    """Return what each code of a SoundStream adds to the latent.

    Args:
        codec ([`SoundStreamModel`]): the codec.

    Returns:
        `list[torch.Tensor]`: for each level, vectors of shape `(codebook_size, hidden_size)`, in one space.

    Raises:
        ValueError: the codec is of another kind.
    """
    if codec.config.model_type != "soundstream":
        raise ValueError(
            f"The codec has model_type {codec.config.model_type!r}; only a SoundStream's codes can start embeddings. "
            "Leave `codec` out of the stage's training."
        )
    codes = torch.arange(codec.config.codebook_size)
    return [level.decode(codes).detach().float() for level in codec.quantizer.levels]


@torch.no_grad()
def start_embeddings_(
    model: AudioLMStageModel,
    levels: list[Tensor] | None = None,
    centroids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Place a stage's token embeddings at the vectors their tokens stand for, in place.

    Args:
        model ([`AudioLMStageModel`]): the stage; its embeddings must be tied to its head.
        levels (`list[torch.Tensor]`, *optional*): vectors of every codebook level, see [`code_vectors`].
        centroids (`torch.Tensor` of shape `(num_semantic_tokens, hidden_size)`, *optional*): of the semantic
            tokenizer.
        generator (`torch.Generator`, *optional*): draws the rotation and the levels' directions.
    """
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
    """A matrix `(rows, columns)` that keeps distances, as far as there are columns for them."""
    noise = torch.randn(max(rows, columns), max(rows, columns), generator=generator)
    return torch.linalg.qr(noise)[0][:rows, :columns]


def _place(rows: Tensor, vectors: Tensor, generator: torch.Generator | None) -> None:
    """Write vectors and a common direction into rows of the table, at the size the rows had."""
    scale = rows.norm(dim=1).mean()
    vectors = vectors - vectors.mean(dim=0)
    vectors = vectors / vectors.norm(dim=1).mean().clamp(min=1e-6)
    direction = torch.randn(rows.shape[1], generator=generator)
    rows.copy_(scale * (vectors + direction / direction.norm()) / 2**0.5)
