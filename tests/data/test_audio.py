# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audiolm_hf.data import audio as audio_module
from audiolm_hf.data.audio import AudioCropDataset, AudioSource, decode_audio, load_audio_segments
from tests.audio.test_audio_decoding_audiolm import flac_without_length

RATE = 16000


def tone(length_s, frequency=440.0, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(length_s * rate)) / rate)).astype(np.float32)


def encoded(array, rate=RATE, format="FLAC"):
    buffer = io.BytesIO()
    sf.write(buffer, array, rate, format=format)
    return buffer.getvalue()


def write_parquet(path, clips, **columns):
    audio = [{"bytes": clip, "path": f"{row}.flac"} for row, clip in enumerate(clips)]
    pq.write_table(pa.table({"audio": audio, **columns}), path)
    return path


def test_parquet_gives_arrays_labels_and_unique_ids(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        [encoded(tone(0.5)), encoded(tone(0.25))],
        speaker=["ann", "bob"],
        accent=["irish", None],
        duration=[0.5, 0.25],
    )
    source = AudioSource(path, RATE)
    first, second = source
    np.testing.assert_allclose(first.array, tone(0.5), atol=1e-4)
    assert (first.speaker, first.accent, second.accent) == ("ann", "irish", "")
    assert (first.duration, second.duration) == (0.5, 0.25)
    assert len(set(source.ids)) == 2
    np.testing.assert_allclose(source.durations, [0.5, 0.25])


def test_duration_is_read_from_the_header_where_there_is_no_column(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [encoded(tone(0.5)), b"not audio", encoded(tone(0.1))])
    source = AudioSource(path, RATE)
    np.testing.assert_allclose(source.durations, [0.5, 0.1])
    ((id, reason),) = source.skipped.items()
    assert id.endswith("#1") and "cannot read" in reason


def test_folder_is_searched_in_a_fixed_order(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, length in (("b.wav", 0.2), ("a.flac", 0.1), ("sub/c.ogg", 0.3)):
        sf.write(tmp_path / name, tone(length), RATE)
    (tmp_path / "notes.txt").write_text("not audio")
    source = AudioSource(tmp_path, RATE)
    np.testing.assert_allclose([record.duration for record in source], [0.1, 0.2, 0.3], atol=1e-3)


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl"])
def test_manifest_paths_are_relative_to_it(tmp_path, suffix):
    sf.write(tmp_path / "a.wav", tone(0.1), RATE)
    text = {
        "txt": "a.wav\n\n",
        "csv": "path,speaker\na.wav,ann\n",
        "jsonl": json.dumps({"path": "a.wav", "speaker": "ann"}) + "\n",
    }[suffix]
    manifest = tmp_path / f"list.{suffix}"
    manifest.write_text(text)
    (record,) = AudioSource(manifest, RATE)
    assert record.duration == pytest.approx(0.1)
    assert record.speaker == ("" if suffix == "txt" else "ann")


def test_manifest_without_path_column_is_an_error(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("file\na.wav\n")
    with pytest.raises(ValueError, match="no `path`.*file.*name the column"):
        AudioSource(manifest, RATE)


def test_stereo_at_another_rate_becomes_mono_at_the_asked_rate():
    stereo = np.stack([tone(0.5, rate=44100), np.zeros(22050, np.float32)], axis=1)
    array = decode_audio(encoded(stereo, 44100, "WAV"), RATE)
    assert array.dtype == np.float32
    assert array.shape == (8000,)
    np.testing.assert_allclose(array[500:-500], 0.5 * tone(0.5)[500:-500], atol=2e-3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (Path("missing.wav"), "no such file"),
        (b"RIFF nonsense", "cannot read"),
        (encoded(np.zeros(0, np.float32), format="WAV"), "no samples"),
    ],
)
def test_undecodable_bytes_say_why(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode_audio(data, RATE)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [(0.0, None, (0, 8000)), (0.25, None, (4000, 8000)), (0.1, 0.2, (1600, 3200)), (0.4, 9.0, (6400, 8000))],
)
def test_part_of_a_file_is_cut_out(start_s, end_s, expected):
    data = encoded(tone(0.5))
    array = decode_audio(data, RATE, start_s, end_s)
    np.testing.assert_array_equal(array, decode_audio(data, RATE)[slice(*expected)])


def test_reason_is_the_same_in_every_run():
    with pytest.raises(ValueError, match=r"^soundfile cannot read it: Format not recognised.$"):
        decode_audio(b"RIFF nonsense", RATE)


def test_part_beyond_the_end_is_refused():
    with pytest.raises(ValueError, match="no samples after 0.6 s"):
        decode_audio(encoded(tone(0.5)), RATE, 0.6, 0.8)


def test_nan_samples_are_refused():
    buffer = io.BytesIO()
    sf.write(buffer, np.array([0.0, np.nan, 0.0], np.float32), RATE, format="WAV", subtype="FLOAT")
    with pytest.raises(ValueError, match="NaN"):
        decode_audio(buffer.getvalue(), RATE)


def test_iteration_leaves_out_what_fails_to_decode_and_lists_it(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [b"broken", encoded(tone(0.2))], duration=[0.2, 0.2])
    source = AudioSource(path, RATE)
    assert len(source) == 2  # the stated durations were believed
    assert len(list(source)) == 1
    assert [*source.skipped] == ["a.parquet#0"]
    with pytest.raises(ValueError, match="#0: soundfile cannot read"):
        source[0]


def test_bad_sources_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no .*missing.parquet; give an existing"):
        AudioSource(tmp_path / "missing.parquet", RATE)
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="neither a folder"):
        AudioSource(tmp_path / "a.zip", RATE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No readable audio"):
        AudioSource(tmp_path / "empty", RATE)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="no `audio`"):
        AudioSource(tmp_path / "b.parquet", RATE)


