# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Initialize a stage's embeddings with the vectors of the codebooks and centroids.

With random embeddings, a stage first has to learn which codes stand for similar latents. The initial embedding of a
code is its codebook vector under a random rotation, plus a random vector for its level.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
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
    """Initialize a stage's token embeddings, tied to its head, with the vectors of its tokens, in place.

    `levels` are those of [`code_vectors`], and `centroids`, `(num_semantic_tokens, hidden_size)`, those of the
    tokenizer.
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
