# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The codec contract holds for every codec, with tiny random models."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    AutoModel,
    DacConfig,
    EncodecConfig,
    EncodecModel,
    MimiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
)

from audiolm_hf import AcousticCodec, AudioLMModel, codec_interface_audiolm, register_acoustic_codec
from audiolm_hf.acoustic_codec_audiolm import ACOUSTIC_CODECS, build_acoustic_codec, wrap_acoustic_codec
from audiolm_hf.configuration_audiolm import CODECS, SoundStreamConfig
from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.data.loading import load_codec
from audiolm_hf.data.tokenizers import load_tokenizers, tokenize_recording
from tests.conftest import randomise, some_slow, tiny_config
from tests.helpers_rates import filled_codec

ENCODEC = {
    "sampling_rate": 16000,
    "target_bandwidths": [1.5],
    "upsampling_ratios": [8, 5, 4, 2],
    "num_filters": 4,
    "hidden_size": 16,
    "codebook_dim": 16,
    "codebook_size": 8,
    "num_lstm_layers": 1,
}
CONFIGS = {
    "soundstream": lambda: SoundStreamConfig(
        num_codebooks=3, codebook_size=8, codebook_dim=8, hidden_size=16, intermediate_size=32,
        num_encoder_layers=1, num_decoder_layers=1, window_length=640,
    ),
    "encodec": lambda: EncodecConfig(**ENCODEC),
    "encodec_chunked": lambda: EncodecConfig(**ENCODEC, chunk_length_s=0.1, overlap=0.1),
    "dac": lambda: DacConfig(
        encoder_hidden_size=4, downsampling_ratios=[2, 4, 5, 8], decoder_hidden_size=64, n_codebooks=3,
        codebook_size=8,
    ),
    "mimi": lambda: MimiConfig(
        hidden_size=16, num_filters=4, codebook_size=8, codebook_dim=8, num_quantizers=3, num_hidden_layers=1,
        intermediate_size=16, num_attention_heads=2, num_key_value_heads=2, head_dim=8, upsample_groups=16,
        vector_quantization_hidden_dimension=8, sampling_rate=16000, sliding_window=16,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def codec(request):
    return filled_codec(CONFIGS[request.param]())


@pytest.mark.parametrize("extra", [0, 1, -1])
def test_shapes_and_ranges(codec, extra):
    audio = 0.1 * torch.randn(2, 6 * codec.hop_length + extra)
    with torch.no_grad():
        codes = codec.encode(audio)
        assert codes.shape == (2, codec.num_codebooks, math.ceil(audio.shape[1] / codec.hop_length))
        assert codes.dtype == torch.int64
        assert codes.min() >= 0
        assert codes.max() < codec.codebook_size
        decoded = codec.decode(codes)
    assert decoded.shape == (2, codes.shape[2] * codec.hop_length)
    assert decoded.dtype == torch.float32
    assert decoded.std() > 0


def test_rates_are_exact(codec):
    assert isinstance(codec.frame_rate, float)
    assert codec.frame_rate * codec.hop_length == pytest.approx(codec.sampling_rate, rel=1e-12)


def test_leading_codebooks(codec):
    audio = 0.1 * torch.randn(1, 4 * codec.hop_length)
    with torch.no_grad():
        codes = codec.encode(audio)
        assert torch.equal(codec.encode(audio, num_codebooks=2), codes[:, :2])
        assert codec.decode(codes[:, :2]).shape == audio.shape
        assert not torch.equal(codec.decode(codes[:, :2]), codec.decode(codes))


def test_padding_is_silence(codec):
    audio = 0.1 * torch.randn(1, 4 * codec.hop_length)
    mask = torch.ones_like(audio, dtype=torch.int64)
    mask[:, -codec.hop_length :] = 0
    silenced = audio * mask
    with torch.no_grad():
        assert torch.equal(codec.encode(audio, mask), codec.encode(silenced))


@pytest.mark.parametrize("shape", [(3,), (1, 0), (1, 1, 5)])
def test_waveforms_of_other_shapes_are_refused(codec, shape):
    with pytest.raises(ValueError, match="num_samples"):
        codec.encode(torch.zeros(shape))


def test_codes_of_other_shapes_are_refused(codec):
    with pytest.raises(ValueError, match="audio_codes has shape"):
        codec.decode(torch.zeros(1, codec.num_codebooks + 1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="num_codebooks is 99"):
        codec.encode(torch.zeros(1, codec.hop_length), num_codebooks=99)


@strict
class StepsConfig(PreTrainedConfig):
    """The mean of each frame, in steps, and in finer steps what remains."""

    model_type = "outside_steps"
    sample_rate: int = 8000  # as in some configurations of transformers
    hop_length: int = 160
    num_codebooks: int = 5
    codebook_size: int = 8


class StepsModel(PreTrainedModel):
    config_class = StepsConfig

    def __init__(self, config):
        super().__init__(config)
        self.step = torch.nn.Parameter(torch.tensor(0.25))
        self.post_init()

    def encode(self, input_values):
        rest, codes = input_values.unflatten(1, (-1, self.config.hop_length)).mean(2), []
        for level in range(self.config.num_codebooks):
            step = self.step / 8**level
            codes.append((rest / step + 4).floor().clamp(0, 7).long())
            rest = rest - step * (codes[-1] - 3.5)
        return SimpleNamespace(audio_codes=torch.stack(codes, 1))

    def decode(self, audio_codes):
        steps = self.step / 8.0 ** torch.arange(audio_codes.shape[1])
        means = ((audio_codes - 3.5) * steps[:, None]).sum(1)
        return SimpleNamespace(audio_values=means.repeat_interleave(self.config.hop_length, 1))


class StepsCodec(AcousticCodec):
    config_class = StepsConfig
    model_class = StepsModel


@pytest.fixture
def steps_codec():
    register_acoustic_codec(StepsCodec)
    yield
    del ACOUSTIC_CODECS["outside_steps"], CODECS["outside_steps"]


@pytest.mark.usefixtures("steps_codec")
def test_a_codec_from_outside_runs_from_recordings_to_continuations(tmp_path):
    model = randomise(AudioLMModel(tiny_config(codec_config={"model_type": "outside_steps"})))
    model.codec.step.data.fill_(0.25)
    model.save_pretrained(tmp_path / "whole")
    loaded = AudioLMModel.from_pretrained(tmp_path / "whole")
    sound = 0.9 * torch.sin(torch.arange(8000) / 900)[None]
    codes = loaded.acoustic_codec.encode(sound)
    assert (codes.shape, loaded.sampling_rate) == ((1, 5, 50), 8000)
    means = sound.unflatten(1, (50, 160)).mean(2)
    torch.testing.assert_close(loaded.acoustic_codec.decode(codes)[:, ::160], means, rtol=0, atol=0.25 / 8**4)
    options = {"seed": 1, "continuation_length_s": 0.4, "min_continuation_length_s": 0.4}
    made = [each.generate(sound, **options) for each in (model, loaded)]
    assert torch.equal(made[0].audio_values, made[1].audio_values)
    assert made[0].audio_codes.shape == (1, 5, 50 + 20)
    model.codec.save_pretrained(tmp_path / "codec")
    assert type(load_codec(tmp_path / "codec")) is StepsCodec
    assert type(AutoModel.from_pretrained(tmp_path / "codec")) is StepsModel
    pair = load_tokenizers(tmp_path / "whole", tmp_path / "codec")
    (record,) = tokenize_recording(AudioRecord("one", sound[0].numpy(), 8000), pair)
    assert record.audio_codes.tolist() == codes[0].tolist()


def test_unchunked_encodec_agrees_with_transformers():
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**ENCODEC)).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    codec = wrap_acoustic_codec(model)
    audio = torch.randn(1, 5 * codec.hop_length)
    with torch.no_grad():
        expected = model.encode(audio[:, None], bandwidth=1.5)
        codes = codec.encode(audio)
        assert torch.equal(codes, expected.audio_codes[0])
        decoded = model.decode(expected.audio_codes, expected.audio_scales).audio_values[:, 0]
        assert torch.allclose(codec.decode(codes), decoded[:, : audio.shape[1]])


def test_stereo_encodec_is_refused():
    with pytest.raises(ValueError, match="mono"):
        build_acoustic_codec(EncodecConfig(**ENCODEC, audio_channels=2))


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="use one of soundstream"):
        build_acoustic_codec(Wav2Vec2Config())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int16])
