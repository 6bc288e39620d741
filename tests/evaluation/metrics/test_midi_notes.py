# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Notes of made MIDI files with and without pedal, and tokens that know them."""

import io
import json

import mido
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.midi_notes import Note, note_labels, read_notes
from audiolm_hf.evaluation.protocols.piano_tokens import evaluate_piano_tokens, format_piano_token_report
from tests.helpers_sounds import C_MAJOR, RATE, notes


def midi_file(messages, ticks=1000):
    """Bytes of a file whose message times are milliseconds after the one before."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000), *messages])
    file = mido.MidiFile(ticks_per_beat=ticks, tracks=[track])
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def on(pitch, time=0, velocity=80):
    return mido.Message("note_on", note=pitch, velocity=velocity, time=time)


def off(pitch, time=0):
    return mido.Message("note_off", note=pitch, time=time)


def pedal(down, time=0):
    return mido.Message("control_change", control=64, value=127 if down else 0, time=time)


def test_notes_end_with_the_key_or_the_pedal():
    found = read_notes(
        midi_file(
            [on(60), off(60, 500), pedal(True), on(64), off(64, 250), on(67, 250), pedal(False, 500), off(67, 250)]
        )
    )
    expected = [Note(60, 0.0, 0.5), Note(64, 0.5, 1.5), Note(67, 1.0, 1.75)]
    assert [(n.pitch, round(n.onset, 6), round(n.offset, 6)) for n in found] == [
        (n.pitch, n.onset, n.offset) for n in expected
    ]


def test_a_note_struck_again_ends_the_one_before():
    found = read_notes(
        midi_file([pedal(True), on(60), off(60, 200), on(60, 300), on(60, 500, velocity=0), pedal(False, 100)])
    )
    assert [(round(n.onset, 3), round(n.offset, 3)) for n in found] == [(0.0, 0.5), (0.5, 1.1)]


def test_notes_fade_and_unended_ones_end_with_the_file():
    found = read_notes(midi_file([on(60), on(62, 9000), off(64, 1000)]))
    assert [(n.pitch, n.offset) for n in found] == [(60, 4.0), (62, 10.0)]


def test_other_bytes_are_refused():
    with pytest.raises(ValueError, match="9 bytes are no MIDI file"):
        read_notes(b"not music")


def test_labels_count_from_the_start_of_the_excerpt():
    sounding, begins = note_labels([Note(60, 0.0, 1.05), Note(73, 1.21, 1.4), Note(62, 2.0, 3.0)], 1.0, 5, 10.0)
    assert sounding[:, 0].tolist() == [False] * 5  # the middle of the first frame is at 1.05
    assert sounding[:, 1].tolist() == [False, False, True, True, False]
    assert begins[:, 0].tolist() == [False, False, True, False, False]


def test_tokens_of_notes_know_more_than_shuffled_ones(tiny_audiolm, tmp_path):
    rows, files = [], []
    for number, shift in enumerate((0, 4)):
        pitches = [pitch + shift for pitch in C_MAJOR * 3]
        buffer = io.BytesIO()
        sf.write(buffer, notes(pitches, 0.25)[RATE:], RATE, format="WAV")
        rows.append({"audio": {"bytes": buffer.getvalue(), "path": None}, "source": str(number), "start": 1.0})
        messages = [message for pitch in pitches for message in (on(pitch), off(pitch, 250))]
        files.append({"source": str(number), "midi": midi_file(messages)})
    for name, content in (("audio", rows), ("midi", files)):
        pq.write_table(pa.Table.from_pylist(content), tmp_path / f"{name}.parquet")
    source = AudioSource(tmp_path / "audio.parquet", RATE)
    report = evaluate_piano_tokens(
        tiny_audiolm.semantic_tokenizer, tiny_audiolm.acoustic_codec, source, source, tmp_path / "midi.parquet"
    )
    json.dumps(report)
    mel = report["systems"]["k-means on log-mel"]
    assert mel["pitch_class_information"] > 2 * mel["pitch_class_shuffled"]
    assert mel["onset_information"] > 2 * mel["onset_shuffled"]
    assert next(iter(report["systems"])) == "semantic tokens" and "acoustic codes, level 0" in report["systems"]
    assert "2 excerpts, 16 s; 20 tokens" in format_piano_token_report(report)
    pq.write_table(pa.Table.from_pylist([{"source": "x", "midi": b""}]), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="No recording of .* has its `source`"):
        evaluate_piano_tokens(tiny_audiolm.semantic_tokenizer, None, source, source, tmp_path / "other.parquet")
    assert np.isfinite(list(mel.values())).all()
