# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Any sound becomes mono float32 at the model's rate, and unusable sound one clear error."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor

RATE = 16000


def tone(length_s: float = 0.5, sampling_rate: int = RATE, hertz: float = 440.0, gain: float = 0.5) -> np.ndarray:
    time = np.arange(round(length_s * sampling_rate)) / sampling_rate
    return (gain * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


@pytest.fixture
def extractor() -> AudioLMFeatureExtractor:
    return AudioLMFeatureExtractor()


def test_a_mono_clip_at_the_models_rate_is_not_touched(extractor):
    audio = tone()
    batch = extractor(audio, sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].dtype == torch.float32
    assert torch.equal(batch["input_values"], torch.from_numpy(audio)[None])
    assert batch["attention_mask"].shape == (1, len(audio)) and batch["attention_mask"].all()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_keep_length_pitch_and_level(extractor, rate):
    row = extractor(tone(1.0, rate), sampling_rate=rate, return_tensors="np")["input_values"][0]
    assert abs(len(row) - RATE) <= 1
    middle = row[4000:12000] * np.hanning(8000)
    assert np.abs(np.fft.rfft(middle)).argmax() * RATE / 8000 == pytest.approx(440, abs=2)
    assert np.abs(row[4000:12000]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged_and_come_first(extractor):
    stereo = np.stack([tone(hertz=300), tone(hertz=700)])
    row = extractor(stereo, sampling_rate=RATE, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(row, stereo.mean(axis=0), atol=1e-7)
    with pytest.raises(ValueError, match="more channels than samples.*transpose"):
        extractor(stereo.T, sampling_rate=RATE)


@pytest.mark.parametrize(("dtype", "zero", "scale"), [("int16", 0, 2**15), ("int32", 0, 2**31), ("uint8", 128, 2**7)])
def test_integers_are_scaled_from_their_full_range(extractor, dtype, zero, scale):
    integers = (tone().astype(np.float64) * (scale - 1) + zero).round().astype(dtype)
    row = extractor(integers, sampling_rate=RATE, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(row, tone(), atol=1.5 / scale + 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_every_float_type_are_taken(extractor, dtype):
    row = extractor(torch.from_numpy(tone()).to(dtype), sampling_rate=RATE, return_tensors="np")["input_values"][0]
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, tone(), atol=3e-3)


def test_short_rows_are_padded_on_the_right_and_masked(extractor):
    batch = extractor([tone(0.5), tone(0.2)], sampling_rate=RATE, return_tensors="pt")
    assert batch["input_values"].shape == (2, 8000)
    assert batch["attention_mask"].sum(-1).tolist() == [8000, 3200]
    assert not batch["input_values"][1, 3200:].any()
    assert batch["attention_mask"][1, :3200].all()


def test_every_clip_may_have_its_own_rate(extractor):
    batch = extractor([tone(0.5), tone(0.5, 48000)], sampling_rate=[RATE, 48000], return_tensors="pt")
    assert batch["attention_mask"].sum(-1).tolist() == [8000, 8000]


def test_a_flat_list_of_numbers_is_one_clip(extractor):
    batch = extractor(tone().tolist(), sampling_rate=RATE, return_tensors="np")
    np.testing.assert_array_equal(batch["input_values"][0], tone())


@given(peak=st.floats(0.01, 100.0), rate=st.sampled_from([8000, 16000, 44100]))
@settings(max_examples=15, deadline=None)
def test_full_scale_is_never_exceeded(peak, rate):
    noise = np.random.default_rng(0).uniform(-peak, peak, rate // 4).astype(np.float32)
    row = AudioLMFeatureExtractor()(noise, sampling_rate=rate, return_tensors="np")["input_values"][0]
    assert np.abs(row).max() <= 1.0


def test_the_caller_keeps_his_array(extractor):
    audio = tone(gain=3.0)
    before = audio.copy()
    extractor(audio, sampling_rate=RATE)
    np.testing.assert_array_equal(audio, before)


def with_nan() -> np.ndarray:
    audio = tone()
    audio[100] = np.nan
    return audio


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (np.zeros(0, np.float32), ValueError, "is empty"),
        (np.zeros((1, 0), np.float32), ValueError, "is empty"),
        (np.zeros((0, 8000), np.float32), ValueError, "0 channels"),
        (np.zeros((1, 2, 8000), np.float32), ValueError, r"shape \(1, 2, 8000\)"),
        ([], ValueError, "empty list"),
        (with_nan(), ValueError, "NaN"),
        (np.full(8000, np.inf, np.float32), ValueError, "infinite"),
        (tone(0.05), ValueError, "lasts 0.050 s.*at least 0.1 s"),
        (np.zeros(8000, np.float32), ValueError, "silent"),
        (np.full(8000, 0.3, np.float32), ValueError, "silent"),
        (tone(gain=5e-5), ValueError, "silent"),
        (np.ones(8000, bool), TypeError, "dtype bool"),
        (np.ones(8000, np.int64), TypeError, "dtype int64"),
        (np.ones(8000, np.complex64), TypeError, "dtype complex64"),
        (torch.ones(8000, device="meta"), TypeError, "cannot be read as an array"),
        ([0, 1000, -1000] * 1000, TypeError, "a list of whole numbers; give floats"),
        (tone() * 30000, ValueError, "floats up to 150.*integers they are"),
        ((tone() * 30000).tolist(), ValueError, "floats up to 150"),
        (np.array(["a", "b"]), TypeError, "dtype"),
        ([["a", "b"]], TypeError, "array of numbers"),
        ("clip.wav", TypeError, "use the processor"),
        (None, TypeError, "use the processor"),
    ],
)
def test_unusable_audio_is_one_clear_error(extractor, audio, error, message):
    with pytest.raises(error, match=message):
        extractor(audio, sampling_rate=RATE)


@pytest.mark.parametrize("rate", [None, 0, -1, 16000.5, "16000", True, 1, 10**9, float("nan"), float("inf")])
def test_the_rate_must_be_given_and_positive(extractor, rate):
    with pytest.raises(ValueError, match="sampling_rate"):
        extractor(tone(), sampling_rate=rate)


def test_the_error_names_the_clip_of_the_batch(extractor):
    with pytest.raises(ValueError, match="Recording 1 is silent"):
        extractor([tone(), np.zeros(8000, np.float32)], sampling_rate=RATE)


def test_rates_and_clips_must_be_as_many(extractor):
    with pytest.raises(ValueError, match="2 sampling rates were given for 1 recordings"):
        extractor([tone()], sampling_rate=[RATE, RATE])


def test_a_missing_resampler_is_named(extractor, monkeypatch):
    monkeypatch.setattr("audiolm_hf.audio_samples_audiolm.soxr", None)
    extractor(tone(), sampling_rate=RATE)
    with pytest.raises(ImportError, match="pip install soxr"):
        extractor(tone(), sampling_rate=8000)


@pytest.mark.parametrize(
    "options",
    [
        {"feature_size": 2},
        {"feature_size": True},
        {"feature_size": 1.0},
        {"silence_threshold_db": False},
        {"return_attention_mask": 1},
        {"do_normalize": True},
        {"samping_rate": 16000},
        {"sampling_rate": 0},
        {"sampling_rate": float("nan")},
        {"sampling_rate": 10**9},
        {"sampling_rate": "16000"},
        {"min_length_s": -1.0},
        {"min_length_s": float("nan")},
        {"min_length_s": None},
        {"silence_threshold_db": float("nan")},
        {"padding_value": float("nan")},
        {"padding_value": "0"},
        {"padding_side": "left"},
    ],
)
def test_unusable_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AudioLMFeatureExtractor(**options)


def test_settings_survive_saving(extractor, tmp_path):
    extractor = AudioLMFeatureExtractor(sampling_rate=24000, min_length_s=0.25, silence_threshold_db=-60.0)
    extractor.save_pretrained(tmp_path)
    assert AudioLMFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()


@pytest.mark.parametrize("name", ["max_length", "pad_to_multiple_of"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "8000", True, 2**31])
def test_unusable_lengths_are_refused(extractor, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give an integer from 1"):
        extractor(tone(), sampling_rate=RATE, padding="max_length", **{name: value})


def test_rows_are_cut_and_padded_to_the_longest_length_asked_for(extractor):
    options = {"padding": "max_length", "truncation": True, "max_length": 5000, "return_tensors": "np"}
    batch = extractor([tone(0.5), tone(0.2)], sampling_rate=RATE, **options)
    assert batch["input_values"].shape == (2, 5000)
    assert batch["attention_mask"].sum(-1).tolist() == [5000, 3200]


@pytest.mark.parametrize("name", ["truncation", "return_attention_mask"])
def test_flags_are_true_or_false(extractor, name):
    with pytest.raises(ValueError, match=f"{name} is 'no'; give True or False"):
        extractor(tone(), sampling_rate=RATE, max_length=5000, **{name: "no"})
