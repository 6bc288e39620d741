# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The model of `speaker_invariance.py`: an encoder with trainable centroids, and an adversarial speaker classifier.

The classifier predicts the speaker from the frequencies of the tokens. Gradient reversal (arXiv 1505.07818) trains the
encoder against it.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.training.processes import mean_over_processes
from audiolm_hf.training.tokenizer.spectra import IGNORED, TOKENS_FRAMES, CropBatch

FIRST_SCORE_RANGE = 3.0  # range of the initial scores of centroids, so that they are neither uniform nor certain
LEAST_SHARE = 1e-3  # frequency of a token below which the adversary's input is constant


class _ReversedGradient(torch.autograd.Function):
    """The identity with a reversed and scaled gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, weight: float) -> torch.Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.weight * gradient, None


class SpeakerAdversary(nn.Linear):
    """A linear speaker classifier with its own learning rate."""

    def __init__(self, num_tokens: int, num_speakers: int, learning_rate_factor: float) -> None:
        super().__init__(num_tokens, num_speakers)
        self.learning_rate_factor = learning_rate_factor


class SpeakerInvarianceModel(nn.Module):
    """A tokenizer's encoder, trained in place, trainable centroids, and the adversary with its gradient's factor."""

    def __init__(
        self,
        tokenizer: AudioLMSemanticTokenizer,
        centroids: torch.Tensor,
        adversary: SpeakerAdversary,
        adversary_weight: float,
    ) -> None:
        super().__init__()
        self.encoder, self.layer = tokenizer.encoder, tokenizer.config.layer
        self.centroids = nn.Parameter(centroids.clone())
        spread = (centroids - centroids.mean(dim=0)).square().sum(dim=1).mean()
        self.log_scale = nn.Parameter((FIRST_SCORE_RANGE / spread.clamp(min=1e-6)).log())
        self.adversary, self.adversary_weight = adversary, adversary_weight

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return scores of centroids `(..., num_semantic_tokens)`, higher for nearer ones, up to a common constant."""
        return self.log_scale.exp() * (2 * features @ self.centroids.T - self.centroids.square().sum(dim=1))

    def forward(self, batch: CropBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the loss, then the loss and the accuracy of the tokens, and the loss of the adversary.

        Averaged over the processes, they are means over the whole batch.
        """
        hidden_states = self.encoder(
            batch.input_features,
            attention_mask=batch.attention_mask,
            mask_time_indices=batch.masked,
            output_hidden_states=True,
        ).hidden_states[self.layer]
        scores = self.scores(hidden_states.float().unflatten(1, (-1, TOKENS_FRAMES)).mean(dim=2))
        real = batch.targets != IGNORED
        count = mean_over_processes(real.sum().float()).clamp(min=1)
        token_loss = functional.cross_entropy(scores[real], batch.targets[real], reduction="sum") / count
        accuracy = (scores.argmax(dim=-1) == batch.targets)[real].sum() / count
        speaker_loss = functional.cross_entropy(self._speaker_scores(scores, real), batch.speakers)
        return token_loss + speaker_loss, token_loss.detach(), accuracy, speaker_loss.detach()

    def _speaker_scores(self, scores: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return the adversary's logits `(batch, num_speakers)` for the mean probabilities of each crop."""
        use = (scores.softmax(dim=-1) * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)
        return self.adversary(_ReversedGradient.apply((use / LEAST_SHARE).log1p(), self.adversary_weight))
