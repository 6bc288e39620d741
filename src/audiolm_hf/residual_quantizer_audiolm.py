# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Residual vector quantizers of the codec: latent vectors in, one code per level and frame out.

Every level quantises what the levels before it left over (SoundStream, arXiv 2107.03312, section III-C). Two kinds of
level stand behind one interface: `EMACodebook` (moving averages, k-means initialisation, replacement of dead codes)
and `FactorizedCodebook` (low-dimensional L2-normalised codes learned by gradient; DAC, arXiv 2306.06546).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_audiolm import SoundStreamConfig

KMEANS_ITERATIONS = 10


@dataclass
class QuantizerOutput:
    """What one pass through the residual quantizer gives.

    Args:
        quantized (`torch.Tensor` of shape `(batch, frames, hidden_size)`): sum of the chosen code vectors; gradients
            pass straight through to the latent.
        audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): chosen codes.
        commitment_loss (`torch.Tensor` of shape `()`): pulls the latent towards the codes.
        codebook_loss (`torch.Tensor` of shape `()`): pulls the codes towards the latent; 0 for moving averages.
    """

    quantized: Tensor
    audio_codes: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest row of `codebook` for each vector.

    Args:
        vectors (`torch.Tensor` of shape `(num_vectors, codebook_dim)`): what to look up.
        codebook (`torch.Tensor` of shape `(codebook_size, codebook_dim)`): the rows to choose from.

    Returns:
        `torch.LongTensor` of shape `(num_vectors,)`.
    """
    # |v - c|^2 = |v|^2 - 2 v.c + |c|^2, and |v|^2 is the same for every c.
    return torch.addmm(codebook.pow(2).sum(1), vectors, codebook.t(), alpha=-2).argmin(1)


def kmeans(vectors: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Cluster vectors by Lloyd's algorithm, started from randomly drawn vectors.

    Args:
        vectors (`torch.Tensor` of shape `(num_vectors, codebook_dim)`): what to cluster.
        num_clusters (`int`): may exceed the number of vectors; centroids then repeat with a little noise.

    Returns:
        Centroids of shape `(num_clusters, codebook_dim)` and cluster sizes of shape `(num_clusters,)`.
    """
    num_vectors = len(vectors)
    if num_vectors >= num_clusters:
        centroids = vectors[torch.randperm(num_vectors, device=vectors.device)[:num_clusters]].clone()
    else:
        drawn = vectors[torch.randint(num_vectors, (num_clusters,), device=vectors.device)]
        centroids = drawn + 1e-3 * vectors.std() * torch.randn_like(drawn)
    counts = vectors.new_zeros(num_clusters)
    for _ in range(KMEANS_ITERATIONS):
        codes = nearest_codes(vectors, centroids)
        counts, sums = cluster_sums(vectors, codes, num_clusters)
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
    return centroids, counts


