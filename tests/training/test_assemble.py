# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors import safe_open

from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer, round_to_float16_
from audiolm_hf.equalizer_audiolm import band_levels
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.training.assemble import AssembleConfig, assemble
from tests.helpers_sounds import EXAMPLES, RATE

PARTS = ("semantic_tokenizer", "codec", "semantic", "coarse", "fine")


@pytest.fixture
def parts(tiny_audiolm, tmp_path):
    for name in PARTS:
        tiny_audiolm.get_submodule(name).save_pretrained(tmp_path / name)
    return {name: str(tmp_path / name) for name in PARTS}


@pytest.fixture
def recording(tmp_path):
    speech = sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0][: 2 * RATE]
    sf.write(tmp_path / "clip.flac", speech, RATE)
    return torch.from_numpy(speech)[None]


def config_of(parts, output, **changes):
    stages = {name: parts[name] for name in ("semantic", "coarse", "fine")}
    return AssembleConfig(
        semantic_tokenizer=parts["semantic_tokenizer"],
        codec=parts["codec"],
        stages=stages,
        output_folder=str(output),
        **changes,
    )


def test_float32_checkpoint_is_its_parts_bit_by_bit(tiny_audiolm, parts, tmp_path):
    assemble(config_of(parts, tmp_path / "out", float16=False))
    model = AudioLMModel.from_pretrained(tmp_path / "out")
    expected = tiny_audiolm.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in model.state_dict().items())
    assert AudioLMProcessor.from_pretrained(tmp_path / "out").sampling_rate == RATE


def test_float16_checkpoint_is_half_as_large_and_loads_in_float32(parts, tmp_path):
    sizes = []
    for name in ("whole", "half"):
        folder = assemble(config_of(parts, tmp_path / name, float16=name == "half"))
        sizes.append(json.loads((tmp_path / f"{name}-assemble.json").read_text())["bytes"])
        assert (folder / "config.json").is_file()
    assert sizes[1] < 0.75 * sizes[0]
    with safe_open(tmp_path / "half" / "model.safetensors", "pt") as file:
        names = set(file.keys())
        dtypes = {name: file.get_tensor(name).dtype for name in names}
    assert "coarse.lm_head.weight" not in names  # tied: stored once
    assert dtypes["coarse.model.embed_tokens.weight"] == torch.float16
    assert dtypes["semantic_tokenizer.centroids"] == torch.float32
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float32"
    model = AudioLMModel.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_matrices_of_stages_in_float8_are_read_into_any_dtype(tiny_audiolm, parts, tmp_path):
    folder = assemble(config_of(parts, tmp_path / "out", float8_stages=True))
    with safe_open(folder / "model.safetensors", "pt") as file:
        dtypes = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 # not a dict
    small = {name for name, dtype in dtypes.items() if dtype == torch.float8_e4m3fn}
    assert {name.split(".")[0] for name in small} == {"semantic", "coarse", "fine"}
    assert "coarse.model.embed_tokens.weight" in small
    assert "coarse.model.norm.weight" not in small
    assert "coarse.lm_head.weight" not in dtypes  # tied: stored once
    expected = tiny_audiolm.state_dict()["coarse.model.embed_tokens.weight"].half().to(torch.float8_e4m3fn)
    offload = {"device_map": {"": "disk"}, "offload_folder": tmp_path / "offload", "offload_buffers": True}
    for options in ({}, {"dtype": "auto"}, {"dtype": torch.bfloat16}, {"device_map": "cpu"}, offload):
        model = AudioLMModel.from_pretrained(folder, **options)
        dtype = options["dtype"] if "dtype" in options and options["dtype"] != "auto" else torch.float32
        assert {parameter.dtype for parameter in model.coarse.parameters()} == {dtype}
        if "offload_folder" not in options:
            assert model.coarse.get_input_embeddings().weight.equal(expected.to(dtype))
    prompt = torch.zeros(1, 2 * RATE)
    away = model.generate(prompt, seed=0, continuation_length_s=0.5)
    here = AudioLMModel.from_pretrained(folder).generate(prompt, seed=0, continuation_length_s=0.5)
    assert away.audio_values.equal(here.audio_values)


