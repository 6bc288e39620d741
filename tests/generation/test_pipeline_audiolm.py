# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`pipeline("audio-continuation")`: every form of input, batches, options, saving."""

import copy
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

import audiolm_hf
from audiolm_hf import AudioContinuationPipeline, AudioLMProcessor, read_audio
from tests.generation.test_processing_audiolm import torchcodec_forms
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
        {"audio": {"bytes": CLIP.read_bytes(), "path": None}, "speaker": "a row of a dataset"},
        *torchcodec_forms(),
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


def test_a_flat_list_of_numbers_and_a_tuple_of_gradio_are_one_prompt(pipe, prompt):
    expected = pipe(CLIP, continuation_length_s=0.1, min_continuation_length_s=0.1)
    integers = (prompt * 2**15).astype(np.int16)
    for form, options in ((prompt.tolist(), {"sampling_rate": 16000}), ((16000, integers), {})):
        result = pipe(form, continuation_length_s=0.1, min_continuation_length_s=0.1, **options)
        np.testing.assert_array_equal(result["audio"], expected["audio"])


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: tuple(rows),
        lambda rows: Dataset.from_list([{"audio": row} for row in rows])["audio"],
        lambda rows: Dataset.from_list([{"audio": row} for row in rows]),
        lambda rows: dict(enumerate(rows)).values(),
        lambda rows: [*torchcodec_forms()[:1], io.BytesIO(OTHER_CLIP.read_bytes())],
    ],
    ids=["tuple", "column", "dataset", "view", "decoders and open files"],
)
def test_what_has_a_length_is_a_list_of_prompts(pipe, make):
    results = pipe(make([{"bytes": path.read_bytes(), "path": None} for path in (CLIP, OTHER_CLIP)]), batch_size=2)
    assert [len(result["audio"]) for result in results] == [40000 + SAMPLES, 46400 + SAMPLES]


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


def test_a_streamed_dataset_and_an_iterator_are_read(pipe):
    rows = [{"audio": {"bytes": path.read_bytes(), "path": None}} for path in (CLIP, OTHER_CLIP)]

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(rows)

        def __len__(self):
            return len(rows)

    for inputs in (Dataset.from_list(rows).to_iterable_dataset(), Stream(), map(dict, rows)):
        assert [len(result["audio"]) for result in pipe(inputs)] == [40000 + SAMPLES, 46400 + SAMPLES]


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ([], {}, ValueError, "empty list"),
        ((), {}, ValueError, "empty tuple"),
        (KeyDataset([], "audio"), {}, ValueError, "empty KeyDataset"),
        ([[CLIP, OTHER_CLIP], CLIP], {}, TypeError, r"inputs\[0\]: a prompt is of type list"),
        ([CLIP, b"noise"], {}, ValueError, r"inputs\[1\]: The audio file given as 5 bytes cannot be decoded"),
        ([CLIP, None], {}, ValueError, r"inputs\[1\]: audio is None"),
        ([CLIP, "missing.wav"], {}, FileNotFoundError, r"inputs\[1\] \(missing.wav\): The audio file"),
        ([CLIP, np.zeros(8000)], {"sampling_rate": 16000}, ValueError, r"inputs\[1\]: The audio is silent"),
        (CLIP, {"batch_size": 0}, ValueError, "batch_size is 0"),
        (CLIP, {"batch_size": -1}, ValueError, "batch_size is -1"),
        ([CLIP], {"batch_size": "2"}, ValueError, "batch_size is '2'"),
        (CLIP, {"sampling_rate": 0}, ValueError, "sampling_rate is 0"),
        (CLIP, {"sampling_rate": -1}, ValueError, "sampling_rate is -1"),
        (CLIP, {"return_full_audio": "no"}, ValueError, "return_full_audio is 'no'; give True or False"),
        (CLIP, {"num_return_sequences": "2"}, ValueError, "num_return_sequences is '2'"),
        (CLIP, {"max_new_tokens": 10}, ValueError, "give continuation_length_s"),
        (CLIP, {"coarse_temperature": -1.0}, ValueError, "coarse_temperature is -1"),
        ("missing.wav", {}, FileNotFoundError, "does not exist"),
        (b"noise", {}, ValueError, "cannot be decoded"),
        (3, {}, TypeError, "of type int"),
        (CLIP, {"num_return_sequences": 0}, ValueError, "num_return_sequences is 0"),
        (CLIP, {"seed": 1, "generate_kwargs": {"seed": 2}}, ValueError, "seed is given twice"),
        (CLIP, {"temprature": 1.0}, ValueError, "no option 'temprature'"),
        ("", {}, ValueError, "path of the audio file is empty"),
    ],
)
def test_misuse_is_one_clear_error(pipe, inputs, options, error, message):
    with pytest.raises(error, match=message):
        pipe(inputs, **options)


