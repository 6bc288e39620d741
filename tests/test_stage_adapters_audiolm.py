# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Adapters as users of PEFT put them on stages and the whole: what is saved is loaded again, or refused."""

import json

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from audiolm_hf import AudioLMModel
from audiolm_hf.stage_adapters_audiolm import base_name
from tests.helpers_checkpoint import tiny_model, tiny_processor

IDS = torch.arange(18).view(2, 9)


def lora(rank=4, **changes):
    return LoraConfig(**{"r": rank, "target_modules": "all-linear", "init_lora_weights": False} | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "base"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def model(base):
    torch.manual_seed(5)
    return AudioLMModel.from_pretrained(base)


@pytest.fixture(scope="module")
def stage_folder(base, tmp_path_factory):
    """A PEFT adapter of the coarse stage alone."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("coarse")
    get_peft_model(AudioLMModel.from_pretrained(base).coarse, lora()).save_pretrained(folder)
    return folder


def logits(model):
    return {name: stage(IDS).logits for name, stage in model.stages.items()}


def assert_same(first, second):
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def load_on_stage(model, folder):
    model.coarse.load_adapter(folder)


def add_to_stage(model, folder):
    model.coarse.add_adapter(lora(), "mine")


def wrap_in_place(model, folder):
    get_peft_model(model.coarse, lora())


def put_wrapped(model, folder):
    model.coarse = get_peft_model(model.coarse, lora())


def add_to_whole(model, folder):
    model.add_adapter(lora())


@pytest.mark.parametrize("adapt", [load_on_stage, add_to_stage, wrap_in_place, put_wrapped, add_to_whole])
def test_what_has_adapters_is_saved_with_its_base(model, stage_folder, base, tmp_path, adapt):
    plain = logits(model)
    adapt(model, stage_folder)
    expected = logits(model)
    assert not torch.equal(expected["coarse"], plain["coarse"])
    folder = base.parent / adapt.__name__
    model.save_pretrained(folder)
    assert_same(logits(AudioLMModel.from_pretrained(folder)), expected)
    texts = [path.read_text() for path in folder.rglob("*.json")]
    assert not any(str(base.parent) in text for text in texts)  # no path of this machine
    model.merge_and_unload()
    model.save_pretrained(tmp_path)
    again = AudioLMModel.from_pretrained(tmp_path)
    assert again.state_dict().keys() == tiny_model().state_dict().keys()
    for name, stage in again.stages.items():
        torch.testing.assert_close(stage(IDS).logits, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapt", [load_on_stage, add_to_stage, wrap_in_place, put_wrapped, add_to_whole])
def test_without_its_adapters_the_model_is_its_base(model, stage_folder, base, tmp_path, adapt):
    adapt(model, stage_folder)
    model.delete_adapter(model.active_adapters())
    assert model.active_adapters() == []
    model.save_pretrained(tmp_path)
    assert_same(AudioLMModel.from_pretrained(tmp_path).state_dict(), AudioLMModel.from_pretrained(base).state_dict())


def test_adapters_of_a_model_from_nowhere_are_not_saved(tmp_path):
    model = tiny_model()
    model.coarse.add_adapter(lora())
    with pytest.raises(ValueError, match="was not loaded from anywhere"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_wrapper_around_the_whole_saves_itself_and_is_loaded_again(model, base, tmp_path):
    wrapped = get_peft_model(
        model, lora(target_modules=r"(coarse|fine)\..*(q_proj|up_proj)", rank_pattern={"q_proj": 2})
    )
    for refused in (model, model.coarse):
        with pytest.raises(ValueError, match="save that PeftModel, or call its merge_and_unload first"):
            refused.save_pretrained(tmp_path / "refused")
    expected = logits(model)
    wrapped.save_pretrained(tmp_path)
    again = AudioLMModel.from_pretrained(base)
    again.load_adapter(tmp_path)
    assert_same(logits(again), expected)
    assert again.coarse.peft_config["default"].rank_pattern["model.layers.0.self_attn.q_proj"] == 2


def test_a_wrapped_stage_generates(model):
    model.coarse = get_peft_model(model.coarse, lora())
    options = {"continuation_length_s": 0.12, "min_continuation_length_s": 0.12, "seed": 3}
    wrapped = model.generate(**options).audio_codes
    bare = tiny_model()
    bare.coarse.add_adapter(lora(), "default")
    bare.coarse.load_state_dict(model.stages["coarse"].state_dict())
    assert torch.equal(bare.generate(**options).audio_codes, wrapped)


def test_layers_are_chosen_among_the_stages(model):
    model.add_adapter(lora(target_modules=["q_proj"]), "all")
    assert model.get_adapter_state_dict().keys() >= {
        f"{stage}.model.layers.0.self_attn.q_proj.lora_A.weight" for stage in model.stages
    }
    assert not any("lora_" in name for name, _ in model.semantic_tokenizer.named_modules())
    model.add_adapter(lora(target_modules=r"fine\..*v_proj"), "one")
    assert model._adapters() == {"semantic": ["all"], "coarse": ["all"], "fine": ["all", "one"]}
    model.set_adapter("one")
    plain = logits(tiny_model())
    assert torch.equal(logits(model)["coarse"], plain["coarse"])
    with pytest.raises(ValueError, match="no layer of the stages is called"):
        model.add_adapter(lora(target_modules=["qproj"]), "none")


def test_a_config_without_layers_takes_all_linear_ones_but_the_head(model):
    model.add_adapter(LoraConfig())
    adapted = {name.rpartition(".")[0] for name, _ in model.fine.named_modules() if name.endswith(".base_layer")}
    assert len(adapted) == 2 * 7 and "lm_head" not in adapted


def test_several_adapters_are_added_up(model):
    states = torch.randn(3, 64)
    plain = model.fine.model.layers[0].mlp.down_proj(states)
    changes = []
    for name in ("a", "b"):
        model.add_adapter(lora(), name)
        changes.append(model.fine.model.layers[0].mlp.down_proj(states) - plain)
    model.set_adapter(["a", "b"])
    assert model.active_adapters() == ["a", "b"]
    both = model.fine.model.layers[0].mlp.down_proj(states) - plain
    torch.testing.assert_close(both, sum(changes), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"The adapters \['a', 'b'\] are set, and one is saved at a time"):
        model.save_pretrained("unused")


def test_an_adapter_is_swapped_in_place(model, base):
    folders = [base.parent / name for name in ("first", "second")]
    for folder in folders:
        other = AudioLMModel.from_pretrained(base)
        other.add_adapter(lora())
        other.save_pretrained(folder)
    model.load_adapter(folders[0], "voice")
    layers = dict(model.named_modules()).keys()
    model.load_adapter(folders[1], "voice", hotswap=True)
    assert dict(model.named_modules()).keys() == layers
    assert_same(logits(model), logits(AudioLMModel.from_pretrained(folders[1])))
    with pytest.raises(ValueError, match="'new' is on the stages"):
        model.load_adapter(folders[0], "new", hotswap=True)


@pytest.mark.parametrize("part", ["whole", "stage"])
def test_what_is_no_adapter_of_layers_is_refused(model, part):
    target = model if part == "whole" else model.coarse
    with pytest.raises(TypeError, match="is of type dict; give a peft.LoraConfig"):
        target.add_adapter({"r": 4})
    with pytest.raises(ValueError, match="PromptTuningConfig puts vectors before the ids"):
        target.add_adapter(PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    target.add_adapter(lora())
    with pytest.raises(ValueError, match="There is an adapter 'default' already"):
        target.add_adapter(lora())
    with pytest.raises(ValueError, match="There is no adapter 'eve'; loaded are"):
        target.set_adapter("eve")


def test_a_failed_load_leaves_nothing_behind(model, base):
    folder = base.parent / "half"
    other = AudioLMModel.from_pretrained(base)
    other.add_adapter(lora())
    other.save_pretrained(folder)
    (folder / "fine" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    with pytest.raises(ValueError, match="target_modules"):
        model.load_adapter(folder)
    assert model._adapters() == {}
    assert model.state_dict().keys() == tiny_model().state_dict().keys()


def test_an_adapter_finds_its_base_beside_it_after_both_moved(model, base, tmp_path):
    model.add_adapter(lora())
    expected = logits(model)
    model.save_pretrained(base.parent / "voice")
    (tmp_path / "elsewhere").mkdir()
    for name in ("base", "voice"):
        (tmp_path / "elsewhere" / name).symlink_to(base.parent / name)
    assert_same(logits(AudioLMModel.from_pretrained(tmp_path / "elsewhere" / "voice")), expected)
    assert base_name(str(base), base) == "./." and base_name(str(base)) == "base"
