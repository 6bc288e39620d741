# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The decoder of pitch, noise and filter: against the slow synthesis, in windows, in batches, its parts and errors."""

import re

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from audiolm_hf import modeling_soundstream_audiolm
from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.harmonic_decoder_audiolm import (
    CYCLE,
    SourceFilter,
    phase_steps,
    pitch_bins,
    position_noise,
    pulse_train,
    sample_f0,
)
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.spectral_codec_audiolm import windowed_spectrum
from tests.conftest import randomise
from tests.reference import filtered_source, harmonic_sum

SIZES = {
    "decoder_type": "harmonic",
    "strides": [8, 10],
    "window_length": 320,
    "num_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "hidden_size": 12,
    "intermediate_size": 24,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "num_lookahead_layers": 1,
    "kernel_size": 5,
    "num_pitch_bins": 40,
    "num_noise_bands": 6,
    "num_phase_bands": 4,
}


def small_codec(**changes):
    torch.manual_seed(0)
    return randomise(SoundStreamModel(SoundStreamConfig(**SIZES | changes)), scale=0.2).requires_grad_(False)


def f0_of(codec, codes):
    return codec.decoder.f0(codec.decoder.source_filter(codec.quantizer.decode(codes)[0]).pitch_logits)


def random_codes(frames, batch=1, levels=3):
    return torch.randint(16, (batch, levels, frames), generator=torch.Generator().manual_seed(1))


F0 = [0.0, 0.0, 120.0, 124.0, 131.0, 0.0, 240.0, 235.0, 0.0, 0.0, 0.0, 83.0]


def test_the_pulse_train_is_a_sum_of_cosines():
    hertz = sample_f0(torch.tensor([F0]), 80).flatten(1)
    pulses = pulse_train(hertz, 16000, 0, torch.zeros(1, dtype=torch.long))[0].numpy()
    expected = harmonic_sum(F0, 80, 16000)
    assert np.abs(pulses - expected).max() < 2e-3 * np.abs(expected).max()


def test_synthesis_is_that_of_the_slow_loops():
    codec = small_codec()
    generator = torch.Generator().manual_seed(3)
    log_magnitude, noise_logits, phase = (torch.randn(1, 12, size, generator=generator) for size in (161, 6, 4))
    found = SourceFilter(log_magnitude, noise_logits, phase, torch.zeros(1, 12, 41))
    audio = codec.decoder.synthesize(found, torch.tensor([F0]))[0].numpy()
    noise = position_noise(0, 12 * 80, torch.device("cpu")).double().numpy()
    parts = (part[0].double().numpy() for part in (log_magnitude, noise_logits, phase))
    expected = filtered_source(F0, *parts, noise, (320, 80, 16000))
    assert np.abs(audio - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("changes", [{}, {"low_band_dim": 3, "low_band_start_level": 1}])
@pytest.mark.parametrize("window", [1, 7, 64])
def test_windows_give_the_samples_of_one_pass(window, changes, monkeypatch):
    codec, codes = small_codec(**changes), random_codes(150, batch=2)
    mask = torch.ones(2, 150, dtype=torch.long)
    mask[1, 97:] = 0
    f0 = f0_of(codec, codes)
    assert 0.2 < float((f0 > 0).float().mean()) < 0.8  # the test needs voiced frames, and others
    whole = codec.decode(codes, mask).audio_values
    monkeypatch.setattr(modeling_soundstream_audiolm, "DECODE_WINDOW", window)
    assert torch.allclose(codec.decode(codes, mask).audio_values, whole, atol=1e-4 * float(whole.abs().max()))


def test_decoding_is_the_same_twice_and_after_any_past():
    codec, codes = small_codec(), random_codes(60)
    first = codec.decode(codes).audio_values
    torch.manual_seed(5)
    torch.rand(7)
    assert torch.equal(codec.decode(codes).audio_values, first)


def test_phase_goes_on_without_loss_for_an_hour():
    """A steady pitch has, an hour on, the phase that a division tells."""
    hertz = torch.full((1, 16000), 123.456)
    steps = phase_steps(hertz, 16000)
    second = steps.sum(1)
    late = pulse_train(hertz, 16000, 0, second * 3600 % CYCLE)
    turned = int(steps[0, 0]) * 16000 * 3600 % CYCLE
    assert torch.equal(late, pulse_train(hertz, 16000, 0, torch.tensor([turned])))
    assert abs(int(second) / CYCLE - 123.456) < 1e-4


def test_noise_is_white_fixed_by_position_and_of_variance_one():
    noise = position_noise(0, 2**17, torch.device("cpu"))
    assert torch.equal(position_noise(1000, 500, torch.device("cpu")), noise[1000:1500])
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.var()) - 1) < 0.02
    power = torch.fft.rfft(noise.view(128, 1024)).abs().square().mean(0)[1:-1] / 1024
    assert float(power.min()) > 0.5 and float(power.max()) < 1.6
    products = [float((noise[lag:] * noise[:-lag]).mean()) for lag in (1, 2, 3, 80, 320, 1280)]
    assert max(map(abs, products)) < 0.02
    far = position_noise(2**33, 1000, torch.device("cpu"))
    assert far.isfinite().all() and far.abs().max() <= 3**0.5


