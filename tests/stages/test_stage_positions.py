# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Positions of a stage: the same tokens whatever part of a sequence is run at once, or a refusal."""

import pytest
import torch
from transformers import DataCollatorWithFlattening

from audiolm_hf.compat_audiolm import CACHE_NAME
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel
from audiolm_hf.token_layout_audiolm import aligned_position_ids, build_stage_example
from tests.conftest import randomise, tiny_stage_config
from tests.reference import greedy_tokens

NUM_TOKENS = 6
STAGES = {
    "coarse, beside": (AudioLMCoarseModel, {"condition_stride": 2.5}),
    "fine, beside": (AudioLMFineModel, {"condition_stride": 1.5}),
    "coarse, counted": (AudioLMCoarseModel, {}),
}


def build(model_class, **changes):
    torch.manual_seed(0)
    return randomise(model_class(model_class.config_class(**tiny_stage_config(**changes))))


@pytest.fixture(scope="module", params=STAGES)
def stage(request):
    model_class, changes = STAGES[request.param]
    return build(model_class, **changes)


@pytest.fixture(scope="module", params=["coarse, beside", "fine, beside"])
def stage_beside(request):
    model_class, changes = STAGES[request.param]
    return build(model_class, **changes)


def sequence_of(config, seed=0, frames=3):
    """A training sequence of one crop: its prediction is whole frames, so that the first level is next."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 8, (5, frames), generator=generator)
    return build_stage_example(config, torch.randint(0, 20, (6,), generator=generator), codes)


def generate(stage, ids, **options):
    new = stage.generate(ids, max_new_tokens=NUM_TOKENS, do_sample=False, **options)
    return new[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_prompt_in_chunks_gives_the_same_tokens(stage, size):
    ids = sequence_of(stage.config)["input_ids"][None]
    assert generate(stage, ids, prefill_chunk_size=size) == greedy_tokens(stage, ids[0].tolist(), NUM_TOKENS)


def test_a_padded_prompt_in_chunks_gives_the_same_tokens(stage):
    rows = [sequence_of(stage.config, row, frames)["input_ids"] for row, frames in ((0, 3), (1, 2))]
    ids = torch.full((2, len(rows[0])), stage.config.padding_token_id)
    for place, row in enumerate(rows):
        ids[place, -len(row) :] = row
    mask = (ids != stage.config.padding_token_id).long()
    new = stage.generate(ids, attention_mask=mask, max_new_tokens=NUM_TOKENS, do_sample=False, prefill_chunk_size=4)
    for place, row in enumerate(rows):
        assert new[place, ids.shape[1] :].tolist() == greedy_tokens(stage, row.tolist(), NUM_TOKENS)


def test_candidates_of_an_assistant_or_of_the_prompt_change_nothing(stage):
    ids = sequence_of(stage.config)["input_ids"][None]
    expected = greedy_tokens(stage, ids[0].tolist(), NUM_TOKENS)
    assert generate(stage, ids, prompt_lookup_num_tokens=3) == expected
    assistant = build(
        type(stage), backbone_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    )
    assert generate(stage, ids, assistant_model=assistant) == expected
    assert generate(stage, ids, assistant_model=stage) == expected


@pytest.mark.parametrize("cut", [3, 9, 13])
def test_generating_from_a_cache_continues_it(stage, cut):
    ids = sequence_of(stage.config)["input_ids"][None]
    places = aligned_position_ids(ids, torch.arange(ids.shape[1])[None], stage.config)
    with torch.no_grad():
        before = stage(ids[:, :cut], position_ids=places[:, :cut], use_cache=True)
    tokens = generate(stage, ids, **{CACHE_NAME: before[CACHE_NAME]})
    assert tokens == greedy_tokens(stage, ids[0].tolist(), NUM_TOKENS)


def test_codes_after_a_cached_prompt_are_scored_as_in_the_whole(stage):
    ids = sequence_of(stage.config)["input_ids"][None]
    with torch.no_grad():
        whole = stage(ids).logits
        before = stage(ids[:, :-4], use_cache=True)
        for parts in ((4,), (1, 3), (1, 1, 1, 1)):
            cache, start = stage(ids[:, :-4], use_cache=True)[CACHE_NAME], ids.shape[1] - 4
            for length in parts:
                logits = stage(ids[:, start : start + length], **{CACHE_NAME: cache}).logits
                torch.testing.assert_close(logits, whole[:, start : start + length], atol=1e-4, rtol=1e-4)
                start += length
    assert before[CACHE_NAME].get_seq_length() == ids.shape[1] - 4


def test_a_part_of_a_condition_is_refused(stage_beside):
    ids = sequence_of(stage_beside.config)["input_ids"][None]
    cache = stage_beside(ids[:, :3], use_cache=True)[CACHE_NAME]
    with pytest.raises(ValueError, match="does not tell the positions of its condition; give position_ids"):
        stage_beside(ids[:, 3:], **{CACHE_NAME: cache})
    with pytest.raises(ValueError, match="does not tell the positions of its condition"):
        stage_beside(ids[:, 3:4], **{CACHE_NAME: cache})
    embeddings = stage_beside.get_input_embeddings()(ids)
    with pytest.raises(ValueError, match="does not tell the positions of its condition"):
        stage_beside(inputs_embeds=embeddings)
    with pytest.raises(ValueError, match="does not tell the positions of its condition"):
        stage_beside.generate(inputs_embeds=embeddings, max_new_tokens=2)
    places = aligned_position_ids(ids, torch.arange(ids.shape[1])[None], stage_beside.config)
    given = stage_beside(inputs_embeds=embeddings, position_ids=places, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(given.logits, stage_beside(ids).logits)


def test_a_context_spread_over_processes_is_refused(stage_beside):
    example = {name: tensor[None] for name, tensor in sequence_of(stage_beside.config).items()}
    with pytest.raises(ValueError, match="train without context parallelism"):
        stage_beside(**example, shift_labels=example["labels"])


def test_packed_sequences_are_scored_one_by_one_or_refused(stage):
    examples = [sequence_of(stage.config, row, frames) for row, frames in ((0, 3), (1, 2))]
    batch = DataCollatorWithFlattening()([{k: v.tolist() for k, v in example.items()} for example in examples])
    batch = {name: batch[name] for name in ("input_ids", "labels", "position_ids")}
    if stage.config.condition_stride is not None:
        with pytest.raises(ValueError, match="takes one sequence a row"):
            stage(**batch)
        return
    sums = [
        stage(**{k: v[None] for k, v in example.items()}).loss * (example["labels"] != -100).sum()
        for example in examples
    ]
    count = sum(int((example["labels"] != -100).sum()) for example in examples)
    torch.testing.assert_close(stage(**batch).loss, sum(sums) / count)


def test_positions_that_are_placed_are_not_placed_again(stage_beside):
    ids = sequence_of(stage_beside.config)["input_ids"][None]
    once = aligned_position_ids(ids, torch.arange(ids.shape[1])[None], stage_beside.config)
    assert torch.equal(aligned_position_ids(ids, once, stage_beside.config), once)
    assert not torch.equal(once, torch.arange(ids.shape[1])[None])


def test_padding_on_the_left_changes_no_logits(stage):
    ids = sequence_of(stage.config)["input_ids"][None]
    padded = torch.cat([torch.full((1, 3), stage.config.padding_token_id), ids], 1)
    mask = (padded != stage.config.padding_token_id).long()
    torch.testing.assert_close(
        stage(padded, attention_mask=mask).logits[:, 3:], stage(ids).logits, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_in_padding_changes_nothing(stage, side):
    config = stage.config
    ids = sequence_of(config)["input_ids"][None]
    padding, kept = (3, slice(3, None)) if side == "left" else (3, slice(None, -3))
    mask = torch.ones(1, ids.shape[1] + padding, dtype=torch.int64)
    mask[:, :padding] = 0
    mask = mask if side == "left" else mask.flip(1)
    alone = stage(input_ids=ids).logits
    for filler in (0, config.begin_token_id, config.separator_token_id, config.vocab_size - 1, int(ids[0, -1])):
        padded = mask * 0 + filler
        padded[:, kept] = ids
        torch.testing.assert_close(stage(input_ids=padded, attention_mask=mask).logits[:, kept], alone)
        if side == "left":
            assert generate(stage, padded, attention_mask=mask) == generate(stage, ids)


def test_continuous_batching_is_refused(stage):
    with pytest.raises(NotImplementedError, match="has no continuous batching.*Use generate"):
        stage.generate_batch([sequence_of(stage.config)["input_ids"].tolist()], max_new_tokens=2)
