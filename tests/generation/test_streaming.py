# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Streams: the samples of the whole output, bit for bit, early, one row at a time, and nothing left behind."""

import gc
import threading
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import audiolm_hf
from audiolm_hf import AudioIteratorStreamer, AudioLMModel, continuation_audiolm, numerics_audiolm
from audiolm_hf.equalizer_audiolm import NUM_BANDS
from tests.conftest import some_slow
from tests.helpers_parallel import parallel_audiolm

RATE = 16000


@pytest.fixture(scope="module")
def both():
    """A whole with every stage: semantic, coarse, fine and parallel."""
    return parallel_audiolm()


@pytest.fixture(scope="module")
def prompt():
    return 0.1 * torch.randn(1, 12800, generator=torch.Generator().manual_seed(0))


@contextmanager
def windows(model, **lengths_s):
    """Other windows of some stages for a while."""
    configs = {name: model.stages[name].config for name in lengths_s}
    before = {name: config.window_length_s for name, config in configs.items()}
    for name, length_s in lengths_s.items():
        configs[name].window_length_s = length_s
    try:
        yield
    finally:
        for name, length_s in before.items():
            configs[name].window_length_s = length_s


def whole(model, prompt, **options):
    output = model.generate(prompt, **options)
    return output.audio_values[0, output.prompt_lengths[0] : output.audio_lengths[0]]


STAGES = [
    {},
    {"acoustic_mode": "parallel", "parallel_num_passes": 2},
    {"use_fine_stage": False},
    {"fine_batch_size": 1},
    {"fine_batch_size": 3},
    {"semantic_num_candidates": 3, "semantic_temperature": 1.0},
]


@settings(deadline=None, max_examples=12)
@given(
    options=st.sampled_from(STAGES),
    length_s=st.floats(0.02, 4.0),
    least=st.sampled_from([0.0, 0.5, 1.0]),
    chunk_s=st.none() | st.floats(0.01, 2.0),
    seed=st.integers(0, 2**32),
    window_s=st.tuples(*[st.floats(0.1, 2.0)] * 3),
    prompt_s=st.sampled_from([None, 0.08, 0.3, 0.8]),
)
def test_a_stream_is_the_whole_output(both, prompt, options, length_s, least, chunk_s, seed, window_s, prompt_s):
    given = None if prompt_s is None else prompt[:, : int(prompt_s * RATE)]
    options = options | {
        "continuation_length_s": length_s,
        "min_continuation_length_s": least * length_s,
        "seed": seed,
        "semantic_temperature": 2.0,
    }
    with windows(both, **dict(zip(("semantic", "coarse", "fine"), window_s, strict=True)), parallel=window_s[1]):
        expected = whole(both, given, **options)
        chunks = [*both.stream(given, chunk_s=chunk_s, **options)]
    assert torch.equal(torch.cat([torch.zeros(0), *chunks]), expected)
    if chunk_s is not None:
        assert all(len(chunk) == max(1, round(chunk_s * RATE)) for chunk in chunks[:-1])


@pytest.mark.parametrize("options", [{}, {"dynamics": 1.0, "room_noise": 1.0}])
@pytest.mark.parametrize("length_s", [0.02, 0.5, 11201 / RATE, 3.0])
def test_a_stream_with_the_spectrum_of_its_prompt_is_the_whole_output(both, length_s, options, monkeypatch):
    monkeypatch.setattr(both.config, "spectrum_db", [0.0] * NUM_BANDS)
    monkeypatch.setattr(both.config, "spectrum_std_db", [1.0] * NUM_BANDS)
    dark = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0)).cumsum(1) / 2000
    options = options | {"continuation_length_s": length_s, "min_continuation_length_s": length_s, "seed": 0}
    expected = whole(both, dark, **options)
    assert len(expected) == round(length_s * RATE)
    chunks = [*both.stream(dark, **options)]
    assert torch.equal(torch.cat(chunks), expected)
    assert all(len(chunk) for chunk in chunks)
    monkeypatch.setattr(both.config, "spectrum_std_db", [200.0] * NUM_BANDS)
    assert not torch.equal(whole(both, dark, **options), expected)


@pytest.mark.parametrize("with_prompt", [True, False])
def test_semantic_tokens_are_streamed_too(both, prompt, with_prompt):
    options = {"semantic_tokens": torch.randint(0, 20, (1, 70)), "seed": 0}
    given = prompt if with_prompt else None
    assert torch.equal(torch.cat([*both.stream(given, **options)]), whole(both, given, **options))


