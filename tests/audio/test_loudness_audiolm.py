# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Continuations are as loud as their prompts, whatever the gain and the offset of these."""

import math

import pytest
import torch

import audiolm_hf
from audiolm_hf.loudness_audiolm import Loudness, active_frames, soft_limit
from audiolm_hf.modeling_audiolm import AudioLMModel
from tests.conftest import tiny_config

FRAME = 320
SHORT = {"continuation_length_s": 0.4, "min_continuation_length_s": 0.4, "seed": 0}


def rms_db(values):
    return 10 * math.log10(float(values.double().square().mean()))


def noise_and_pause():
    """Half a second of noise of -20 dB, half a second of nearly nothing."""
    torch.manual_seed(0)
    return torch.cat([0.1 * torch.randn(8000), 1e-4 * torch.randn(8000)])


def test_pauses_are_not_active():
    assert active_frames(noise_and_pause(), FRAME).tolist() == [True] * 25 + [False] * 25


@pytest.mark.parametrize("gain", [3.0, 1.0, 0.03, 1e-4])
@pytest.mark.parametrize("offset", [0.0, 0.2, -0.5])
def test_any_gain_and_offset_give_the_same_prompt(gain, offset):
    audio = noise_and_pause()
    loudness = Loudness.of(gain * audio + offset, -24.0, FRAME)
    normalized = loudness.normalize(gain * audio + offset)
    assert rms_db(normalized[:8000]) == pytest.approx(-24.0, abs=0.05)
    assert torch.allclose(normalized, Loudness.of(audio, -24.0, FRAME).normalize(audio), atol=2e-5 / gain * 1e-2)
    assert torch.allclose(loudness.restore(normalized), gain * audio + offset, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.7, -1.0])
def test_silence_stays_silent(constant):
    audio = torch.full((640,), constant)
    loudness = Loudness.of(audio, -24.0, FRAME)
    assert loudness.gain == 1.0
    assert loudness.normalize(audio).abs().max() < 1e-6


def test_what_the_codec_takes_away_is_given_back_up_to_a_limit():
    audio = noise_and_pause()
    loudness = Loudness.of(audio, -24.0, FRAME)
    for lost, corrected in ((0.7, 1 / 0.7), (1.5, 1 / 1.5), (0.01, 10**0.3), (0.0, 1.0)):
        normalized = loudness.normalize(audio)
        assert loudness.calibrated(normalized, lost * normalized, FRAME).correction == pytest.approx(
            corrected, rel=1e-4
        )


def test_the_limiter_bends_only_what_is_loud():
    audio = torch.linspace(-3, 3, 601)
    limited = soft_limit(audio)
    assert torch.equal(limited[audio.abs() <= 0.9], audio[audio.abs() <= 0.9])
    assert limited.abs().max() <= 1
    assert (limited.diff() >= 0).all()
    assert torch.allclose(limited, -limited.flip(0), atol=1e-6)


def test_gain_and_offset_of_a_prompt_change_nothing_but_gain_and_offset(tiny_audiolm):
    prompt = 0.01 * torch.randn(1, 6400)  # so quiet that nothing is limited
    expected = tiny_audiolm.generate(prompt, **SHORT)
    found = tiny_audiolm.generate(prompt / 4 + 0.25, **SHORT)  # exact in binary, but for the sum
    assert torch.equal(found.audio_codes, expected.audio_codes)
    assert torch.equal(found.semantic_tokens, expected.semantic_tokens)
    assert torch.allclose(found.audio_values, expected.audio_values / 4 + 0.25, atol=1e-5)


def test_the_loudness_of_the_training_data_is_stored():
    model = AudioLMModel(tiny_config(loudness_db=-30.0))
    fields = model.config.to_dict()
    assert audiolm_hf.AudioLMConfig(**fields).loudness_db == -30.0
    del fields["loudness_db"]  # a checkpoint of before
    assert audiolm_hf.AudioLMConfig(**fields).loudness_db == -24.0


@pytest.mark.parametrize("name", audiolm_hf.list_checkpoints())
def test_continuations_of_bundled_checkpoints_are_as_loud_as_any_prompt(name):
    folder = audiolm_hf.checkpoint(name)
    model = AudioLMModel.from_pretrained(folder)
    inputs = audiolm_hf.AudioLMProcessor.from_pretrained(folder)(audiolm_hf.example_prompt(name))
    prompt = inputs["input_values"]
    differences = []
    for gain in (1.0, 0.01):
        output = model.generate(gain * prompt, continuation_length_s=3.0, min_continuation_length_s=3.0, seed=0)
        continuation = output.audio_values[0, prompt.shape[1] :]
        differences.append(rms_db(continuation) - rms_db(gain * prompt))
    assert differences[1] == pytest.approx(differences[0], abs=1.0)
    assert abs(differences[0]) < 6.0  # one clip: speakers pause and raise their voice


@pytest.mark.parametrize("width", [1, 8, 320, 900])
def test_a_click_or_a_thump_does_not_change_the_level(width):
    audio = 0.03 * noise_and_pause().repeat(4)
    clicked = audio.clone()
    clicked[3000 : 3000 + width] = torch.cos(torch.arange(width) / 10)
    gains = [Loudness.of(each, -24.0, FRAME).gain for each in (audio, clicked)]
    assert gains[1] == pytest.approx(gains[0], rel=0.03)


def test_clicks_that_are_the_sound_have_a_level():
    metronome = 1e-4 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    metronome[::1600] = 0.5
    alone = torch.zeros(16000)
    alone[8000] = 0.5
    for audio in (metronome, alone):
        assert Loudness.of(audio, -24.0, FRAME).gain < 10