def test_tokens_before_and_after_storing_are_compared(parts, tmp_path, recording):
    config = config_of(parts, tmp_path / "out", check_data=[str(tmp_path / "clip.flac")])
    assert assemble(config) == tmp_path / "out"
    report = json.loads((tmp_path / "out-assemble.json").read_text())
    original, stored = (AudioLMModel.from_parts(**load_all(parts)), AudioLMModel.from_pretrained(tmp_path / "out"))
    with torch.inference_mode():
        codes = [model.eval().acoustic_codec.encode(recording) for model in (original, stored)]
    assert report["equal_audio_codes"] == pytest.approx(float((codes[0] == codes[1]).float().mean()))
    assert 0 <= report["equal_semantic_tokens"] <= 1
    assert set(report["parameters"]) == set(PARTS)


def test_tokenizers_rounded_before_give_equal_tokens(parts, tmp_path, recording):
    for name in ("semantic_tokenizer", "codec"):
        part = load_all(parts)[name]
        round_to_float16_(part)
        part.save_pretrained(parts[name])
    config = config_of(parts, tmp_path / "out", check_data=[str(tmp_path / "clip.flac")])
    assemble(config)
    report = json.loads((tmp_path / "out-assemble.json").read_text())
    assert (report["equal_semantic_tokens"], report["equal_audio_codes"]) == (1.0, 1.0)


def test_generation_defaults_are_stored(parts, tmp_path):
    generation = {"continuation_length_s": 2.5, "coarse_temperature": 0.7}
    assemble(config_of(parts, tmp_path / "out", generation=generation))
    stored = AudioLMModel.from_pretrained(tmp_path / "out").generation_config
    assert (stored.continuation_length_s, stored.coarse_temperature) == (2.5, 0.7)


def test_the_spectrum_of_recordings_is_stored(parts, tmp_path, recording):
    assert AudioLMModel.from_parts(**load_all(parts)).config.spectrum_db is None
    assemble(config_of(parts, tmp_path / "out", spectrum_data=[str(tmp_path / "clip.flac")]))
    stored = AudioLMModel.from_pretrained(tmp_path / "out").config
    expected = band_levels(recording[0], RATE)  # shorter than an excerpt, so that both excerpts are the whole
    np.testing.assert_allclose(stored.spectrum_db, expected, atol=0.06)
    assert stored.spectrum_std_db == [0.0] * len(expected)


def test_the_folders_of_the_parts_are_not_stored(parts, tmp_path):
    assemble(config_of(parts, tmp_path / "out"))
    assert str(tmp_path.parent) not in (tmp_path / "out" / "config.json").read_text()
    assert not any(folder in (tmp_path / "out" / "config.json").read_text() for folder in parts.values())


def test_checkpoint_that_is_too_large_is_an_error(parts, tmp_path):
    with pytest.raises(ValueError, match=r"MB; max_megabytes is 0\.01"):
        assemble(config_of(parts, tmp_path / "out", max_megabytes=0.01))
    assert not (tmp_path / "out" / "config.json").exists()
    assemble(config_of(parts, tmp_path / "out"))  # nothing was written that would bind


@pytest.mark.parametrize("key", ["semantic", "coarse", "fine", "semantic_tokenizer"])
def test_a_part_of_another_kind_is_refused_before_anything_is_loaded(parts, tmp_path, key):
    other = parts["coarse" if key != "coarse" else "fine"]
    with pytest.raises(ValueError, match=rf"{key} is .*, of type 'audiolm_.*'; give one of type 'audiolm_"):
        assemble(config_of(parts | {key: other}, tmp_path / "out"))


@pytest.mark.parametrize(("stages", "missing"), [({"coarse": "c"}, "semantic"), ({"semantic": "s"}, "coarse")])
def test_a_checkpoint_without_a_stage_that_it_needs_is_refused(parts, tmp_path, stages, missing):
    with pytest.raises(ValueError, match=f"none of which predicts {missing} tokens"):
        AssembleConfig(semantic_tokenizer="t", codec="c", stages=stages, output_folder=str(tmp_path))


def load_all(parts):
    return {
        "semantic_tokenizer": load_semantic_tokenizer(parts["semantic_tokenizer"]),
        "codec": load_codec(parts["codec"]).model,
        "semantic": AudioLMSemanticModel.from_pretrained(parts["semantic"]),
        "coarse": AudioLMCoarseModel.from_pretrained(parts["coarse"]),
        "fine": AudioLMFineModel.from_pretrained(parts["fine"]),
    }
