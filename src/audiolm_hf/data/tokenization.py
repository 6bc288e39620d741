# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From recordings to a token dataset: which shards there are, which of them are still to be made, and by whom.

A shard holds a fixed range of the recordings, and is written whole or not at all. So a run that was stopped at any
moment goes on with the shards that are not there, and neither the number of processes nor of machines changes a byte.
Every process uses the same number of threads, as that decides the last bits of a sum, and so a code in a million.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

from tqdm import tqdm

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.clips import Clip, ClipList, ClipStream, check_unique
from audiolm_hf.data.tokenizers import LAST_SEGMENT_S, SEGMENT_LENGTH_S, TokenizerPair, token_info
from audiolm_hf.data.tokens import (
    INFO_FILE,
    SKIPPED_FILE,
    STREAM_FILE,
    TokenDataset,
    count_records,
    read_skipped,
    shard_hashes,
    shard_path,
    shard_paths,
)
from audiolm_hf.data.workers import ShardJob, ShardMaker, run_here, run_in_processes
from audiolm_hf.files import write_bytes
from audiolm_hf.run_folder import hold_folder
from audiolm_hf.settings import Count, CountOrNone, NotNegative, Settings


@dataclasses.dataclass(frozen=True)
class TokenizationPlan(Settings):
    """How the work is cut and shared out.

    Args:
        recordings_per_shard (`int`, defaults to 64): what a stop can cost each process at most.
        min_duration_s (`float`, defaults to 0.0): shorter recordings are left out, in seconds.
        num_workers (`int`, defaults to 1): processes.
        num_threads (`int`, defaults to 1): of each process.
        num_machines (`int`, defaults to 1): computers that work on the same folder, each on every so many-th shard.
        machine_index (`int`, defaults to 0): which of them this is, from 0.

    Raises:
        ValueError: a number is out of range.
    """

    recordings_per_shard: Count = 64
    min_duration_s: NotNegative = 0.0
    num_workers: Annotated[int, Within(1, 4096, whole=True)] = 1
    num_threads: Annotated[int, Within(1, 4096, whole=True)] = 1
    num_machines: Count = 1
    machine_index: CountOrNone = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.machine_index < self.num_machines:
            raise ValueError(
                f"machine_index is {self.machine_index} of {self.num_machines} machines; give 0 to "
                f"{self.num_machines - 1}."
            )


def tokenize_recordings(
    source: ClipList | ClipStream,
    load_tokenizers: Callable[[], TokenizerPair],
    output: str | Path,
    plan: TokenizationPlan | None = None,
    overwrite: bool = False,
) -> TokenDataset | None:
    """Turn recordings into a token dataset.

    Shards that are there are not made again: after an interruption, the same call goes on where it stopped.
    Recordings that cannot be read are left out and listed, with the reason, in `skipped.jsonl`.

    Args:
        source ([`ClipList`] or [`ClipStream`]): the recordings.
        load_tokenizers (callable): gives the [`TokenizerPair`]; with several workers it is called in each of them, so
            it must be something that other processes can import, such as a `functools.partial` of
            [`~audiolm_hf.data.tokenizers.load_tokenizers`].
        output (`str` or `Path`): folder of the dataset.
        plan ([`TokenizationPlan`], *optional*): how to share the work out.
        overwrite (`bool`, defaults to `False`): remove what the folder holds if it is another dataset.

    Returns:
        [`TokenDataset`], or `None` while shards of other machines are missing.

    Raises:
        ValueError: the folder holds tokens of other tokenizers, recordings or plans; a recording is listed twice; or
            none of the recordings can be read.
        BlockingIOError: another process is at work in the folder.
    """
    plan, output = plan or TokenizationPlan(), Path(output)
    if isinstance(source, ClipList):
        if not source.clips:
            raise ValueError("There are no recordings in what was given; give folders, lists or files that hold some.")
        check_unique(source)
    elif plan.num_machines > 1:
        raise ValueError("A stream has no shards that machines could share; download the dataset, or use one machine.")
    tokenizers = load_tokenizers()
    described = _describe(source, tokenizers, plan)
    scratch = output / f".unfinished-{plan.machine_index}"
    with ExitStack() as stack:
        files = {"data": source.files}
        held = stack.enter_context(
            hold_folder(output, "tokens", described, files, overwrite=overwrite, part=plan.machine_index)
        )
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed run left
        scratch.mkdir()
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        write = partial(write_bytes, scratch=scratch)
        shards: _ListedShards | _StreamedShards
        if isinstance(source, ClipList):
            shards = _ListedShards(source, output, plan)
        else:
            shards = _StreamedShards(source, output, plan, write)
        if not (output / INFO_FILE).exists():
            write(output / INFO_FILE, (json.dumps(described, indent=2) + "\n").encode())
        datasets = source.datasets if isinstance(source, ClipList) else {}
        maker = ShardMaker(output, scratch, datasets, plan.min_duration_s, plan.num_threads)
        with tqdm(total=shards.total, initial=shards.done, desc="tokenize", unit="recording", smoothing=0.05) as bar:
            jobs = shards.jobs(bar.update)
            if plan.num_workers == 1:
                finished = run_here(jobs, maker, tokenizers, bar.update)
            else:
                del tokenizers
                finished = run_in_processes(jobs, maker, load_tokenizers, plan.num_workers, bar.update)
            for number in finished:
                shards.finish(number)
        dataset = _close(output, shards, write)
        if dataset is not None:
            held.finish(output)
        return dataset


