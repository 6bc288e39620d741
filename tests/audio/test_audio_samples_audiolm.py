# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Resampling to the expected lengths and times, for sines that are known at any rate."""

import numpy as np
import pytest
import soxr
import torch

from audiolm_hf.audio_samples_audiolm import resample


@pytest.mark.parametrize("length", [0, 1, 2, 100, 24017])
@pytest.mark.parametrize(("rate", "target"), [(24000, 16000), (44100, 16000), (44101, 16000), (8000, 16000)])
def test_it_is_soxr_of_the_expected_length(rate, target, length):
    noise = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    expected = soxr.resample(noise, rate, target, quality="VHQ")
    found = resample(torch.from_numpy(noise)[None], rate, target)
    assert found.dtype == torch.float32
    assert found.shape == (1, -(-length * target // rate))
    np.testing.assert_allclose(found[0, : len(expected)], expected[: found.shape[1]], atol=1e-6)
    assert not found[0, len(expected) :].any()


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 16000), (44101, 16000)])
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
