# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Recordings are known by their names in what was given, and by their content: not by where they lie or how it is
written.
"""

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from datasets import Audio, Dataset

from audiolm_hf.data import tokenization as tokenization_module
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.clips import check_unique, list_clips, recording_files
from audiolm_hf.data.hf_datasets import open_dataset
from audiolm_hf.data.tokenization import TokenizationPlan, tokenize_recordings
from audiolm_hf.data.tokenizers import TokenizerPair
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.evaluation.metrics.midi_notes import read_excerpts
from tests.data.test_audio import encoded, tone, write_parquet

RATE = 16000
PLAN = TokenizationPlan(recordings_per_shard=2)


@pytest.fixture(scope="module")
def load(tiny_audiolm):
    pair = TokenizerPair(tiny_audiolm.semantic_tokenizer, tiny_audiolm.acoustic_codec)
    return lambda: pair


def write_recordings(folder, seed=0):
    """Three recordings, one of them deeper; a list of them; and one that cannot be read."""
    rng = np.random.default_rng(seed)
    (folder / "deep").mkdir(parents=True)
    for name in ("a.flac", "b.flac", "deep/a.flac"):
        sf.write(folder / name, rng.uniform(-0.5, 0.5, 3200), RATE)
    (folder / "none.wav").write_bytes(b"RIFF nonsense")
    (folder / "list.csv").write_text("path,end\na.flac,\nb.flac,0.1\n./deep//a.flac,\n")
    write_parquet(folder / "table.parquet", [encoded(tone(0.2)), encoded(tone(0.3))])
    dataset = Dataset.from_dict({"audio": [{"bytes": encoded(tone(0.2)), "path": None}]})
    dataset.cast_column("audio", Audio()).save_to_disk(folder / "saved")
    return folder


@pytest.fixture
def home(tmp_path):
    """A folder whose path must not be found in what is written."""
    write_recordings(tmp_path / "home" / "data")
    return tmp_path / "home"


@pytest.fixture
def computed(monkeypatch):
    """The ids of the recordings that were tokenized."""
    ids = []
    original = tokenization_module.tokenize_recording

    def tokenize(recording, *arguments):
        ids.append(recording.id)
        return original(recording, *arguments)

    monkeypatch.setattr(tokenization_module, "tokenize_recording", tokenize)
    return ids


def holding(folder, text):
    """The files below a folder that hold a text."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


