# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import dataclasses
from pathlib import Path

import pytest

from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.kinds import RECIPE, TRAINING_KINDS, training_kind
from audiolm_hf.training.recipe import load_config
from audiolm_hf.training.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]
CODEC = "kind: codec\noutput_folder: o\ndata: {folder: d, train: [a]}\n"
DETECTOR = CODEC.replace("codec", "detector") + "checkpoint: c\n"
ENCODER = "kind: semantic_encoder\noutput_folder: o\niterations: [{num_clusters: 4, max_steps: 2}]\n"


@pytest.fixture
def stage_file(tmp_path):
    path = tmp_path / "stage.yaml"
    path.write_text(
        "kind: stage\nstage: coarse\noutput_folder: out\ntrain_tokens: [a]\nvalidation_tokens: [b]\n"
        "window_length_s: 2\nmax_steps: 100\nbackbone: {hidden_size: 8, num_attention_heads: 2}\n"
    )
    return path


def test_overrides_reach_into_nested_keys_and_are_read_as_yaml(stage_file):
    config = load_config(stage_file, ["backbone.hidden_size=16", "backbone.hidden_act=relu", "train_tokens=[c, d]"])
    assert config.backbone == {"hidden_size": 16, "num_attention_heads": 2, "hidden_act": "relu"}
    assert config.train_tokens == ["c", "d"]
    assert config.window_length_s == 2.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_steps", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("max_stepz=3", r"unknown key 'max_stepz'; did you mean 'max_steps'\?$"),
        ("qqqqqqq=3", "unknown key 'qqqqqqq'; known are align_condition, .*, window_length_s.$"),
        ("max_steps.deep=3", "reaches into 'max_steps'"),
        ("max_steps=many", "max_steps is 'many'"),
        ("kind=stages", "did you mean 'stage'"),
        ("seed=1 2024-13-45", "seed is '1 2024-13-45'"),
        ("seed=2024-13-45", "not valid YAML after the =: month must be in 1..12"),
        ("backbone={hidden_size: 8, hidden_size: 16}", "the key 'hidden_size' occurs twice"),
        ("phase=more", "The phase of .* is 'more', but it has no `phases`; leave out phase=more"),
        ("kind=[]", r"stage.yaml: kind is \[\]; known are"),
        ("backbone.hidden_size=many", "stage.yaml: backbone, .*'hidden_size'.* got str"),
        ("backbone.hidden_size=10.5", "stage.yaml: backbone, .*'hidden_size'.* got float"),
        ("backbone.num_hidden_layers=0", "stage.yaml: backbone, .*num_hidden_layers is 0, which is out of range"),
        ("backbone.num_attention_heads=0", "stage.yaml: backbone, .*'num_attention_heads': 0"),
        ("backbone.num_attention_heads=3", "stage.yaml: backbone, .*not a multiple"),
        ("backbone.hiden_size=3", "backbone: unknown key 'hiden_size'; did you mean 'hidden_size'"),
        ("backbone.model_type=lama", "model_type is 'lama'; did you mean 'llama'"),
        ("backbone.model_type=[null]", r"model_type is \[None\]"),
        ("backbone={a: [}", "not valid YAML after the ="),
    ],
)
def test_bad_overrides_are_errors(stage_file, override, message):
    with pytest.raises(ValueError, match=message):
        load_config(stage_file, [override])


