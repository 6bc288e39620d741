# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Adapters of the whole and of stages, by PEFT and by transformers: one folder loads everywhere, on its base alone."""

import json
import os
import shutil
import sys
from functools import partial

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, Trainer, TrainingArguments, pipeline

import audiolm_hf
from audiolm_hf import AudioLMModel, add_code, checkpoint
from audiolm_hf.adapters_audiolm import ADAPTER_FILE, find_base, name_base, read_adapter_notes
from audiolm_hf.checkpoint_audiolm import _share_quantization
from tests.helpers_checkpoint import CLIP, lay_out_as_hub_cache, run_python, tiny_model, tiny_processor

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Already found a `peft_config` attribute:UserWarning"
    ),  # PEFT, of a second adapter
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
]
OPTIONS = {"continuation_length_s": 0.12, "min_continuation_length_s": 0.12, "seed": 3}
IDS = torch.arange(18).view(2, 9)
TARGETS = r"(coarse|fine)\..*_proj"

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

FROM_HUB = """
import json, sys
import torch
import audiolm_hf
from audiolm_hf import AudioLMModel
from transformers import AutoModel, pipeline
load = {
    "class": AudioLMModel.from_pretrained,
    "auto": AutoModel.from_pretrained,
    "pipeline": lambda name: pipeline("audio-continuation", model=name).model,
    "ours": lambda name: audiolm_hf.pipeline(name).model,
}
for name, ways in json.loads(sys.argv[1]).items():
    for way in ways:
        model = load[way](name)
        total = sum(float(weight.sum()) for key, weight in model.named_parameters() if "lora_" in key)
        assert model.active_adapters() == ["default"]
        print(name, way, round(total, 3))
"""


def lora(targets=TARGETS, **changes):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": targets, "init_lora_weights": False} | changes)


def codes(model):
    """What the model makes of one prompt."""
    prompt = torch.sin(torch.arange(1920) / 20)[None] * 0.3
    return model.generate(prompt, **OPTIONS).audio_codes


