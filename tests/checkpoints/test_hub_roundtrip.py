# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""An exported checkpoint runs where this package is not installed, from a folder and from a Hub cache."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

import audiolm_hf
from audiolm_hf import (
    AudioLMDetectorConfig,
    AudioLMDetectorForAudioClassification,
    AudioLMFeatureExtractor,
    AudioLMModel,
    AudioLMProcessor,
    AudioLMSemanticTokenizer,
    add_code,
    export_checkpoint,
)
from tests.helpers_checkpoint import CLIP, lay_out_as_hub_cache, run_python, tiny_processor
from tests.helpers_parallel import parallel_audiolm as tiny_model

REPO_ID = "somebody/audiolm-tiny"
PARTS = {
    "semantic_tokenizer": ("AudioLMSemanticTokenizer", "AutoModel"),
    "codec": ("SoundStreamModel", "AutoModel"),
    "semantic": ("AudioLMSemanticModel", "AutoModelForCausalLM"),
    "coarse": ("AudioLMCoarseModel", "AutoModelForCausalLM"),
    "fine": ("AudioLMFineModel", "AutoModelForCausalLM"),
    "parallel": ("AudioLMParallelModel", "AutoModel"),
}
OPTIONS = {"continuation_length_s": 0.4, "min_continuation_length_s": 0.4, "seed": 0}

# One process for all cases, as importing transformers takes most of its time; a case that fails leaves its traceback.
WITHOUT_PACKAGE = """
import json, sys, traceback
sys.modules["audiolm_hf"] = None  # hides the package, also an installed one
import numpy as np
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, pipeline
cases, clip, options, report = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
trust = {"trust_remote_code": True}

def is_remote(thing, name):
    kind = type(thing)
    assert kind.__name__ == name and kind.__module__.startswith("transformers_modules."), kind

def run_whole(name):
    pipe = pipeline("audio-continuation", model=name, device="cpu", **trust)
    is_remote(pipe, "AudioContinuationPipeline")
    is_remote(pipe.model, "AudioLMModel")
    is_remote(pipe.processor, "AudioLMProcessor")
    processor = AutoProcessor.from_pretrained(name, **trust)
    is_remote(processor.feature_extractor, "AudioLMFeatureExtractor")
    is_remote(AutoFeatureExtractor.from_pretrained(name, **trust), "AudioLMFeatureExtractor")
    config = AutoConfig.from_pretrained(name, **trust)
    is_remote(config, "AudioLMConfig")
    assert config.auto_map["AutoConfig"] == "modeling_audiolm.AudioLMConfig", config.auto_map  # registers parts
    model = AutoModel.from_pretrained(name, **trust).eval()
    is_remote(model, "AudioLMModel")
    is_remote(transformers.AutoModelForTextToWaveform.from_pretrained(name, **trust), "AudioLMModel")
    from_pipeline = pipe(clip, **options)["audio"]
    from_parts = processor.batch_decode(model.generate(**processor(clip), **options))[0]
    np.testing.assert_array_equal(from_pipeline, from_parts)
    half = pipeline("audio-continuation", model=name, device="cpu", dtype="bfloat16", **trust)
    assert str(half.model.semantic.dtype) == "torch.bfloat16"
    assert np.isfinite(half(clip, **options)["audio"]).all()
    values = processor(clip)["input_values"]
    np.testing.assert_array_equal(*(whole.codec.encode(values).audio_codes for whole in (half.model, model)))
    return from_pipeline.tolist()

def run_saved_again(name, folder):
    pipeline("audio-continuation", model=name, device="cpu", **trust).save_pretrained(folder)
    return run_whole(folder)

def run_saved_in_parts(name, folder, of_parts):
    AutoModel.from_pretrained(name, **trust).save_pretrained(folder)
    AutoProcessor.from_pretrained(name, **trust).save_pretrained(folder)
    return run_whole(folder)

def run_part(folder, name, auto, reads_audio):
    for auto in {"AutoModel", auto}:
        is_remote(getattr(transformers, auto).from_pretrained(folder, **trust), name)
    if reads_audio:
        is_remote(AutoFeatureExtractor.from_pretrained(folder, **trust), "AudioLMFeatureExtractor")

def run_detector(folder):
    scores = pipeline("audio-classification", model=folder, device="cpu", **trust)(clip)
    return {each["label"]: each["score"] for each in scores}

results = {}
for case, arguments in cases.items():
    try:
        run = (run_whole, run_saved_again, run_saved_in_parts, run_part)[len(arguments) - 1]
        run = run_detector if case == "detector" else run
        results[case] = run(*arguments)
    except Exception:
        results[case] = traceback.format_exc()
with open(report, "w") as file:
    json.dump(results, file)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(tiny_model(), tiny_processor(), tmp_path_factory.mktemp("export") / "tiny")


def tiny_detector() -> AudioLMDetectorForAudioClassification:
    torch.manual_seed(0)
    return AudioLMDetectorForAudioClassification(AudioLMDetectorConfig(initializer_range=0.02)).eval()


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    processor = tiny_processor()
    return processor.batch_decode(tiny_model().generate(**processor(CLIP), **OPTIONS))[0]


@pytest.fixture(scope="module")
def without_package(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a process in which the package cannot be imported got: by case the audio, None, or a traceback."""
    home = tmp_path_factory.mktemp("home")
    lay_out_as_hub_cache(exported, home, REPO_ID)
    cases = {"folder": [str(exported)], "hub cache": [REPO_ID], "saved again": [str(exported), str(home / "again")]}
    cases["saved in parts"] = [str(exported), str(home / "parts again"), True]
    for name, classes in PARTS.items():
        folder = export_checkpoint(getattr(tiny_model(), name), None, home / "parts" / name)
        cases[name] = [str(folder), *classes, name in ("codec", "semantic_tokenizer")]
    cases["detector"] = [str(export_checkpoint(tiny_detector(), None, home / "detector"))]
    report = home / "report.json"
    run_python(WITHOUT_PACKAGE, json.dumps(cases), CLIP, json.dumps(OPTIONS), report, home=home)
    return json.loads(report.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["folder", "hub cache", "saved again", "saved in parts"])
