# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The recipe of public parts, with tiny ones of the same kinds: speech encoder, codec, text language model."""

import shutil

import pytest
import torch
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM, Wav2Vec2FeatureExtractor

import audiolm_hf
from audiolm_hf import cli
from tests.conftest import TINY_BACKBONE, some_slow
from tests.helpers_checkpoint import CLIP, DATA, OTHER_CLIP, ROOT
from tests.helpers_rates import CODECS, ENCODERS, filled_codec

SMALL = """
data.folder={data} data.train=[a.flac,b.flac] data.validation=[c.flac]
output_folder={runs}
steps.centroids.encoder={models}/encoder steps.centroids.layer=2
steps.centroids.num_semantic_tokens=16 steps.centroids.max_features=1000
steps.tokens.codec={models}/codec steps.checkpoint.codec={models}/codec
steps.semantic.warm_start={models}/text
steps.semantic.num_coarse_codebooks=2 steps.coarse.num_coarse_codebooks=2
steps.coarse.backbone.hidden_size=16 steps.coarse.backbone.intermediate_size=16
steps.coarse.backbone.num_hidden_layers=1 steps.coarse.backbone.num_attention_heads=2
steps.coarse.backbone.num_key_value_heads=2 steps.semantic.window_length_s=2 steps.coarse.window_length_s=1
max_steps=2 warmup_steps=1 eval_steps=1 batch_tokens=512 use_cpu=true bf16=false
"""


@pytest.mark.parametrize(
    ("codec", "encoder"), some_slow([("mimi", "hubert"), ("dac", "wav2vec2-bert")], ("mimi", "hubert"))
)
def test_the_recipe_runs_from_parts_as_they_are_published(tmp_path, codec, encoder):
    models, data = tmp_path / "models", tmp_path / "data"
    data.mkdir()
    for name, clip in zip("abc", (CLIP, OTHER_CLIP, DATA / "librispeech_7859-102519-0047.flac"), strict=True):
        shutil.copy(clip, data / f"{name}.flac")
    torch.manual_seed(0)
    AutoModel.from_config(ENCODERS[encoder]).save_pretrained(models / "encoder")
    if encoder == "hubert":
        Wav2Vec2FeatureExtractor().save_pretrained(models / "encoder")
    filled_codec(CODECS[codec]).model.save_pretrained(models / "codec")
    text = LlamaForCausalLM(LlamaConfig(**{**TINY_BACKBONE, "vocab_size": 40}))
    text.save_pretrained(models / "text")
    small = SMALL.format(data=data, models=models, runs=tmp_path / "runs").split()
    assert cli.main(["train", "--config", str(ROOT / "configs/public/recipe.yaml"), *small]) == 0
    folder = tmp_path / "runs" / "checkpoint"
    continue_audio = audiolm_hf.pipeline(folder, device="cpu")
    result = continue_audio(CLIP, continuation_length_s=0.4, seed=0)
    assert result["sampling_rate"] == CODECS[codec].sampling_rate
    assert continue_audio.model.semantic.config.backbone_config.hidden_size == TINY_BACKBONE["hidden_size"]
