# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a causal stage on a CPU, each row on its own, by compiled functions.

In: the ids of each row; out: scores of the ids that may follow, or chosen ids.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.utils import logging

from .backbone_checks_audiolm import DECODERS, has_plain_cache, is_unmodified_on_cpu
from .packed_encoder_audiolm import PackedEncoder
from .packed_products_audiolm import fast_dtypes
from .stage_steps_audiolm import STEPS_BETWEEN_CHECKS, TokenSteps
from .token_layout_audiolm import SEMANTIC_LEVEL

logger = logging.get_logger(__name__)
# Larger decoders do not stay in a processor's caches. The compiled function reads them anew for each row, with one
# thread; transformers reads them once, which is faster if all rows read more than MOST_BYTES, or with more threads.
CACHED_BYTES, MOST_BYTES, ENOUGH_THREADS = 32e6, 300e6, 2


class RowSteps:
    """Scores of a causal stage like those of `StageSteps`, without padding, for decoders that pass `can_step_rows`.

    All weights but the embeddings are copied, so that changes to them count from the next sequence on. If torch has
    several threads, each takes other rows.

    `AudioLMModel.from_pretrained` loads the compiled functions on a CPU, which takes half a second. Otherwise, the
    first call of `can_step_rows` that could use them does. Without a cache, compiling takes 4 s for each dtype.
    """

    fixed = False  # no fixed shapes, and no cache to keep

    def __init__(self, model: PreTrainedModel, contexts: list[Tensor], num_tokens: int) -> None:
        # Imported here, because importing Numba takes 0.25 s, which not every user of this module needs.
        from .row_kernels_audiolm import advance, score, step

        self._advance, self._score, self._step = advance, score, step
        self.model, self.contexts, self.num_tokens = model, contexts, num_tokens
        self.device, self.num_rows = contexts[0].device, len(contexts)
        self.lengths = [len(context) for context in contexts]
        threads = min(torch.get_num_threads(), self.num_rows)
        self.pool = None if threads == 1 else ThreadPoolExecutor(threads)
        level_ids = [model.level_ids[level] for level in model.config.predicted_levels]
        self.level_ranges = np.array([(*ids, -1 if never is None else never) for *ids, never in level_ids])
        self.head: np.ndarray | None = None  # if ids can be chosen from it
        if model.reads_head_rows(self.device):
            self.head = array_of(model.lm_head.weight.clone(), torch.uint32)

    def read_contexts(self) -> None:
        """Compute the states of the contexts' last ids."""
        decoder: Any = self.model.model
        order: dict[int, int] = {}  # candidates share their context, which is read once
        sources = [order.setdefault(id(context), len(order)) for context in self.contexts]
        contexts = [self.contexts[sources.index(source)] for source in range(len(order))]
        lengths = [len(context) for context in contexts]
        encoder = PackedEncoder(decoder, lengths, is_causal=True, places=torch.cat([*map(self._places, contexts)]))
        is_last = torch.cat([torch.arange(length, device="cpu") == length - 1 for length in lengths])
        states = encoder.states(decoder.embed_tokens(torch.cat(contexts)), is_last)
        self.states = states.float()[sources]
        self.arrays = list(array_of(self.states))  # of the same memory, so that compiled functions update both
        self._fill_caches(encoder, sources)
        self.embeddings, self.layers = array_of(decoder.embed_tokens.weight), _layers(decoder.layers)
        self.norm = array_of(decoder.norm.weight.float().clone()), np.float32(decoder.norm.variance_epsilon)
        self.scale = np.float32(decoder.layers[0].self_attn.scaling)
        places = torch.tensor(self.lengths, device="cpu")[:, None] + torch.arange(self.num_tokens, device="cpu")
        rotations = decoder.rotary_emb(self.states, position_ids=places)
        self.rotations = [array_of(each[..., : each.shape[-1] // 2]) for each in rotations]

    def _places(self, context: Tensor) -> Tensor:
        """Return the positions `(length,)` of a context's ids."""
        counted = torch.arange(len(context), device="cpu")[None]
        places: Any = self.model.mask_and_positions(context[None], None, counted)["position_ids"]
        return places[0]

    def _fill_caches(self, encoder: PackedEncoder, sources: list[int]) -> None:
        """Copy the keys and values of the contexts, with room for the ids to come."""
        num_keys, size = encoder.layer_caches[0][0].shape[1:]
        room, shape = max(self.lengths) + self.num_tokens, (self.num_rows, len(encoder.layer_caches), num_keys)
        keys = self.model.lm_head.weight.new_empty(*shape, size, room)
        values = keys.new_empty(*shape, room, size)
        for layer in range(shape[1]):
            rows = encoder.rows(*encoder.layer_caches.pop(0))  # to free its memory
            for row, source in enumerate(sources):
                row_keys, row_values = rows[source]
                keys[row, layer, ..., : len(row_keys)] = row_keys.permute(1, 2, 0)
                values[row, layer, :, : len(row_values)] = row_values.transpose(0, 1)
        self.caches = list(zip(array_of(keys), array_of(values), strict=True))

    def follow(self, ids: Tensor) -> None:
        """Add an id `(rows,)` to each row, and compute its states."""
        self.of_rows(self._follow, range(self.num_rows), ids.tolist())

    def of_rows(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Return the results of a function for the arguments of each row, several rows at a time."""
        results: list[Callable[[], Any]] = []
        for given in zip(*arguments, strict=True):
            call = partial(function, *given)
            try:
                results.append(call if self.pool is None else self.pool.submit(call).result)
            except RuntimeError:  # a thread that outlives the main one: pools then refuse work
                results.append(call)
        return [result() for result in results]

    def _follow(self, row: int, id_: int) -> None:
        cos, sin, scale = self._positions(row, 1)
        position, last, states = (cos[0], sin[0], scale), self.lengths[row], self.arrays[row]
        self._step(self.embeddings[id_], self.layers, self.norm, self.caches[row], position, last, states)
        self.lengths[row] += 1

    def _positions(self, row: int, count: int) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """Return the cosines and sines of the next `count` ids of a row, and the scale of the attention scores."""
        start = self.lengths[row] - len(self.contexts[row])
        cos, sin = (each[row, start : start + count] for each in self.rotations)
        return cos, sin, self.scale

    def scores(self, level: int) -> Tensor:
        """Return the scores `(rows, ids of the level)` of the states, see `level_logits`."""
        if self.head is None:
            return self.model.level_logits(self.states.to(self.model.dtype), level)
        start, stop, _ = self.model.level_ids[level]
        scores = np.stack([self._score(self.head[start:stop], states) for states in self.arrays])
        return self.model.restrict(torch.from_numpy(scores), level)

    def choose(self, row: int, last_id: int, level_ranges: np.ndarray, *options: Any) -> int:
        """Choose ids of a row up to the end token, and return their number.

        `last_id`, `level_ranges` and `options` (all that follow) are passed to `row_kernels_audiolm.advance`.
        """
        steps = self.layers, self.norm, self.caches[row], self._positions(row, len(level_ranges)), self.lengths[row]
        count = self._advance(last_id, self.embeddings, *steps, self.arrays[row], self.head, level_ranges, *options)
        self.lengths[row] += count
        return count


class RowTokenSteps(TokenSteps):
    """`TokenSteps` that chooses the ids by compiled functions, too; it supports no guidance, `top_k` or `top_p`."""

    stage_steps: RowSteps

    @property
    def end(self) -> int:
        """The id that ends a row, or -1."""
        return self.end_token_id if SEMANTIC_LEVEL in self.levels else -1

    def take(self, start: int, stop: int, report: Callable[[int], None]) -> bool:
        """Run steps as `TokenSteps.take` does, a few of each row at a time, so that Ctrl-C can interrupt them."""
        if start == 0:
            if super().take(0, 1, report):
                return True
            start = 1
        for first in range(start, stop, STEPS_BETWEEN_CHECKS):
            rows = (~self.ended).nonzero()[:, 0]
            choose = partial(self._choose, first, min(stop, first + STEPS_BETWEEN_CHECKS))
            counts = torch.tensor(self.stage_steps.of_rows(choose, rows.tolist()), device="cpu")
            self.ended[rows] = self.tokens[rows, first + counts - 1] == self.end
            report(int(counts.sum()))
            if self.ended.all():
                return True
        return False

    def _choose(self, first: int, stop: int, row: int) -> int:
        """Choose the ids of a row from `first` up to `stop`, or up to the end token, and return how many they are."""
        num_forbidden = 0 if self.num_forbidden_ends is None else int(self.num_forbidden_ends[row]) - first
        return self.stage_steps.choose(
            row,
            int(self.tokens[row, first - 1]),
            self.stage_steps.level_ranges[np.arange(first, stop) % len(self.levels)],
            (self.end, num_forbidden),
            np.float32(self.sampler.row_temperature),
            *(each[row, first:stop].numpy() for each in (self.noise, self.tokens, self.highest)),
        )


def can_step_rows(decoder: PreTrainedModel, num_rows: int) -> bool:
    """Return whether `RowSteps` computes what a stage's decoder does, and should not be slower for so many rows."""
    if not (is_unmodified_on_cpu(decoder, DECODERS) and has_plain_cache(decoder)):
        return False
    layers, norms = list(decoder.layers), [decoder.norm]
    for layer in layers:
        norms += [layer.input_layernorm, layer.post_attention_layernorm]
    num_bytes = sum(weight.nbytes for weight in decoder.layers.parameters())
    is_read_fast = num_rows == 1 or num_rows * num_bytes <= MOST_BYTES
    attention, down = layers[0].self_attn.o_proj, layers[0].mlp.down_proj
    sizes = attention.out_features, attention.in_features, down.in_features
    return (
        (num_bytes <= CACHED_BYTES or (is_read_fast and torch.get_num_threads() <= ENOUGH_THREADS))
        and len({layer.self_attn.scaling for layer in layers}) == 1
        and len({norm.variance_epsilon for norm in norms}) == 1
        and len({tuple(weight.shape for weight in layer.parameters()) for layer in layers}) == 1
        and all(isinstance(layer.mlp.act_fn, (nn.SiLU, SiLUActivation)) for layer in layers)
        and all(size % 2 == 0 for size in sizes)  # in bfloat16, weights are read in pairs; float32 is treated alike
        and load_row_steps(decoder.dtype)
    )


@cache
def load_row_steps(dtype: torch.dtype) -> bool:
    """Load the compiled functions for stages of a dtype, or compile them; return whether they can be used.

    They cannot if Numba is missing, broken or disabled, if its cache is damaged, or if the disk is full.
    """
    from .row_kernels_audiolm import IS_COMPILED, advance

    if not IS_COMPILED or dtype not in fast_dtypes():
        return False
    try:
        _run_once(dtype)
    except Exception as error:
        cache_path = advance.stats.cache_path
        logger.warning(
            f"Numba cannot load or compile the steps of the stages ({type(error).__name__}: {error}), so the slower "
            "steps of transformers are used."
            + (f" If its cache is damaged, delete {cache_path}." if cache_path else "")
        )
        return False
    return True


def _run_once(dtype: torch.dtype) -> None:
    """Call the compiled functions with small arrays of the types that stages use, so that Numba loads or compiles."""
    from .row_kernels_audiolm import advance, score, step

    def floats(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def weights(*shape: int, bits: torch.dtype = torch.uint32) -> np.ndarray:
        return array_of(torch.zeros(shape, dtype=dtype, device="cpu"), bits)

    def linear(outputs: int) -> tuple[np.ndarray, np.ndarray]:
        return weights(1, outputs, 2), floats(1, outputs)

    head, one = weights(2, 2), np.float32(1)
    layers = floats(1, 2), *linear(6), *linear(2), floats(1, 2), *linear(4), *linear(2)
    caches = weights(1, 1, 2, 1, bits=torch.uint16), weights(1, 1, 1, 2, bits=torch.uint16)
    norm, states, embeddings, angles = (floats(2), one), floats(2), weights(2, 2, bits=torch.uint16), floats(1, 1)
    level_ranges, chosen = np.array([[0, 2, -1]]), (np.zeros(1, np.int64), floats(1))
    steps = layers, norm, caches, (angles, angles, one), 0, states
    advance(0, embeddings, *steps, head, level_ranges, (-1, 0), one, np.zeros(1), *chosen)
    step(embeddings[0], layers, norm, caches, (angles[0], angles[0], one), 0, states)
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
