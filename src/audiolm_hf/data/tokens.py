# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Token datasets: tokenized recordings, on disk and as records.

A token dataset is a folder of parquet shards, `tokens-<number>.parquet`, and `tokens.json`, which describes the tokens
and identifies the tokenizers by a hash. The stages are trained on it without reading audio again. The semantic tokens
of a row are stored without consecutive repeats, with the number of times each occurs; codes are stored as they are.

Paper: AudioLM (arXiv 2209.03143), the two tokenizers; stages 1 and 2 for the repeats.
"""

import dataclasses
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.cache import ByteCache
from audiolm_hf.files import write_bytes
from audiolm_hf.run_folder import file_states, recorded_result
from audiolm_hf.time_grid_audiolm import TimeGrid
from audiolm_hf.token_layout_audiolm import remove_repeats

INFO_FILE = "tokens.json"
STREAM_FILE = "stream.json"  # position to resume a stream from; removed at its end
SKIPPED_FILE = "skipped.jsonl"
RECORDS_PER_ROW_GROUP = 16  # read together: few, so that reading one record is fast, but enough to compress well
_SKIPPED_KEY = b"audiolm_hf.skipped"
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("speaker", pa.string()),
        ("accent", pa.string()),
        ("source", pa.string()),
        ("start", pa.float64()),
        ("duration", pa.float64()),
        ("ends_recording", pa.bool_()),
        ("semantic_tokens", pa.list_(pa.int16())),
        ("semantic_durations", pa.list_(pa.int32())),
        ("audio_codes", pa.list_(pa.list_(pa.int16()))),
    ]
)
_PLAIN_COLUMNS = _SCHEMA.names[:7]
_CACHED_BYTES = 2**30  # of tokens and codes (about 4.5 MB for an hour of audio with 12 codebooks at 50 Hz)
_SIZES = Within(1, 2**31, whole=True)


@dataclass(frozen=True)
class TokenInfo:
    """What the tokens of a dataset mean."""

    tokenizers: str  # hash of both tokenizers, see `tokenizers_hash`
    sampling_rate: int  # of the codec, Hz
    semantic_sampling_rate: int  # of the semantic tokenizer, Hz
    semantic_hop_length: int  # samples per semantic token, at the semantic tokenizer's rate
    num_semantic_tokens: int  # size of the semantic vocabulary
    hop_length: int  # samples per frame of codes, at the codec's rate
    num_codebooks: int  # levels of codes
    codebook_size: int  # entries per codebook

    @property
    def grid(self) -> TimeGrid:
        """The times of semantic tokens and frames."""
        return TimeGrid.from_hops(
            self.semantic_hop_length, self.semantic_sampling_rate, self.hop_length, self.sampling_rate
        )


@dataclass(frozen=True)
class TokenRecord:
    """The tokens of one recording, or of one segment of a long one."""

    id: str  # of the recording
    speaker: str  # this and the next two are labels
    accent: str
    source: str
    start: float  # seconds into the recording at which the segment begins
    duration: float  # seconds of the segment
    ends_recording: bool  # the segment is the last of its recording
    semantic_tokens: np.ndarray  # (semantic_length,), int16, with repeats
    audio_codes: np.ndarray  # (num_codebooks, frames), int16


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of one shard of a token dataset."""
    return folder / f"tokens-{number:05d}.parquet"


def shard_paths(folder: Path) -> list[Path]:
    """List the finished shards of a token dataset, in order."""
    return sorted(folder.glob("tokens-*.parquet"), key=lambda path: (len(path.name), path.name))


def shard_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a token dataset's shards; unchanged shards are not hashed again."""
    shards = {path.name: path for path in shard_paths(folder)}
    states = file_states(shards, recorded_result(folder), hashed_bytes=math.inf)
    return {name: digest for name, (_, _, digest) in states.items()}


def write_shard(path: Path, records: Sequence[TokenRecord], skipped: Mapping[str, str] | None = None) -> None:
    """Write records to one parquet file; its metadata have the reasons why others were left out."""
    rows = []
    for record in records:
        tokens, durations = (found.numpy() for found in remove_repeats(torch.from_numpy(record.semantic_tokens)))
        arrays = {"semantic_tokens": tokens, "semantic_durations": durations, "audio_codes": [*record.audio_codes]}
        rows.append(vars(record) | arrays)
    listed = json.dumps([{"id": id, "reason": reason} for id, reason in (skipped or {}).items()])
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({_SKIPPED_KEY: listed.encode()}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=RECORDS_PER_ROW_GROUP)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_skipped(folder: str | Path) -> dict[str, str]:
    """Return why recordings were left out of the finished shards of a token dataset, by their ids."""
    listed = (_open_shard(path).schema_arrow.metadata or {} for path in shard_paths(Path(folder)))
    return {entry["id"]: entry["reason"] for found in listed for entry in json.loads(found.get(_SKIPPED_KEY, b"[]"))}


