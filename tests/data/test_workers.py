# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Several processes, and kill -9 at any moment: the same bytes as one process that nobody disturbs."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from datasets import Audio, Dataset

from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.tokenization import TokenizationPlan, tokenize_recordings
from audiolm_hf.data.tokenizers import load_tokenizers
from tests.data.test_tokenization import files
from tests.helpers_checkpoint import ROOT, environment

RATE = 16000
NUM_RECORDINGS = 40


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Recordings of about a second, two of which cannot be read."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("audio")
    for number in range(NUM_RECORDINGS):
        sf.write(folder / f"{number:02d}.flac", rng.uniform(-0.5, 0.5, rng.integers(8000, 24000)), RATE)
    for number in (5, 30):
        (folder / f"{number:02d}.flac").write_bytes(b"no audio")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiny_audiolm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_audiolm.save_pretrained(folder)
    return folder


def wait_for(condition, what, process, timeout_s=300):
    """Wait until something is so, while a process works on it."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process.poll() not in (None, -signal.SIGKILL) or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"no {what}: {process.communicate()}")
        time.sleep(0.002)


def shards(folder):
    return sorted(path.name for path in folder.glob("*.parquet"))


@pytest.mark.slow
def test_killed_runs_lose_and_double_nothing(audio, tmp_path):
    (tmp_path / "parquet").mkdir()
    clips = [{"bytes": path.read_bytes(), "path": None} for path in sorted(audio.iterdir())]
    for number in range(3):
        rows = Dataset.from_dict({"audio": clips[number::3]}).cast_column("audio", Audio())
        rows.to_parquet(tmp_path / "parquet" / f"train-{number}.parquet")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "tests.data.tokenize_worker", audio, tmp_path / "parquet", tmp_path / "out"]
    variables = environment(tmp_path, PYTHONPATH=os.pathsep.join((str(ROOT / "src"), str(ROOT))))
    result = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    for name in ("list", "stream"):
        assert report[name]["last_status"] == 0
        assert report[name]["killed"] >= 4  # in the middle of their work, not after it
        whole = files(tmp_path / "out" / f"{name}-whole")
        assert len(shards(tmp_path / "out" / f"{name}-whole")) == NUM_RECORDINGS // 2
        assert files(tmp_path / "out" / f"{name}-killed") == whole
        assert len(whole["skipped.jsonl"].splitlines()) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the workers")
def test_two_workers_give_the_bytes_of_one_though_killed(audio, checkpoint, tmp_path):
    load = partial(load_tokenizers, checkpoint, checkpoint)
    plan = TokenizationPlan(recordings_per_shard=2, min_duration_s=0.1)
    tokenize_recordings(list_clips(audio), load, tmp_path / "whole", plan)
    output = tmp_path / "out"
    command = [sys.executable, "-m", "audiolm_hf.cli", "tokenize", "--tokenizer", checkpoint, "--codec", checkpoint]
    command += ["--data", audio, "-o", output, "--num-workers", "2", "--recordings-per-shard", "2"]
    command = [str(part) for part in command]

    def start():
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), **pipes)

    def workers_of(process):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    # a worker is killed: one clear error
    process = start()
    wait_for(lambda: shards(output), "first shard", process)
    killed = workers_of(process)
    os.kill(int(killed[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "A worker ended before its work" in errors
    assert "Traceback" not in errors
    # all is killed from above: the workers end by themselves
    process = start()
    done = len(shards(output))
    assert 0 < done < NUM_RECORDINGS // 2
    wait_for(lambda: len(shards(output)) > done, "other shard", process)
    orphans = workers_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "end of the orphans", process)
    assert orphans
    assert len(shards(output)) < NUM_RECORDINGS // 2
    # and nothing has been lost
    process = start()
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"{NUM_RECORDINGS - 2} records" in printed
    assert "2 recordings left out" in printed
    assert files(output) == files(tmp_path / "whole")