def write_adapter(base, folder, targets, seed):
    """An adapter folder with a random adapter on a checkpoint."""
    torch.manual_seed(seed)
    model = AudioLMModel.from_pretrained(base)
    model.add_adapter(lora(targets))
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return codes(model)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base, an adapter of its coarse and fine stages, and one of its coarse and semantic stages."""
    folder = tmp_path_factory.mktemp("adapters")
    tiny_model().save_pretrained(folder / "base")
    tiny_processor().save_pretrained(folder / "base")
    torch.save(write_adapter(folder / "base", folder / "ann", TARGETS, 1), folder / "ann.pt")
    torch.save(write_adapter(folder / "base", folder / "bob", r"(coarse|semantic)\..*_proj", 2), folder / "bob.pt")
    return folder


@pytest.fixture
def base(folders):
    return AudioLMModel.from_pretrained(folders / "base")


@pytest.fixture(scope="module")
def ann(folders):
    return torch.load(folders / "ann.pt")


@pytest.fixture(scope="module")
def bob(folders):
    return torch.load(folders / "bob.pt")


def test_the_folder_is_one_of_peft_and_names_its_base(folders):
    names = {path.name for path in (folders / "ann").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", ADAPTER_FILE} <= names
    assert not names & {"model.safetensors", "coarse", "fine"}
    config = json.loads((folders / "ann" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../base" and config["target_modules"] == TARGETS
    keys = load_file(folders / "ann" / "adapter_model.safetensors").keys()
    assert {key.split(".")[2] for key in keys} == {"coarse", "fine"}
    weights = read_adapter_notes(folders / "ann")["base_weights"]
    assert {name.partition(".")[0] for name in weights} == {"coarse", "fine"}
    assert read_adapter_notes(folders / "base") == {}
    assert not any(
        str(folders) in path.read_text() for path in (folders / "ann").glob("*.json")
    )  # no path of this machine


def test_a_fresh_adapter_changes_nothing(base):
    plain = codes(base)
    base.add_adapter(lora(init_lora_weights=True))
    assert codes(base).equal(plain)


@pytest.mark.parametrize(
    "load",
    [
        AudioLMModel.from_pretrained,
        AutoModel.from_pretrained,
        lambda name: pipeline("audio-continuation", model=name).model,
        lambda name: audiolm_hf.pipeline(name).model,
    ],
)
def test_the_folder_loads_like_a_checkpoint(folders, ann, load, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the base is relative to the adapter
    model = load(str(folders / "ann"))
    assert not model.training and model.active_adapters() == ["default"]
    assert codes(model).equal(ann)


def test_the_folder_is_read_by_peft_which_merges_it(folders, base, ann, tmp_path):
    plain = codes(base)
    model = PeftModel.from_pretrained(base, folders / "ann")
    assert codes(model).equal(ann) and not ann.equal(plain)
    with model.disable_adapter():
        assert codes(model).equal(plain)
    before = {name: stage(IDS).logits for name, stage in base.stages.items()}
    merged = model.merge_and_unload()
    assert type(merged) is AudioLMModel and merged.state_dict().keys() == tiny_model().state_dict().keys()
    merged.save_pretrained(tmp_path)
    assert not (tmp_path / ADAPTER_FILE).exists()
    again = AudioLMModel.from_pretrained(tmp_path)
    for name, stage in again.stages.items():
        torch.testing.assert_close(stage(IDS).logits, before[name], rtol=1e-4, atol=1e-4)
    assert codes(again).equal(ann)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by PEFT
@pytest.mark.parametrize("way", ["peft", "transformers"])
def test_what_trainer_trained_loads_like_a_checkpoint(folders, base, tmp_path, way):
    plain = codes(base)
    config, model = lora(init_lora_weights=True), base
    if way == "peft":
        model = get_peft_model(base, config)
    else:
        base.add_adapter(config)
    data = [{"input_values": 0.3 * torch.randn(3200)} for _ in range(2)]
    arguments = TrainingArguments(tmp_path, max_steps=2, learning_rate=0.1, use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model, arguments, train_dataset=data)
    trainer.train()
    expected = codes(model.eval())
    assert not expected.equal(plain)
    trainer.save_model(tmp_path / "voice")
    assert not (tmp_path / "voice" / "model.safetensors").exists()
    for load in (AudioLMModel.from_pretrained, AutoModel.from_pretrained):
        assert codes(load(tmp_path / "voice")).equal(expected)
    if way == "peft":  # its own folder has no other files: the processor is that of the base
        assert codes(pipeline("audio-continuation", model=str(tmp_path / "voice")).model).equal(expected)
        for refused in (base, base.coarse):
            with pytest.raises(ValueError, match="Save what they were put on, the PeftModel or the stage"):
                refused.save_pretrained(tmp_path / "refused")


def test_adapters_are_switched(folders, base, ann, bob, caplog):
    plain = codes(base)
    base.load_adapter(folders / "ann", "coarse")  # a name that parts of the model have, too
    base.load_adapter(folders / "bob", "bob")
    assert "MISSING" not in caplog.text
    assert base.active_adapters() == ["bob"] and codes(base).equal(bob)  # ann's fine stage is off
    base.set_adapter("coarse")
    assert codes(base).equal(ann)
    base.disable_adapters()
    assert codes(base).equal(plain)
    base.enable_adapters()
    assert codes(base).equal(ann)
    base.set_adapter(["coarse", "bob"])
    assert base.active_adapters() == ["coarse", "bob"]
    layer, states = base.coarse.model.layers[0].mlp.down_proj, torch.randn(3, 64)
    both = layer(states) - layer.base_layer(states)
    changes = []
    for name in ("coarse", "bob"):
        base.set_adapter(name)
        changes.append(layer(states) - layer.base_layer(states))
    torch.testing.assert_close(both, sum(changes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["coarse", "model"])
def test_an_adapter_may_have_the_name_of_a_part(folders, base, ann, tmp_path, name):
    base.load_adapter(folders / "ann", name)
    base.save_pretrained(tmp_path / "again")
    assert read_adapter_notes(tmp_path / "again") == read_adapter_notes(folders / "ann")
    base.load_adapter(folders / "ann", "second")
    assert codes(base).equal(ann)


def test_deleted_adapters_leave_the_base(folders, base, bob, tmp_path):
    plain = codes(base)
    base.load_adapter(folders / "ann", "ann")
    base.load_adapter(folders / "bob", "bob")
    base.delete_adapter("ann")
    base.set_adapter("bob")
    assert codes(base).equal(bob)
    base.delete_adapter("bob")
    assert codes(base).equal(plain)
    base.save_pretrained(tmp_path)
    assert codes(AudioLMModel.from_pretrained(tmp_path)).equal(plain)


def test_an_adapter_is_swapped_in_place(folders, base, ann, tmp_path):
    expected = write_adapter(folders / "base", tmp_path / "second", TARGETS, 3)
    base.load_adapter(folders / "ann", "voice")
    layers = dict(base.named_modules()).keys()
    base.load_adapter(tmp_path / "second", "voice", hotswap=True)
    assert dict(base.named_modules()).keys() == layers
    assert codes(base).equal(expected) and not expected.equal(ann)


def test_another_or_a_changed_base_is_refused(folders, base, ann):
    base.coarse.model.layers[1].mlp.up_proj.weight.data *= 1.1
    with pytest.raises(
        ValueError, match=r"on another base: a value of coarse\.model\.layers\.1\.mlp\.up_proj\.weight is"
    ):
        base.load_adapter(folders / "ann")
    assert not hasattr(base, "peft_config") and base.state_dict().keys() == tiny_model().state_dict().keys()
    with pytest.raises(ValueError, match="on another base, which has semantic.model.embed_tokens.weight; this"):
        base.coarse.load_adapter(folders / "bob")
    for dtype in (torch.bfloat16, torch.float16):  # the same weights, rounded
        half = AudioLMModel.from_pretrained(folders / "ann", dtype=dtype)
        assert half.coarse.model.layers[0].mlp.up_proj.base_layer.weight.dtype == dtype
        half.load_adapter(folders / "bob", "bob")  # beside the first


def test_without_peft_an_adapter_is_refused(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match="Adapters need PEFT: pip install peft"):
        AudioLMModel.from_pretrained(folders / "ann")


@pytest.mark.parametrize("given", ["speech-huge", "../nowhere", None])
def test_a_base_that_is_not_there_is_refused(folders, tmp_path, given):
    shutil.copytree(folders / "ann", tmp_path / "ann")
    path = tmp_path / "ann" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": given}))
    with pytest.raises(ValueError, match="which is not found; load it and call load_adapter"):
        AudioLMModel.from_pretrained(tmp_path / "ann")


def test_missing_weights_are_an_error(folders, base, tmp_path):
    shutil.copytree(folders / "ann", tmp_path / "ann")
    path = tmp_path / "ann" / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[max(tensors)]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks fine.model.layers.1"):
        base.load_adapter(tmp_path / "ann")
    assert base.state_dict().keys() == tiny_model().state_dict().keys()


def test_the_older_form_is_refused_with_the_command_that_converts_it(folders, base, tmp_path):
    (tmp_path / "old" / "coarse").mkdir(parents=True)
    (tmp_path / "old" / ADAPTER_FILE).write_text(json.dumps({"base": "speech-tiny", "stages": {"coarse": [1.0]}}))
    shutil.copy(folders / "ann" / "config.json", tmp_path / "old")
    for load in (AudioLMModel.from_pretrained, AutoModel.from_pretrained, base.load_adapter, audiolm_hf.pipeline):
        with pytest.raises(Exception, match=r"convert it with: audiolm-hf convert .*old NEW_FOLDER"):
            load(str(tmp_path / "old"))


def test_bases_are_named_without_this_machine(folders, tmp_path, monkeypatch):
    assert name_base(checkpoint("speech-tiny"), tmp_path) == "speech-tiny"
    assert name_base("user/name", tmp_path) == find_base("user/name", tmp_path) == "user/name"
    assert name_base("", tmp_path) is None
    (folders / "base" / "voice").mkdir()
    for base, adapter in (("base", "ann"), ("base", "base"), ("base", "base/voice")):
        name = name_base(str(folders / base), folders / adapter)
        assert name.startswith(".") and find_base(name, folders / adapter) == str(folders / base)
    monkeypatch.chdir(folders)  # as PEFT writes it for a model loaded from a relative path
    assert find_base("base", tmp_path) == str(folders / "base")
    assert find_base("speech-tiny", tmp_path) == str(os.path.realpath(checkpoint("speech-tiny")))


def test_a_stage_with_an_adapter_finds_its_base_after_both_moved(tmp_path, monkeypatch):
    tiny_model().coarse.save_pretrained(tmp_path / "here" / "stage")
    stage = AutoModelForCausalLM.from_pretrained(tmp_path / "here" / "stage")
    stage.add_adapter(lora("all-linear"))
    expected = stage(IDS).logits
    stage.save_pretrained(tmp_path / "here" / "voice")
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    for load in (AutoModelForCausalLM, AutoModel, type(stage)):
        assert torch.equal(load.from_pretrained("there/voice")(IDS).logits, expected)
    read = PeftModel.from_pretrained(tiny_model().coarse, "there/voice")
    assert torch.equal(read(IDS).logits, expected)


@pytest.mark.parametrize("way", ["load", "add", "wrap"])
def test_a_stage_inside_the_whole_has_adapters_as_any_model(folders, base, tmp_path, way):
    plain = codes(base)
    if way == "load":
        tiny_model().coarse.save_pretrained(tmp_path / "stage")
        other = AutoModelForCausalLM.from_pretrained(tmp_path / "stage")
        other.add_adapter(lora("all-linear"))
        other.save_pretrained(tmp_path / "voice")
        base.coarse.load_adapter(tmp_path / "voice")
    elif way == "add":
        base.coarse.add_adapter(lora("all-linear"))
    else:
        base.coarse = get_peft_model(base.coarse, lora("all-linear"))
    expected = codes(base)
    assert not expected.equal(plain)
    with pytest.raises(ValueError, match="Save what they were put on"):
        base.save_pretrained(tmp_path / "refused")
    base.coarse.save_pretrained(tmp_path / "coarse")
    fresh = AudioLMModel.from_pretrained(folders / "base")
    fresh.coarse.load_adapter(tmp_path / "coarse")
    assert codes(fresh).equal(expected)


def test_stages_know_that_they_are_quantised():
    model = tiny_model()
    _share_quantization(model)
    assert "is_loaded_in_8bit" not in vars(model.coarse)
    model.is_loaded_in_8bit = True
    _share_quantization(model)
    assert model.coarse.is_loaded_in_8bit and "is_loaded_in_4bit" not in vars(model.coarse)


def test_prompt_tuning_of_a_stage_is_refused(base):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, token_dim=32, num_attention_heads=2)
    base.coarse = get_peft_model(base.coarse, config)
    with pytest.raises(ValueError, match="stages do not support prompt learning"):
        codes(base)


@pytest.mark.slow
def test_adapters_on_the_hub(folders, tmp_path):
    for name in ("base", "ann"):
        lay_out_as_hub_cache(folders / name, tmp_path, f"somebody/{name}")
    config = next((tmp_path / "hub" / "models--somebody--ann").rglob("adapter_config.json"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "somebody/base"}))
    bundled = AudioLMModel.from_pretrained(checkpoint("speech-tiny"))
    bundled.add_adapter(lora())
    bundled.save_pretrained(tmp_path / "voice")
    tiny_processor().save_pretrained(tmp_path / "voice")
    lay_out_as_hub_cache(tmp_path / "voice", tmp_path, "somebody/voice")
    cases = {"somebody/ann": ["class", "auto", "pipeline", "ours"], "somebody/voice": ["class", "ours"]}
    lines = run_python(FROM_HUB, json.dumps(cases), home=tmp_path).splitlines()
    found = [line.split() for line in lines]
    for name, folder in (("somebody/ann", folders / "ann"), ("somebody/voice", tmp_path / "voice")):
        total = sum(float(tensor.sum()) for tensor in load_file(folder / "adapter_model.safetensors").values())
        sums = [float(value) for repo, _, value in found if repo == name]
        assert len(sums) == len(cases[name]) and sums == pytest.approx([total] * len(sums), abs=0.01)


@pytest.mark.slow
def test_folder_with_code_runs_without_the_package(folders, tmp_path):
    shutil.copytree(folders / "ann", tmp_path / "ann")
    (tmp_path / "base").symlink_to(folders / "base")
    add_code(tmp_path / "ann")
    arguments = (tmp_path / "ann", CLIP, json.dumps(OPTIONS), tmp_path / "audio.npy")
    run_python(WITHOUT_PACKAGE, *arguments, home=tmp_path)
    expected = pipeline("audio-continuation", model=str(folders / "ann"))(str(CLIP), **OPTIONS)["audio"]
    np.testing.assert_array_equal(np.load(tmp_path / "audio.npy"), expected)


def test_an_adapter_of_all_layers_leaves_the_tokens_alone():
    model = tiny_model()
    audio = 0.1 * torch.randn(1, 6400, generator=torch.Generator().manual_seed(0))
    tokens, codes = model.semantic_tokenizer.tokenize(audio), model.acoustic_codec.encode(audio)
    model.add_adapter(LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted = {name.partition(".")[0] for name, _ in model.named_parameters() if "lora_" in name}
    assert adapted == {*model.stages}
    assert model.semantic_tokenizer.tokenize(audio).semantic_tokens.equal(tokens.semantic_tokens)
    assert model.acoustic_codec.encode(audio).equal(codes)


def test_adapters_of_what_makes_tokens_are_refused():
    options = {"target_modules": "all-linear", "exclude_modules": None}
    adapted = get_peft_model(tiny_model(), LoraConfig(**options))
    audio = 0.1 * torch.randn(1, 6400, generator=torch.Generator().manual_seed(0))
    for call in (adapted.generate, adapted):
        with pytest.raises(ValueError, match=r"codec and the semantic_tokenizer have adapters.*=r'\(codec"):
            call(input_values=audio)
    options["exclude_modules"] = r"(semantic_tokenizer|codec)\..*"
    get_peft_model(tiny_model(), LoraConfig(**options)).generate(input_values=audio, continuation_length_s=0.1)


METHODS = {
    "dora": lora(use_dora=True),
    "pissa": lora(init_lora_weights="pissa"),
    "adalora": AdaLoraConfig(target_modules=TARGETS, total_step=9),
    "single tokens": lora(trainable_token_indices={"coarse.model.embed_tokens": [0, 1]}),
}


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_of_peft_are_saved_and_loaded(folders, base, tmp_path, method):
    base.add_adapter(METHODS[method])
    torch.manual_seed(0)
    for weight in base.parameters():
        if weight.requires_grad:
            weight.data += 0.3 * torch.randn_like(weight)
    base.save_pretrained(tmp_path)
    assert any(name.startswith("coarse.") for name in read_adapter_notes(tmp_path)["base_weights"])
    assert codes(AudioLMModel.from_pretrained(tmp_path)).equal(codes(base))
    base.delete_adapter("default")
    assert base.state_dict().keys() == tiny_model().state_dict().keys()


def test_an_adapter_on_the_wrong_part_is_one_clear_error(tmp_path):
    model = tiny_model()
    for add in (model.add_adapter, model.coarse.add_adapter, partial(get_peft_model, model.coarse)):
        with pytest.raises(ValueError, match="Please specify `target_modules`"):  # as PEFT says of any other model
            add(LoraConfig())
    get_peft_model(model.coarse, LoraConfig(target_modules="all-linear", r=2)).save_pretrained(tmp_path / "coarse")
    other = tiny_model()
    with pytest.raises(ValueError, match="coarse lacks .*Load the adapter of a stage on that stage"):
        other.load_adapter(tmp_path / "coarse")
    wide = AudioLMModel(other.config).semantic
    wide.model.layers[0].mlp.up_proj = torch.nn.Linear(wide.config.hidden_size, 7, bias=False)
    with pytest.raises(ValueError, match="shapes of the adapter .*do not fit this model; it is of another"):
        wide.load_adapter(tmp_path / "coarse")
