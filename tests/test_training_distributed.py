# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training on two processes: each sees its own data, and after some steps both hold the same weights."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers_tokens import write_tokens

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("distributed_worker.py")
TIMEOUT_S = 600  # two processes that wait for each other would never end


def train_on_two_processes(kind: str, source: Path, output: Path) -> list[dict[str, torch.Tensor]]:
    """Train twice under torchrun; the tensors that each of them left."""
    run_on_two_processes(WORKER.name, [kind, str(source), str(output)], output)
    return [load_file(output / f"rank-{rank}.safetensors") for rank in range(2)]


def run_on_two_processes(worker: str, arguments: list[str], output: Path) -> None:
    """Run a script of this folder as two processes under torchrun, in the folder `output`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [*launcher, str(WORKER.with_name(worker)), *arguments],
        cwd=output,
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


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder / "train", [30, 12, 25, 40, 9, 33], seed=0)
    write_tokens(folder / "validation", [20, 11], seed=1)
    return folder


@pytest.mark.parametrize("kind", ["semantic", "coarse", "fine"])
def test_both_processes_end_with_the_same_weights(kind: str, tokens: Path, tmp_path: Path):
    first, second = train_on_two_processes(kind, tokens, tmp_path)
    assert first.pop("seen") != second.pop("seen")  # equal weights of equal data would prove nothing
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []
