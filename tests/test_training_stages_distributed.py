# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Stages trained by two processes: step for step what one process learns from the same batches."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers_stages import CASES, run_case
from tests.helpers_tokens import write_tokens

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("stages_worker.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
TIMEOUT_S = 600  # two processes that wait for each other would never end


def run_to_the_end(command: list[str], folder: Path) -> str:
    """Run a launcher and everything it starts; what they printed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        pytest.fail(f"the processes wait for each other:\n{printed[-3000:]}")
    assert process.returncode == 0, printed[-5000:]
    return printed


def run_cases(cases, source: Path, output: Path, launcher=TORCHRUN) -> dict[str, list[dict[str, torch.Tensor]]]:
    """Run cases by two processes; what each of them ended with."""
    run_to_the_end([*launcher, str(WORKER), str(source), str(output), *cases], output)
    return {case: [load_file(output / f"{case}-{rank}.safetensors") for rank in range(2)] for case in cases}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder / "train", [30, 12, 25, 40, 9, 33], seed=0)
    write_tokens(folder / "validation", [20, 11, 7], seed=1)
    return folder


def check_equal_to_one_process(case: str, ranks: list[dict[str, torch.Tensor]], source: Path, folder: Path) -> None:
    labels = [rank.pop("labels") for rank in ranks]
    assert not labels[0].equal(labels[1])  # each has its own part, or a mean of means would do
    assert all(ranks[0][name].equal(ranks[1][name]) for name in ranks[0])
    alone = run_case(case, source, folder / "alone", gradient_accumulation_steps=1)
    assert int(alone.pop("labels").sum()) == int(sum(part.sum() for part in labels))
    assert alone.keys() == ranks[0].keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(
            ranks[0][name], tensor, atol=2e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_learn_the_same_by_one_clock_and_one_writes(source: Path, tmp_path: Path):
    found = run_cases(["coarse", "clock", "files"], source, tmp_path)
    check_equal_to_one_process("coarse", found["coarse"], source, tmp_path)
    first, second = found["clock"]
    rates = [name for name in first if name.startswith("learning_rate-")]
    assert len(rates) > 3 and rates == [name for name in second if name.startswith("learning_rate-")]
    assert all(first[name].equal(second[name]) for name in first if name != "labels")
    assert {"config.yaml", "report.json", "final"} <= {path.name for path in (tmp_path / "files/0").iterdir()}
    assert {path.name for path in (tmp_path / "files/1").iterdir()} == {"checkpoints"}  # the Trainer's random state


@pytest.mark.slow
def test_every_stage_learns_the_same_on_two_processes(source: Path, tmp_path: Path):
    cases = [case for case in CASES if case != "coarse"]
    found = run_cases(cases, source, tmp_path)
    for case in cases:
        check_equal_to_one_process(case, found[case], source, tmp_path / case)
