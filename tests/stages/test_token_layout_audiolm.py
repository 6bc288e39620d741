# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The layout is exactly invertible, and the stage sequences are the paper's."""

import math
from fractions import Fraction

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.token_layout_audiolm import (
    NO_LEVEL,
    SEMANTIC_LEVEL,
    aligned_position_ids,
    build_stage_example,
    code_ids,
    codes_of_ids,
    level_mask,
    level_range,
    remove_repeats,
    token_levels,
)
from tests.conftest import tiny_stage_config
from tests.reference import allowed_ids, flat_tokens, places_beside_the_prediction

NO_CODES = torch.zeros(5, 0, dtype=torch.int64)
CONFIG_CLASSES = [AudioLMSemanticConfig, AudioLMCoarseConfig, AudioLMFineConfig]


@st.composite
def codes_and_layout(draw):
    first, count, frames = draw(st.integers(0, 3)), draw(st.integers(1, 5)), draw(st.integers(0, 6))
    sizes = {"codebook_size": draw(st.integers(1, 9)), "num_semantic_tokens": draw(st.integers(1, 30))}
    config = AudioLMCoarseConfig(**tiny_stage_config(**sizes, num_coarse_codebooks=first + count))
    generator = torch.Generator().manual_seed(frames)
    codes = torch.randint(0, config.codebook_size, (first + count, frames), generator=generator)
    return codes, [*range(first, first + count)], config


@settings(deadline=None, max_examples=60)
@given(codes_and_layout())
def test_codes_of_ids_inverts_code_ids(case):
    codes, levels, config = case
    ids = code_ids(codes, levels, config)
    assert torch.equal(codes_of_ids(torch.stack([ids, ids]), levels, config), codes[levels].expand(2, -1, -1))


@settings(deadline=None, max_examples=60)
@given(codes_and_layout())
def test_code_ids_agree_with_the_loop(case):
    codes, levels, config = case
    layout = {"codebook_size": config.codebook_size, "first_level": levels[0], "offset": config.num_semantic_tokens}
    assert [code_ids(codes, levels, config).tolist()] == flat_tokens(codes[None, levels], **layout)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), max_size=20))
def test_durations_restore_removed_repeats(tokens):
    tokens = torch.tensor(tokens, dtype=torch.int64)
    kept, durations = remove_repeats(tokens)
    assert not (kept[1:] == kept[:-1]).any()
    assert torch.equal(torch.repeat_interleave(kept, durations), tokens)


def test_bad_codes_and_tokens_are_refused():
    config = AudioLMCoarseConfig(**tiny_stage_config())
    with pytest.raises(ValueError, match="from 0 to 8; give 0 to 7"):
        code_ids(torch.tensor([[0, 8]]), [0], config)
    with pytest.raises(TypeError, match="give integers"):
        code_ids(torch.zeros(1, 1), [0], config)
    with pytest.raises(ValueError, match="give \\(num_codebooks, frames\\)"):
        code_ids(torch.zeros(1, 2, 2, dtype=torch.int64), [0], config)
    with pytest.raises(ValueError, match="audio_codes has 1 codebooks; give 2 or more"):
        code_ids(torch.zeros(1, 2, dtype=torch.int64), [0, 1], config)
    with pytest.raises(ValueError, match="first id of their level"):
        codes_of_ids(torch.tensor([[0, 8]]), [0, 1], config)
    with pytest.raises(ValueError, match="one recording at a time"):
        remove_repeats(torch.zeros(1, 2, dtype=torch.int64))


@pytest.mark.parametrize("config_class", CONFIG_CLASSES)
def test_ranges_agree_with_the_loop(config_class):
    config = config_class(**tiny_stage_config())
    mask = level_mask(config)
    for turn, level in enumerate(config.predicted_levels):
        allowed = allowed_ids(config, turn)
        assert mask[turn].nonzero()[:, 0].tolist() == allowed
        assert set(token_levels(torch.tensor(allowed), config).tolist()) == {level}
        start, stop = level_range(config, level)
        assert set(allowed) <= set(range(start, stop))


@pytest.mark.parametrize("config_class", CONFIG_CLASSES)
def test_special_tokens_have_no_level(config_class):
    config = config_class(**tiny_stage_config())
    specials = [config.bos_token_id, config.separator_token_id, config.pad_token_id, -100, config.vocab_size]
    assert set(token_levels(torch.tensor(specials), config).tolist()) == {NO_LEVEL}
    expected = SEMANTIC_LEVEL if config.stage == "semantic" else NO_LEVEL
    assert token_levels(torch.tensor(config.eos_token_id), config) == expected


def test_semantic_sequence():
    config = AudioLMSemanticConfig(**tiny_stage_config())
    tokens = torch.tensor([3, 3, 4])
    example = build_stage_example(config, tokens, NO_CODES, ends_recording=True)
    assert example["input_ids"].tolist() == [20, 3, 3, 4, 21]
    assert example["labels"].tolist() == [-100, 3, 3, 4, 21]
    assert build_stage_example(config, tokens, NO_CODES)["input_ids"].tolist() == [20, 3, 3, 4]


def test_coarse_sequence():
    config = AudioLMCoarseConfig(**tiny_stage_config())
    codes = torch.arange(10).reshape(5, 2) % 8  # levels 0 and 1 are [0, 1] and [2, 3]
    example = build_stage_example(config, torch.tensor([7, 7]), codes)
    bos, separator = 20 + 2 * 8, 20 + 2 * 8 + 2
    assert example["input_ids"].tolist() == [bos, 7, 7, separator, 20, 30, 21, 31]
    assert example["labels"].tolist() == [-100] * 4 + [20, 30, 21, 31]
    dropped = build_stage_example(config, torch.tensor([7, 7]), codes, drop_condition=True)
    assert dropped["input_ids"].tolist() == [bos, separator, 20, 30, 21, 31]


def test_fine_sequence():
    config = AudioLMFineConfig(**tiny_stage_config())
    codes = torch.arange(5)[:, None]
    example = build_stage_example(config, torch.tensor([7]), codes)
    assert example["input_ids"].tolist() == [40, 0, 9, 42, 18, 27, 36]
    assert example["labels"].tolist() == [-100] * 4 + [18, 27, 36]


def test_repeats_are_removed_where_the_stage_says_so():
    tokens = torch.tensor([3, 3, 4, 4, 4, 3])
    config = AudioLMSemanticConfig(**tiny_stage_config(remove_repeats=True))
    assert build_stage_example(config, tokens, NO_CODES)["input_ids"].tolist() == [20, 3, 4, 3]
    config = AudioLMCoarseConfig(**tiny_stage_config(remove_repeats=True))
    ids = build_stage_example(config, tokens, torch.zeros(5, 1, dtype=torch.int64))["input_ids"]
    assert ids[1:4].tolist() == [3, 4, 3]


def test_semantic_tokens_out_of_range_are_refused():
    config = AudioLMSemanticConfig(**tiny_stage_config())
    with pytest.raises(ValueError, match="give 0 to 19"):
        build_stage_example(config, torch.tensor([20]), NO_CODES)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5), st.integers(0, 9), st.sampled_from([0.5, 1.5, 2, 8]), st.booleans())
def test_the_condition_stands_beside_what_is_predicted(condition, known, stride, separated):
    config = AudioLMCoarseConfig(**tiny_stage_config(condition_stride=stride))
    codes = [config.acoustic_offset + index for index in range(known)]
    middle = [config.separator_token_id] if separated else []
    ids = [config.begin_token_id, *range(condition), *middle, *codes]
    expected = torch.tensor([places_beside_the_prediction(ids, config)])
    counted = torch.arange(len(ids))[None]
    assert torch.equal(aligned_position_ids(torch.tensor([ids]), counted, config), expected)
    padded = torch.tensor([[config.pad_token_id] * 3 + ids])  # on the left, counted from the first real id
    positions = aligned_position_ids(padded, torch.cat([torch.zeros(1, 3).long(), counted], 1), config)
    assert torch.equal(positions[:, 3:], expected)


@pytest.mark.parametrize("stride", [8 / 3, 441 / 128 * 4, 0.5, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strides_that_are_no_integers_are_exact(stride, dtype):
    config = AudioLMCoarseConfig(**tiny_stage_config(condition_stride=stride))
    condition, codes = [1] * 3000, [20, 28] * 4
    ids = torch.tensor([[config.begin_token_id, *condition, config.separator_token_id, *codes]])
    torch.set_default_dtype(dtype)
    try:
        places = aligned_position_ids(ids, torch.arange(ids.shape[1])[None], config)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    exact = Fraction(stride).limit_denominator(1000)
    assert places[1:3001].tolist() == [3002 + math.floor(place * exact) for place in range(3000)]


@pytest.mark.parametrize(
    ("config_class", "changes", "message"),
    [
        (AudioLMSemanticConfig, {"condition_stride": 8}, "stride is 8, but the semantic stage has no condition"),
        (AudioLMCoarseConfig, {"condition_stride": 8, "remove_repeats": True}, "tokens without repeats have no times"),
        (AudioLMCoarseConfig, {"condition_stride": 0}, "0 is out of range"),
    ],
)
def test_a_stride_needs_a_condition_with_times(config_class, changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        config_class(**tiny_stage_config(**changes))
