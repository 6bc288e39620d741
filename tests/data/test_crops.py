# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import collections
import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.data.crops import (
    Crop,
    SequenceLengths,
    StageBatches,
    build_example,
    check_agreement,
    corrupt_inputs,
    group_by_length,
    longest_sequence,
    random_crops,
    split_crop,
    validation_batches,
)
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, codes_of_ids, pad_examples, token_levels
from tests.conftest import tiny_stage_config
from tests.helpers_tokens import INFO, made_up_record, write_tokens

CONFIGS = {
    "semantic": AudioLMSemanticConfig(**tiny_stage_config(window_length_s=0.8)),
    "coarse": AudioLMCoarseConfig(**tiny_stage_config(window_length_s=0.4)),
    "fine": AudioLMFineConfig(**tiny_stage_config(window_length_s=0.2)),
}
GRID = INFO.grid


@pytest.fixture
def tokens(tmp_path):
    return TokenDataset(write_tokens(tmp_path / "tokens", [30, 7, 12, 55, 3, 20]))


def test_semantic_tokens_and_codes_of_a_crop_are_of_the_same_time():
    record = made_up_record("a", 30, np.random.default_rng(0))
    config = CONFIGS["coarse"]
    ids = build_example(record, [Crop(0, 4, 10)], GRID, config)["input_ids"]
    separator = ids.tolist().index(config.separator_token_id)
    assert ids[1:separator].tolist() == record.semantic_tokens[4:14].tolist()
    codes = codes_of_ids(ids[None, separator + 1 :], config.predicted_levels, config)
    np.testing.assert_array_equal(codes[0], record.audio_codes[:2, 8:28])


def test_end_token_is_learned_only_where_the_recording_ends():
    config = CONFIGS["semantic"]
    record = made_up_record("a", 30, np.random.default_rng(0))
    cut = made_up_record("a", 30, np.random.default_rng(0), ends_recording=False)
    ends = [
        config.eos_token_id in build_example(of, [crop], GRID, config)["labels"].tolist()
        for of, crop in ((record, Crop(0, 20, 10)), (record, Crop(0, 19, 10)), (cut, Crop(0, 20, 10)))
    ]
    assert ends == [True, False, False]


def test_random_crops_are_whole_windows_inside_the_record():
    lengths = [100, 5, 12, 30]
    crops = random_crops(lengths, 12, np.random.default_rng(0))
    for crop in crops:
        assert crop.length == min(12, lengths[crop.record])
        assert 0 <= crop.start <= lengths[crop.record] - crop.length


def test_random_crops_see_every_unit_about_equally_often():
    rng = np.random.default_rng(0)
    seen = np.zeros(60)
    for _ in range(2000):
        for crop in random_crops([60], 12, rng):
            seen[crop.start : crop.start + crop.length] += 1
    assert seen.mean() / 2000 == pytest.approx(1, abs=0.02)
    assert seen.min() / 2000 > 0.35
    assert seen.max() / 2000 < 1.5


@pytest.mark.parametrize("start", [0, 3, 18, 28])
def test_an_anchor_comes_from_any_place_beside_the_rest_of_its_crop(start):
    rng, seen = np.random.default_rng(0), collections.Counter()
    for _ in range(4000):
        crops = split_crop(Crop(0, start, 12), 40, 5, rng)
        if len(crops) == 1:
            assert crops == [Crop(0, start, 12)]
            continue
        anchor, rest = crops
        assert rest == Crop(0, start + 5, 7) and anchor.length == 5
        seen[anchor.start] += 1
    rest = set(range(start + 5, start + 12))
    places = [place for place in range(36) if not rest & set(range(place, place + 5))]
    assert sorted(seen) == places
    assert sum(seen.values()) == pytest.approx(2000, abs=150)
    assert min(seen.values()) > 0.6 * 2000 / len(places)


def test_a_crop_that_is_all_anchor_stays_whole():
    crops = {tuple(split_crop(Crop(0, 0, 5), 5, 5, np.random.default_rng(seed))) for seed in range(20)}
    assert crops == {(Crop(0, 0, 5),)}