def test_it_runs_without_the_package(without_package, expected, case):
    assert isinstance(without_package[case], list), without_package[case]
    np.testing.assert_allclose(without_package[case], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", PARTS)
def test_every_part_is_loaded_alone_without_the_package(without_package, case):
    assert without_package[case] is None, without_package[case]


@pytest.mark.slow
def test_a_detector_classifies_without_the_package(without_package):
    audio, _ = audiolm_hf.read_audio(CLIP)
    with torch.no_grad():
        score = float(tiny_detector()(torch.from_numpy(audio)).logits.softmax(-1)[0, 1])
    assert without_package["detector"] == pytest.approx({"real": score, "generated": 1 - score}, abs=1e-4)


def test_the_installed_package_needs_no_trust(exported, expected):
    pipe = audiolm_hf.pipeline(exported, device="cpu")
    for part in (pipe, pipe.model, pipe.processor):
        assert type(part).__module__.startswith("audiolm_hf."), type(part)
    np.testing.assert_array_equal(pipe(CLIP, **OPTIONS)["audio"], expected)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_loaded_equal_by_the_installed_package(tmp_path, name):
    class_name, auto = PARTS[name]
    part = getattr(tiny_model(), name)
    part.save_pretrained(tmp_path)
    again = getattr(transformers, auto).from_pretrained(tmp_path)
    assert type(again) is type(part) and type(again).__name__ == class_name
    for key, tensor in part.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_the_installed_package_registers_what_users_of_bark_and_encodec_look_for(tmp_path):
    export_checkpoint(tiny_model().codec, None, tmp_path / "codec", with_code=False)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "codec")
    assert type(extractor) is audiolm_hf.AudioLMFeatureExtractor and extractor.sampling_rate == 16000
    export_checkpoint(tiny_model().semantic, None, tmp_path / "stage")
    assert not (tmp_path / "stage" / "preprocessor_config.json").exists()
    mapped = transformers.AutoModelForTextToWaveform._model_mapping[audiolm_hf.AudioLMConfig]
    assert mapped is audiolm_hf.AudioLMModel


