# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Operations and activations of a training step, and the peak operations of GPUs.

Operations are counted as usual for model FLOPs utilization (MFU): six per weight of a linear layer and token, plus
those of attention over all pairs of positions.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

# Peak operations per second of dense bfloat16 products, by a part of the device's name; from data sheets.
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "L4": 121e12}
GIB = 2**30
STATE_BYTES = 16  # per trained weight: the weight, its gradient and AdamW's two moments, in float32
# Activations of normalizations, activation functions and rotary positions relative to the inputs and outputs of linear
# layers, with and without bfloat16; measured with Llamas.
_OTHER_ACTIVATIONS = {True: 0.5, False: 0.2}


def peak_flops(device: torch.device) -> float | None:
    """Return the peak bfloat16 operations per second of a GPU; `None` if they are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _PEAKS.items() if part in name), None)


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def decoder_flops_per_token(decoder: PreTrainedModel, sequence_length: int) -> float:
    """Return the operations per token of the forward and backward pass of a decoder without its head."""
    config = decoder.config
    heads = config.num_attention_heads
    width = heads * (config.to_dict().get("head_dim") or config.hidden_size // heads)
    weights = sum(layer.weight.numel() for layer in _linear_layers(decoder))
    return 6 * weights + 12 * config.num_hidden_layers * width * sequence_length


def decoder_bytes_per_token(decoder: PreTrainedModel, bf16: bool, gradient_checkpointing: bool = False) -> float:
    """Estimate the bytes per token that a decoder without its head keeps for the backward pass."""
    values = sum(layer.in_features + layer.out_features for layer in _linear_layers(decoder))
    kept = (1 + _OTHER_ACTIVATIONS[bf16]) * values * (2 if bf16 else 4)
    num_layers = decoder.config.num_hidden_layers
    return kept / num_layers + 4 * num_layers * decoder.config.hidden_size if gradient_checkpointing else kept
