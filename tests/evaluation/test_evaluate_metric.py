# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Every metric as others use it: `evaluate.load` of a local file, lists in, a dictionary out."""

import evaluate
import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.evaluation.evaluate_metric import METRIC_FILE, METRICS
from audiolm_hf.evaluation.metrics.acoustics import repetition
from audiolm_hf.evaluation.metrics.information import token_information
from audiolm_hf.evaluation.metrics.resynthesis import mel_distance, multi_scale_mel_distance, spectral_convergence
from tests.helpers_sounds import EXAMPLES, RATE, needs_resemblyzer


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return lambda name: evaluate.load(METRIC_FILE, name, cache_dir=str(tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def pair():
    speech = sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]
    return speech[RATE : 3 * RATE], speech[:RATE]


def test_another_metric_is_refused(load):
    assert set(METRICS) == {"mel_distance", "pnmi", "repetition_rate", "speaker_similarity", "spectral_convergence"}
    with pytest.raises(ValueError, match="no metric 'wer'; choose from mel_distance"):
        load("wer")


def test_pnmi_is_the_functions(load):
    tokens, phones = [0, 0, 1, 2, 2, 1], ["a", "a", "b", "c", "c", "c"]
    found = load("pnmi").compute(predictions=tokens, references=phones, seed=1)
    assert found == pytest.approx(token_information(np.array(tokens), np.array(phones), 1))
    assert load("pnmi").compute(predictions=[3, 1], references=["a", "b"])["pnmi"] == pytest.approx(1)


def test_sounds_are_compared_as_by_the_functions(load, pair):
    array, prompt = pair
    noisy = array + 0.01 * np.random.default_rng(0).standard_normal(len(array)).astype(np.float32)
    found = load("mel_distance").compute(predictions=[noisy, array], references=[array, array])
    assert found["mel_distance"] == pytest.approx(mel_distance(array, noisy, RATE) / 2, rel=1e-4)
    assert found["multi_scale_mel_distance"] == pytest.approx(
        multi_scale_mel_distance(array, noisy, RATE) / 2, rel=1e-4
    )
    found = load("spectral_convergence").compute(predictions=[noisy], references=[array])
    assert found["spectral_convergence"] == pytest.approx(spectral_convergence(array, noisy), rel=1e-4)
    found = load("repetition_rate").compute(predictions=[array, prompt], references=[prompt, prompt])
    expected = np.mean([repetition(part, prompt, RATE) for part in (array, prompt)])
    assert found["repetition_rate"] == pytest.approx(expected, rel=1e-4)


@needs_resemblyzer
def test_voices_are_compared(load, pair):
    array, prompt = pair
    metric = load("speaker_similarity")
    same = metric.compute(predictions=[array], references=[prompt], sampling_rate=RATE)
    noise = metric.compute(predictions=[0.1 * np.random.default_rng(0).standard_normal(RATE)], references=[prompt])
    assert 1 >= same["speaker_similarity"] > noise["speaker_similarity"] + 0.1
