# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import copy
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audiolm_hf.data.audio import AudioSource, decode_audio
from audiolm_hf.data.clips import ClipReader, check_unique, list_clips
from tests.data.test_audio import RATE, encoded, tone, write_parquet


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_nothing_is_opened_while_a_folder_is_listed(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.wav", "a.flac", "sub/c.MP3"):
        (tmp_path / name).write_bytes(b"not audio")
    (tmp_path / "notes.txt").write_text("not audio")
    listed = list_clips(tmp_path)
    assert [clip.id for clip in listed.clips] == ["a.flac", "b.wav", "sub/c.MP3"]


def test_linked_folders_are_searched_once(tmp_path):
    for name in ("data/a.wav", "elsewhere/deep/b.wav", "data/.hidden/c.wav", "data/._a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "linked too").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "data")
    assert [clip.id for clip in list_clips(tmp_path / "data").clips] == ["a.wav", "linked/deep/b.wav"]


def test_list_cuts_parts_out_of_files(tmp_path):
    sf.write(tmp_path / "a.wav", tone(1.0), RATE, subtype="FLOAT")
    rows = [{"path": "a.wav", "start": 0.25, "end": 0.5, "speaker_id": 7}, {"path": "a.wav", "start": "0.75"}]
    listed = list_clips(write_lines(tmp_path / "list.jsonl", *rows))
    assert [clip.id for clip in listed.clips] == ["a.wav[0.25:0.5]", "a.wav[0.75:]"]
    assert [clip.speaker for clip in listed.clips] == ["7", ""]
    first, second = AudioSource(tmp_path / "list.jsonl", RATE)
    np.testing.assert_array_equal(first.array, tone(1.0)[4000:8000])
    np.testing.assert_array_equal(second.array, tone(1.0)[12000:])
    np.testing.assert_allclose(AudioSource(tmp_path / "list.jsonl", RATE).durations, [0.25, 0.25])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file": "a.wav"}, "Entry 1 of .*no `path` but .*file.*name the column"),
        ({"path": "a.wav", "start": "x"}, "`start` = 'x'; give seconds"),
        ({"path": "a.wav", "start": -1}, "`start` = -1; give seconds"),
        ({"path": "a.wav", "end": 1e308}, r"`end` = 1e\+308; give seconds"),
        ({"path": "a.wav", "end": 10**400}, "`end` = 1000"),
        ({"path": "a.wav", "end": True}, "`end` = True; give seconds"),
        ({"path": "a.wav", "start": [1]}, r"`start` = \[1\]; give seconds"),
        ({"path": 3}, "`path` = 3; give the path of an audio file as text"),
        ({"path": ["a.wav"]}, r"`path` = \['a.wav'\]; give the path"),
        ({"path": "a.wav", "start": 2, "end": 1}, "ends at 1.0 s, but starts at 2.0 s"),
        (["a.wav"], "give one object a line"),
    ],
)
def test_bad_list_is_one_clear_error(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        list_clips(write_lines(tmp_path / "list.jsonl", row))


def test_line_that_is_not_json_is_shown(tmp_path):
    (tmp_path / "list.jsonl").write_text("a.wav\n")
    with pytest.raises(ValueError, match="a line that is not JSON.*a.wav"):
        list_clips(tmp_path / "list.jsonl")


def test_table_of_a_spreadsheet_program_is_read(tmp_path):
    (tmp_path / "list.csv").write_text("path,accent\na.wav,irish\n", encoding="utf-8-sig")  # begins with a mark
    assert list_clips(tmp_path / "list.csv").clips[0].accent == "irish"


def test_only_a_line_feed_ends_an_entry(tmp_path):
    texts = ["a\u2028b", "a\x85b\x0cc"]
    rows = [json.dumps({"path": f"{text}.wav", "text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "a.jsonl").write_text("\r\n".join(rows), encoding="utf-8")
    (tmp_path / "a.txt").write_text("".join(f"{text}.wav\n" for text in texts), encoding="utf-8")
    (tmp_path / "a.csv").write_text(
        "path, text\n" + "".join(f"{text}.wav, {text}\n" for text in texts), encoding="utf-8"
    )
    for ending in ("jsonl", "txt", "csv"):
        clips = list_clips(tmp_path / f"a.{ending}").clips
        assert [clip.name for clip in clips] == [f"{text}.wav" for text in texts]
        assert [clip.text for clip in clips] == (["", ""] if ending == "txt" else texts)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav,oh, no", "Entry 1 of .*list.csv has more values than the header has columns, such as 'no'"),
        ('a.wav,"oh\nb.wav,ah', "list.csv is not CSV .*unexpected end of data"),
    ],
)
def test_a_table_without_its_quotes_is_refused(tmp_path, row, message):
    (tmp_path / "list.csv").write_text(f"path,text\n{row}\n")
    with pytest.raises(ValueError, match=message):
        list_clips(tmp_path / "list.csv")


def test_missing_path_suggests_the_nearest(tmp_path):
    (tmp_path / "train.parquet").touch()
    with pytest.raises(FileNotFoundError, match=r"no .*trian.parquet \(did you mean .*train.parquet\?\); give an"):
        list_clips(tmp_path / "trian.parquet")


def test_folder_of_tables_is_not_taken_whole(tmp_path):
    (tmp_path / "train.parquet").touch()
    with pytest.raises(ValueError, match="no audio files but 1 parquet files.*name those to use"):
        list_clips(tmp_path)


def test_bad_parquet_is_one_clear_error(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="a.parquet is not a parquet file that can be read"):
        list_clips(tmp_path / "a.parquet")
    for kind, column in (("int64", [1, 2]), ("string", ["a.wav", "b.wav"]), ("list", [[0.1], [0.2]])):
        pq.write_table(pa.table({"audio": column}), tmp_path / "c.parquet")
        with pytest.raises(ValueError, match=f"a column `audio` of {kind}.*; it must hold encoded files"):
            list_clips(tmp_path / "c.parquet")
    pq.write_table(pa.table({"sound": [b""], "text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"the columns \['sound', 'text'\] but no `audio`"):
        list_clips(tmp_path / "b.parquet")


def test_parquet_rows_are_read_from_any_row_group(tmp_path):
    clips = [encoded(tone(0.1, frequency)) for frequency in (200, 300, 400, 500, 600)]
    table = {"sound": [{"bytes": clip, "path": None} for clip in clips], "speaker": [0, 1, 2, None, 4]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=2)
    listed = list_clips(tmp_path / "a.parquet")
    assert [clip.speaker for clip in listed.clips] == ["0", "1", "2", "", "4"]
    reader = ClipReader(listed.datasets)
    reader.read(listed.clips[0])
    reader = copy.deepcopy(reader)  # by way of its state, as it goes to another process
    for row in (4, 0, 3, 2, 1):
        assert reader.read(listed.clips[row]) == clips[row]


def test_parquet_may_name_files_beside_it(tmp_path):
    sf.write(tmp_path / "a.wav", tone(0.1), RATE)
    table = {
        "audio": pa.array([{"bytes": None, "path": "a.wav"}], pa.struct([("bytes", "binary"), ("path", "string")]))
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    listed = list_clips(tmp_path / "t.parquet")
    assert ClipReader({}).read(listed.clips[0]) == tmp_path / "a.wav"


def test_parquet_may_hold_bytes_alone(tmp_path):
    pq.write_table(pa.table({"audio": [encoded(tone(0.1)), None]}), tmp_path / "t.parquet")
    listed = list_clips(tmp_path / "t.parquet")
    read = [ClipReader({}).read(clip) for clip in listed.clips]
    assert len(decode_audio(read[0], RATE)) == 1600
    assert read[1] == b""


def test_recording_listed_twice_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [encoded(tone(0.1))])
    check_unique(list_clips(path))
    with pytest.raises(ValueError, match="1 recordings are listed twice, such as .*a.parquet#0"):
        check_unique(list_clips([path, path]))
