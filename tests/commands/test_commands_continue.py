# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf continue`: files in, files out, nothing overwritten, errors before the work."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch

from audiolm_hf import cli, example_prompt, export_checkpoint, read_audio, read_provenance
from audiolm_hf.commands import continue_
from tests.helpers_checkpoint import CLIP, OTHER_CLIP, environment, tiny_model, tiny_processor
from tests.helpers_parallel import parallel_audiolm
from tests.helpers_processes import ForkedProgram


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(tiny_model(), tiny_processor(), tmp_path_factory.mktemp("cli") / "tiny")


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Run the command in an empty folder with the tiny checkpoint; gives its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, length_s: float = 0.4) -> int:
        options = ["--checkpoint", folder, "--length-s", length_s, "--device", "cpu"]
        return cli.main(["continue", *map(str, [*arguments, *options])])

    return run


def samples(path: Path) -> np.ndarray:
    return read_audio(path)[0][0]


def test_a_file_is_continued_and_its_place_is_told(run, tmp_path, capsys):
    assert run(CLIP, "-o", "out.wav") == 0
    audio, prompt = samples(tmp_path / "out.wav"), samples(CLIP)
    assert len(audio) == len(prompt) + 6400
    np.testing.assert_allclose(audio[: len(prompt)], prompt, atol=1.01 / 2**15)
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path / 'out.wav'}: 2.90 s of audio, made in ")
    assert all(stage in output.err for stage in ("semantic", "coarse", "fine"))
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def test_the_same_seed_makes_the_same_samples(run, tmp_path):
    for seed, name in ((3, "a.wav"), (3, "b.wav"), (4, "c.wav")):
        assert run(CLIP, "-o", name, "--seed", seed) == 0
    first, second, third = (samples(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav"))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_the_bundled_example_is_the_default_prompt(run, tmp_path):
    assert run() == 0
    prompt = samples(Path(example_prompt()))
    np.testing.assert_allclose(samples(tmp_path / "continuation.wav")[: len(prompt)], prompt, atol=1.01 / 2**15)


def test_the_file_says_how_it_was_made_but_not_where(run, tmp_path):
    assert run(CLIP, "-o", "out.flac", "--seed", 5) == 0
    facts = read_provenance(tmp_path / "out.flac")
    assert facts["checkpoint"] == "tiny" and facts["seed"] == 5 and len(facts["checkpoint_sha256"]) == 64
    assert str(tmp_path).encode() not in (tmp_path / "out.flac").read_bytes()


def test_the_continuation_alone(run, tmp_path):
    assert run(CLIP, "-o", "out.wav", "--continuation-only") == 0
    assert len(samples(tmp_path / "out.wav")) == 6400


def test_several_prompts_and_continuations_are_numbered(run, tmp_path):
    assert run(CLIP, OTHER_CLIP, "-o", "out.wav", "--num-continuations", 2) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"out-{clip.stem}-{number}.wav" for clip in (CLIP, OTHER_CLIP) for number in (1, 2))
    first, second = (samples(tmp_path / f"out-{CLIP.stem}-{number}.wav") for number in (1, 2))
    assert not np.array_equal(first, second)


class Recorder:
    """Stands in for the pipeline: keeps the options that it is called with."""

    processor = tiny_processor()
    model = tiny_model()
    seen: ClassVar[dict] = {}

    def preprocess(self, prompt: object) -> dict:
        return {"input_values": torch.zeros(1, 16000)}

    def __call__(self, prompt: object, **options: object) -> dict:
        self.seen.update(options)
        return {"audio": np.full(100, 0.1, np.float32), "sampling_rate": 16000}


def record(monkeypatch, *arguments: object) -> dict:
    """The options that reach the pipeline."""
    Recorder.seen.clear()
    monkeypatch.setattr(continue_, "load", lambda checkpoint, device: Recorder())
    assert cli.main(["continue", str(CLIP), "--device", "cpu", "--overwrite", *map(str, arguments)]) == 0
    return Recorder.seen


@pytest.mark.parametrize("stop", [False, True])
def test_the_end_token_is_honoured_where_asked(tmp_path, monkeypatch, stop):
    monkeypatch.chdir(tmp_path)
    seen = record(monkeypatch, "--length-s", 3, *["--stop-at-end"] * stop)
    assert seen["continuation_length_s"] == 3.0
    assert seen["min_continuation_length_s"] == (0.0 if stop else 3.0)


def test_every_stage_can_be_told_how_to_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--coarse-temperature", 0.9, "--semantic-top-k", 50, "--fine-top-p", 0.5, "--no-coarse-do-sample"]
    given = record(monkeypatch, *options)["generate_kwargs"]
    assert given.pop("progress") is not None
    assert given == {
        "coarse_temperature": 0.9,
        "semantic_top_k": 50,
        "fine_top_p": 0.5,
        "coarse_do_sample": False,
    }
    assert set(record(monkeypatch)["generate_kwargs"]) == {"progress"}
    assert record(monkeypatch, "--no-use-fine-stage")["generate_kwargs"]["use_fine_stage"] is False


def test_sampling_options_change_the_samples(run, tmp_path):
    assert run(CLIP, "-o", "a.wav") == 0
    assert run(CLIP, "-o", "b.wav", "--no-semantic-do-sample", "--coarse-top-k", 1) == 0
    assert not np.array_equal(samples(tmp_path / "a.wav"), samples(tmp_path / "b.wav"))


LOADED_FIRST = "the model is loaded before this is refused"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav"], "missing.wav' does not exist"),
        ([CLIP, OTHER_CLIP, "missing.wav"], "missing.wav' does not exist"),
        ([CLIP, "text.wav"], "text.wav' cannot be decoded"),
        ([CLIP, "."], "is a folder"),
        ([CLIP, "-o", "out.txt"], "must end in .wav, .flac, .ogg"),
        ([CLIP, "-o", "nowhere/out.wav"], "folder 'nowhere' of the output file is not there"),
        ([CLIP, "-o", "."], "--output is '.', not the name of a file"),
        ([CLIP, "-o", ""], "--output is '', not the name of a file"),
        ([CLIP, "-o", ".."], "--output is '..', not the name of a file"),
        ([CLIP, "-o", "folder.wav", "--overwrite"], "folder.wav', not the name of a file"),
        ([CLIP, "-o", "/proc/out.wav"], "In the folder '/proc' of the output file no file can be written"),
        ([CLIP, "-o", "text.wav/out.wav"], "folder 'text.wav' of the output file is not there"),
        ([CLIP, "-o", "x" * 300 + ".wav"], "File name too long"),
        ([CLIP, "-o", "two\nlines.wav"], "must not hold line breaks"),
        ([CLIP, "-o", "pipe.wav"], "pipe.wav' is a pipe, a device or the like; give the name of a file"),
        ([""], "path of the audio file is empty"),
        ([CLIP, "-o", "text.wav"], "text.wav already exists and was not written by audiolm-hf"),
        ([CLIP, CLIP], "Two prompts have the same name"),
        ([CLIP, OTHER_CLIP, "-o", "-"], "takes a single continuation of a single prompt"),
        ([CLIP, "--num-continuations", "2", "-o", "-"], "takes a single continuation of a single prompt"),
        (["-", "-"], "given twice"),
        ([CLIP, "--num-continuations", "0"], "--num-continuations is 0"),
        ([CLIP, "--num-continuations", "1000000"], "--num-continuations is 1000000; give an integer from 1 to 1,000"),
        ([CLIP, "--length-s", "0"], "--length-s is 0.0; give a number above 0"),
        ([CLIP, "--length-s", "nan"], "--length-s is nan"),
        ([CLIP, "--length-s", "inf"], "--length-s is inf"),
        ([CLIP, "--length-s", "1e9"], "--length-s is 1000000000.0; give a number above 0 and at most 86,400"),
        ([CLIP, "--seed", "-1"], "--seed is -1"),
        ([CLIP, "--seed", str(2**70)], "--seed is 1180591620717411303424"),
        ([CLIP, "--threads", "0"], "--threads is 0"),
        ([CLIP, "--device", "gpu"], "--device is 'gpu'; this machine has cpu"),
        ([CLIP, "--device", "cuda:99"], "--device is 'cuda:99'; this machine has cpu"),
        ([CLIP, "--device", ""], "--device is ''; this machine has cpu"),
        ([CLIP, "--coarse-temperature", "-1"], "--coarse-temperature is -1.0"),
        ([CLIP, "--top-k", "-1"], "--top-k is -1"),
        ([CLIP, "--semantic-top-p", "7"], "--semantic-top-p is 7.0"),
        ([CLIP, "--acoustic-mode", "fast"], "--acoustic-mode is 'fast'; give 'hierarchical' or 'parallel'"),
        ([CLIP, "--parallel-num-passes", "0"], "--parallel-num-passes is 0; give an integer from 1"),
        ([CLIP, "--checkpoint", "speech-huge"], "'speech-huge' is not found"),
        ([CLIP, "--checkpoint", ""], "'' is not found"),
    ],
)
def test_misuse_is_one_line_before_the_work(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(continue_, "load", lambda *given: pytest.fail(LOADED_FIRST))
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    assert cli.main(["continue", "--length-s", "0.4", *map(str, arguments)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audiolm-hf: error: ") and message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.wav", "pipe.wav", "text.wav"]


def test_what_does_not_fit_into_memory_is_refused_with_the_figure(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("audiolm_hf.generate_checks_audiolm.available_memory", lambda: 10**6)
    assert run(CLIP, "-o", "out.wav", length_s=60) == 1
    assert "audiolm-hf: error: 1 rows of 60 s would take about 0.0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "option", "advice"),
    [
        ("parallel", "--coarse-top-k", "the coarse stage; give --acoustic-mode hierarchical"),
        ("hierarchical", "--parallel-num-passes", "the parallel stage; give --acoustic-mode parallel"),
    ],
)
def test_an_option_without_effect_is_refused_by_its_flag(tmp_path, monkeypatch, capsys, mode, option, advice):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Recorder, "model", parallel_audiolm())
    monkeypatch.setattr(continue_, "load", lambda checkpoint, device: Recorder())
    assert cli.main(["continue", str(CLIP), "--device", "cpu", "--acoustic-mode", mode, option, "3"]) == 1
    error = (
        f"audiolm-hf: error: {option} is given, but --acoustic-mode is '{mode}', without {advice}, or leave it out.\n"
    )
    assert capsys.readouterr().err == error


def test_an_option_of_the_stage_that_is_switched_off_is_refused_by_its_flag(run, capsys):
    assert run(CLIP, "--no-use-fine-stage", "--fine-top-k", "3") == 1
    error = "--fine-top-k is given, but --use-fine-stage is False; give --use-fine-stage, or leave it out."
    assert error in capsys.readouterr().err


def test_what_only_the_processor_can_tell_is_told_before_anything_is_made(run, tmp_path, capsys):
    soundfile.write(tmp_path / "short.wav", np.zeros(3), 16000)
    assert run(CLIP, OTHER_CLIP, "short.wav", "-o", "out.wav") == 1
    assert "audiolm-hf: error: short.wav: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["short.wav"]


def test_a_full_disk_is_foreseen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(continue_.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**5))
    monkeypatch.setattr(continue_, "load", lambda *given: pytest.fail(LOADED_FIRST))
    assert cli.main(["continue", str(CLIP), "--length-s", "10"]) == 1
    assert "1 files of 10 s take 0.00032 GB, and 0.0001 GB are free in ." in capsys.readouterr().err