def test_keys_of_models_are_held_to_their_configurations(stage_file, tmp_path):
    assert (
        load_config(stage_file, ["backbone={model_type: gpt2, n_layer: 2, hidden_size: 8}"]).backbone["n_layer"] == 2
    )
    with pytest.raises(ValueError, match="backbone: unknown key 'n_layer'"):
        load_config(stage_file, ["backbone={n_layer: 2}"])
    assemble = "kind: assemble\nsemantic_tokenizer: t\ncodec: c\noutput_folder: o\n"
    stages = "stages: {semantic: s, coarse: c, fine: f}\n"
    files = {
        CODEC + "codec: {num_codebook: 3}": "'num_codebooks'",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {layers: 3}": "encoder: unknown key 'layers'",
        assemble + stages + "generation: {semantic_temprature: 1}": "did you mean 'semantic_temperature'",
        CODEC + "codec: {hidden_size: -3}": "codec, .*-3 is out of",
        CODEC + "mel_bands: []": "mel_bands is \\[\\]; give",
        CODEC + "mel_bands: [8]": "mel_bands 1 values; give as many",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {hidden_act: rely}": "encoder, .*hidden_act is 'rely'",
        ENCODER
        + "data: {folder: d, train: [a]}\nencoder: {}\nattn_implementation: fast": "attn_implementation is 'fast'",
        DETECTOR + "clips: {acoustic_modes: [a]}": (r"clips: acoustic_modes\[0\] is 'a'"),
        assemble + stages + "generation: {semantic_temperature: hot}": "generation, .*semantic_temperature",
        CODEC.replace("codec", "centroids") + "encoder: e\nlayer: 1\ndevice: x": "the old key 'device' is now use_cpu",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {}\nwarmup_steps: 1e9": "warmup_steps is 1000000000.0",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {}\ncrop_length_s: 1e-9": "crop_length_s is 1e-09; give",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {}\nmask_length_s: 1e-9": "mask_length_s is 1e-09; give",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {}\nmask_length_s: 9": "mask_length_s is 9.0, and crop_le",
        ENCODER + "data: {folder: d, train: [a]}\nencoder: {}\nmask_share: 1": "mask_share is 1.0; give",
        DETECTOR + "warmup_steps: 1e9": "warmup_steps is 1000000000.0; give",
        assemble + "semantic: s": "the old key 'semantic' is now stages.semantic",
    }
    for text, message in files.items():
        (tmp_path / "file.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_config(tmp_path / "file.yaml")


def test_an_override_changes_one_of_two_places_that_share_an_alias(tmp_path):
    (tmp_path / "file.yaml").write_text("kind: recipe\nfirst: &a {size: 1}\nsecond: *a\n")
    values = read_yaml(tmp_path / "file.yaml", ["second.size=2"])
    assert (values["first"], values["second"]) == ({"size": 1}, {"size": 2})


def test_overrides_reach_into_lists_by_place(tmp_path):
    path = tmp_path / "encoder.yaml"
    path.write_text(
        "kind: semantic_encoder\noutput_folder: o\nencoder: {}\niterations: [{num_clusters: 4, max_steps: 2}]\n"
    )
    config = load_config(path, ["data={folder: d, train: [a]}", "iterations.0.max_steps=9"])
    assert config.iterations[0].max_steps == 9
    for override, message in (("iterations.1.max_steps=9", "reaches for '1'"), ("iterations.0=9", "ends in a list")):
        with pytest.raises(ValueError, match=message):
            load_config(path, [override])


def test_files_that_are_no_training_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*x\.yaml"):
        read_yaml(tmp_path / "x.yaml")
    for text, message in (
        ("a: [", "not valid YAML"),
        ("- a", "holds list"),
        ("", "x.yaml holds NoneType"),
        ("a: 2024-13-45", r"x.yaml is not valid YAML: month must be in 1\.\.12"),
        ("a: " + "9" * 5000, "x.yaml is not valid YAML: Exceeds the limit"),
        ("a: &itself [*itself]", "x.yaml is nested too deeply, or a value holds itself by an alias"),
        ("[" * 5000, "x.yaml is nested too deeply"),
        ("1: 2\nkind: stage", "unknown key 1"),
        ("a: 1", "no key `kind`"),
        ("kind: [stage]", r"kind is \['stage'\]; did you mean 'stage'"),
    ):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_config(tmp_path / "x.yaml")


def test_one_phase_of_a_file_is_chosen(tmp_path):
    path = tmp_path / "phases.yaml"
    path.write_text("kind: stage\nbackbone: {a: 1, b: 2}\nphases: {one: {seed: 1}, two: {backbone: {b: 3}}}\n")
    assert read_yaml(path, phase="one") == {"kind": "stage", "backbone": {"a": 1, "b": 2}, "seed": 1}
    assert read_yaml(path, ["backbone.a=4", "phase=two"], "one")["backbone"] == {"a": 4, "b": 3}
    for overrides, name in (([], "None"), (["phase=three"], "'three'")):
        with pytest.raises(ValueError, match=f"The phase of .* is {name}; choose one: phase=one, two"):
            read_yaml(path, overrides)
    assert read_yaml(path, ["phase=one", "phase=two"])["backbone"]["b"] == 3  # the last one, as of other overrides
    path.write_text("kind: stage\nphase: one\n")
    with pytest.raises(ValueError, match="The phase of .* is 'one', but it has no `phases`"):
        read_yaml(path)
    path.write_text("kind: stage\nphases: [a]\n")
    with pytest.raises(ValueError, match="phases in .* is list"):
        read_yaml(path, ["phase=a"])


@pytest.mark.parametrize("kind", [kind for kind in TRAINING_KINDS if kind != RECIPE])
def test_every_kind_has_a_dataclass_and_a_function(kind):
    config_class, run = training_kind(kind)
    assert dataclasses.is_dataclass(config_class)
    assert callable(run)


def test_data_paths_are_joined_with_the_folder():
    data = AudioDataConfig("/data", ["a/train.parquet"], ["b"])
    assert [path.as_posix() for path in data.train_paths] == ["/data/a/train.parquet"]
    assert [path.as_posix() for path in data.validation_paths] == ["/data/b"]


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("kind: codec\nkind: stage\n")
    with pytest.raises(ValueError, match="the key 'kind' occurs twice; keep one of them"):
        read_yaml(path)
    path.write_text("kind: codec\ncodec: {strides: [2], strides: [4]}\n")
    with pytest.raises(ValueError, match="the key 'strides' occurs twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("name", "override", "path"),
    [
        ("voice", "max_steps=2", "did you mean 'stages.coarse.max_steps'"),
        ("voice", "speaker=a", "did you mean 'data.speaker'"),
        ("recordings", "rank=2", "known are stages.coarse.rank, stages.parallel.rank, stages.semantic.rank"),
    ],
)
def test_a_key_of_an_inner_part_is_suggested_with_its_path(name, override, path):
    with pytest.raises(ValueError, match=f"unknown key .*; {path}"):
        load_config(ROOT / "configs" / "lora" / f"{name}.yaml", ["data.folder=d", override])
