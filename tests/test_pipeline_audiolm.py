# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`pipeline("audio-continuation")`: every form of input, batches, options, saving."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

import audiolm_hf
from audiolm_hf import AudioContinuationPipeline, AudioLMProcessor, read_audio
from tests.helpers_checkpoint import CLIP, OTHER_CLIP, tiny_processor

LENGTH_S = 0.4
SAMPLES = int(LENGTH_S * 16000)


@pytest.fixture(scope="module")
def processor() -> AudioLMProcessor:
    return tiny_processor()


@pytest.fixture
def pipe(tiny_audiolm, processor) -> AudioContinuationPipeline:
    return audiolm_hf.pipeline(
        tiny_audiolm,
        processor=processor,
        device="cpu",
        continuation_length_s=LENGTH_S,
        min_continuation_length_s=LENGTH_S,
        seed=0,
    )


@pytest.fixture(scope="module")
def prompt() -> np.ndarray:
    return read_audio(CLIP)[0][0]


def test_the_result_is_the_prompt_and_what_follows(pipe, prompt):
    result = pipe(str(CLIP))
    assert set(result) == {"audio", "sampling_rate"}
    assert result["sampling_rate"] == 16000
    assert result["audio"].dtype == np.float32 and result["audio"].shape == (len(prompt) + SAMPLES,)
    np.testing.assert_array_equal(result["audio"][: len(prompt)], prompt)
    assert np.abs(result["audio"][len(prompt) :]).max() > 0


def test_the_continuation_alone_is_the_end_of_the_full_result(pipe, prompt):
    alone = pipe(str(CLIP), return_full_audio=False)["audio"]
    assert alone.shape == (SAMPLES,)
    np.testing.assert_array_equal(alone, pipe(str(CLIP))["audio"][len(prompt) :])


def test_every_form_of_prompt_gives_the_same(pipe, prompt):
    expected = pipe(str(CLIP))["audio"]
    forms = [
        CLIP,
        CLIP.read_bytes(),
        {"array": prompt, "sampling_rate": 16000},
        {"raw": prompt, "sampling_rate": 16000},
        {"bytes": CLIP.read_bytes(), "path": None},
    ]
    for form in forms:
        np.testing.assert_array_equal(pipe(form)["audio"], expected)
    for bare in (prompt, torch.from_numpy(prompt)):
        np.testing.assert_array_equal(pipe(bare, sampling_rate=16000)["audio"], expected)
    for result in pipe([forms[0], forms[2]]):
        np.testing.assert_array_equal(result["audio"], expected)


def test_a_bare_array_must_tell_its_rate(pipe, prompt):
    with pytest.raises(ValueError, match="sampling_rate is missing"):
        pipe(prompt)


@pytest.mark.parametrize("num_return_sequences", [1, 2])
def test_a_batch_gives_what_single_prompts_give(pipe, num_return_sequences):
    prompts = [CLIP, OTHER_CLIP, CLIP]
    options = {"num_return_sequences": num_return_sequences}
    single = [pipe(prompt, **options) for prompt in prompts]
    batched = pipe(prompts, batch_size=2, **options)
    assert len(batched) == 3
    for one, many in zip(single, batched, strict=True):
        one, many = ([results] if num_return_sequences == 1 else results for results in (one, many))
        assert len(one) == len(many) == num_return_sequences
        for left, right in zip(one, many, strict=True):
            assert left["audio"].shape == right["audio"].shape
            np.testing.assert_allclose(left["audio"], right["audio"], atol=1e-4)


def test_several_continuations_differ_and_share_the_prompt(pipe, prompt):
    results = pipe(CLIP, num_return_sequences=3)
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result["audio"][: len(prompt)], prompt)
    ends = [result["audio"][len(prompt) :] for result in results]
    assert not np.array_equal(ends[0], ends[1]) and not np.array_equal(ends[1], ends[2])


def test_the_seed_decides(pipe):
    same, again, other = (pipe(CLIP, seed=seed)["audio"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)


def test_a_generator_is_read_lazily(pipe):
    taken = []

    def prompts() -> Iterator[Path]:
        for path in (CLIP, OTHER_CLIP):
            taken.append(path)
            yield path

    results = pipe(prompts())
    assert len(taken) <= 1
    assert [len(result["audio"]) for result in results] == [40000 + SAMPLES, 46400 + SAMPLES]


def test_a_dataset_column_is_read(pipe):
    rows = [{"audio": {"bytes": path.read_bytes(), "path": path.name}, "speaker": "x"} for path in (CLIP, OTHER_CLIP)]
    results = list(pipe(KeyDataset(rows, "audio"), batch_size=2))
    assert [len(result["audio"]) for result in results] == [40000 + SAMPLES, 46400 + SAMPLES]


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ([], {}, ValueError, "empty list"),
        ("missing.wav", {}, FileNotFoundError, "does not exist"),
        (b"noise", {}, ValueError, "cannot be decoded"),
        (3, {}, TypeError, "of type int"),
        (CLIP, {"num_return_sequences": 0}, ValueError, "num_return_sequences is 0"),
        (CLIP, {"seed": 1, "generate_kwargs": {"seed": 2}}, ValueError, "seed is given twice"),
        (CLIP, {"temperature": 1.0}, TypeError, "temperature"),
    ],
)
def test_misuse_is_one_clear_error(pipe, inputs, options, error, message):
    with pytest.raises(error, match=message):
        pipe(inputs, **options)


def test_the_progress_of_every_stage_is_told(pipe):
    seen = []
    pipe(CLIP, generate_kwargs={"progress": lambda *step: seen.append(step)})
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == ["semantic", "coarse", "fine"]
    for stage in ("semantic", "coarse", "fine"):
        _, done, total = [step for step in seen if step[0] == stage][-1]
        assert done == total > 0


def test_a_saved_pipeline_is_loaded_by_transformers_without_trust(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    assert not list(tmp_path.glob("*.py"))
    again = transformers.pipeline("audio-continuation", model=str(tmp_path), device="cpu")
    assert type(again) is AudioContinuationPipeline and type(again.processor) is AudioLMProcessor
    expected = pipe(CLIP)["audio"]
    options = {"continuation_length_s": LENGTH_S, "min_continuation_length_s": LENGTH_S, "seed": 0}
    np.testing.assert_array_equal(again(CLIP, **options)["audio"], expected)


def test_the_default_model_is_the_bundled_one():
    task = PIPELINE_REGISTRY.check_task("audio-continuation")[1]
    folder, revision = task["default"]["model"]
    assert Path(folder).parts[-3:] == ("audiolm_hf", "checkpoints", "speech-tiny") and revision == "main"
    assert task["pt"] == (transformers.AutoModel,)


def test_it_can_be_shown(pipe):
    text = repr(pipe)
    assert text.startswith("AudioContinuationPipeline: {'model': 'AudioLMModel', 'dtype': 'float32', 'device': 'cpu'")
    assert "'output_modalities': ('audio',)" in text


def test_stage_options_and_unknown_ones(pipe):
    hot = pipe(CLIP, generate_kwargs={"semantic_temperature": 2.0})["audio"]
    assert not np.array_equal(hot, pipe(CLIP)["audio"])
    with pytest.raises(ValueError, match="did you mean 'semantic_temperature'"):
        pipe(CLIP, generate_kwargs={"semantic_temprature": 2.0})
