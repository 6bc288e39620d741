# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Products of linear layers on a CPU: weights in the layout that is fastest for one row, or for many.

In: linear layers; out: functions that apply them. Which library is the fastest depends on the rows, the dtype and
where the weights are: docs/performance.md has the measurements.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

MIN_PRODUCT_ROWS = 32  # below, reading the weights takes most of the time, and they are not packed
# A decoder of up to CACHED_BYTES, with its keys and values, stays in a core's cache between steps; one of up to
# LARGE_BYTES in the cache that cores share.
CACHED_BYTES, LARGE_BYTES = 12e6, 32e6
BLOCK = 256  # outputs that are summed up together
_onednn: Any = torch.ops.mkldnn


class FastProducts(TorchFunctionMode):
    """Context in which oneDNN multiplies the float32 inputs of linear layers on a CPU, without gradients.

    torch uses MKL, which takes twice as long on processors of AMD, and as long on those of Intel.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.linear and not kwargs and _suits_onednn(*args):
            inputs, weight, bias = (*args, None)[:3]
            return multiply(inputs, weight, bias)
        return func(*args, **(kwargs or {}))


def fast_products(model: PreTrainedModel) -> AbstractContextManager:
    """Return the context for a backbone's `forward`: [`steady_attention`] on a GPU, else [`FastProducts`].

    A compiled backbone needs none.
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
        inputs.numel() >= MIN_PRODUCT_ROWS * inputs.shape[-1]
        and all(type(each) in (Tensor, nn.Parameter) and each.dtype == torch.float32 for each in given)
        and all(each.device.type == "cpu" for each in given)
        and torch.backends.mkldnn.is_available()
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    )


def multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear` of a CPU's tensors, by oneDNN if torch has it."""
    if torch.backends.mkldnn.is_available():
        return _onednn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return F.linear(inputs, weight, bias)


def normalize(hidden: Tensor, norm: Any, out: Tensor | None = None) -> Tensor:
    """Return the result of an RMSNorm; for one row in float32 it is written to `out`, if that is given."""
    if is_row(hidden):  # by fewer calls
        return torch.mul(hidden, norm.weight, out=out).mul_(row_scale(hidden[0].numpy(), norm))
    return F.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def row_scale(row: np.ndarray, norm: Any) -> float:
    """Return what an RMSNorm multiplies a row by, before its weights."""
    return 1 / math.sqrt(float(row.dot(row)) / len(row) + norm.variance_epsilon)


def is_row(hidden: Tensor) -> bool:
    """Return whether hidden states are one row in float32, which BLAS multiplies faster than oneDNN."""
    return len(hidden) == 1 and hidden.dtype == torch.float32


def pack_row(weight: Tensor, row: Tensor, num_bytes: float) -> Callable[[], Tensor]:
    """Return the function that multiplies what is in `row (1, inputs)` by weights `(outputs, inputs)`.

    `row` is float32, and is rounded to the dtype of the weights. A step of the decoder reads `num_bytes`.

    The product is a weighted sum of rows of the transposed weights. FBGEMM has a kernel for such sums of embeddings,
    which fetches weights in advance. The outputs are computed in parts: blocks, and one for each thread.
    """
    outputs, inputs = weight.shape
    if not has_fbgemm() or (weight.dtype == torch.float32 and not CACHED_BYTES < num_bytes <= LARGE_BYTES):
        columns = weight.t().contiguous()
        return lambda: torch.mm(row, columns)
    blocks = math.ceil(outputs / BLOCK) if num_bytes > LARGE_BYTES else 1
    parts = max(min(torch.get_num_threads(), outputs // 16), blocks)
    width = math.ceil(outputs / parts)
    table = F.pad(weight, (0, 0, 0, parts * width - outputs)).reshape(parts, width, inputs).mT.contiguous()
    table, places = table.view(-1, width), torch.arange(parts * inputs, device="cpu")
    shares = row if parts == 1 and row.dtype == weight.dtype else weight.new_empty(parts, inputs)
    starts, factors = places[::inputs].contiguous(), shares.view(-1)

    def multiply_row() -> Tensor:
        if shares is not row:
            shares.copy_(row)
        sums = torch.embedding_bag(table, places, starts, False, 0, False, factors)[0]
        return sums if parts == 1 else sums.view(1, -1)[:, :outputs]

    return multiply_row


def has_fbgemm() -> bool:
    """Return whether torch has FBGEMM, which it has on x86 processors."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def pack(layers: Sequence[Any], rows: int, order: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Return the function that applies linear layers to the same inputs; outputs are concatenated, in `order`."""
    weight, bias = joined(layers, order)
    if torch.backends.mkldnn.is_available():
        weight = _onednn._reorder_linear_weight(weight, rows)
    return lambda inputs: multiply(inputs, weight, bias)


def joined(layers: Sequence[Any], order: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the weights and biases of linear layers, one after the other, or in `order`."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if all(layer.bias is None for layer in layers) else torch.cat([_bias(layer) for layer in layers])
    return (weight, bias) if order is None else (weight[order], None if bias is None else bias[order])


def _bias(layer: Any) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


def fast_dtypes() -> list[torch.dtype]:
    """Return the dtypes of weights that this processor multiplies without converting them."""
    has_bfloat16 = torch.backends.mkldnn.is_available() and _onednn._is_mkldnn_bf16_supported()
    return [torch.float32, torch.bfloat16] if has_bfloat16 else [torch.float32]


def has_fixed_shapes(model: PreTrainedModel) -> bool:
    """Return whether a backbone was compiled by its `compile`: its shapes then change as little as possible."""
    return model._compiled_call_impl is not None and model._can_compile_fullgraph
