# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a causal stage: scores after contexts of any length, and the choice of the ids that follow, one by one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .backbone_checks_audiolm import can_capture
from .compat_audiolm import CACHE_NAME
from .packed_products_audiolm import fast_products, has_fixed_shapes, steady_attention
from .stage_cache_audiolm import FixedCache, build_cache, fixed_length
from .token_layout_audiolm import SEMANTIC_LEVEL

# Steps after which an accelerator is asked whether all rows have ended, and compiled steps of rows return to Python.
STEPS_BETWEEN_CHECKS = 16


class StageSteps:
    """Scores of a causal stage after the contexts (ids of each row), and after each id that is added to them.

    `states (rows, hidden_size)` are the last hidden states. The cache has room for `num_tokens` ids to come.
    If `captures`, its steps can be captured as CUDA graphs after `bias (rows, 1, 1, room)` has been set, which is
    added to the attention scores in place of a mask.
    """

    def __init__(self, model: PreTrainedModel, contexts: list[Tensor], num_tokens: int) -> None:
        self.model, self.device, self.num_rows = model, contexts[0].device, len(contexts)
        pad = partial(pad_sequence, batch_first=True, padding_side="left")
        self.input_ids = pad(contexts, padding_value=model.config.padding_token_id)
        mask = pad([torch.ones_like(context) for context in contexts])
        self.position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        self.length = self.input_ids.shape[1]
        self.dtype = model.get_input_embeddings().weight.dtype
        self.captures = can_capture(model, self.device, num_tokens)
        self.fixed, room = self.captures or has_fixed_shapes(model.model), self.length + num_tokens
        self.call: Callable[..., Any] = model.model
        self.bias: Tensor | None = None
        self.room = fixed_length(room) if self.fixed else room
        # Without padding no mask is needed, and attention kernels are faster without one.
        no_mask = not self.fixed and bool(mask.all())
        self.mask = None if no_mask else F.pad(mask, (0, self.room - self.length), value=1)
        if self.fixed:
            self.cache = FixedCache.take(model.model, self.num_rows, self.room)
        else:
            self.cache = build_cache(model.config, self.room)

    def read_contexts(self) -> None:
        """Compute the states of the contexts' last ids."""
        call = self.model.model._call_impl if self.fixed else self.model.model  # not compiled, as lengths differ
        with steady_attention(self.device):  # every context may have another length
            self.states = self._states(call, None if self.mask is None else self.mask[:, : self.length])
        self.position_ids = self.position_ids[:, -1:] + 1

    def scores(self, level: int) -> Tensor:
        """Return the scores `(rows, ids of the level)` of the states, see `level_logits`."""
        return self.model.level_logits(self.states.to(self.dtype), level)

    def follow(self, ids: Tensor) -> None:
        """Add an id `(rows,)` to each row, and compute its states."""
        self.input_ids, self.length = ids[:, None], self.length + 1
        mask = self.mask
        if self.bias is not None:  # transformers reads the values of a 2D mask on the host, which cannot be captured
            mask = self.bias.index_fill_(3, self.cache.layers[0].cumulative_length.view(1), 0)
        elif mask is not None:
            mask = mask[:, : self.room if self.fixed else self.length]
        self.states = self._states(self.call, mask)
        self.position_ids.add_(1)

    def _states(self, call: Callable[..., Any], mask: Tensor | None) -> Tensor:
        inputs = self.model.mask_and_positions(self.input_ids, mask, self.position_ids, self.cache)
        with fast_products(self.model.model):
            outputs = call(input_ids=self.input_ids, **inputs, **{CACHE_NAME: self.cache}, use_cache=True)
        return outputs.last_hidden_state[:, -1]


class TokenSteps:
    """Chooses an id for every row, step by step.

    Args:
        steps ([`StageSteps`] or [`RowSteps`]): the steps of the stage; with guidance, the second half of its rows has
            no condition.
        sampler ([`TokenSampler`]): how to choose.
        noise (`torch.Tensor` of shape `(rows, num_tokens)`): uniform numbers in [0, 1).
        num_forbidden_ends (`torch.LongTensor` of shape `(rows,)`, *optional*): number of first steps in
            which the end token must not be chosen.

    `tokens (rows, num_tokens)` holds the ids, and `highest (rows, num_tokens)` the highest score at each step,
    which is NaN or infinite if the scores cannot be used.
    """

    def __init__(self, steps: Any, sampler: Any, noise: Tensor, num_forbidden_ends: Tensor | None) -> None:
        config = steps.model.config
        self.stage_steps, self.sampler, self.device = steps, sampler, steps.device
        self.noise, self.num_forbidden_ends = noise, num_forbidden_ends
        rows, num_tokens = noise.shape
        self.guided = steps.num_rows > rows
        # Read once, as reading a configuration takes as long as computing.
        self.levels, self.end_token_id = config.predicted_levels, config.end_token_id
        self.first_ids = [steps.model.level_ids[level][0] for level in self.levels]
        self.tokens = torch.full((rows, num_tokens), self.end_token_id, device=self.device)
        self.highest = torch.zeros(rows, num_tokens, device=self.device, dtype=torch.float32)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.ids: Tensor | None = None

    def take(self, start: int, stop: int, report: Callable[[int], None]) -> bool:
        """Run the steps from `start` up to `stop`, until all rows are found to have ended; return whether they are.

        `report` is called with the number of new tokens, summed over the rows.
        """
        for step in range(start, stop):
            turn = step % len(self.levels)
            forbidden = None if self.num_forbidden_ends is None else step < self.num_forbidden_ends
            self.tokens[:, step] = self.advance(turn, self.noise[:, step], forbidden, self.highest[:, step])
            report(len(self.tokens))
            # Asking an accelerator means waiting for it, so this is not done after every step.
            asked = self.device.type == "cpu" or (step + 1) % STEPS_BETWEEN_CHECKS == 0
            if self.levels[turn] == SEMANTIC_LEVEL and asked and self.ended.all():
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
            self.stage_steps.read_contexts()
        else:
            self.stage_steps.follow(self.ids.repeat(2) if self.guided else self.ids)
        level = self.levels[turn]
        scores = self.stage_steps.scores(level).to(self.device)
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


def guided_scores(scores: Tensor, guidance_scale: float) -> Tensor:
    """Return the guided scores, log-probabilities; the second half of the rows is the first without its condition."""
    with_condition, without = scores.log_softmax(-1).chunk(2)
    return without + guidance_scale * (with_condition - without)