def _describe(source: ClipList | ClipStream, tokenizers: TokenizerPair, plan: TokenizationPlan) -> dict[str, Any]:
    """Say what a folder is to hold."""
    num_clips = len(source.clips) if isinstance(source, ClipList) else None
    return dataclasses.asdict(token_info(tokenizers)) | {
        "recordings": source.key,
        "num_recordings": num_clips,
        "recordings_per_shard": plan.recordings_per_shard,
        "num_shards": None if num_clips is None else -(-num_clips // plan.recordings_per_shard),
        "min_duration_s": plan.min_duration_s,
        "segment_length_s": SEGMENT_LENGTH_S,
        "last_segment_s": LAST_SEGMENT_S,
    }


class _ListedShards:
    """The shards of a list: those of this machine that are not there are to be made."""

    def __init__(self, source: ClipList, output: Path, plan: TokenizationPlan) -> None:
        self.clips = source.clips
        self.size = plan.recordings_per_shard
        numbers = range(plan.machine_index, -(-len(self.clips) // self.size), plan.num_machines)
        self.missing = [number for number in numbers if not shard_path(output, number).exists()]
        self.total = sum(len(self._clips(number)) for number in numbers)
        self.done = self.total - sum(len(self._clips(number)) for number in self.missing)

    def _clips(self, number: int) -> list[Clip]:
        return self.clips[number * self.size : (number + 1) * self.size]

    def jobs(self, advance: Callable[[int], Any]) -> Iterator[ShardJob]:
        """Give what is to be made."""
        return (ShardJob(number, self._clips(number)) for number in self.missing)

    def finish(self, number: int) -> None:
        """Take note of a shard that is written: its file says it all."""

    def close(self) -> None:
        """Take note that all jobs are done."""


class _StreamedShards:
    """The shards of a stream: those after the last place before which all are there.

    That place and the state of the stream there are in a file of the folder, which goes when the stream has ended.
    """

    def __init__(
        self, source: ClipStream, output: Path, plan: TokenizationPlan, write: Callable[[Path, bytes], None]
    ) -> None:
        self.source = source
        self.output = output
        self.size = plan.recordings_per_shard
        self.write = write
        self.path = output / STREAM_FILE
        self.ended = (output / INFO_FILE).exists() and not self.path.exists()
        self.first, self.state = 0, None
        if self.path.exists():
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.first, self.state = found["shard"], found["state"]
        elif not self.ended:
            self._save()  # before the folder is claimed, so that its absence can only mean the end
        self.total = source.num_clips
        self.done = (self.total or 0) if self.ended else self.first * self.size
        self._states: dict[int, Any] = {}
        self._finished: set[int] = set()

    def _save(self) -> None:
        self.write(self.path, json.dumps({"shard": self.first, "state": self.state}).encode())

    def jobs(self, advance: Callable[[int], Any]) -> Iterator[ShardJob]:
        """Read the stream on, and give what is to be made of it; `advance` is told of what is there already."""
        if self.ended:
            return
        dataset = self.source.dataset
        if self.state is not None:
            dataset.load_state_dict(self.state)
        clips = self.source.clips(self.first * self.size)
        for number in count(self.first):
            job = ShardJob(number, list(islice(clips, self.size)))
            if not job.clips:
                return
            self._states[number + 1] = dataset.state_dict()
            if shard_path(self.output, number).exists():
                advance(len(job.clips))
                self.finish(number)
            else:
                yield job

    def finish(self, number: int) -> None:
        """Take note of a shard that is written."""
        self._finished.add(number)
        while self.first in self._finished:
            self._finished.remove(self.first)
            self.first += 1
            self.state = self._states.pop(self.first)
            self._save()

    def close(self) -> None:
        """Take note that the stream has ended and all jobs are done."""
        self.path.unlink(missing_ok=True)


def _close(
    output: Path, shards: _ListedShards | _StreamedShards, write: Callable[[Path, bytes], None]
) -> TokenDataset | None:
    """List what was left out, and open the dataset if it is whole."""
    skipped = read_skipped(output)
    if skipped:
        lines = (json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n" for entry in skipped)
        write(output / SKIPPED_FILE, "".join(lines).encode())
    shards.close()
    described = json.loads((output / INFO_FILE).read_text(encoding="utf-8"))
    if described["num_shards"] is not None and len(shard_paths(output)) < described["num_shards"]:
        return None
    if not count_records(output):
        raise ValueError(
            f"None of the recordings could be read: {len(skipped)} left out, see {output / SKIPPED_FILE}"
            + (f", such as {skipped[0].id}: {skipped[0].reason}." if skipped else ".")
        )
    if "shards" not in described:
        write(output / INFO_FILE, (json.dumps(described | {"shards": shard_hashes(output)}, indent=2) + "\n").encode())
    return TokenDataset(output)


__all__ = ["TokenizationPlan", "tokenize_recordings"]
