# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a causal stage on a GPU, each launched as one CUDA graph."""

from collections.abc import Callable, Hashable
from functools import partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .packed_products_audiolm import has_fixed_shapes
from .stage_cache_audiolm import FixedCache
from .stage_steps_audiolm import TokenSteps

# torch keeps compiled code for only a few shapes per function, so every decoder and shape gets its own function.
_compiled: WeakKeyDictionary[nn.Module, dict[Hashable, Callable[..., Any]]] = WeakKeyDictionary()


class CapturedTokenSteps(TokenSteps):
    """`TokenSteps` whose steps after the first one are CUDA graphs, which the cache keeps for the next sequence.

    The first sequence runs the first step of each level kernel by kernel, which compiles and loads what it needs. The
    second step of each level is captured, which does not compute it, and replayed, like all later ones.
    """

    def advance(self, turn: int, noise: Tensor, forbidden: Tensor | None, highest: Tensor) -> Tensor:
        """Choose the next id of every row, see `TokenSteps.advance`."""
        if self.ids is None:
            super().advance(turn, noise, forbidden, highest)
            return self._enter_graphs()
        graphs = self.graphs
        graphs.noise.copy_(noise)
        if forbidden is not None:
            graphs.forbidden.copy_(forbidden)
        graphs.run(turn, partial(self._advance, turn))
        highest.copy_(graphs.highest)
        return graphs.ids

    def _advance(self, turn: int) -> None:
        """Compute a step that reads and writes only the graphs' tensors."""
        graphs = self.graphs
        forbidden = None if self.num_forbidden_ends is None else graphs.forbidden
        chosen = super().advance(turn, graphs.noise, forbidden, graphs.highest)
        self.ids = graphs.ids.copy_(chosen)

    def _enter_graphs(self) -> Tensor:
        """Move the state after the contexts to the tensors of the graphs that fit, and return the ids there."""
        steps, decoder, key = self.stage_steps, self.stage_steps.model.model, self._key()
        if steps.cache.graphs is None or steps.cache.graphs.key != key:
            steps.cache.graphs = StepGraphs(key, self)
        graphs = self.graphs = steps.cache.graphs
        steps.bias = graphs.bias.fill_(-torch.inf)
        steps.bias[..., : steps.length].masked_fill_(steps.mask[:, None, None, : steps.length].bool(), 0)
        steps.position_ids = graphs.position_ids.copy_(steps.position_ids)
        if has_fixed_shapes(decoder):  # its own call may use CUDA graphs, which cannot be captured
            steps.call = compiled_call(decoder, steps.cache)
        self.ended = graphs.ended.copy_(self.ended)
        self.ids = graphs.ids.copy_(self.ids)
        return self.ids

    def _key(self) -> Hashable:
        """Return what the graphs depend on besides the shape of the cache and the contents of tensors."""
        sampler, model = self.sampler, self.stage_steps.model
        return (
            (sampler.do_sample, sampler.temperature, sampler.top_k, sampler.top_p),
            (self.guided, sampler.guidance_scale, self.num_forbidden_ends is None, len(self.ended)),
            (tuple(self.levels), self.end_token_id),
            (has_fixed_shapes(model.model), model.model.config._attn_implementation),
            tuple(each.data_ptr() for each in (*model.parameters(), *model.buffers())),
        )


class StepGraphs:
    """CUDA graphs of a step, one for each level, and the tensors that hold their state between steps.

    On devices other than CUDA, steps run without graphs.

    Args:
        key (`Hashable`): what the graphs depend on.
        tokens ([`TokenSteps`]): the steps after their contexts, which determine shapes and dtypes.
    """

    def __init__(self, key: Hashable, tokens: TokenSteps) -> None:
        steps, noise, rows = tokens.stage_steps, tokens.noise, len(tokens.noise)
        self.key, self.device = key, tokens.device
        self.noise, self.highest = noise.new_empty(rows), noise.new_empty(rows, dtype=torch.float32)
        self.forbidden, self.ended = torch.empty_like(tokens.ended), torch.empty_like(tokens.ended)
        self.ids, self.position_ids = steps.input_ids.new_empty(rows), torch.empty_like(steps.position_ids)
        self.bias = steps.states.new_empty(steps.num_rows, 1, 1, steps.room)  # added to attention scores
        self.warm: set[int] = set()
        self.graphs: dict[int, Any] = {}
        self.is_cuda = self.device.type == "cuda"
        if self.is_cuda:
            self.pool = torch.cuda.graph_pool_handle()
            self.stream = torch.cuda.Stream(self.device)

    def run(self, turn: int, step: Callable[[], None]) -> None:
        """Run the step of a level: directly the first time, on CUDA by its graph from then on."""
        graph = self.graphs.get(turn)
        if graph is None:
            if not self.is_cuda or turn not in self.warm:
                step()
                self.warm.add(turn)
                return
            graph = self.graphs[turn] = self._capture(step)
        graph.replay()

    def _capture(self, step: Callable[[], None]) -> Any:
        graph: Any = torch.cuda.CUDAGraph()
        # Workspaces of cuBLAS outlive graphs and are freed by other captures, so this one has its own in the pool.
        torch._C._cuda_clearCublasWorkspaces()
        try:
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
            ):
                step()
        finally:
            torch._C._cuda_clearCublasWorkspaces()
        return graph


def compiled_call(decoder: PreTrainedModel, cache: FixedCache) -> Callable[..., Any]:
    """Return a decoder's `forward`, compiled without CUDA graphs, for caches of the shapes of this one."""
    for layer in cache.layers:  # transformers marks them so that each new cache would be compiled again
        for each in (layer.keys, layer.values, layer.cumulative_length):
            torch._dynamo.mark_static_address(each, guard=False)
    calls = _compiled.setdefault(decoder, {})
    if cache.key not in calls:
        own: Any = FunctionType(_forward.__code__.replace(), _forward.__globals__)
        # Tuning turns products of one row into reductions, which are fused with what is around them.
        options: dict[str, Any] = {"coordinate_descent_tuning": True}
        calls[cache.key] = torch.compile(own, fullgraph=True, dynamic=False, options=options)
    return partial(calls[cache.key], decoder)


def _forward(decoder: Any, **inputs: Any) -> Any:
    return decoder.forward(**inputs)
