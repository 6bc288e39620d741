# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Labels of rendered piano pieces from their MIDI files, read by `pretty_midi`."""

import io
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import pyarrow.parquet as pq

from audiolm_hf.data.clips import list_clips

_ROLL_RATE = 100  # of the piano roll, Hz
_PEDAL_DOWN = 64  # of 127


def open_midi(midi: bytes) -> mido.MidiFile:
    """Return the tracks of a MIDI file; other bytes raise a `ValueError`."""
    try:
        return mido.MidiFile(file=io.BytesIO(midi))
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"The {len(midi)} bytes are not a MIDI file ({error}); give a standard MIDI file.") from error


def note_labels(midi: bytes, start: float, num_frames: int, frame_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Label the frames of an excerpt that begins `start` seconds into a piece.

    Returns the pitch classes from C that sound at the centre of the frame, with key or pedal down, bool `(frames,
    12)`, and whether a note begins within the frame, bool `(frames, 1)`.
    """
    import pretty_midi  # from the extra `evaluation`

    tracks = open_midi(midi)
    # Merge the tracks, because pretty_midi applies the pedal only to its own track, which may be that of one hand.
    tracks.tracks, tracks.type = [mido.merge_tracks(tracks.tracks)], 0
    piece = pretty_midi.PrettyMIDI(mido_object=tracks)
    roll = piece.get_chroma(fs=_ROLL_RATE, pedal_threshold=_PEDAL_DOWN) > 0  # (12, steps)
    steps = ((start + (np.arange(num_frames) + 0.5) / frame_rate) * _ROLL_RATE).astype(int)
    inside = steps < roll.shape[1]
    sounding = np.zeros((num_frames, 12), dtype=bool)
    sounding[inside] = roll.T[steps[inside]]
    frames = np.floor((piece.get_onsets() - start) * frame_rate).astype(int)
    begins = np.zeros((num_frames, 1), dtype=bool)
    begins[frames[(frames >= 0) & (frames < num_frames)]] = True
    return sounding, begins


def read_excerpts(paths: Sequence[Path]) -> dict[str, tuple[str, float]]:
    """Return the source and the start in seconds of the excerpts in parquet files, by the ids of the recordings."""
    starts = {path: pq.read_table(path, columns=["start"])["start"].to_pylist() for path in paths}
    return {clip.id: (clip.source, starts[clip.path][clip.row]) for clip in list_clips(paths).clips}


def read_midi_files(path: str | Path) -> dict[str, bytes]:
    """Return MIDI files by `source` from a parquet file with the columns `source` and `midi`."""
    rows = pq.read_table(path, columns=["source", "midi"]).to_pylist()
    return {row["source"]: row["midi"] for row in rows}
