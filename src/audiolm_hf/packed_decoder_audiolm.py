# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The cache of a stage's decoder, and its steps on a CPU with packed weights, without calling its modules.

In: a decoder, and its cache after the prompt; out: the last hidden state of each id that follows.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from transformers import DynamicCache, LlamaModel, MistralModel, PreTrainedModel, Qwen2Model, StaticCache
from transformers.cache_utils import DynamicLayer

from .configuration_audiolm import AudioLMStageConfig
from .packed_products_audiolm import fast_dtypes, has_fixed_shapes, normalize, pack
from .row_decoder_audiolm import RowDecoder, can_step_rows

_DECODERS = (LlamaModel, MistralModel, Qwen2Model)  # with the same computations, except for biases
_MOVING_POSITIONS = {"dynamic", "longrope"}  # whose frequencies depend on the length
MIN_CAPTURED = 32  # with fewer tokens, capturing takes longer than it saves


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

    @torch.compiler.disable  # views of one storage cannot be traced, but the rest of the decoder can be
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


def fixed_length(length: int) -> int:
    """Return the length to which a sequence is padded where shapes are fixed (compiled or captured).

    It is a power of two, at least 64.
    """
    return max(64, 1 << (length - 1).bit_length())


class FixedCache(StaticCache):
    """A cache of fixed shape, for a compiled decoder or captured steps.

    `keep` holds it and `take` returns it again, because CUDA graphs refer to its memory addresses.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        rows (`int`): rows of the batch.
        capacity (`int`): maximum number of ids in a row.
    """

    _kept: ClassVar[WeakKeyDictionary[nn.Module, "FixedCache"]] = WeakKeyDictionary()

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int) -> None:
        super().__init__(config=model.config, max_cache_len=capacity)
        self.fits = (rows, capacity, model.dtype, model.device, torch.is_inference_mode_enabled())
        self.graphs: Any = None  # of steps with this cache

    @classmethod
    def take(cls, model: PreTrainedModel, rows: int, capacity: int) -> "FixedCache":
        """Return an empty cache: the one kept last if it fits, else a new one."""
        new, kept = cls(model, rows, capacity), cls._kept.pop(model, None)
        if kept is None or kept.fits != new.fits:
            return new
        kept.reset()
        return kept

    def keep(self, model: PreTrainedModel) -> None:
        """Hold this cache for a later sequence of a decoder."""
        self._kept[model] = self


