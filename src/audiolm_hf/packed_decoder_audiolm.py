# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The cache of a stage's decoder, and its steps on a CPU with packed weights and no modules.

In: a decoder, and its cache after the prompt; out: the last hidden state of each id that follows.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache, LlamaModel, MistralModel, PreTrainedModel, Qwen2Model, StaticCache
from transformers.cache_utils import DynamicLayer

from .configuration_audiolm import AudioLMStageConfig

_DECODERS = (LlamaModel, MistralModel, Qwen2Model)  # with the same computations, except for biases
_MOVING_POSITIONS = {"dynamic", "longrope"}  # whose frequencies depend on the length
MIN_PRODUCT_ROWS = 32  # below, reading the weights takes most of the time, and they are not packed
CACHED_BYTES = 12e6  # a decoder of up to this size, with keys and values, stays in the processor's cache between steps
_onednn: Any = torch.ops.mkldnn


class _GrowingLayer(DynamicLayer):
    """Keys and values in memory reserved once; appending copies nothing that is already there."""

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

    The weights are copied in a layout that is fast to multiply with few rows, and all steps use the same buffers,
    because calls of torch take most of the time of a small decoder. See `pack_decoder`.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        cache ([`~transformers.DynamicCache`]): that of `build_cache`, after the prompt; its layers are removed.
        position_ids (`torch.LongTensor` of shape `(batch, num_steps)`): positions of the ids to come.
        mask (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): 0 for padding of the prompt, 1
            elsewhere, also for the ids to come.
    """

    def __init__(self, model: Any, cache: DynamicCache, position_ids: Tensor, mask: Tensor | None) -> None:
        self.model, self.mask = model, None if mask is None else mask[:, None, None].bool()
        self.start = self.length = cache.get_seq_length()
        rows, num_keys, capacity, size = cache.layers[0].key_room.shape
        attention, weight = model.layers[0].self_attn, model.embed_tokens.weight
        num_queries = attention.q_proj.out_features // size
        self.hidden = weight.new_empty(rows, weight.shape[1])
        self.heads = torch.empty(rows, num_queries + 2 * num_keys, size, device="cpu", dtype=torch.float32)
        self.queries = self.heads[:, :num_queries].view(rows, num_keys, -1, size)  # of the same keys: one matrix
        self.new = self.heads[:, num_queries:].view(rows, 2, num_keys, size).transpose(0, 1)  # keys and values
        # A product rotates complex numbers, whose parts are neighbours: here, in weights and in the keys.
        self.pairs = torch.view_as_complex(self.heads[:, : num_queries + num_keys].unflatten(-1, (-1, 2)))
        cos, sin = (each[..., : size // 2] for each in model.rotary_emb(self.heads, position_ids=position_ids))
        self.turns = torch.complex(cos, sin).transpose(0, 1)[:, :, None].contiguous()
        self.factors = torch.ones(num_queries + num_keys, 1, device="cpu", dtype=torch.float32)
        self.factors[:num_queries] = attention.scaling
        self.is_row, self.embeddings = _is_row(self.hidden), weight
        # Attention is in float32: in bfloat16 it is rounded, and takes up to ten times as long.
        room = partial(torch.empty, len(model.layers), rows, num_keys, device="cpu", dtype=torch.float32)
        self.values, self.keys = room(capacity, size), room(capacity, size)
        if rows == 1:  # a row times keys that are stored as columns takes half the time
            self.keys = room(size, capacity).mT
        for keys, values in zip(self.keys[..., : self.start, :], self.values[..., : self.start, :], strict=True):
            kept: Any = cache.layers.pop(0)
            keys.copy_(_paired(kept.keys))
            values.copy_(kept.values)
        self.attended = torch.empty(self.queries.shape, device="cpu", dtype=torch.float32)
        self.read = self.attended.flatten(1)
        places = torch.arange(self.heads[0].numel(), device="cpu").view(-1, size)
        order = torch.cat([_paired(places[: num_queries + num_keys]), places[num_queries + num_keys :]]).flatten()
        tensors = [*model.layers.parameters(), self.keys, self.values]
        self.is_streamed = sum(each.nbytes for each in tensors) > CACHED_BYTES
        self.states = torch.empty_like(self.hidden)
        self.attends_by_bmm = rows == 1
        if self.attends_by_bmm:
            self.queries, self.new, self.attended = self.queries[0], self.new[:, 0], self.attended[0]
            self.keys, self.values = self.keys[:, 0], self.values[:, 0]
        self.layers = [self._pack(layer, order) for layer in model.layers]

    def _pack(self, layer: Any, order: Tensor) -> tuple[Callable[[], Tensor], ...]:
        """Return the parts of a layer between its attention: from buffer to buffer, in order."""
        attention, mlp, hidden = layer.self_attn, layer.mlp, self.hidden
        gate_up = hidden.new_empty(len(hidden), 2 * mlp.up_proj.out_features)
        (gate, up), gated = gate_up.chunk(2, -1), torch.empty_like(gate_up[:, ::2])
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return (
            _normed(hidden, layer.input_layernorm, projections, self.heads.flatten(1), self.is_streamed, order),
            _added(hidden, self.read, attention.o_proj, self.is_streamed),
            _normed(hidden, layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), gate_up, self.is_streamed),
            lambda: torch.mul(mlp.act_fn(gate), up, out=gated),
            _added(hidden, gated, mlp.down_proj, self.is_streamed),
        )

    def step(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states `(batch, hidden_size)` of the next ids `(batch,)`, in the buffer `states`."""
        last, self.length = self.length, self.length + 1
        mask = None if self.mask is None else self.mask[..., : self.length]
        turns = self.turns[last - self.start] * self.factors
        torch.index_select(self.embeddings, 0, input_ids, out=self.hidden)
        new_keys, new_values = self.new
        keys, values = self.keys.narrow(-2, 0, self.length), self.values.narrow(-2, 0, self.length)
        rooms = self.keys.select(-2, last), self.values.select(-2, last)
        if self.attends_by_bmm:
            keys = keys.mT
        # Tensors are iterated over by one call.
        for (project, output, widen, gate, down), *parts in zip(self.layers, keys, values, *rooms, strict=True):
            layer_keys, layer_values, key_room, value_room = parts
            project()
            self.pairs.mul_(turns)
            key_room.copy_(new_keys)
            value_room.copy_(new_values)
            self._attend(layer_keys, layer_values, mask)
            output()
            widen()
            gate()
            down()
        return normalize(self.hidden, self.model.norm, self.states)

    def _attend(self, keys: Tensor, values: Tensor, mask: Tensor | None) -> None:
        if self.attends_by_bmm:
            torch.bmm(torch.bmm(self.queries, keys).softmax(-1), values, out=self.attended)
        else:
            self.attended.copy_(F.scaled_dot_product_attention(self.queries, keys, values, mask, scale=1.0))


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
    if _is_row(hidden):  # by fewer calls
        return torch.mul(hidden, norm.weight, out=out).mul_(_scale(hidden[0].numpy(), norm))
    return F.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


