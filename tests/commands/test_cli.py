# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The program: finding verbs, and turning errors into one line."""

import argparse
import importlib
import io
import json
import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from functools import partial

import pytest
import soundfile as sf
from huggingface_hub.errors import StrictDataclassFieldValidationError
from safetensors import SafetensorError

import audiolm_hf
import audiolm_hf_cli
from audiolm_hf import checkpoint, cli, list_checkpoints
from audiolm_hf.run_folder import Interrupted
from tests.helpers_checkpoint import CLIP, ROOT, run_python

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_is_there_and_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([verb, "--help"])
    assert exit_info.value.code == 0
    assert f"audiolm-hf {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(("module", "extra"), cli.VERBS.values())
def test_every_extra_named_in_errors_is_declared(module, extra):
    assert extra is None or extra in EXTRAS
    assert callable(importlib.import_module(f"audiolm_hf.commands.{module}").run)


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert not [verb for verb in cli.VERBS if not re.search(rf"^    {verb}\b", text, re.MULTILINE)]


def test_the_overview_is_that_of_the_verbs_and_imports_no_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # the width of the help, here and there
    code = (
        "import sys, audiolm_hf_cli\n"
        "sys.argv[1:] = ['--help']\n"
        "try: audiolm_hf_cli.main()\n"
        "except SystemExit as status: assert status.code == 0\n"
        "heavy = {'torch', 'numpy', 'transformers', 'audiolm_hf'} & set(sys.modules)\n"
        "sys.exit(f'{heavy} imported' if heavy else 0)"
    )
    assert run_python(code, home=tmp_path) == cli.build_parser().format_help()
    version = run_python(code.replace("--help", "--version"), home=tmp_path)
    assert version == f"audiolm-hf {audiolm_hf.__version__}\n"
    as_module = (
        "import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module('audiolm_hf_cli', run_name='__main__')"
    )
    assert run_python(as_module, home=tmp_path) == version


def test_the_entry_hands_over_everything_else(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["audiolm-hf", "checkpoints"])
    assert audiolm_hf_cli.main() == 0
    assert capsys.readouterr().out.startswith(list_checkpoints()[0])


@pytest.mark.parametrize("argv", [[], ["contnue"], ["continue", "--lengths", "3"]])
def test_misuse_ends_with_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2
    assert "usage: audiolm-hf" in capsys.readouterr().err


def stand_in(monkeypatch, error: BaseException | Callable | None) -> None:
    """Replace the verb `checkpoints` by one that raises, or calls a function."""

    def run(arguments: argparse.Namespace) -> int:
        if callable(error):
            error()
        elif error is not None:
            raise error
        return 0

    monkeypatch.setattr("audiolm_hf.commands.checkpoints.run", run)


