# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Stages trained by two processes: step for step what one process learns from the same batches."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from accelerate.commands.config import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from audiolm_hf.configuration_audiolm import AudioLMFineConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.modeling_stage_audiolm import AudioLMFineModel
from audiolm_hf.training.stages.training import train_stage
from tests.conftest import TINY_BACKBONE, tiny_config, tiny_stage_config
from tests.helpers_parallel import parallel_stage
from tests.helpers_processes import TIMEOUT_S, train_on_two
from tests.helpers_stages import BACKBONE, CASES, resumed_config, run_case
from tests.helpers_tokens import write_tokens
from tests.training.stages.distributed_worker import run_cases

ROOT = Path(__file__).parents[3]
SMALL = {
    "llama": TINY_BACKBONE,
    "qwen2": TINY_BACKBONE | {"model_type": "qwen2"},
    "opt": {
        "model_type": "opt",
        "hidden_size": 32,
        "ffn_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 32,
    },
}


def launch_cases(cases: Sequence[str], source: Path, output: Path, launcher: Sequence[str]) -> None:
    """Run the script of the cases by a program that starts two processes."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [*launcher, str(ROOT / "tests/training/stages/distributed_worker.py"), str(source), str(output), *cases],
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


def run_on_two(cases, source: Path, output: Path, launcher=None) -> dict[str, list[dict[str, torch.Tensor]]]:
    """Run cases by two processes; what each of them ended with."""
    if launcher is None:
        train_on_two(run_cases, output, source, output, cases)
    else:
        launch_cases(cases, source, output, launcher)
    return {case: [load_file(output / f"{case}-{rank}.safetensors") for rank in range(2)] for case in cases}


def accelerate_launch(name: str) -> tuple[str, ...]:
    """The command that starts processes by one of the shipped configurations."""
    program = [sys.executable, "-m", "accelerate.commands.launch"]
    return (*program, "--config_file", str(ROOT / f"configs/accelerate/{name}.yaml"), "--main_process_port", "0")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder / "train", [30, 12, 25, 40, 9, 33], seed=0)
    write_tokens(folder / "validation", [20, 11, 7], seed=1)
    SoundStreamModel(tiny_config().codec_config).save_pretrained(folder / "codec")
    encoder = BACKBONE | {"model_type": "eurobert"}
    parallel_stage(condition_dropout=0.2, backbone_config=encoder).save_pretrained(folder / "teacher")
    return folder


def check_equal_to_one_process(case: str, ranks: list[dict[str, torch.Tensor]], source: Path, folder: Path) -> None:
    labels = [rank.pop("labels") for rank in ranks]
    assert not labels[0].equal(labels[1])  # each has its own part, or a mean of means would do
    sharded = [bool(rank.pop("sharded")) for rank in ranks]
    assert sharded == [case == "sharded"] * 2
    assert all(ranks[0][name].equal(ranks[1][name]) for name in ranks[0].keys() & ranks[1].keys())
    assert case == "sharded" or ranks[0].keys() == ranks[1].keys()  # shards are gathered by the first process alone
    alone = run_case(case, source, folder / "alone", gradient_accumulation_steps=1)
    del alone["sharded"]
    assert int(alone.pop("labels").sum()) == int(sum(part.sum() for part in labels))
    assert alone.keys() == ranks[0].keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(
            ranks[0][name], tensor, atol=2e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
def test_two_processes_learn_the_same_and_one_writes(source: Path, tmp_path: Path):
    found = run_on_two(["coarse", "distilled", "files"], source, tmp_path)
    for case in ("coarse", "distilled"):
        check_equal_to_one_process(case, found[case], source, tmp_path / case)
    assert {"run.json", "report.json", "final"} <= {path.name for path in (tmp_path / "files/0").iterdir()}
    assert {path.name for path in (tmp_path / "files/1").iterdir()} == {"checkpoints"}  # the Trainer's random state


@pytest.mark.slow
def test_every_stage_learns_the_same_on_two_processes(source: Path, tmp_path: Path):
    cases = [case for case in CASES if case not in {"coarse", "distilled", "sharded"}]
    found = run_on_two(cases, source, tmp_path, accelerate_launch("ddp"))
    for case in cases:
        check_equal_to_one_process(case, found[case], source, tmp_path / case)


@pytest.mark.slow
def test_shards_of_a_stage_learn_the_same_and_go_on_from_a_checkpoint(source: Path, tmp_path: Path):
    found = run_on_two(["sharded", "resumed"], source, tmp_path, accelerate_launch("fsdp2"))
    check_equal_to_one_process("sharded", found["sharded"], source, tmp_path)
    alone = train_stage(resumed_config(source, tmp_path / "whole"))
    weights = load_file(alone / "model.safetensors")
    sharded = load_file(tmp_path / "resumed/final/model.safetensors")
    assert sharded.keys() == weights.keys()
    for name, tensor in sharded.items():
        torch.testing.assert_close(tensor, weights[name], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_configurations_are_accelerates_own(name: str):
    config = load_config_from_file(str(ROOT / f"configs/accelerate/{name}.yaml"))
    assert (config.num_processes, config.use_cpu) == (2, False)
    assert config.distributed_type == {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP}[name]


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "opt"])
def test_layers_to_shard_are_named(model_type: str):
    model = AudioLMFineModel(AudioLMFineConfig(**tiny_stage_config(backbone_config=SMALL[model_type])))
    names = {type(module).__name__ for module in model.modules()}
    assert model._no_split_modules
    assert set(model._no_split_modules) <= names
