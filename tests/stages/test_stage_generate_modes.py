# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The stages under transformers' own `generate`: every mode runs and keeps every token inside its level."""

import pytest
import torch
from transformers import GenerationConfig

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.token_layout_audiolm import level_range
from tests.conftest import randomise, tiny_stage_config

NUM_TOKENS = 9
MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 5, "top_p": 0.9},
    "beams": {"do_sample": False, "num_beams": 3},
    "beams, several": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "beams, sampled": {"do_sample": True, "num_beams": 2},
    "several": {"do_sample": True, "num_return_sequences": 3},
    "no cache": {"do_sample": False, "use_cache": False},
    "static cache": {"do_sample": False, "cache_implementation": "static"},
    "quiet repetition": {"do_sample": False, "repetition_penalty": 1.3},
}


STAGES = {
    "semantic": (AudioLMSemanticConfig, AudioLMSemanticModel, {}),
    "coarse": (AudioLMCoarseConfig, AudioLMCoarseModel, {}),
    "coarse, side by side": (AudioLMCoarseConfig, AudioLMCoarseModel, {"condition_stride": 4}),
    "fine": (AudioLMFineConfig, AudioLMFineModel, {}),
}


@pytest.fixture(scope="module", params=STAGES)
def stage(request):
    config_class, model_class, changes = STAGES[request.param]
    return randomise(model_class(config_class(**tiny_stage_config(**changes))))


def prompts(config):
    """Two rows, the first padded on the left, each ending where prediction begins."""
    start, stop = 0, config.acoustic_offset or config.codebook_size
    body = torch.randint(start, stop, (2, 5), generator=torch.Generator().manual_seed(0))
    last = body[:, -1:] if config.stage == "semantic" else torch.full((2, 1), config.separator_token_id)
    input_ids = torch.cat([torch.full((2, 1), config.bos_token_id), body, last], 1)
    input_ids[0, :2] = torch.tensor([config.pad_token_id, config.bos_token_id])
    return input_ids, (input_ids != config.pad_token_id).long()


def generate(stage, **options):
    input_ids, mask = prompts(stage.config)
    torch.manual_seed(0)
    config = GenerationConfig(
        max_new_tokens=NUM_TOKENS,
        pad_token_id=stage.config.pad_token_id,
        eos_token_id=stage.config.eos_token_id,
        **options,
    )
    return stage.generate(input_ids, attention_mask=mask, generation_config=config)[:, input_ids.shape[1] :]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_tokens_inside_their_level(stage, mode):
    tokens = generate(stage, **MODES[mode])
    assert len(tokens) == 2 * MODES[mode].get("num_return_sequences", 1)
    levels = stage.config.predicted_levels
    for row in tokens.tolist():
        for place, token in enumerate(row):
            if stage.config.stage == "semantic" and token in (stage.config.eos_token_id, stage.config.pad_token_id):
                break
            start, stop = level_range(stage.config, levels[place % len(levels)])
            assert start <= token < stop, (mode, place, token)


@pytest.fixture(params=["eager", "sdpa"])
def attention(request, stage):
    before = stage.config._attn_implementation
    stage.set_attn_implementation(request.param)
    yield request.param
    stage.set_attn_implementation(before)


@pytest.mark.parametrize("mode", ["no cache", "static cache"])
def test_greedy_tokens_do_not_depend_on_the_cache(stage, attention, mode):
    assert torch.equal(generate(stage, **MODES["greedy"]), generate(stage, **MODES[mode]))


@pytest.mark.parametrize("mode", ["greedy", "no cache", "static cache"])
def test_a_row_does_not_depend_on_its_batch(stage, attention, mode):
    batched = generate(stage, **MODES[mode])
    input_ids, mask = prompts(stage.config)
    for row in range(2):
        ids = input_ids[row : row + 1, mask[row].argmax() :]  # without its padding
        options = {"max_new_tokens": NUM_TOKENS, "pad_token_id": stage.config.pad_token_id, **MODES[mode]}
        alone = stage.generate(ids, **options)[0, ids.shape[1] :]
        assert torch.equal(batched[row, : len(alone)], alone)


def test_scores_are_those_of_the_whole_sequence(stage, attention):
    """With a cache, each step sees one token; all of them at once must give the same."""
    input_ids, mask = prompts(stage.config)
    options = {"do_sample": False, "max_new_tokens": NUM_TOKENS, "output_logits": True}
    output = stage.generate(input_ids, attention_mask=mask, return_dict_in_generate=True, eos_token_id=None, **options)
    tokens = output.sequences
    whole_mask = torch.cat([mask, mask.new_ones(2, NUM_TOKENS)], 1)
    positions = (whole_mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        whole = stage(tokens, attention_mask=whole_mask, position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(
        torch.stack(output.logits, 1), whole[:, input_ids.shape[1] - 1 : -1], atol=1e-4, rtol=1e-4
    )


def test_one_beam_is_greedy_and_prompt_lookup_changes_nothing(stage):
    greedy = generate(stage, do_sample=False)
    input_ids, mask = prompts(stage.config)
    row = stage.generate(
        input_ids[1:],
        attention_mask=mask[1:],
        max_new_tokens=NUM_TOKENS,
        do_sample=False,
        prompt_lookup_num_tokens=3,
        pad_token_id=stage.config.pad_token_id,
        eos_token_id=stage.config.eos_token_id,
    )[:, input_ids.shape[1] :]
    length = min(row.shape[1], greedy.shape[1])
    assert torch.equal(row[0, :length], greedy[1, :length])


def test_scores_of_other_levels_are_minus_infinity(stage):
    input_ids, mask = prompts(stage.config)
    output = stage.generate(
        input_ids,
        attention_mask=mask,
        max_new_tokens=4,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
        pad_token_id=stage.config.pad_token_id,
    )
    levels = stage.config.predicted_levels
    for place, scores in enumerate(output.scores):
        start, stop = level_range(stage.config, levels[place % len(levels)])
        allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
        allowed[start:stop] = True
        if stage.config.stage != "semantic":
            assert torch.isinf(scores[:, ~allowed]).all()
        assert torch.isfinite(scores[:, start]).all()
