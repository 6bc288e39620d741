# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Edits follow from their seed, keep the sound recognizable, and take any length and rate."""

import numpy as np
import pytest

from audiolm_hf.data.edits import EDITS, edit_audio
from tests.helpers_sounds import RATE, notes


@pytest.fixture(scope="module")
def sound():
    return notes((60, 64, 67, 72), length_s=0.5)


def loudest_hertz(array):
    return np.abs(np.fft.rfft(array * np.hanning(len(array)))).argmax() * RATE / len(array)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_follows_from_its_seed(name, sound):
    before = sound.copy()
    edited = edit_audio(sound, RATE, name, [3, 1])
    assert np.array_equal(sound, before) and np.array_equal(edited, edit_audio(sound, RATE, name, [3, 1]))
    other = edit_audio(sound, RATE, name, [3, 2])
    assert len(other) != len(edited) or not np.array_equal(edited, other)
    assert edited.dtype == np.float32 and np.isfinite(edited).all() and np.abs(edited).max() <= 1
    assert len(edited) == len(sound) or name in ("cropping", "time stretch", "silence")


@pytest.mark.parametrize("name", sorted(set(EDITS) - {"cropping", "silence"}))
def test_pitch_is_kept(name, sound):
    last = edit_audio(sound[-RATE // 2 :], RATE, name, 0)
    assert loudest_hertz(last) == pytest.approx(loudest_hertz(sound[-RATE // 2 :]), abs=6)


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("name", EDITS)
def test_other_rates_and_short_clips_are_edited(name, rate, sound):
    edited = edit_audio(sound[: rate // 2], rate, name, 0)
    assert 0.8 < len(edited) / (rate // 2) < (5 if name == "silence" else 1.25)


def test_cropping_leaves_a_second_and_half():
    clip = np.arange(4 * RATE, dtype=np.float32) / (4 * RATE)
    for seed in range(20):
        part = edit_audio(clip, RATE, "cropping", seed)
        assert 2 * RATE <= len(part) < 4 * RATE and np.allclose(np.diff(part), 1 / (4 * RATE), atol=1e-6)


def test_time_stretch_changes_the_length_by_a_fifth_at_most(sound):
    ratios = {len(edit_audio(sound, RATE, "time stretch", seed)) / len(sound) for seed in range(10)}
    assert len(ratios) > 5 and min(ratios) > 0.8 and max(ratios) < 1.25


def test_silence_is_added_around_and_high_pass_takes_the_lowest_away(sound):
    edited = edit_audio(sound, RATE, "silence", 0)
    start = int(np.abs(edited).argmax() - np.abs(sound).argmax())
    assert 0 < start < RATE and np.array_equal(edited[start : start + len(sound)], sound)
    assert 0 < np.abs(edited[:start]).max() < 0.15 * np.abs(sound).max()
    hum = np.sin(2 * np.pi * 30 * np.arange(RATE) / RATE).astype(np.float32)
    for seed in range(5):
        assert np.std(edit_audio(hum, RATE, "high-pass", seed)[RATE // 2 :]) < 0.08


def test_lossy_codecs_are_lossy_and_in_place(sound):
    for name in ("MP3", "Opus"):
        edited = edit_audio(sound, RATE, name, 0)
        error = np.sqrt(np.mean((edited - sound) ** 2) / np.mean(sound**2))
        assert 1e-4 < error < 0.7, name  # a shift by a decoder's delay would be more


def test_silence_stays_finite():
    for name in EDITS:
        assert np.isfinite(edit_audio(np.zeros(RATE, np.float32), RATE, name, 0)).all(), name


def test_an_unknown_edit_is_refused():
    with pytest.raises(ValueError, match="There is no edit 'mp4'; there are MP3, Opus"):
        edit_audio(np.zeros(10, np.float32), RATE, "mp4", 0)
