# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Datasets of the library `datasets`: saved to disk, and by name; local folders stand for the Hub."""

import importlib.util

import datasets
import numpy as np
import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from audiolm_hf.data.audio import AudioSource, decode_audio
from audiolm_hf.data.clips import ClipReader, list_clips
from audiolm_hf.data.hf_datasets import open_dataset
from tests.data.test_audio import RATE, encoded, tone

FREQUENCIES = (200, 300, 400, 500, 600)


@pytest.fixture(autouse=True)
def _quiet_and_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def make_dataset(column="audio"):
    rows = {
        column: [{"bytes": encoded(tone(0.1, frequency)), "path": None} for frequency in FREQUENCIES],
        "speaker_id": [0, 1, 0, 1, 0],
        "accent": ["irish", None, "welsh", "irish", "irish"],
        "words": ["one", "two", "three", "four", "five"],
    }
    types = {"speaker_id": ClassLabel(names=["ann", "bob"]), "accent": Value("string"), "words": Value("string")}
    return Dataset.from_dict(rows).cast(Features({column: Audio(), **types}))


def write_parquet_folder(folder):
    """Two files of three and two rows, as a dataset of the Hub has them."""
    folder.mkdir()
    dataset = make_dataset("sound")
    for number, rows in enumerate((range(3), range(3, 5))):
        dataset.select(rows).to_parquet(folder / f"train-{number:05d}-of-00002.parquet")
    return folder


def expected_arrays():
    return [decode_audio(encoded(tone(0.1, frequency)), RATE) for frequency in FREQUENCIES]


def decoded(reader, clips):
    return [decode_audio(reader.read(clip), RATE) for clip in clips]


def test_dataset_saved_to_disk_is_a_source(tmp_path):
    make_dataset().save_to_disk(tmp_path / "saved", num_shards=2)
    source = AudioSource(tmp_path / "saved", RATE)
    np.testing.assert_array_equal([record.array for record in source], expected_arrays())
    assert [record.speaker for record in source] == ["ann", "bob", "ann", "bob", "ann"]
    assert [record.accent for record in source] == ["irish", "", "welsh", "irish", "irish"]
    assert source.ids[4] == "saved#4"


def test_several_saved_splits_are_named(tmp_path):
    DatasetDict(train=make_dataset(), test=make_dataset()).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="several splits; give those to use: .*saved/train, .*saved/test"):
        list_clips(tmp_path / "saved")
    assert len(list_clips(tmp_path / "saved" / "test").clips) == 5


def test_named_dataset_is_downloaded_or_streamed(tmp_path):
    folder = write_parquet_folder(tmp_path / "data")
    listed = open_dataset(str(folder), "train")
    np.testing.assert_array_equal(decoded(ClipReader(listed.datasets), listed.clips), expected_arrays())
    clips = list(open_dataset(str(folder), "train", streaming=True).clips(0))
    np.testing.assert_array_equal(decoded(ClipReader({}), clips), expected_arrays())
    for clip, other in zip(clips, listed.clips, strict=True):
        assert (clip.id, clip.speaker, clip.accent) == (other.id, other.speaker, other.accent)


def test_streamed_audio_files_are_read(tmp_path):
    (tmp_path / "data").mkdir()
    for number, frequency in enumerate(FREQUENCIES):
        (tmp_path / "data" / f"{number}.flac").write_bytes(encoded(tone(0.1, frequency)))
    stream = open_dataset(str(tmp_path / "data"), "train", streaming=True)
    np.testing.assert_array_equal(decoded(ClipReader({}), stream.clips(0)), expected_arrays())


def test_what_datasets_cannot_prepare_is_a_clear_error(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.flac").write_bytes(encoded(tone(0.1)))
    if importlib.util.find_spec("torchcodec") is None:
        with pytest.raises(ValueError, match="could not prepare .*torchcodec.*--streaming"):
            open_dataset(str(tmp_path / "data"), "train")


def test_without_audio_the_columns_are_named(tmp_path):
    def listed(dataset):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        dataset.save_to_disk(folder)
        return list_clips(folder)

    dataset = make_dataset().rename_column("audio", "sound")
    (saved,) = listed(dataset).datasets.values()
    assert saved.column_names == ["sound", "accent", "speaker_id"]
    with pytest.raises(ValueError, match=r"1 has no columns of audio among speaker_id \(ClassLabel\), accent"):
        listed(dataset.remove_columns("sound"))
    second = dataset.add_column("noise", [{"bytes": encoded(tone(0.1)), "path": None}] * 5)
    second = second.cast_column("noise", Audio())
    with pytest.raises(ValueError, match="2 has 2 columns of audio among"):
        listed(second)
    (saved,) = listed(second.rename_column("sound", "audio")).datasets.values()
    assert "audio" in saved.column_names


def test_unknown_names_and_splits_are_clear_errors(tmp_path):
    folder = str(write_parquet_folder(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match="no dataset .*nothing.*--data"):
        open_dataset(str(tmp_path / "nothing"), "train")
    with pytest.raises(ValueError, match="give --split"):
        open_dataset(folder, None)
    with pytest.raises(ValueError, match=r"trian.*\['train'\]"):
        open_dataset(folder, "trian", streaming=True)
