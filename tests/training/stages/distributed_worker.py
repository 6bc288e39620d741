# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One of several processes that train stages together; `test_distributed.py` starts them.

Called as `distributed_worker.py SOURCE OUTPUT CASE...`, or by `run_cases`; every process writes what it ends with to
`OUTPUT/CASE-N.safetensors`. Besides those of `helpers_stages`, the cases are `files`, a whole training with a folder
of its own for each process, and `resumed`, a whole training that is interrupted and resumes.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file

from audiolm_hf.training.processes import leave_processes, process_rank
from audiolm_hf.training.stages import training as stages
from audiolm_hf.training.stages.training import train_stage
from tests.helpers_stages import CASES, config_of, interrupted_after, resumed_config, run_case


def run_files(source: Path, output: Path) -> dict[str, torch.Tensor]:
    folders = (source / "train", source / "validation")
    train_stage(config_of(folders, output / str(process_rank()), stage="fine", window_length_s=0.2, max_steps=2))
    return {}


def run_resumed(source: Path, output: Path) -> dict[str, torch.Tensor]:
    with interrupted_after(2):
        train_stage(resumed_config(source, output))
    train_stage(resumed_config(source, output))
    return {}


def shard_on_the_cpu() -> None:
    """Let accelerate shard: it would only on accelerators, though torch does it on processors just as well."""
    make = stages.training_arguments

    def make_and_tell(*arguments):
        made = make(*arguments)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return made

    stages.training_arguments = make_and_tell


def run_cases(source: Path, output: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    for case in cases:
        if case in CASES:
            results = run_case(case, source, output / case)
        else:
            results = {"files": run_files, "resumed": run_resumed}[case](source, output / case)
        tensors = {name: tensor.contiguous() for name, tensor in results.items()}
        save_file(tensors, output / f"{case}-{process_rank()}.safetensors")
    leave_processes()


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        shard_on_the_cpu()
    run_cases(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
