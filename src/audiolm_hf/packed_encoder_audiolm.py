# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Passes over whole sequences on a CPU, with packed weights, no modules and no padding.

In: embeddings of the frames or ids of all rows, one row after the other; out: hidden states of those that are wanted.
The parallel stage's encoder runs such passes, and so do the decoders of the other stages, to read their contexts.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, EuroBertModel, PreTrainedModel

from .packed_decoder_audiolm import reads_weights_alone
from .packed_products_audiolm import normalize, pack


class PackedEncoder:
    """Passes of an encoder, or over the contexts of a decoder, which return the hidden states of its `forward`.

    The weights are copied in a layout that is fast to multiply with many rows. See `pack_encoder`.

    Args:
        model ([`~transformers.EuroBertModel`], or a decoder with the same modules): the encoder.
        lengths (`list[int]`): frames of each row; those of a decoder are equal.
        cache ([`~transformers.DynamicCache`], *optional*): that of a decoder, whose attention is causal.
        places (`torch.LongTensor` of shape `(frames,)`, *optional*): positions of all frames; by default, they are
            counted in each row.
    """

    def __init__(
        self, model: Any, lengths: list[int], cache: DynamicCache | None = None, places: Tensor | None = None
    ) -> None:
        self.model, self.lengths, self.layers, self.cache = model, lengths, list[tuple](), cache
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
        cos, sin = model.rotary_emb(model.embed_tokens.weight, position_ids=places[None])
        self.half = cos.shape[-1] // 2
        self.cos = cos[0, :, None]
        self.sin = torch.cat([-sin[0, :, : self.half], sin[0, :, self.half :]], -1)[:, None]  # of exchanged halves

    def states(self, embeds: Tensor, wanted: Tensor) -> Tensor:
        """Return the last hidden states `(count, hidden_size)` of the frames where `wanted (frames,)` is true.

        `embeds (frames, hidden_size)` are of all frames; those that are not wanted pass through all layers but the
        last. For a decoder, the last ids of the rows are wanted.
        """
        hidden, last = embeds, len(self.layers) - 1
        counts = self.lengths
        for place, (layer, qkv, output, gate_up, down) in enumerate(self.layers):
            attention = layer.self_attn
            num_keys = attention.k_proj.out_features // (2 * self.half)
            heads = qkv(normalize(hidden, layer.input_layernorm)).view(len(hidden), -1, 2 * self.half)
            rotated = heads[:, :-num_keys]
            rotated = torch.addcmul(rotated * self.cos, rotated.roll(self.half, -1), self.sin)
            queries, keys, values = rotated[:, :-num_keys], rotated[:, -num_keys:], heads[:, -num_keys:]
            if self.cache is not None:
                rows = (each.unflatten(0, (len(counts), -1)).transpose(1, 2) for each in (keys, values))
                self.cache.update(*rows, place)
            if place == last:
                counts = [int(part.sum()) for part in wanted.split(self.lengths)]
                queries, hidden = queries[wanted], hidden[wanted]
            attended = self._attend(queries, keys, values, counts, attention.scaling)
            hidden = hidden + output(attended)
            gate, up = gate_up(normalize(hidden, layer.post_attention_layernorm)).chunk(2, -1)
            hidden = hidden + down(layer.mlp.act_fn(gate) * up)
        return normalize(hidden, self.model.norm)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, counts: list[int], scale: float) -> Tensor:
        """Return the attention of the `counts` queries of each row to their row; all `(frames, heads, head_size)`."""
        attended, shared = torch.empty_like(queries), queries.shape[1] // keys.shape[1]  # queries of the same keys
        if shared > 1:
            keys, values = (each.repeat_interleave(shared, 1) for each in (keys, values))
        parts = (attended.split(counts), queries.split(counts), keys.split(self.lengths), values.split(self.lengths))
        for found, *inputs in zip(*parts, strict=True):
            is_causal = self.cache is not None and len(found) > 1
            query, key, value = (each.transpose(0, 1)[None] for each in inputs)
            heads = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)
            found.copy_(heads[0].transpose(0, 1))
        return attended.flatten(1)


def pack_encoder(model: PreTrainedModel, lengths: list[int]) -> PackedEncoder | None:
    """Return the passes of an encoder over rows; `None` where transformers' `forward` has to be called.

    Weights are packed for each window, so that changes count.
    """
    return PackedEncoder(model, lengths) if reads_weights_alone(model, (EuroBertModel,)) else None