def test_batches_with_anchors_have_the_sizes_of_those_without(tokens):
    plain, anchored = (
        StageBatches(tokens, AudioLMCoarseConfig(**fields), batch_tokens=200, num_batches=9)
        for fields in (
            tiny_stage_config(window_length_s=0.4),
            tiny_stage_config(window_length_s=0.4, anchor_length_s=0.16),
        )
    )
    pairs = [(plain[index], anchored[index]) for index in range(9)]
    assert all(one["input_ids"].shape == other["input_ids"].shape for one, other in pairs)
    same = [
        torch.equal(row, other) for pair in pairs for row, other in zip(*(b["input_ids"] for b in pair), strict=True)
    ]
    assert 0.3 < sum(same) / len(same) < 0.8


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_batch_is_a_function_of_seed_and_number(tokens, stage):
    def batches(seed):
        return StageBatches(tokens, CONFIGS[stage], 200, 40, seed=seed, corruption=0.1)

    one, other = batches(1), batches(1)
    forwards = [one[index] for index in range(40)]
    backwards = [other[index] for index in reversed(range(40))]
    for first, second in zip(forwards, reversed(backwards), strict=True):
        assert all(first[name].equal(second[name]) for name in first)
    assert any(not forwards[index]["input_ids"].equal(batches(2)[index]["input_ids"]) for index in range(3))


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_batches_keep_to_the_token_budget_and_hold_the_whole_epoch(tokens, stage):
    config = CONFIGS[stage]
    batches = StageBatches(tokens, config, 200, 10**6)
    first_epoch = batches._epoch(0)
    expected = random_crops(
        [30, 7, 12, 55, 3, 20], GRID.units(config.window_length_s), np.random.default_rng([0, 0, 0])
    )
    assert sorted(map(dataclasses.astuple, (crop for batch in first_epoch for crop in batch))) == sorted(
        map(dataclasses.astuple, expected)
    )
    for index in range(len(first_epoch)):
        batch = batches[index]
        assert batch["input_ids"].numel() <= 200 or len(batch["input_ids"]) == 1


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_batches_of_loading_processes_are_the_same(tokens, start):
    """On an accelerator, other processes prepare the batches."""
    batches = StageBatches(tokens, CONFIGS["coarse"], batch_tokens=100, num_batches=6, corruption=0.1)
    loader = DataLoader(batches, None, num_workers=2, multiprocessing_context=start)
    for number, batch in enumerate(loader):
        assert torch.equal(batch["input_ids"], batches[number]["input_ids"])
    assert number == 5


def test_second_epoch_follows_the_first(tokens):
    batches = StageBatches(tokens, CONFIGS["fine"], 200, 10**6)
    size = len(batches._epoch(0))
    fresh = StageBatches(tokens, CONFIGS["fine"], 200, 10**6)
    assert fresh._find(size) == fresh._epoch(1)[0]
    assert fresh._find(0) == fresh._epoch(0)[0]


def test_labels_are_the_uncorrupted_ids(tokens):
    config = CONFIGS["coarse"]
    clean = StageBatches(tokens, config, 400, 5)[0]
    noisy = StageBatches(tokens, config, 400, 5, corruption=0.5)[0]
    assert clean["labels"].equal(noisy["labels"])
    changed = clean["input_ids"] != noisy["input_ids"]
    assert 0.25 < changed[clean["attention_mask"].bool()].float().mean() < 0.6


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_corruption_keeps_levels_special_tokens_and_condition(tokens, stage):
    config = CONFIGS[stage]
    batch = validation_batches(tokens, config, 500)[0]
    noisy = corrupt_inputs(batch["input_ids"], config, 1.0, np.random.default_rng(0))
    special = batch["input_ids"] >= config.bos_token_id
    assert noisy[special].equal(batch["input_ids"][special])
    assert token_levels(noisy, config).equal(token_levels(batch["input_ids"], config))
    is_condition = (batch["labels"] == IGNORE_INDEX) & ~special
    assert noisy[is_condition].equal(batch["input_ids"][is_condition])
    assert is_condition.any() == (stage != "semantic")
    assert (noisy != batch["input_ids"])[~special & ~is_condition].float().mean() > 0.6


def test_dropped_condition_leaves_the_semantic_tokens_out(tokens):
    config = CONFIGS["coarse"]
    ids = StageBatches(tokens, config, 400, 5, condition_dropout=1.0)[0]["input_ids"]
    assert (ids[:, 1] == config.separator_token_id).all()


