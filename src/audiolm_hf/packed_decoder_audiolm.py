# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The cache of a stage's decoder, and its steps on a CPU with packed weights and no modules.

In: a decoder, and its cache after the prompt; out: the last hidden state of each id that follows.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache, LlamaModel, MistralModel, PreTrainedModel, Qwen2Model, StaticCache
from transformers.cache_utils import DynamicLayer

from .configuration_audiolm import AudioLMStageConfig

_DECODERS = (LlamaModel, MistralModel, Qwen2Model)  # of the same computations, but for biases
_MOVING_POSITIONS = {"dynamic", "longrope"}  # whose frequencies depend on the length
MIN_PRODUCT_ROWS = 32  # below, reading the weights takes most of the time, and they are not packed
_onednn: Any = torch.ops.mkldnn


class _GrowingLayer(DynamicLayer):
    """Keys and values in room reserved once; appending copies nothing that is already there."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.key_room = key_states.new_empty(*key_states.shape[:2], self.capacity, key_states.shape[3])
        self.value_room = value_states.new_empty(*value_states.shape[:2], self.capacity, value_states.shape[3])
        self.keys, self.values = self.key_room[:, :, :0], self.value_room[:, :, :0]
        self.is_initialized = True

    @torch.compiler.disable  # its views of one storage cannot be traced; the decoder around it can
    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[2]
        stop = start + key_states.shape[2]
        self.key_room[:, :, start:stop] = key_states
        self.value_room[:, :, start:stop] = value_states
        self.keys, self.values = self.key_room[:, :, :stop], self.value_room[:, :, :stop]
        return self.keys, self.values


def build_cache(config: AudioLMStageConfig, capacity: int) -> DynamicCache:
    """Return an empty cache of a stage with room for `capacity` ids."""
    cache = DynamicCache(config=config.backbone_config)
    cache.layers = [_GrowingLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def has_fixed_shapes(model: PreTrainedModel) -> bool:
    """Return whether a backbone was compiled by its `compile`: its shapes then change as little as possible."""
    return model._compiled_call_impl is not None and model._can_compile_fullgraph


def fixed_length(length: int) -> int:
    """Return the length to which a sequence is padded for a compiled backbone: a power of two, at least 64."""
    return max(64, 1 << (length - 1).bit_length())


class FixedCache(StaticCache):
    """A cache of fixed shape for a compiled decoder, which `take` and `keep` reuse, as CUDA graphs hold its addresses.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        rows (`int`): rows of the batch.
        capacity (`int`): most ids of a row.
    """

    _kept: ClassVar[WeakKeyDictionary[nn.Module, "FixedCache"]] = WeakKeyDictionary()

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int) -> None:
        super().__init__(config=model.config, max_cache_len=capacity)
        self.fits = (rows, capacity, model.dtype, model.device)

    @classmethod
    def take(cls, model: PreTrainedModel, rows: int, capacity: int) -> "FixedCache":
        """Return an empty cache, which is the one last kept if it fits."""
        new, kept = cls(model, rows, capacity), cls._kept.pop(model, None)
        if kept is None or kept.fits != new.fits:
            return new
        kept.reset()
        return kept

    def keep(self, model: PreTrainedModel) -> None:
        """Hold this cache for a later sequence of a decoder."""
        self._kept[model] = self


class PackedDecoder:
    """Steps of a decoder, one id of every row at a time, that return the hidden states of its `forward`.

    The weights are copied in a layout that few rows are multiplied by fast. See `pack_decoder`.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        cache ([`~transformers.DynamicCache`]): that of `build_cache`, after the prompt; extended by each step.
        position_ids (`torch.LongTensor` of shape `(batch, num_steps)`): positions of the ids to come.
        mask (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): 0 for padding of the prompt, 1
            elsewhere, also for the ids to come.
    """

    def __init__(self, model: Any, cache: DynamicCache, position_ids: Tensor, mask: Tensor | None) -> None:
        self.model, self.layers = model, []
        self.mask = None if mask is None else mask[:, None, None].bool()
        self.start = self.length = cache.get_seq_length()
        rows = len(position_ids)
        for layer, kept in zip(model.layers, cache.layers, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            qkv = pack((attention.q_proj, attention.k_proj, attention.v_proj), rows)
            gate_up = pack((mlp.gate_proj, mlp.up_proj), rows)
            self.layers.append(
                (layer, kept, qkv, pack((attention.o_proj,), rows), gate_up, pack((mlp.down_proj,), rows))
            )
        weight = model.embed_tokens.weight
        cos, sin = model.rotary_emb(weight, position_ids=position_ids)
        self.half = cos.shape[-1] // 2
        self.cos = cos.transpose(0, 1)[:, :, None].contiguous()
        sin = torch.cat([-sin[..., : self.half], sin[..., self.half :]], -1)  # of the halves of a head, exchanged
        self.sin = sin.transpose(0, 1)[:, :, None].contiguous()

    def step(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states `(batch, hidden_size)` of the next ids `(batch,)`."""
        hidden = self.model.embed_tokens(input_ids)
        rows, cos, sin = len(hidden), self.cos[self.length - self.start], self.sin[self.length - self.start]
        last, self.length = self.length, self.length + 1
        mask = None if self.mask is None else self.mask[..., : self.length]
        for layer, kept, qkv, output, gate_up, down in self.layers:
            attention = layer.self_attn
            num_keys = kept.key_room.shape[1]
            heads = qkv(normalize(hidden, layer.input_layernorm)).view(rows, -1, 2 * self.half)
            # Views by methods take less time than those by indices.
            num_others = heads.shape[1] - num_keys
            rotated, new_values = heads.split((num_others, num_keys), 1)
            rotated = torch.addcmul(rotated * cos, rotated.roll(self.half, -1), sin)
            queries, new_keys = rotated.split((num_others - num_keys, num_keys), 1)
            kept.key_room.select(2, last).copy_(new_keys)
            kept.value_room.select(2, last).copy_(new_values)
            # The queries that share keys are the rows of one matrix.
            queries = queries.view(rows, num_keys, -1, 2 * self.half)
            keys, values = kept.key_room.narrow(2, 0, self.length), kept.value_room.narrow(2, 0, self.length)
            attended = F.scaled_dot_product_attention(queries, keys, values, mask, scale=attention.scaling)
            hidden = output(attended.reshape(rows, -1)).add_(hidden)
            gate, up = gate_up(normalize(hidden, layer.post_attention_layernorm)).chunk(2, -1)
            hidden = down(layer.mlp.act_fn(gate) * up).add_(hidden)
        return normalize(hidden, self.model.norm)


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
    """Return the context for a backbone's `forward`: [`FastProducts`], which compilers do not trace."""
    return nullcontext() if has_fixed_shapes(model) else FastProducts()


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


