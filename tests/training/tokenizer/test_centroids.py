# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""K-means on made clusters, and a semantic tokenizer fitted on a few seconds of noise."""

import dataclasses

import numpy as np
import pytest
import soundfile as sf
import torch
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.baselines.token_systems import fit_kmeans
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.tokenizer.centroids import (
    CentroidsTrainingConfig,
    assign_clusters,
    fit_centroids,
    train_centroids,
)
from tests import reference

ENCODER = Wav2Vec2BertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_depthwise_kernel_size=3,
)


def noise(num_samples, seed):
    generator = np.random.default_rng(seed)
    loudness = np.repeat(generator.uniform(0.01, 0.3, num_samples // 800 + 1), 800)[:num_samples]
    return (generator.standard_normal(num_samples) * loudness).clip(-1, 1).astype(np.float32)


def records(count=4):
    return [AudioRecord(id=str(seed), array=noise(16000, seed), sampling_rate=16000) for seed in range(count)]


def tiny_tokenizer():
    torch.manual_seed(0)
    encoder = Wav2Vec2BertModel(ENCODER)
    return AudioLMSemanticTokenizer.from_encoder(encoder, layer=1, num_semantic_tokens=8)


def test_kmeans_finds_separate_clusters():
    generator = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=np.float32)
    members = generator.integers(4, size=800)
    features = (centres[members] + 0.1 * generator.standard_normal((800, 2))).astype(np.float32)
    centroids = fit_kmeans(features, 4, seed=0)
    assert sorted(map(tuple, centroids.round())) == sorted(map(tuple, centres))
    found = assign_clusters(features, centroids)
    assert found.tolist() == [reference.nearest_centroid(row, torch.from_numpy(centroids)) for row in features]
    assert len({(a, b) for a, b in zip(found, members, strict=True)}) == 4


def test_kmeans_depends_on_the_seed_alone():
    features = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    assert (fit_kmeans(features, 9, seed=1) == fit_kmeans(features, 9, seed=1)).all()
    assert (fit_kmeans(features, 9, seed=1) != fit_kmeans(features, 9, seed=2)).any()


def test_kmeans_needs_as_many_features_as_centroids():
    with pytest.raises(ValueError, match="3 features for 4 centroids"):
        fit_kmeans(np.zeros((3, 2), dtype=np.float32), 4, seed=0)


def test_fitted_features_are_normalised_and_near_their_centroids():
    tokenizer = tiny_tokenizer()
    fit_centroids(tokenizer, records())
    features = torch.cat([tokenizer.extract_features(torch.from_numpy(r.array)[None])[0][0] for r in records()])
    assert len(features) == 100
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(dim=0, correction=0), torch.ones(16), atol=1e-3, rtol=0)
    tokens = [reference.nearest_centroid(row, tokenizer.centroids) for row in features]
    assert len(set(tokens)) > 1
    assert (features - tokenizer.centroids[tokens]).square().mean() < 1


def test_max_features_limits_what_is_fitted():
    tokenizer = tiny_tokenizer()
    fit_centroids(tokenizer, records(), max_features=60)
    features = torch.cat([tokenizer.extract_features(torch.from_numpy(r.array)[None])[0][0] for r in records()])
    torch.testing.assert_close(features[:60].mean(dim=0), torch.zeros(16), atol=1e-4, rtol=0)


def test_training_saves_a_tokenizer_once(tmp_path):
    torch.manual_seed(0)
    Wav2Vec2BertModel(ENCODER).save_pretrained(tmp_path / "encoder")
    for record in records():
        sf.write(tmp_path / f"{record.id}.wav", record.array, 16000)
    config = CentroidsTrainingConfig(
        data=AudioDataConfig(folder=str(tmp_path), train=["0.wav", "1.wav", "2.wav"]),
        encoder=str(tmp_path / "encoder"),
        output_folder=str(tmp_path / "tokenizer"),
        layer=1,
        num_semantic_tokens=8,
    )
    assert train_centroids(config) == tmp_path / "tokenizer"
    saved = (tmp_path / "tokenizer" / "model.safetensors").stat().st_mtime_ns
    train_centroids(config)
    assert (tmp_path / "tokenizer" / "model.safetensors").stat().st_mtime_ns == saved
    with pytest.raises(ValueError, match=r"different: num_semantic_tokens \(8, now 9\)"):
        train_centroids(dataclasses.replace(config, num_semantic_tokens=9))
    tokenizer = AudioLMSemanticTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer.config.encoder_config.num_hidden_layers == 1
    tokens = tokenizer.tokenize(torch.from_numpy(noise(16000, 3))[None]).semantic_tokens
    assert tokens.shape == (1, 25)
    assert len(tokens.unique()) > 1
    assert sorted(path.name for path in tmp_path.iterdir() if "tokenizer" in path.name) == ["tokenizer"]
    for path in (tmp_path / "tokenizer").glob("*.json"):  # no folder of this machine in what is shared
        assert str(tmp_path) not in path.read_text()
