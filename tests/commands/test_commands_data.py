# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The commands `train`, `tokenize` and `evaluate`, from their arguments to their files."""

import json

import datasets
import numpy as np
import pytest
import soundfile as sf
import yaml

from audiolm_hf import checkpoint as checkpoint_folder
from audiolm_hf.cli import build_parser
from audiolm_hf.commands import tokenize
from audiolm_hf.data.tokenizers import load_tokenizers, tokenizers_hash
from audiolm_hf.data.tokens import TokenDataset, write_shard
from tests.helpers_sounds import EXAMPLES, RATE
from tests.helpers_tokens import describe_tokens, write_tokens


def run(*arguments):
    parsed = build_parser(["train", "tokenize", "evaluate"]).parse_args([str(argument) for argument in arguments])
    parsed.command = "audiolm-hf"  # which the program sets
    return parsed.run(parsed)


@pytest.fixture
def checkpoint(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    speech = sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]
    for number in range(2):
        sf.write(folder / f"{number}.flac", speech[number * RATE : (number + 2) * RATE], RATE)
    sf.write(folder / "short.flac", np.zeros(100), RATE)
    return folder


@pytest.mark.parametrize("float16", [False, True])
def test_tokenize_writes_a_dataset_and_says_what_it_left_out(checkpoint, recordings, tmp_path, capsys, float16):
    options = ["--float16"] if float16 else []
    arguments = ["--tokenizer", checkpoint, "--codec", checkpoint, "--data", recordings, "-o", tmp_path / "tokens"]
    assert run("tokenize", *arguments, *options) == 0
    output = capsys.readouterr().out
    assert "2 records" in output
    assert "short.flac: 0.01 s are shorter" in output
    pair = load_tokenizers(checkpoint, checkpoint, float16)
    expected = tokenizers_hash(pair.semantic_tokenizer, pair.codec.model)
    assert TokenDataset(tmp_path / "tokens").info.tokenizers == expected
    (line,) = (tmp_path / "tokens" / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "short.flac"
    with pytest.raises(ValueError, match=r"different: min_duration_s \(0.1, now 0.0\).*--overwrite"):
        run("tokenize", *arguments, *options, "--min-duration-s", 0)
    assert run("tokenize", *arguments, *options, "--min-duration-s", 0, "--overwrite") == 0
    assert "3 records" in capsys.readouterr().out


def test_tokenize_takes_the_name_of_a_bundled_checkpoint(recordings, tmp_path):
    arguments = ["--tokenizer", "speech-tiny", "--codec", "speech-tiny", "--data", recordings / "0.flac"]
    assert run("tokenize", *arguments, "-o", tmp_path / "tokens") == 0
    pair = load_tokenizers(checkpoint_folder("speech-tiny"), checkpoint_folder("speech-tiny"))
    expected = tokenizers_hash(pair.semantic_tokenizer, pair.codec.model)
    assert TokenDataset(tmp_path / "tokens").info.tokenizers == expected
    with pytest.raises(ValueError, match="'no' is not found: it is neither a folder nor one of the bundled"):
        run("tokenize", *arguments, "--codec", "no", "-o", tmp_path / "other")


def test_tokenize_takes_a_dataset_by_name(checkpoint, recordings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = [recordings / f"{number}.flac" for number in range(2)]
    audio = [{"bytes": file.read_bytes(), "path": None} for file in files]
    table = datasets.Dataset.from_dict({"audio": audio}).cast_column("audio", datasets.Audio())
    (tmp_path / "named").mkdir()
    table.to_parquet(tmp_path / "named" / "train.parquet")
    tokenizers = ["--tokenizer", checkpoint, "--codec", checkpoint]
    named = ["--dataset", tmp_path / "named", "--split", "train", "--streaming"]
    assert run("tokenize", *tokenizers, *named, "-o", tmp_path / "streamed") == 0
    assert run("tokenize", *tokenizers, "--data", *files, "-o", tmp_path / "listed") == 0
    assert "2 records" in capsys.readouterr().out
    for record, other in zip(TokenDataset(tmp_path / "streamed"), TokenDataset(tmp_path / "listed"), strict=True):
        np.testing.assert_array_equal(record.audio_codes, other.audio_codes)
    assert TokenDataset(tmp_path / "streamed")[1].id == "named/train#1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nothing"], "no file or folder nothing; give an existing"),
        (["--data", "tests", "--split", "train"], "--split belongs to --dataset"),
        (["--data", "tests", "--num-workers", 0], "--num-workers is 0; give an integer of 1 or more"),
        (["--dataset", "nothing/here"], "No split of nothing/here is named; give --split"),
    ],
)
def test_tokenize_says_what_is_wrong(checkpoint, tmp_path, options, message):
    with pytest.raises((ValueError, OSError), match=message):
        run("tokenize", "--tokenizer", checkpoint, "--codec", checkpoint, *options, "-o", tmp_path / "out")


