# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Arguments of `AudioLMModel.generate` that make no sense are refused before any work, with what is allowed."""

import copy

import pytest
import torch
from transformers import GenerationConfig

PROMPT = torch.zeros(1, 1280)
TOKENS = torch.tensor([[1, 2, 3]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"continuation_length_s": 9e6}, ValueError, r"1 rows of 9e\+06 s would take about .* GB of memory, and"),
        (
            {"continuation_length_s": 1e9},
            ValueError,
            "continuation_length_s is 1000000000.0; give",
        ),
        (
            {"num_return_sequences": 10**6},
            ValueError,
            "1,000,000 rows of 7 s would take about",
        ),
        ({"batch_size": 10**7}, ValueError, "10,000,000 rows of 7 s would take about"),
        ({"batch_size": 10**4, "num_return_sequences": 10**4}, ValueError, "100,000,000 rows"),
        ({"num_return_sequences": 1.5}, ValueError, "num_return_sequences is 1.5; give an integer"),
        ({"num_return_sequences": True}, ValueError, "num_return_sequences is True"),
        ({"batch_size": "2"}, ValueError, "batch_size is '2'"),
        ({"batch_size": -1}, ValueError, "batch_size is -1"),
        ({"batch_size": 1, "semantic_tokens": TOKENS}, ValueError, "semantic_tokens has its own; leave batch_size"),
        ({"seed": 1.5}, ValueError, "seed is 1.5; give an integer"),
        ({"seed": "0"}, ValueError, "seed is '0'"),
        ({"generator": 3}, TypeError, "generator is a int; give a torch.Generator"),
        ({"progress": True}, TypeError, "progress is a bool; give a function"),
        ({"attention_mask": torch.ones(1, 5)}, ValueError, "attention_mask is given without what it masks"),
        ({"semantic_attention_mask": torch.ones(1, 5)}, ValueError, "semantic_attention_mask is given without"),
        ({"input_values": PROMPT, "attention_mask": torch.full((1, 1280), 0.5)}, ValueError, "neither 0 nor 1"),
        ({"input_values": PROMPT, "attention_mask": torch.full((1, 1280), -1)}, ValueError, "neither 0 nor 1"),
        ({"input_values": PROMPT, "attention_mask": torch.full((1, 1280), torch.nan)}, ValueError, "neither 0 nor 1"),
        ({"input_values": PROMPT, "attention_mask": torch.zeros(1, 1280)}, ValueError, "0 everywhere in row 0"),
        ({"input_values": PROMPT, "attention_mask": torch.ones(2, 1280)}, ValueError, "give that of its input"),
        ({"input_values": PROMPT, "attention_mask": [[1] * 1280]}, TypeError, "attention_mask is of type list"),
        ({"input_values": PROMPT.numpy()}, TypeError, "input_values is of type ndarray"),
        ({"input_values": PROMPT.to(torch.complex64)}, TypeError, "give floats"),
        ({"input_values": PROMPT.bool()}, TypeError, "give floats"),
        ({"input_values": torch.tensor(0.0)}, ValueError, r"input_values has shape \(\)"),
        ({"input_values": PROMPT[None]}, ValueError, "input_values has shape"),
        ({"semantic_tokens": [[1, 2]]}, TypeError, "semantic_tokens is of type list; give a tensor"),
        ({"semantic_tokens": TOKENS[0]}, ValueError, "semantic_tokens has shape"),
        ({"semantic_tokens": TOKENS[:, :0]}, ValueError, "semantic_tokens has shape"),
        ({"semantic_tokens": TOKENS.bool()}, TypeError, "give integers"),
        ({"semantic_tokens": -TOKENS}, ValueError, "give 0 to 19"),
        ({"semantic_tokens": TOKENS, "semantic_attention_mask": torch.zeros(1, 3)}, ValueError, "0 everywhere"),
        (
            {"semantic_tokens": TOKENS, "semantic_attention_mask": torch.tensor([[0, 1, 1]])},
            ValueError,
            "zeros",
        ),
        ({"max_new_tokens": 20}, ValueError, "lengths are in seconds; give continuation_length_s"),
        ({"generation_config": GenerationConfig(max_new_tokens=20)}, ValueError, "continuation_length_s"),
        ({"generation_config": {"temperature": 1.0}}, TypeError, "generation_config is a dict"),
        ({"temperature": 0}, ValueError, "semantic_temperature is 0"),
    ],
)
def test_arguments_are_refused_before_any_work(tiny_audiolm, monkeypatch, arguments, error, message):
    for stage in tiny_audiolm.stages.values():
        monkeypatch.setattr(stage.model, "forward", None)  # calling it would be another error
    with pytest.raises(error, match=message):
        tiny_audiolm.generate(**arguments)


def test_options_without_a_stage_reach_all_stages(tiny_audiolm):
    prompt = 0.3 * torch.randn(1, 6400)
    options = {"continuation_length_s": 0.2, "seed": 0}
    named = {f"{stage}_{name}": value for stage in tiny_audiolm.stages for name, value in {"top_k": 2}.items()}
    expected = tiny_audiolm.generate(prompt, **options, **named)
    assert torch.equal(tiny_audiolm.generate(prompt, **options, top_k=2).audio_values, expected.audio_values)
    plain = tiny_audiolm.generate(prompt, **options, generation_config=GenerationConfig(top_k=2))
    assert torch.equal(plain.audio_values, expected.audio_values)
    greedy = tiny_audiolm.generate(prompt, **options, do_sample=False)
    assert torch.equal(
        greedy.audio_codes, tiny_audiolm.generate(prompt, **{**options, "seed": 1}, do_sample=False).audio_codes
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float32, torch.uint8])
def test_masks_of_zeros_and_ones_of_any_dtype_are_right(tiny_audiolm, dtype):
    prompt = 0.3 * torch.randn(1, 6400)
    mask = (torch.arange(6400)[None] < 1920).to(dtype)
    options = {"continuation_length_s": 0.1, "seed": 0}
    expected = tiny_audiolm.generate(prompt[:, :1920], **options)
    assert torch.equal(tiny_audiolm.generate(prompt, mask, **options).audio_values, expected.audio_values)


def test_the_number_of_given_tokens_counts_as_length(tiny_audiolm):
    with pytest.raises(ValueError, match="GB of memory"):
        tiny_audiolm.generate(semantic_tokens=torch.zeros(1, 1, dtype=torch.long).expand(1, 10**9))


def test_a_codec_that_decodes_to_nan_is_named(tiny_audiolm):
    broken = copy.deepcopy(tiny_audiolm)
    with torch.no_grad():
        next(broken.codec.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="What the codec decodes has values that are NaN"):
        broken.generate(continuation_length_s=0.2, min_continuation_length_s=0.2, seed=0)