def test_waveforms_are_real_floats(codec, dtype):
    with pytest.raises(TypeError, match="give floats"):
        codec.encode(torch.ones(1, codec.hop_length).to(dtype))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_waveforms_are_finite(codec, value):
    with pytest.raises(ValueError, match="row 0 that are NaN or infinite"):
        codec.encode(torch.full((1, codec.hop_length), value))


@pytest.mark.parametrize("value", [0.5, -1, torch.nan, 2])
def test_masks_are_zeros_and_ones(codec, value):
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        codec.encode(torch.zeros(1, codec.hop_length), torch.full((1, codec.hop_length), float(value)))


def test_codes_are_integers_in_range(codec):
    codes = torch.zeros(1, codec.num_codebooks, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match="give integers"):
        codec.decode(codes.float())
    for value in (-1, codec.codebook_size):
        with pytest.raises(ValueError, match="give 0 to 7"):
            codec.decode(codes + value)


ONE_PASS = {
    "soundstream": lambda model, codes: model.decode(codes).audio_values,
    "encodec": lambda model, codes: model.decoder(model.quantizer.decode(codes.transpose(0, 1)))[:, 0],
    "dac": lambda model, codes: model.decode(audio_codes=codes).audio_values,
    "mimi": lambda model, codes: model.decode(codes).audio_values[:, 0],
}
VARIANTS = {
    **{name: {} for name in ("encodec", "dac", "mimi")},
    "encodec not causal": {"use_causal_conv": False},
    "encodec normalized over time": {"norm_type": "time_group_norm"},
    "encodec dilated": {"num_residual_layers": 3, "dilation_growth_rate": 3, "num_lstm_layers": 2},
    "mimi of two layers": {"num_hidden_layers": 2, "sliding_window": 5},
    "dac of odd strides": {"downsampling_ratios": [3, 5, 5], "upsampling_ratios": [5, 5, 3]},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("window", some_slow([1, 7, 40, 1000], 7))
def test_windows_give_the_samples_of_one_pass(monkeypatch, variant, window):
    kind = variant.split()[0]
    config = CONFIGS[kind]()
    fields = {name: value for name, value in config.to_dict().items() if name != "hop_length"}
    codec = filled_codec(type(config)(**fields | VARIANTS[variant]))
    codes = torch.randint(8, (2, codec.num_codebooks, 150))
    with torch.no_grad():
        expected = ONE_PASS[kind](codec.model, codes)
    monkeypatch.setattr(codec_interface_audiolm, "DECODE_WINDOW_SAMPLES", window * codec.hop_length)
    decoded = codec.decode(codes)
    assert decoded.shape == (2, 150 * codec.hop_length)
    length = min(decoded.shape[1], expected.shape[1])
    assert length > 149 * codec.hop_length and not decoded[:, length:].any()
    torch.testing.assert_close(decoded[:, :length], expected[:, :length], rtol=1e-4, atol=1e-5 * float(expected.std()))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_known", some_slow([0, 1, 37], 1))
def test_codes_that_arrive_in_pieces_are_decoded_alike(monkeypatch, variant, num_known):
    kind = variant.split()[0]
    config = CONFIGS[kind]()
    fields = {name: value for name, value in config.to_dict().items() if name != "hop_length"}
    codec = filled_codec(type(config)(**fields | VARIANTS[variant]))
    monkeypatch.setattr(codec_interface_audiolm, "STREAM_WINDOWS_S", (2 / codec.frame_rate, 8 / codec.frame_rate))
    codes = torch.randint(8, (1, codec.num_codebooks, 90))
    windows = [*codec.decode_windows(iter([codes]), num_known)]
    for step in (1, 13):
        assert torch.equal(
            torch.cat([*codec.decode_windows(iter(codes.split(step, 2)), num_known)], 1), torch.cat(windows, 1)
        )
    if variant != "encodec normalized over time":  # of all frames
        ends = [2, 6, *range(14, 90 - num_known, 8), 90 - num_known]
        lengths = [num_known] * (num_known > 0) + [end - start for start, end in pairwise([0, *ends])]
        assert [window.shape[1] / codec.hop_length for window in windows] == lengths
    expected = codec.decode(codes)
    torch.testing.assert_close(torch.cat(windows, 1), expected, rtol=1e-4, atol=1e-5 * float(expected.std()))


@pytest.mark.parametrize("kind", ["encodec", "dac", "mimi"])
def test_no_layer_is_given_more_than_a_window(kind):
    codec = filled_codec(CONFIGS[kind]())
    lengths = []
    for layer in codec.model.modules():
        layer.register_forward_hook(
            lambda layer, given, output: lengths.extend(
                max(each.shape) for each in (*given, output) if hasattr(each, "shape")
            )
        )
    seconds = 60
    codec.decode(torch.randint(8, (1, codec.num_codebooks, int(seconds * codec.frame_rate))))
    assert max(lengths) < 2 * codec_interface_audiolm.DECODE_WINDOW_SAMPLES < seconds * codec.sampling_rate / 4
