# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The continuation's samples: joined to the prompt without a step, however much of the prompt is known."""

import torch

from audiolm_hf import generation_audiolm
from audiolm_hf.generation_audiolm import _decode_continuation, _join
from audiolm_hf.loudness_audiolm import Loudness


def test_the_join_is_continuous_and_leaves_the_rest():
    decoded = torch.linspace(0, 1, 100)
    prompt = decoded[:60] + 0.5
    joined = _join(prompt, decoded, 60, 20)
    assert abs(float(joined[0] - prompt[-1])) < 0.05
    assert torch.equal(joined[20:], decoded[80:])
    assert torch.equal(_join(prompt[:0], decoded, 0, 20), decoded)


def test_only_the_end_of_a_long_prompt_is_decoded(tiny_audiolm, monkeypatch):
    codec = tiny_audiolm.acoustic_codec
    prompt = 0.1 * torch.randn(120 * codec.hop_length)
    codes = torch.cat([codec.encode(prompt[None])[0], codec.encode(prompt[None, : 30 * codec.hop_length])[0]], 1)
    loudness = Loudness(gain=1.0)
    monkeypatch.setattr(generation_audiolm, "CALIBRATION_S", 60 / codec.frame_rate)
    found = _decode_continuation(codec, prompt, codes, 120, loudness)
    expected = _decode_continuation(codec, prompt[-60 * codec.hop_length :], codes[:, 60:], 60, loudness)
    assert found.shape == (30 * codec.hop_length,)
    assert torch.equal(found, expected)
