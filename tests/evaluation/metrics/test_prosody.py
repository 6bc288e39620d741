# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Pitch of known tones, syllables of known bursts, pauses of known length, and plausible figures of real speech."""

import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.evaluation.metrics.prosody import pause_share, pitch_track, prosody_metrics, syllable_rate
from tests.helpers_sounds import EXAMPLES, RATE


def buzz(pitch_hz, length_s):
    """A voice-like sound: harmonics that fall off."""
    time = np.arange(round(length_s * RATE)) / RATE
    harmonics = [np.sin(2 * np.pi * pitch_hz * k * time) / k for k in range(1, 20) if k * pitch_hz < RATE / 2]
    return (0.1 * np.sum(harmonics, axis=0)).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [75.0, 120.0, 220.0, 390.0])
def test_pitch_of_a_buzz_is_found(pitch_hz):
    found = pitch_track(buzz(pitch_hz, 0.5), RATE)
    assert np.nanmax(np.abs(12 * np.log2(found / pitch_hz))) < 0.5
    assert not np.isnan(found[4:-4]).any()  # Praat's window has to fit


def test_noise_and_silence_have_no_pitch():
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert np.isnan(pitch_track(noise, RATE)).mean() > 0.95
    assert np.isnan(pitch_track(np.zeros(RATE), RATE)).all()
    assert len(pitch_track(np.zeros(100), RATE)) == 0


def test_syllables_are_voiced_bursts():
    burst = np.concatenate([buzz(120, 0.15), np.zeros(RATE // 10, np.float32)])
    speech = np.tile(burst, 8)  # 8 bursts in 2 s
    assert syllable_rate(speech, speech, RATE) == pytest.approx(4, abs=0.6)
    noise = np.where(np.abs(speech) > 0, 0.1 * np.random.default_rng(0).standard_normal(len(speech)), 0)
    assert syllable_rate(noise, speech, RATE) < 1
    assert syllable_rate(np.zeros(RATE), speech, RATE) == 0


def test_only_long_gaps_are_pauses():
    tone = buzz(120, 0.5)
    gap, short = np.zeros(RATE // 2, np.float32), np.zeros(RATE // 10, np.float32)
    assert pause_share(np.concatenate([tone, gap, tone, gap]), tone, RATE) == pytest.approx(0.5, abs=0.03)
    assert pause_share(np.concatenate([tone, short, tone]), tone, RATE) == 0
    assert pause_share(np.zeros(RATE), tone, RATE) == 1


def test_real_speech_has_plausible_figures():
    speech = sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]
    figures = prosody_metrics(speech, speech, RATE)
    assert 2 < figures["syllable_rate"] < 7
    assert 130 < figures["pitch_hz"] < 280  # a woman's voice
    assert 1 < figures["pitch_spread"] < 8
    assert 0.02 < figures["pause_share"] < 0.5
    assert 0.3 < figures["voiced_share"] < 0.8
    assert np.isnan(prosody_metrics(np.zeros(RATE), speech, RATE)["pitch_hz"])
