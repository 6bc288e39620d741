# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from audiolm_hf.data.loading import (
    float8_matrices,
    float16_tensors,
    load_codec,
    load_semantic_tokenizer,
    round_to_float16_,
)
from audiolm_hf.data.tokenizers import tokenizers_hash


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
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 500.0
    assert float16_tensors(model)["lm_head.weight"][0, 0] == 500.0
    with pytest.raises(ValueError, match=r"model.embed_tokens.weight has .* range of float8 \(448\)"):
        float8_matrices(model.state_dict(), ["model"])
