# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A folder of another model, of none, or with a damaged `config.json`: one clear error from every way in."""

import re

import pytest
import torch
from transformers import BertConfig, BertModel, pipeline

import audiolm_hf
from audiolm_hf import AudioLMModel, cli
from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMConfig, SoundStreamConfig
from tests.helpers_checkpoint import CLIP

FOLDERS = {
    '{"model_type": "bert"}': "(of type|a) 'bert'",
    '{"model_type": "unheard-of"}': "(of type|a) 'unheard-of'",
    "{}": "model_type None|no config.json with a model_type",
    "[1]": "holds a list, not an object",
    "{junk": "(cannot be read as JSON|not a valid JSON file)",
    "\x00": "(cannot be read as JSON|not a valid JSON file)",
}
DATA = str(CLIP)
VERBS = {
    "continue": ["continue", DATA, "-o", "x.wav", "--checkpoint"],
    "detect": ["detect", DATA, "--detector"],
    "detector": ["evaluate", "detector", "--data", DATA, "--detector"],
    "demo": ["demo", "--checkpoint"],
    "push": ["push"],
    "codec": ["evaluate", "codec", "--data", DATA, "--codec"],
    "tokens": ["evaluate", "tokens", "--data", DATA, "--train-data", DATA, "--checkpoint"],
    "likelihood": ["evaluate", "likelihood", "--train-tokens", ".", "--test-tokens", ".", "--checkpoint"],
    "continuation": ["evaluate", "continuation", "--data", DATA, "--checkpoint"],
    "voice": ["evaluate", "voice", "--data", DATA, "--checkpoint"],
    "benchmark": ["benchmark", "generation", "--checkpoint"],
    "tokenize": ["tokenize", "--codec", ".", "--data", DATA, "-o", "tokens", "--tokenizer"],
}


@pytest.fixture(params=FOLDERS, ids=["bert", "unknown", "nothing", "list", "junk", "binary"])
def folder(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(request.param)
    return "other", FOLDERS[request.param]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_in_one_line_what_a_folder_holds(verb, folder, capsys):
    name, message = folder
    status = cli.main([*VERBS[verb], name, *(["user/name"] if verb == "push" else [])])
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 1 and len(lines) == 1 and "other" in lines[0], lines
    assert re.search(message, lines[0]), lines


def test_every_class_and_pipeline_refuses_it(folder):
    name, message = folder
    for load in (
        AudioLMModel.from_pretrained,
        AudioLMConfig.from_pretrained,
        SoundStreamConfig.from_pretrained,
        audiolm_hf.pipeline,
    ):
        with pytest.raises((ValueError, OSError), match=message):
            load(name)


def test_a_part_is_found_in_the_whole_but_not_the_whole_in_a_part(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path / "whole")
    tiny_audiolm.coarse.save_pretrained(tmp_path / "coarse")
    coarse = AudioLMCoarseConfig.from_pretrained(tmp_path / "whole")
    assert coarse.num_semantic_tokens == tiny_audiolm.coarse.config.num_semantic_tokens
    with pytest.raises(ValueError, match="of type 'audiolm_coarse'; AudioLMConfig is for type 'audiolm'"):
        AudioLMModel.from_pretrained(tmp_path / "coarse")


def test_the_pipeline_refuses_another_model_and_a_dtype_that_is_none(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    bert = BertModel(BertConfig(vocab_size=8, **sizes))
    processor = audiolm_hf.AudioLMProcessor.from_pretrained(audiolm_hf.checkpoint())
    with pytest.raises(ValueError, match="The model is of type 'bert'; give one of type 'audiolm'"):
        pipeline("audio-continuation", model=bert, processor=processor)
    for dtype in ("bfloat", torch.int8, {"coarse_config": "bfloat"}):
        with pytest.raises(ValueError, match="is .*; give one of torch's float32, bfloat16, float16, float64"):
            pipeline("audio-continuation", model=audiolm_hf.checkpoint(), dtype=dtype)


def test_a_folder_without_a_model_or_without_its_processor_is_named(tiny_audiolm, tmp_path):
    (tmp_path / "run").mkdir()
    for load in (AudioLMModel.from_pretrained, AudioLMConfig.from_pretrained, audiolm_hf.pipeline):
        with pytest.raises(ValueError, match=r"run has no config\.json with a model_type; give a folder"):
            load(tmp_path / "run")
    tiny_audiolm.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"model has no processor_config\.json; call processor\.save_pretrained"):
        audiolm_hf.pipeline(tmp_path / "model")
    processor = audiolm_hf.AudioLMProcessor(audiolm_hf.AudioLMFeatureExtractor())
    assert audiolm_hf.pipeline(tmp_path / "model", processor=processor).model is not None
