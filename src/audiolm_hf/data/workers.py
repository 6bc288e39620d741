# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The shards of a token dataset, made here or in several processes.

In: jobs, each the recordings of one shard; out: one parquet file per job. A job is given to one process alone, and a
process that has lost the one that gives the jobs out ends by itself.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from audiolm_hf.data.audio import AudioRecord, SkippedAudio, decode_audio
from audiolm_hf.data.clips import Clip, ClipReader
from audiolm_hf.data.tokenizers import TokenizerPair, tokenize_recording
from audiolm_hf.data.tokens import TokenRecord, shard_path, write_shard

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class ShardJob:
    """What one shard is made of.

    Args:
        number (`int`): of the shard, from 0.
        clips (`list[Clip]`): its recordings.
    """

    number: int
    clips: list[Clip]


@dataclass(frozen=True)
class ShardMaker:
    """How shards are made; the same in every process.

    Args:
        output (`Path`): folder of the token dataset.
        scratch (`Path`): folder of unfinished files, on the same disk.
        datasets (`dict`): those of the [`ClipList`].
        min_duration_s (`float`): shorter recordings are left out, in seconds.
        num_threads (`int`, defaults to 1): of each process.
    """

    output: Path
    scratch: Path
    datasets: dict[Path, "Dataset"]
    min_duration_s: float
    num_threads: int = 1

    def make(self, job: ShardJob, tokenizers: TokenizerPair, reader: ClipReader, advance: Callable[[], None]) -> None:
        """Write the shard of a job; `advance` is called after every recording."""
        records: list[TokenRecord] = []
        skipped: list[SkippedAudio] = []
        for clip in job.clips:
            try:
                recording = self._decode(clip, reader, tokenizers.codec.sampling_rate)
            except ValueError as error:
                skipped.append(SkippedAudio(clip.id, str(error)))
            else:
                records += tokenize_recording(recording, tokenizers, clip.start_s)
            advance()
        write_shard(shard_path(self.output, job.number), records, skipped, self.scratch)

    def _decode(self, clip: Clip, reader: ClipReader, sampling_rate: int) -> AudioRecord:
        array = decode_audio(reader.read(clip), sampling_rate, clip.start_s, clip.end_s)
        recording = AudioRecord(clip.id, array, sampling_rate, clip.speaker, clip.accent, clip.text, clip.source)
        if recording.duration < self.min_duration_s:
            raise ValueError(f"{recording.duration:.2f} s are shorter than min_duration_s={self.min_duration_s}")
        return recording


def run_here(
    jobs: Iterator[ShardJob], maker: ShardMaker, tokenizers: TokenizerPair, advance: Callable[[], None]
) -> Iterator[int]:
    """Do the jobs in this process; gives the number of every shard once it is written."""
    reader = ClipReader(maker.datasets, max_row_groups=1)
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(maker.num_threads)
        for job in jobs:
            maker.make(job, tokenizers, reader, advance)
            yield job.number
    finally:
        torch.set_num_threads(num_threads)


def run_in_processes(
    jobs: Iterator[ShardJob],
    maker: ShardMaker,
    load_tokenizers: Callable[[], TokenizerPair],
    num_workers: int,
    advance: Callable[[], None],
) -> Iterator[int]:
    """Do the jobs in fresh processes.

    Args:
        jobs (iterator of [`ShardJob`]): one is asked for ahead of need.
        maker ([`ShardMaker`]): how.
        load_tokenizers (callable): loads the tokenizers in each process.
        num_workers (`int`): most processes.
        advance (callable): called after every recording.

    Yields:
        `int`: the number of every shard once it is written.

    Raises:
        ChildProcessError: a process ended before its work.
        RuntimeError: a process failed; its own error is on stderr.
    """
    workers: dict[Connection, BaseProcess] = {}
    busy: dict[Connection, int] = {}
    with ExitStack() as stack:
        following = next(jobs, None)
        while following is not None or busy:
            idle: list[Connection] = []
            if following is not None and len(workers) < num_workers:
                connection, process = _start_worker(maker, load_tokenizers, stack)
                workers[connection] = process
                idle.append(connection)
            else:
                ready = wait(list(busy))
                for connection in [connection for connection in busy if connection in ready]:
                    if _receive(connection, workers[connection], busy[connection]) is None:
                        advance()
                    else:
                        idle.append(connection)
                        yield busy.pop(connection)
            for connection in idle:
                if following is not None:
                    connection.send(following)
                    busy[connection] = following.number
                    following = next(jobs, None)


def _start_worker(
    maker: ShardMaker, load_tokenizers: Callable[[], TokenizerPair], stack: ExitStack
) -> tuple[Connection, BaseProcess]:
    """Start a process; it ends with the stack."""
    context = get_context("spawn")  # a fork would copy threads' locks, and an accelerator's state
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, maker, load_tokenizers), daemon=True)
    process.start()
    theirs.close()  # else the end of the process would not be seen
    stack.callback(ours.close)
    stack.callback(process.join)
    stack.callback(process.terminate)
    return ours, process


def _receive(connection: Connection, process: BaseProcess, number: int) -> int | None:
    """Give a worker's message: `None` after a recording, the shard's number at its end."""
    try:
        message = connection.recv()
    except (EOFError, ConnectionResetError) as error:
        process.join()
        raise ChildProcessError(
            f"A worker ended with status {process.exitcode} while it made shard {number}; if memory was short, use "
            "fewer --num-workers. The same command goes on where this one stopped."
        ) from error
    if isinstance(message, str):
        raise RuntimeError(f"A worker failed while it made shard {number}: {message}")
    return message


def _work(connection: Connection, maker: ShardMaker, load_tokenizers: Callable[[], TokenizerPair]) -> None:
    """Do what the connection gives until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process ends this one
    torch.set_num_threads(maker.num_threads)
    try:
        tokenizers = load_tokenizers()
        reader = ClipReader(maker.datasets, max_row_groups=1)
        while True:
            job = connection.recv()
            maker.make(job, tokenizers, reader, lambda: connection.send(None))
            connection.send(job.number)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the process that gives the jobs is gone
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        raise


__all__ = ["ShardJob", "ShardMaker", "run_here", "run_in_processes"]
