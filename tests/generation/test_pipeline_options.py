# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Options of the pipeline are checked where they are given: when it is made and when it is called."""

import pytest
import torch

import audiolm_hf
from tests.helpers_checkpoint import CLIP, tiny_processor


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture
def pipe(tiny_audiolm, processor):
    options = {"continuation_length_s": 0.4, "min_continuation_length_s": 0.4, "seed": 0}
    return audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", **options)


BAD_OPTIONS = [
    ({"batch_size": 0}, ValueError, "batch_size is 0; give an integer of 1 or more"),
    ({"batch_size": -1}, ValueError, "batch_size is -1"),
    ({"batch_size": 1.5}, ValueError, "batch_size is 1.5"),
    ({"batch_size": True}, ValueError, "batch_size is True"),
    ({"num_workers": -1}, ValueError, "num_workers is -1; give an integer of 0 or more"),
    ({"num_workers": "2"}, ValueError, "num_workers is '2'"),
    ({"seed": "a"}, ValueError, "seed is 'a'"),
    ({"seed": True}, ValueError, "seed is True"),
    ({"seed": 1.5}, ValueError, "seed is 1.5"),
    ({"seed": -1}, ValueError, "seed is -1"),
    ({"progress": 3}, TypeError, "progress is a int"),
    ({"generator": 3}, TypeError, "generator is a int"),
    ({"generator": torch.Generator(), "seed": 0}, ValueError, "Both seed"),
    ({"generation_config": {}}, TypeError, "generation_config is a dict"),
    ({"continuation_length_s": -1}, ValueError, "continuation_length_s is -1"),
    ({"continuation_length_s": "7"}, ValueError, "continuation_length_s is '7'"),
    ({"min_continuation_length_s": float("nan")}, ValueError, "min_continuation_length_s is nan"),
    ({"min_continuation_length_s": 99}, ValueError, "min_continuation_length_s is 99"),
    ({"num_return_sequences": 1.5}, ValueError, "num_return_sequences is 1.5"),
    ({"coarse_guidance_scale": 3.0}, ValueError, "nothing to be guided away from"),
    ({"top_k": 1.5}, ValueError, "top_k is 1.5"),
    ({"use_fine_stage": "no"}, ValueError, "use_fine_stage is 'no'"),
    ({"sampling_rate": "16k"}, ValueError, "sampling_rate is '16k'"),
    ({"return_full_audio": 1}, ValueError, "return_full_audio is 1"),
    ({"generate_kwargs": [1]}, TypeError, "generate_kwargs is a list"),
    ({"generate_kwargs": {"batch_size": 2}}, ValueError, "batch_size is not an option of generation in a pipeline"),
    ({"input_values": torch.zeros(1, 8)}, ValueError, "input_values is not an option"),
    ({"attention_mask": torch.zeros(1, 8)}, ValueError, "attention_mask is not an option"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_wrong_options_are_refused_when_given(pipe, tiny_audiolm, processor, options, error, message):
    with pytest.raises(error, match=message):
        audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", **options)
    if "generator" not in options:  # beside the fixture's seed
        read = []
        with pytest.raises(error, match=message):
            pipe((read.append(path) or path for path in [CLIP]), **options)
        assert not read


def test_binary_output_is_a_bool(tiny_audiolm, processor):
    with pytest.raises(ValueError, match="binary_output is 'x'"):
        audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", binary_output="x")


def test_options_of_a_call_go_with_those_of_the_pipeline(pipe, tiny_audiolm, processor):
    with pytest.raises(ValueError, match="min_continuation_length_s is 0.6, above continuation_length_s"):
        pipe(CLIP, min_continuation_length_s=0.6)
    long = audiolm_hf.pipeline(tiny_audiolm, processor=processor, device="cpu", continuation_length_s=0.5, seed=0)
    assert len(long(CLIP, min_continuation_length_s=0.5)["audio"]) == 48000
