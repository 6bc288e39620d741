# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest
import soundfile as sf
import torch

from audiolm_hf.data import tokens as tokens_module
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.loading import float16_tensors, load_codec, load_semantic_tokenizer, round_to_float16_
from audiolm_hf.data.tokens import TokenDataset, token_info, tokenize_recordings, tokenizers_hash
from tests.helpers_tokens import INFO, write_tokens

RATE = 16000


@pytest.fixture(scope="module")
def tokenizers(tiny_audiolm):
    return tiny_audiolm.semantic_tokenizer, tiny_audiolm.acoustic_codec


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "audio"
    folder.mkdir()
    for number, length in enumerate((8000, 5001, 12000, 6400, 7000)):
        sf.write(folder / f"{number}.flac", rng.uniform(-0.5, 0.5, length), RATE)
    return AudioSource(folder, RATE)


def rows(dataset):
    return [(r.id, r.duration, r.semantic_tokens.tolist(), r.audio_codes.tolist()) for r in dataset]


def test_tokens_are_those_of_the_tokenizers(source, tokenizers, tmp_path):
    semantic_tokenizer, codec = tokenizers
    dataset = tokenize_recordings(source, semantic_tokenizer, codec, tmp_path / "out", rows_per_shard=2)
    assert [record.id for record in dataset] == source.ids
    for record, recording in zip(dataset, source, strict=True):
        clip = torch.from_numpy(recording.array)[None]
        with torch.inference_mode():
            expected = semantic_tokenizer.tokenize(clip).semantic_tokens[0]
            codes = codec.encode(clip)[0]
        np.testing.assert_array_equal(record.semantic_tokens, expected)
        np.testing.assert_array_equal(record.audio_codes, codes)
        assert len(record.semantic_tokens) == -(-len(recording.array) // 640)
        assert record.audio_codes.shape == (codec.num_codebooks, -(-len(recording.array) // 320))
        assert record.duration == pytest.approx(recording.duration)
        assert record.ends_recording
    assert dataset.duration == pytest.approx(source.durations.sum())


def test_interrupted_run_goes_on_without_loss_or_doubles(source, tokenizers, tmp_path, monkeypatch):
    whole = tokenize_recordings(source, *tokenizers, tmp_path / "whole", rows_per_shard=2)
    calls = []
    original = tokens_module._tokenize_recording

    def stops_at_the_fourth(recording, *arguments):
        calls.append(recording.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(recording, *arguments)

    monkeypatch.setattr(tokens_module, "_tokenize_recording", stops_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        tokenize_recordings(source, *tokenizers, tmp_path / "out", rows_per_shard=2)
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["tokens-00000.parquet"]
    (tmp_path / "out" / "tokens-00001.parquet.unfinished").write_bytes(b"half a shard")
    resumed = tokenize_recordings(source, *tokenizers, tmp_path / "out", rows_per_shard=2)
    assert rows(resumed) == rows(whole)
    assert calls[4:] == source.ids[2:]  # the finished shard was not made again


def test_long_recording_is_cut_on_the_grid(source, tokenizers, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "SEGMENT_LENGTH_S", 0.2)
    monkeypatch.setattr(tokens_module, "LAST_SEGMENT_S", 0.05)
    dataset = tokenize_recordings(source, *tokenizers, tmp_path / "out")
    first = [record for record in dataset if record.id == source.ids[0]]
    assert [record.start for record in first] == [0.0, 0.2, 0.4]
    assert [record.ends_recording for record in first] == [False, False, True]
    assert [len(record.semantic_tokens) for record in first] == [5, 5, 3]
    second = [record for record in dataset if record.id == source.ids[1]]
    assert [round(record.duration, 4) for record in second] == [0.2, 0.1126]


def test_broken_recording_is_left_out(tokenizers, tmp_path):
    sf.write(tmp_path / "a.wav", np.full(8000, 0.1), RATE, subtype="FLOAT")
    nan = np.full(8000, 0.1, np.float32)
    nan[5] = np.nan
    sf.write(tmp_path / "b.wav", nan, RATE, subtype="FLOAT")
    source = AudioSource(tmp_path, RATE)
    dataset = tokenize_recordings(source, *tokenizers, tmp_path / "out")
    assert len(dataset) == 1
    assert "NaN" in source.skipped[0].reason


def test_folder_of_other_tokens_is_refused(source, tokenizers, tmp_path):
    tokenize_recordings(source, *tokenizers, tmp_path / "out")
    with pytest.raises(ValueError, match="other rows_per_shard than asked"):
        tokenize_recordings(source, *tokenizers, tmp_path / "out", rows_per_shard=3)
    with pytest.raises(ValueError, match="other recordings than asked"):
        tokenize_recordings(AudioSource(source.paths[0] / "0.flac", RATE), *tokenizers, tmp_path / "out")


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
    loaded[1].config.codebook_decay = 0.5
    assert tokenizers_hash(*loaded) != before


def test_tokenizers_must_share_a_rate_and_fit_sixteen_bits(tokenizers, tiny_audiolm, tmp_path):
    semantic_tokenizer, codec = tokenizers
    info = token_info(semantic_tokenizer, codec)
    assert dataclasses.replace(INFO, tokenizers=info.tokenizers) == info
    tiny_audiolm.semantic_tokenizer.save_pretrained(tmp_path)
    other = load_semantic_tokenizer(tmp_path)
    other.config.sampling_rate = 8000
    with pytest.raises(ValueError, match="8000 Hz and the codec at 16000"):
        token_info(other, codec)
    other.config.sampling_rate, other.config.num_semantic_tokens = 16000, 40000
    with pytest.raises(ValueError, match="at most 32768"):
        token_info(other, codec)


def test_reading_checks_the_folders(tmp_path):
    first = write_tokens(tmp_path / "first", [4, 5])
    assert len(TokenDataset([first, write_tokens(tmp_path / "second", [3])])) == 3
    with pytest.raises(FileNotFoundError, match=r"no .*tokens\.json"):
        TokenDataset(tmp_path)
    with pytest.raises(ValueError, match="different tokenizers"):
        TokenDataset([first, write_tokens(tmp_path / "x", [3], info=dataclasses.replace(INFO, tokenizers="0"))])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "tokens.json").write_text(json.dumps(dataclasses.asdict(INFO)))
    with pytest.raises(ValueError, match="hold no tokens"):
        TokenDataset(tmp_path / "empty")


def test_parts_are_loaded_from_a_whole_model_too(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path / "whole")
    tiny_audiolm.coarse.save_pretrained(tmp_path / "coarse")
    assert tokenizers_hash(load_semantic_tokenizer(tmp_path / "whole"), load_codec(tmp_path / "whole").model) == (
        tokenizers_hash(tiny_audiolm.semantic_tokenizer, tiny_audiolm.codec)
    )
    with pytest.raises(ValueError, match="audiolm_coarse"):
        load_semantic_tokenizer(tmp_path / "coarse")
    with pytest.raises(ValueError, match="audiolm_coarse"):
        load_codec(tmp_path / "coarse")
    with pytest.raises(FileNotFoundError, match=r"no .*config\.json; give a folder"):
        load_codec(tmp_path)


def test_float16_rounding_keeps_centroids_codebooks_and_ties(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path)
    model = type(tiny_audiolm).from_pretrained(tmp_path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stored = float16_tensors(model)
    assert stored["coarse.lm_head.weight"] is stored["coarse.model.embed_tokens.weight"]
    round_to_float16_(model)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert tensor.equal(stored[name].to(tensor.dtype))
        if name.endswith(("centroids", "codebook", "feature_mean")):
            assert stored[name].dtype == torch.float32
            assert tensor.equal(before[name])
    assert any(not tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_weights_beyond_float16_are_refused(tiny_audiolm, tmp_path):
    tiny_audiolm.coarse.save_pretrained(tmp_path)
    model = type(tiny_audiolm.coarse).from_pretrained(tmp_path)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="range of float16"):
        float16_tensors(model)