def test_padding_is_on_the_right_and_masked():
    config = CONFIGS["semantic"]
    examples = [{"input_ids": torch.arange(n), "labels": torch.arange(n)} for n in (2, 4)]
    batch = pad_examples(examples, config)
    assert batch["input_ids"].tolist() == [[0, 1, config.pad_token_id, config.pad_token_id], [0, 1, 2, 3]]
    assert batch["labels"].tolist() == [[0, 1, IGNORE_INDEX, IGNORE_INDEX], [0, 1, 2, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_validation_predicts_every_token_once(tokens, stage):
    batches = validation_batches(tokens, CONFIGS[stage], 300)
    labels = sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in batches)
    units = 30 + 7 + 12 + 55 + 3 + 20
    assert labels == {"semantic": units + 6, "coarse": units * 4, "fine": units * 6}[stage]


def test_like_lengths_share_a_batch():
    rng = np.random.default_rng(0)
    crops = [Crop(0, 0, int(length)) for length in rng.integers(1, 100, 500)]
    batches = group_by_length(crops, lambda crop: crop.length, 1000)
    padded = sum(len(batch) * max(crop.length for crop in batch) for batch in batches)
    assert padded / sum(crop.length for crop in crops) < 1.1
    assert sum(map(len, batches)) == 500


@pytest.mark.parametrize("remove_repeats", [False, True])
@pytest.mark.parametrize("stage", list(CONFIGS))
def test_lengths_are_those_of_the_sequences(tmp_path, stage, remove_repeats):
    config = type(CONFIGS[stage])(**tiny_stage_config(window_length_s=0.4, remove_repeats=remove_repeats))
    rng = np.random.default_rng(0)
    record = made_up_record("a", 31, rng, ends_recording=False)
    record = dataclasses.replace(record, semantic_tokens=np.repeat(record.semantic_tokens, 2)[:31])
    lengths = SequenceLengths([record], GRID, config)
    for crop in (Crop(0, 0, 31), Crop(0, 3, 10), Crop(0, 4, 10), Crop(0, 30, 1)):
        length = len(build_example(record, [crop], GRID, config)["input_ids"])
        assert lengths(crop) - length == (config.stage == "semantic")  # room for the end token
    assert longest_sequence(INFO, config) == {"semantic": 12, "coarse": 52, "fine": 102}[stage]


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_little_is_padding(tmp_path, stage):
    lengths = np.random.default_rng(0).integers(5, 400, 60).tolist()
    tokens = TokenDataset(write_tokens(tmp_path / "many", lengths))
    config = type(CONFIGS[stage])(**tiny_stage_config(window_length_s=8.0, remove_repeats=True))
    batches = StageBatches(tokens, config, 16 * longest_sequence(INFO, config), 10**6)
    ids = [batches[index]["attention_mask"] for index in range(len(batches._epoch(0)))]
    padding = 1 - sum(int(mask.sum()) for mask in ids) / sum(mask.numel() for mask in ids)
    assert padding < 0.12  # four batches; a few hours of recordings have 0 to 3 %


@pytest.mark.parametrize("parts", [2, 3, 20])
def test_parts_are_the_rows_of_the_batch(tokens, parts):
    settings = {"seed": 3, "corruption": 0.3, "condition_dropout": 0.3}
    whole = StageBatches(tokens, CONFIGS["coarse"], 300, 6, **settings)
    shared = StageBatches(tokens, CONFIGS["coarse"], 300, 6, **settings, parts=parts)
    assert len(shared) == 6 * parts

    def rows(batch):
        return [
            tuple(ids[mask.bool()].tolist())
            for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
            if (labels != IGNORE_INDEX).any()
        ]

    for number in range(6):
        found = [row for part in range(parts) for row in rows(shared[number * parts + part])]
        assert sorted(found) == sorted(rows(whole[number]))


def test_sequences_of_a_batch_do_not_see_each_other(tokens):
    model = AudioLMCoarseModel(CONFIGS["coarse"]).eval()
    batch = validation_batches(tokens, CONFIGS["coarse"], 10**6)[0]
    with torch.no_grad():
        together = model.token_losses(**batch)[0]
        for row, mask in enumerate(batch["attention_mask"].bool()):
            alone = model.token_losses(
                batch["input_ids"][row : row + 1, mask], None, batch["labels"][row : row + 1, mask]
            )[0]
            torch.testing.assert_close(together[row, mask], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_semantic_tokens": 30}, "num_semantic_tokens = 20, but its tokens 30"),
        ({"codebook_size": 16}, "codebook_size = 8"),
        ({"num_codebooks": 1}, "num_codebooks = 2, but its tokens 1"),
    ],
)
def test_stage_and_tokens_must_agree(changes, message):
    with pytest.raises(ValueError, match=message):
        check_agreement(dataclasses.replace(INFO, **changes), CONFIGS["coarse"])