@pytest.mark.parametrize("name", ["speech-tiny", "piano-tiny"])
def test_streams_of_the_bundled_checkpoints_are_the_whole_output(name):
    model = AudioLMModel.from_pretrained(audiolm_hf.checkpoint(name))
    audio, rate = audiolm_hf.read_audio(audiolm_hf.example_prompt(name))
    given = torch.from_numpy(audio[:, : 2 * rate])
    options = {"continuation_length_s": 1.5, "min_continuation_length_s": 1.5, "seed": 5}
    chunks = [*model.stream(given, **options)]
    assert len(chunks) > 2
    assert torch.equal(torch.cat(chunks), whole(model, given, **options))


@pytest.mark.parametrize("options", STAGES[:3])
def test_the_first_chunk_comes_before_the_stages_are_done(both, prompt, options):
    calls = []
    stream = both.stream(
        prompt,
        continuation_length_s=20.0,
        min_continuation_length_s=20.0,
        seed=0,
        progress=lambda *call: calls.append(call),
        **options,
    )
    assert len(next(stream)) == 16 * 320
    last = {stage: done / total for stage, done, total in calls}
    assert set(last) > {"semantic"} and all(share < 0.2 for share in last.values())
    seen = len(calls)
    stream.close()
    gc.collect()
    assert len(calls) == seen


@pytest.mark.parametrize("options", some_slow([{"fine_batch_size": 1}, STAGES[1]], STAGES[1]))
def test_a_stream_keeps_no_more_of_a_long_continuation(both, prompt, options):
    def kept(length_s):
        """Count the tokens and codes in memory before the last second."""
        lengths = {"continuation_length_s": length_s, "min_continuation_length_s": length_s}
        stream = both.stream(prompt, seed=0, chunk_s=length_s - 1, **lengths, **options)
        next(stream)
        tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
        return sum(each.untyped_storage().nbytes() for each in tensors if each.dtype == torch.int64)

    assert kept(18.6) < 1.1 * kept(10.92)


def test_a_streamer_receives_the_chunks_and_generate_returns_the_rest(both, prompt):
    options = {"continuation_length_s": 2.0, "min_continuation_length_s": 2.0, "seed": 0}
    streamer, results = AudioIteratorStreamer(timeout=60), []
    thread = threading.Thread(
        target=lambda: results.append(both.generate(prompt, streamer=streamer, **options)), daemon=True
    )
    thread.start()
    chunks = [*streamer]
    thread.join()
    expected = both.generate(prompt, **options)
    assert len(chunks) > 1 and torch.equal(torch.cat(chunks), whole(both, prompt, **options))
    for name, value in results[0].items():
        assert torch.equal(value, expected[name])


class Failing(AudioIteratorStreamer):
    def put(self, value):
        raise RuntimeError("full")


def test_a_streamer_is_ended_by_an_error(both, prompt):
    streamer = Failing()
    with pytest.raises(RuntimeError, match="full"):
        both.generate(prompt, streamer=streamer, continuation_length_s=1.0, seed=0)
    assert [*streamer] == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_return_sequences": 2}, ValueError, "A stream is of one row, and here are 2"),
        ({"chunk_s": 0}, ValueError, "chunk_s is 0"),
        ({"coarse_temperatur": 1}, ValueError, "no option 'coarse_temperatur'"),
    ],
)
def test_bad_streams_are_refused_by_the_call(both, prompt, arguments, error, message):
    with pytest.raises(error, match=message):
        both.stream(prompt, **arguments)


def test_batches_are_not_streamed(both, prompt):
    with pytest.raises(ValueError, match="A stream is of one row, and here are 2"):
        both.stream(prompt.expand(2, -1))
    with pytest.raises(ValueError, match="A stream is of one row, and here are 3"):
        both.generate(batch_size=3, streamer=AudioIteratorStreamer())
    with pytest.raises(TypeError, match="streamer is a list without put"):
        both.generate(prompt, streamer=[])


def test_a_stream_sets_the_modes_of_the_model_only_while_it_computes(both, prompt):
    both.train()
    try:
        stream = both.stream(prompt, continuation_length_s=1.0, seed=0)
        first = next(stream)
        assert both.training and both.coarse.training and torch.is_grad_enabled()
        chunks = [first, *stream]
    finally:
        both.eval()
    assert torch.equal(torch.cat(chunks), whole(both, prompt, continuation_length_s=1.0, seed=0))


def test_chunks_of_any_length_are_cut_anew():
    given = torch.arange(23.0)
    cut = [*continuation_audiolm.regrouped(iter(given.split([1, 10, 0, 3, 9])), 4)]
    assert [len(chunk) for chunk in cut] == [4, 4, 4, 4, 4, 3]
    assert torch.equal(torch.cat(cut), given)


