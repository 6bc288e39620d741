# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import sys
import types

import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.continuation import (
    evaluate_continuation,
    format_continuation_report,
    frame_levels,
    measure_continuation,
    repetition,
    silence_share,
    speaker_embedder,
    spectral_flatness,
    timbre_similarity,
)
from tests.test_evaluation_signal import EXAMPLES, RATE


@pytest.fixture(scope="module")
def speech():
    return sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]


@pytest.fixture(scope="module")
def parts(speech):
    """Prompt, real continuation, white noise and silence."""
    prompt, real = speech[: 2 * RATE], speech[2 * RATE : 5 * RATE]
    level = np.sqrt((prompt**2).mean())
    noise = (level * np.random.default_rng(0).standard_normal(len(real))).astype(np.float32)
    return prompt, real, noise, np.zeros_like(real)


def test_levels_are_relative_to_full_scale():
    np.testing.assert_allclose(frame_levels(np.full(1000, 0.1), RATE), -20)
    assert len(frame_levels(np.zeros(999), RATE)) == 3


def test_silence_is_told_from_sound(parts):
    prompt, real, noise, silence = parts
    assert silence_share(silence, prompt, RATE) == 1
    assert silence_share(noise, prompt, RATE) == 0
    assert silence_share(real, prompt, RATE) < 0.6


def test_noise_is_flat_and_speech_is_not(parts):
    _, real, noise, _ = parts
    assert spectral_flatness(noise) == pytest.approx(np.exp(-np.euler_gamma), abs=0.02)
    assert spectral_flatness(real) < 0.3


def test_repeats_are_found_wherever_they_come_from(parts):
    prompt, real, _, _ = parts
    assert repetition(prompt, prompt, RATE) > 0.99 > 0.95 > repetition(real, prompt, RATE)
    looped = np.tile(real[: RATE // 2], 6)
    assert repetition(looped, prompt, RATE) > repetition(real, prompt, RATE)
    assert np.isnan(repetition(real[:2000], prompt, RATE))


def test_timbre_of_the_same_voice_is_nearer_than_noise(parts):
    prompt, real, noise, silence = parts
    assert timbre_similarity(prompt, prompt, RATE) == pytest.approx(1)
    assert timbre_similarity(real, prompt, RATE) > 0.8 > timbre_similarity(noise, prompt, RATE)
    assert timbre_similarity(silence, prompt, RATE) == 0


def test_speaker_similarity_is_measured_where_an_embedder_is_given(parts):
    prompt, real, _, silence = parts
    figures = measure_continuation(real, prompt, RATE, embed=lambda array: np.array([0.6, 0.8]))
    assert figures["speaker_similarity"] == pytest.approx(1)
    assert measure_continuation(silence, prompt, RATE, embed=lambda array: np.ones(1))["speaker_similarity"] == 0
    assert "speaker_similarity" not in measure_continuation(real, prompt, RATE)


def test_embedder_is_resemblyzers_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert speaker_embedder(RATE) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    fake = types.ModuleType("resemblyzer")
    fake.VoiceEncoder = lambda device, verbose: types.SimpleNamespace(embed_utterance=lambda array: array[:2])
    fake.preprocess_wav = lambda array, source_sr: array * source_sr
    monkeypatch.setitem(sys.modules, "resemblyzer", fake)
    assert speaker_embedder(2)(np.array([1.0, 2.0, 3.0])).tolist() == [2.0, 4.0]


def test_model_stands_beside_its_yardsticks(tiny_audiolm, speech, tmp_path):
    for number, length_s in enumerate((2.5, 0.5, 2.5)):
        sf.write(tmp_path / f"{number}.flac", speech[: round(length_s * RATE)], RATE)
    source = AudioSource(tmp_path, RATE)
    report = evaluate_continuation(tiny_audiolm, source, 2, 1.0, 1.0, seed=3)
    json.dumps(report)
    assert report["num_prompts"] == 2  # the short one is passed over
    systems = report["systems"]
    assert list(systems) == ["model", "real", "real, coded", "prompt again", "white noise", "silence"]
    assert systems["silence"]["silence_share"] == 1
    assert systems["prompt again"]["repetition"] > 0.99
    assert systems["white noise"]["flatness"] > systems["real"]["flatness"]
    text = format_continuation_report(report)
    assert all(name in text for name in (*systems, "timbre", "2 prompts of 1 s"))
    again = evaluate_continuation(tiny_audiolm, source, 2, 1.0, 1.0, seed=3)
    assert again["systems"] == systems


def test_recordings_that_are_too_short_are_an_error(tiny_audiolm, speech, tmp_path):
    sf.write(tmp_path / "a.flac", speech[:RATE], RATE)
    with pytest.raises(ValueError, match=r"No recording lasts 10.0 s \(the longest 1.0 s\)"):
        evaluate_continuation(tiny_audiolm, AudioSource(tmp_path, RATE))
