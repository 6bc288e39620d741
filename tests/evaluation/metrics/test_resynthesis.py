# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.evaluation.metrics.resynthesis import (
    audio_quality,
    match_lengths,
    mel_distance,
    multi_scale_mel_distance,
    pesq_wb,
    si_sdr,
    spectral_convergence,
    speech_quality,
    stoi,
)
from audiolm_hf.evaluation.metrics.spectrograms import log_mel, power_spectrogram
from audiolm_hf.evaluation.protocols.codec import opus_is_available, opus_roundtrip
from tests.helpers_sounds import EXAMPLES, RATE


@pytest.fixture(scope="module")
def speech():
    return sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0][: 3 * RATE]


def noisy(array, db):
    noise = np.random.default_rng(0).normal(size=len(array)).astype(np.float32)
    return array + noise * np.sqrt(array @ array / (noise @ noise)) * 10 ** (-db / 20)


def test_si_sdr_is_the_noise_level_whatever_the_gain():
    reference = np.random.default_rng(1).normal(size=16000)
    for db in (0, 10, 30):
        assert si_sdr(reference, 0.3 * noisy(reference, db)) == pytest.approx(db, abs=0.2)
    assert si_sdr(reference, np.zeros(16000)) == pytest.approx(-100)


def test_scores_fall_with_noise(speech):
    scores = [speech_quality(speech, noisy(speech, db), RATE) for db in (40, 20, 5)]
    for better, worse in itertools.pairwise(scores):
        assert better["pesq_wb"] > worse["pesq_wb"]
        assert better["stoi"] > worse["stoi"]
        assert better["si_sdr"] > worse["si_sdr"]
        for name in ("mel_distance", "multi_scale_mel_distance", "spectral_convergence"):
            assert better[name] < worse[name]


def test_identical_signals_score_best(speech):
    assert pesq_wb(speech, speech, RATE) == pytest.approx(4.644, abs=0.01)
    assert stoi(speech, speech, RATE) == pytest.approx(1, abs=1e-3)
    assert mel_distance(speech, speech, RATE) == 0
    assert multi_scale_mel_distance(speech, speech, RATE) == 0
    assert spectral_convergence(speech, speech) == 0


def test_convergence_of_silence_is_one_and_a_gain_is_seen_as_it_is(speech):
    assert spectral_convergence(speech, np.zeros_like(speech)) == pytest.approx(1)
    assert spectral_convergence(speech, 0.75 * speech) == pytest.approx(0.25, abs=1e-3)
    quieter = audio_quality(speech, speech[:-100] / 10, RATE)["multi_scale_mel_distance"]
    assert 10 < quieter < 20.01  # 20 dB, but for what lies below the floor


def test_silent_estimates_score_lowest_and_silent_references_not_at_all(speech):
    assert pesq_wb(speech, np.zeros_like(speech), RATE) == 1.0
    assert np.isnan(pesq_wb(np.zeros_like(speech), speech, RATE))


def test_other_rates_are_resampled_for_pesq(speech):
    import soxr

    faster = soxr.resample(speech, RATE, 24000)
    assert pesq_wb(faster, faster, 24000) == pytest.approx(4.644, abs=0.01)


def test_a_tone_lights_up_its_own_band():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert power_spectrogram(tone).mean(axis=0).argmax() == 64  # 1000 Hz of 15.625 Hz bins
    mel = log_mel(tone, RATE)
    assert mel.max() == pytest.approx(0)
    assert mel.min() >= -80
    assert power_spectrogram(np.zeros(10)).shape == (1, 513)


def test_lengths_are_matched_to_the_shortest():
    assert [len(array) for array in match_lengths(np.zeros(5), np.zeros(3))] == [3, 3]


@pytest.mark.skipif(not opus_is_available(), reason="opus-tools are not installed")
def test_opus_stays_aligned_and_improves_with_its_rate(speech):
    low, high = (opus_roundtrip(speech, RATE, kbps) for kbps in (6, 32))
    assert len(low) == len(speech)
    assert pesq_wb(speech, high, RATE) > 4 > pesq_wb(speech, low, RATE) > 1.5
    assert si_sdr(speech, high) > 8


def test_failing_opus_says_why(speech, tmp_path, monkeypatch):
    for name in ("opusenc", "opusdec"):
        (tmp_path / name).write_text("#!/bin/sh\necho no such codec >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="opusenc failed with status 3: no such codec"):
        opus_roundtrip(speech, RATE, 6)
