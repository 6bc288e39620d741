# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The low band's transform against a loop, its inversion, and its place among the quantizer's levels."""

import pytest
import torch

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.residual_quantizer_audiolm import ResidualVectorQuantizer
from audiolm_hf.spectral_codec_audiolm import (
    compress_low_band,
    expand_low_band,
    inverse_mdct,
    mdct,
    mdct_basis,
)
from audiolm_hf.training.codec.initial import start_codec
from tests.conftest import randomise
from tests.reference import low_band_coefficient

HOP = 8


def tiny_config(**changes):
    sizes = {
        "strides": [2, 4],
        "window_length": 24,
        "num_codebooks": 4,
        "codebook_size": 16,
        "codebook_dim": 4,
        "hidden_size": 12,
        "intermediate_size": 24,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "kernel_size": 3,
        "low_band_dim": 3,
        "low_band_start_level": 2,
    }
    return SoundStreamConfig(**sizes | changes)


def filtered(values, hop_length, num_coefficients):
    basis = mdct_basis(hop_length, num_coefficients, values.device)
    return inverse_mdct(mdct(values, basis), basis)


def test_coefficients_match_the_loop():
    values = torch.randn(2, 5 * HOP)
    found = mdct(values, mdct_basis(HOP, 3, values.device))
    assert found.shape == (2, 5, 3)
    for row in range(2):
        for frame in range(5):
            for index in range(3):
                expected = low_band_coefficient(values[row].tolist(), HOP, frame, index)
                assert found[row, frame, index].item() == pytest.approx(expected, abs=1e-4)


def test_all_coefficients_give_the_waveform_back():
    values = torch.randn(2, 6 * HOP)
    inside = slice(HOP // 2, -HOP // 2)  # the ends lack the neighbour that cancels their aliases
    again = filtered(values, HOP, HOP)
    assert again.shape == values.shape
    assert torch.allclose(again[:, inside], values[:, inside], atol=1e-4)


def test_few_coefficients_keep_low_tones_and_leave_high_ones_out():
    time = torch.arange(3200) / 16000
    kept = []
    for frequency in (300.0, 3000.0):
        tone = torch.sin(2 * torch.pi * frequency * time)[None]
        difference = filtered(tone, 320, 28) - tone  # up to 700 Hz
        kept.append((difference[:, 320:-320].pow(2).mean() / tone.pow(2).mean()).item())
    assert kept[0] < 0.01
    assert kept[1] == pytest.approx(1.0, abs=0.01)


def test_compression_is_undone_and_keeps_signs():
    coefficients = torch.tensor([-8.0, -0.001, 0.0, 0.5, 27.0])
    compressed = compress_low_band(coefficients, scale=2.0)
    assert torch.allclose(compressed, torch.tensor([-8.0, -0.02, 0.0, 1.259921, 18.0]), atol=1e-5)
    assert torch.allclose(expand_low_band(compressed, scale=2.0), coefficients, atol=1e-5)


def test_the_coded_low_band_takes_the_place_of_the_decoders_own():
    codec = randomise(SoundStreamModel(tiny_config()), scale=0.05).train()
    values = torch.randn(4, 20 * HOP)
    codec(values)
    codes = codec.eval().encode(values).audio_codes
    basis = mdct_basis(HOP, 3, values.device)
    coded = expand_low_band(codec.quantizer.decode(codes)[1], codec.config.low_band_scale)
    found = mdct(codec.decode(codes).audio_values, basis)
    assert torch.allclose(found[:, 1:-1], coded[:, 1:-1], atol=1e-4)
    leading = codec.decode(codes[:, :2]).audio_values
    assert torch.equal(leading, codec.decoder(codec.quantizer.decode(codes[:, :2])[0]))


def test_the_low_band_changes_no_code_before_its_first_level():
    quantizer = ResidualVectorQuantizer(tiny_config()).eval()
    latents, low_band = torch.randn(2, 50, 12), torch.randn(2, 50, 3)
    quantizer.initialize(latents, low_band)
    codes = quantizer.encode(latents, 4, low_band)
    other = quantizer.encode(latents, 4, torch.randn(2, 50, 3))
    assert torch.equal(codes[:, :2], other[:, :2])
    assert not torch.equal(codes[:, 2:], other[:, 2:])
    assert not quantizer.decode(codes[:, :2])[1].any()
    errors = [(quantizer.decode(codes[:, :count])[1] - low_band).pow(2).mean() for count in (2, 3, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_training_learns_the_low_band_by_moving_averages():
    config = tiny_config(quantizer_dropout=0.5)
    codec = randomise(SoundStreamModel(config), scale=0.05).train()
    values = torch.randn(4, 20 * HOP)
    codec(values)
    before = codec.quantizer.levels[2].codebook.clone()
    output = codec(values)
    assert not torch.equal(before, codec.quantizer.levels[2].codebook)
    assert codec.quantizer.levels[1].codebook.shape == (16, 4)
    assert before.shape == (16, 7)
    output.audio_values.pow(2).mean().backward()
    assert codec.quantizer.low_band_proj.weight.grad.any()


def test_dropout_often_stops_right_before_the_low_band():
    quantizer = ResidualVectorQuantizer(tiny_config(quantizer_dropout=0.8)).train()
    drawn = quantizer._draw_num_levels(4000, 4, torch.device("cpu"))
    shares = [(drawn == count).float().mean().item() for count in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.1, 0.5, 0.1, 0.3], abs=0.03)


def test_a_trained_codec_gains_a_low_band_and_keeps_its_leading_codes(tmp_path):
    trained = randomise(SoundStreamModel(tiny_config(low_band_dim=0)), scale=0.05).train()
    values = torch.randn(4, 20 * HOP)
    trained(values)
    trained.eval().save_pretrained(tmp_path)
    codec = start_codec(tmp_path, {"low_band_dim": 3, "quantizer_dropout": 0.5})
    assert codec.config.quantizer_dropout == 0.5
    assert codec.config.hidden_size == 12
    assert [bool(level.initialized) for level in codec.quantizer.levels] == [True, True, False, False]
    assert codec.quantizer.needs_initialization
    codec.quantizer.initialize(codec.encoder(values).detach(), codec.low_band(values))
    assert not codec.quantizer.needs_initialization
    codec.eval()
    leading = codec.encode(values, num_codebooks=2).audio_codes
    assert torch.equal(leading, trained.encode(values, num_codebooks=2).audio_codes)
    decoded = trained.decode(leading).audio_values
    assert torch.allclose(codec.decode(leading).audio_values, decoded, atol=1e-6)


def test_a_codec_starts_as_it_was_without_changes(tmp_path):
    trained = randomise(SoundStreamModel(tiny_config()), scale=0.05)
    trained.save_pretrained(tmp_path)
    started = start_codec(tmp_path, {})
    assert all(torch.equal(value, started.state_dict()[name]) for name, value in trained.state_dict().items())
