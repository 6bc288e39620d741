# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Resampling against soxr, and against sines that are known at any rate."""

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch

from audiolm_hf.audio_samples_audiolm import check_rates, resample
from tests.helpers_checkpoint import CLIP

RATES = [(24000, 16000), (48000, 16000), (44100, 16000), (22050, 16000), (32000, 16000), (8000, 16000), (16000, 24000)]


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_it_is_soxr(rate, target):
    noise = np.random.default_rng(0).standard_normal(rate + 17).astype(np.float32)
    expected = soxr.resample(noise, rate, target, quality="VHQ")
    found = resample(torch.from_numpy(noise)[None], rate, target)
    assert found.shape == (1, -(-len(noise) * target // rate))
    assert found.dtype == torch.float32
    errors = np.abs(found[0, : len(expected)].numpy() - expected[: found.shape[1]])[1:]
    assert errors.max() <= (1e-6 if rate in (24000, 48000) else 1e-3) * np.abs(expected).max()


def test_speech_is_that_of_soxr_to_90_db():
    speech = sf.read(CLIP, dtype="float32")[0]
    for rate in (24000, 44100):
        there = soxr.resample(speech, 16000, rate, quality="VHQ")
        expected = soxr.resample(there, rate, 16000, quality="VHQ")
        found = resample(torch.from_numpy(there)[None], rate, 16000)[0, : len(expected)].numpy()
        assert np.square(found - expected).sum() < 1e-9 * np.square(expected).sum()


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 16000)])
def test_nothing_drifts_in_ten_minutes(rate, target):
    def tone(samples, hertz):
        return torch.sin(2 * torch.pi * 400 * torch.arange(samples, dtype=torch.float64) / hertz)

    found = resample(tone(600 * rate, rate)[None].float(), rate, target)[0]
    assert found.shape == (600 * target,)
    torch.testing.assert_close(found[-2000:-500].double(), tone(600 * target, target)[-2000:-500], atol=1e-5, rtol=0)


def test_what_is_above_the_lower_nyquist_frequency_is_gone():
    time = torch.arange(24000, dtype=torch.float64) / 24000
    found = resample(torch.sin(2 * torch.pi * 9000 * time)[None], 24000, 16000)[0]
    assert found[300:-300].abs().max() < 1e-6


def test_a_row_is_the_same_alone_and_at_another_length():
    rows = torch.randn(3, 5000)
    rows[1, 3000:] = 0
    found = resample(rows, 24000, 16000)
    torch.testing.assert_close(found[1:2, :1500], resample(rows[1:2, :3000], 24000, 16000)[:, :1500])
    torch.testing.assert_close(found[2:], resample(rows[2:], 24000, 16000))


def test_default_dtype_and_autocast_have_no_influence():
    noise = torch.randn(1, 3000)
    expected = resample(noise, 24000, 16000)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(resample(noise, 24000, 16000), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resample(noise, 24000, 16000), expected)


def test_odd_ratios_are_refused():
    with pytest.raises(ValueError, match="from 44101 Hz to 16000 Hz takes 16000 filters"):
        check_rates(44101, 16000)
    check_rates(11025, 16000)
