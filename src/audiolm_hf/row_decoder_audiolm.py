# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a stage's decoder for one row on a CPU, by compiled functions.

In: a decoder, and its cache after the prompt; out: the last hidden state of each id that follows, scores of the head,
or chosen ids.
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.activations import SiLUActivation
from transformers.utils import logging

logger = logging.get_logger(__name__)
# Larger decoders do not stay in a processor's caches. With more threads than ENOUGH_THREADS, torch may read them
# faster than the compiled function does with one (not measured).
CACHED_BYTES, ENOUGH_THREADS = 32e6, 2


class RowDecoder:
    """Steps of a decoder like those of `PackedDecoder`, for one row without padding.

    `AudioLMModel.from_pretrained` loads the compiled functions on a CPU, which takes half a second. Otherwise, the
    first `RowDecoder` of a process loads them. Where nothing is cached, compiling takes 4 s for each dtype.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        cache ([`~transformers.DynamicCache`]): that of `build_cache`, after the prompt; its layers are removed once
            copied, to free their memory.
        position_ids (`torch.LongTensor` of shape `(1, num_steps)`): positions of the ids to come.
    """

    def __init__(self, model: Any, cache: DynamicCache, position_ids: Tensor) -> None:
        # Imported here, because importing Numba takes a quarter of a second, and not all that import this need it.
        from .row_kernels_audiolm import advance, score, step

        self._advance, self._score, self._step = advance, score, step
        weight = model.embed_tokens.weight
        self.start = self.length = cache.get_seq_length()
        self.states = weight.new_empty(1, weight.shape[1], dtype=torch.float32)
        self.embeddings, self.row = array_of(weight), array_of(self.states)[0]
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
        """Compute the last hidden state of the next id `(1,)`, and return the buffer `states (1, hidden_size)`."""
        embedding, (cos, sin, scale) = self.embeddings[int(input_ids)], self._positions(1)
        position = cos[0], sin[0], scale
        self._step(embedding, self.layers, self.norm, self.cache, position, self.length, self.row)
        self.length += 1
        return self.states

    def _positions(self, count: int) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """Return the cosines and sines of the next `count` ids, and the scale of the attention scores."""
        start = self.length - self.start
        return self.cos[start : start + count], self.sin[start : start + count], self.scale

    def set_head(self, weight: Tensor) -> None:
        """Copy the weights `(vocab_size, hidden_size)` of the head, as those of the layers are copied."""
        self.head = array_of(weight.clone(), torch.uint32)

    def scores(self, start: int, stop: int) -> Tensor:
        """Return the scores `(1, stop - start)` of the ids from `start` up to `stop`, from `states`."""
        return torch.from_numpy(self._score(self.head[start:stop], self.row))[None]

    def choose(
        self,
        last_id: int,
        columns: np.ndarray,
        end: tuple[int, int],
        temperature: float,
        noise: Tensor,
        ids: Tensor,
        highest: Tensor,
    ) -> int:
        """Choose ids one after the other, up to the end token.

        Args:
            last_id (`int`): the id before the first of them.
            columns (`np.ndarray` of shape `(count, 3)`): for each id to choose, the first id of its level, one past
                the last, and an id that is never chosen, or -1.
            end (`tuple[int, int]`): the end token, or -1 for none, and the number of first ids that cannot be it.
            temperature (`float`): divisor of the scores; 0 selects the highest one.
            noise (`torch.DoubleTensor` of shape `(count,)`): uniform numbers in [0, 1).
            ids (`torch.LongTensor` of shape `(count,)`): where the ids are written.
            highest (`torch.FloatTensor` of shape `(count,)`): where the highest scores are written; NaN where the
                scores are unusable, see `row_kernels_audiolm.choose`.

        Returns:
            `int`: the number of ids.
        """
        done: int = self._advance(
            last_id,
            self.embeddings,
            self.layers,
            self.norm,
            self.cache,
            self._positions(len(ids)),
            self.length,
            self.row,
            self.head,
            columns,
            end,
            np.float32(temperature),
            noise.numpy(),
            ids.numpy(),
            highest.numpy(),
        )
        self.length += done
        return done


