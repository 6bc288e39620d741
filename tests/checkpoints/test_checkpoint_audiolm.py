# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are not whole, or not as they were saved, are refused; what users may change is not."""

import copy
import json
import pickle

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig, pipeline

from audiolm_hf import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel
from tests.conftest import tiny_stage_config
from tests.helpers_checkpoint import lay_out_as_hub_cache, tiny_processor

PARTS = ("semantic_tokenizer", "codec", "semantic", "coarse", "fine")


def part_of(model, name):
    return model if name == "whole" else model.get_submodule(name)


@pytest.fixture
def folders(tiny_audiolm, tmp_path):
    """The tiny model, whole, and each of its parts alone."""
    for name in ("whole", *PARTS):
        part_of(tiny_audiolm, name).save_pretrained(tmp_path / name)
    return tmp_path


def change_weights(folder, change):
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in change(load_file(path)).items()}, path, {"format": "pt"})


def change_json(folder, change, name="config.json"):
    path = folder / name
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def without(*ends):
    def change(weights):
        kept = {name: value for name, value in weights.items() if not name.endswith(ends)}
        assert len(kept) < len(weights), f"nothing ends with {ends}"
        return kept

    return change


def with_first(value, dtype=None):
    """Set the last number of the last weight, or give all of it another dtype."""

    def change(weights):
        name = [name for name, tensor in weights.items() if tensor.is_floating_point()][-1]
        tensor = weights[name].clone()
        if dtype is None:
            tensor.view(-1)[-1] = value
        return weights | {name: tensor.to(dtype or tensor.dtype)}

    return change


WEIGHTS = {
    "no final norm": ("coarse", without("model.norm.weight"), "lacks 1 weights, such as"),
    "no embeddings, so no tied head": ("semantic", without("embed_tokens.weight"), "lacks 2 weights, such as"),
    "no centroids": ("semantic_tokenizer", without("centroids"), "centroids"),
    "no codebook": ("codec", without("quantizer.levels.1.codebook"), "quantizer.levels.1.codebook"),
    "no decoder": ("codec", without("decoder.out_proj.weight", "decoder.out_proj.bias"), "lacks 2 weights"),
    "all renamed": ("fine", lambda weights: {f"x.{name}": value for name, value in weights.items()}, "lacks"),
    "one too many": ("fine", lambda weights: weights | {"more": torch.ones(2)}, "has no place for 1 weights, such as"),
    "NaN": ("coarse", with_first(torch.nan), "NaN or infinite"),
    "infinite": ("semantic_tokenizer", with_first(torch.inf), "NaN or infinite"),
    "int8": ("codec", with_first(0, torch.int8), "as torch.int8, not torch.float32"),
    "bool": ("fine", with_first(0, torch.bool), "as torch.bool, not torch.float32"),
}


@pytest.mark.parametrize("whole", [False, True], ids=["part", "whole"])
@pytest.mark.parametrize(("part", "change", "message"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_weights_that_are_not_the_models_are_refused(folders, part, change, message, whole):
    folder = folders / ("whole" if whole else part)
    if whole:

        def change_part(weights):
            own = {
                name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(part + ".")
            }
            rest = {name: value for name, value in weights.items() if not name.startswith(part + ".")}
            return rest | {f"{part}.{name}": value for name, value in change(own).items()}

        change_weights(folder, change_part)
    else:
        change_weights(folder, change)
    with pytest.raises(ValueError, match=message):
        AutoModel.from_pretrained(folder)


def test_a_bad_checkpoint_is_refused_by_every_way_of_loading(folders):
    tiny_processor().save_pretrained(folders / "whole")
    for name, load in {
        "whole": [AudioLMModel.from_pretrained, lambda path: pipeline("audio-continuation", model=str(path))],
        "coarse": [AudioLMCoarseModel.from_pretrained, AutoModelForCausalLM.from_pretrained],
    }.items():
        assert load[0](folders / name)
        change_weights(folders / name, without("model.norm.weight"))
        for each in load:
            with pytest.raises(ValueError, match="lacks"):
                each(folders / name)


def test_damaged_files_are_refused(folders):
    path = folders / "coarse" / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:100], b"", b"\xff" * 200, whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            AutoModel.from_pretrained(folders / "coarse")


def test_integers_in_a_file_of_torch_or_in_a_state_dict_are_refused(folders):
    weights = with_first(0, torch.int16)(load_file(folders / "coarse" / "model.safetensors"))
    name = next(name for name, tensor in weights.items() if tensor.dtype == torch.int16)
    config = AutoConfig.from_pretrained(folders / "coarse")
    with pytest.raises(ValueError, match=f"state_dict holds {name} as torch.int16"):
        AudioLMCoarseModel.from_pretrained(None, config=config, state_dict=weights)
    (folders / "coarse" / "model.safetensors").unlink()
    torch.save(weights, folders / "coarse" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=f"pytorch_model.bin holds {name} as torch.int16, not torch.float32"):
        AutoModel.from_pretrained(folders / "coarse")
    (folders / "coarse" / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged"):
        AutoModel.from_pretrained(folders / "coarse")


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("bfloat", "dtype is 'bfloat'; give one of torch's float32, bfloat16, float16, float64"),
        (torch.int8, "dtype is torch.int8; give one of"),
        ({"coarse_config": "bfloat"}, r"dtype\['coarse_config'\] is 'bfloat'; give one of"),
        ({"": torch.int8}, r"dtype\[''\] is torch.int8"),
        ({"coarse": "bfloat16"}, "dtype names 'coarse'; the parts are semantic_tokenizer_config, codec_config, "),
        (16, "dtype is 16"),
    ],
)
def test_a_dtype_that_is_none_of_floats_is_refused_before_loading(folders, dtype, message, monkeypatch):
    monkeypatch.setattr(AudioLMModel, "__init__", None)  # nothing is built
    for keyword in ("dtype", "torch_dtype"):
        with pytest.raises(ValueError, match=message):
            AudioLMModel.from_pretrained(folders / "whole", **{keyword: dtype})
    with pytest.raises(ValueError, match=message):
        AutoModel.from_pretrained(folders / "whole", dtype=dtype)


