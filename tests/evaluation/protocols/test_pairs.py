# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Scores of pairs: known answers of an oracle, ties and a coin, the stages' likelihoods, and official score files."""

import json

import numpy as np
import pytest
import torch

from audiolm_hf import cli
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.tokenizers import TokenizerPair
from audiolm_hf.evaluation.benchmarks import Pair, PairTask, read_benchmark
from audiolm_hf.evaluation.protocols.pairs import LikelihoodScorer, evaluate_pairs, format_pairs
from audiolm_hf.token_layout_audiolm import remove_repeats
from tests.helpers_benchmarks import ITEM, write_pairs, write_salmon, write_sound, write_zerospeech
from tests.helpers_checkpoint import CLIP, tiny_model, tiny_processor

LAYOUTS = {"zerospeech": write_zerospeech, "salmon": write_salmon, "pairs": write_pairs}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_oracle_has_1_its_opposite_0_and_ties_a_half(tmp_path, layout):
    tasks = read_benchmark(LAYOUTS[layout](tmp_path))
    right = {task.files[pair.positive] for task in tasks for pair in task.pairs}
    scorer = lambda path: {"oracle": -3.0 + (path in right), "opposite": -(path in right), "tie": 0.5}  # noqa: E731
    report = evaluate_pairs(scorer, tasks)
    for task in report["tasks"].values():
        for name, share in (("oracle", 1.0), ("opposite", 0.0), ("tie", 0.5)):
            for summary in task["accuracy"].get(name, {}).values():
                assert summary["mean"] == summary["low"] == summary["high"] == share
    assert "1.000 [1.000, 1.000]" in format_pairs(report)


def test_a_coin_has_a_half():
    pairs = tuple(Pair(f"{number}+", f"{number}-", str(number)) for number in range(1000))
    task = PairTask("coin", {name: name for pair in pairs for name in (pair.positive, pair.negative)}, pairs)
    rng = np.random.default_rng(1)
    summary = evaluate_pairs(lambda path: {"coin": rng.random()}, [task])["tasks"]["coin"]["accuracy"]["coin"]
    assert summary["all pairs"]["mean"] == pytest.approx(0.5, abs=0.05)
    assert summary["all pairs"]["low"] < 0.5 < summary["all pairs"]["high"] and summary["all pairs"]["count"] == 1000


def test_voices_of_an_item_are_averaged_first():
    pairs = (Pair("a", "b", "0"), Pair("a", "c", "0"), Pair("a", "d", "0"), Pair("e", "f", "1"))
    task = PairTask("items", {name: name for name in "abcdef"}, pairs)
    scores = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 2.0, "e": 0.0, "f": 9.0}
    report = evaluate_pairs(lambda path: {"score": scores[path]}, [task])
    assert report["tasks"]["items"]["accuracy"]["score"]["all pairs"]["mean"] == pytest.approx((1.5 / 3 + 0) / 2)


def test_scores_are_the_stages_log_likelihoods():
    model = tiny_model().eval()
    stages = {name: stage for name, stage in model.stages.items() if name in ("semantic", "coarse")}
    found = LikelihoodScorer(stages, TokenizerPair(model.semantic_tokenizer, model.acoustic_codec))(CLIP)
    (record,) = AudioSource(CLIP)
    audio = torch.from_numpy(record.array)[None]
    semantic, config = model.semantic, model.semantic.config
    tokens = model.semantic_tokenizer.tokenize(audio).semantic_tokens[0]
    tokens = remove_repeats(tokens)[0] if config.remove_repeats else tokens
    ids = torch.cat([torch.tensor([config.begin_token_id]), tokens])[None]
    with torch.no_grad():
        logits = semantic(input_ids=ids).logits[0, :-1, : config.num_semantic_tokens]
    expected = float(logits.log_softmax(-1).gather(1, ids[0, 1:, None]).sum())
    assert len(ids[0]) - 1 == round(found["semantic"] / found["semantic per token"])
    assert found["semantic"] == pytest.approx(expected, rel=0.05)  # whose logits are also of the end
    assert found["all stages"] == pytest.approx(found["semantic"] + found["coarse"])
    assert found["coarse per token"] < 0 and found.keys() == {
        f"{name}{rest}" for name in ("semantic", "coarse", "all stages") for rest in ("", " per token")
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


def test_the_command_writes_a_score_for_every_sound(checkpoint, tmp_path, capsys):
    folder = write_zerospeech(tmp_path / "zerospeech")
    arguments = ["evaluate", "likelihood", "--checkpoint", checkpoint, "--benchmark", str(folder)]
    assert cli.main([*arguments, "-o", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "lexical/dev" in printed and "in vocabulary" in printed and "lexical/test: 1 sounds, no gold.csv" in printed
    report = json.loads((tmp_path / "out.json").read_text())
    for name, folders in (("lexical/dev", "lexical/dev"), ("syntactic/dev", "syntactic/dev")):
        lines = (tmp_path / "out.scores" / "semantic_per_token" / f"{folders}.txt").read_text().splitlines()
        scores = {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines}
        assert scores == report["tasks"][name]["scores"]["semantic per token"]
        assert sorted(scores) == sorted(path.stem for path in (folder / name).glob("*.wav"))
    assert (tmp_path / "out.scores" / "all_stages" / "lexical" / "test.txt").read_text().startswith("unknown -")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give either --benchmark, or both --train-tokens and --test-tokens"),
        (["--train-tokens", "."], "Give either --benchmark"),
        (["--benchmark", ".", "--train-tokens", ".", "--test-tokens", "."], "Give either --benchmark"),
        (["--benchmark", "missing"], "There is no file or folder missing"),
        (["--benchmark", "."], "has none of the layouts of pairs"),
    ],
)
def test_wrong_options_are_one_error(checkpoint, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "likelihood", "--checkpoint", checkpoint, *options]) == 1
    assert message in capsys.readouterr().err


def test_items_are_compared_by_the_command(checkpoint, tmp_path, capsys):
    for number, name in enumerate(("one", "two")):
        write_sound(tmp_path / "wavs" / f"{name}.wav", number, seconds=2.0)
    arguments = ["evaluate", "tokens", "--checkpoint", checkpoint, "--data", str(tmp_path / "wavs")]
    places = [(name, 0.4 * at, phone) for name in ("one", "two") for at, phone in enumerate("AABB")]
    lines = [f"{name} {at:.1f} {at + 0.2:.1f} {phone} K T {name}" for name, at, phone in places]
    (tmp_path / "dev.item").write_text("\n".join([ITEM, *lines]) + "\n")
    command = [*arguments, "--item-file", str(tmp_path / "dev.item")]
    assert cli.main([*command, "-o", str(tmp_path / "out.json")]) == 0
    assert "8 items, 16 triples within and 32 across speakers" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out.json").read_text())["systems"]["semantic tokens"]
    assert 0 <= metrics["abx_tokens_within"] <= 1 and 0 <= metrics["abx_features_across"] <= 1
    wrong = {
        "three 0 1 A K T x": "'three' has no sound: the recording is not there",
        "one 5 6 A K T x": "lasts 2.00 s",
    }
    for line, message in wrong.items():
        (tmp_path / "dev.item").write_text(f"{ITEM}\n{line}\n")
        assert cli.main(command) == 1
        assert message in capsys.readouterr().err
    assert cli.main(arguments) == 1
    assert "Give either --train-data or --item-file" in capsys.readouterr().err
