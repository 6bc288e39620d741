# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Operations and activations of a training step, and what a GPU can do at most.

Operations are counted as usual for model FLOPs utilisation (MFU): six for each weight of a linear layer and each
token, and those of attention over all pairs of positions.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

# Operations a second of dense bfloat16 products, by a part of what the driver calls the device; from data sheets.
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "L4": 121e12}
GIB = 2**30
STATE_BYTES = 16  # of a trained weight: itself, its gradient and AdamW's two moments, in float32
# What a decoder keeps for the backward pass beside the inputs and outputs of its linear layers (normalisations,
# activation functions, rotary positions), relative to these, in bfloat16 and not; found with Llamas.
_OTHER_ACTIVATIONS = {True: 0.5, False: 0.2}


def peak_flops(device: torch.device) -> float | None:
    """Return the bfloat16 operations a second that a GPU can do at most; `None` if that is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _PEAKS.items() if part in name), None)


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def decoder_flops_per_token(decoder: PreTrainedModel, sequence_length: int) -> float:
    """Count the operations of a decoder's forward and backward pass for each token.

    Args:
        decoder (`PreTrainedModel`): without its head.
        sequence_length (`int`): ids per sequence.
    """
    config = decoder.config
    heads = config.num_attention_heads
    width = heads * (config.to_dict().get("head_dim") or config.hidden_size // heads)
    weights = sum(layer.weight.numel() for layer in _linear_layers(decoder))
    return 6 * weights + 12 * config.num_hidden_layers * width * sequence_length


def decoder_bytes_per_token(decoder: PreTrainedModel, bf16: bool, gradient_checkpointing: bool = False) -> float:
    """Estimate what a decoder keeps of each token for the backward pass, in bytes.

    Args:
        decoder (`PreTrainedModel`): without its head.
        bf16 (`bool`): computes in bfloat16.
        gradient_checkpointing (`bool`, defaults to `False`): keeps the inputs of the layers and one layer's rest.
    """
    values = sum(layer.in_features + layer.out_features for layer in _linear_layers(decoder))
    kept = (1 + _OTHER_ACTIVATIONS[bf16]) * values * (2 if bf16 else 4)
    num_layers = decoder.config.num_hidden_layers
    return kept / num_layers + 4 * num_layers * decoder.config.hidden_size if gradient_checkpointing else kept


def measure_step(run: Callable[[], Tensor | Iterable[Tensor]], modules: nn.Module) -> tuple[int, int]:
    """Run forward and backward and count.

    Args:
        run (callable): the forward pass.
        modules (`nn.Module`): whose own parameters and buffers are no activations.

    Returns:
        `(int, int)`: operations of matrix products and convolutions, and bytes kept for the backward pass.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in [*modules.parameters(), *modules.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        results = run()
        results = [results] if isinstance(results, Tensor) else [*results]
        torch.stack([result.float().sum() for result in results]).sum().backward()
    return counter.get_total_flops(), sum(kept.values())
