# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Best of several samples of semantic tokens: the one that is most like the prompt."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from .sampling_audiolm import Progress, RowNoise, TokenSampler, sample_tokens
from .token_layout_audiolm import stage_context

_ONSET_RATE_WEIGHT = 2.0  # chosen on piano, see configs/tiny/piano/README.md
_SMALL_RATE = 0.3  # onsets per second; rates far below it count as equal


@torch.no_grad()
def sample_best(
    model: PreTrainedModel,
    prompt: Tensor,
    tokens: Tensor,
    noise: list[RowNoise],
    length: int,
    sampler: TokenSampler,
    num_forbidden_ends: Tensor,
    progress: Progress,
    onset_rate: float | None = None,
) -> Tensor:
    """Continue semantic `tokens` of one row once for each `noise`, and return the continuation most like the prompt.

    It is the one `(length,)` whose mean embedding in the stage has the highest cosine similarity with that of `prompt
    (prompt_length,)`. If the prompt's `onset_rate` is given, twice the absolute logarithm of its ratio to the expected
    rate of the continuation, 0.3 added to both, is subtracted from the similarity.
    """
    count, config = len(noise), model.config
    contexts, draws = [stage_context(None, tokens, config)] * count, torch.stack([each.draw(length) for each in noise])
    candidates = sample_tokens(model, contexts, draws, sampler, num_forbidden_ends=num_forbidden_ends.expand(count))
    progress.advance(length)
    embeddings = model.get_input_embeddings()(torch.arange(config.num_semantic_tokens, device=tokens.device)).float()
    embeddings = (embeddings - embeddings.mean(0)) / embeddings.std(0).clamp(min=1e-6)
    kept = [each[each != config.end_token_id] for each in candidates]
    means = torch.stack([embeddings[each].mean(0) for each in (prompt, *kept)])
    scores = F.cosine_similarity(means[1:], means[:1]).nan_to_num(nan=-torch.inf)  # NaN: a candidate without tokens
    if onset_rate is not None:
        expected = _expected_onset_rates(model, kept, length)
        scores -= _ONSET_RATE_WEIGHT * ((expected + _SMALL_RATE) / (onset_rate + _SMALL_RATE)).log().abs()
    return candidates[scores.argmax()]


def _expected_onset_rates(model: PreTrainedModel, candidates: list[Tensor], length: int) -> Tensor:
    """Return the expected onset rate of each candidate, `(num_candidates,)`.

    Where one ends before `length`, its rest counts with the mean rate of all, because the rate of a few tokens varies
    too much to compare it.
    """
    pairs = torch.tensor([max(0, len(each) - 1) for each in candidates], device=candidates[0].device)
    rates = [model.expected_onset_rate(each) if len(each) > 1 else pairs.new_zeros(()) for each in candidates]
    onsets = torch.stack([rate.float() for rate in rates]) * pairs
    mean = onsets.sum() / pairs.sum().clamp(min=1)
    return (onsets + mean * (length - 1 - pairs)) / max(1, length - 1)