def _scale(row: np.ndarray, norm: Any) -> float:
    """Return what an RMSNorm multiplies a row by, before its weights."""
    return 1 / math.sqrt(float(row.dot(row)) / len(row) + norm.variance_epsilon)


def _is_row(hidden: Tensor) -> bool:
    """Return whether hidden states are one row in float32, which BLAS multiplies faster than oneDNN."""
    return len(hidden) == 1 and hidden.dtype == torch.float32


def _paired(values: Tensor) -> Tensor:
    """Return the two halves of the last dimension, which are real and imaginary parts, as pairs of neighbours."""
    return values.unflatten(-1, (2, -1)).mT.flatten(-2)


def _normed(
    hidden: Tensor, norm: Any, layers: Sequence[Any], out: Tensor, is_streamed: bool, order: Tensor | None = None
) -> Callable[[], Tensor]:
    """Return the function that applies linear layers to the normalized hidden states, and writes to `out`."""
    if not _is_row(hidden):
        product = pack(layers, len(hidden), order)
        return lambda: out.copy_(product(normalize(hidden, norm)))
    weight, bias = _joined(layers, order)
    row_product, row = pack_row(weight * norm.weight, hidden, is_streamed), hidden[0].numpy()
    if bias is None:
        return lambda: torch.mul(row_product(), _scale(row, norm), out=out)
    return lambda: torch.add(bias, row_product(), alpha=_scale(row, norm), out=out)