def can_step_rows(model: Any) -> bool:
    """Return whether `RowDecoder` computes what a decoder that passes `can_pack` does, and should not be slower."""
    layer = model.layers[0]
    sizes = model.embed_tokens.embedding_dim, layer.self_attn.o_proj.in_features, layer.mlp.down_proj.in_features
    num_bytes = sum(weight.nbytes for weight in model.layers.parameters())
    norms = [
        model.norm,
        *(norm for each in model.layers for norm in (each.input_layernorm, each.post_attention_layernorm)),
    ]
    return (
        (torch.get_num_threads() <= ENOUGH_THREADS or num_bytes <= CACHED_BYTES)
        and len({norm.variance_epsilon for norm in norms}) == 1
        and len({tuple(weight.shape for weight in each.parameters()) for each in model.layers}) == 1
        and all(isinstance(layer.mlp.act_fn, (nn.SiLU, SiLUActivation)) for layer in model.layers)
        and all(size % 2 == 0 for size in sizes)  # in bfloat16, weights are read in pairs; float32 is treated alike
        and load_row_steps(model.embed_tokens.weight.dtype)
    )


@functools.cache
def load_row_steps(dtype: torch.dtype) -> bool:
    """Load the compiled functions for stages of a dtype, or compile them; return whether they can be used.

    They cannot if Numba is missing, broken or disabled, if its cache is damaged, or if the disk is full.
    """
    from .row_kernels_audiolm import IS_COMPILED, advance

    if not IS_COMPILED or dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        _run_once(dtype)
    except Exception as error:
        logger.warning(
            f"Numba cannot load or compile the steps of the stages ({type(error).__name__}: {error}), so torch "
            f"computes them, which is slower. If Numba's cache is damaged, delete {advance.stats.cache_path}."
        )
        return False
    return True


def _run_once(dtype: torch.dtype) -> None:
    """Call the compiled functions with small arrays of the types that stages use, so that Numba loads or compiles."""
    from .row_kernels_audiolm import advance, score, step

    def zeros(*shape: int, bits: torch.dtype | None = None) -> np.ndarray:
        return array_of(
            torch.zeros(shape, device="cpu", dtype=torch.float32 if bits is None else dtype), bits or torch.uint16
        )

    def linear(outputs: int) -> tuple[np.ndarray, np.ndarray]:
        return zeros(1, outputs, 2, bits=torch.uint32), zeros(1, outputs)

    head, one = zeros(2, 2, bits=torch.uint32), np.float32(1)
    layers = zeros(1, 2), *linear(6), *linear(2), zeros(1, 2), *linear(4), *linear(2)
    cache = zeros(1, 1, 2, 1, bits=torch.uint16), zeros(1, 1, 1, 2, bits=torch.uint16)
    norm, states, embeddings, angles = (zeros(2), one), zeros(2), zeros(2, 2, bits=torch.uint16), zeros(1, 1)
    columns, chosen = np.array([[0, 2, -1]]), (np.zeros(1, np.int64), zeros(1))
    steps = layers, norm, cache, (angles, angles, one), 0, states
    advance(0, embeddings, *steps, head, columns, (-1, 0), one, np.zeros(1), *chosen)
    step(embeddings[0], layers, norm, cache, (angles[0], angles[0], one), 0, states)
    score(head, states)


def array_of(values: Tensor, bits: torch.dtype = torch.uint16) -> np.ndarray:
    """Return a tensor as an array that shares its memory if possible; one in bfloat16 as integers of dtype `bits`."""
    values = values.detach().contiguous()
    if values.data_ptr() % 4:  # not aligned to 4 bytes, as can happen with weights in a file
        values = values.clone()
    return (values.view(bits) if values.dtype == torch.bfloat16 else values).numpy()


def _layers(layers: Any) -> tuple[np.ndarray, ...]:
    """Return the weights of all layers in the order that `step` expects."""
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
    """Return the concatenated weights and biases of the linear layers in each part, one part for each decoder layer.

    Weights are `(layers, outputs, inputs)`, in bfloat16 as pairs (see `_add_products`), biases `(layers, outputs)`.
    """
    linears = [linear for part in parts for linear in part]
    weights = torch.cat([linear.weight for linear in linears]).unflatten(0, (len(parts), -1))
    biases = [weights.new_zeros(linear.out_features) if linear.bias is None else linear.bias for linear in linears]
    return array_of(weights, torch.uint32), array_of(torch.cat(biases).float().view(weights.shape[:2]))
