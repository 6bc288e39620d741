# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Token datasets of made-up recordings, written the way `audiolm-hf tokenize` writes them."""

import dataclasses
import json

import numpy as np
import torch

from audiolm_hf.data.tokens import INFO_FILE, TokenInfo, TokenRecord, shard_hashes, write_shard
from audiolm_hf.stage_windows_audiolm import CodeRows
from audiolm_hf.token_feed_audiolm import Piece, TimedTokens

INFO = TokenInfo(
    tokenizers="0123456789abcdef",
    sampling_rate=16000,
    semantic_sampling_rate=16000,
    semantic_hop_length=640,
    num_semantic_tokens=20,
    hop_length=320,
    num_codebooks=5,
    codebook_size=8,
)


def made_up_record(name, semantic_length, rng, info=INFO, ends_recording=True):
    """A record with some regularity: the next token is mostly the one before plus one, codes follow the tokens."""
    steps = 1 + (rng.random(semantic_length) < 0.2)
    tokens = (rng.integers(info.num_semantic_tokens) + np.cumsum(steps)) % info.num_semantic_tokens
    frames = np.repeat(tokens, info.semantic_hop_length // info.hop_length)
    codes = (frames[None] + np.arange(info.num_codebooks)[:, None] * 3) % info.codebook_size
    codes = np.where(rng.random(codes.shape) < 0.2, rng.integers(info.codebook_size, size=codes.shape), codes)
    duration = semantic_length * info.semantic_hop_length / info.sampling_rate
    return TokenRecord(
        id=name,
        speaker="ann",
        accent="",
        source="",
        start=0.0,
        duration=duration,
        ends_recording=ends_recording,
        semantic_tokens=tokens.astype(np.int16),
        audio_codes=codes.astype(np.int16),
    )


def write_tokens(folder, lengths, seed=0, info=INFO):
    """A token dataset with one record per entry of `lengths`, in semantic tokens."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    write_shard(folder / "tokens-00000.parquet", [made_up_record(str(n), n, rng, info) for n in lengths])
    return describe_tokens(folder, info)


def describe_tokens(folder, info=INFO, **changes):
    """Make a token dataset of the shards in a folder."""
    described = dataclasses.asdict(info) | {"shards": shard_hashes(folder)} | changes
    (folder / INFO_FILE).write_text(json.dumps(described))
    return folder


def code_rows(counts, known, num_frames, seeds, step=None):
    """Rows for a stage of codes: so many semantic tokens each, at once or `step` at a time, and all their frames."""

    def pieces():
        for start in range(0, max(counts), step or max(counts)):
            stops = [min(count, start + (step or count)) for count in counts]
            yield [
                Piece(torch.arange(min(start, stop), stop) % 20, stop == count)
                for stop, count in zip(stops, counts, strict=True)
            ]

    def frames(row, num_new):
        return min(num_frames[row], 2 * num_new) if num_new < counts[row] else num_frames[row]

    none = [torch.zeros(0, dtype=torch.int64)] * len(counts)
    tokens = TimedTokens(none, pieces(), grid=INFO.grid, duration=1.0, num_frames=frames)
    return CodeRows(tokens, known, num_frames, seeds)


def collected(pieces, known):
    """All that a stage adds to rows, after what is known."""
    rows = [*known]
    for each in pieces:
        rows = [torch.cat([row, piece.values], -1) for row, piece in zip(rows, each, strict=True)]
    return rows