def test_impossible_rate_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [encoded(tone(0.5))])
    with pytest.raises(ValueError, match="sampling_rate is 0"):
        AudioSource(path, 0)


def test_segments_cover_every_sample_once(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [encoded(tone(0.5)), encoded(tone(0.2))])
    source = AudioSource(path, RATE)
    segments = load_audio_segments(source, 0.2, 100)
    assert [len(segment) for segment in segments] == [3200, 3200, 1600, 3200]
    np.testing.assert_array_equal(np.concatenate(segments), np.concatenate([record.array for record in source]))
    assert len(load_audio_segments(source, 0.2, 2)) == 2


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    clips = [encoded(rng.uniform(-0.5, 0.5, length).astype(np.float32)) for length in (16000, 4000, 500)]
    return AudioSource(write_parquet(tmp_path / "a.parquet", clips), RATE)


def test_crop_is_a_function_of_seed_and_index(source):
    crops = AudioCropDataset(source, 1000, seed=3)
    forwards = [crops[index]["input_values"] for index in range(20)]
    backwards = [AudioCropDataset(source, 1000, seed=3)[index]["input_values"] for index in reversed(range(20))]
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert one.equal(other)
    assert not forwards[0].equal(AudioCropDataset(source, 1000, seed=4)[0]["input_values"])


def test_crop_does_not_depend_on_the_cache(source, monkeypatch):
    large = AudioCropDataset(source, 1000)
    monkeypatch.setattr(audio_module, "_CACHED_BYTES", 1)
    small = AudioCropDataset(source, 1000)
    for index in range(30):
        assert small[index]["input_values"].equal(large[index]["input_values"])


def test_crops_come_from_the_recordings_in_proportion_to_their_length(tmp_path):
    clips = [encoded(np.full(length, value, np.float32)) for length, value in ((16000, 0.1), (4000, 0.2), (500, 0.3))]
    source = AudioSource(write_parquet(tmp_path / "a.parquet", clips), RATE)
    crops = AudioCropDataset(source, 400)
    values = [round(float(crops[index]["input_values"][0]), 3) for index in range(500)]
    shares = [values.count(value) / 500 for value in (0.1, 0.2, 0.3)]
    np.testing.assert_allclose(shares, source.durations / source.durations.sum(), atol=0.05)


def test_short_recording_is_padded(tmp_path):
    source = AudioSource(write_parquet(tmp_path / "a.parquet", [encoded(tone(0.01))]), RATE)
    crop = AudioCropDataset(source, 200)[0]
    assert crop["input_values"].ne(0).sum() > 150 and crop["input_values"][160:].tolist() == [0.0] * 40


def test_batch_stacks_the_crops_of_a_step(source):
    crops = AudioCropDataset(source, 100)
    batch = crops.batch(step=2, batch_size=3)
    assert batch["input_values"].shape == (3, 100)
    assert batch["input_values"][1].equal(crops[7]["input_values"])


def test_unreadable_recording_is_replaced_by_another_draw(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [b"broken", encoded(tone(0.2))], duration=[0.2, 0.2])
    crops = AudioCropDataset(AudioSource(path, RATE), 100)
    assert all(crops[index]["input_values"].any() for index in range(10))
    broken = write_parquet(tmp_path / "b.parquet", [b"broken"], duration=[0.2])
    with pytest.raises(ValueError, match="None of the 1 recordings can be decoded"):
        AudioCropDataset(AudioSource(broken, RATE), 100)[0]


def test_absurd_stated_lengths_are_not_believed(tmp_path):
    clips = [encoded(tone(0.5))] * 5
    stated = [float("nan"), float("inf"), -1.0, 0.0, 0.5]
    source = AudioSource(write_parquet(tmp_path / "a.parquet", clips, duration=stated), RATE)
    np.testing.assert_allclose(source.durations, 0.5)


def test_header_without_a_length_does_not_take_all_draws(tmp_path):
    samples = np.full(8000, 0.25, np.float32)
    clips = [flac_without_length(samples), encoded(tone(0.5))]
    source = AudioSource(write_parquet(tmp_path / "a.parquet", clips), RATE)
    np.testing.assert_allclose(source.durations, 0.5)
    firsts = {float(AudioCropDataset(source, 8000)[index]["input_values"][0]) for index in range(12)}
    assert len(firsts) == 2
    np.testing.assert_allclose(source[0].array, 0.25, atol=1e-4)


def test_draws_among_readable_recordings_end_and_do_not_depend_on_what_was_met(tmp_path):
    clips = [b"broken", encoded(np.full(1600, 0.1, np.float32)), b"broken", encoded(np.full(1600, 0.2, np.float32))]
    durations = [1e9, 0.1, 1e12, 0.1]  # almost every first draw is a broken one
    path = write_parquet(tmp_path / "a.parquet", clips, duration=durations)
    crops = AudioCropDataset(AudioSource(path, RATE), 100)
    forwards = [float(crops[index]["input_values"][0]) for index in range(20)]
    fresh = [float(AudioCropDataset(AudioSource(path, RATE), 100)[index]["input_values"][0]) for index in range(20)]
    assert forwards == fresh
    assert {round(value, 1) for value in forwards} == {0.1, 0.2}


def test_file_that_needs_a_missing_program_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sf.write(tmp_path / "a.wav", tone(0.1), RATE)
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0")
    (tmp_path / "c.webm").write_bytes(b"\x1aE\xdf\xa3" + bytes(20))
    source = AudioSource(tmp_path, RATE)
    assert len(source) == 1
    assert [Path(id).name for id in source.skipped] == ["b.m4a", "c.webm"]
    assert all("needs the program ffmpeg" in reason for reason in source.skipped.values())
