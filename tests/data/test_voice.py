# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.voice import leave_out, read_voice, recording_name, split_voice

SECOND = 1 / 60


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eight recordings of a second each; every second one is of ann."""
    folder = tmp_path_factory.mktemp("voices")
    lines = ["path,speaker,source"]
    for number in range(8):
        sf.write(folder / f"{number}.wav", np.full(8000, number / 10), 8000)
        lines.append(f"{number}.wav,{'ann' if number % 2 else 'bob'},{f'book/{number}' if number < 6 else ''}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return AudioSource(folder / "list.csv", 8000)


def numbers(records):
    return [round(float(record.array[0]) * 10) for record in records]


def test_one_speaker_is_read_in_order(source):
    assert numbers(read_voice(source, "ann")) == [1, 3, 5, 7]
    assert numbers(read_voice(source)) == list(range(8))
    with pytest.raises(ValueError, match=r"no recording of the speaker 'eve'; the data has \['ann', 'bob'\]"):
        read_voice(source, "eve")


def test_every_recording_has_one_use(source):
    train, validation = split_voice(read_voice(source), 2.5 * SECOND, 2 * SECOND)
    assert numbers(train) == [0, 1, 2]  # at least so long
    assert numbers(validation) == [3, 4]
    assert numbers(split_voice(read_voice(source), 4 * SECOND, 4 * SECOND)[1]) == [4, 5, 6, 7]


def test_recordings_are_known_by_their_original(source):
    names = [recording_name(record) for record in source]
    assert names[1] == "book/1" and names[7] == "7.wav"
    assert numbers(leave_out(read_voice(source), ["book/1", "7.wav", "book/9"])) == [0, 2, 3, 4, 5, 6]


def test_too_few_recordings_are_an_error(source):
    with pytest.raises(ValueError, match="last 0.1 minutes, too short"):
        split_voice(read_voice(source), SECOND, 1)


def test_the_number_in_a_listing_is_no_part_of_a_name(tmp_path):
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        sf.write(tmp_path / folder / "a (1).wav", np.full(8000, number / 10), 8000)
    records = list(AudioSource([tmp_path / "one", tmp_path / "two"], 8000))
    assert [record.id for record in records] == ["a (1).wav", "a (1).wav (2)"]
    assert [recording_name(record) for record in records] == ["a (1).wav"] * 2
    assert leave_out(AudioSource(tmp_path / "two", 8000), [recording_name(records[1])]) == []
