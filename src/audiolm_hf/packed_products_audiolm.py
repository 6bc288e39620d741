# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Faster operations for backbones that are not compiled: linear layers by oneDNN on a CPU, attention on a GPU.

docs/performance.md compares libraries for products: which one is fastest depends on the rows, the dtype, and whether
the weights are in the cache.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

MIN_PRODUCT_ROWS = 32  # with fewer rows, a call of oneDNN takes longer than one of torch
LARGE_WEIGHT = 2**20  # elements; oneDNN reads such weights from memory faster than MKL, for any number of rows
_onednn: Any = torch.ops.mkldnn


class FastProducts(TorchFunctionMode):
    """Context in which oneDNN multiplies the float32 inputs of linear layers on a CPU, without gradients.

    By default, torch uses MKL, which takes twice as long as oneDNN on AMD processors and the same time on Intel ones.
    Inputs of fewer than `MIN_PRODUCT_ROWS` rows are left to torch, unless the weight is large.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear and not kwargs and _suits_onednn(*args):
            inputs, weight, bias = (*args, None)[:3]
            return multiply(inputs, weight, bias)
        return func(*args, **(kwargs or {}))


def fast_products(model: PreTrainedModel) -> AbstractContextManager:
    """Return the context for a backbone's `forward`: [`steady_attention`] on a GPU, else [`FastProducts`].

    For a compiled backbone, the context does nothing.
    """
    if has_fixed_shapes(model):
        return nullcontext()
    return steady_attention(model.device) if model.device.type == "cuda" else FastProducts()


def steady_attention(device: torch.device) -> AbstractContextManager:
    """Return a context that avoids cuDNN's attention on a GPU, which takes 4 ms to plan every new shape (H100)."""
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def _suits_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    given = [inputs, weight] if bias is None else [inputs, weight, bias]
    return (
        (inputs.numel() >= MIN_PRODUCT_ROWS * inputs.shape[-1] or weight.numel() >= LARGE_WEIGHT)
        and all(type(each) in (Tensor, nn.Parameter) and each.dtype == torch.float32 for each in given)
        and all(each.device.type == "cpu" for each in given)
        and (bias is None or bias.is_contiguous())
        and torch.backends.mkldnn.is_available()
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    )


def multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear` of CPU tensors, computed by oneDNN if torch was built with it."""
    if torch.backends.mkldnn.is_available():
        return _onednn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return F.linear(inputs, weight, bias)


def normalize(hidden: Tensor, norm: Any) -> Tensor:
    """Return `hidden` normalized by an RMSNorm."""
    return F.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def pack(layers: Sequence[Any], rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function that applies several linear layers to the same inputs, and concatenates their outputs.

    `rows` is the number of rows for which weights are packed.
    """
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if all(layer.bias is None for layer in layers) else torch.cat([_bias(layer) for layer in layers])
    if torch.backends.mkldnn.is_available():
        weight = _onednn._reorder_linear_weight(weight, rows)
    return lambda inputs: multiply(inputs, weight, bias)


def _bias(layer: Any) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


def fast_dtypes() -> list[torch.dtype]:
    """Return the dtypes of weights that this processor multiplies without converting them."""
    has_bfloat16 = torch.backends.mkldnn.is_available() and _onednn._is_mkldnn_bf16_supported()
    return [torch.float32, torch.bfloat16] if has_bfloat16 else [torch.float32]


def has_fixed_shapes(model: PreTrainedModel) -> bool:
    """Return whether a backbone was compiled by its `compile`, and its class supports `fullgraph`.

    Its inputs are then padded, so that their shapes rarely change.
    """
    return model._compiled_call_impl is not None and model._can_compile_fullgraph
