# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The codec model: geometry, causality, batches, levels, saving, and its errors."""

import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.spectral_codec_audiolm import windowed_spectrum
from tests.conftest import randomise
from tests.reference import aligned_phases

KINDS = [
    {"encoder_type": "spectral", "decoder_type": "istft"},
    {"encoder_type": "convolutional", "decoder_type": "mirrored"},
    {"encoder_type": "convolutional", "decoder_type": "istft"},
    {"low_band_dim": 3, "low_band_start_level": 1},
    {"decoder_type": "harmonic", "num_noise_bands": 4, "num_phase_bands": 3, "num_lookahead_layers": 1},
    {"decoder_type": "harmonic", "num_noise_bands": 4, "low_band_dim": 3, "low_band_start_level": 1},
]


def tiny_codec(**changes):
    sizes = {
        "strides": [2, 4],
        "window_length": 24,
        "num_codebooks": 3,
        "codebook_size": 16,
        "codebook_dim": 4,
        "hidden_size": 12,
        "intermediate_size": 24,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "kernel_size": 3,
        "num_channels": 4,
    }
    torch.manual_seed(0)
    return randomise(SoundStreamModel(SoundStreamConfig(**{**sizes, **changes})), scale=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_samples_follow_from_the_strides(kind):
    codec = tiny_codec(**kind)
    for num_samples in (1, 7, 8, 9, 100):
        codes = codec.encode(torch.randn(2, num_samples)).audio_codes
        assert codes.shape == (2, 3, -(-num_samples // 8))
        assert codec.decode(codes).audio_values.shape == (2, codes.shape[2] * 8)
        assert codec.decode(codes, num_samples=num_samples).audio_values.shape == (2, num_samples)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_after_what_is_seen_ahead_changes_a_code_or_a_sample(kind):
    codec = tiny_codec(**kind)
    excess = (codec.config.window_length - codec.config.hop_length) // 2
    first = torch.randn(1, 400)
    second = first.clone()
    second[:, 200:] = torch.randn(1, 200)
    codes, changed = codec.encode(first).audio_codes, codec.encode(second).audio_codes
    seen_ahead = excess if codec.config.encoder_type == "spectral" else 0
    same_frames = (200 - seen_ahead) // 8
    assert torch.equal(codes[..., :same_frames], changed[..., :same_frames])
    assert not torch.equal(codes, changed)
    decoded, decoded_changed = codec.decode(codes).audio_values, codec.decode(changed).audio_values
    same_samples = max(0, same_frames - codec.decoder_context(3)[1]) * 8
    assert same_samples or codec.config.phase_iterations
    assert torch.allclose(decoded[:, :same_samples], decoded_changed[:, :same_samples], rtol=1e-4, atol=1e-5)


def test_the_papers_architecture_has_no_lookahead():
    config = SoundStreamConfig(encoder_type="convolutional", decoder_type="mirrored")
    assert SoundStreamModel(config).decoder_context(12)[1] == 0
    assert config.hop_length == 320 and config.frame_rate == 50.0 and config.bitrate == 6000.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [40, 53, 90])
def test_a_padded_row_gives_what_it_gives_alone(kind, length):
    codec = tiny_codec(**kind)
    batch = torch.randn(3, 100)
    mask = torch.ones(3, 100, dtype=torch.long)
    mask[1, length:] = 0
    batched, alone = codec.encode(batch, mask), codec.encode(batch[1:2, :length])
    frames = alone.audio_codes.shape[2]
    assert batched.attention_mask[1].sum() == frames
    assert torch.equal(batched.audio_codes[1:2, :, :frames], alone.audio_codes)
    decoded = codec.decode(batched.audio_codes, batched.attention_mask).audio_values
    expected = codec.decode(alone.audio_codes).audio_values
    assert torch.allclose(decoded[1:2, : frames * 8], expected, rtol=1e-4, atol=1e-5)
    assert not decoded[1, frames * 8 :].any()


PHASES = {"phase_iterations": 5, "low_band_dim": 3, "low_band_start_level": 1}


def test_phases_are_aligned_as_by_the_slow_transform():
    codec = tiny_codec(**PHASES)
    codes = codec.encode(torch.randn(1, 80)).audio_codes[:, :1]
    log_magnitude, phase = codec.decoder.spectrum(codec.quantizer.decode(codes)[0])
    spectrum = torch.polar(log_magnitude.exp(), phase)[0].detach().numpy()
    expected = aligned_phases(spectrum, window_length=24, hop_length=8, iterations=5, momentum=0.99)
    assert np.allclose(codec.decode(codes).audio_values[0].detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_phases_are_aligned_only_where_no_low_band_is_coded():
    codec, plain = tiny_codec(**PHASES), tiny_codec(**(PHASES | {"phase_iterations": 0}))
    codes = codec.encode(torch.randn(1, 80)).audio_codes
    for levels, equal in ((1, False), (2, True), (3, True)):
        decoded = [model.decode(codes[:, :levels]).audio_values for model in (codec, plain)]
        assert torch.equal(*decoded) is equal


def test_aligned_phases_of_a_padded_row_are_those_it_gets_alone():
    codec = tiny_codec(**PHASES)
    codes = codec.encode(torch.randn(2, 96)).audio_codes[:, :1]
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    decoded = codec.decode(codes, mask).audio_values
    assert torch.allclose(decoded[1:, :56], codec.decode(codes[1:, :, :7]).audio_values, rtol=1e-3, atol=1e-4)
    assert torch.allclose(decoded[:1], codec.decode(codes[:1]).audio_values, rtol=1e-3, atol=1e-4)
    assert not decoded[1, 56:].any()


def test_magnitudes_with_aligned_phases_give_a_tone_back():
    """What the decoder has to learn is enough: true magnitudes and no phases give the waveform's own magnitudes."""
    codec = SoundStreamModel(SoundStreamConfig(phase_iterations=30))
    time = torch.arange(16000) / 16000
    tone = (0.3 * torch.sin(2 * math.pi * 443 * time) + 0.2 * torch.sin(2 * math.pi * 590 * time))[None]
    magnitude = windowed_spectrum(tone, codec.config).abs()

    def error(values):
        found = windowed_spectrum(values, codec.config).abs()
        return float(((found - magnitude).norm() / magnitude.norm()).detach())

    log_magnitude, phase = magnitude.clamp(min=1e-5).log(), torch.zeros_like(magnitude)
    assert error(codec.decoder.align_phase(log_magnitude, phase)) < 0.1
    assert error(codec.decoder.synthesize(log_magnitude, phase)) > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_leading_codebooks_are_the_same_codes_and_can_be_decoded(kind):
    codec = tiny_codec(**kind)
    values = torch.randn(1, 80)
    codes = codec.encode(values).audio_codes
    decoded = []
    for num_codebooks in (1, 2, 3):
        leading = codec.encode(values, num_codebooks=num_codebooks).audio_codes
        assert torch.equal(leading, codes[:, :num_codebooks])
        decoded.append(codec.decode(leading).audio_values)
    assert not torch.allclose(decoded[0], decoded[2])


@pytest.mark.parametrize("kind", KINDS)
def test_forward_reconstructs_what_encode_and_decode_do(kind):
    codec = tiny_codec(**kind)
    values = torch.randn(2, 77)
    output = codec(values)
    encoded = codec.encode(values)
    assert torch.equal(output.audio_codes, encoded.audio_codes)
    decoded = codec.decode(encoded.audio_codes, encoded.attention_mask, num_samples=77).audio_values
    assert torch.allclose(output.audio_values, decoded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_reaches_every_parameter_through_the_quantizer(kind):
    codec = tiny_codec(**kind, quantizer_dropout=0.0).train()
    values = torch.randn(4, 160)
    output = codec(values)
    ((output.audio_values - values).abs().mean() + output.loss).backward(retain_graph=True)
    if output.pitch_logits is not None:
        output.pitch_logits.square().mean().backward()
    without = [name for name, parameter in codec.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load_are_bit_equal(kind, tmp_path):
    codec = tiny_codec(**kind)
    codec.save_pretrained(tmp_path)
    loaded = SoundStreamModel.from_pretrained(tmp_path)
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    values = torch.randn(1, 100)
    assert torch.equal(codec.encode(values).audio_codes, loaded.encode(values).audio_codes)


@settings(max_examples=20, deadline=None)
@given(
    num_samples=st.integers(1, 200), hop=st.sampled_from([(3,), (2, 5), (4, 4)]), rate=st.sampled_from([8000, 24000])
)
def test_any_rate_and_strides(num_samples, hop, rate):
    codec = tiny_codec(strides=list(hop), sampling_rate=rate, window_length=3 * math.prod(hop))
    assert codec.config.frame_rate * codec.config.hop_length == rate
    codes = codec.encode(torch.zeros(1, num_samples)).audio_codes
    assert codes.shape[2] * codec.config.hop_length >= num_samples > (codes.shape[2] - 1) * codec.config.hop_length


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_values": torch.zeros(1, 0)}, "none of them 0"),
        ({"input_values": torch.zeros(1, 2, 100)}, "batch, num_samples"),
        ({"input_values": torch.zeros(1, 100), "num_codebooks": 4}, "1 to 3"),
        ({"input_values": torch.zeros(1, 100), "num_codebooks": 0}, "1 to 3"),
    ],
)
def test_encode_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_codec().encode(**arguments)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(3, 5, dtype=torch.long), "batch, num_codebooks, frames"),
        (torch.zeros(1, 4, 5, dtype=torch.long), "1 to 3 codebooks"),
        (torch.full((1, 3, 5), 16), "from 16 to 16"),
        (torch.full((1, 3, 5), -1), "from -1"),
    ],
)
def test_decode_refuses(codes, message):
    with pytest.raises(ValueError, match=message):
        tiny_codec().decode(codes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": []}, "strides"),
        ({"num_codebooks": 0}, "num_codebooks"),
        ({"window_length": 321}, "window_length"),
        ({"window_length": 320}, "window_length"),
        ({"encoder_type": "lstm"}, "encoder_type"),
        ({"low_band_dim": 321}, "low_band_dim is 321"),
        ({"low_band_dim": 4, "low_band_start_level": 12}, "low_band_start_level is 12"),
    ],
)
def test_configuration_refuses(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        SoundStreamConfig(**changes)


def test_the_quantizer_of_older_configurations_is_read_or_refused():
    assert "quantizer_type" not in SoundStreamConfig(quantizer_type="ema").to_dict()
    with pytest.raises(ValueError, match="quantizer_type is 'factorized', which this version no longer has; use the"):
        SoundStreamConfig(quantizer_type="factorized")
