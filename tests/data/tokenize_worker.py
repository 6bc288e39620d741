# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Tokenizes a folder in children that are killed with SIGKILL, again and again, until one comes to its end.

Run by test_workers.py as a program of its own: it forks, so that every child starts at once with the tiny model
in memory. Arguments: folder of audio, parquet folder of the same, output folder. Writes a JSON report to stdout.
"""

import functools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import datasets
import torch

from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.hf_datasets import open_dataset
from audiolm_hf.data.tokenization import TokenizationPlan, tokenize_recordings
from audiolm_hf.data.tokenizers import TokenizerPair
from tests.helpers_checkpoint import tiny_model

PLAN = TokenizationPlan(recordings_per_shard=2)


def child(source, pair, output):
    """Start a tokenization in a child; gives its id."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress bars
        tokenize_recordings(source(), lambda: pair, output, PLAN)
        os._exit(0)
    return pid


def kill_until_done(start, output, most_kills):
    """Kill children at random moments, mostly just after they finished a shard; counts those killed in the middle."""
    rng = random.Random(0)
    killed = 0
    for attempt in range(most_kills):
        before = len(list(output.glob("*.parquet")))
        pid = start(output)
        deadline = time.monotonic() + 30
        while len(list(output.glob("*.parquet"))) == before and time.monotonic() < deadline and attempt % 3:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.08)
        os.kill(pid, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    status = os.waitstatus_to_exitcode(os.waitpid(start(output), 0)[1])
    return {"killed": killed, "last_status": status}


def main(audio, parquet, output):
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    model = tiny_model()
    pair = TokenizerPair(model.semantic_tokenizer, model.acoustic_codec)
    sources = {
        "list": lambda: list_clips(audio),
        "stream": lambda: open_dataset(parquet, "train", streaming=True),
    }
    report = {}
    for name, source in sources.items():
        start = functools.partial(child, source, pair)
        os.waitpid(start(Path(output, f"{name}-whole")), 0)
        report[name] = kill_until_done(start, Path(output, f"{name}-killed"), most_kills=8)
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