class TokenDataset(Sequence[TokenRecord]):
    """The records of one or more token datasets; read on demand, one row group at a time."""

    def __init__(self, folders: str | Path | Sequence[str | Path]) -> None:
        self.folders = [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]
        infos = [_read_info(folder) for folder in self.folders]
        if not infos or any(info != infos[0] for info in infos):
            raise ValueError(f"{', '.join(map(str, self.folders))} have different tokenizers; use one pair.")
        self.info = infos[0]
        self._groups: list[tuple[Path, int]] = []
        sizes = []
        self.duration = 0.0  # seconds of audio in all records
        for path in (path for folder in self.folders for path in shard_paths(folder)):
            file = _open_shard(path)
            self._groups += [(path, group) for group in range(file.num_row_groups)]
            sizes += [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            self.duration += float(file.read(columns=["duration"])["duration"].to_numpy().sum())
        self._ends = list(accumulate(sizes))  # index after the last record of each row group
        self._cache: ByteCache[list[TokenRecord]] = ByteCache(_CACHED_BYTES, _num_bytes)
        if not any(sizes):
            raise ValueError(f"{', '.join(map(str, self.folders))} hold no tokens; finish `audiolm-hf tokenize`.")

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> TokenRecord:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index %= len(self)
        group = bisect_right(self._ends, index)
        records = self._cache.get(group, lambda: self._read(group))
        return records[index - self._ends[group]]  # counted from the end of the group

    def _read(self, group: int) -> list[TokenRecord]:
        records = _read_row_group(*self._groups[group])
        for record in records:
            tokens, codes, info = record.semantic_tokens, record.audio_codes, self.info
            levels, max_code, max_token = len(codes), codes.max(initial=0), tokens.max(initial=0)
            if levels != info.num_codebooks or max_code >= info.codebook_size or max_token >= info.num_semantic_tokens:
                raise ValueError(
                    f"{self._groups[group][0]} does not fit {INFO_FILE}: it has {levels} codebooks, codes up to "
                    f"{max_code} and semantic tokens up to {max_token}. Tokenize the recordings again."
                )
        return records


def _num_bytes(records: list[TokenRecord]) -> int:
    return sum(record.semantic_tokens.nbytes + record.audio_codes.nbytes for record in records)


def _read_info(folder: Path) -> TokenInfo:
    path, names = folder / INFO_FILE, [field.name for field in dataclasses.fields(TokenInfo)]
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; give a folder that `audiolm-hf tokenize` wrote.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); tokenize the recordings again.") from None
    if not isinstance(values, dict) or not isinstance(values.get("shards", {}), dict):
        raise ValueError(f"{path} holds {str(values)[:80]}; it is damaged, so tokenize the recordings again.")
    found, expected = len(shard_paths(folder)), values.get("num_shards")
    if (folder / STREAM_FILE).exists() or (isinstance(expected, int) and found < expected):
        raise ValueError(
            f"{folder} has {found} of {expected or 'an unknown number of'} shards; run `audiolm-hf tokenize` again."
        )
    for name in names:
        value = values.get(name)
        if not (isinstance(value, str) if name == "tokenizers" else _SIZES.holds(value)):
            raise ValueError(f"{path} has {name} = {value!r}; it is damaged, so tokenize the recordings again.")
    listed, there = values.get("shards", {}), shard_hashes(folder)
    changed = sorted(name for name in listed.keys() | there.keys() if listed.get(name) != there.get(name))
    if changed:
        raise ValueError(
            f"Files of {folder} have changed since it was written: {', '.join(changed[:3])}; tokenize again."
        )
    return TokenInfo(**{name: values[name] for name in names})


def _open_shard(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet ({error}); remove it and tokenize again.") from None
    missing = [name for name in _SCHEMA.names if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; tokenize the recordings again.")
    return file


def _read_row_group(path: Path, group: int) -> list[TokenRecord]:
    table = pq.ParquetFile(path, memory_map=True).read_row_group(group, columns=_SCHEMA.names, use_threads=False)
    tokens, durations, codes = (table[name].to_numpy() for name in _SCHEMA.names[7:])
    return [
        TokenRecord(**fields, semantic_tokens=np.repeat(tokens[row], durations[row]), audio_codes=np.stack(codes[row]))
        for row, fields in enumerate(table.select(_PLAIN_COLUMNS).to_pylist())
    ]
