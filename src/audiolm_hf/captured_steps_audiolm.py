# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Step-by-step choice of a causal stage's ids.

On a GPU, steps that can be captured are each launched as one CUDA graph; on a CPU, a compiled function takes the steps
of a single row.

In: the steps of a stage after its contexts, how to choose, and random numbers; out: an id for each row and step.
"""

from collections.abc import Callable, Hashable
from functools import partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .packed_decoder_audiolm import FixedCache
from .packed_products_audiolm import has_fixed_shapes
from .row_decoder_audiolm import RowDecoder
from .stage_steps_audiolm import StageSteps
from .token_layout_audiolm import SEMANTIC_LEVEL

# Steps after which an accelerator is asked whether all rows have ended, and those of one row return to Python.
STEPS_BETWEEN_CHECKS = 16
# torch keeps compiled code for only a few shapes per function, so every decoder and shape gets its own function.
_compiled: WeakKeyDictionary[nn.Module, dict[Hashable, Callable[..., Any]]] = WeakKeyDictionary()


class TokenSteps:
    """Chooses an id for every row, step by step.

    Args:
        steps ([`StageSteps`]): the steps of the stage; with guidance, the second half of its rows has no condition.
        sampler ([`TokenSampler`]): how to choose.
        noise (`torch.Tensor` of shape `(rows, num_tokens)`): uniform numbers in [0, 1).
        num_forbidden_ends (`torch.LongTensor` of shape `(rows,)`, *optional*): number of first steps in
            which the end token must not be chosen.

    `tokens (rows, num_tokens)` holds the ids, and `highest (num_tokens, rows)` the highest score at each step, or NaN.
    """

    def __init__(self, steps: StageSteps, sampler: Any, noise: Tensor, num_forbidden_ends: Tensor | None) -> None:
        config = steps.model.config
        self.steps, self.sampler, self.device = steps, sampler, steps.input_ids.device
        self.noise, self.num_forbidden_ends = noise, num_forbidden_ends
        rows, num_tokens = noise.shape
        self.guided = len(steps.input_ids) > rows
        # Read once, as reading a configuration takes as long as computing.
        self.levels, self.end_token_id = config.predicted_levels, config.end_token_id
        level_ids = [steps.model.level_ids[level] for level in self.levels]
        self.level_ids = np.array([(*ids, -1 if never is None else never) for *ids, never in level_ids])
        self.first_ids = self.level_ids[:, 0].tolist()
        self.tokens = torch.full((rows, num_tokens), self.end_token_id, device=self.device)
        self.highest = torch.zeros(num_tokens, rows, device=self.device, dtype=torch.float32)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.ids: Tensor | None = None

    def take(self, start: int, stop: int, report: Callable[[int], None]) -> bool:
        """Run the steps from `start` up to `stop`, until all rows are found to have ended; return whether they are.

        `report` is called with the number of new tokens of all rows.
        """
        for step in range(start, stop):
            if self.ids is not None and self.steps.row is not None and self.sampler.row_temperature is not None:
                return self._take_row(self.steps.row, step, stop, report)
            turn = step % len(self.levels)
            forbidden = None if self.num_forbidden_ends is None else step < self.num_forbidden_ends
            self.tokens[:, step] = self.advance(turn, self.noise[:, step], forbidden, self.highest[step])
            report(len(self.tokens))
            # Asking an accelerator means waiting for it, so this is not done after every step.
            asked = self.device.type == "cpu" or (step + 1) % STEPS_BETWEEN_CHECKS == 0
            if self.levels[turn] == SEMANTIC_LEVEL and asked and self.ended.all():
                return True
        return False

    def _take_row(self, row: RowDecoder, start: int, stop: int, report: Callable[[int], None]) -> bool:
        """Run the steps of a single row by a compiled function, a few at a time, so that Ctrl-C interrupts them."""
        last_id = int(self.tokens[0, start - 1])
        end = self.end_token_id if SEMANTIC_LEVEL in self.levels else -1
        for first in range(start, stop, STEPS_BETWEEN_CHECKS):
            steps = slice(first, min(stop, first + STEPS_BETWEEN_CHECKS))
            forbidden = 0 if self.num_forbidden_ends is None else int(self.num_forbidden_ends[0]) - first
            done = row.choose(
                last_id,
                self.level_ids[np.arange(steps.start, steps.stop) % len(self.levels)],
                (end, forbidden),
                self.sampler.row_temperature,
                self.noise[0, steps],
                self.tokens[0, steps],
                self.highest[steps, 0],
            )
            report(done)
            last_id = int(self.tokens[0, first + done - 1])
            if last_id == end:
                return True
        return False

    def advance(self, turn: int, noise: Tensor, forbidden: Tensor | None, highest: Tensor) -> Tensor:
        """Choose the next id of every row.

        Args:
            turn (`int`): index into the predicted levels.
            noise (`torch.Tensor` of shape `(rows,)`): uniform numbers.
            forbidden (`torch.BoolTensor` of shape `(rows,)`, *optional*): rows that must not end.
            highest (`torch.FloatTensor` of shape `(rows,)`): where each row's highest score is written.

        Returns:
            `torch.LongTensor` of shape `(rows,)`, valid until the next step; the end token for rows that have ended.
        """
        if self.ids is None:
            self.steps.read_contexts()
        else:
            self.steps.follow(self.ids.repeat(2) if self.guided else self.ids)
        level = self.levels[turn]
        scores = self.steps.scores(level).to(self.device)
        if self.guided:
            scores = guided_scores(scores, self.sampler.guidance_scale)
        if forbidden is not None:
            scores[:, self.end_token_id] = scores[:, self.end_token_id].masked_fill(forbidden, -torch.inf)
        torch.amax(scores, -1, out=highest)
        chosen = self.sampler.choose(scores, noise) + self.first_ids[turn]
        if level == SEMANTIC_LEVEL:
            chosen = chosen.masked_fill(self.ended, self.end_token_id)
            self.ended |= chosen == self.end_token_id
        self.ids = chosen
        return chosen


class CapturedSteps(TokenSteps):
    """`TokenSteps` whose steps after the first one are CUDA graphs, which the cache keeps for the next sequence.

    The first sequence runs the first step of each level kernel by kernel, which compiles and loads what it needs. The
    second step of each level is captured, without being computed, and then replayed, like all later ones.
    """

    def advance(self, turn: int, noise: Tensor, forbidden: Tensor | None, highest: Tensor) -> Tensor:
        """Choose the next id of every row, see `TokenSteps.advance`."""
        if self.ids is None:
            super().advance(turn, noise, forbidden, highest)
            return self._enter_graphs(noise, forbidden)
        graphs = self.graphs
        graphs.noise.copy_(noise)
        if forbidden is not None:
            graphs.forbidden.copy_(forbidden)
        graphs.run(turn, partial(self._advance, turn, forbidden is not None))
        highest.copy_(graphs.highest)
        return graphs.ids

    def _advance(self, turn: int, forbids: bool) -> None:
        """Compute a step that reads and writes only the graphs' tensors."""
        graphs = self.graphs
        chosen = super().advance(turn, graphs.noise, graphs.forbidden if forbids else None, graphs.highest)
        self.ids = graphs.ids.copy_(chosen)

    def _enter_graphs(self, noise: Tensor, forbidden: Tensor | None) -> Tensor:
        """Move the state after the contexts to the tensors of the graphs that fit, and return the ids there."""
        steps, decoder, key = self.steps, self.steps.model.model, self._key(forbidden)
        if steps.cache.graphs is None or steps.cache.graphs.key != key:
            steps.cache.graphs = StepGraphs(key, self, noise)
        graphs = self.graphs = steps.cache.graphs
        steps.bias = graphs.bias.fill_(-torch.inf)
        steps.bias[..., : steps.length].masked_fill_(steps.mask[:, None, None, : steps.length].bool(), 0)
        steps.position_ids = graphs.position_ids.copy_(steps.position_ids)
        if has_fixed_shapes(decoder):  # its own call may use CUDA graphs, which cannot be captured
            steps.call = compiled_call(decoder, steps.cache)
        self.ended = graphs.ended.copy_(self.ended)
        self.ids = graphs.ids.copy_(self.ids)
        return self.ids

    def _key(self, forbidden: Tensor | None) -> Hashable:
        """Return what the graphs depend on besides the shape of the cache and the contents of tensors."""
        sampler, model = self.sampler, self.steps.model
        return (
            (sampler.do_sample, sampler.temperature, sampler.top_k, sampler.top_p),
            (self.guided, sampler.guidance_scale, forbidden is None, len(self.ended)),
            (tuple(self.levels), self.end_token_id),
            (has_fixed_shapes(model.model), model.model.config._attn_implementation),
            tuple(each.data_ptr() for each in (*model.parameters(), *model.buffers())),
        )