class PackedDecoder:
    """Steps of a decoder, each with one id for every row, which return the same hidden states as its `forward`.

    The weights are copied in a layout that is fast to multiply with few rows, and all steps use the same buffers,
    because calls of torch take most of the time of a small decoder. See `pack_decoder`.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        cache ([`~transformers.DynamicCache`]): that of `build_cache`, after the prompt; its layers are removed once
            copied, to free their memory.
        position_ids (`torch.LongTensor` of shape `(batch, num_steps)`): positions of the ids to come.
        mask (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): 0 for padding of the prompt, 1
            elsewhere, including the ids to come.
    """

    def __init__(self, model: Any, cache: DynamicCache, position_ids: Tensor, mask: Tensor | None) -> None:
        self.model, self.mask = model, None if mask is None else mask[:, None, None].bool()
        self.start = self.length = cache.get_seq_length()
        rows, num_keys, capacity, size = cache.layers[0].key_room.shape
        attention, weight = model.layers[0].self_attn, model.embed_tokens.weight
        num_queries = attention.q_proj.out_features // size
        self.hidden = weight.new_empty(rows, weight.shape[1])
        self.heads = torch.empty(rows, num_queries + 2 * num_keys, size, device="cpu", dtype=torch.float32)
        # Queries that share keys, as one matrix.
        self.queries = self.heads[:, :num_queries].view(rows, num_keys, -1, size)
        self.new = self.heads[:, num_queries:].view(rows, 2, num_keys, size).transpose(0, 1)  # keys and values
        # Rotary embedding is a complex product, for which real and imaginary parts must be adjacent: the weights and
        # the cached keys are reordered for this.
        self.pairs = torch.view_as_complex(self.heads[:, : num_queries + num_keys].unflatten(-1, (-1, 2)))
        cos, sin = (each[..., : size // 2] for each in model.rotary_emb(self.heads, position_ids=position_ids))
        self.turns = torch.complex(cos, sin).transpose(0, 1)[:, :, None].contiguous()
        self.factors = torch.ones(num_queries + num_keys, 1, device="cpu", dtype=torch.float32)
        self.factors[:num_queries] = attention.scaling
        self.embeddings = weight
        # Attention is in float32: in bfloat16 it is rounded, and takes up to ten times as long.
        room = partial(torch.empty, device="cpu", dtype=torch.float32)
        self.keys, self.values = room(2, len(model.layers), rows, num_keys, capacity, size)
        for keys, values in zip(self.keys[..., : self.start, :], self.values[..., : self.start, :], strict=True):
            kept: Any = cache.layers.pop(0)
            keys.copy_(_paired(kept.keys))
            values.copy_(kept.values)
        self.attended = room(self.queries.shape)
        self.read = self.attended.flatten(1)
        places = torch.arange(self.heads[0].numel(), device="cpu").view(-1, size)
        order = torch.cat([_paired(places[: num_queries + num_keys]), places[num_queries + num_keys :]]).flatten()
        self.layers = [self._pack(layer, order) for layer in model.layers]

    def _pack(self, layer: Any, order: Tensor) -> tuple[Callable[[], Tensor], ...]:
        """Return the functions of a layer around its attention, in order; each reads buffers and writes to buffers."""
        attention, mlp, hidden = layer.self_attn, layer.mlp, self.hidden
        gate_up = hidden.new_empty(len(hidden), 2 * mlp.up_proj.out_features)
        (gate, up), gated = gate_up.chunk(2, -1), torch.empty_like(gate_up[:, ::2])
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return (
            self._normed(layer.input_layernorm, projections, self.heads.flatten(1), order),
            self._added(self.read, attention.o_proj),
            self._normed(layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), gate_up),
            lambda: torch.mul(mlp.act_fn(gate), up, out=gated),
            self._added(gated, mlp.down_proj),
        )

    def _normed(
        self, norm: Any, layers: Sequence[Any], out: Tensor, order: Tensor | None = None
    ) -> Callable[[], Tensor]:
        """Return a function that normalizes the hidden states and applies linear layers to them.

        It writes the result to `out`, its columns in `order`.
        """
        hidden, product = self.hidden, pack(layers, len(self.hidden), order)
        return lambda: out.copy_(product(normalize(hidden, norm)))

    def _added(self, inputs: Tensor, layer: Any) -> Callable[[], Tensor]:
        """Return the function that applies a linear layer to `inputs`, and adds the result to the hidden states."""
        hidden, product = self.hidden, pack((layer,), len(self.hidden))
        return lambda: hidden.add_(product(inputs.to(hidden.dtype)))

    def step(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states `(batch, hidden_size)` of the next ids `(batch,)`."""
        last, self.length = self.length, self.length + 1
        mask = None if self.mask is None else self.mask[..., : self.length]
        turns = self.turns[last - self.start] * self.factors
        torch.index_select(self.embeddings, 0, input_ids, out=self.hidden)
        new_keys, new_values = self.new
        keys, values = self.keys.narrow(-2, 0, self.length), self.values.narrow(-2, 0, self.length)
        rooms = self.keys.select(-2, last), self.values.select(-2, last)
        # Iterating over a tensor is a single call of torch for all layers.
        for (project, output, widen, gate, down), *parts in zip(self.layers, keys, values, *rooms, strict=True):
            layer_keys, layer_values, key_room, value_room = parts
            project()
            self.pairs.mul_(turns)
            key_room.copy_(new_keys)
            value_room.copy_(new_values)
            attended = F.scaled_dot_product_attention(self.queries, layer_keys, layer_values, mask, scale=1.0)
            self.attended.copy_(attended)
            output()
            widen()
            gate()
            down()
        return normalize(self.hidden, self.model.norm)


def _paired(values: Tensor) -> Tensor:
    """Interleave the two halves of the last dimension, which are real and imaginary parts."""
    return values.unflatten(-1, (2, -1)).mT.flatten(-2)


def pack_decoder(
    model: PreTrainedModel, cache: DynamicCache, position_ids: Tensor, num_steps: int, mask: Tensor | None
) -> PackedDecoder | RowDecoder | None:
    """Return the steps of a decoder after a prompt; `None` for no steps, or if transformers' `forward` must be called.

    `position_ids (batch, 1)` are those of the first step. Weights are copied for each sequence, so that changes to
    them take effect.
    """
    if num_steps == 0 or not can_pack(model, cache):
        return None
    position_ids = position_ids + torch.arange(num_steps, device=position_ids.device)
    if len(position_ids) == 1 and mask is None and can_step_rows(model):
        return RowDecoder(model, cache, position_ids)
    return PackedDecoder(model, cache, position_ids, mask)


def can_pack(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Return whether `PackedDecoder` computes what the model's `forward` does.

    If so, `PackedEncoder` does, too, for contexts without padding.
    """
    return (
        reads_weights_alone(model, _DECODERS)
        and [type(layer) for layer in cache.layers] == [_GrowingLayer] * len(model.layers)
        and model.rotary_emb.rope_type not in _MOVING_POSITIONS
        and len({layer.self_attn.scaling for layer in model.layers}) == 1
    )


def can_capture(model: PreTrainedModel, device: torch.device, num_tokens: int) -> bool:
    """Return whether the steps of a stage can be captured as CUDA graphs, and whether that saves time.

    They are captured with a `FixedCache`.
    """
    decoder = model.model
    return (
        device.type == "cuda"
        and (num_tokens >= MIN_CAPTURED or has_fixed_shapes(decoder))
        and not torch.is_grad_enabled()
        and _is_unchanged(decoder, _DECODERS, device)
        and decoder.rotary_emb.rope_type not in _MOVING_POSITIONS
        and {type(layer) for layer in DynamicCache(config=decoder.config).layers} == {DynamicLayer}
        and {weight.device for weight in model.level_weights(device.type).values()} == {device}
    )


def reads_weights_alone(model: PreTrainedModel, kinds: tuple[type, ...]) -> bool:
    """Return whether a model computes nothing but what its weights determine, on the CPU.

    It has to be of one of `kinds`, in a dtype of `fast_dtypes`. A model with adapters or hooks, or with quantized,
    sharded, offloaded or compiled parts, is left to transformers.
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
