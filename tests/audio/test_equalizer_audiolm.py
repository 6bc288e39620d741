# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Prompts get the spectrum of the training data, and their continuations the spectrum of the prompt."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.equalizer_audiolm import NUM_BANDS, Equalizer, band_levels, measure_spectrum
from audiolm_hf.loudness_audiolm import Loudness
from tests import reference

RATE = 16000
FLAT, STD = np.zeros(NUM_BANDS), np.full(NUM_BANDS, 2.0)


def white(seconds=3.0, seed=0, rate=RATE):
    return 0.1 * torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def dark(seconds=3.0, seed=0):
    """Noise with less power at higher frequencies, by up to 26 dB."""
    sound = torch.from_numpy(signal.lfilter([1], [1, -0.9], white(seconds, seed).numpy())).float()
    return 0.1 * sound / sound.std()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("sound", [white, lambda rate: white(rate=rate).cumsum(0)])
def test_levels_are_those_of_welch(sound, rate):
    audio = sound(rate=rate)
    np.testing.assert_allclose(band_levels(audio, rate), reference.band_levels(audio.numpy(), rate), atol=0.3)


def test_the_levels_of_white_noise_are_equal():
    np.testing.assert_allclose(band_levels(white(20.0), RATE), 0, atol=1.0)


@pytest.mark.parametrize("hertz", [60, 250, 1000, 3000, 7000])
@pytest.mark.parametrize("slope_db", [-1.5, 0.5, 1.5])
def test_a_tone_is_amplified_by_the_gain_of_its_band(hertz, slope_db):
    gains_db = slope_db * (np.arange(NUM_BANDS) - 9)
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE)
    found = Equalizer(gains_db, sampling_rate=RATE).apply(tone)
    middle = slice(2000, -2000)
    change_db = 20 * np.log10(float(found[middle].norm() / tone[middle].norm()))
    assert change_db == pytest.approx(reference.equalizer_gain(hertz, gains_db, RATE), abs=0.7)
    # Without delay: the tone is where it was.
    scale = 10 ** (-change_db / 20)
    torch.testing.assert_close(found[middle] * scale, tone[middle], atol=0.02, rtol=0)


@pytest.mark.parametrize("sound", [dark, lambda: dark().flip(0) * torch.linspace(0.2, 1, 3 * RATE)])
def test_a_prompt_is_brought_to_usual_levels_and_back(sound):
    audio = sound()
    equalizer = Equalizer.of(audio, FLAT, STD, RATE)
    found = equalizer.apply(audio)
    assert band_levels(audio, RATE).max() - band_levels(audio, RATE).min() > 20
    assert np.abs(band_levels(found, RATE)).max() < 2 + 3
    assert float(found.norm() / audio.norm()) == pytest.approx(1, rel=1e-4)
    back = torch.cat([*equalizer.undo([found])])
    assert back.shape == audio.shape
    np.testing.assert_allclose(band_levels(back, RATE), band_levels(audio, RATE), atol=2.5)
    assert float((back - audio)[1000:-1000].norm() / audio.norm()) < 0.15


@pytest.mark.parametrize(
    ("audio", "levels_db", "std_db"),
    [
        (white(), None, None),
        (white(), FLAT, np.full(NUM_BANDS, 20.0)),
        (dark(0.9), FLAT, STD),
        (torch.zeros(3 * RATE), FLAT, STD),
        (1e-7 * dark(), FLAT, STD),
    ],
)
def test_what_is_usual_short_or_silent_is_left_as_it_is(audio, levels_db, std_db):
    equalizer = Equalizer.of(audio, levels_db, std_db, RATE)
    assert equalizer.apply(audio) is audio
    assert next(equalizer.undo([audio])) is audio


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 6000), max_size=8), length=st.integers(0, 6000))
def test_pieces_give_what_the_whole_does(cuts, length):
    audio = dark()[:length]
    equalizer = Equalizer(np.linspace(-10, 10, NUM_BANDS), 0.5, RATE)
    places = sorted(min(cut, length) for cut in cuts)
    pieces = [audio[start:stop] for start, stop in zip([0, *places], [*places, length], strict=True)]
    found = torch.cat([torch.zeros(0), *equalizer.undo(pieces)])
    expected = torch.cat([torch.zeros(0), *equalizer.undo([audio])])
    assert found.shape == audio.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_gain_has_a_limit():
    tone = torch.sin(torch.arange(2 * RATE) * 0.1)
    equalizer = Equalizer.of(tone, FLAT, STD, RATE)
    assert np.abs(equalizer.gains_db).max() == 30
    assert equalizer.apply(tone).isfinite().all()