class StepGraphs:
    """CUDA graphs of a step, one for each level, and the tensors that hold their state between steps.

    On devices other than CUDA, steps run without graphs.

    Args:
        key (`Hashable`): what the graphs depend on.
        tokens ([`TokenSteps`]): the steps after their contexts, which give the shapes.
        noise (`torch.Tensor` of shape `(rows,)`): random numbers of a step, which give the dtype.
    """

    def __init__(self, key: Hashable, tokens: TokenSteps, noise: Tensor) -> None:
        steps, rows = tokens.steps, len(noise)
        self.key, self.device = key, tokens.device
        self.noise, self.highest = noise.new_empty(rows), noise.new_empty(rows, dtype=torch.float32)
        self.forbidden, self.ended = torch.empty_like(tokens.ended), torch.empty_like(tokens.ended)
        self.ids, self.position_ids = steps.input_ids.new_empty(rows), torch.empty_like(steps.position_ids)
        self.bias = steps.states.new_empty(len(steps.input_ids), 1, 1, steps.room)  # added to attention scores
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
    if cache.fits not in calls:
        own: Any = FunctionType(_forward.__code__.replace(), _forward.__globals__)
        # Tuning turns products of one row into reductions, which are fused with what is around them.
        options: dict[str, Any] = {"coordinate_descent_tuning": True}
        calls[cache.fits] = torch.compile(own, fullgraph=True, dynamic=False, options=options)
    return partial(calls[cache.fits], decoder)


def _forward(decoder: Any, **inputs: Any) -> Any:
    return decoder.forward(**inputs)


def guided_scores(scores: Tensor, guidance_scale: float) -> Tensor:
    """Return the guided scores, log-probabilities; the second half of the rows is the first without its condition."""
    with_condition, without = scores.log_softmax(-1).chunk(2)
    return without + guidance_scale * (with_condition - without)
