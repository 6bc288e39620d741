# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From recordings to a token dataset, in one process or several, resumed after any interruption.

A shard has a fixed range of the recordings. It is written atomically by the main process, for which the others
tokenize single recordings. So an interrupted run resumes with the missing shards, and the result does not depend on
the number of processes. Every process computes with one thread, because the number of threads changes the rounding of
sums, and thereby about one code in a million.
"""

import dataclasses
import json
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import count, islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import pyarrow.parquet as pq
import torch

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import Speed, change_speed, decode_clip
from audiolm_hf.data.clips import ClipReader, check_unique
from audiolm_hf.data.recordings import Clip, ClipList
from audiolm_hf.data.tokenizers import LAST_SEGMENT_S, SEGMENT_LENGTH_S, TokenizerPair, token_info, tokenize_recording
from audiolm_hf.data.tokens import (
    INFO_FILE,
    SKIPPED_FILE,
    STREAM_FILE,
    TokenDataset,
    TokenRecord,
    read_skipped,
    shard_hashes,
    shard_path,
    shard_paths,
    write_shard,
)
from audiolm_hf.files import write_json, write_text
from audiolm_hf.progress import progress_bar
from audiolm_hf.run_folder import check_writable, hold_folder
from audiolm_hf.settings import Count, NotNegative, Settings

if TYPE_CHECKING:
    from audiolm_hf.data.hf_datasets import ClipStream

_KIND = "tokens with relative ids"  # of run; runs of the older kind "tokens" have full paths as ids


@dataclasses.dataclass(frozen=True)
class TokenizationPlan(Settings):
    """How the work is divided."""

    recordings_per_shard: Count = 64  # an interruption loses about this many
    min_duration_s: NotNegative = 0.0  # shorter recordings are left out, in seconds
    num_workers: Annotated[int, Within(1, 4096, whole=True)] = 1  # processes
    speed: Speed = 1.0  # playback speed of the recordings


def tokenize_recordings(
    source: "ClipList | ClipStream",
    load_tokenizers: Callable[[], TokenizerPair],
    output: str | Path,
    plan: TokenizationPlan | None = None,
    overwrite: bool = False,
) -> TokenDataset:
    """Tokenize recordings into a token dataset.

    After an interruption, the same call resumes. Recordings that cannot be read are left out and listed, with the
    reason, in `skipped.jsonl`. With several workers, `load_tokenizers` is called in each of them, and must be
    importable there.
    """
    plan, output = plan or TokenizationPlan(), Path(output)
    check_writable(output)
    if isinstance(source, ClipList):
        check_unique(source)
    tokenizers = load_tokenizers()
    described = _describe(source, tokenizers, plan)
    with hold_folder(output, _KIND, described, {"data": source.files}, overwrite=overwrite) as held:
        shards, total, done = _missing_shards(source, output, plan)
        if not (output / INFO_FILE).exists():
            if not isinstance(source, ClipList):  # written first: without it, the stream has ended
                write_json(output / STREAM_FILE, {"shard": 0, "state": None})
            _write_info(output, described)
        if plan.num_workers == 1:
            made = _make_here(shards, _Tokenizer(tokenizers, source.datasets, plan))
        else:
            del tokenizers
            made = _make_in_processes(shards, load_tokenizers, source.datasets, plan)
        with (
            closing(made),
            progress_bar(total=total, initial=done, desc="tokenize", unit="recording", smoothing=0.05) as bar,
        ):
            _write_shards(made, output, bar.update)
        dataset = _finish(output)
        held.finish(output)
        return dataset


def _describe(source: "ClipList | ClipStream", tokenizers: TokenizerPair, plan: TokenizationPlan) -> dict[str, Any]:
    """Return the content of the folder's `tokens.json`."""
    num_clips = len(source.clips) if isinstance(source, ClipList) else None
    return (
        dataclasses.asdict(token_info(tokenizers))
        | {
            "recordings": source.key,
            "num_recordings": num_clips,
            "recordings_per_shard": plan.recordings_per_shard,
            "num_shards": None if num_clips is None else -(-num_clips // plan.recordings_per_shard),
            "min_duration_s": plan.min_duration_s,
            "segment_length_s": SEGMENT_LENGTH_S,
            "last_segment_s": LAST_SEGMENT_S,
        }
        | ({} if plan.speed == 1 else {"speed": plan.speed})
    )


class _Shard(NamedTuple):
    """The recordings of one shard, and the state of the stream after them."""

    number: int
    clips: list[Clip]
    state: Any = None


def _missing_shards(
    source: "ClipList | ClipStream", output: Path, plan: TokenizationPlan
) -> tuple[Iterable[_Shard], int | None, int]:
    """Return the missing shards, and the numbers of all recordings and of those that are done."""
    size, position = plan.recordings_per_shard, output / STREAM_FILE
    if isinstance(source, ClipList):
        starts = range(0, len(source.clips), size)
        shards = [_Shard(start // size, source.clips[start : start + size]) for start in starts]
        missing = [shard for shard in shards if not shard_path(output, shard.number).exists()]
        return missing, len(source.clips), len(source.clips) - sum(len(shard.clips) for shard in missing)
    if position.exists():
        found = json.loads(position.read_text(encoding="utf-8"))
        if found["state"] is not None:
            source.dataset.load_state_dict(found["state"])
        return _read_stream(source, found["shard"], size), source.num_clips, found["shard"] * size
    if (output / INFO_FILE).exists():
        return [], source.num_clips, source.num_clips or 0
    return _read_stream(source, 0, size), source.num_clips, 0


def _read_stream(source: "ClipStream", first: int, size: int) -> Iterator[_Shard]:
    clips = source.clips(first * size)
    for number in count(first):
        if not (chosen := list(islice(clips, size))):
            return
        yield _Shard(number, chosen, source.dataset.state_dict())


def _write_info(output: Path, described: dict[str, Any]) -> None:
    write_text(output / INFO_FILE, json.dumps(described, indent=2) + "\n")


_Result = list[TokenRecord] | str  # of a recording: its segments, or the reason why it is left out
_Made = Generator[tuple[_Shard, Iterable[_Result]], None, None]


class _Tokenizer:
    """Tokenizes single recordings, in any process."""

    of_worker: "ClassVar[_Tokenizer]"  # set in the processes of the pool

    def __init__(self, tokenizers: TokenizerPair, datasets: dict[Path, Any], plan: TokenizationPlan) -> None:
        self._tokenizers, self._plan = tokenizers, plan
        self._reader = ClipReader(datasets)

    def __call__(self, clip: Clip) -> _Result:
        try:
            recording = decode_clip(clip, self._reader, self._tokenizers.codec.sampling_rate)
        except ValueError as error:
            return str(error)
        if recording.duration < self._plan.min_duration_s:
            return f"{recording.duration:.2f} s are shorter than min_duration_s={self._plan.min_duration_s}"
        recording = change_speed(recording, self._plan.speed)
        return list(tokenize_recording(recording, self._tokenizers, clip.start_s))


def _make_here(shards: Iterable[_Shard], tokenizer: _Tokenizer) -> _Made:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shard in shards:
            yield shard, map(tokenizer, shard.clips)
    finally:
        torch.set_num_threads(before)


def _make_in_processes(
    shards: Iterable[_Shard], load: Callable[[], TokenizerPair], datasets: dict[Path, Any], plan: TokenizationPlan
) -> _Made:
    """Tokenize in new processes, enough shards ahead of the one that is written to keep all of them busy."""
    context = get_context("spawn")  # a fork would copy threads' locks, and an accelerator's state
    pool = ProcessPoolExecutor(plan.num_workers, context, _start_worker, (load, datasets, plan))
    ahead = 1 + -(-2 * plan.num_workers // plan.recordings_per_shard)
    begun: deque[tuple[_Shard, list[Future[_Result]]]] = deque()
    try:
        for shard in shards:
            begun.append((shard, [pool.submit(_work, clip) for clip in shard.clips]))
            if len(begun) > ahead:
                first, futures = begun.popleft()
                yield first, map(Future.result, futures)
        for shard, futures in begun:
            yield shard, map(Future.result, futures)
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(load: Callable[[], TokenizerPair], datasets: dict[Path, Any], plan: TokenizationPlan) -> None:
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # Ctrl-C reaches all; the first process reports it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _Tokenizer.of_worker = _Tokenizer(load(), datasets, plan)


def _end_with_parent() -> None:
    """End this process when the main process ends, which the pool does not do after `kill -9`."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(clip: Clip) -> _Result:
    return _Tokenizer.of_worker(clip)


def _write_shards(made: _Made, output: Path, advance: Callable[[], Any]) -> None:
    """Write the shards from the results of their recordings; `advance` is called after each recording."""
    try:
        for shard, results in made:
            records: list[TokenRecord] = []
            skipped: dict[str, str] = {}
            for clip, result in zip(shard.clips, results, strict=True):
                if isinstance(result, str):
                    skipped[clip.id] = result
                else:
                    records += result
                advance()
            write_shard(shard_path(output, shard.number), records, skipped)
            if shard.state is not None:
                write_json(output / STREAM_FILE, {"shard": shard.number + 1, "state": shard.state})
    except BrokenProcessPool as error:
        lack = "A worker ended before its work was done, perhaps for lack of memory"
        raise ChildProcessError(f"{lack}; rerun with fewer --num-workers to resume.") from error


def _finish(output: Path) -> TokenDataset:
    """Write the list of recordings that were left out, and open the dataset."""
    skipped = read_skipped(output)
    if skipped:
        entries = ({"id": id, "reason": reason} for id, reason in skipped.items())
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        write_text(output / SKIPPED_FILE, "".join(lines))
    (output / STREAM_FILE).unlink(missing_ok=True)
    if not any(pq.read_metadata(path).num_rows for path in shard_paths(output)):
        such = "".join(f", such as {id}: {reason}" for id, reason in islice(skipped.items(), 1))
        raise ValueError(
            f"None of the recordings could be read: {len(skipped)} left out, see {output / SKIPPED_FILE}{such}."
        )
    described = json.loads((output / INFO_FILE).read_text(encoding="utf-8"))
    if "shards" not in described:
        _write_info(output, described | {"shards": shard_hashes(output)})
    return TokenDataset(output)