def test_pulses_are_as_strong_in_a_window_as_the_noise():
    codec = SoundStreamModel(SoundStreamConfig(decoder_type="harmonic", num_encoder_layers=0, num_decoder_layers=2))
    for f0 in (80.0, 160.0, 320.0):
        hertz = torch.full((1, 16000), f0)
        power = windowed_spectrum(pulse_train(hertz, 16000, 0, torch.zeros(1, dtype=torch.long)), codec.config)
        noise = windowed_spectrum(position_noise(0, 16000, torch.device("cpu"))[None], codec.config)
        ratio = power.abs().square().mean() / noise.abs().square().mean()
        assert 0.35 < float(ratio) < 0.6, f0  # 0.7 ** 2 of the share of bins below the highest harmonic


def test_f0_of_logits_is_in_hertz_and_0_without_voice():
    codec = small_codec(num_pitch_bins=160)
    bins = pitch_bins(codec.config, torch.device("cpu"))
    assert float(bins[0]) == pytest.approx(55) and float(bins[-1]) == pytest.approx(520)
    logits = torch.full((1, 3, 161), -20.0)
    logits[0, 0, [70, 71]] = 20.0  # halfway between two bins
    logits[0, 1, 159] = 20.0
    logits[..., -1] = torch.tensor([1.0, 1.0, -1.0])
    f0 = codec.decoder.f0(logits)[0]
    assert float(f0[0]) == pytest.approx(float((bins[70] * bins[71]).sqrt()), rel=1e-4)
    assert float(f0[1]) == pytest.approx(520, rel=1e-4)
    assert float(f0[2]) == 0


def test_a_given_f0_is_what_sounds():
    codec = SoundStreamModel(SoundStreamConfig(decoder_type="harmonic", num_encoder_layers=0, num_decoder_layers=2))
    torch.nn.init.zeros_(codec.decoder.noise_proj.weight)
    torch.nn.init.constant_(codec.decoder.noise_proj.bias, -8.0)
    torch.nn.init.zeros_(codec.decoder.magnitude_proj.weight)
    with torch.no_grad():
        audio = codec(torch.randn(1, 16000), f0=torch.full((1, 50), 200.0)).audio_values[0]
    power = torch.fft.rfft(audio[4000:12000] * torch.hann_window(8000)).abs().square()  # 2 Hz a bin
    assert power[100::100].sum() + power[99::100].sum() + power[101::100].sum() > 0.9 * power.sum()


def test_synthesis_is_float32_under_autocast():
    codec, codes = small_codec(), random_codes(40)
    expected = codec.decode(codes).audio_values
    with torch.autocast("cpu", torch.bfloat16):
        decoded = codec.decode(codes).audio_values
        found = codec.decoder.source_filter(codec.quantizer.decode(codes)[0])
        audio = codec.decoder.synthesize(found, torch.full((1, 40), 150.0))
    assert torch.equal(decoded, expected)
    plain = codec.decoder.synthesize(found, torch.full((1, 40), 150.0))
    assert audio.dtype == torch.float32 and torch.equal(audio, plain)


def test_noise_begins_elsewhere_in_each_step_of_training():
    codec = small_codec(quantizer_dropout=0.0).train()
    values, f0 = 0.1 * torch.randn(1, 800), torch.zeros(1, 10)
    with torch.no_grad():
        first, second = codec(values, f0=f0).audio_values, codec(values, f0=f0).audio_values
        assert not torch.allclose(first, second)
        codec.eval()
        assert torch.equal(codec(values, f0=f0).audio_values, codec(values, f0=f0).audio_values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f0": torch.zeros(1, 3)}, "f0 has shape (1, 3); give (batch, frames), here (1, 10)"),
        ({"f0": torch.zeros(10)}, "f0 has shape (10,)"),
    ],
)
def test_forward_refuses_an_f0_of_another_shape(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small_codec()(torch.randn(1, 800), **arguments)


def test_forward_refuses_an_f0_where_nothing_takes_it():
    with pytest.raises(ValueError, match="\"istft\"|'istft'"):
        small_codec(decoder_type="istft")(torch.randn(1, 800), f0=torch.zeros(1, 10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lowest_f0": 600.0}, "lowest_f0 is 600"),
        ({"highest_f0": 4001.0}, "4000 Hz"),
        ({"num_lookahead_layers": 9}, "give an integer from 0 to 8"),
        ({"num_pitch_bins": 1}, "num_pitch_bins"),
        ({"num_noise_bands": 0}, "num_noise_bands"),
        ({"num_phase_bands": 2.5}, "num_phase_bands"),
        ({"phase_iterations": 3}, "phase_iterations is 3"),
        ({"window_length": 321}, "window_length"),
    ],
)
def test_configuration_refuses(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        SoundStreamConfig(decoder_type="harmonic", **changes)