SOURCES = {
    "": ["a.flac", "b.flac", "deep/a.flac"],
    "deep": ["a.flac"],
    "b.flac": ["b.flac"],
    "list.csv": ["a.flac", "b.flac[0.0:0.1]", "deep/a.flac"],
    "table.parquet": ["table.parquet#0", "table.parquet#1"],
    "saved": ["saved#0"],
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_data_under_another_spelling_is_resumed(home, load, tmp_path, monkeypatch, computed, source):
    output = tmp_path / "out"
    made = tokenize_recordings(list_clips(home / "data" / source), load, output, PLAN)
    assert [record.id for record in made] == computed == SOURCES[source]
    assert holding(output, str(tmp_path)) == []
    (tmp_path / "link").symlink_to(home / "data")
    monkeypatch.chdir(home / "data")
    spelled = [f"../data/{source}", f"{tmp_path}/home/../link/{source}", f"./{source}"]
    if (home / "data" / source).is_dir():
        spelled.append(f"{home}/data/{source}/")
    for path in spelled:
        tokenize_recordings(list_clips(path), load, output, PLAN)
    monkeypatch.chdir(tmp_path)
    shutil.move(home, tmp_path / "elsewhere")
    tokenize_recordings(list_clips(tmp_path / "elsewhere/data" / source), load, output, PLAN)
    assert computed == SOURCES[source]


@pytest.mark.parametrize("source", ["", "list.csv"])
def test_other_data_is_refused(home, load, tmp_path, source):
    output, data = tmp_path / "out", home / "data"
    tokenize_recordings(list_clips(data / source), load, output, PLAN)
    other = write_recordings(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"different: data \(a.flac has other content, b.flac has other"):
        tokenize_recordings(list_clips(other / source), load, output, PLAN)
    before = (data / "deep/a.flac").read_bytes()
    shutil.copyfile(data / "b.flac", data / "deep/a.flac")
    with pytest.raises(ValueError, match=r"different: data \(deep/a.flac has other content\)\. Give another"):
        tokenize_recordings(list_clips(data / source), load, output, PLAN)
    (data / "deep/a.flac").write_bytes(before)
    shutil.copyfile(data / "b.flac", data / "c.flac")
    with (data / "list.csv").open("a") as file:
        file.write("c.flac,\n")
    with pytest.raises(ValueError, match=r"different: num_recordings .* recordings .*, data \(c.flac is new\)"):
        tokenize_recordings(list_clips(data / source), load, output, PLAN)


def test_absolute_entries_of_a_list_are_named_from_their_common_folder(home, tmp_path):
    for place in (home, tmp_path / "moved"):
        if not place.exists():
            shutil.move(home, place)
        entries = [f"{place}/data/{name}" for name in ("a.flac", "deep/a.flac", "b.flac")]
        (tmp_path / "list.txt").write_text("\n".join(entries))
        assert [clip.id for clip in list_clips(tmp_path / "list.txt").clips] == ["a.flac", "deep/a.flac", "b.flac"]
        assert list(recording_files([tmp_path / "list.txt"]))[1:] == [
            f"list.txt/{name}" for name in ("a.flac", "deep/a.flac", "b.flac")
        ]
    (tmp_path / "list.txt").write_text("/one/a.wav\n/two/a.wav\na.wav\n")  # without a common folder
    names = ["a.wav", "a.wav (2)", "a.wav (3)"]
    assert [clip.id for clip in list_clips(tmp_path / "list.txt").clips] == names
    files = recording_files([tmp_path / "list.txt"])
    assert list(files)[1:] == [f"list.txt/{name}" for name in names]
    assert list(files.values())[1:] == [Path("/one/a.wav"), Path("/two/a.wav"), tmp_path / "a.wav"]


def test_files_that_a_table_names_are_inputs(home, tmp_path):
    data = home / "data"
    cells = [{"bytes": None, "path": "a.flac"}, {"bytes": None, "path": str(data / "deep/a.flac")}]
    pq.write_table(pa.table({"audio": cells}), data / "paths.parquet")
    pq.write_table(pa.table({"audio": [{"bytes": b"audio", "path": "a.flac"}]}), data / "bytes.parquet")
    files = recording_files([data / "paths.parquet", data / "bytes.parquet"])
    named = {"paths.parquet/a.flac": data / "a.flac", "paths.parquet/a.flac (2)": data / "deep/a.flac"}
    tables = {name: data / name for name in ("paths.parquet", "bytes.parquet")}
    assert files == tables | named
    assert list_clips([data / "paths.parquet", data / "bytes.parquet"]).files == tables | named


def test_equal_names_of_different_files_are_numbered(home, tmp_path):
    data, other = home / "data", write_recordings(tmp_path / "other", seed=1)
    paths = [data / "deep", other / "deep", data / "table.parquet", other / "table.parquet", other / "a.flac"]
    listed = list_clips(paths)
    check_unique(listed)
    tables = ["table.parquet#0", "table.parquet#1", "table.parquet (2)#0", "table.parquet (2)#1"]
    assert [clip.id for clip in listed.clips] == ["a.flac", "a.flac (2)", *tables, "a.flac (3)"]
    assert listed.files == {clip.name: clip.path for clip in listed.clips}
    assert AudioSource(paths, RATE).ids == [clip.id for clip in listed.clips]


@pytest.mark.parametrize("again", ["data", "data/deep", "data/list.csv", "link", "data/b.flac"])
def test_a_recording_listed_twice_under_two_spellings_is_refused(home, again):
    (home / "link").symlink_to(home / "data")
    with pytest.raises(ValueError, match="listed twice"):
        check_unique(list_clips([home / "link" / "list.csv", home / "data", home / again]))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_local_dataset_is_known_by_its_content(home, load, tmp_path, monkeypatch, computed, streaming):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for number, folder in enumerate((home / "named", tmp_path / "other/named")):
        folder.mkdir(parents=True)
        table = Dataset.from_dict({"audio": [{"bytes": encoded(tone(0.2 + number)), "path": None}]})
        table.cast_column("audio", Audio()).to_parquet(folder / "train.parquet")

    def tokenize(path):
        return tokenize_recordings(open_dataset(path, "train", streaming=streaming), load, tmp_path / "out", PLAN)

    assert [record.id for record in tokenize(str(home / "named"))] == ["named/train#0"]
    assert holding(tmp_path / "out", str(tmp_path)) == []
    monkeypatch.chdir(home)
    tokenize("./named/")
    shutil.move(home / "named", tmp_path / "named")
    tokenize(str(tmp_path / "named"))
    assert computed == ["named/train#0"]
    with pytest.raises(ValueError, match="different: data"):
        tokenize(str(tmp_path / "other/named"))


def test_older_token_sets_are_read_and_another_run_is_refused(home, load, tmp_path):
    output = tmp_path / "out"
    tokenize_recordings(list_clips(home / "data"), load, output, PLAN)
    record = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(record | {"kind": "tokens"}))  # with absolute ids
    assert len(TokenDataset(output)) == 3
    with pytest.raises(
        ValueError, match=r"kind \(tokens, now tokens with relative ids\)\. Give another output folder"
    ):
        tokenize_recordings(list_clips(home / "data"), load, output, PLAN)
    assert len(tokenize_recordings(list_clips(home / "data"), load, output, PLAN, overwrite=True)) == 3


def test_reasons_name_no_folder(home, load, tmp_path):
    (home / "data/broken.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(40))
    tokenize_recordings(list_clips(home / "data"), load, tmp_path / "out", PLAN)
    assert "broken.m4a" in (tmp_path / "out/skipped.jsonl").read_text()
    assert holding(tmp_path / "out", str(tmp_path)) == []


def test_excerpts_are_found_by_the_ids_of_their_recordings(tmp_path):
    paths = [tmp_path / name / "test.parquet" for name in ("one", "two")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        rows = [{"audio": {"bytes": encoded(tone(0.1)), "path": None}, "source": str(number), "start": 2.0 + number}]
        datasets.Dataset.from_list(rows).to_parquet(path)
    source = AudioSource(paths, RATE)
    assert {record.id: (record.source, 2.0 + int(record.source)) for record in source} == read_excerpts(source.paths)
