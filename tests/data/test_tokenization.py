# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Runs of the tokenizers over many recordings: one process; `test_workers.py` has several, and kills them."""

import copy
import dataclasses
import json
import shutil
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import soundfile as sf
import soxr
import torch
from datasets import Audio, Dataset
from huggingface_hub.utils import WeakFileLock

from audiolm_hf.data import tokenization as tokenization_module
from audiolm_hf.data.audio import decode_audio
from audiolm_hf.data.clips import ClipReader, list_clips
from audiolm_hf.data.hf_datasets import ClipStream, open_dataset
from audiolm_hf.data.recordings import ClipList
from audiolm_hf.data.tokenization import TokenizationPlan, tokenize_recordings
from audiolm_hf.data.tokenizers import TokenizerPair
from audiolm_hf.data.tokens import TokenDataset, read_skipped

RATE = 16000
PLAN = TokenizationPlan(recordings_per_shard=2)


@pytest.fixture(scope="module")
def load(tiny_audiolm):
    pair = TokenizerPair(tiny_audiolm.semantic_tokenizer, tiny_audiolm.acoustic_codec)
    return lambda: pair


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("audio")
    for number, length in enumerate((8000, 5001, 12000, 6400, 7000)):
        sf.write(folder / f"{number}.flac", rng.uniform(-0.5, 0.5, length), RATE)
    return folder


@pytest.fixture(scope="module")
def whole(audio, load, tmp_path_factory):
    """What an uninterrupted run of one process makes."""
    output = tmp_path_factory.mktemp("whole")
    tokenize_recordings(list_clips(audio), load, output, PLAN)
    return files(output)


@pytest.fixture
def stream(audio, tmp_path, monkeypatch):
    """The same recordings as a stream: makes a new one each time, as a new process would."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    (tmp_path / "stream").mkdir()
    clips = [{"bytes": path.read_bytes(), "path": None} for path in sorted(audio.iterdir())]
    for number, rows in enumerate((clips[:3], clips[3:])):
        table = Dataset.from_dict({"audio": rows}).cast_column("audio", Audio())
        table.to_parquet(tmp_path / "stream" / f"train-{number}.parquet")
    return lambda: dataclasses.replace(open_dataset(str(tmp_path / "stream"), "train", streaming=True), name="name")


def files(folder):
    """Every file of a dataset but the lock and the record of the run, which has the times of files."""
    there = [path for path in folder.iterdir() if path.name != "run.json" and not path.name.startswith(".lock")]
    return {path.name: path.read_bytes() for path in there}


def tokens_of(dataset):
    return [(record.semantic_tokens.tolist(), record.audio_codes.tolist()) for record in dataset]


def stop_at(number, monkeypatch):
    """Let the tokenizers be interrupted at a recording; the list of those that they were asked for."""
    asked = []
    original = tokenization_module.tokenize_recording

    def tokenize(recording, *arguments):
        asked.append(recording.id)
        if len(asked) == number:
            raise KeyboardInterrupt
        return original(recording, *arguments)

    monkeypatch.setattr(tokenization_module, "tokenize_recording", tokenize)
    return asked


def test_tokens_are_those_of_the_tokenizers(audio, load, tmp_path):
    listed = list_clips(audio)
    dataset = tokenize_recordings(listed, load, tmp_path / "out", PLAN)
    assert [record.id for record in dataset] == [clip.id for clip in listed.clips]
    for record, clip in zip(dataset, listed.clips, strict=True):
        array = decode_audio(ClipReader({}).read(clip), RATE)
        with torch.inference_mode():
            expected = load().semantic_tokenizer.tokenize(torch.from_numpy(array)[None]).semantic_tokens[0]
            codes = load().codec.encode(torch.from_numpy(array)[None])[0]
        np.testing.assert_array_equal(record.semantic_tokens, expected)
        np.testing.assert_array_equal(record.audio_codes, codes)
        assert len(record.semantic_tokens) == -(-len(array) // 640)
        assert record.audio_codes.shape == (load().codec.num_codebooks, -(-len(array) // 320))
        assert record.duration == pytest.approx(len(array) / RATE)
        assert record.ends_recording
    claim = json.loads((tmp_path / "out" / "tokens.json").read_text())
    assert (claim["num_recordings"], claim["num_shards"], claim["sampling_rate"]) == (5, 3, RATE)


def test_interrupted_run_goes_on_without_loss_or_doubles(audio, load, whole, tmp_path, monkeypatch, capsys):
    asked = stop_at(4, monkeypatch)
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match="stopped; the same command resumes from what is finished in .*/out"):
        tokenize_recordings(list_clips(audio), load, output, PLAN)
    assert [path.name for path in output.glob("*.parquet")] == ["tokens-00000.parquet"]
    with pytest.raises(ValueError, match="1 of 3 shards; run"):
        TokenDataset(output)
    (output / ".partial-tokens-00001.parquet").write_bytes(b"half a shard")  # as a killed run leaves it
    capsys.readouterr()
    tokenize_recordings(list_clips(audio), load, output, PLAN)
    assert files(output) == whole
    assert [id[-6] for id in asked[4:]] == ["2", "3", "4"]  # the finished shard was not made again
    progress = capsys.readouterr().err
    assert "2/5" in progress  # what is there counts, though not for the rate
    assert "0/5" not in progress
    assert "5/5" in progress


def test_one_thread_computes_and_only_for_the_run(audio, load, tmp_path, monkeypatch):
    before, seen = torch.get_num_threads(), []
    original = tokenization_module.tokenize_recording

    def tokenize(*arguments):
        seen.append(torch.get_num_threads())
        return original(*arguments)

    monkeypatch.setattr(tokenization_module, "tokenize_recording", tokenize)
    try:
        torch.set_num_threads(2)
        tokenize_recordings(list_clips(audio), load, tmp_path, TokenizationPlan())
        assert seen == [1] * 5
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_unreadable_recordings_are_listed_and_nothing_else_is_missing(audio, load, tmp_path, monkeypatch):
    nan = np.full(8000, 0.1, np.float32)
    nan[5] = np.nan
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.wav").write_bytes(b"RIFF nonsense")
    (broken / "b.wav").write_bytes(b"")
    sf.write(broken / "c.wav", nan, RATE, subtype="FLOAT")
    sf.write(broken / "d.wav", np.zeros(100), RATE)
    (tmp_path / "list.txt").write_text("broken/a.wav\nbroken/none.wav\n")
    source = list_clips([broken / "b.wav", audio, tmp_path / "list.txt", broken / "c.wav", broken / "d.wav"])
    plan = TokenizationPlan(recordings_per_shard=2, min_duration_s=0.1)
    stop_at(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tokenize_recordings(source, load, tmp_path / "out", plan)
    dataset = tokenize_recordings(source, load, tmp_path / "out", plan)
    assert [record.id for record in dataset] == [clip.id for clip in list_clips(audio).clips]
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert {line["id"]: line["reason"] for line in lines} == read_skipped(tmp_path / "out")
    found = {line["id"].rpartition("/")[2]: line["reason"] for line in lines}
    assert list(found) == ["b.wav", "a.wav", "none.wav", "c.wav", "d.wav"]
    for name, reason in (("a", "cannot read"), ("b", "empty"), ("c", "NaN"), ("d", "0.01 s are shorter than")):
        assert reason in found[f"{name}.wav"]
    assert found["none.wav"] == "there is no such file"


def test_speed_is_that_of_resampled_recordings(audio, load, tmp_path):
    """Speed perturbation is the recording, written at another rate."""
    (tmp_path / "faster").mkdir()
    for path in audio.iterdir():
        array = sf.read(path, dtype="float32")[0]
        sf.write(tmp_path / "faster" / f"{path.stem}.wav", soxr.resample(array, 1.25 * RATE, RATE), RATE, "FLOAT")
    faster = dataclasses.replace(PLAN, speed=1.25)
    made = tokenize_recordings(list_clips(audio), load, tmp_path / "made", faster)
    expected = tokenize_recordings(list_clips(tmp_path / "faster"), load, tmp_path / "expected", PLAN)
    assert tokens_of(made) == tokens_of(expected)
    assert made.duration == pytest.approx(sum(sf.info(path).duration for path in audio.iterdir()) / 1.25, rel=1e-3)
    with pytest.raises(ValueError, match=r"different: speed"):
        tokenize_recordings(list_clips(audio), load, tmp_path / "made", PLAN)
    with pytest.raises(ValueError, match=r"speed is 3.*from 0.5 to 2"):
        TokenizationPlan(speed=3.0)


def test_stream_gives_the_tokens_of_its_recordings(audio, load, stream, tmp_path):
    listed = tokenize_recordings(list_clips(audio), load, tmp_path / "listed", PLAN)
    streamed = tokenize_recordings(stream(), load, tmp_path / "streamed", PLAN)
    assert tokens_of(streamed) == tokens_of(listed)
    assert [record.id for record in streamed] == [f"name#{row}" for row in range(5)]


@pytest.mark.parametrize("stop", [1, 4])
def test_interrupted_stream_goes_on_without_loss_or_doubles(load, stream, tmp_path, monkeypatch, stop):
    tokenize_recordings(stream(), load, tmp_path / "whole", PLAN)
    asked = stop_at(stop, monkeypatch)
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tokenize_recordings(stream(), load, output, PLAN)
    with pytest.raises(ValueError, match="unknown number of shards"):
        TokenDataset(output)
    assert json.loads((output / "stream.json").read_text())["shard"] == (stop - 1) // 2
    tokenize_recordings(stream(), load, output, PLAN)
    assert files(output) == files(tmp_path / "whole")
    assert asked[stop:] == [f"name#{row}" for row in range((stop - 1) // 2 * 2, 5)]
    finished = ClipStream("name", SimpleNamespace(), files=stream().files)  # nothing of it is asked for
    assert len(tokenize_recordings(finished, load, output, PLAN)) == 5
    assert len(asked) == stop + 5 - (stop - 1) // 2 * 2


def test_folder_of_other_tokens_is_refused(audio, load, tmp_path):
    tokenize_recordings(list_clips(audio), load, tmp_path, PLAN)
    with pytest.raises(ValueError, match=r"different: num_shards \(3, now 2\), recordings_per_shard \(2, now 3\)"):
        tokenize_recordings(list_clips(audio), load, tmp_path, TokenizationPlan(recordings_per_shard=3))
    with pytest.raises(ValueError, match="different: num_recordings .*, num_shards .*, recordings .*, data "):
        tokenize_recordings(list_clips(audio / "0.flac"), load, tmp_path, PLAN)
    longer = TokenizationPlan(recordings_per_shard=2, min_duration_s=0.2)
    with pytest.raises(ValueError, match=r"different: min_duration_s \(0.0, now 0.2\)"):
        tokenize_recordings(list_clips(audio), load, tmp_path, longer)
    other = TokenizerPair(copy.deepcopy(load().semantic_tokenizer), load().codec)
    other.semantic_tokenizer.centroids[0, 0] += 1
    with pytest.raises(ValueError, match="different: tokenizers "):
        tokenize_recordings(list_clips(audio), lambda: other, tmp_path, PLAN)
    assert len(tokenize_recordings(list_clips(audio / "0.flac"), load, tmp_path, PLAN, overwrite=True)) == 1


def test_recording_that_was_replaced_under_its_path_is_noticed(audio, load, tmp_path):
    shutil.copytree(audio, tmp_path / "audio")
    before = tokens_of(tokenize_recordings(list_clips(tmp_path / "audio"), load, tmp_path / "out", PLAN))
    first, second = tmp_path / "audio/0.flac", tmp_path / "audio/1.flac"
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match=r"different: data \(0.flac has other content\)"):
        tokenize_recordings(list_clips(tmp_path / "audio"), load, tmp_path / "out", PLAN)
    after = tokens_of(
        tokenize_recordings(list_clips(tmp_path / "audio"), load, tmp_path / "out", PLAN, overwrite=True)
    )
    assert after[0] == after[1] == before[1] != before[0]


def test_labels_that_changed_in_a_list_are_noticed(audio, load, tmp_path):
    for speaker in ("ann", "bob"):
        (tmp_path / "list.csv").write_text(f"path,speaker\n{audio}/0.flac,{speaker}\n")
        if speaker == "ann":
            tokenize_recordings(list_clips(tmp_path / "list.csv"), load, tmp_path / "out", PLAN)
    with pytest.raises(ValueError, match="different: recordings"):
        tokenize_recordings(list_clips(tmp_path / "list.csv"), load, tmp_path / "out", PLAN)


def test_second_process_in_a_folder_is_refused(audio, load, tmp_path):
    with WeakFileLock(tmp_path / ".lock"), pytest.raises(BlockingIOError, match="Another process is at work"):
        tokenize_recordings(list_clips(audio), load, tmp_path, PLAN)
    assert len(tokenize_recordings(list_clips(audio), load, tmp_path, PLAN)) == 5


def test_a_place_where_nothing_can_be_written_is_refused_before_anything_is_loaded(audio):
    with pytest.raises(PermissionError, match="In the folder /proc no file can be written"):
        tokenize_recordings(list_clips(audio), None, "/proc/tokens")


def test_sources_without_tokens_are_clear_errors(audio, load, tmp_path):
    with pytest.raises(ValueError, match="There are no recordings"):
        tokenize_recordings(ClipList([]), load, tmp_path / "a")
    with pytest.raises(ValueError, match="listed twice"):
        tokenize_recordings(list_clips([audio, audio / "0.flac"]), load, tmp_path / "a")
    (tmp_path / "b.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match="None of the recordings could be read: 1 left out, see .*such as .*b.wav: "):
        tokenize_recordings(list_clips(tmp_path / "b.wav"), load, tmp_path / "b")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_workers": 0}, "num_workers is 0; give an integer from 1 to"),
        ({"recordings_per_shard": 0}, "recordings_per_shard is 0; give an integer"),
    ],
)
def test_plan_is_checked(values, message):
    with pytest.raises(ValueError, match=message):
        TokenizationPlan(**values)
