# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import copy
import dataclasses
import shutil
from itertools import pairwise

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audiolm_hf.data import tokens as tokens_module
from audiolm_hf.data.tokens import TokenDataset, read_skipped, shard_path, shard_paths, write_shard
from tests.helpers_tokens import INFO, describe_tokens, made_up_record, write_tokens


def make_records(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [made_up_record(f"r{number}", length, rng) for number, length in enumerate(lengths)]


def write_dataset(folder, *shards, **values):
    folder.mkdir()
    for number, records in enumerate(shards):
        write_shard(shard_path(folder, number), records)
    return describe_tokens(folder, **values)


def check_equal(record, expected):
    for field in dataclasses.fields(expected):
        value, other = vars(record)[field.name], vars(expected)[field.name]
        if isinstance(other, np.ndarray):
            assert value.dtype == np.int16
            np.testing.assert_array_equal(value, other)
        else:
            assert value == other, field.name


def test_records_come_back_from_any_place(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "_CACHED_BYTES", 1)
    records = make_records([30, 7, 1, 55, 3, 20, 9] * 6)
    folder = write_dataset(tmp_path / "tokens", records[:40], [], records[40:])  # several row groups; an empty shard
    dataset = TokenDataset(folder)
    assert len(dataset) == len(records)
    for index in (41, 0, 39, 40, 16, 15, -1):
        check_equal(dataset[index], records[index])
    for record, expected in zip(dataset, records, strict=True):
        check_equal(record, expected)
    with pytest.raises(IndexError):
        dataset[len(records)]
    assert dataset.duration == pytest.approx(sum(record.duration for record in records))


def test_records_are_read_when_asked_for_and_kept_within_limits(tmp_path, monkeypatch):
    records = make_records([50] * 64)
    folder = write_dataset(tmp_path / "tokens", records)
    group_bytes = 16 * (records[0].semantic_tokens.nbytes + records[0].audio_codes.nbytes)
    monkeypatch.setattr(tokens_module, "_CACHED_BYTES", 2 * group_bytes)
    dataset = TokenDataset(folder)
    assert not dataset._cache.values
    first = dataset[0]
    assert dataset[0] is first
    for index in (16, 0, 32):  # the group of record 16 was not used for longest
        dataset[index]
    assert list(dataset._cache.values) == [0, 2]
    assert dataset._cache.total == 2 * group_bytes
    assert dataset[0] is first
    assert not copy.deepcopy(dataset)._cache.values  # nor does it go to another process
    check_equal(copy.deepcopy(dataset)[63], records[63])


def test_repeats_are_stored_as_durations_and_restored(tmp_path):
    rng = np.random.default_rng(0)
    lengths = [rng.integers(1, 40, size=rng.integers(1, 9)) for _ in range(40)] + [np.array([1]), np.array([700])]
    rows = [np.repeat(rng.integers(0, 20, size=len(found)), found).astype(np.int16) for found in lengths]
    records = [dataclasses.replace(make_records([1])[0], semantic_tokens=tokens) for tokens in rows]
    folder = write_dataset(tmp_path / "tokens", records)
    for record, expected in zip(TokenDataset(folder), records, strict=True):
        check_equal(record, expected)
    for row, tokens in zip(pq.read_table(shard_path(folder, 0)).to_pylist(), rows, strict=True):
        kept, durations = row["semantic_tokens"], row["semantic_durations"]
        assert all(token != following for token, following in pairwise(kept))
        assert [token for token, times in zip(kept, durations, strict=True) for _ in range(times)] == tokens.tolist()


def test_shards_open_as_parquet_with_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    records = make_records([30, 7, 12])
    folder = write_dataset(tmp_path / "tokens", records[:2])
    write_shard(shard_path(folder, 1), records[2:], {"x": "it is empty"})
    (folder / "skipped.jsonl").write_text('{"id": "x", "reason": "it is empty"}\n')
    files = [str(path) for path in shard_paths(folder)]
    opened = datasets.load_dataset("parquet", data_files=files, split="train")
    for row, record in zip(opened, records, strict=True):
        assert np.repeat(row["semantic_tokens"], row["semantic_durations"]).tolist() == record.semantic_tokens.tolist()
        assert row["audio_codes"] == record.audio_codes.tolist()
        assert (row["id"], row["speaker"], row["duration"]) == (record.id, record.speaker, record.duration)
    assert set(opened.column_names) == {
        *("id", "speaker", "accent", "source", "start", "duration", "ends_recording"),
        *("semantic_tokens", "semantic_durations", "audio_codes"),
    }


def test_what_a_shard_lacks_is_kept_with_it(tmp_path):
    folder = write_dataset(tmp_path / "tokens", make_records([3]))
    skipped = {"ä.wav": "it is empty", "b.wav": 'it "ends"'}
    write_shard(shard_path(folder, 1), [], skipped)
    assert read_skipped(folder) == skipped


def test_shards_beyond_five_digits_stay_in_order(tmp_path):
    names = ["tokens-00002.parquet", "tokens-100000.parquet", "tokens-99999.parquet"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in shard_paths(tmp_path)] == [names[0], names[2], names[1]]


def test_reading_checks_the_folders(tmp_path):
    first = write_tokens(tmp_path / "first", [4, 5])
    assert len(TokenDataset([first, write_tokens(tmp_path / "second", [3])])) == 3
    with pytest.raises(FileNotFoundError, match=r"no .*tokens\.json"):
        TokenDataset(tmp_path)
    with pytest.raises(ValueError, match="different tokenizers"):
        TokenDataset([first, write_tokens(tmp_path / "x", [3], info=dataclasses.replace(INFO, tokenizers="0"))])
    with pytest.raises(ValueError, match="hold no tokens"):
        TokenDataset(write_dataset(tmp_path / "empty"))


def test_unfinished_dataset_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "listed", make_records([3]), num_shards=2)
    with pytest.raises(ValueError, match="has 1 of 2 shards; run `audiolm-hf tokenize` again"):
        TokenDataset(folder)
    folder = write_dataset(tmp_path / "streamed", make_records([3]), num_shards=None)
    (folder / "stream.json").touch()
    with pytest.raises(ValueError, match=r"1 of an unknown number of shards; run"):
        TokenDataset(folder)


