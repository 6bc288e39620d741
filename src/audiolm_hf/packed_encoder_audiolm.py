# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Passes over whole sequences on a CPU, with packed weights, no modules and no padding.

In: embeddings of the frames or ids of all rows, one row after the other; out: hidden states of those that are wanted.
The parallel stage's encoder runs such passes, and so do the decoders of the other stages, to read their contexts.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EuroBertModel, PreTrainedModel

from .packed_decoder_audiolm import multiply, normalize, pack, reads_weights_alone

BLOCK = 256  # ids whose attention to earlier ones is one product


class PackedEncoder:
    """Passes of an encoder, or over the contexts of a decoder, which return the hidden states of its `forward`.

    The weights are copied in a layout that is fast to multiply with many rows, and attention is a oneDNN product for
    each head, which takes half as long as `scaled_dot_product_attention` in float32. See `pack_encoder`.

    Args:
        model ([`~transformers.EuroBertModel`], or a decoder with the same modules): the encoder.
        lengths (`list[int]`): frames of each row; those of a decoder are equal.
        cache ([`~transformers.DynamicCache`], *optional*): that of a decoder in float32, whose attention is causal.
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
            queries, keys = rotated[:, :-num_keys] * attention.scaling, rotated[:, -num_keys:]
            values = heads[:, -num_keys:]
            if self.cache is not None:
                rows = (each.unflatten(0, (len(counts), -1)).transpose(1, 2) for each in (keys, values))
                self.cache.update(*rows, place)
            if place == last:
                counts = [int(part.sum()) for part in wanted.split(self.lengths)]
                queries, hidden = queries[wanted], hidden[wanted]
            attended = self._attend(queries, keys, values, counts)
            hidden = hidden + output(attended)
            gate, up = gate_up(normalize(hidden, layer.post_attention_layernorm)).chunk(2, -1)
            hidden = hidden + down(layer.mlp.act_fn(gate) * up)
        return normalize(hidden, self.model.norm)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, counts: list[int]) -> Tensor:
        """Return the attention of the `counts` queries of each row to their row; all `(frames, heads, head_size)`."""
        attended = torch.empty_like(queries)
        rows = zip(*(each.split(counts) for each in (attended, queries)), keys.split(self.lengths), strict=True)
        for (found, asked, known), read in zip(rows, values.split(self.lengths), strict=True):
            groups = asked.unflatten(1, (keys.shape[1], -1)).permute(1, 2, 0, 3)  # of the heads that share keys
            for head, group in enumerate(groups):
                found.unflatten(1, groups.shape[:2])[:, head] = self._read(group, known[:, head], read[:, head])
        return attended.flatten(1)

    def _read(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return the attention of scaled queries `(heads, frames, size)` to shared keys, `(frames, heads, size)`."""
        if self.cache is None or queries.shape[1] == 1:
            return _read(queries, keys, values)
        stops = [*range(BLOCK, len(keys), BLOCK), len(keys)]
        blocks = zip(queries.split(BLOCK, 1), stops, strict=True)
        return torch.cat([_read(block, keys[:stop], values[:stop], is_causal=True) for block, stop in blocks])


def _read(queries: Tensor, keys: Tensor, values: Tensor, is_causal: bool = False) -> Tensor:
    """Return the attention of queries, see `PackedEncoder`; if `is_causal`, they are the last, and see none after."""
    dtype = queries.dtype
    queries, keys, values = (each.float() for each in (queries, keys, values))  # else, shares would be rounded
    scores = multiply(queries.flatten(0, 1), keys.contiguous())
    if is_causal:
        length = queries.shape[1]
        scores.unflatten(0, queries.shape[:2])[..., -length:] += scores.new_full((length, length), -torch.inf).triu(1)
    return multiply(scores.softmax(-1), values.t().contiguous()).view(queries.shape).transpose(0, 1).to(dtype)


def pack_encoder(model: PreTrainedModel, lengths: list[int]) -> PackedEncoder | None:
    """Return the passes of an encoder over rows; `None` where transformers' `forward` has to be called.

    Weights are packed for each window, so that changes count.
    """
    return PackedEncoder(model, lengths) if reads_weights_alone(model, (EuroBertModel,)) else None
