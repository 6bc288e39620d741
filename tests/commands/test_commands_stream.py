# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf continue --stream`: WAV while it is generated, to pipes and files."""

import io
import os
import signal
import subprocess
import sys
import time
import wave

import numpy as np
import pytest
import soundfile
import torch

from audiolm_hf import AudioLMSemanticModel, cli, export_checkpoint, read_audio
from audiolm_hf.audio_file_audiolm import wav_pieces
from audiolm_hf.cli import BROKEN_PIPE
from audiolm_hf.commands import continue_
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
from audiolm_hf.provenance_audiolm import read_provenance
from tests.helpers_checkpoint import CLIP, environment, tiny_model, tiny_processor
from tests.helpers_processes import ForkedProgram


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_checkpoint(tiny_model(), tiny_processor(), tmp_path_factory.mktemp("cli") / "tiny")


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--checkpoint", str(folder), "--device", "cpu", "--seed", "3"]

    def run(*arguments):
        return cli.main(["continue", str(CLIP), *map(str, arguments), *options])

    return run


def stream(folder, length_s, output="-"):
    """The arguments of a stream to a pipe, or a file."""
    options = ["--length-s", str(length_s), "--checkpoint", str(folder), "--device", "cpu", "--seed", "3"]
    return ["continue", str(CLIP), "-o", output, "--stream", "--quiet", *options]


@pytest.mark.parametrize("alone", [False, True])
def test_a_streamed_file_has_the_samples_of_a_whole_one(run, tmp_path, capsys, alone):
    options = ["--length-s", 1, *["--continuation-only"] * alone]
    assert run("-o", "whole.wav", *options) == 0
    capsys.readouterr()
    assert run("-o", "streamed.wav", "--stream", *options) == 0
    output = capsys.readouterr().out
    assert output.startswith(str(tmp_path / "streamed.wav")) and " s of audio, the first after " in output
    whole, streamed = (soundfile.read(name, dtype="int16")[0] for name in ("whole.wav", "streamed.wav"))
    np.testing.assert_array_equal(streamed, whole)
    with wave.open("streamed.wav") as file:  # which believes the header
        assert file.getnframes() == len(whole)
    assert read_provenance("streamed.wav")["seed"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["streamed.wav", "whole.wav"]


def test_a_continuation_that_ends_at_once_is_a_file_without_samples(run, monkeypatch, capsys):
    original = AudioLMStageBase.level_logits

    def end_at_once(stage, states, level):
        logits = original(stage, states, level)
        return logits.index_fill(-1, torch.tensor([stage.config.eos_token_id]), 1e4)

    monkeypatch.setattr(AudioLMSemanticModel, "level_logits", end_at_once)
    assert run("-o", "out.wav", "--stream", "--continuation-only", "--stop-at-end") == 0
    assert ": 0.00 s of audio, the first after " in capsys.readouterr().out
    assert soundfile.info("out.wav").frames == 0


def test_a_pipe_is_filled_while_the_program_runs(run, folder, tmp_path):
    program = ForkedProgram(tmp_path, *stream(folder, 4))
    first = program.stdout.read(44 + 2 * 40000 + 2 * 320 * 16)
    assert program.process.is_alive()  # the pipe holds less than the rest
    data = first + program.stdout.read()
    assert program.stderr.read() == b""
    assert program.wait() == 0
    assert run("-o", "whole.wav", "--length-s", 4) == 0
    expected = soundfile.read("whole.wav", dtype="int16")[0]
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(data), dtype="int16")[0], expected)
    assert read_audio(data)[0].shape == (1, len(expected))


@pytest.mark.slow
def test_a_reader_may_leave(folder, tmp_path):
    command = [sys.executable, "-m", "audiolm_hf.cli", *stream(folder, 1000)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), **pipes) as process:
        process.stdout.read(44 + 2 * 40000 + 2 * 320 * 16)
        process.stdout.close()
        assert process.wait(timeout=60) == BROKEN_PIPE
        assert process.stderr.read() == b""


def test_an_interrupted_stream_leaves_no_file(run, tmp_path, monkeypatch):
    def interrupted(chunks, *args):
        for piece, _ in zip(wav_pieces(chunks, *args), range(3), strict=False):
            yield piece
        raise KeyboardInterrupt

    monkeypatch.setattr(continue_, "wav_pieces", interrupted)
    assert run("-o", "out.wav", "--stream", "--length-s", 5) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_stream_to_a_file_in_one_line_with_its_status_and_no_file(folder, tmp_path, number):
    program = ForkedProgram(tmp_path, *stream(folder, 1000, "out.wav"))
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 1000 for path in tmp_path.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(program.process.pid, number)
    assert program.stderr.read() == b"audiolm-hf: interrupted.\n"
    assert program.wait() == 128 + number
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.flac"], "--stream writes WAV; give a name that ends in .wav"),
        (["-o", "out.wav", "--num-continuations", 2], "--stream writes one continuation of each prompt"),
    ],
)
def test_what_cannot_be_streamed_is_refused(run, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(continue_, "load", lambda *given: pytest.fail("loaded first"))
    assert run(*arguments, "--stream") == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(folder, tmp_path):
    def peak(length_s):
        command = [sys.executable, "-m", "audiolm_hf.cli", "continue", str(CLIP), "-o", "out.wav", "--stream"]
        options = ["--length-s", str(length_s), "--checkpoint", str(folder), "--device", "cpu", "--no-use-fine-stage"]
        process = subprocess.Popen([*command, *options], cwd=tmp_path, env=environment(tmp_path))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss / 1024

    assert peak(100) < peak(5) + 10  # MB; the audio alone is 6.4 MB in float32
