# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Bits per token of a stage on ready-made batches, in all and per level: the validation of stage training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audiolm_hf.configuration_audiolm import AudioLMStageConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, SEMANTIC_LEVEL, token_levels


@torch.inference_mode()
def stage_bits(
    model: AudioLMStageModel, batches: Sequence[dict[str, Tensor]], bf16: bool = False
) -> dict[str, dict[str, float]]:
    """Measure the negative log-likelihood of every label.

    Args:
        model ([`AudioLMStageModel`]): the stage.
        batches (sequence of `dict`): from [`validation_batches`].
        bf16 (`bool`, defaults to `False`): compute in bfloat16 where it is safe.

    Returns:
        `dict`: for `"all"`, and for each level (`"semantic"`, `"end"`, `"level_0"`, ...), a dictionary of `bits` per
        token, `accuracy` of the most likely token, and the number of `tokens`.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums: dict[str, Tensor] = {}
    for batch in batches:
        on_device = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            losses, correct = model.token_losses(**on_device)
        labels = on_device["labels"]
        for name, chosen in _label_groups(labels, model.config).items():
            figures = [losses[chosen].double().sum() / math.log(2), correct[chosen].double().sum(), chosen.sum()]
            sums[name] = sums.get(name, torch.zeros(3, dtype=torch.float64)) + torch.stack(
                [figure.double().cpu() for figure in figures]
            )
    model.train(was_training)
    return {
        name: {"bits": float(bits / count), "accuracy": float(hits / count), "tokens": int(count)}
        for name, (bits, hits, count) in sums.items()
    }


def _label_groups(labels: Tensor, config: AudioLMStageConfig) -> dict[str, Tensor]:
    """Masks of the labels by what they are, for those kinds that occur."""
    levels = token_levels(labels, config)
    labelled = labels != IGNORE_INDEX
    ends = labelled & (labels == config.eos_token_id)
    groups = {"all": labelled, "semantic": labelled & (levels == SEMANTIC_LEVEL) & ~ends, "end": ends}
    groups |= {f"level_{level}": labelled & (levels == level) for level in range(config.num_stage_codebooks)}
    return {name: chosen for name, chosen in groups.items() if bool(chosen.any())}


__all__ = ["stage_bits"]
