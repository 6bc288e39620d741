# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The residual vector quantizer of the codec: latents in, one code per level and frame out.

Every level quantizes what the levels before it leave. A code is the moving average of the vectors that were nearest to
it in training; codes start at k-means centroids, and those that are hardly used are replaced.

Paper: SoundStream (arXiv 2107.03312), section III-C.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_audiolm import SoundStreamConfig
from .numerics_audiolm import KeepsFloat32

KMEANS_ITERATIONS = 10


@dataclass
class QuantizerOutput:
    """Output of the residual quantizer."""

    # (batch, frames, hidden_size), sum of the chosen code vectors; gradients pass straight through to the latent
    quantized: Tensor
    audio_codes: Tensor  # (batch, num_codebooks, frames)
    commitment_loss: Tensor  # (), mean squared distance of the latent from the chosen codes
    low_band: Tensor | None = None  # (batch, frames, low_band_dim), quantized


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the row of `codebook (size, dim)` nearest to each of `vectors (num_vectors, dim)`."""
    # |v - c|^2 = |v|^2 - 2 v.c + |c|^2, and |v|^2 is the same for every c.
    return torch.addmm(codebook.pow(2).sum(1), vectors, codebook.t(), alpha=-2).argmin(1)


def kmeans(vectors: Tensor, num_clusters: int) -> Tensor:
    """Return centroids `(num_clusters, dim)` of `vectors (num_vectors, dim)` by Lloyd's algorithm.

    It starts from random vectors or, if there are too few, from repeated ones with a little noise.
    """
    num_vectors = len(vectors)
    if num_vectors >= num_clusters:
        centroids = vectors[torch.randperm(num_vectors, device=vectors.device)[:num_clusters]].clone()
    else:
        drawn = vectors[torch.randint(num_vectors, (num_clusters,), device=vectors.device)]
        centroids = drawn + 1e-3 * vectors.std() * torch.randn_like(drawn)
    for _ in range(KMEANS_ITERATIONS):
        counts, sums = _cluster_sums(vectors, nearest_codes(vectors, centroids), num_clusters)
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
    return centroids


def _cluster_sums(vectors: Tensor, codes: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Count the vectors of every cluster, `(num_clusters,)`, and add them up, `(num_clusters, dim)`."""
    counts = torch.bincount(codes, minlength=num_clusters).to(vectors.dtype)
    sums = torch.zeros(num_clusters, vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    return counts, sums.index_add_(0, codes, vectors)


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _place() -> tuple[int, int]:
    """Return the rank of this process and the number of processes that train together."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if _is_distributed() else (0, 1)


def _of_all_processes(vectors: Tensor, rows: int) -> Tensor:
    """Return vectors `(rows * frames, ...)` of all processes, in the order of the batch they were dealt from."""
    if not _is_distributed():
        return vectors
    parts = [torch.empty_like(vectors) for _ in range(_place()[1])]
    torch.distributed.all_gather(parts, vectors.contiguous())
    return torch.stack([part.unflatten(0, (rows, -1)) for part in parts], dim=1).flatten(0, 2)


class EMACodebook(nn.Module):
    """A level whose codes are exponential moving averages of the vectors assigned to them."""

    codebook: Tensor
    sums: Tensor
    counts: Tensor
    initialized: Tensor

    def __init__(self, config: SoundStreamConfig, index: int = 0) -> None:
        super().__init__()
        self.decay = config.codebook_decay
        self.dead_code_threshold = config.dead_code_threshold
        has_low_band = index >= config.low_band_start_level
        size, dim = config.codebook_size, config.codebook_dim + has_low_band * config.low_band_dim
        self.register_buffer("codebook", torch.zeros(size, dim))
        self.register_buffer("sums", torch.zeros(size, dim))
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def initialize(self, vectors: Tensor) -> None:
        """Place the codes at the k-means centroids of `vectors (num_vectors, dim)`."""
        centroids = kmeans(vectors.float(), len(self.codebook))
        if _is_distributed():
            torch.distributed.broadcast(centroids, src=0)
        self.codebook.copy_(centroids)
        self.counts.fill_(1.0)
        self.sums.copy_(centroids)
        self.initialized.fill_(True)

    @torch.no_grad()
    def _update(self, vectors: Tensor, codes: Tensor, active: Tensor, rows: int) -> None:
        counts, sums = _cluster_sums(vectors[active], codes[active], len(self.codebook))
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
        # A replaced code starts with the mean use, so that it is not replaced again at once.
        self.sums.copy_(torch.where(dead[:, None], drawn * mean_count, self.sums))
        self.counts.copy_(torch.where(dead, mean_count, self.counts))

    def forward(self, residual: Tensor, active: Tensor | None, rows: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize `residual (num_vectors, dim)`, the frames of `rows` examples one after the other.

        In training, the codes move towards the vectors that `active (num_vectors,)` marks, by default all. Return code
        vectors `(num_vectors, dim)`, codes and squared distances `(num_vectors,)`.
        """
        codes = self.encode(residual.detach())
        quantized = self.decode(codes)
        if self.training and torch.is_grad_enabled():
            if active is None:
                active = torch.ones_like(codes, dtype=torch.bool)
            self._update(residual.detach(), codes, active, rows)
        return quantized, codes, (residual - quantized).pow(2).mean(1)

    def encode(self, residual: Tensor) -> Tensor:
        """Return the codes `(num_vectors,)` of `residual (num_vectors, dim)` without training."""
        return nearest_codes(residual, self.codebook)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the code vectors `(num_vectors, dim)` of `codes (num_vectors,)`."""
        return F.embedding(codes, self.codebook)


class ResidualVectorQuantizer(KeepsFloat32, nn.Module):
    """Quantize latents level by level, in float32; any number of leading levels gives a usable result.

    Only `forward` in training mode, with gradients, and `initialize` change the codebooks.
    """

    low_band_proj: nn.Module | None
    levels: Any  # a `ModuleList`, whose items would count as bare modules

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.dropout = config.quantizer_dropout
        self.in_proj = nn.Linear(config.hidden_size, config.codebook_dim)
        self.out_proj = nn.Linear(config.codebook_dim, config.hidden_size)
        self.latent_dim = config.codebook_dim
        self.low_band_dim, self.low_band_start_level = config.low_band_dim, config.low_band_start_level
        # The decoder is told what the low band holds, so that it leaves room for it.
        width = config.hidden_size
        self.low_band_proj = nn.Linear(config.low_band_dim, width, bias=False) if self.low_band_dim else None
        self.levels = nn.ModuleList(EMACodebook(config, index) for index in range(config.num_codebooks))

    @property
    def needs_initialization(self) -> bool:
        """Whether the codebooks are not initialized yet."""
        return not all(bool(level.initialized) for level in self.levels)

    @torch.no_grad()
    def initialize(self, latents: Tensor, low_band: Tensor | None = None) -> None:
        """Initialize each level by k-means on what those before leave of `latents (..., hidden_size)` and `low_band`.

        All processes use the result of the first one, also if their latents differ.
        """
        residual = self._join(latents, low_band)
        for level in self.levels:
            part = self._narrow(residual, level)
            if not level.initialized:
                level.initialize(part)
            residual = residual - self._widen(level.decode(level.encode(part)))

    def _join(self, latents: Tensor, low_band: Tensor | None) -> Tensor:
        """Return the vectors to quantize, `(num_vectors, latent_dim + low_band_dim)`."""
        projected = self.in_proj(latents.float().flatten(0, -2))
        return projected if low_band is None else torch.cat([projected, low_band.float().flatten(0, -2)], dim=1)

    def _narrow(self, residual: Tensor, level: Any) -> Tensor:
        """Return the part of a residual that a level codes."""
        return residual[:, : level.codebook.shape[1]]

    def _widen(self, quantized: Tensor) -> Tensor:
        """Pad the vectors of a level that codes no low band with zeros."""
        return F.pad(quantized, (0, self.latent_dim + self.low_band_dim - quantized.shape[1]))

    def _split(self, total: Tensor, batch: int) -> tuple[Tensor, Tensor | None]:
        """Return latents `(batch, frames, hidden_size)` and low band `(batch, frames, low_band_dim)` of vectors."""
        total = total.view(batch, -1, total.shape[1])
        latents = self.out_proj(total[..., : self.latent_dim])
        if self.low_band_proj is None:
            return latents, None
        low_band = total[..., self.latent_dim :]
        return latents + self.low_band_proj(low_band), low_band

    def _draw_num_levels(self, batch: int, num_levels: int, device: torch.device) -> Tensor | None:
        """Return the levels in use for each row with quantizer dropout (SoundStream, section III-C).

        With a low band, every other dropped row stops right before it, at the levels that the coarse stage predicts.
        Every process draws for the rows of all, so that with equal seeds several processes train like one.
        """
        if not self.training or self.dropout == 0:
            return None
        rank, count = _place()
        drawn = torch.randint(1, num_levels + 1, (batch * count,), device=device)
        chance = torch.rand(batch * count, device=device, dtype=torch.float32)
        dropped = chance < self.dropout
        if self.low_band_dim:
            drawn = torch.where(chance < self.dropout / 2, drawn.new_tensor(self.low_band_start_level), drawn)
            drawn = drawn.clamp(1, num_levels)
        return torch.where(dropped, drawn, num_levels)[rank::count]

    def forward(self, latents: Tensor, num_codebooks: int, low_band: Tensor | None = None) -> QuantizerOutput:
        """Quantize `latents (batch, frames, hidden_size)` with the first `num_codebooks` levels, in float32.

        `low_band (batch, frames, low_band_dim)`, if given, is quantized, too. With 0 levels, nothing is quantized.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._quantize(latents, num_codebooks, low_band)

    def _quantize(self, latents: Tensor, num_codebooks: int, low_band: Tensor | None) -> QuantizerOutput:
        batch, frames, _ = latents.shape
        if num_codebooks == 0:
            quantized, low_band = self._split(self._join(latents, low_band), batch)
            no_codes, no_loss = latents.new_zeros((batch, 0, frames), dtype=torch.long), latents.new_zeros(())
            return QuantizerOutput(quantized, no_codes, no_loss, low_band)
        if self.training and torch.is_grad_enabled() and self.needs_initialization:
            vectors = [latents.detach(), *([] if low_band is None else [low_band])]
            self.initialize(*(_of_all_processes(part.flatten(0, 1), batch) for part in vectors))
        projected = self._join(latents, low_band)
        residual, total = projected, torch.zeros_like(projected)
        num_levels = self._draw_num_levels(batch, num_codebooks, latents.device)
        codes, commitments = [], []
        for index, level in enumerate(self.levels[:num_codebooks]):
            active = None if num_levels is None else (num_levels > index).repeat_interleave(frames)
            quantized, level_codes, commitment = level(self._narrow(residual, level), active, batch)
            quantized = self._widen(quantized)
            if active is not None:
                weight = active.to(quantized.dtype)
                quantized, commitment = quantized * weight[:, None], commitment * weight
            total = total + quantized
            residual = residual - quantized
            codes.append(level_codes)
            commitments.append(commitment.mean())
        total = projected + (total - projected).detach()
        quantized, quantized_low_band = self._split(total, batch)
        return QuantizerOutput(
            quantized=quantized,
            audio_codes=torch.stack([level_codes.view(batch, frames) for level_codes in codes], dim=1),
            commitment_loss=torch.stack(commitments).mean(),
            low_band=quantized_low_band,
        )

    def encode(self, latents: Tensor, num_codebooks: int, low_band: Tensor | None = None) -> Tensor:
        """Return codes `(batch, num_codebooks, frames)` of `latents (batch, frames, hidden_size)` and low band."""
        codes = []
        with torch.autocast(latents.device.type, enabled=False):
            residual = self._join(latents, low_band)
            for level in self.levels[:num_codebooks]:
                level_codes = level.encode(self._narrow(residual, level))
                residual = residual - self._widen(level.decode(level_codes))
                codes.append(level_codes.view(latents.shape[:2]))
        return torch.stack(codes, dim=1)

    def decode(self, audio_codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latents `(batch, frames, hidden_size)`, and the low band if there is one, of `audio_codes`."""
        with torch.autocast(audio_codes.device.type, enabled=False):
            levels = zip(self.levels, audio_codes.unbind(1), strict=False)
            parts = [self._widen(level.decode(codes.reshape(-1))) for level, codes in levels]
            return self._split(torch.stack(parts).sum(0), len(audio_codes))
