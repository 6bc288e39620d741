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
from audiolm_hf.evaluation.metrics.midi_notes import note_labels, open_midi
from audiolm_hf.evaluation.protocols.tokens import evaluate_piano_tokens, format_tokens
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


def labels(*messages, start=0.0, num_frames=20, pitch=60):
    """Frames of 0.1 s in which a pitch sounds, and in which any note begins."""
    sounding, begins = note_labels(midi_file(messages), start, num_frames, 10.0)
    return np.flatnonzero(sounding[:, pitch % 12]).tolist(), np.flatnonzero(begins[:, 0]).tolist()


def test_notes_end_with_the_key_or_the_pedal():
    played = [on(60), off(60, 500), pedal(True), on(64), off(64, 250), on(67, 250), pedal(False, 500), off(67, 250)]
    assert labels(*played) == ([0, 1, 2, 3, 4], [0, 5, 10])
    assert labels(*played, pitch=64)[0] == list(range(5, 15))
    assert labels(*played, pitch=67)[0] == list(range(10, 17))


def test_the_pedal_of_one_hand_holds_the_notes_of_both():
    tracks = [[on(60), off(60, 200), on(62, 800), off(62, 100)], [pedal(True), pedal(False, 600)]]
    merged = mido.MidiFile(ticks_per_beat=1000, tracks=[mido.MidiTrack(track) for track in tracks])
    merged.tracks[0].insert(0, mido.MetaMessage("set_tempo", tempo=1_000_000))
    buffer = io.BytesIO()
    merged.save(file=buffer)
    assert np.flatnonzero(note_labels(buffer.getvalue(), 0.0, 12, 10.0)[0][:, 0]).tolist() == list(range(6))


def test_labels_count_from_the_start_of_the_excerpt_and_end_with_the_piece():
    played = [on(60), off(60, 1050), on(73, 160), off(73, 190)]
    assert labels(*played, start=1.0, num_frames=5, pitch=61) == ([2, 3], [2])
    assert labels(*played, start=1.5, num_frames=5) == ([], [])


def test_other_bytes_are_refused():
    for read in (open_midi, lambda midi: note_labels(midi, 0.0, 5, 10.0)):
        with pytest.raises(ValueError, match="9 bytes are not a MIDI file"):
            read(b"not music")


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
    assert "2 excerpts, 16 s\n\n20 tokens at 25 Hz" in format_tokens(report)
    pq.write_table(pa.Table.from_pylist([{"source": "x", "midi": b""}]), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="No recording of .* has its `source`"):
        evaluate_piano_tokens(tiny_audiolm.semantic_tokenizer, None, source, source, tmp_path / "other.parquet")
    assert np.isfinite(list(mel.values())).all()