def test_each_prompt_of_a_list_is_read_once(pipe):
    reads = []

    class Counted(io.BytesIO):
        def read(self, *size):
            reads.append(size)
            return super().read(*size)

    results = pipe([Counted(path.read_bytes()) for path in (CLIP, OTHER_CLIP)])
    assert len(results) == 2 and len(reads) == 2


def test_nothing_is_generated_where_one_of_a_list_cannot_be_read(pipe, tmp_path):
    steps = []
    (tmp_path / "cut.flac").write_bytes(CLIP.read_bytes()[:20000])
    for bad in (tmp_path / "cut.flac", tmp_path / "missing.wav"):
        with pytest.raises((ValueError, FileNotFoundError), match=r"inputs\[2\]"):
            pipe([CLIP, OTHER_CLIP, bad], progress=lambda *step: steps.append(step))
    assert not steps


def test_an_empty_generator_is_refused(pipe):
    with pytest.raises(ValueError, match="inputs holds no prompt"):
        list(pipe(audio for audio in []))


@pytest.mark.parametrize("make", [iter, lambda rows: KeyDataset([{"audio": row} for row in rows], "audio")])
def test_a_bad_prompt_of_a_generator_or_dataset_is_named(pipe, make):
    with pytest.raises(FileNotFoundError, match=r"inputs\[1\] \(missing.wav\)"):
        list(pipe(make([CLIP, "missing.wav"])))


def test_a_pipeline_that_has_run_is_pickled_and_copied(pipe, monkeypatch):
    expected = pipe(CLIP)["audio"]
    for stage in (pipe.model.semantic, pipe.model.coarse, pipe.model.fine):
        stage(torch.zeros(1, 3, dtype=torch.long), output_hidden_states=True)  # installs the hooks that capture them
        monkeypatch.setattr(stage.model, "forward", stage.model.forward)  # as a patch that was undone
    loaded = pickle.loads(pickle.dumps(pipe))  # noqa: S301 - its own
    for again in (loaded, copy.deepcopy(pipe)):
        np.testing.assert_array_equal(again(CLIP)["audio"], expected)
        assert next(again.model.parameters()).data_ptr() != next(pipe.model.parameters()).data_ptr()
    hidden = again.model.semantic(torch.zeros(1, 3, dtype=torch.long), output_hidden_states=True).hidden_states
    assert len(hidden) == 3  # what captures them is there again


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


def test_options_of_the_stages_are_keywords(pipe, tiny_audiolm, processor):
    plain = pipe(CLIP)["audio"]
    hot = pipe(CLIP, generate_kwargs={"semantic_temperature": 2.0})["audio"]
    assert not np.array_equal(hot, plain)
    np.testing.assert_array_equal(pipe(CLIP, semantic_temperature=2.0)["audio"], hot)
    options = {"continuation_length_s": LENGTH_S, "min_continuation_length_s": LENGTH_S, "seed": 0}
    always = audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", semantic_temperature=2.0, **options)
    np.testing.assert_array_equal(always(CLIP)["audio"], hot)
    greedy = [pipe(CLIP, do_sample=False, seed=seed)["audio"] for seed in (0, 1)]
    np.testing.assert_array_equal(greedy[0], greedy[1])
    config = transformers.GenerationConfig(do_sample=False)
    np.testing.assert_array_equal(pipe(CLIP, generation_config=config)["audio"], greedy[0])


def test_unknown_options_are_refused_when_they_are_given(pipe, tiny_audiolm, processor):
    with pytest.raises(ValueError, match="did you mean 'semantic_temperature'"):
        pipe(CLIP, generate_kwargs={"semantic_temprature": 2.0})
    with pytest.raises(ValueError, match="did you mean 'coarse_temperature'"):
        audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", coarse_temprature=2.0)
