# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Validation of the stages: bits per token on given batches, in total and per level."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiolm_hf.configuration_audiolm import AudioLMStageConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, SEMANTIC_LEVEL, token_levels


@torch.no_grad()
def stage_bits(
    model: AudioLMStageBase,
    batches: Sequence[dict[str, Tensor]],
    bf16: bool = False,
    process_index: int = 0,
    num_processes: int = 1,
    token_losses: Callable[..., tuple[Tensor, Tensor]] | None = None,
) -> dict[str, dict[str, float]]:
    """Return the negative log-likelihood and the accuracy of the labels of validation batches.

    If several processes share the batches, all of them must call this function, and all return the same result:
    for `"all"` and each kind of token (`"semantic"`, `"end"`, `"level_0"`, ...) `bits` a token, `accuracy`, `tokens`.
    """
    device = next(model.parameters()).device
    names = ["all", "semantic", "end", *(f"level_{level}" for level in range(model.config.num_stage_codebooks))]
    sums = torch.zeros(len(names), 3, dtype=torch.float64)
    was_training = model.training
    model.eval()
    for start in range(0, len(batches), num_processes):
        batch = batches[min(start + process_index, len(batches) - 1)]
        if start + process_index >= len(batches):  # without labels, because all processes must run the model
            batch = batch | {"labels": torch.full_like(batch["labels"], IGNORE_INDEX)}
        on_device = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            losses, correct = (token_losses or model.token_losses)(**on_device)
        for name, chosen in _label_groups(on_device["labels"], model.config).items():
            totals = [losses[chosen].double().sum() / math.log(2), correct[chosen].double().sum(), chosen.sum()]
            sums[names.index(name)] += torch.stack([value.double().cpu() for value in totals])
    model.train(was_training)
    if num_processes > 1:
        sums = sums.to(device)
        torch.distributed.all_reduce(sums)
    return {
        name: {"bits": bits / count, "accuracy": hits / count, "tokens": int(count)}
        for name, (bits, hits, count) in zip(names, sums.tolist(), strict=True)
        if count
    }


def _label_groups(labels: Tensor, config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Return masks of the labels by kind of token, for the kinds that occur."""
    levels = token_levels(labels, config)
    labelled = labels != IGNORE_INDEX
    ends = labelled & (labels == config.end_token_id)
    groups = {"all": labelled, "semantic": labelled & (levels == SEMANTIC_LEVEL) & ~ends, "end": ends}
    groups |= {f"level_{level}": labelled & (levels == level) for level in range(config.num_stage_codebooks)}
    return {name: chosen for name, chosen in groups.items() if bool(chosen.any())}