def test_shard_of_another_version_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "tokens", make_records([3]))
    table = pq.read_table(shard_path(folder, 0)).drop_columns(["semantic_durations"])
    pq.write_table(pa.table(table), shard_path(folder, 0))
    describe_tokens(folder)
    with pytest.raises(ValueError, match="no column semantic_durations.*tokenize the recordings again"):
        TokenDataset(folder)


def swap_shards(folder, other):
    shutil.copyfile(shard_path(other, 0), shard_path(folder, 1))


def add_shard(folder, other):
    shutil.copyfile(shard_path(other, 0), shard_path(folder, 2))


def flip_bit(folder, other):
    content = bytearray(shard_path(folder, 0).read_bytes())
    content[len(content) // 2] ^= 1
    shard_path(folder, 0).write_bytes(content)


def remove_shard(folder, other):
    shard_path(folder, 1).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_shards, "changed since it was written: tokens-00001.parquet"),
        (add_shard, "changed since it was written: tokens-00002.parquet"),
        (flip_bit, "changed since it was written: tokens-00000.parquet"),
        (remove_shard, "changed since it was written: tokens-00001.parquet"),
    ],
)
def test_shards_that_are_not_those_that_were_written_are_noticed(tmp_path, change, message):
    folder = write_dataset(tmp_path / "tokens", make_records([3]), make_records([4]))
    other = write_dataset(tmp_path / "other", make_records([5], seed=1))
    assert len(TokenDataset(folder)) == 2
    change(folder, other)
    with pytest.raises(ValueError, match=message):
        TokenDataset(folder)


def test_a_shard_that_is_cut_off_is_named(tmp_path):
    write_shard(shard_path(tmp_path, 0), [])
    whole = shard_path(tmp_path, 0).read_bytes()
    shard_path(tmp_path, 0).write_bytes(whole[:100])
    with pytest.raises(
        ValueError, match="tokens-00000.parquet cannot be read as parquet .*; remove it and tokenize again"
    ):
        read_skipped(tmp_path)
