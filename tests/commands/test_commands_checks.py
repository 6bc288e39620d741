# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What evaluations and benchmarks are given is checked before any model is loaded, and refused in one line."""

import pytest
from transformers import PreTrainedModel

from audiolm_hf import cli
from audiolm_hf.commands.options import write_report
from tests.helpers_checkpoint import CLIP

DATA = str(CLIP)
COMMANDS = {
    "codec": ["evaluate", "codec", "--codec", "speech-tiny", "--data", DATA],
    "tokens": ["evaluate", "tokens", "--checkpoint", "speech-tiny", "--data", DATA, "--train-data", DATA],
    "likelihood": ["evaluate", "likelihood", "--checkpoint", ".", "--train-tokens", ".", "--test-tokens", "."],
    "continuation": ["evaluate", "continuation", "--checkpoint", "speech-tiny", "--data", DATA],
    "voice": ["evaluate", "voice", "--checkpoint", "speech-tiny", "--data", DATA],
    "detector": ["evaluate", "detector", "--data", DATA],
    "checkpoint": ["evaluate", "checkpoint", "--checkpoint", "speech-tiny", "--data", "."],
    "accents": ["evaluate", "accents", "--data", DATA],
    "words": ["evaluate", "generation", "--checkpoint", "speech-tiny", "--data", DATA],
    "generation": ["benchmark", "generation"],
}
OTHERS = {
    "train": ["train", "--config", "text"],
    "tokenize": ["tokenize", "--tokenizer", ".", "--codec", ".", "--data", DATA, "-o", "tokens"],
}
EVERY = [
    (["--device", "gpu"], "--device is 'gpu'; this machine has cpu"),
    (["--threads", "0"], "--threads is 0; give 1 or more"),
    (["-o", "."], "--output . is a folder"),
    (["-o", "text/report.json"], "text, which is a file; name another folder"),
    (["-o", "/proc/report.json"], "In the folder /proc no file can be written"),
]
SINGLE = [
    ("codec", ["--data", "missing"], "There is no file or folder missing"),
    ("codec", ["--num-clips", "0"], "--num-clips is 0; give 1 or more"),
    ("codec", ["--length-s", "nan"], "--length-s is nan; give a number above 0"),
    ("codec", ["--num-codebooks", "2", "-1"], "--num-codebooks is -1"),
    ("codec", ["--codec", "speech-huge"], "'speech-huge' is not found"),
    ("tokens", ["--train-data", "missing"], "There is no file or folder missing"),
    ("tokens", ["--kind", "piano"], "--kind piano needs --midi"),
    ("tokens", ["--kind", "piano", "--midi", "missing"], "There is no file or folder missing"),
    ("tokens", ["--train-minutes", "-2"], "--train-minutes is -2.0"),
    ("likelihood", ["--checkpoint", "missing"], "The checkpoint 'missing' is not found"),
    ("continuation", ["--num-prompts", "-3"], "--num-prompts is -3"),
    ("continuation", ["--length-s", "1e9"], "--length-s is 1000000000.0; give a number above 0 and at most 86400"),
    ("continuation", ["--num-continuations", "1000000"], "--num-continuations is 1000000; give 1 or more and at most"),
    ("continuation", ["--seed", "-1"], "--seed is -1"),
    ("voice", ["--data", "missing"], "There is no file or folder missing"),
    ("detector", ["--data", "missing"], "There is no file or folder missing"),
    ("detector", ["--num-clips", "0"], "--num-clips is 0; give 1 or more"),
    ("detector", ["--detector", "speech-huge"], "'speech-huge' is not found"),
    ("accents", ["--min-speakers", "0"], "--min-speakers is 0; give 1 or more"),
    ("accents", ["--card", "text"], "--card is no longer there: audiolm-hf card writes"),
    ("accents", ["-o", "report.png"], "ends in .png, like another output"),
    ("words", ["--num-clips", "0"], "--num-clips is 0; give 1 or more"),
    ("checkpoint", ["--data", "missing"], "There is no file or folder missing"),
    ("checkpoint", ["--kind", "piano"], "There is no piano/test.parquet"),
    ("checkpoint", ["--parts", "codec"], "--parts is no longer there: use --protocols"),
    ("checkpoint", ["-o", "report.md"], "ends in .md, like another output"),
    ("generation", ["--batch", "1", "1000000000"], "--batch is 1000000000; give 1 or more and at most 1000"),
    ("train", ["--config", "binary"], "binary is not valid YAML"),
    ("train", ["--threads", "0"], "--threads is 0; give 1 or more"),
    ("train", ["--kind", "codec"], "--kind goes with --help"),
    ("tokenize", ["--num-machines", "4"], "The option --num-machines is no longer there: tokenize a part of the"),
    ("tokenize", ["--machine-index", "0"], "folder of its own, and list the folders in train_tokens"),
    ("tokenize", ["--num-threads", "2"], "--num-threads is no longer there: every process has one thread"),
    ("tokenize", ["--device", "gpu"], "--device is 'gpu'; this machine has cpu"),
    ("generation", ["--length-s", "-1"], "--length-s is -1.0; give a number above 0"),
]


@pytest.mark.parametrize(
    ("command", "options", "message"), [*SINGLE, *((name, *case) for name in COMMANDS for case in EVERY)]
)
def test_misuse_is_one_line_before_any_model(tmp_path, monkeypatch, capsys, command, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", lambda *given, **named: pytest.fail("a model was loaded"))
    monkeypatch.setattr("audiolm_hf.generate_checks_audiolm.available_memory", lambda: 8 * 10**9)
    (tmp_path / "text").write_text("text")
    (tmp_path / "binary").write_bytes(b"\x89PNG\xff")
    output = [] if command != "checkpoint" or "-o" in options else ["-o", "report.json"]
    assert cli.main([*(COMMANDS | OTHERS)[command], *output, *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audiolm-hf: error: ") and message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary", "text"]


def test_a_report_is_written_through_a_symbolic_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "report.json").symlink_to("there/real.json")
    write_report(tmp_path / "report.json", "{}")
    assert (tmp_path / "report.json").is_symlink() and (tmp_path / "there" / "real.json").read_text() == "{}"
