# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.evaluation.metrics.acoustics import (
    acoustic_metrics,
    repetition,
    silence_share,
    spectral_flatness,
    timbre_similarity,
)
from audiolm_hf.evaluation.metrics.spectrograms import frame_levels
from tests.helpers_sounds import EXAMPLES, RATE


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


def test_figures_are_all_of_them(parts):
    prompt, real, _, _ = parts
    figures = acoustic_metrics(real, prompt, RATE)
    assert list(figures) == ["loudness_db", "silence_share", "flatness", "repetition", "timbre_similarity"]
    assert figures["loudness_db"] == pytest.approx(10 * np.log10(np.mean(real.astype(float) ** 2)))
