# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Bits per token of a stage on ready-made batches, in all and per level: the validation of stage training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audiolm_hf.configuration_audiolm import AudioLMStageConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, SEMANTIC_LEVEL, token_levels


@torch.no_grad()
def stage_bits(
    model: AudioLMStageModel,
    batches: Sequence[dict[str, Tensor]],
    bf16: bool = False,
    process_index: int = 0,
    num_processes: int = 1,
) -> dict[str, dict[str, float]]:
    """Measure the negative log-likelihood of every label.

    Args:
        model ([`AudioLMStageModel`]): the stage.
        batches (sequence of `dict`): from [`validation_batches`].
        bf16 (`bool`, defaults to `False`): compute in bfloat16 where it is safe.
        process_index (`int`, defaults to 0): which of several processes this is.
        num_processes (`int`, defaults to 1): how many share the batches; all of them must call, and all get the same.

    Returns:
        `dict`: for `"all"`, and for each level (`"semantic"`, `"end"`, `"level_0"`, ...), a dictionary of `bits` per
        token, `accuracy` of the most likely token, and the number of `tokens`.
    """
    device = next(model.parameters()).device
    names = ["all", "semantic", "end", *(f"level_{level}" for level in range(model.config.num_stage_codebooks))]
    sums = torch.zeros(len(names), 3, dtype=torch.float64)
    was_training = model.training
    model.eval()
    for start in range(0, len(batches), num_processes):
        batch = _batch_or_idle(batches, start + process_index)
        on_device = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            losses, correct = model.token_losses(**on_device)
        for name, chosen in _label_groups(on_device["labels"], model.config).items():
            figures = [losses[chosen].double().sum() / math.log(2), correct[chosen].double().sum(), chosen.sum()]
            sums[names.index(name)] += torch.stack([figure.double().cpu() for figure in figures])
    model.train(was_training)
    if num_processes > 1:
        sums = sums.to(device)
        torch.distributed.all_reduce(sums)
    return {
        name: {"bits": bits / count, "accuracy": hits / count, "tokens": int(count)}
        for name, (bits, hits, count) in zip(names, sums.tolist(), strict=True)
        if count
    }


def _batch_or_idle(batches: Sequence[dict[str, Tensor]], place: int) -> dict[str, Tensor]:
    """One batch; past the last, the last without labels, since every process must run the model equally often."""
    if place < len(batches):
        return batches[place]
    return batches[-1] | {"labels": torch.full_like(batches[-1]["labels"], IGNORE_INDEX)}


def _label_groups(labels: Tensor, config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Masks of the labels by what they are, for those kinds that occur."""
    levels = token_levels(labels, config)
    labelled = labels != IGNORE_INDEX
    ends = labelled & (labels == config.end_token_id)
    groups = {"all": labelled, "semantic": labelled & (levels == SEMANTIC_LEVEL) & ~ends, "end": ends}
    groups |= {f"level_{level}": labelled & (levels == level) for level in range(config.num_stage_codebooks)}
    return {name: chosen for name, chosen in groups.items() if bool(chosen.any())}