def test_tokenize_takes_one_kind_of_source(capsys):
    for options in ([], ["--data", "a", "--dataset", "b"]):
        with pytest.raises(SystemExit):
            run("tokenize", "--tokenizer", "t", "--codec", "c", *options, "-o", "out")
    assert "not allowed with argument" in capsys.readouterr().err


def test_many_left_out_recordings_are_counted(tmp_path, capsys):
    folder = write_tokens(tmp_path / "tokens", [20])
    write_shard(folder / "tokens-00001.parquet", [], {f"{n}.wav": "it is empty" for n in range(12)})
    describe_tokens(folder)
    tokenize._report(TokenDataset(folder), folder)
    printed = capsys.readouterr().out
    assert "12 recordings left out" in printed
    assert printed.count("it is empty") == 10
    assert "and 2 more in" in printed


def test_train_runs_what_the_file_says(tmp_path):
    write_tokens(tmp_path / "tokens", [20, 10])
    config = tmp_path / "semantic.yaml"
    backbone = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    values = {
        "kind": "stage",
        "stage": "semantic",
        "train_tokens": [str(tmp_path / "tokens")],
        "validation_tokens": [str(tmp_path / "tokens")],
        "window_length_s": 0.4,
        "num_coarse_codebooks": 2,
        "max_steps": 5,
        "warmup_steps": 0,
        "eval_steps": 2,
        "bf16": False,
        "use_cpu": True,
        "backbone": backbone | {"num_key_value_heads": 1},
    }
    config.write_text(yaml.safe_dump(values))
    assert run("train", "--config", config, f"output_folder={tmp_path / 'out'}", "max_steps=3") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["steps"] == 3


def test_evaluate_codec_prints_a_table_and_writes_json(checkpoint, recordings, tmp_path, capsys):
    output = tmp_path / "figures" / "codec.json"
    arguments = [
        "--codec",
        checkpoint,
        "--data",
        recordings,
        "--num-clips",
        1,
        "--length-s",
        1.5,
        "-o",
        output,
    ]
    assert run("evaluate", "codec", *arguments) == 0
    printed = capsys.readouterr().out
    assert "PESQ-WB" in printed
    assert str(output) in printed
    assert json.loads(output.read_text())["num_clips"] == 1


def test_evaluate_likelihood_prints_every_stage(checkpoint, tmp_path, capsys):
    train_tokens, test_tokens = write_tokens(tmp_path / "train", [30] * 4), write_tokens(tmp_path / "test", [12], 1)
    arguments = [
        "--checkpoint",
        checkpoint,
        "--train-tokens",
        train_tokens,
        "--test-tokens",
        test_tokens,
    ]
    assert run("evaluate", "likelihood", *arguments) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("semantic", "coarse", "fine", "1-gram", "3-gram"))


def test_evaluate_continuation_prints_the_yardsticks(checkpoint, recordings, capsys):
    arguments = [
        "--checkpoint",
        checkpoint,
        "--data",
        recordings,
        "--num-prompts",
        1,
        "--prompt-length-s",
        1,
        "--length-s",
        1,
        "--num-continuations",
        2,
    ]
    assert run("evaluate", "continuation", *arguments) == 0
    printed = capsys.readouterr().out
    assert "1 prompts of 1 s, continued 2 times by 1 s" in printed and "prompt again" in printed


def test_evaluation_must_be_named(capsys):
    with pytest.raises(SystemExit):
        run("evaluate")
    assert "codec|tokens|likelihood|continuation" in capsys.readouterr().err
