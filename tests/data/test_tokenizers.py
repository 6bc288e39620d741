# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch
from transformers import AutoModel, DacConfig, EncodecConfig

from audiolm_hf.acoustic_codec_audiolm import wrap_acoustic_codec
from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data import tokenizers as tokenizers_module
from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer
from audiolm_hf.data.tokenizers import (
    TokenizerPair,
    load_tokenizers,
    token_info,
    tokenize_recording,
    tokenizers_hash,
)
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from tests.conftest import randomise, tiny_config
from tests.helpers_tokens import INFO

RATE = 16000
TINY_ENCODEC = {
    "num_filters": 4,
    "hidden_size": 8,
    "codebook_size": 8,
    "upsampling_ratios": [8, 5],
    "num_lstm_layers": 1,
}
TINY_DAC = {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "downsampling_ratios": [2, 4], "n_codebooks": 2}


@pytest.fixture(scope="module")
def pair(tiny_audiolm):
    return TokenizerPair(tiny_audiolm.semantic_tokenizer, tiny_audiolm.acoustic_codec)


def noise(num_samples):
    return np.random.default_rng(0).uniform(-0.5, 0.5, num_samples).astype(np.float32)


def test_long_recording_is_cut_on_the_grid(pair, monkeypatch):
    monkeypatch.setattr(tokenizers_module, "SEGMENT_LENGTH_S", 0.2)
    monkeypatch.setattr(tokenizers_module, "LAST_SEGMENT_S", 0.05)
    recording = AudioRecord("a", noise(8000), RATE, speaker="ann", accent="irish", source="there")
    records = list(tokenize_recording(recording, pair, start_s=10.0))
    assert [record.start for record in records] == [10.0, 10.2, 10.4]
    assert [len(record.semantic_tokens) for record in records] == [5, 5, 3]
    assert [record.audio_codes.shape for record in records] == [(5, 10), (5, 10), (5, 5)]
    assert [record.ends_recording for record in records] == [False, False, True]
    assert sum(record.duration for record in records) == pytest.approx(0.5)
    assert {(r.id, r.speaker, r.accent, r.source) for r in records} == {("a", "ann", "irish", "there")}
    # 0.3126 s: the last 0.0126 s are too short for a segment of their own
    joined = list(tokenize_recording(AudioRecord("a", noise(5001), RATE), pair))
    assert [round(record.duration, 4) for record in joined] == [0.2, 0.1126]


def test_hash_follows_weights_and_configuration_and_nothing_else(tiny_audiolm, tmp_path):
    semantic_tokenizer, codec = tiny_audiolm.semantic_tokenizer, tiny_audiolm.codec
    before = tokenizers_hash(semantic_tokenizer, codec)
    semantic_tokenizer.save_pretrained(tmp_path / "tokenizer")
    codec.save_pretrained(tmp_path / "codec")
    loaded = load_semantic_tokenizer(tmp_path / "tokenizer"), load_codec(tmp_path / "codec").model
    assert tokenizers_hash(*loaded) == before
    with torch.no_grad():
        loaded[0].centroids[0, 0] += 1e-3
    assert tokenizers_hash(*loaded) != before
    loaded = load_semantic_tokenizer(tmp_path / "tokenizer"), load_codec(tmp_path / "codec").model
    loaded[1].config.window_length = 960
    assert tokenizers_hash(*loaded) != before


def test_hash_covers_the_weights_that_decide_codes(tiny_audiolm):
    codec = randomise(SoundStreamModel(tiny_config().codec_config))
    check_hash_covers_what_decides(tiny_audiolm.semantic_tokenizer, codec)


@pytest.mark.parametrize("config", [EncodecConfig(**TINY_ENCODEC), DacConfig(**TINY_DAC)], ids=lambda c: c.model_type)
def test_hash_covers_the_weights_that_decide_codes_of_other_codecs(tiny_audiolm, config):
    codec = AutoModel.from_config(config).eval()
    check_hash_covers_what_decides(tiny_audiolm.semantic_tokenizer, codec)


@torch.no_grad()
def check_hash_covers_what_decides(semantic_tokenizer, codec):
    """A tensor that the hash leaves out changes no code even when it is wiped out; the decoder's are left out."""
    before = tokenizers_hash(semantic_tokenizer, codec)
    clip = torch.from_numpy(noise(3200))[None]
    codes = wrap_acoustic_codec(codec).encode(clip)
    left_out = []
    for name, tensor in codec.state_dict().items():
        original = tensor.clone()
        tensor.copy_(~tensor if tensor.dtype == torch.bool else -3 * tensor - 1)
        if tokenizers_hash(semantic_tokenizer, codec) == before:
            left_out.append(name)
        else:
            tensor.copy_(original)  # those left out stay changed, all of them together
    assert wrap_acoustic_codec(codec).encode(clip).equal(codes)
    assert {name for name in codec.state_dict() if name.startswith("decoder.")} <= set(left_out)
    assert not any(name.startswith("encoder.") for name in left_out)
    assert any(name.startswith("quantizer.") for name in set(codec.state_dict()) - set(left_out))


def test_hash_passes_over_settings_of_the_decoder_and_of_learning(tiny_audiolm):
    before = tokenizers_hash(tiny_audiolm.semantic_tokenizer, tiny_audiolm.codec)
    codec_config = tiny_config().codec_config.to_dict()
    other = SoundStreamModel(SoundStreamConfig(**codec_config | {"num_decoder_layers": 3, "codebook_decay": 0.5}))
    encoding = {k: v for k, v in tiny_audiolm.codec.state_dict().items() if not k.startswith("decoder.")}
    other.load_state_dict(encoding, strict=False)
    assert tokenizers_hash(tiny_audiolm.semantic_tokenizer, other) == before
    other.config.num_codebooks = 4
    assert tokenizers_hash(tiny_audiolm.semantic_tokenizer, other) != before


def test_vocabularies_fit_sixteen_bits(pair, tiny_audiolm, tmp_path):
    info = token_info(pair)
    assert dataclasses.replace(INFO, tokenizers=info.tokenizers) == info
    tiny_audiolm.semantic_tokenizer.save_pretrained(tmp_path)
    other = TokenizerPair(load_semantic_tokenizer(tmp_path), pair.codec)
    other.semantic_tokenizer.config.num_semantic_tokens = 40000
    with pytest.raises(ValueError, match="at most 32768"):
        token_info(other)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_device_that_is_not_there_is_an_error(tiny_audiolm, tmp_path, device):
    tiny_audiolm.semantic_tokenizer.save_pretrained(tmp_path / "tokenizer")
    tiny_audiolm.codec.save_pretrained(tmp_path / "codec")
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        load_tokenizers(tmp_path / "tokenizer", tmp_path / "codec", device=device)
