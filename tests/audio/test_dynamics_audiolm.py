# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Soft sounds of a continuation are amplified to the levels that they have in its prompt; nothing else changes."""

import numpy as np
import pytest
import torch

from audiolm_hf import dynamics_audiolm
from audiolm_hf.dynamics_audiolm import Dynamics
from tests import reference

RATE = 16000
OPTIONS = {"continuation_length_s": 1.0, "min_continuation_length_s": 1.0, "seed": 0}


def speech(seconds=3.0, seed=1):
    """Noise whose level rises and falls by 40 dB, four times a second."""
    count = round(seconds * RATE)
    level = 20 * torch.sin(2 * torch.pi * 4 * torch.arange(count) / RATE) - 40
    return 10 ** (level / 20) * torch.randn(count, generator=torch.Generator().manual_seed(seed))


def softened(audio, threshold=-35.0, decibels=6.0):
    """Audio of which samples are softer, by so much, where its level is below a threshold."""
    level = 20 * torch.sin(2 * torch.pi * 4 * torch.arange(len(audio)) / RATE) - 40
    return torch.where(level < threshold, audio * 10 ** (-decibels / 20), audio)


def fitted(share=1.0):
    dynamics = Dynamics(share, RATE)
    dynamics.fit(speech(), softened(speech()))
    return dynamics


def level_db(audio):
    return 10 * np.log10(np.square(audio.numpy()).reshape(-1, 400).mean(1))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_soft_sounds_are_amplified_and_loud_ones_are_not(share):
    audio = speech(seed=2)
    found = torch.cat([*fitted(share).apply([softened(audio)])])
    change = level_db(found) - level_db(softened(audio))
    soft, loud = level_db(audio) < -45, level_db(audio) > -28
    np.testing.assert_allclose(change[soft].mean(), 6 * share, atol=1.0)
    np.testing.assert_allclose(change[loud], 0, atol=0.5)


def test_what_the_codec_keeps_or_amplifies_is_not_changed():
    for decoded in (speech(), 2 * speech()):
        dynamics = Dynamics(1.0, RATE)
        dynamics.fit(speech(), decoded)
        assert torch.equal(torch.cat([*dynamics.apply([decoded])]), decoded)


@pytest.mark.parametrize("length", [0, 1, RATE - 1])
def test_short_prompts_and_none_change_nothing(length):
    dynamics, audio = Dynamics(1.0, RATE), torch.ones(100)
    dynamics.fit(speech()[:length], torch.zeros(length))
    (found,) = dynamics.apply([audio])
    assert found is audio


@pytest.mark.parametrize("length", [1, 159, 160, 319, 320, 321, 2000])
def test_it_is_that_of_the_oracle_in_pieces_of_any_length(length):
    prompt, decoded, audio = speech(1.2), softened(speech(1.2)), softened(speech(seed=3))[:length]
    dynamics = Dynamics(1.0, RATE)
    dynamics.fit(prompt, decoded)
    pieces = [audio[:0], *audio.split(97)]
    found, whole = (torch.cat([*dynamics.apply(parts)]) for parts in (pieces, [audio]))
    assert torch.equal(found, whole) and len(found) == length
    module = dynamics_audiolm
    levels, gains = reference.dynamics_gains(
        prompt.tolist(), decoded.tolist(), dynamics.block_length, module.SHARE_OF_LEVELS, module.MAX_GAIN_DB
    )
    np.testing.assert_allclose(dynamics.levels, levels, atol=1e-6)
    np.testing.assert_allclose(dynamics.gains, gains, atol=1e-6)
    expected = reference.amplified(audio.double().numpy(), dynamics.block_length, levels, gains)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_a_continuation_is_amplified_in_batches_and_streams(model, prompt):
    options = OPTIONS | {"room_noise": 0.0}
    plain, loud = (model.generate(prompt, **options, dynamics=share) for share in (0, 1))
    assert torch.equal(plain.audio_codes, loud.audio_codes)
    length = prompt.shape[1]
    assert torch.equal(loud.audio_values[:, :length], prompt)
    before, after = plain.audio_values[0, length:], loud.audio_values[0, length:]
    offset = prompt.mean()
    change = level_db(after[1600:] - offset) - level_db(before[1600:] - offset)
    assert change.min() > -0.5 and change.max() < 10 and change.mean() > 0.1
    again = model.generate(prompt, **options, dynamics=1, num_return_sequences=2).audio_values
    torch.testing.assert_close(again[0], loud.audio_values[0], atol=1e-5, rtol=0)
    chunks = torch.cat([*model.stream(prompt, **options, dynamics=1)])
    assert torch.equal(chunks, after)


def test_a_louder_prompt_has_a_louder_continuation(model, prompt):
    options = OPTIONS | {"room_noise": 0.0, "dynamics": 1.0}
    soft, loud = (model.generate(gain * prompt, **options).audio_values for gain in (0.1, 0.2))
    torch.testing.assert_close(2 * soft, loud, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("share", [-0.1, 1.5, "much", float("nan")])
def test_impossible_shares_are_refused(model, prompt, share):
    with pytest.raises(ValueError, match="dynamics is .*; give a number from 0 to 1"):
        model.generate(prompt, dynamics=share)
