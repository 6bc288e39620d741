# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The kinds of tokens that the token protocols compare on the same recordings.

The baselines of semantic tokens are k-means clusters of log-mel spectra and of MFCC, with the same number of clusters
and the same rate, and level 0 of the acoustic codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.fft import dct
from sklearn.cluster import MiniBatchKMeans

from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.modeling_semantic_tokenizer_audiolm import (
    AudioLMSemanticTokenizer,
    log_mel_spectrogram,
    nearest_centroid,
)
from audiolm_hf.progress import progress_bar
from audiolm_hf.semantic_tokenizer_audiolm import SemanticTokenizerModel

SpectralKind = Literal["log-mel", "MFCC"]
SPECTRAL_KINDS: tuple[SpectralKind, ...] = ("log-mel", "MFCC")
SEMANTIC = "semantic tokens"
_WINDOW_RATE = 100  # of log_mel_spectrogram, Hz
_NUM_CEPSTRA = 13  # as for HuBERT's first targets


@dataclass(frozen=True)
class TokenSystem:
    """Tokens of one kind, int64 `(frames,)` for each recording, out of `num_tokens`, at `frame_rate` Hz.

    Tokens of k-means also have the `features` before quantization, `(frames, hidden_size)` for each recording, and the
    `centroids`.
    """

    tokens: list[np.ndarray]
    num_tokens: int
    frame_rate: float
    features: list[np.ndarray] | None = None
    centroids: np.ndarray | None = None


def quantized(features: list[np.ndarray], centroids: np.ndarray, frame_rate: float) -> TokenSystem:
    """Return the nearest centroids of features, `(frames, hidden_size)` for each recording, as tokens."""
    table = torch.from_numpy(centroids)
    tokens = [nearest_centroid(torch.from_numpy(rows), table).numpy() for rows in features]
    return TokenSystem(tokens, len(centroids), frame_rate, features, centroids)


@torch.inference_mode()
def semantic_system(tokenizer: SemanticTokenizerModel, records: Sequence[AudioRecord]) -> TokenSystem:
    """Tokenize recordings with a semantic tokenizer, one by one."""
    is_kmeans = isinstance(tokenizer, AudioLMSemanticTokenizer)
    rows = []
    for record in progress_bar(records, desc=SEMANTIC, unit="recording"):
        inputs = torch.from_numpy(record.array)[None].to(tokenizer.device)
        read = tokenizer.extract_features if is_kmeans else tokenizer.tokenize
        rows.append(read(inputs, sampling_rate=record.sampling_rate)[0][0].cpu().numpy())
    config = tokenizer.config
    if is_kmeans:
        return quantized(rows, tokenizer.centroids.float().cpu().numpy(), config.semantic_frame_rate)
    return TokenSystem(rows, config.num_semantic_tokens, config.semantic_frame_rate)


def spectral_features(array: np.ndarray, sampling_rate: int, frame_rate: float, kind: SpectralKind) -> np.ndarray:
    """Return 80 log-mel bands, or 13 MFCC with first and second differences, normalized, at the rate of the tokens.

    They are float32 `(frames, hidden_size)`; `frames` is the duration times the rate, rounded up.
    """
    num_frames = -(-len(array) // round(sampling_rate / frame_rate))
    window = torch.nn.functional.pad(torch.from_numpy(array), (0, sampling_rate // 40))[None]
    rows = log_mel_spectrogram(window, sampling_rate)[0].numpy()
    if kind == "MFCC":
        rows = mfcc(rows)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-5)
    frames = np.minimum((np.arange(len(rows)) + 0.5) / _WINDOW_RATE * frame_rate, num_frames - 1).astype(int)
    sums = np.zeros((num_frames, rows.shape[1]))
    np.add.at(sums, frames, rows)
    counts = np.bincount(frames, minlength=num_frames)[:, None]
    return (sums / np.maximum(counts, 1)).astype(np.float32)


def fit_kmeans(features: np.ndarray, num_clusters: int, seed: int = 0, num_epochs: int = 20) -> np.ndarray:
    """Return centroids `(num_clusters, hidden_size)`, float32, of features `(frames, hidden_size)`.

    Mini-batch k-means with k-means++ initialization runs for at most `num_epochs`. A `ValueError` is raised if there
    are fewer features than centroids.
    """
    if len(features) < num_clusters:
        raise ValueError(
            f"There are {len(features)} features for {num_clusters} centroids; give more audio or ask for fewer."
        )
    batch_size = max(10 * num_clusters, 4096)
    kmeans = MiniBatchKMeans(num_clusters, batch_size=batch_size, max_iter=num_epochs, n_init=1, random_state=seed)
    return kmeans.fit(np.ascontiguousarray(features, dtype=np.float32)).cluster_centers_.astype(np.float32)


def mfcc(log_mel: np.ndarray) -> np.ndarray:
    """Return 13 cepstra of log-mel spectra `(frames, num_mels)`, with first and second differences: `(frames, 39)`."""
    cepstra = dct(log_mel, axis=1, norm="ortho")[:, :_NUM_CEPSTRA]
    slopes = np.gradient(cepstra, axis=0)
    return np.concatenate([cepstra, slopes, np.gradient(slopes, axis=0)], axis=1)


@torch.inference_mode()
def token_systems(
    tokenizer: SemanticTokenizerModel,
    codec: AcousticCodec | None,
    records: Sequence[AudioRecord],
    train: AudioSource,
    train_minutes: float = 80.0,
    seed: int = 0,
) -> tuple[dict[str, TokenSystem], list[np.ndarray]]:
    """Return all kinds of tokens of recordings by name, and the acoustic codes `(num_codebooks, frames)` of each.

    See [`evaluate_tokens`] for the arguments; without a codec, there are no codes.
    """
    own = semantic_system(tokenizer, records)
    systems = {SEMANTIC: own}
    order = np.random.default_rng(seed).permutation(len(train))
    before = np.cumsum(train.durations[order]) - train.durations[order]
    chosen = [train[int(place)] for place in order[before < 60 * train_minutes]]
    for kind in SPECTRAL_KINDS:
        fitted, features = (
            [spectral_features(record.array, record.sampling_rate, own.frame_rate, kind) for record in each]
            for each in (chosen, records)
        )
        centroids = fit_kmeans(np.concatenate(fitted), own.num_tokens, seed)
        systems[f"k-means on {kind}"] = quantized(features, centroids, own.frame_rate)
    if codec is None:
        return systems, []
    codes = [
        codec.encode(torch.from_numpy(record.array)[None])[0].cpu().numpy()
        for record in progress_bar(records, desc="acoustic codes", unit="recording")
    ]
    first = [rows[0] for rows in codes]
    systems["acoustic codes, level 0"] = TokenSystem(first, codec.codebook_size, codec.frame_rate)
    return systems, codes