def set_strides(config):
    config["strides"] = [*config["strides"][:-1], 4]  # the shapes of the weights stay


def with_backbone(**changes):
    return lambda config: config["backbone_config"].update(changes)


CONTRADICTIONS = {
    "strides": ("codec", set_strides, "strides is .* trained with"),
    "order of strides": ("codec", lambda config: config["strides"].reverse(), "strides"),
    "fewer layers": ("codec", lambda config: config.update(num_decoder_layers=0), "num_decoder_layers"),
    "decoder": ("codec", lambda config: config.update(decoder_type="mirrored"), "decoder_type"),
    "pooling": ("semantic_tokenizer", lambda config: config.update(pooling=4), "pooling is 4.* trained with 2"),
    "layer": ("semantic_tokenizer", lambda config: config.update(layer=0), "layer is 0.* trained with 1"),
    "condition_stride": ("coarse", lambda config: config.update(condition_stride=4.0), "condition_stride is 4.0"),
    "split of levels": (
        "fine",
        lambda config: config.update(num_coarse_codebooks=3, num_fine_codebooks=2),
        "codebooks",
    ),
    "heads": ("coarse", lambda config: config["backbone_config"].update(num_attention_heads=8), "num_attention_heads"),
    **{
        f"backbone's {field}": ("coarse", with_backbone(**{field: value}), f"backbone_config.{field} is")
        for field, value in {
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
            "hidden_act": "gelu",
            "rms_norm_eps": 1e-3,
        }.items()
    },
    "part of the places": (
        "fine",
        with_backbone(rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        "rope_parameters",
    ),
    "encoder's positions": (
        "semantic_tokenizer",
        lambda config: config["encoder_config"].update(position_embeddings_type="relative"),
        "encoder_config.position_embeddings_type is 'relative'",
    ),
}


@pytest.mark.parametrize("whole", [False, True], ids=["part", "whole"])
@pytest.mark.parametrize(("part", "change", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_configurations_that_contradict_the_weights_are_refused(folders, part, change, message, whole):
    folder = folders / ("whole" if whole else part)
    change_json(folder, lambda config: change(config[f"{part}_config"] if whole else config))
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        AutoModel.from_pretrained(folder)


def test_a_configuration_of_the_callers_is_compared_too(folders):
    config = AutoConfig.from_pretrained(folders / "codec")
    config.strides = [4, 4, 5, 4]
    with pytest.raises(ValueError, match=r"strides is \[4, 4, 5, 4\], but .* was trained with \[2, 4, 5, 8\]"):
        AutoModel.from_pretrained(folders / "codec", config=config)
    config.save_pretrained(folders / "codec")
    with pytest.raises(ValueError, match="strides"):
        AutoModel.from_pretrained(folders / "codec")


def test_other_shapes_are_named(folders):
    change_weights(folders / "coarse", lambda weights: weights | {"model.norm.weight": torch.ones(5)})
    with pytest.raises(RuntimeError, match=r"model.norm.weight has shape \(5,\), not \(32,\)"):
        AutoModel.from_pretrained(folders / "coarse")


def test_checkpoints_of_before_still_load(folders):
    for name in ("whole", *PARTS):
        change_json(folders / name, lambda config: config.pop("trained_with"))
        AutoModel.from_pretrained(folders / name)


def test_only_saved_configurations_hold_what_weights_were_trained_with(folders, tiny_audiolm):
    assert tiny_audiolm.config.trained_with is None
    loaded = AutoModel.from_pretrained(folders / "whole")
    assert loaded.config.to_dict().keys() == tiny_audiolm.config.to_dict().keys()
    saved = json.loads((folders / "whole" / "config.json").read_text())
    assert saved["trained_with"]["codec_config.strides"] == [2, 4, 5, 8]
    assert not any("trained_with" in part for part in saved.values() if isinstance(part, dict))


def test_harmless_changes_load(folders):
    whole = AutoModel.from_pretrained(
        folders / "whole",
        dtype=torch.bfloat16,
        attn_implementation="eager",
        coarse_config={"window_length_s": 5.0, "use_cache": False},
    )
    assert whole.config.coarse_config.window_length_s == 5.0 and whole.coarse.dtype == torch.bfloat16
    whole.save_pretrained(folders / "again")
    assert AutoModel.from_pretrained(folders / "again").coarse.dtype == torch.bfloat16
    stage = AutoModel.from_pretrained(folders / "coarse", mean_semantic_duration=2.0, output_attentions=False)
    stage.resize_token_embeddings(stage.config.vocab_size + 8)
    stage.save_pretrained(folders / "resized")
    resized = AutoModel.from_pretrained(folders / "resized")
    assert resized.get_input_embeddings().weight.shape[0] == stage.config.vocab_size
    sizes = {"backbone_config": {"intermediate_size": 48}, "ignore_mismatched_sizes": True}  # what does not fit is new
    other = AutoModel.from_pretrained(folders / "coarse", **sizes)
    assert other.model.layers[0].mlp.up_proj.weight.shape == (48, 32)


def test_untied_heads_are_saved_and_needed(tmp_path):
    config = AudioLMCoarseModel.config_class(**tiny_stage_config(tie_word_embeddings=False))
    AudioLMCoarseModel(config).save_pretrained(tmp_path)
    AutoModel.from_pretrained(tmp_path)
    change_weights(tmp_path, without("lm_head.weight"))
    with pytest.raises(ValueError, match="lacks 1 weights, such as lm_head.weight"):
        AutoModel.from_pretrained(tmp_path)


def test_shards_load_and_a_missing_one_does_not(folders, tiny_audiolm):
    tiny_audiolm.save_pretrained(folders / "shards", max_shard_size="100KB")
    loaded = AutoModel.from_pretrained(folders / "shards")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in tiny_audiolm.state_dict().items())
    shard = sorted((folders / "shards").glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(ValueError, match=f"{shard.name} is damaged"):
        AutoModel.from_pretrained(folders / "shards")


def test_adapters_load_onto_a_loaded_stage(folders):
    stage = AutoModelForCausalLM.from_pretrained(folders / "coarse")
    stage.add_adapter(LoraConfig(target_modules=["q_proj"]))
    stage.save_pretrained(folders / "adapter")
    loaded = AutoModelForCausalLM.from_pretrained(folders / "coarse")
    loaded.load_adapter(folders / "adapter")
    ids = torch.arange(10)[None]
    assert torch.equal(loaded(ids).logits, stage.eval()(ids).logits)


def damaged(folder, content):
    path = folder / "generation_config.json"
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["whole", "semantic"])
@pytest.mark.parametrize("content", [b"", b'{"use_fine', b"\x00\xff\xfe", b"[]", b"null", b"3", None])
def test_generation_configurations_that_cannot_be_read_are_refused(folders, name, content):
    damaged(folders / name, content)
    with pytest.raises(ValueError, match=r"generation_config.json (cannot be read as JSON|holds a)"):
        AutoModel.from_pretrained(folders / name)


def test_a_link_to_nothing_is_no_missing_generation_configuration(folders, tmp_path):
    lay_out_as_hub_cache(folders / "whole", tmp_path, "some/checkpoint")
    path = next((tmp_path / "hub").rglob("generation_config.json"))
    path.unlink()
    path.symlink_to("../../blobs/deleted")
    for source, options in (("some/checkpoint", {"cache_dir": tmp_path / "hub"}), (path.parent, {})):
        with pytest.raises(FileNotFoundError, match="generation_config.json is a link to a file that is not there"):
            AudioLMModel.from_pretrained(source, local_files_only=True, **options)


def test_checkpoints_without_a_generation_configuration_have_the_defaults(folders):
    (folders / "whole" / "generation_config.json").unlink()
    assert AutoModel.from_pretrained(folders / "whole").generation_config.coarse_temperature == 0.8
    given = GenerationConfig(temperature=0.3)
    loaded = AutoModel.from_pretrained(folders / "whole", generation_config=given)
    assert loaded.generation_config.coarse_temperature == 0.3


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_copies_keep_their_heads_tied_and_generate_the_same(tiny_audiolm, copy_of):
    tiny_audiolm(torch.zeros(1, 640), output_hidden_states=True)  # transformers puts hooks on what has run
    copied = copy_of(tiny_audiolm)
    assert copied(torch.zeros(1, 640), output_hidden_states=True).hidden_states is not None
    for name, stage in copied.stages.items():
        assert stage.lm_head.weight is stage.get_input_embeddings().weight, name
        assert stage.lm_head.weight is not tiny_audiolm.stages[name].lm_head.weight
    prompt = 0.3 * torch.randn(1, 6400)
    options = {"continuation_length_s": 0.2, "seed": 0}
    assert torch.equal(
        copied.generate(prompt, **options).audio_values, tiny_audiolm.generate(prompt, **options).audio_values
    )


def test_state_dicts_round_trip_and_are_strict(tiny_audiolm):
    model = copy.deepcopy(tiny_audiolm)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.coarse.lm_head.weight is model.coarse.get_input_embeddings().weight
    del weights["semantic_tokenizer.centroids"]
    with pytest.raises(RuntimeError, match="centroids"):
        model.load_state_dict(weights)