def test_measured_levels_are_the_middle_of_the_recordings():
    clicks = torch.zeros(2, RATE)  # nothing but a click, at the end or at the beginning
    clicks[0, -1] = clicks[1, 0] = 1
    sounds = [white(seed=1), white(seed=2), dark(), torch.zeros(RATE), white()[: RATE - 1], torch.ones(RATE), *clicks]
    levels, std = measure_spectrum(sounds, RATE)
    rows = np.array([band_levels(sound, RATE) for sound in sounds[:3]])
    np.testing.assert_allclose(levels, np.sort(rows, axis=0)[1], atol=0.06)
    np.testing.assert_allclose(std, rows.std(0), atol=0.06)
    with pytest.raises(ValueError, match="No recording has a spectrum"):
        measure_spectrum(sounds[3:], RATE)


def test_offsets_clicks_and_pauses_do_not_count():
    audio = dark(4.0)
    levels = band_levels(audio, RATE)
    np.testing.assert_allclose(band_levels(audio + 0.1, RATE), levels, atol=0.1)
    audio[20000] += 40
    np.testing.assert_allclose(band_levels(audio, RATE), levels, atol=0.7)
    pause = torch.cat([dark(4.0), 1e-3 * white(4.0)])
    np.testing.assert_allclose(band_levels(pause, RATE), levels, atol=0.7)


@pytest.mark.parametrize("where", [-1, 0, slice(-100, None)])
def test_a_prompt_of_hardly_any_sound_is_continued(tiny_audiolm, monkeypatch, where):
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_db", FLAT.tolist())
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_std_db", STD.tolist())
    prompt = torch.zeros(1, 2 * RATE)
    prompt[0, where] = 0.5
    assert tiny_audiolm.generate(prompt, continuation_length_s=0.3, seed=0).audio_values.isfinite().all()


def test_the_continuation_is_as_loud_as_the_prompt(tiny_audiolm, monkeypatch):
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_db", np.linspace(10, -20, NUM_BANDS).tolist())
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_std_db", STD.tolist())
    corrections = []
    original = Loudness.calibrated
    monkeypatch.setattr(
        Loudness, "calibrated", lambda self, *given: corrections.append(given) or original(self, *given)
    )
    prompt = white(1.6)[None]
    tiny_audiolm.generate(prompt, continuation_length_s=0.3, seed=0)
    ((given, resynthesis, _),) = corrections
    assert torch.allclose(given / given.norm(), prompt[0] / prompt[0].norm(), atol=1e-3)
    assert resynthesis.shape == given.shape


def test_a_wrong_number_of_bands_is_refused_by_a_loaded_model(tiny_audiolm, monkeypatch):
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_db", [0.0] * 18)
    with pytest.raises(ValueError, match="spectrum_db has 18 bands, and spectrum_std_db 0; give 19 each, or none"):
        tiny_audiolm.generate(white()[None], continuation_length_s=0.3)


def test_the_stages_continue_an_equalized_prompt(tiny_audiolm, monkeypatch):
    prompt, options = dark(1.2)[None], {"continuation_length_s": 0.5, "seed": 0}
    before = tiny_audiolm.generate(prompt, **options)
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_db", FLAT.tolist())
    monkeypatch.setattr(tiny_audiolm.config, "spectrum_std_db", STD.tolist())
    after = tiny_audiolm.generate(prompt, **options)
    count = prompt.shape[1] // tiny_audiolm.acoustic_codec.hop_length
    assert not torch.equal(before.audio_codes[..., :count], after.audio_codes[..., :count])
    assert torch.equal(after.audio_values[:, : prompt.shape[1]], prompt)
    white_codes = tiny_audiolm.acoustic_codec.encode(0.63 * white(1.2, seed=4)[None])[..., :count]
    # With the codes of white noise more than with those of the dark prompt.
    shared = [
        np.mean([np.isin(codes[0, level], white_codes[0, level]).mean() for level in range(2)])
        for codes in (after.audio_codes[..., :count], before.audio_codes[..., :count])
    ]
    assert shared[0] >= shared[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spectrum_db": [0.0] * 18, "spectrum_std_db": [1.0] * 18},
            "has 18 bands, and spectrum_std_db 18; give",
        ),
        ({"spectrum_db": [0.0] * 19}, "has 19 bands, and spectrum_std_db 0; give"),
        ({"spectrum_db": [0.0] * 19, "spectrum_std_db": [-1.0] * 19}, "spectrum_std_db"),
        ({"spectrum_db": [float("nan")] * 19, "spectrum_std_db": [1.0] * 19}, "spectrum_db"),
        ({"spectrum_db": ["0"] * 19, "spectrum_std_db": [1.0] * 19}, "spectrum_db"),
    ],
)
def test_bad_spectra_are_refused(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        AudioLMConfig(**changes)
