# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One of several processes that train together; `test_training_distributed.py` starts them.

Called as `distributed_worker.py KIND INPUT OUTPUT`. Every process writes its own weights after training, and a number
that tells which data it has seen, to `OUTPUT/rank-N.safetensors`.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from audiolm_hf.training.codec import CodecTrainer
from audiolm_hf.training.semantic_encoder import _IterationTrainer, train_semantic_encoder
from audiolm_hf.training.stages import build_stage_trainer
from tests.test_training_codec import tiny_training
from tests.test_training_semantic_encoder import tiny_config
from tests.test_training_stages import config_of


class Witness:
    """Adds up what is read, and keeps the last weights."""

    def __init__(self) -> None:
        self.seen = torch.zeros((), dtype=torch.float64)
        self.weights: dict[str, torch.Tensor] = {}

    def reads(self, function, pick):
        def read(*arguments):
            result = function(*arguments)
            tensor = pick(result, arguments).double()
            self.seen += (tensor * torch.arange(1, tensor.numel() + 1).view(tensor.shape).cos()).sum()
            return result

        return read

    def keeps(self, model) -> None:
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def train_stage(stage: str, source: Path, output: Path, witness: Witness) -> None:
    config = config_of((source / "train", source / "validation"), output, stage=stage, max_steps=4, evaluation_steps=4)
    trainer = build_stage_trainer(config)
    trainer.training_step = witness.reads(trainer.training_step, lambda _, arguments: arguments[1]["input_ids"])
    trainer.train()
    witness.keeps(trainer.accelerator.unwrap_model(trainer.model))


def train_codec(source: Path, output: Path, witness: Witness) -> None:
    trainer = CodecTrainer(tiny_training(source, output, batch_size=4))
    trainer._draw_batch = witness.reads(trainer._draw_batch, lambda batch, _: batch)
    trainer.train()
    witness.keeps(trainer._model)


def train_encoder(source: Path, output: Path, witness: Witness) -> None:
    run = _IterationTrainer.run

    def run_and_keep(trainer):
        trainer._batch = witness.reads(trainer._batch, lambda batch, _: batch.input_features)
        results = run(trainer)
        witness.keeps(trainer.accelerator.unwrap_model(trainer.model))
        return results

    _IterationTrainer.run = run_and_keep
    train_semantic_encoder(tiny_config(source, output))


def main() -> None:
    torch.set_num_threads(1)
    kind, source, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    witness = Witness()
    if kind == "codec":
        train_codec(source, output / "training", witness)
    elif kind == "encoder":
        train_encoder(source, output / "training", witness)
    else:
        train_stage(kind, source, output / "training", witness)
    torch.distributed.barrier()
    save_file({**witness.weights, "seen": witness.seen}, output / f"rank-{os.environ['RANK']}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
