# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One of two processes that train codec, encoder and tokens together; `test_distributed.py` starts it.

Called as `distributed_worker.py INPUT OUTPUT`; every process writes `OUTPUT/NAME-RANK.safetensors` for every training.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file

from audiolm_hf.training.processes import leave_processes
from tests.helpers_codec_training import CODECS, replaced_codes, trained_codec, trained_encoder, trained_invariance


def main() -> None:
    torch.set_num_threads(1)
    source, output, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    PartialState(cpu=True)  # the processes find each other
    save_file({"codebook": replaced_codes(rank, 2)}, output / f"codebook-{rank}.safetensors")
    for name in CODECS:
        _, weights, batch = trained_codec(name, source, output / name)
        save_file({**weights, "batch": batch}, output / f"{name}-{rank}.safetensors")
    _, weights, batch = trained_encoder(source, output / "encoder")
    save_file({**weights, "batch": batch}, output / f"encoder-{rank}.safetensors")
    _, weights, batch = trained_invariance(source, output / "invariance")
    save_file({**weights, "batch": batch}, output / f"invariance-{rank}.safetensors")
    leave_processes()


if __name__ == "__main__":
    main()
