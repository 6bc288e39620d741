# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps of a causal stage: hidden states of contexts of any length, and of the ids that follow them one by one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .compat_audiolm import CACHE_NAME
from .packed_decoder_audiolm import FixedCache, build_cache, can_capture, can_pack, fixed_length, pack_decoder
from .packed_encoder_audiolm import PackedEncoder
from .packed_products_audiolm import fast_products, has_fixed_shapes, steady_attention
from .row_decoder_audiolm import RowDecoder


class StageSteps:
    """Scores of a causal stage after the contexts (ids of each row), and after each id that is added to them.

    `states (rows, hidden_size)` are the last hidden states. The cache has room for `num_tokens` ids to come.
    If `captures`, steps can be captured once `bias (rows, 1, 1, room)`, which is added to attention scores, is set.
    """

    def __init__(self, model: PreTrainedModel, contexts: list[Tensor], num_tokens: int) -> None:
        self.model, self.num_tokens = model, num_tokens
        pad = partial(pad_sequence, batch_first=True, padding_side="left")
        self.input_ids = pad(contexts, padding_value=model.config.padding_token_id)
        mask = pad([torch.ones_like(context) for context in contexts])
        self.position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        self.length = self.input_ids.shape[1]
        self.dtype = model.get_input_embeddings().weight.dtype
        self.row: RowDecoder | None = None  # if it also has the heads
        self.captures = can_capture(model, self.input_ids.device, num_tokens)
        self.fixed, room = self.captures or has_fixed_shapes(model.model), self.length + num_tokens
        self.call: Callable[..., Any] = model.model
        self.bias: Tensor | None = None
        self.room = fixed_length(room) if self.fixed else room
        # Without padding no mask is needed, and attention kernels are faster without one.
        no_mask = not self.fixed and bool(mask.all())
        self.mask = None if no_mask else F.pad(mask, (0, self.room - self.length), value=1)
        if self.fixed:
            self.cache = FixedCache.take(model.model, len(mask), self.room)
        else:
            self.cache = build_cache(model.config, self.room)

    def read_contexts(self) -> None:
        """Compute the states of the contexts' last ids."""
        call = self.model.model._call_impl if self.fixed else self.model.model  # not compiled, as lengths differ
        if self.mask is None and can_pack(self.model.model, self.cache):
            self.states = self._packed_states()
        else:
            with steady_attention(self.input_ids.device):  # every context may have another length
                self.states = self._states(call, None if self.mask is None else self.mask[:, : self.length])
        self.position_ids = self.position_ids[:, -1:] + 1
        decoder = pack_decoder(self.model.model, self.cache, self.position_ids, self.num_tokens - 1, self.mask)
        if isinstance(decoder, RowDecoder):
            self.states = decoder.states.copy_(self.states)
            if self.model.level_weights():
                decoder.set_head(self.model.lm_head.weight)
                self.row = decoder
        self.decoder = decoder

    def _packed_states(self) -> Tensor:
        model, ids, is_last = self.model, self.input_ids, self.position_ids == self.length - 1
        places: Any = model.mask_and_positions(ids, None, self.position_ids, self.cache)["position_ids"]
        encoder = PackedEncoder(model.model, [self.length] * len(ids), self.cache, places.flatten())
        return encoder.states(model.get_input_embeddings()(ids.flatten()), is_last.flatten())

    def scores(self, level: int) -> Tensor:
        """Return the scores `(rows, ids of the level)` of the states, see `level_logits`."""
        if self.row is not None:
            return self.model.restrict(self.row.scores(*self.model.level_ids[level][:2]), level)
        return self.model.level_logits(self.states.to(self.dtype), level)

    def follow(self, ids: Tensor) -> None:
        """Add an id `(rows,)` to each row, and compute its states."""
        if self.decoder is not None:
            self.states = self.decoder.step(ids)
            return
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

    def keep_cache(self) -> None:
        """Keep a cache of fixed shapes for the next call."""
        if self.fixed:
            self.cache.keep(self.model.model)
