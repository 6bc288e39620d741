# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The kinds of tokens that an evaluation compares, each over the same recordings.

In: recordings to measure on and recordings to fit on; out: for the semantic tokens, for clusters of log-mel spectra
and of MFCC, and for the first level of the acoustic codes, tokens and vectors of every recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from audiolm_hf.acoustic_codec_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.baselines.spectral_clusters import (
    SpectralKind,
    assign_centroids,
    fit_spectral_centroids,
    spectral_features,
)
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer, nearest_centroid

SPECTRAL_KINDS: tuple[SpectralKind, ...] = ("log-mel", "MFCC")


@dataclass(frozen=True)
class TokenSystem:
    """One kind of tokens of some recordings.

    Args:
        tokens (`list[np.ndarray]` of shape `(frames,)`): int64, for each recording.
        num_tokens (`int`): ids are below it.
        frame_rate (`float`): tokens a second, Hz.
        features (`list[np.ndarray]` of shape `(frames, hidden_size)`, *optional*): what was quantised.
        centroids (`np.ndarray` of shape `(num_tokens, hidden_size)`, *optional*): what it was replaced by.
    """

    tokens: list[np.ndarray]
    num_tokens: int
    frame_rate: float
    features: list[np.ndarray] | None = None
    centroids: np.ndarray | None = None


@torch.inference_mode()
def semantic_system(tokenizer: AudioLMSemanticTokenizer, records: Sequence[AudioRecord]) -> TokenSystem:
    """Tokenize recordings with a semantic tokenizer, one by one."""
    features = []
    for record in tqdm(records, desc="semantic tokens", unit="recording"):
        inputs = torch.from_numpy(record.array)[None].to(tokenizer.device)
        features.append(tokenizer.extract_features(inputs, sampling_rate=record.sampling_rate)[0][0].cpu().numpy())
    centroids = tokenizer.centroids.float().cpu()
    tokens = [nearest_centroid(torch.from_numpy(rows), centroids).numpy() for rows in features]
    config = tokenizer.config
    return TokenSystem(tokens, len(centroids), config.sampling_rate / config.hop_length, features, centroids.numpy())


def spectral_system(
    kind: SpectralKind,
    records: Sequence[AudioRecord],
    train: AudioSource,
    num_tokens: int,
    frame_rate: float,
    train_minutes: float,
    seed: int,
) -> TokenSystem:
    """Tokenize recordings by clusters of spectral features, which are fitted on training recordings.

    Args:
        kind (`"log-mel"` or `"MFCC"`): the features.
        records (`list[AudioRecord]`): what to tokenize.
        train ([`AudioSource`]): what to fit on, in random order.
        num_tokens (`int`): clusters.
        frame_rate (`float`): tokens a second, Hz.
        train_minutes (`float`): how much of it.
        seed (`int`): of the order and of the clusters.

    Returns:
        [`TokenSystem`]
    """
    chosen = _some_recordings(train, train_minutes, seed)
    fitted = [spectral_features(train[place].array, train.sampling_rate, frame_rate, kind) for place in chosen]
    centroids = fit_spectral_centroids(fitted, num_tokens, seed)
    features = [spectral_features(record.array, record.sampling_rate, frame_rate, kind) for record in records]
    return TokenSystem(assign_centroids(features, centroids), num_tokens, frame_rate, features, centroids)


def _some_recordings(source: AudioSource, minutes: float, seed: int) -> list[int]:
    """Places of recordings in random order that last at least so long together, or all."""
    order = np.random.default_rng(seed).permutation(len(source))
    before = np.cumsum(source.durations[order]) - source.durations[order]
    return [int(place) for place in order[before < 60 * minutes]]


@torch.inference_mode()
def acoustic_codes(codec: AcousticCodec, records: Sequence[AudioRecord]) -> list[np.ndarray]:
    """Encode recordings one by one, int64 arrays of shape `(num_codebooks, frames)`."""
    return [
        codec.encode(torch.from_numpy(record.array)[None])[0].cpu().numpy()
        for record in tqdm(records, desc="acoustic codes", unit="recording")
    ]


def token_systems(
    tokenizer: AudioLMSemanticTokenizer,
    codec: AcousticCodec | None,
    records: Sequence[AudioRecord],
    train: AudioSource,
    train_minutes: float = 80.0,
    seed: int = 0,
) -> tuple[dict[str, TokenSystem], list[np.ndarray]]:
    """Tokenize recordings in every way that is compared.

    Args:
        tokenizer ([`AudioLMSemanticTokenizer`]): of the semantic tokens.
        codec ([`AcousticCodec`], *optional*): of the acoustic codes.
        records (`list[AudioRecord]`): what to tokenize.
        train ([`AudioSource`]): what the spectral clusters are fitted on.
        train_minutes (`float`, defaults to 80.0): how much of it.
        seed (`int`, defaults to 0): of the clusters.

    Returns:
        `dict[str, TokenSystem]` by name, and all acoustic codes, `(num_codebooks, frames)` for each recording (an
        empty list without codec).
    """
    systems = {"semantic tokens": semantic_system(tokenizer, records)}
    own = systems["semantic tokens"]
    for kind in SPECTRAL_KINDS:
        systems[f"k-means on {kind}"] = spectral_system(
            kind, records, train, own.num_tokens, own.frame_rate, train_minutes, seed
        )
    codes = [] if codec is None else acoustic_codes(codec, records)
    if codec is not None:
        systems["acoustic codes, level 0"] = TokenSystem(
            [rows[0] for rows in codes], codec.codebook_size, codec.frame_rate
        )
    return systems, codes


__all__ = [
    "SPECTRAL_KINDS",
    "TokenSystem",
    "acoustic_codes",
    "semantic_system",
    "spectral_system",
    "token_systems",
]