def test_a_pipeline_streams_what_it_returns(both, prompt):
    model = AudioLMModel.from_parts(both.semantic_tokenizer, both.codec, semantic=both.semantic, coarse=both.coarse)
    processor = audiolm_hf.AudioLMProcessor(audiolm_hf.AudioLMFeatureExtractor(sampling_rate=RATE))
    pipe = audiolm_hf.AudioContinuationPipeline(model, processor=processor, coarse_temperature=0.5)
    clip = {"array": prompt[0].numpy(), "sampling_rate": RATE}
    options = {"continuation_length_s": 1.5, "seed": 0}
    for full in (True, False):
        expected = pipe(clip, return_full_audio=full, **options)
        results = [*pipe.stream(clip, chunk_s=0.2, return_full_audio=full, **options)]
        assert {result["sampling_rate"] for result in results} == {RATE} and len(results) > 4
        np.testing.assert_array_equal(np.concatenate([result["audio"] for result in results]), expected["audio"])
    with pytest.raises(TypeError, match="give one clip, not several"):
        pipe.stream([clip, clip])
    with pytest.raises(ValueError, match="A stream is of one row, and here are 2"):
        pipe.stream(clip, num_return_sequences=2)


@pytest.mark.parametrize("when", ["made", "first", "rest", "all"])
def test_steps_of_a_stream_may_be_asked_for_in_any_mode(both, prompt, when):
    options = {"continuation_length_s": 1.0, "min_continuation_length_s": 1.0, "seed": 0}
    expected = whole(both, prompt, **options)
    with torch.inference_mode(when in ("made", "all")):
        stream = both.stream(prompt.clone().requires_grad_(when == "rest"), **options)
    with torch.inference_mode(when in ("first", "all")):
        first = next(stream)
    with torch.inference_mode(when in ("rest", "all")):
        chunks = [first, *stream]
    assert not any(chunk.requires_grad or chunk.is_inference() for chunk in chunks)
    assert torch.equal(torch.cat(chunks), expected)


def test_a_stream_does_not_read_what_is_written_into_its_inputs_later(both, prompt):
    given = {"input_values": prompt.clone(), "semantic_tokens": torch.randint(0, 20, (1, 70))}
    expected = whole(both, given["input_values"], semantic_tokens=given["semantic_tokens"], seed=0)
    stream = both.stream(**given, seed=0)
    for values in given.values():
        values.zero_()
    assert torch.equal(torch.cat([*stream]), expected)


def test_a_stream_of_strided_samples_is_the_whole_output(both, prompt):
    strided = prompt.repeat_interleave(2, 1)[:, ::2]
    options = {"continuation_length_s": 0.6, "min_continuation_length_s": 0.6, "seed": 0}
    assert torch.equal(torch.cat([*both.stream(strided, **options)]), whole(both, strided, **options))


def test_a_streamer_is_told_the_end_where_the_inputs_are_wrong(both, prompt):
    streamer = AudioIteratorStreamer(timeout=1)
    with pytest.raises(ValueError, match="needs at least"):
        both.generate(prompt[:, :10], streamer=streamer)
    assert [*streamer] == []


def test_a_streamer_beside_a_stream_is_refused(both, prompt):
    with pytest.raises(ValueError, match="streamer is an option of generate"):
        both.stream(prompt, streamer=AudioIteratorStreamer())


def test_short_chunks_cost_no_more_than_long_ones(both, prompt):
    settings = []
    with patch.object(numerics_audiolm, "evaluation_mode", lambda model: settings.append(model) or nullcontext()):
        chunks = [*both.stream(prompt, chunk_s=1 / RATE, continuation_length_s=0.5, seed=0)]
    assert len(settings) < 20 < len(chunks)


@pytest.mark.parametrize("options", STAGES[:3])
@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64, torch.device("meta")])
def test_torchs_defaults_have_no_influence(both, prompt, options, default):
    options = options | {"continuation_length_s": 0.4, "min_continuation_length_s": 0.4, "seed": 0}
    expected = whole(both, prompt, **options)
    is_device = isinstance(default, torch.device)
    torch.set_default_dtype(torch.float32 if is_device else default)
    try:
        with default if is_device else nullcontext():  # torch 2.6 breaks at set_default_device(None)
            found = whole(both, prompt, **options)
            chunks = [*both.stream(prompt, chunk_s=0.15, **options)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected) and torch.equal(torch.cat(chunks), expected)
