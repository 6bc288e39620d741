# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from audiolm_hf import AudioLMModel, add_code, checkpoint
from audiolm_hf.adapter_folder_audiolm import ADAPTER_FILE, fingerprint, read_adapter_info
from audiolm_hf.adapters_audiolm import _share_quantization
from audiolm_hf.stage_adapters_audiolm import base_name
from tests.helpers_checkpoint import CLIP, run_python, tiny_model, tiny_processor

OPTIONS = {"continuation_length_s": 0.12, "min_continuation_length_s": 0.12, "seed": 3}

WITHOUT_PACKAGE = """
import json, sys
sys.modules["audiolm_hf"] = None  # hides the package, also an installed one
import numpy as np
from transformers import pipeline
folder, clip, options, output = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
pipe = pipeline("audio-continuation", model=folder, device="cpu", trust_remote_code=True)
assert type(pipe.model).__module__.startswith("transformers_modules.")
np.save(output, pipe(clip, **options)["audio"])
"""


def codes(model):
    """What the model makes of one prompt."""
    prompt = torch.sin(torch.arange(1920) / 20)[None] * 0.3
    return model.generate(prompt, **OPTIONS).audio_codes


def write_adapter(base, folder, stages, seed):
    """An adapter folder with random adapters on some stages of a checkpoint."""
    model = AudioLMModel.from_pretrained(base)
    generator = torch.Generator().manual_seed(seed)
    for stage in stages:
        adapted = model.stages[stage]
        adapted.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"), "new")
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.data = torch.randn(weight.shape, generator=generator)
    model.set_adapter("new")
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base, an adapter of its coarse and fine stages, and one of its coarse and semantic stages."""
    folder = tmp_path_factory.mktemp("adapters")
    tiny_model().save_pretrained(folder / "base")
    tiny_processor().save_pretrained(folder / "base")
    write_adapter(folder / "base", folder / "ann", ["coarse", "fine"], seed=1)
    write_adapter(folder / "base", folder / "bob", ["coarse", "semantic"], seed=2)
    return folder


def test_folder_holds_peft_adapters_and_names_its_base(folders):
    files = {path.relative_to(folders / "ann").as_posix() for path in (folders / "ann").rglob("*.*")}
    for stage in ("coarse", "fine"):
        assert {f"{stage}/adapter_config.json", f"{stage}/adapter_model.safetensors"} <= files
    assert not any(name.startswith("semantic/") or name == "model.safetensors" for name in files)
    info = read_adapter_info(folders / "ann")
    assert info.base == "../base"
    assert info.stages == {name: fingerprint(getattr(tiny_model(), name)) for name in ("coarse", "fine")}
    assert read_adapter_info(folders / "base") is None
    assert base_name(checkpoint("speech-tiny")) == "speech-tiny"
    assert base_name("user/name") == "user/name"


def test_folder_loads_like_a_checkpoint(folders):
    base = AudioLMModel.from_pretrained(folders / "base")
    by_hand = AudioLMModel.from_pretrained(folders / "base")
    by_hand.load_adapter(folders / "ann", "ann")
    expected = codes(by_hand)
    assert not expected.equal(codes(base))
    for load in (AudioLMModel.from_pretrained, AutoModel.from_pretrained):
        model = load(str(folders / "ann"))
        assert not model.training
        assert codes(model).equal(expected)
    pipe = pipeline("audio-continuation", model=str(folders / "ann"))
    assert pipe.model.active_adapters() == ["default"]
    assert len(pipe(str(CLIP), **OPTIONS)["audio"]) > 1920
    pipe.save_pretrained(folders / "again")  # the base is still found: it is not the folder loaded from
    assert codes(AudioLMModel.from_pretrained(folders / "again")).equal(expected)


def test_stage_folder_is_read_by_peft_and_by_transformers(folders):
    composite = AudioLMModel.from_pretrained(folders / "ann").coarse
    ids = torch.randint(0, 20, (2, 9))
    expected = composite(ids).logits
    one = PeftModel.from_pretrained(tiny_model().coarse, folders / "ann" / "coarse")
    assert torch.equal(one(ids).logits, expected)
    other = tiny_model().coarse
    other.load_adapter(folders / "ann" / "coarse")
    assert torch.equal(other(ids).logits, expected)
    assert not torch.equal(tiny_model().coarse(ids).logits, expected)


def test_adapters_are_switched(folders, caplog):
    model = AudioLMModel.from_pretrained(folders / "base")
    plain = codes(model)
    model.load_adapter(folders / "ann", "ann")
    ann = codes(model)
    model.load_adapter(folders / "bob", "bob")
    bob = codes(model)
    assert "MISSING" not in caplog.text
    assert model.active_adapters() == ["bob"]
    only_bob = AudioLMModel.from_pretrained(folders / "bob")
    assert codes(only_bob).equal(bob)  # ann's fine stage is off
    model.set_adapter("ann")
    assert codes(model).equal(ann)
    model.disable_adapters()
    assert codes(model).equal(plain)
    model.enable_adapters()
    assert codes(model).equal(ann)
    model.delete_adapter("ann")
    assert model.active_adapters() == ["bob"]
    assert codes(model).equal(bob)
    model.delete_adapter("bob")
    assert model.active_adapters() == []
    assert codes(model).equal(plain)
    assert len({tuple(each.flatten().tolist()) for each in (plain, ann, bob)}) == 3


def test_merged_model_is_a_plain_one_with_the_same_outputs(folders, tmp_path):
    model = AudioLMModel.from_pretrained(folders / "ann")
    model.load_adapter(folders / "bob", "bob")
    model.set_adapter("default")
    ids = torch.randint(0, 20, (2, 9))
    before = {name: stage(ids).logits for name, stage in model.stages.items()}
    expected = codes(model)
    assert model.merge_and_unload() is model
    for name, stage in model.stages.items():
        torch.testing.assert_close(stage(ids).logits, before[name], rtol=1e-4, atol=1e-4)
    assert codes(model).equal(expected)
    assert model.state_dict().keys() == tiny_model().state_dict().keys()
    model.save_pretrained(tmp_path)
    again = AudioLMModel.from_pretrained(tmp_path)
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not (tmp_path / ADAPTER_FILE).exists()
    semantic = model.semantic.state_dict()  # bob's, not ann's
    assert all(tensor.equal(semantic[name]) for name, tensor in tiny_model().semantic.state_dict().items())


def test_adapter_of_the_whole_model_in_one_is_loaded(folders, tmp_path):
    model = get_peft_model(tiny_model(), LoraConfig(target_modules=r"coarse\..*q_proj", init_lora_weights=False))
    model.save_pretrained(tmp_path)
    ids = torch.randint(0, 20, (2, 9))
    plain = AudioLMModel.from_pretrained(folders / "base")
    plain.load_adapter(tmp_path)
    assert torch.equal(plain.coarse(ids).logits, model.coarse(ids).logits)


def test_adapter_of_another_base_is_refused(folders, tmp_path):
    model = tiny_model()
    model.coarse.model.norm.weight.data *= 1.1
    with pytest.raises(ValueError, match="The coarse stage of this model is not the one"):
        model.load_adapter(folders / "ann")
    assert not model.coarse._hf_peft_config_loaded
    half = tiny_model().to(torch.bfloat16)
    half.load_adapter(folders / "ann")  # the same weights, rounded
    info = json.loads((folders / "ann" / ADAPTER_FILE).read_text())
    (tmp_path / ADAPTER_FILE).write_text(json.dumps(info | {"base": "speech-huge"}))
    with pytest.raises(ValueError, match="belongs to the checkpoint 'speech-huge', which is not found"):
        AudioLMModel.from_pretrained(tmp_path)


def test_base_of_other_sizes_is_refused(folders, tmp_path):
    info = json.loads((folders / "ann" / ADAPTER_FILE).read_text())
    config = json.loads((folders / "ann" / "config.json").read_text())
    config["coarse_config"]["backbone_config"]["intermediate_size"] = 48
    (tmp_path / ADAPTER_FILE).write_text(json.dumps(info | {"base": str(folders / "base")}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is not the one that the adapter .* was trained on, its sizes are others"):
        AutoModel.from_pretrained(tmp_path)


def test_stages_know_that_they_are_quantised():
    # What transformers says of the whole model, PEFT asks the stage; else it would add floats to integers in a merge.
    model = tiny_model()
    _share_quantization(model)
    assert "is_loaded_in_8bit" not in vars(model.coarse)
    model.is_loaded_in_8bit = True
    _share_quantization(model)
    assert model.coarse.is_loaded_in_8bit and "is_loaded_in_4bit" not in vars(model.coarse)


def test_missing_weights_are_an_error(folders, tmp_path):
    shutil.copytree(folders / "ann", tmp_path / "ann")
    (tmp_path / "base").symlink_to(folders / "base")
    path = tmp_path / "ann" / "fine" / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[max(tensors)]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="The fine adapter of .* lacks model.layers.1"):
        AudioLMModel.from_pretrained(tmp_path / "ann")


def test_names_and_orders_that_make_no_sense_are_errors(folders, tmp_path):
    model = AudioLMModel.from_pretrained(folders / "base")
    for act in (model.enable_adapters, model.merge_and_unload):
        with pytest.raises(ValueError, match="[Nn]o adapter is loaded"):
            act()
    with pytest.raises(ValueError, match="No adapter is set, so there is none to save"):
        model.save_adapter(tmp_path)
    model.load_adapter(folders / "ann", "ann")
    with pytest.raises(ValueError, match="There is an adapter 'ann' already"):
        model.load_adapter(folders / "bob", "ann")
    for act in (model.set_adapter, model.delete_adapter):
        with pytest.raises(ValueError, match="There is no adapter 'eve'; loaded are"):
            act("eve")
    with pytest.raises(ValueError, match=r"without the options \['push_to_hub'\]"):
        model.save_pretrained(tmp_path, push_to_hub=True)


@pytest.mark.slow
def test_folder_with_code_runs_without_the_package(folders, tmp_path):
    shutil.copytree(folders / "ann", tmp_path / "ann")
    (tmp_path / "base").symlink_to(folders / "base")
    add_code(tmp_path / "ann")
    arguments = (tmp_path / "ann", CLIP, json.dumps(OPTIONS), tmp_path / "audio.npy")
    run_python(WITHOUT_PACKAGE, *arguments, home=tmp_path)
    expected = pipeline("audio-continuation", model=str(folders / "ann"))(str(CLIP), **OPTIONS)["audio"]
    np.testing.assert_array_equal(np.load(tmp_path / "audio.npy"), expected)