def test_weights_are_safetensors_and_equal(exported):
    names = {path.name for path in exported.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "processor_config.json"} <= names
    assert not {name for name in names if not name.endswith((".json", ".py", ".safetensors"))}
    state = tiny_model().state_dict()
    with safe_open(exported / "model.safetensors", "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dictionary
    assert set(stored) <= set(state)
    for key, tensor in stored.items():
        assert torch.equal(tensor, state[key]), key


def test_parts_do_not_carry_the_pipeline(tmp_path):
    export_checkpoint(tiny_model().codec, None, tmp_path)
    assert (tmp_path / "modeling_soundstream_audiolm.py").exists()
    assert not (tmp_path / "pipeline_audiolm.py").exists()
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())


def test_nothing_of_this_machine_is_in_the_export(exported):
    for path in exported.glob("*.json"):
        text = path.read_text()
        assert str(exported.parent) not in text and str(Path(audiolm_hf.__file__).parent) not in text


def test_folders_of_the_parts_are_saved_nowhere(tmp_path):
    model = tiny_model()
    parts = {}
    for name in PARTS:
        getattr(model, name).save_pretrained(tmp_path / name)
        parts[name] = type(getattr(model, name)).from_pretrained(tmp_path / name)
    encoder = parts["semantic_tokenizer"].encoder
    encoder.save_pretrained(tmp_path / "encoder")
    encoder = type(encoder).from_pretrained(tmp_path / "encoder")
    AudioLMSemanticTokenizer.from_encoder(encoder, layer=1).save_pretrained(tmp_path / "wrapped")
    AudioLMModel.from_parts(**parts).save_pretrained(tmp_path / "whole")
    AudioLMModel.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "again")
    AudioLMModel.from_pretrained(tmp_path / "whole").coarse.save_pretrained(tmp_path / "part of it")
    saved = list(tmp_path.glob("*/*.json"))
    assert len(saved) >= 10
    assert [path for path in saved if str(tmp_path) in path.read_text()] == []


@pytest.mark.parametrize("rate", [8000, 24000])
def test_processor_of_another_rate_is_refused(tmp_path, rate):
    processor = AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate=rate))
    message = f"processor works at {rate} Hz and the model at 16000 Hz"
    with pytest.raises(ValueError, match=message):
        audiolm_hf.pipeline(model=tiny_model(), processor=processor)
    with pytest.raises(ValueError, match=message):
        export_checkpoint(tiny_model(), processor, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_what_the_package_saves_again_does_not_name_code_that_is_not_there(exported, tmp_path, expected):
    pipe = audiolm_hf.pipeline(exported, device="cpu")
    pipe.save_pretrained(tmp_path / "whole")
    pipe.model.codec.save_pretrained(tmp_path / "codec")
    for path in tmp_path.glob("*/*.json"):
        assert "auto_map" not in path.read_text() and "custom_pipelines" not in path.read_text(), path
    again = transformers.pipeline("audio-continuation", model=str(tmp_path / "whole"), device="cpu")
    np.testing.assert_array_equal(again(CLIP, **OPTIONS)["audio"], expected)
    add_code(tmp_path / "whole")
    for path in exported.glob("*.json"):
        saved = json.loads((tmp_path / "whole" / path.name).read_text())
        assert without_dtypes(saved) == without_dtypes(json.loads(path.read_text())), path.name


def without_dtypes(values):
    """Leave out what transformers notes in the configurations of parts after loading them."""
    if isinstance(values, dict):
        return {key: without_dtypes(value) for key, value in values.items() if key != "dtype"}
    return values


def test_code_may_come_later_and_saving_leaves_the_model_as_it_was(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    export_checkpoint(model, processor, tmp_path / "with")
    export_checkpoint(model, processor, tmp_path / "without", with_code=False)
    config = json.loads((tmp_path / "without" / "config.json").read_text())
    assert "auto_map" not in config and "custom_pipelines" not in config
    assert not list((tmp_path / "without").glob("*.py"))
    add_code(tmp_path / "without")
    for path in (tmp_path / "with").iterdir():
        assert (tmp_path / "without" / path.name).read_bytes() == path.read_bytes(), path.name
