# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Noise of a prompt's pauses in its continuation: its spectrum and level, and that it changes nothing else."""

import numpy as np
import pytest
import torch

from audiolm_hf import room_noise_audiolm
from audiolm_hf.room_noise_audiolm import RoomNoise
from audiolm_hf.sampling_audiolm import RowNoise, row_noise
from tests import reference

RATE = 16000
OPTIONS = {"continuation_length_s": 1.0, "min_continuation_length_s": 1.0, "seed": 0}


def room_noise(share=1.0, seed=0):
    return RoomNoise(share, RATE, RowNoise(seed, [0]))


def steady_noise(seconds=3.0, seed=1):
    """Noise that falls by 6 dB an octave or so, as that of rooms does."""
    white = torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    return 1e-3 * torch.nn.functional.conv1d(white[None, None], torch.tensor([[[0.2, 0.5, 1.0]]]))[0, 0]


def band_db(audio, num_bands=8):
    power = np.abs(np.fft.rfft(np.asarray(audio, np.float64))) ** 2 / len(audio)
    return 10 * np.log10([band.mean() for band in np.array_split(power, num_bands)])


def added(noise, length=5 * RATE):
    return noise.add(torch.zeros(length))


@pytest.mark.parametrize(("share", "decibels"), [(1.0, 0.0), (0.25, -6.0)])
def test_steady_noise_that_the_codec_removes_comes_back(share, decibels):
    prompt, noise = steady_noise(), room_noise(share)
    noise.fit(prompt, torch.zeros_like(prompt))
    np.testing.assert_allclose(band_db(added(noise)), band_db(prompt) + decibels, atol=1.0)


def test_a_voice_above_the_noise_does_not_count():
    prompt = steady_noise()
    times = torch.arange(len(prompt)) / RATE
    voice = 0.1 * torch.sin(2 * torch.pi * 200 * times) * (torch.remainder(times, 1.0) < 0.6)
    noise = room_noise()
    noise.fit(prompt + voice, voice)
    np.testing.assert_allclose(band_db(added(noise))[1:], band_db(prompt)[1:], atol=2.5)


def test_what_the_codec_keeps_is_not_added_again():
    prompt = steady_noise()
    for decoded in (prompt, 2 * prompt):
        noise = room_noise()
        noise.fit(prompt, decoded)
        assert torch.equal(added(noise), torch.zeros(5 * RATE))


@pytest.mark.parametrize("length", [0, 1, RATE - 1])
def test_short_prompts_and_none_change_nothing(length):
    noise, audio = room_noise(), torch.ones(100)
    noise.fit(steady_noise()[:length], torch.zeros(length))
    assert noise.add(audio) is audio


def test_it_is_that_of_the_oracle_in_pieces_of_any_length():
    prompt, whole, pieces = steady_noise(1.2), room_noise(), room_noise()
    for noise in (whole, pieces):
        noise.fit(prompt, torch.zeros_like(prompt))
    audio = 0.01 * torch.randn(3000, generator=torch.Generator().manual_seed(2))
    found = torch.cat([pieces.add(piece) for piece in audio.split([1, 0, 16, 983, 2000])])
    torch.testing.assert_close(found, whole.add(audio), atol=1e-8, rtol=1e-5)
    module, length = room_noise_audiolm, len(whole.window)
    power = reference.pause_power(
        prompt.double().numpy(),
        length,
        whole.hop_length,
        module.NUM_WINDOWS,
        module.QUANTILE,
        module.QUANTILE_OF_NOISE,
        module.NUM_BINS,
    )
    response = np.roll(np.fft.irfft(np.sqrt(power)), length // 2) * whole.window.numpy()
    white = (row_noise(0, [0], length - 1 + len(audio)).double().numpy() - 0.5) * np.sqrt(12)
    np.testing.assert_allclose(found - audio, reference.filtered(white, response), atol=1e-7)


def test_a_continuation_has_the_noise_on_top(model, prompt):
    silent, noisy = (model.generate(prompt, **OPTIONS, room_noise=share) for share in (0, 0.5))
    assert torch.equal(silent.audio_codes, noisy.audio_codes)
    length = prompt.shape[1]
    assert torch.equal(noisy.audio_values[:, :length], prompt)
    noise = (noisy.audio_values - silent.audio_values)[0, length:]
    assert 1e-5 < float(noise.square().mean().sqrt()) < 0.05 * float(prompt.square().mean().sqrt())
    again = model.generate(prompt, **OPTIONS, room_noise=0.5, num_return_sequences=2).audio_values
    torch.testing.assert_close(again[0], noisy.audio_values[0], atol=1e-5, rtol=0)
    chunks = torch.cat([*model.stream(prompt, **OPTIONS, room_noise=0.5)])
    assert torch.equal(chunks, noisy.audio_values[0, length:])


def test_without_a_prompt_there_is_none(model):
    plain, noisy = (model.generate(**OPTIONS, room_noise=share).audio_values for share in (0, 1))
    assert torch.equal(plain, noisy)


@pytest.mark.parametrize("share", [-0.1, 1.5, "much", float("nan")])
def test_impossible_shares_are_refused(model, prompt, share):
    with pytest.raises(ValueError, match="room_noise is .*; give a number from 0 to 1"):
        model.generate(prompt, room_noise=share)
