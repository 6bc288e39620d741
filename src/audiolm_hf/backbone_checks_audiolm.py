# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks whether faster code can replace a backbone: it must compute exactly what its class in transformers does."""

import torch
from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from transformers import DynamicCache, LlamaModel, MistralModel, PreTrainedModel, Qwen2Model
from transformers.cache_utils import DynamicLayer

from .packed_products_audiolm import fast_dtypes, has_fixed_shapes

DECODERS = (LlamaModel, MistralModel, Qwen2Model)  # with the same computations, except for biases
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
MIN_CAPTURED = 32  # with fewer tokens, capturing takes longer than it saves


def can_capture(model: PreTrainedModel, device: torch.device, num_tokens: int) -> bool:
    """Return whether the steps of a stage can be captured as CUDA graphs, and whether that saves time.

    Steps are captured with a `FixedCache`.
    """
    decoder = model.model
    return (
        device.type == "cuda"
        and (num_tokens >= MIN_CAPTURED or has_fixed_shapes(decoder))
        and not torch.is_grad_enabled()
        and _is_unchanged(decoder, DECODERS, device)
        and has_plain_cache(decoder)
        and model.reads_head_rows(device)
    )


def has_plain_cache(decoder: PreTrainedModel) -> bool:
    """Return whether each id attends to all ids before it, and rotary frequencies do not depend on the length."""
    kinds = [type(layer) for layer in DynamicCache(config=decoder.config).layers]
    return kinds == [DynamicLayer] * len(decoder.layers) and decoder.rotary_emb.rope_type not in _LENGTH_DEPENDENT_ROPE


def is_unmodified_on_cpu(model: PreTrainedModel, kinds: tuple[type, ...]) -> bool:
    """Return whether a model on the CPU computes exactly what its class, one of `kinds`, does in transformers.

    Its dtype has to be one of `fast_dtypes`. A model with adapters or hooks, or with quantized, sharded, offloaded or
    compiled parts, is left to transformers.
    """
    unchanged = not model._compiled_call_impl and _is_unchanged(model, kinds, torch.device("cpu"))
    return unchanged and next(model.parameters()).dtype in fast_dtypes()


def _is_unchanged(model: PreTrainedModel, kinds: tuple[type, ...], device: torch.device) -> bool:
    """Return whether a model is of one of `kinds`, as transformers builds it, and on a device; it may be compiled."""
    if type(model) not in kinds or _global_forward_hooks or _global_forward_pre_hooks:
        return False
    # Activation functions are called as modules, so any are allowed.
    called = {layer.mlp.act_fn for layer in model.layers}
    modules = [module for module in model.modules() if module not in called]
    weights = list(model.parameters())
    dtype = weights[0].dtype
    return (
        all(type(each) is nn.Parameter and each.device == device and each.dtype == dtype for each in weights)
        and all(_is_plain(module, model) for module in modules)
        and not (torch.is_autocast_enabled(device.type) or torch.compiler.is_compiling())
        and model.config._attn_implementation in ("eager", "sdpa")
    )


def _is_plain(module: nn.Module, model: PreTrainedModel) -> bool:
    known = type(module).__module__ == type(model).__module__
    known = known or type(module) in (nn.Linear, nn.Embedding, nn.ModuleList)
    hooks = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    compiled = module._compiled_call_impl and module is not model
    return known and not (hooks or module.training or compiled)
