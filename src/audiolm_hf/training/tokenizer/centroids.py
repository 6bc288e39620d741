# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""K-means of an encoder's layer: centroids of the semantic tokenizer, and targets of the semantic encoder."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.baselines.token_systems import fit_kmeans
from audiolm_hf.files import fill_folder
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer, nearest_centroid
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import Count, CountOrNone, NamedInput, OutputPath, Seed, Settings, Use
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.processes import training_device
from audiolm_hf.training.run import one_run

BATCH_SIZE = 8  # recordings per pass of the encoder
_CHUNK = 65536  # frames that are compared with the centroids at once
STD_FLOOR = 1e-5  # so that constant dimensions become 0


@dataclass
class CentroidsTrainingConfig(Settings):
    """Configuration of the k-means of a semantic tokenizer."""

    data: AudioDataConfig  # the recordings
    encoder: NamedInput  # folder or Hub name of a speech encoder that `AutoModel` loads
    output_folder: OutputPath  # folder for the tokenizer
    layer: CountOrNone  # index of the encoder's `hidden_states`
    num_semantic_tokens: Annotated[int, Within(1, 2**15, whole=True)] = 1024  # number of centroids
    pooling: Count = 2  # encoder frames per token
    max_features: Count = 500_000  # maximum number of pooled frames, from recordings in random order
    num_epochs: Count = 20  # maximum number of epochs of k-means
    use_cpu: Annotated[bool, Use.FREE] = False  # run the encoder on the CPU even if there is an accelerator
    seed: Seed = 0  # random seed of the order and of the initial centroids


def assign_clusters(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the index of the nearest centroid of every row, int64 of shape `(frames,)`."""
    table = torch.from_numpy(centroids)
    parts = np.split(features, range(_CHUNK, len(features), _CHUNK))  # to convert few to float32 at once
    return torch.cat([nearest_centroid(torch.from_numpy(part.astype(np.float32)), table) for part in parts]).numpy()


def fit_centroids(
    tokenizer: AudioLMSemanticTokenizer,
    records: Iterable[AudioRecord],
    max_features: int = 500_000,
    num_epochs: int = 20,
    seed: int = 0,
) -> None:
    """Fit the normalization and the centroids of a tokenizer on at most `max_features` pooled frames, in place."""
    with torch.no_grad():
        tokenizer.feature_mean.zero_()
        tokenizer.feature_std.fill_(1.0)
    features = _collect_features(tokenizer, records, max_features)
    mean = features.mean(axis=0, dtype=np.float64)
    std = np.maximum(features.std(axis=0, dtype=np.float64), STD_FLOOR)
    features = ((features - mean) / std).astype(np.float32)
    centroids = fit_kmeans(features, tokenizer.config.num_semantic_tokens, seed, num_epochs)
    with torch.no_grad():
        tokenizer.feature_mean.copy_(torch.from_numpy(mean))
        tokenizer.feature_std.copy_(torch.from_numpy(std))
        tokenizer.centroids.copy_(torch.from_numpy(centroids))


@torch.no_grad()
def _collect_features(
    tokenizer: AudioLMSemanticTokenizer, records: Iterable[AudioRecord], max_features: int
) -> np.ndarray:
    """Return at most `max_features` pooled features, `(frames, hidden_size)`, of the first recordings."""
    parts: list[np.ndarray] = []
    remaining = iter(records)
    with progress_bar(total=max_features, unit="feature", desc="features") as progress:
        while progress.n < max_features and (batch := list(itertools.islice(remaining, BATCH_SIZE))):
            arrays = [torch.from_numpy(record.array) for record in batch]
            inputs = pad_sequence(arrays, batch_first=True).to(tokenizer.device)
            mask = pad_sequence([torch.ones_like(array) for array in arrays], batch_first=True).to(tokenizer.device)
            features, real = tokenizer.extract_features(inputs, mask)
            parts.append(features[real == 1].cpu().numpy())
            progress.update(len(parts[-1]))
        progress.total = progress.n  # there may be less audio
    return np.concatenate(parts)[:max_features]


@one_run("centroids", alone=True)
def train_centroids(config: CentroidsTrainingConfig) -> None:
    """Fit a semantic tokenizer on recordings and save it."""
    encoder = AutoModel.from_pretrained(config.encoder).to(training_device(config.use_cpu))
    tokenizer = AudioLMSemanticTokenizer.from_encoder(
        encoder, layer=config.layer, num_semantic_tokens=config.num_semantic_tokens, pooling=config.pooling
    )
    source = AudioSource(config.data.train_paths, tokenizer.config.sampling_rate)
    order = np.random.default_rng(config.seed).permutation(len(source))
    records = (source[index] for index in order)
    fit_centroids(tokenizer, records, config.max_features, config.num_epochs, config.seed)
    fill_folder(Path(config.output_folder), tokenizer.save_pretrained)
