# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The continuation's samples: joined to the prompt without a step, however much of the prompt is known."""

import torch

from audiolm_hf import continuation_audiolm
from audiolm_hf.continuation_audiolm import Prompt, _join, decode_continuation
from audiolm_hf.dynamics_audiolm import Dynamics
from audiolm_hf.loudness_audiolm import Loudness, soft_limit
from audiolm_hf.room_noise_audiolm import RoomNoise
from audiolm_hf.sampling_audiolm import RowNoise

NO_TOKENS = torch.zeros(0, dtype=torch.int64)
UNCHANGED = Dynamics(0.0, 16000), RoomNoise(0.0, 16000, RowNoise(0, [0]))


def test_the_join_is_continuous_and_leaves_the_rest():
    decoded = torch.linspace(0, 1, 100)
    prompt = decoded[:60] + 0.5
    joined = _join(prompt, decoded, 20)
    assert abs(float(joined[0] - prompt[-1])) < 0.05
    assert torch.equal(joined[20:], decoded[80:])
    assert torch.equal(_join(prompt[:0], decoded, 20), decoded)


def test_only_the_end_of_a_long_prompt_is_decoded(tiny_audiolm, monkeypatch):
    codec = tiny_audiolm.acoustic_codec
    prompt = 0.1 * torch.randn(120 * codec.hop_length)
    known, new = codec.encode(prompt[None])[0], codec.encode(prompt[None, : 30 * codec.hop_length])[0]
    loudness = Loudness(gain=1.0)
    monkeypatch.setattr(continuation_audiolm, "CALIBRATION_S", 60 / codec.frame_rate)
    whole = Prompt(prompt, NO_TOKENS, known, loudness)
    end = Prompt(prompt[-60 * codec.hop_length :], NO_TOKENS, known[:, 60:], loudness)
    found = torch.cat([*decode_continuation(codec, whole, [new], *UNCHANGED)])
    expected = torch.cat([*decode_continuation(codec, end, [new], *UNCHANGED)])
    assert found.shape == (30 * codec.hop_length,)
    assert torch.equal(found, expected)


def test_the_windows_of_a_continuation_give_what_one_decode_does(tiny_audiolm):
    codec = tiny_audiolm.acoustic_codec
    prompt = 0.1 * torch.randn(70 * codec.hop_length)
    known, new = codec.encode(prompt[None])[0], torch.randint(0, 8, (5, 330))
    decoded = tiny_audiolm.codec.decode(torch.cat([known, new], 1)[None]).audio_values[0]
    loudness = Loudness().calibrated(prompt, decoded[: len(prompt)], codec.hop_length)
    expected = soft_limit(_join(prompt, loudness.restore(decoded), codec.hop_length))
    chunks = [*decode_continuation(codec, Prompt(prompt, NO_TOKENS, known), new.split(9, 1), *UNCHANGED)]
    assert [len(chunk) // codec.hop_length for chunk in chunks] == [16, 32, 64, 128, 90]
    torch.testing.assert_close(torch.cat(chunks), expected, atol=1e-5, rtol=0)
