# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What a training step would keep and compute, from a run that allocates nothing.

The real modules run on tensors that have shapes but no content, and everything that automatic differentiation keeps
for the backward pass is counted, as are the operations of matrix products and convolutions. Any backbone is thus
measured as it is, without a formula for each.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface, PreTrainedModel

CAUSAL_KERNEL = "audiolm_causal_kernel"


@contextmanager
def without_memory() -> Iterator[None]:
    """Make every tensor that is created inside one without content."""
    with FakeTensorMode():
        yield


def _causal_kernel(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    grouped = query.shape[1] != key.shape[1]
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2).contiguous(), None  # (batch, heads, length, width) -> (batch, length, heads, width)


def use_causal_kernel(decoder: PreTrainedModel) -> None:
    """Let a decoder leave the causal mask to its attention kernel, as it does in training.

    On tensors without content transformers would lay the mask out for every layer, and copy keys and values that
    several heads share.
    """
    AttentionInterface.register(CAUSAL_KERNEL, _causal_kernel)
    decoder.set_attn_implementation(CAUSAL_KERNEL)


def storage_bytes(tensors: list[Tensor], modules: list[nn.Module]) -> int:
    """Add up the memory of tensors, each piece once, without that of the modules' own parameters and buffers."""
    own = {
        tensor.untyped_storage()._cdata for module in modules for tensor in [*module.parameters(), *module.buffers()]
    }
    pieces = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(size for piece, size in pieces.items() if piece not in own)


def saved_bytes(run: Callable[[], Any], modules: list[nn.Module], bf16: bool) -> int:
    """Count what is kept for a backward pass.

    Args:
        run (callable): the forward pass.
        modules (`list[nn.Module]`): whose parameters and buffers are not counted.
        bf16 (`bool`): compute in bfloat16 where it is safe, as trainings do; the weights' bfloat16 copies count.

    Returns:
        `int`: bytes.
    """
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(bf16):
        kept = run()  # holds the graph: freed storages could be counted under one number
        size = storage_bytes(saved, modules)
    del kept
    return size


def count_flops(run: Callable[[], Tensor], backward: bool = True) -> int:
    """Count the operations of matrix products, convolutions and attention in a pass.

    Args:
        run (callable): the forward pass; its result is summed and followed back.
        backward (`bool`, defaults to `True`): with the backward pass.

    Returns:
        `int`: floating point operations; a multiplication and an addition are two.
    """
    with FlopCounterMode(display=False) as counter:
        result = run()
        if backward:
            result.float().sum().backward()
    return counter.get_total_flops()


def autocast(bf16: bool) -> torch.autocast:
    """Compute in bfloat16 where it is safe, on the CPU, as fake tensors are there."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)


__all__ = ["autocast", "count_flops", "saved_bytes", "storage_bytes", "use_causal_kernel", "without_memory"]
