# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from audiolm_hf.modeling_stage_audiolm import AudioLMSemanticModel
from audiolm_hf.training.stages.training import build_stage_trainer, train_stage
from tests.helpers_stages import BACKBONE, config_of
from tests.helpers_tokens import write_tokens

OPT = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 32}
MODELS = {
    "llama": BACKBONE | {"tie_word_embeddings": False},
    "qwen2": BACKBONE | {"tie_word_embeddings": True},
    "opt": OPT,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    return write_tokens(folder / "train", [30, 12, 25], seed=0), write_tokens(folder / "validation", [20, 11])


def save_language_model(folder, model_type, auto_class=AutoModelForCausalLM, dtype=torch.bfloat16, **changes):
    """A language model of a hundred words, with random weights."""
    config = AutoConfig.for_model(model_type, vocab_size=100, **MODELS.get(model_type, BACKBONE) | changes)
    auto_class.from_config(config).to(dtype).save_pretrained(folder)
    return folder


def test_decoder_is_kept_and_embeddings_are_new(folders, tmp_path):
    for model_type in MODELS:
        folder = save_language_model(tmp_path / model_type, model_type)
        stage = build_stage_trainer(config_of(folders, tmp_path, warm_start=str(folder), backbone={})).model
        text = AutoModel.from_pretrained(folder, dtype="float32")
        table = text.get_input_embeddings().weight
        kept = {name: tensor for name, tensor in text.state_dict().items() if tensor.data_ptr() != table.data_ptr()}
        assert len(kept) > 10
        assert all(tensor.equal(stage.model.state_dict()[name]) for name, tensor in kept.items())
        assert {parameter.dtype for parameter in stage.parameters()} == {torch.float32}
        assert stage.get_input_embeddings().weight.shape == (stage.config.layout_size, 32)
        assert stage.lm_head.weight is stage.get_input_embeddings().weight
        assert float(stage.get_input_embeddings().weight.detach().std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "opt"])
def test_training_runs_and_its_result_loads(folders, tmp_path, model_type):
    folder = save_language_model(tmp_path / "text", model_type)
    final = train_stage(config_of(folders, tmp_path / "run", warm_start=str(folder), backbone={}, max_steps=8))
    model = AudioLMSemanticModel.from_pretrained(final)
    assert model.config.backbone_config.model_type == model_type
    losses = [
        entry["loss"] for entry in json.loads((tmp_path / "run" / "report.json").read_text())["log"] if "loss" in entry
    ]
    assert losses[-1] < losses[0]
    assert model.lm_head.weight is model.get_input_embeddings().weight
    ids = model.generate(torch.tensor([[model.config.bos_token_id, 3, 4]]), max_new_tokens=5, do_sample=False)
    assert ids.shape[1] <= 8


def test_a_bare_decoder_and_changes_that_fit_are_taken(folders, tmp_path):
    folder = save_language_model(tmp_path / "text", "llama", AutoModel)
    backbone = {"model_type": "llama", "hidden_size": 32, "attention_dropout": 0.1}
    model = build_stage_trainer(config_of(folders, tmp_path, warm_start=str(folder), backbone=backbone)).model
    assert model.config.backbone_config.attention_dropout == 0.1


@pytest.mark.parametrize(
    ("model_type", "backbone", "message"),
    [
        (
            "llama",
            {"model_type": "qwen2"},
            "backbone.model_type is 'qwen2', but .* holds a 'llama'",
        ),
        ("llama", {"hidden_size": 64}, "does not fit the stage's: 19 weights are missing or of another shape"),
        ("llama", {"num_hidden_layers": 1}, r"9 weights .* for example layers.1.*Leave the sizes out"),
        ("llama", {"max_position_embeddings": 10}, "which is up to 22 ids; .* has 10 positions. Shorten the window"),
        ("bert", {}, "'bert', which sees the tokens that it is to predict"),
        ("t5", {}, "'t5', which is not one decoder"),
    ],
)
def test_what_does_not_fit_is_an_error(folders, tmp_path, model_type, backbone, message):
    changes = {"d_model": 32, "num_layers": 1, "d_ff": 32, "num_heads": 2, "d_kv": 16} if model_type == "t5" else {}
    folder = save_language_model(tmp_path / "text", model_type, AutoModel, torch.float32, **changes)
    with pytest.raises((ValueError, StrictDataclassClassValidationError), match=message):
        build_stage_trainer(config_of(folders, tmp_path, warm_start=str(folder), backbone=backbone))


def test_a_missing_folder_is_named(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no .*nowhere/config.json"):
        build_stage_trainer(config_of(folders, tmp_path, warm_start=str(tmp_path / "nowhere"), backbone={}))