SEE_WHERE = "(set AUDIOLM_HF_TRACEBACK=1 to see where)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a is 1"), "a is 1"),
        (TypeError("b is\n  2"), "b is 2"),
        (FileNotFoundError("c is not there"), "c is not there"),
        (PermissionError(13, "Permission denied", "/d"), "/d: Permission denied"),
        (ImportError("e is too old"), "e is too old"),
        (ModuleNotFoundError("The program f is not installed."), "The program f is not installed."),
        (
            StrictDataclassFieldValidationError("g", ValueError("of h")),
            "Validation error for field 'g': ValueError: of h",
        ),
        (SafetensorError("i is damaged"), "i is damaged"),
        (MemoryError(), "there is not enough memory"),
        (AttributeError("a defect"), f"AttributeError: a defect {SEE_WHERE}"),
        (KeyError("j"), f"KeyError: 'j' {SEE_WHERE}"),
        (RuntimeError("k"), f"RuntimeError: k {SEE_WHERE}"),
        (ValueError(), f"ValueError: {SEE_WHERE}"),
        (ModuleNotFoundError("No module named 'audiolm_hf.x'", name="audiolm_hf.x"), "No module named 'audiolm_hf.x'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_is_one_line(monkeypatch, capsys, error, line):
    stand_in(monkeypatch, error)
    assert cli.main(["checkpoints"]) == 1
    assert capsys.readouterr().err == f"audiolm-hf: error: {line}\n"


def test_a_traceback_is_shown_where_asked(monkeypatch):
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    stand_in(monkeypatch, ValueError("a is 1"))
    with pytest.raises(ValueError, match="a is 1"):
        cli.main(["checkpoints"])


def test_a_damaged_checkpoint_is_one_line(tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint(), folder)
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    assert cli.main(["continue", "--checkpoint", str(folder), "-o", str(tmp_path / "out.wav")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audiolm-hf: error: ") and "header" in line.lower()
    assert not (tmp_path / "out.wav").exists()


def test_a_checkpoint_with_a_wrong_type_is_one_line(tmp_path, capsys):
    folder = tmp_path / "wrong"
    shutil.copytree(checkpoint(), folder)
    config = json.loads((folder / "config.json").read_text())
    config["coarse_config"]["codebook_size"] = "many"
    (folder / "config.json").write_text(json.dumps(config))
    assert cli.main(["continue", "--checkpoint", str(folder), "-o", str(tmp_path / "out.wav")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audiolm-hf: error: ") and "codebook_size" in line and "many" in line


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"audiolm-hf {audiolm_hf.__version__}\n"


def test_ctrl_c_while_importing_is_quiet_and_threads_wait_without_spinning(tmp_path):
    code = (
        "import os, sys, audiolm_hf_cli\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *args):\n"
        "        if name == 'torch':\n"
        "            sys.stdout.write(os.environ['OMP_WAIT_POLICY'])\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.argv[1:] = ['checkpoints']\n"
        "sys.stdout.write(f' {audiolm_hf_cli.main()}')"
    )
    assert run_python(code, home=tmp_path) == "PASSIVE 130"


def test_a_reader_that_has_gone_is_no_error(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert cli.main(["checkpoints"]) == cli.BROKEN_PIPE
    assert capsys.readouterr().err == ""


def test_success_and_interruption_have_their_status(monkeypatch, capsys):
    stand_in(monkeypatch, None)
    assert cli.main(["checkpoints"]) == 0
    stand_in(monkeypatch, KeyboardInterrupt())
    assert cli.main(["checkpoints"]) == 130
    assert capsys.readouterr().err == "audiolm-hf: interrupted.\n"
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.signal(number, signal.SIG_DFL)
        stand_in(monkeypatch, partial(signal.raise_signal, number))
        assert cli.main(["checkpoints"]) == 128 + number
        assert capsys.readouterr().err == "audiolm-hf: interrupted.\n"
        assert signal.signal(number, before) == signal.SIG_DFL
    stand_in(monkeypatch, KeyboardInterrupt("stopped at step 3"))
    assert cli.main(["checkpoints"]) == 130
    assert capsys.readouterr().err == "audiolm-hf: stopped at step 3\n"


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    missing = ModuleNotFoundError("No module named 'gradio'", name="gradio")
    monkeypatch.setitem(cli.VERBS, "checkpoints", ("checkpoints", "space"))
    stand_in(monkeypatch, missing)
    assert cli.main(["checkpoints"]) == 1
    assert "needs the package gradio" in (text := capsys.readouterr().err) and "pip install '.[space]' -c" in text


def hide_yaml(monkeypatch) -> None:
    """Let the import of the verb `train` fail as where its extra is not installed."""
    import_module = importlib.import_module

    def fail(name: str) -> object:
        if name == "audiolm_hf.commands.train":
            raise ModuleNotFoundError("No module named 'yaml'", name="yaml")
        return import_module(name)

    monkeypatch.setattr(cli.importlib, "import_module", fail)


def test_a_verb_that_cannot_be_imported_names_the_extra(monkeypatch, capsys):
    hide_yaml(monkeypatch)
    assert cli.main(["train", "--config", "x.yaml", "seed=1"]) == 1
    assert capsys.readouterr().err == (
        "audiolm-hf: error: the command 'train' needs the package yaml, which is not installed: "
        "pip install '.[train]' -c constraints.txt, in the folder of the repository\n"
    )


def test_checkpoints_are_listed(capsys):
    assert cli.main(["checkpoints"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0].removesuffix(" (default)") for line in listed] == list_checkpoints()


def test_tracebacks_that_a_pipeline_puts_into_a_message_are_left_out():
    inner = "model.safetensors is damaged."
    message = (
        f"Could not load x.\nTraceback (most recent call last):\n  File 'y', line 1\nhub.errors.OddError: {inner}\n"
    )
    assert cli._describe(ValueError(message), "continue") == inner


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_closed_streams_end_nothing(monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    assert cli.main(["checkpoints"]) == 0


def test_sound_for_a_closed_standard_output_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["continue", "-o", "-"]) == 1
    assert "Standard output (-o -) is a terminal, or closed" in capsys.readouterr().err


def test_a_closed_standard_input_is_empty(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["continue", "-", "-o", str(tmp_path / "out.wav")]) == 1
    assert "Standard input is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "usage", "message"),
    [
        (
            ["continue", "--lenght", "3"],
            "usage: audiolm-hf continue ",
            "option --lenght; did you mean '--length-s'?",
        ),
        (["continue", "--lenght=3", "x.wav"], "usage: audiolm-hf continue ", "no option --lenght; did you mean"),
        (
            ["evaluate", "codec", "--num-clip-s", "3", "--data", "x", "--codec", "y", "-o", "z"],
            "usage: audiolm-hf evaluate codec ",
            "no option --num-clip-s; did you mean '--num-clips'?",
        ),
        (
            ["tokenize", "--tokenizer", "a", "--codec", "b", "--data", "c", "-o", "d", "--num-worker-s", "3"],
            "usage: audiolm-hf tokenize ",
            "did you mean '--num-workers'?",
        ),
    ],
)
def test_an_unknown_option_has_the_usage_of_its_command(capsys, arguments, usage, message):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    printed = capsys.readouterr().err
    assert exit_info.value.code == 2 and printed.startswith(usage) and message in printed


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--temperature", "0", r"--temperature is 0.0; give .*, or --no-do-sample\."),
        ("--coarse-temperature", "0", r"--coarse-temperature is 0.0; give .*, or --no-coarse-do-sample\."),
        ("--semantic-top-p", "2", r"--semantic-top-p is 2.0; give"),
        ("--top-k", "-1", r"--top-k is -1; give"),
    ],
)
def test_sampling_errors_name_flags(capsys, flag, value, message):
    assert cli.main(["continue", flag, value]) == 1
    assert re.search(f"error: {message}", capsys.readouterr().err)


class SignallingFile(io.BytesIO):
    """A file that is read by libsndfile when a signal comes."""

    number = None

    def readinto(self, buffer):
        if self.number is not None:
            number, self.number = self.number, None
            signal.raise_signal(number)
        return super().readinto(buffer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libsndfile_reads_is_not_lost(number):
    file, read = SignallingFile(CLIP.read_bytes()), []
    file.number = number

    def read_and_wait():
        with cli._terminable():
            read.append(sf.read(file)[0])
            for _ in range(5000):
                time.sleep(0.001)

    with pytest.raises(Interrupted) as interrupted:
        read_and_wait()
    assert interrupted.value.number == number and len(read[0]) == 40000