def _added(hidden: Tensor, inputs: Tensor, layer: Any, is_streamed: bool) -> Callable[[], Tensor]:
    """Return the function that applies a linear layer to `inputs`, and adds the result to the hidden states."""
    if not _is_row(hidden):
        product = pack((layer,), len(hidden))
        return lambda: hidden.add_(product(inputs.to(hidden.dtype)))
    row_product, bias = pack_row(layer.weight, inputs, is_streamed), layer.bias
    if bias is None:
        return lambda: hidden.add_(row_product())
    return lambda: hidden.add_(row_product()).add_(bias)


def pack_row(weight: Tensor, row: Tensor, is_streamed: bool) -> Callable[[], Tensor]:
    """Return the function that multiplies what is in `row (1, inputs)` by weights `(outputs, inputs)`: `(1, outputs)`.

    The product is a weighted sum of rows of the transposed weights. FBGEMM has a kernel for such sums of embeddings,
    which fetches weights in advance, and takes half the time of a product by MKL if they are not in the processor's
    cache (`is_streamed`). Each thread computes a part of the outputs.
    """
    outputs, inputs = weight.shape
    if not (is_streamed and _has_fbgemm()):
        columns = weight.t().contiguous()
        return lambda: torch.mm(row, columns)
    parts = math.gcd(torch.get_num_threads(), outputs)
    table = weight.view(parts, -1, inputs).mT.reshape(parts * inputs, -1).contiguous()
    places = torch.arange(parts * inputs, device="cpu")
    starts, shares = places[::inputs].contiguous(), row[0]
    if parts == 1:
        return lambda: torch.embedding_bag(table, places, starts, False, 0, False, shares)[0]
    return lambda: torch.embedding_bag(table, places, starts, False, 0, False, shares.repeat(parts))[0].view(1, -1)


def _has_fbgemm() -> bool:
    return "fbgemm" in torch.backends.quantized.supported_engines


def pack(layers: Sequence[Any], rows: int, order: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Return the function that applies linear layers to the same inputs; outputs are concatenated, in `order`."""
    weight, bias = _joined(layers, order)
    if torch.backends.mkldnn.is_available():
        weight = _onednn._reorder_linear_weight(weight, rows)
    return lambda inputs: multiply(inputs, weight, bias)


def _joined(layers: Sequence[Any], order: Tensor | None) -> tuple[Tensor, Tensor | None]:
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if all(layer.bias is None for layer in layers) else torch.cat([_bias(layer) for layer in layers])
    return (weight, bias) if order is None else (weight[order], None if bias is None else bias[order])


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
    """Return whether `PackedDecoder` computes what the model's `forward` does, on the device of its weights."""
    return (
        reads_weights_alone(model, _DECODERS)
        and [type(layer) for layer in cache.layers] == [_GrowingLayer] * len(model.layers)
        and model.rotary_emb.rope_type not in _MOVING_POSITIONS
        and len({layer.self_attn.scaling for layer in model.layers}) == 1
    )


def can_read(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Return whether `PackedEncoder` computes what the model's `forward` does for contexts without padding."""
    return model.dtype == torch.float32 and can_pack(model, cache)


def reads_weights_alone(model: PreTrainedModel, kinds: tuple[type, ...]) -> bool:
    """Return whether a model is of one of `kinds`, on the CPU, and its weights determine what its `forward` computes.

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
