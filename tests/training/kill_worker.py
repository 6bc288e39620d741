# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Trains codec or semantic encoder in processes that are killed at chosen moments, until one comes to its end.

Called as `kill_worker.py INPUT OUTPUT KIND...` by `test_kill.py`; the killed trainings
are in `OUTPUT/KIND`, the moments at which they were in `OUTPUT/KIND.json`, and uninterrupted ones in
`OUTPUT/KIND-whole`. Processes are forked from this one, which spares them all the imports.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from audiolm_hf.training.codec.trainer import train_codec
from audiolm_hf.training.tokenizer.semantic_encoder import train_semantic_encoder
from tests.helpers_codec_training import codec_config, encoder_config

# A process is killed as soon as one of these is there: while a checkpoint, or the finished model, is being written or
# just after that, before the first checkpoint, and between two.
CODEC_MOMENTS = (
    "checkpoints",
    "checkpoints/step-00000002",
    "log.jsonl",
    "checkpoints/*step-00000004",
    "checkpoints/*step-00000006",
    "*final",
)
ENCODER_MOMENTS = (
    "iteration_1/*targets*",
    "iteration_1/checkpoints/*step-00000002",
    "iteration_1/*encoder",
    "iteration_2/checkpoints/*step-00000002",
    "iteration_2/*encoder",
    "*encoder",
)


def train(kind: str, source: Path, output: Path) -> None:
    if kind == "encoder":
        train_semantic_encoder(encoder_config(source, output))
    else:
        train_codec(codec_config(kind, source, output))


def fork_training(kind: str, source: Path, output: Path) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        train(kind, source, output)
        status = 0
    finally:
        os._exit(status)


def killed_at(process: int, output: Path, moment: str) -> bool:
    """Kill the process when the path is there; whether it came to that before its end."""
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(f"the training failed before {moment} with status {status}")
            return False
        if any(output.glob(moment)):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.001)


def train_whole(kind: str, source: Path, output: Path) -> None:
    _, status = os.waitpid(fork_training(kind, source, output), 0)
    if status:
        raise SystemExit(f"the training of {kind} failed with status {status}")


def main() -> None:
    torch.set_num_threads(1)
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for kind in sys.argv[3:]:
        train_whole(kind, source, folder / f"{kind}-whole")
        output = folder / kind
        moments = ENCODER_MOMENTS if kind == "encoder" else CODEC_MOMENTS
        killed = [moment for moment in moments if killed_at(fork_training(kind, source, output), output, moment)]
        train_whole(kind, source, output)
        (folder / f"{kind}.json").write_text(json.dumps(killed))


if __name__ == "__main__":
    main()
