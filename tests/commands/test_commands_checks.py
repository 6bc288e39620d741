# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What evaluations and benchmarks are given is checked before any model is loaded, and refused in one line."""

import pytest
from transformers import PreTrainedModel

from audiolm_hf import cli
from audiolm_hf.commands.options import hold_report, write_report
from tests.helpers_checkpoint import CLIP
from tests.helpers_processes import fork_that_waits

DATA = str(CLIP)
COMMANDS = {
    "codec": ["evaluate", "codec", "--codec", "speech-tiny", "--data", DATA],
    "tokens": ["evaluate", "tokens", "--checkpoint", "speech-tiny", "--data", DATA, "--train-data", DATA],
    "likelihood": [
        "evaluate",
        "likelihood",
        "--checkpoint",
        "speech-tiny",
        "--train-tokens",
        ".",
        "--test-tokens",
        ".",
    ],
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
SOUND = ("codec", "tokens", "continuation", "voice", "detector", "accents", "words")
EVERY = [
    (["--device", "gpu"], "--device is 'gpu'; this machine has cpu"),
    (["--threads", "0"], "--threads is 0; give an integer of 1 or more"),
    (["-o", "."], "--output . is a folder"),
    (["-o", "text"], "text already exists and was not written by audiolm-hf; give another --output, or --overwrite"),
    (["-o", "/dev/null"], "--output /dev/null is a device or a pipe; name a file"),
    (["-o", "text/report.json"], "text, which is a file; name another folder"),
    (["-o", "/proc/report.json"], "In the folder /proc no file can be written"),
]
SINGLE = [
    ("codec", ["--data", "missing"], "There is no file or folder missing"),
    *((name, ["--data", "text"], "text is neither a folder") for name in SOUND),
    ("tokens", ["--train-data", "text"], "text is neither a folder"),
    ("likelihood", ["--train-tokens", "text"], "text"),
    ("codec", ["--num-clips", "0"], "--num-clips is 0; give an integer of 1 or more"),
    ("codec", ["--length-s", "nan"], "--length-s is nan; give a number above 0"),
    ("codec", ["--num-codebooks", "2", "-1"], "--num-codebooks is -1"),
    ("codec", ["--codec", "speech-huge"], "'speech-huge' is not found"),
    ("tokens", ["--train-data", "missing"], "There is no file or folder missing"),
    ("tokens", ["--kind", "piano"], "--kind piano needs --midi"),
    ("tokens", ["--kind", "piano", "--midi", "missing"], "There is no file or folder missing"),
    ("tokens", ["--train-minutes", "-2"], "--train-minutes is -2.0"),
    ("likelihood", ["--checkpoint", "missing"], "The checkpoint 'missing' is not found"),
    ("continuation", ["--num-prompts", "-3"], "--num-prompts is -3"),
    ("continuation", ["--length-s", "1e9"], "--length-s is 1000000000.0; give a number above 0 and at most 86,400"),
    (
        "continuation",
        ["--num-continuations", "1000000"],
        "is 1000000; give an integer from 1 to 1,000",
    ),
    ("continuation", ["--seed", "-1"], "--seed is -1"),
    ("voice", ["--data", "missing"], "There is no file or folder missing"),
    ("detector", ["--data", "missing"], "There is no file or folder missing"),
    ("detector", ["--num-clips", "0"], "--num-clips is 0; give an integer of 1 or more"),
    ("detector", ["--other-checkpoints", "speech-huge"], "'speech-huge' is not found"),
    ("detector", ["--other-checkpoints", "speech-tiny", "speech-tiny"], "have the same name; name each once"),
    ("detector", ["--detector", "speech-huge"], "'speech-huge' is not found"),
    ("accents", ["--min-speakers", "0"], "--min-speakers is 0; give an integer of 1 or more"),
    ("accents", ["--card", "text"], "--card was removed: audiolm-hf card writes"),
    ("accents", ["-o", "report.png"], "ends in .png, like another output"),
    ("words", ["--num-clips", "0"], "--num-clips is 0; give an integer of 1 or more"),
    ("checkpoint", ["--data", "missing"], "There is no file or folder missing"),
    ("checkpoint", ["--kind", "piano"], "There is no piano/test.parquet"),
    ("checkpoint", ["--parts", "codec"], "--parts was removed: use --protocols"),
    ("checkpoint", ["-o", "report.md"], "ends in .md, like another output"),
    ("generation", ["--batch", "1", "1000000000"], "--batch is 1000000000; give an integer from 1 to 1,000"),
    ("train", ["--config", "binary"], "binary is not valid YAML"),
    ("train", ["--threads", "0"], "--threads is 0; give an integer of 1 or more"),
    ("train", ["--kind", "codec"], "--kind goes with --help"),
    ("tokenize", ["--num-machines", "4"], "The option --num-machines was removed: tokenize a part of the"),
    ("tokenize", ["--machine-index", "0"], "folder of its own, and list the folders in train_tokens"),
    ("tokenize", ["--num-threads", "2"], "--num-threads was removed: every process has one thread"),
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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_report_can_be_told_to_replace_files(name):
    given = [*COMMANDS[name], "-o", "report.json"]
    assert not cli.build_parser(given[:1]).parse_args(given).overwrite
    assert cli.build_parser(given[:1]).parse_args([*given, "--overwrite"]).overwrite


def test_only_a_report_is_replaced_and_what_stands_beside_it(tmp_path):
    report, plot = tmp_path / "report.json", tmp_path / "report.png"
    plot.write_bytes(b"of somebody")
    for path, text in ((plot, None), (report, '{"command": "another"}'), (report, "[]"), (report, "{")):
        if text is not None:
            report.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name} already exists"), hold_report(report, False, (".png",)):
            pytest.fail("it was not refused")
        with hold_report(report, True, (".png",)):
            pass
    report.write_text('{"command": "audiolm-hf evaluate accents"}')
    with hold_report(report, False, (".png",)):
        pass


def test_a_report_that_another_process_writes_is_refused_until_that_one_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.json").symlink_to("report.json")
    with fork_that_waits(lambda: hold_report(tmp_path / "report.json", False)):
        for output in ("report.json", "link.json"):
            assert cli.main([*COMMANDS["codec"], "-o", output]) == 1
            assert f"Another process writes {tmp_path / 'report.json'}; wait for it" in capsys.readouterr().err
    with hold_report(tmp_path / "report.json", False):  # which the killed one no longer holds
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["link.json"]


def test_a_report_is_written_through_a_symbolic_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "report.json").symlink_to("there/real.json")
    write_report(tmp_path / "report.json", "{}")
    assert (tmp_path / "report.json").is_symlink() and (tmp_path / "there" / "real.json").read_text() == "{}"
