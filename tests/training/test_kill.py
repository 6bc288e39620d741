# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Trainings of codec and semantic encoder that are killed again and again end as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
KINDS = ["ema-adversarial", "encoder"]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Folder of the killed and of the uninterrupted trainings."""
    folder = tmp_path_factory.mktemp("trainings")
    (folder / "recordings").mkdir()
    generator = np.random.default_rng(0)
    for name in ("first", "second", "0", "1", "2", "3", "4"):
        sf.write(folder / "recordings" / f"{name}.wav", 0.1 * generator.standard_normal(16000), 16000)
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tests/training/kill_worker.py"), str(folder / "recordings"), str(folder), *KINDS],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr[-5000:]
    return folder


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_trainings_end_with_the_weights_and_the_log_of_an_uninterrupted_one(kind, trainings):
    killed, whole = trainings / kind, trainings / f"{kind}-whole"
    assert len(json.loads((trainings / f"{kind}.json").read_text())) >= 4  # real kills, not trainings that had ended
    model = "encoder" if kind == "encoder" else "final"
    expected, found = (load_file(folder / model / "model.safetensors") for folder in (whole, killed))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    for part in ("iteration_1", "iteration_2") if kind == "encoder" else (".",):
        assert log_of(killed / part) == log_of(whole / part)
    assert not list(killed.rglob(".partial-*"))
