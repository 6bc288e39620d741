# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a stage's decoder for one row on a CPU, by compiled functions.

In: a decoder, and its cache after the prompt; out: the last hidden state of each id that follows, and scores of heads.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.activations import SiLUActivation


class RowDecoder:
    """Steps of a decoder like those of `PackedDecoder`, for one row without padding.

    The first step in a process loads Numba, which takes half a second, or three to compile where nothing is cached.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        cache ([`~transformers.DynamicCache`]): that of `build_cache`, after the prompt; its layers are removed.
        position_ids (`torch.LongTensor` of shape `(1, num_steps)`): positions of the ids to come.
    """

    def __init__(self, model: Any, cache: DynamicCache, position_ids: Tensor) -> None:
        self.kernels, weight = _kernels(), model.embed_tokens.weight
        self.start = self.length = cache.get_seq_length()
        self.states = weight.new_empty(1, weight.shape[1], dtype=torch.float32)
        self.embeddings, self.row = array_of(weight), array_of(self.states)[0]
        self.heads: dict[int, np.ndarray] = {}
        self.layers = _layers(model.layers)
        self.norm = array_of(model.norm.weight.float()), np.float32(model.norm.variance_epsilon)
        _, num_keys, room, size = cache.layers[0].key_room.shape
        keys = weight.new_empty(len(model.layers), num_keys, size, room)
        values = weight.new_empty(len(model.layers), num_keys, room, size)
        for layer_keys, layer_values in zip(keys, values, strict=True):
            kept: Any = cache.layers.pop(0)
            layer_keys[..., : self.start] = kept.keys[0].mT
            layer_values[:, : self.start] = kept.values[0]
        self.cache = array_of(keys), array_of(values)
        turns = model.rotary_emb(self.states, position_ids=position_ids)
        self.cos, self.sin = (array_of(each[0, :, : size // 2]) for each in turns)
        self.scale = np.float32(model.layers[0].self_attn.scaling)

    def step(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states `(1, hidden_size)` of the next id `(1,)`, in the buffer `states`."""
        self.kernels.step(*self._next(int(input_ids)))
        return self.states

    def _next(self, input_id: int) -> tuple[Any, ...]:
        """Return the arguments of the step of an id, which takes the next place in the cache."""
        place, self.length = self.length, self.length + 1
        position = self.cos[place - self.start], self.sin[place - self.start], self.scale
        return self.embeddings[input_id], self.layers, self.norm, self.cache, position, place, self.row

    def set_heads(self, weights: dict[int, Tensor]) -> None:
        """Set the weights `(ids of the level, hidden_size)` of the head for each level."""
        self.heads = {level: array_of(each, torch.uint32) for level, each in weights.items()}

    def scores(self, level: int) -> Tensor:
        """Return the products `(1, ids of the level)` of `states` and the head."""
        return torch.from_numpy(self.kernels.score(self.heads[level], self.row))[None]

    def choose(
        self, input_id: int, level: int, forbidden: tuple[int, int], temperature: float, noise: float
    ) -> tuple[int, float]:
        """Take the step of an id, and choose an id of a level by its scores.

        Args:
            input_id (`int`): the id.
            level (`int`): the level to choose from.
            forbidden (`tuple[int, int]`): columns of the level's scores that are not chosen, or -1.
            temperature (`float`): what scores are divided by; 0 for the highest score.
            noise (`float`): uniform number in [0, 1).

        Returns:
            `tuple[int, float]`: the column, and the highest score, which is NaN if the scores cannot be used.
        """
        head = self.heads[level], forbidden, np.float32(temperature), noise
        return self.kernels.advance(*self._next(input_id), *head)


def can_step_rows(model: Any) -> bool:
    """Return whether `RowDecoder` computes what a decoder that can be packed does."""
    layer = model.layers[0]
    sizes = model.embed_tokens.embedding_dim, layer.self_attn.o_proj.in_features, layer.mlp.down_proj.in_features
    return (
        _kernels().IS_COMPILED
        and all(isinstance(layer.mlp.act_fn, (nn.SiLU, SiLUActivation)) for layer in model.layers)
        and all(size % 2 == 0 for size in sizes)  # in bfloat16, weights are read in pairs
    )


def _kernels() -> Any:
    from . import row_kernels_audiolm  # here, as Numba takes a quarter of a second, and only generation needs it

    return row_kernels_audiolm


def array_of(values: Tensor, bits: torch.dtype = torch.uint16) -> np.ndarray:
    """Return values as an array; those in bfloat16 as their bits."""
    values = values.detach().contiguous()
    return (values.view(bits) if values.dtype == torch.bfloat16 else values).numpy()


def _layers(layers: Any) -> tuple[np.ndarray, ...]:
    """Return the weights of all layers in the order that the compiled step takes."""
    attention, mlp = [layer.self_attn for layer in layers], [layer.mlp for layer in layers]
    return (
        array_of(torch.stack([layer.input_layernorm.weight for layer in layers]).float()),
        *_joined([(each.q_proj, each.k_proj, each.v_proj) for each in attention]),
        *_joined([(each.o_proj,) for each in attention]),
        array_of(torch.stack([layer.post_attention_layernorm.weight for layer in layers]).float()),
        *_joined([(each.gate_proj, each.up_proj) for each in mlp]),
        *_joined([(each.down_proj,) for each in mlp]),
    )


def _joined(parts: list[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights `(layers, outputs, inputs)` of linear layers, one after the other, and their biases."""
    linears = [linear for part in parts for linear in part]
    weights = torch.cat([linear.weight for linear in linears]).unflatten(0, (len(parts), -1))
    biases = [weights.new_zeros(linear.out_features) if linear.bias is None else linear.bias for linear in linears]
    return array_of(weights, torch.uint32), array_of(torch.cat(biases).float().view(weights.shape[:2]))