def cluster_sums(vectors: Tensor, codes: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Count the vectors of every cluster, shape `(num_clusters,)`, and add them up, `(num_clusters, codebook_dim)`."""
    counts = torch.bincount(codes, minlength=num_clusters).to(vectors.dtype)
    sums = torch.zeros(num_clusters, vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    return counts, sums.index_add_(0, codes, vectors)


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _place() -> tuple[int, int]:
    """This process's number and the number of processes that train together."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if _is_distributed() else (0, 1)


def _of_all_processes(vectors: Tensor, rows: int) -> Tensor:
    """Vectors `(rows * frames, ...)` of every process, in the order of the one batch that was dealt out row by row."""
    if not _is_distributed():
        return vectors
    parts = [torch.empty_like(vectors) for _ in range(_place()[1])]
    torch.distributed.all_gather(parts, vectors.contiguous())
    return torch.stack([part.unflatten(0, (rows, -1)) for part in parts], dim=1).flatten(0, 2)


class EMACodebook(nn.Module):
    """One level whose codes are exponential moving averages of the vectors assigned to them."""

    codebook: Tensor
    sums: Tensor
    counts: Tensor
    initialized: Tensor

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.decay = config.codebook_decay
        self.dead_code_threshold = config.dead_code_threshold
        size, dim = config.codebook_size, config.codebook_dim
        self.register_buffer("codebook", torch.zeros(size, dim))
        self.register_buffer("sums", torch.zeros(size, dim))
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def initialize(self, vectors: Tensor) -> None:
        """Place the codes at the k-means centroids of `vectors`, shape `(num_vectors, codebook_dim)`."""
        centroids, _ = kmeans(vectors.float(), len(self.codebook))
        if _is_distributed():
            torch.distributed.broadcast(centroids, src=0)
        self.codebook.copy_(centroids)
        self.counts.fill_(1.0)
        self.sums.copy_(centroids)
        self.initialized.fill_(True)

    @torch.no_grad()
    def _update(self, vectors: Tensor, codes: Tensor, active: Tensor, rows: int) -> None:
        counts, sums = cluster_sums(vectors[active], codes[active], len(self.codebook))
        if _is_distributed():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self._replace_dead_codes(vectors, active, rows)
        self.codebook.copy_(self.sums / self.counts.clamp(min=1e-5)[:, None])

    def _replace_dead_codes(self, vectors: Tensor, active: Tensor, rows: int) -> None:
        mean_count = self.counts.mean()
        dead = self.counts < self.dead_code_threshold * mean_count
        if not dead.any():  # the counts, and so this, are the same in every process
            return
        candidates = _of_all_processes(vectors, rows)[_of_all_processes(active, rows)]
        if not len(candidates):
            return
        drawn = candidates[torch.randint(len(candidates), (len(dead),), device=vectors.device)]
        if _is_distributed():
            torch.distributed.broadcast(drawn, src=0)  # where their random numbers differ
        # A replaced code starts at the mean use, so that it has time to prove its own.
        self.sums.copy_(torch.where(dead[:, None], drawn * mean_count, self.sums))
        self.counts.copy_(torch.where(dead, mean_count, self.counts))

    def forward(self, residual: Tensor, active: Tensor | None, rows: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantise `residual (num_vectors, codebook_dim)`; `active (num_vectors,)` marks those to learn from.

        `rows` is the batch that the vectors come from, frame after frame.
        """
        codes = nearest_codes(residual.detach(), self.codebook)
        quantized = self.decode(codes)
        if self.training:
            if active is None:
                active = torch.ones_like(codes, dtype=torch.bool)
            self._update(residual.detach(), codes, active, rows)
        commitment = (residual - quantized).pow(2).mean(1)
        return quantized, codes, commitment, commitment.new_zeros(commitment.shape)

    def decode(self, codes: Tensor) -> Tensor:
        """Look codes of shape `(num_vectors,)` up; returns `(num_vectors, codebook_dim)`."""
        return F.embedding(codes, self.codebook)


class FactorizedCodebook(nn.Module):
    """One level that projects to a few dimensions and compares L2-normalised codes learned by gradient."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.in_proj = nn.Linear(config.hidden_size, config.codebook_dim)
        self.out_proj = nn.Linear(config.codebook_dim, config.hidden_size)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def forward(self, residual: Tensor, active: Tensor | None, rows: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantise `residual (num_vectors, hidden_size)`; every vector is learned from through the losses."""
        projected = self.in_proj(residual)
        codes = nearest_codes(F.normalize(projected.detach()), F.normalize(self.codebook.weight))
        chosen = self.codebook(codes)
        commitment = (projected - chosen.detach()).pow(2).mean(1)
        codebook_loss = (projected.detach() - chosen).pow(2).mean(1)
        straight = projected + (chosen - projected).detach()
        return self.out_proj(straight), codes, commitment, codebook_loss

    def decode(self, codes: Tensor) -> Tensor:
        """Look codes of shape `(num_vectors,)` up; returns `(num_vectors, hidden_size)`."""
        return self.out_proj(self.codebook(codes))


class ResidualVectorQuantizer(nn.Module):
    """Quantise latents level by level; any number of leading levels gives a usable result."""

    in_proj: nn.Module
    out_proj: nn.Module
    levels: Any  # a `ModuleList`, whose items would count as bare modules

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.is_ema = config.quantizer_type == "ema"
        self.dropout = config.quantizer_dropout
        if self.is_ema:
            self.in_proj = nn.Linear(config.hidden_size, config.codebook_dim)
            self.out_proj = nn.Linear(config.codebook_dim, config.hidden_size)
        else:
            self.in_proj = self.out_proj = nn.Identity()
        level = EMACodebook if self.is_ema else FactorizedCodebook
        self.levels = nn.ModuleList(level(config) for _ in range(config.num_codebooks))

    @property
    def needs_initialization(self) -> bool:
        """Whether the codebooks still wait for vectors to be placed by."""
        return self.is_ema and not bool(self.levels[0].initialized)

    @torch.no_grad()
    def initialize(self, latents: Tensor) -> None:
        """Place every level's codes by k-means on what the levels before it leave of `latents (..., hidden_size)`.

        Several processes give the same latents each, or agree on what the first one finds in its own.
        """
        residual = self.in_proj(latents.flatten(0, -2).float())
        for level in self.levels:
            level.initialize(residual)
            residual = residual - level.decode(nearest_codes(residual, level.codebook))

    def _draw_num_levels(self, batch: int, num_levels: int, device: torch.device) -> Tensor | None:
        """Levels in use for each row when training with quantizer dropout (SoundStream, section III-C).

        Every process draws for the rows of all and takes its own: with equal seeds, several train like one.
        """
        if not self.training or self.dropout == 0:
            return None
        rank, count = _place()
        drawn = torch.randint(1, num_levels + 1, (batch * count,), device=device)
        dropped = torch.rand(batch * count, device=device) < self.dropout
        return torch.where(dropped, drawn, num_levels)[rank::count]

    def forward(self, latents: Tensor, num_codebooks: int) -> QuantizerOutput:
        """Quantise `latents (batch, frames, hidden_size)` with the first `num_codebooks` levels, in float32.

        With 0 levels the latents pass unquantised, as in the first steps of a training.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._quantize(latents, num_codebooks)

    def _quantize(self, latents: Tensor, num_codebooks: int) -> QuantizerOutput:
        batch, frames, _ = latents.shape
        if num_codebooks == 0:
            return self._pass_through(latents)
        if self.training and self.needs_initialization:
            self.initialize(_of_all_processes(latents.detach().flatten(0, 1), batch))
        projected = self.in_proj(latents.flatten(0, 1).float())
        residual, total = projected, torch.zeros_like(projected)
        num_levels = self._draw_num_levels(batch, num_codebooks, latents.device)
        codes, commitments, codebook_losses = [], [], []
        for index, level in enumerate(self.levels[:num_codebooks]):
            active = None if num_levels is None else (num_levels > index).repeat_interleave(frames)
            quantized, level_codes, commitment, codebook_loss = level(residual, active, batch)
            if active is not None:
                weight = active.to(quantized.dtype)
                quantized, commitment = quantized * weight[:, None], commitment * weight
                codebook_loss = codebook_loss * weight
            total = total + quantized
            residual = residual - quantized.detach() if self.is_ema else residual - quantized
            codes.append(level_codes)
            commitments.append(commitment.mean())
            codebook_losses.append(codebook_loss.mean())
        if self.is_ema:
            total = projected + (total - projected).detach()
        return QuantizerOutput(
            quantized=self.out_proj(total).view(batch, frames, -1),
            audio_codes=torch.stack([level_codes.view(batch, frames) for level_codes in codes], dim=1),
            commitment_loss=torch.stack(commitments).mean(),
            codebook_loss=torch.stack(codebook_losses).mean(),
        )

    def _pass_through(self, latents: Tensor) -> QuantizerOutput:
        no_codes = torch.zeros(latents.shape[0], 0, latents.shape[1], dtype=torch.long, device=latents.device)
        no_loss = latents.new_zeros(())
        return QuantizerOutput(self.out_proj(self.in_proj(latents.float())), no_codes, no_loss, no_loss)

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Codes of `latents (batch, frames, hidden_size)`: `(batch, num_codebooks, frames)`."""
        batch, frames, _ = latents.shape
        residual = self.in_proj(latents.flatten(0, 1).float())
        codes = []
        for level in self.levels[:num_codebooks]:
            quantized, level_codes, _, _ = level(residual, None)
            residual = residual - quantized
            codes.append(level_codes.view(batch, frames))
        return torch.stack(codes, dim=1)

    def decode(self, audio_codes: Tensor) -> Tensor:
        """Latents, `(batch, frames, hidden_size)`, of `audio_codes (batch, num_codebooks, frames)`."""
        batch, _, frames = audio_codes.shape
        total = sum(
            level.decode(codes.reshape(-1)) for level, codes in zip(self.levels, audio_codes.unbind(1), strict=False)
        )
        return self.out_proj(total).view(batch, frames, -1)


__all__ = [
    "EMACodebook",
    "FactorizedCodebook",
    "QuantizerOutput",
    "ResidualVectorQuantizer",
    "kmeans",
    "nearest_codes",
]