def normalize(hidden: Tensor, norm: Any) -> Tensor:
    """Return the result of an RMSNorm."""
    if len(hidden) > 1 or hidden.dtype != torch.float32:
        return F.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)
    row = hidden.view(-1)  # by 4 operations in place of 7
    mean = torch.dot(row, row).item() / len(row)
    return (hidden * norm.weight).div_(math.sqrt(mean + norm.variance_epsilon))


def pack(layers: Iterable[Any], rows: int) -> Callable[[Tensor], Tensor]:
    """Return the function of linear layers with the same inputs, whose outputs are concatenated."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if all(layer.bias is None for layer in layers) else torch.cat([_bias(layer) for layer in layers])
    if rows == 1 and weight.dtype == torch.float32:
        weight = weight.t().contiguous()
        return lambda inputs: inputs @ weight if bias is None else torch.addmm(bias, inputs, weight)
    if torch.backends.mkldnn.is_available():
        weight = _onednn._reorder_linear_weight(weight, rows)
    return lambda inputs: multiply(inputs, weight, bias)


def _bias(layer: Any) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


def pack_decoder(
    model: PreTrainedModel, cache: DynamicCache, position_ids: Tensor, num_steps: int, mask: Tensor | None
) -> PackedDecoder | None:
    """Return the steps of a decoder after a prompt; `None` where transformers' `forward` has to be called.

    `position_ids (batch, 1)` are those of the first step. Weights are packed for each sequence, so that changes count.
    """
    if num_steps == 0 or not can_pack(model, cache):
        return None
    return PackedDecoder(model, cache, position_ids + torch.arange(num_steps, device=position_ids.device), mask)


def fast_dtypes() -> list[torch.dtype]:
    """Return the dtypes of weights that this processor multiplies without converting them."""
    has_bfloat16 = torch.backends.mkldnn.is_available() and _onednn._is_mkldnn_bf16_supported()
    return [torch.float32, torch.bfloat16] if has_bfloat16 else [torch.float32]


def can_pack(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Return whether `PackedDecoder` computes what `forward` does, on the device of its weights."""
    return (
        reads_weights_alone(model, _DECODERS)
        and [type(layer) for layer in cache.layers] == [_GrowingLayer] * len(model.layers)
        and model.rotary_emb.rope_type not in _MOVING_POSITIONS
    )


def reads_weights_alone(model: PreTrainedModel, kinds: tuple[type, ...]) -> bool:
    """Return whether a model is one of some kinds, on the CPU, and its weights tell what its `forward` computes.

    A model with adapters, hooks, quantized, sharded, offloaded or compiled parts is left to transformers.
    """
    if type(model) not in kinds or _global_forward_hooks or _global_forward_pre_hooks:
        return False
    called = {layer.mlp.act_fn for layer in model.layers}  # as they are, whatever they are
    modules = [module for module in model.modules() if module not in called]
    weights = list(model.parameters())
    dtype = weights[0].dtype
    return (
        dtype in fast_dtypes()
        and all(type(each) is nn.Parameter and each.device.type == "cpu" and each.dtype == dtype for each in weights)
        and all(_is_plain(module, model) for module in modules)
        and not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
        and model.config._attn_implementation in ("eager", "sdpa")
    )


def _is_plain(module: nn.Module, model: PreTrainedModel) -> bool:
    known = type(module).__module__ == type(model).__module__
    known = known or type(module) in (nn.Linear, nn.Embedding, nn.ModuleList)
    hooks = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return known and not (hooks or module.training or module._compiled_call_impl)