def test_only_what_the_command_wrote_itself_is_replaced(run, tmp_path, capsys):
    assert run(CLIP, "-o", "out.wav") == 0
    assert run(CLIP, "-o", "out.wav", "--seed", 7) == 0
    (tmp_path / "mine.wav").write_bytes(Path(tmp_path / "out.wav").read_bytes()[:20])
    soundfile.write(tmp_path / "other.flac", np.zeros(100), 16000)
    for name in ("mine.wav", "other.flac"):
        before = (tmp_path / name).read_bytes()
        assert run(CLIP, "-o", name) == 1
        assert f"{name} already exists" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == before
        assert run(CLIP, "-o", name, "--overwrite") == 0
        assert len(samples(tmp_path / name)) == 46400


def test_two_processes_at_one_output_leave_the_whole_file_of_one(folder, tmp_path):
    options = ("--checkpoint", str(folder), "--length-s", "1", "--quiet", "-o", "out.wav")
    programs = [ForkedProgram(tmp_path, "continue", str(CLIP), *options, "--seed", str(seed)) for seed in (1, 2)]
    assert [program.wait() for program in programs] == [0, 0]
    left = read_audio(tmp_path / "out.wav")[0]
    seed = read_provenance(tmp_path / "out.wav")["seed"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    assert ForkedProgram(tmp_path, "continue", str(CLIP), *options, "--seed", str(seed)).wait() == 0
    np.testing.assert_array_equal(left, read_audio(tmp_path / "out.wav")[0])


def test_quiet_prints_nothing(run, tmp_path, capsys):
    assert run(CLIP, "-o", "out.wav", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert len(samples(tmp_path / "out.wav")) == 46400


def test_the_number_of_threads_is_told_and_can_be_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        record(monkeypatch)
        assert torch.get_num_threads() == 1
        assert "speech-tiny on cpu, 1 thread (the largest part has 0.0 million weights;" in capsys.readouterr().err
        record(monkeypatch, "--threads", 2)
        assert "speech-tiny on cpu, 2 threads (as asked)" in capsys.readouterr().err and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_named_pipe_is_read(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(CLIP.read_bytes()))
    writer.start()
    assert run("pipe", "-o", "out.wav") == 0
    writer.join()
    np.testing.assert_allclose(samples(tmp_path / "out.wav")[:40000], samples(CLIP)[:40000], atol=1.01 / 2**15)


@pytest.mark.parametrize("content", [b"", b"no sound"])
def test_standard_input_without_sound_is_refused(monkeypatch, capsys, tmp_path, content):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    monkeypatch.setattr(continue_, "load", lambda *given: pytest.fail(LOADED_FIRST))
    assert cli.main(["continue", "-"]) == 1
    error = capsys.readouterr().err
    assert "cannot be decoded" in error if content else "Standard input is empty" in error


def test_standard_input_to_standard_output(folder, tmp_path):
    command = [sys.executable, "-m", "audiolm_hf.cli", "continue", "-", "-o", "-", "--length-s", "0.4"]
    result = subprocess.run(
        [*command, "--checkpoint", str(folder), "--device", "cpu", "--quiet"],
        input=CLIP.read_bytes(),
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        check=True,
    )
    audio, rate = soundfile.read(io.BytesIO(result.stdout), dtype="float32")
    assert rate == 16000 and len(audio) == 46400
    np.testing.assert_allclose(audio[:40000], samples(CLIP)[:40000], atol=1.01 / 2**15)
    assert result.stderr == b""


def test_bars_follow_the_stages(capsys):
    bars = continue_.StageBars()
    for stage, total in (("semantic", 10), ("coarse", 20)):
        for done in range(0, total + 1, 5):
            bars(stage, done, total)
    bars.close()
    text = capsys.readouterr().err
    assert "semantic: 100%" in text and "coarse: 100%" in text and "20/20" in text
