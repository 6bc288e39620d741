# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from audiolm_hf.data.crops import Crop, record_units, validation_batches
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.evaluation.protocols.likelihood import (
    evaluate_likelihood,
    format_likelihood,
    load_stages,
    ngram_bits,
    num_predicted,
    predicted_ids,
    scored_crops,
    stage_token_bits,
)
from audiolm_hf.token_layout_audiolm import SEMANTIC_LEVEL
from audiolm_hf.training.stages.bits import stage_bits
from tests.helpers_tokens import INFO, made_up_record, write_tokens


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    train = write_tokens(folder / "train", [60] * 30, seed=0)
    return TokenDataset(train), TokenDataset(write_tokens(folder / "test", [70, 20, 9], seed=1))


@pytest.fixture
def stages(tiny_audiolm):
    return {"semantic": tiny_audiolm.semantic, "coarse": tiny_audiolm.coarse, "fine": tiny_audiolm.fine}


def test_overlapping_windows_score_every_unit_once():
    for units in (3, 10, 11, 15, 16, 37):
        scored = []
        for crop, context in scored_crops(units, window=10, stride=5):
            assert crop.length == min(10, units)
            assert crop.start + crop.length <= units
            scored += range(crop.start + context, crop.start + crop.length)
        assert scored == list(range(units))
    assert scored_crops(25, 10, 5)[1] == (Crop(0, 5, 10), 5)


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_stage_and_ngram_score_the_same_tokens(datasets, stages, stage):
    train, test = datasets
    model = stages[stage]
    bits = stage_token_bits(model, test)
    baseline = ngram_bits(train, test, model.config, 2)
    assert list(bits) == list(baseline)
    for level in bits:
        assert len(bits[level]) == len(baseline[level])
    units = 70 + 20 + 9
    expected = {"semantic": units + 3, "coarse": 2 * units * 2, "fine": 2 * units * 3}[stage]
    assert sum(map(len, bits.values())) == expected


def test_without_overlap_the_bits_are_those_of_validation(datasets, stages):
    test = datasets[1]
    for model in stages.values():
        bits = np.concatenate(list(stage_token_bits(model, test, overlap=0.0).values()))
        grid = test.info.grid
        assert test[0].duration > model.config.window_length_s  # several windows
        batches = validation_batches(test, model.config, 10**6)
        if all((record_units(r, grid) % grid.units(model.config.window_length_s)) == 0 for r in test):
            assert bits.mean() == pytest.approx(stage_bits(model, batches)["all"]["bits"], rel=1e-5)


def test_another_condition_is_that_of_the_next_recording(stages):
    rng = np.random.default_rng(0)

    class Two(list):
        info = INFO

    pair = Two([made_up_record("a", 8, rng), made_up_record("b", 8, rng)])
    coarse, fine = stages["coarse"], stages["fine"]
    turned = np.roll(pair[1].semantic_tokens, 4)
    swapped = Two([dataclasses.replace(pair[0], semantic_tokens=turned), pair[1]])
    codes = pair[0].audio_codes.copy()
    codes[:2] = np.roll(pair[1].audio_codes[:2], 8, axis=1)
    swapped_codes = Two([dataclasses.replace(pair[0], audio_codes=codes), pair[1]])
    for model, expected in ((coarse, swapped), (fine, swapped_codes)):
        exchanged = stage_token_bits(model, pair, other_condition=True)
        by_hand, own = stage_token_bits(model, expected), stage_token_bits(model, pair)
        for level, bits in exchanged.items():
            first = len(bits) // 2
            np.testing.assert_allclose(bits[:first], by_hand[level][:first])
            assert not np.allclose(bits[:first], own[level][:first])


def test_bits_of_a_short_record_are_the_models_own(stages):
    record = made_up_record("a", 8, np.random.default_rng(0))

    class One(list):
        info = INFO

    model = stages["semantic"]
    bits = stage_token_bits(model, One([record]))[SEMANTIC_LEVEL]
    ids = torch.tensor([[model.config.bos_token_id, *record.semantic_tokens.tolist(), model.config.eos_token_id]])
    with torch.no_grad():
        logits = model(ids).logits[0].double()
    allowed = [*range(model.config.num_semantic_tokens), model.config.eos_token_id]
    expected = [
        -float(logits[place, allowed].log_softmax(-1)[allowed.index(int(ids[0, place + 1]))]) / math.log(2)
        for place in range(9)
    ]
    np.testing.assert_allclose(bits, expected, rtol=1e-4)
    never_ends = copy.deepcopy(model)
    never_ends.config.eos_token_id = None  # for generate; the layout keeps its end
    np.testing.assert_array_equal(stage_token_bits(never_ends, One([record]))[SEMANTIC_LEVEL], bits)


def test_predicted_ids_are_the_stages_own_sequence(stages):
    record = made_up_record("a", 4, np.random.default_rng(0))
    semantic, coarse, fine = (predicted_ids(record, model.config) for model in stages.values())
    assert semantic.tolist() == [*record.semantic_tokens.tolist(), stages["semantic"].config.eos_token_id]
    assert coarse.tolist() == [20 + level * 8 + record.audio_codes[level, t] for t in range(8) for level in range(2)]
    assert fine.tolist() == [level * 8 + record.audio_codes[level, t] for t in range(8) for level in range(2, 5)]
    open_ended = dataclasses.replace(record, ends_recording=False)
    assert len(predicted_ids(open_ended, stages["semantic"].config)) == 4
    crop = Crop(0, 3, 2)
    assert [num_predicted(crop, INFO.grid, model.config) for model in stages.values()] == [2, 8, 12]


def test_ngram_learns_what_the_tokens_do(datasets, stages):
    train, test = datasets
    config = stages["semantic"].config
    one, two = (ngram_bits(train, test, config, order)[SEMANTIC_LEVEL].mean() for order in (1, 2))
    assert one > 4  # close to uniform over 20
    assert two < 1.5  # the next is mostly the one before plus one


def test_report_holds_every_stage_and_level(datasets, stages):
    report = evaluate_likelihood(stages, *datasets)
    json.dumps(report)
    for name, levels in (("semantic", 1), ("coarse", 2), ("fine", 3)):
        metrics = report["stages"][name]
        assert len(metrics["levels"]) == levels
        for system in ("stage", "1-gram", "3-gram"):
            mean = sum(level[system] * level["tokens"] for level in metrics["levels"]) / metrics["tokens"]
            assert metrics[system] == pytest.approx(mean)
    text = format_likelihood(report)
    assert "3-gram" in text
    assert all(name in text for name in stages)


def test_datasets_of_other_tokenizers_are_refused(datasets, stages, tmp_path):
    other = TokenDataset(write_tokens(tmp_path / "x", [9], info=dataclasses.replace(INFO, tokenizers="other")))
    with pytest.raises(ValueError, match="test tokens by other; make both with the same"):
        evaluate_likelihood(stages, datasets[0], other)


def test_stages_come_from_a_whole_model_or_from_parts(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path / "whole")
    tiny_audiolm.fine.save_pretrained(tmp_path / "fine")
    tiny_audiolm.semantic.save_pretrained(tmp_path / "semantic")
    tiny_audiolm.codec.save_pretrained(tmp_path / "codec")
    assert list(load_stages([tmp_path / "whole"])) == ["semantic", "coarse", "fine"]
    assert list(load_stages([tmp_path / "fine", tmp_path / "semantic"])) == ["semantic", "fine"]
    with pytest.raises(ValueError, match="model of type 'soundstream'"):
        load_stages([tmp_path / "codec"])
