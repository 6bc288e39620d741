# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Voices: the embedding is resemblyzer's, the same voice is nearer than noise, and a missing package is explained."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import soxr

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.metrics import speaker as speaker_module
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, SpeakerVerifier, speaker_similarity
from tests.helpers_sounds import EXAMPLES, RATE, needs_resemblyzer


@pytest.fixture(scope="module")
def embedder():
    return SpeakerEmbedder()


@pytest.fixture(scope="module")
def speech():
    return sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]


@needs_resemblyzer
def test_the_same_voice_is_nearer_than_noise_silence_and_a_shifted_voice(embedder, speech):
    first = embedder.embed(speech[: 3 * RATE], RATE)
    assert first.shape == (256,) and first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    higher = soxr.resample(speech[3 * RATE :], RATE, round(RATE / 1.5))  # played 1.5 times as fast
    others = (noise, np.zeros(2 * RATE), higher, speech[:100])
    same = speaker_similarity(first, embedder.embed(speech[3 * RATE :], RATE))
    assert same > 0.65
    for array in others:
        assert speaker_similarity(first, embedder.embed(np.asarray(array, np.float32), RATE)) < same - 0.1


@needs_resemblyzer
def test_rate_and_level_matter_little(embedder, speech):
    first = embedder.embed(speech[: 3 * RATE], RATE)
    resampled = soxr.resample(speech[: 3 * RATE], RATE, 24000)
    assert speaker_similarity(first, embedder.embed(resampled, 24000)) > 0.98
    assert speaker_similarity(first, embedder.embed(0.01 * speech[: 3 * RATE], RATE)) > 0.9


@needs_resemblyzer
def test_embedding_is_resemblyzers_own(embedder, speech):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from resemblyzer import VoiceEncoder, preprocess_wav

        expected = VoiceEncoder("cpu", verbose=False).embed_utterance(preprocess_wav(speech, source_sr=RATE))
    np.testing.assert_allclose(embedder.embed(speech, RATE), expected, atol=1e-4)


def test_the_speaker_of_a_single_recording_is_not_identified():
    only = AudioRecord("only", np.full(RATE, 0.1, dtype=np.float32), RATE, speaker="ann")
    vector = np.eye(256, dtype=np.float32)[0]
    verifier = SpeakerVerifier(SimpleNamespace(embed=lambda array, rate: vector), [only])
    metrics = verifier.metrics(only.array, vector, only)
    assert metrics["speaker_similarity"] == 1.0 and np.isnan(metrics["speaker_found"])


@needs_resemblyzer
def test_missing_package_names_both_commands(monkeypatch):
    monkeypatch.setattr(speaker_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"'\.\[evaluation\]'.*pip install --no-deps resemblyzer"):
        SpeakerEmbedder()
