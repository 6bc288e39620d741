# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Processes that start without importing torch again: forks of the tests' own, and pairs that train together."""

import multiprocessing
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audiolm_hf import cli

TIMEOUT_S = 600  # two processes that wait for each other would never end
_FORK = multiprocessing.get_context("fork")


def renew_threads() -> None:
    """Renew torch's pool of threads in a fork, which threads that start at once would find missing."""
    import torch

    torch.set_num_threads(torch.get_num_threads())


def call_in_fork(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fork of this process, which may die; returns its result, or the signal that ended it."""
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=lambda: sender.send(work(*arguments)))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    process.join()
    assert result is not None or process.exitcode < 0, "the function failed; its traceback is in the output"
    return process.exitcode if result is None else result


@contextmanager
def fork_that_waits(work: Callable[[], Any]) -> Iterator[multiprocessing.Process]:
    """Run a context manager's body in a fork until it is killed; it has been entered when this returns."""
    receiver, sender = _FORK.Pipe(duplex=False)

    def run() -> None:
        with work():
            sender.send(True)
            multiprocessing.Event().wait()

    process = _FORK.Process(target=run)
    process.start()
    try:
        assert receiver.poll(60), "the fork has not begun"
        yield process
    finally:
        process.kill()
        process.join()


class ForkedProgram:
    """The program `audiolm-hf` in a fork of this process, in a folder; its output is read from pipes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        pipes = [os.pipe(), os.pipe()]
        self.process = _FORK.Process(target=_as_program, args=(folder, arguments, pipes))
        self.process.start()
        for _, writing in pipes:
            os.close(writing)
        self.stdout, self.stderr = (os.fdopen(reading, "rb") for reading, _ in pipes)

    def wait(self) -> int | None:
        """Close the pipes, and return the exit status, or None if the program does not end."""
        self.process.join(60)
        self.process.kill()
        self.stdout.close()
        self.stderr.close()
        return self.process.exitcode


def _as_program(folder: Path, arguments: tuple[str, ...], pipes: list[tuple[int, int]]) -> None:
    sys.settrace(None)  # a signal while coverage holds its lock would leave it locked, and the program waiting for it
    threading.settrace(None)
    renew_threads()
    os.chdir(folder)
    for (reading, writing), name, number in zip(pipes, ("stdout", "stderr"), (1, 2), strict=True):
        os.close(reading)
        os.dup2(writing, number)
        os.close(writing)
        setattr(sys, name, os.fdopen(number, "w", closefd=False))
    sys.exit(cli.main(arguments))


def train_on_two(work: Callable[..., None], output: Path, *arguments: Any) -> None:
    """Call a function of a module of `tests` in two processes that find each other like those of `torchrun`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # which imports torch once, and has no threads
    context.set_forkserver_preload(["audiolm_hf.training.stages.training", "audiolm_hf.training.codec.trainer"])
    processes = [context.Process(target=_as_rank, args=(rank, port, work, output, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
    stuck = [process.kill() for process in processes if process.is_alive()]
    failed = stuck or [process.exitcode for process in processes if process.exitcode]
    if failed:
        logs = (output / f"rank-{rank}.log" for rank in range(2))
        pytest.fail("\n".join(path.read_text()[-5000:] for path in logs if path.exists()))


def _as_rank(rank: int, port: int, work: Callable[..., None], output: Path, arguments: tuple[Any, ...]) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with (output / f"rank-{rank}.log").open("w") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            work(*arguments)
        except BaseException:
            traceback.print_exc(file=log)
            raise
