# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Numbers of numpy and torch are as good as those of Python, wherever options and fields are given."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig

import audiolm_hf
from audiolm_hf import AudioLMFeatureExtractor, AudioLMGenerationConfig, AudioLMProcessor
from tests.conftest import tiny_config
from tests.helpers_checkpoint import CLIP, tiny_processor

PLAIN = {
    "continuation_length_s": 0.5,
    "min_continuation_length_s": 0.5,
    "num_return_sequences": 2,
    "seed": 3,
    "temperature": 0.75,
    "semantic_top_k": 5,
    "coarse_do_sample": False,
    "use_fine_stage": True,
}


def as_numpy(value):
    return {bool: np.bool_, int: np.int64, float: np.float32}[type(value)](value)


FORMS = [as_numpy, torch.tensor, np.array]


@pytest.mark.parametrize("form", FORMS)
def test_options_of_generation(tiny_audiolm, form):
    prompt = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    expected = tiny_audiolm.generate(prompt, **PLAIN)
    options = {name: form(value) for name, value in PLAIN.items()}
    output = tiny_audiolm.generate(prompt, **options)
    assert torch.equal(output.audio_values, expected.audio_values)
    sampled = {name: options.pop(name) for name in ("temperature", "semantic_top_k", "coarse_do_sample")}
    in_place = AudioLMGenerationConfig(**sampled)
    assert torch.equal(tiny_audiolm.generate(prompt, generation_config=in_place, **options).audio_values, expected[0])
    shared = GenerationConfig(temperature=form(0.75))
    named = {name: PLAIN[name] for name in ("semantic_top_k", "coarse_do_sample")}
    again = tiny_audiolm.generate(prompt, generation_config=shared, **named, **options)
    assert torch.equal(again.audio_values, expected.audio_values)
    alone = {name: value for name, value in options.items() if name != "num_return_sequences"} | sampled
    chunks = [*tiny_audiolm.stream(prompt, chunk_s=form(0.25), **alone)]
    start, end = int(expected.prompt_lengths[0]), int(expected.audio_lengths[0])
    assert len(chunks) == 2 and torch.equal(torch.cat(chunks), expected.audio_values[0, start:end])
    rows = tiny_audiolm.generate(batch_size=form(2), seed=form(0), continuation_length_s=form(0.25))
    assert torch.equal(rows.audio_values, tiny_audiolm.generate(batch_size=2, seed=0, continuation_length_s=0.25)[0])


@pytest.mark.parametrize("form", FORMS)
def test_options_of_the_pipeline_and_the_processor(tiny_audiolm, tmp_path, form):
    processor = tiny_processor()
    pipe = audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", batch_size=form(2), **PLAIN)
    samples = audiolm_hf.read_audio(CLIP, 16000)[0]
    options = {"sampling_rate": 8000, "return_full_audio": False, "num_workers": 0}
    expected = pipe(samples, **options)
    results = pipe([samples, samples], **{name: form(value) for name, value in (options | PLAIN).items()})
    assert len(results) == 2 and len(results[1]) == 2
    assert all(np.array_equal(result["audio"], expected[0]["audio"]) for result in (results[0][0], results[1][0]))
    padded = processor(
        samples, sampling_rate=form(16000), max_length=form(50000), padding="max_length", truncation=form(True)
    )
    assert padded["input_values"].shape == (1, 50000)
    assert processor(samples, sampling_rate=16000, pad_to_multiple_of=form(1000))["input_values"].shape == (1, 40000)
    path = tmp_path / "a.wav"
    processor.save_audio({"audio": samples, "sampling_rate": form(8000)}, path, seed=form(3))
    assert audiolm_hf.read_audio(path)[1] == 8000 and audiolm_hf.read_provenance(path)["seed"] == 3
    audiolm_hf.write_audio(path, samples, form(24000))
    assert audiolm_hf.read_audio(path)[1] == 24000
    codes = tiny_audiolm.acoustic_codec.encode(torch.from_numpy(samples)[None], num_codebooks=form(2))
    assert codes.shape[1] == 2
    assert tiny_audiolm.codec.decode(codes, num_samples=form(100)).audio_values.shape == (1, 100)
    tokens = tiny_audiolm.semantic_tokenizer.tokenize(torch.from_numpy(samples)[None], sampling_rate=form(8000))
    assert tokens["semantic_tokens"].shape[1] == pytest.approx(2 * codes.shape[2] * 320 / 640, abs=400)


@pytest.mark.parametrize("form", FORMS)
def test_fields_of_configurations_are_saved_as_json(tmp_path, form):
    config = tiny_config()
    layers = config.coarse_config.backbone_config.to_dict() | {"num_hidden_layers": form(1)}
    coarse = config.coarse_config.to_dict() | {"window_length_s": form(2.0), "backbone_config": layers}
    codec = config.codec_config.to_dict() | {"strides": [form(each) for each in config.codec_config.strides]}
    fields = config.to_dict() | {"coarse_config": coarse, "codec_config": codec}
    built = type(config)(**fields | {"loudness_db": form(-20.0)})
    built.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["loudness_db"] == -20.0 and saved["coarse_config"]["window_length_s"] == 2.0
    assert saved["codec_config"]["strides"] == [*config.codec_config.strides]
    built.loudness_db = form(-22.0)
    assert type(built.loudness_db) is float
    with pytest.raises(StrictDataclassError, match="out of range"):
        built.loudness_db = form(3.0)
    AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate=form(24000), min_length_s=form(0.25))).save_pretrained(
        tmp_path
    )
    assert AudioLMProcessor.from_pretrained(tmp_path).sampling_rate == 24000
    AudioLMGenerationConfig(semantic_top_k=form(5), parallel_num_passes=[form(4), form(1)]).save_pretrained(tmp_path)
    options = json.loads((tmp_path / "generation_config.json").read_text())
    assert options["semantic_top_k"] == 5 and options["parallel_num_passes"] == [4, 1]


@pytest.mark.parametrize(
    ("name", "value"), [("top_k", np.float32(1.5)), ("seed", np.bool_(True)), ("top_p", np.ones(2))]
)
def test_what_is_wrong_in_python_is_wrong_in_numpy(tiny_audiolm, name, value):
    with pytest.raises(ValueError, match=f"{name} is "):
        tiny_audiolm.generate(**{name: value})
