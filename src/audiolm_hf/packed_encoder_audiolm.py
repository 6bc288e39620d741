# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Passes over whole sequences on a CPU, with packed weights, no modules and no padding.

In: embeddings of the frames or ids of all rows, one row after the other; out: hidden states of those that are wanted.
The parallel stage's encoder runs such passes, and so do the decoders of the other stages, to read their contexts.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import EuroBertModel, PreTrainedModel

from .backbone_checks_audiolm import is_unmodified_on_cpu
from .packed_products_audiolm import normalize, pack


class PackedEncoder:
    """Passes of an encoder, or over the contexts of a decoder, which return the hidden states of its `forward`.

    The weights are copied in a layout that is fast to multiply with many rows. See `pack_encoder`.

    Args:
        model ([`~transformers.EuroBertModel`], or a decoder with the same modules): the encoder.
        lengths (`list[int]`): frames of each row.
        is_causal (`bool`, *optional*, defaults to `False`): whether the model is a decoder; then, `states` appends the
            keys and values of each layer, both `(frames, heads, head_size)`, to `layer_caches`.
        places (`torch.LongTensor` of shape `(frames,)`, *optional*): positions of all frames; by default, they are
            counted in each row.
    """

    def __init__(self, model: Any, lengths: list[int], is_causal: bool = False, places: Tensor | None = None) -> None:
        self.model, self.layers, self.is_causal = model, list[tuple](), is_causal
        self.layer_caches: list[tuple[Tensor, Tensor]] = []
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            parts = (
                (attention.q_proj, attention.k_proj, attention.v_proj),
                (attention.o_proj,),
                (mlp.gate_proj, mlp.up_proj),
                (mlp.down_proj,),
            )
            self.layers.append((layer, *(pack(part, sum(lengths)) for part in parts)))
        if places is None:
            places = torch.cat([torch.arange(length, device="cpu") for length in lengths])
        self._place(lengths, places)
        # Keys and values of each layer and row: those of the prefix, then room for the frames that follow.
        self.rooms: list[list[tuple[Tensor, Tensor]]] = []

    def _place(self, lengths: list[int], places: Tensor) -> None:
        """Set the frames of each row that passes are over, and the positions of all of them."""
        cos, sin = self.model.rotary_emb(self.model.embed_tokens.weight, position_ids=places[None])
        self.lengths, self.half = lengths, cos.shape[-1] // 2
        self.cos = cos[0, :, None]
        self.sin = torch.cat([-sin[0, :, : self.half], sin[0, :, self.half :]], -1)[:, None]  # of exchanged halves

    def read_prefix(self, embeds: Tensor, lengths: list[int]) -> None:
        """Compute the frames that attend only to each other; later passes cover only the frames that follow.

        `embeds (frames, hidden_size)` are of the first `lengths` frames of all rows.
        """
        whole, places = self.lengths, [torch.arange(length, device="cpu") for length in self.lengths]
        pairs = list(zip(places, lengths, strict=True))
        self._place(lengths, torch.cat([row[:length] for row, length in pairs]))
        rooms = [self._rooms(keys, values, whole) for keys, values in self._prefix_layers(embeds)]
        self._place([len(row) - length for row, length in pairs], torch.cat([row[length:] for row, length in pairs]))
        self.rooms = rooms

    def _prefix_layers(self, embeds: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the keys and values of each layer for the frames of a prefix."""
        hidden, last = embeds, len(self.layers) - 1
        for place, layer in enumerate(self.layers):
            queries, keys, values = self._heads(hidden, layer)
            yield keys, values
            if place < last:
                attended = self._attend(queries, self.rows(keys, values), self.lengths, layer[0].self_attn.scaling)
                hidden = self._follow(hidden, attended, layer)

    def _rooms(self, keys: Tensor, values: Tensor, whole: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values of a prefix, for each row, with room for those of the frames that follow."""
        rooms = []
        for (row_keys, row_values), length in zip(self.rows(keys, values), whole, strict=True):
            padding = (0, 0, 0, 0, 0, length - len(row_keys))
            rooms.append((F.pad(row_keys, padding), F.pad(row_values, padding)))
        return rooms

    def rows(self, keys: Tensor, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Split keys and values of all frames into those of each row."""
        return list(zip(keys.split(self.lengths), values.split(self.lengths), strict=True))

    def states(self, embeds: Tensor, wanted: Tensor) -> Tensor:
        """Return the last hidden states `(count, hidden_size)` of the frames where `wanted (frames,)` is true.

        `embeds (frames, hidden_size)` are of all frames that passes are over; those that are not wanted pass through
        all layers but the last. For a decoder, exactly the last id of each row must be wanted, because
        the last layer has no causal mask.
        """
        hidden, last = embeds, len(self.layers) - 1
        counts = self.lengths
        for place, layer in enumerate(self.layers):
            queries, keys, values = self._heads(hidden, layer)
            if self.is_causal:
                self.layer_caches.append((keys.clone(), values.clone()))  # not the whole products
            if place == last:
                counts = [int(part.sum()) for part in wanted.split(self.lengths)]
                queries, hidden = queries[wanted], hidden[wanted]
            read = self.rows(keys, values)
            if self.rooms:
                for row, room, length in zip(read, self.rooms[place], self.lengths, strict=True):
                    for new, kept in zip(row, room, strict=True):
                        kept[len(kept) - length :] = new
                read = self.rooms[place]
            attended = self._attend(queries, read, counts, layer[0].self_attn.scaling)
            hidden = self._follow(hidden, attended, layer)
        return normalize(hidden, self.model.norm)

    def _heads(self, hidden: Tensor, layer: tuple) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries, keys and values of a layer, all `(frames, heads, head_size)`."""
        attention, qkv = layer[0].self_attn, layer[1]
        num_queries, num_keys = (each.out_features // (2 * self.half) for each in (attention.q_proj, attention.k_proj))
        shape = len(hidden), num_queries + 2 * num_keys, 2 * self.half
        heads = qkv(normalize(hidden, layer[0].input_layernorm)).view(shape)
        rotated = heads[:, :-num_keys]
        rotated = torch.addcmul(rotated * self.cos, rotated.roll(self.half, -1), self.sin)
        return rotated[:, :-num_keys], rotated[:, -num_keys:], heads[:, -num_keys:]

    def _follow(self, hidden: Tensor, attended: Tensor, layer: tuple) -> Tensor:
        """Return the hidden states after a layer, from those before it and what its attention has read."""
        modules, _, output, gate_up, down = layer
        hidden = hidden + output(attended)
        gate, up = gate_up(normalize(hidden, modules.post_attention_layernorm)).chunk(2, -1)
        return hidden + down(modules.mlp.act_fn(gate) * up)

    def _attend(self, queries: Tensor, read: list[tuple[Tensor, Tensor]], counts: list[int], scale: float) -> Tensor:
        """Return the attention of each row's `counts` queries over its keys and values in `read`."""
        attended, shared = torch.empty_like(queries), queries.shape[1] // read[0][0].shape[1]  # of the same keys
        for found, query, row in zip(attended.split(counts), queries.split(counts), read, strict=True):
            keys, values = row if shared == 1 else (each.repeat_interleave(shared, 1) for each in row)
            is_causal = self.is_causal and len(found) > 1
            query, keys, values = (each.transpose(0, 1)[None] for each in (query, keys, values))
            heads = F.scaled_dot_product_attention(query, keys, values, is_causal=is_causal, scale=scale)
            found.copy_(heads[0].transpose(0, 1))
        return attended.flatten(1)


def pack_encoder(model: PreTrainedModel, lengths: list[int]) -> PackedEncoder | None:
    """Return the passes of an encoder over rows; `None` where transformers' `forward` has to be called.

    Weights are packed anew for each window, so that changes to them take effect.
    """
    return PackedEncoder(model, lengths) if is_unmodified_on_cpu(model, (EuroBertModel,)) else None
