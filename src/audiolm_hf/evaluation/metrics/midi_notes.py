# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Which notes sound when: labels of rendered piano pieces, from the MIDI files that they were rendered from.

In: a MIDI file's bytes and where an excerpt of its rendering begins; out: for each frame, which pitch classes sound
and whether a note begins. A note sounds until its key and the pedal are up.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import pyarrow.parquet as pq

_SUSTAIN = 64  # control change; pressed from 64 of 127 up
_LONGEST_S = 4.0  # a piano's string is no longer heard well, whatever the pedal says


@dataclass(frozen=True)
class Note:
    """A note of a piece.

    Args:
        pitch (`int`): MIDI number, 60 for middle C.
        onset (`float`): seconds from the piece's start.
        offset (`float`): when key and pedal are up, in seconds.
    """

    pitch: int
    onset: float
    offset: float


def open_midi(midi: bytes) -> mido.MidiFile:
    """Parse the bytes of a MIDI file.

    Args:
        midi (`bytes`): the file.

    Returns:
        `mido.MidiFile`: its tracks.

    Raises:
        ValueError: the bytes are no MIDI file.
    """
    try:
        return mido.MidiFile(file=io.BytesIO(midi))
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"The {len(midi)} bytes are no MIDI file ({error}); give a standard MIDI file.") from error


def read_notes(midi: bytes) -> list[Note]:
    """List the notes of a MIDI file.

    Args:
        midi (`bytes`): the file.

    Returns:
        `list[Note]`: by onset.

    Raises:
        ValueError: the bytes are no MIDI file.
    """
    messages = open_midi(midi)
    time = 0.0
    pressed: dict[tuple[int, int], float] = {}
    held: dict[tuple[int, int], float] = {}  # keys are up, the pedal is down
    pedal: dict[int, bool] = {}
    notes: list[Note] = []
    for message in messages:
        time += message.time
        if message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            for sounding in (pressed, held):  # struck again, or let go
                if key not in sounding:
                    continue
                if message.type == "note_on" and message.velocity:
                    notes.append(_note(key, sounding.pop(key), time))
                elif sounding is pressed and pedal.get(message.channel):
                    held[key] = pressed.pop(key)
                    break
                elif sounding is pressed:
                    notes.append(_note(key, pressed.pop(key), time))
            if message.type == "note_on" and message.velocity:
                pressed[key] = time
        elif message.type == "control_change" and message.control == _SUSTAIN:
            pedal[message.channel] = message.value >= 64
            for key in [key for key in held if key[0] == message.channel and not pedal[message.channel]]:
                notes.append(_note(key, held.pop(key), time))
    notes += [_note(key, onset, time) for sounding in (pressed, held) for key, onset in sounding.items()]
    return sorted(notes, key=lambda note: (note.onset, note.pitch))


def _note(key: tuple[int, int], onset: float, offset: float) -> Note:
    return Note(key[1], onset, min(offset, onset + _LONGEST_S))


def note_labels(notes: list[Note], start: float, num_frames: int, frame_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Label the frames of an excerpt.

    Args:
        notes (`list[Note]`): of the whole piece.
        start (`float`): where the excerpt begins in the piece, in seconds.
        num_frames (`int`): frames of the excerpt.
        frame_rate (`float`): frames a second, Hz.

    Returns:
        `np.ndarray` of shape `(frames, 12)`, bool: pitch classes from C that sound in the middle of the frame; and
        `np.ndarray` of shape `(frames, 1)`, bool: a note begins within the frame.
    """
    middles = start + (np.arange(num_frames) + 0.5) / frame_rate
    sounding = np.zeros((num_frames, 12), dtype=bool)
    begins = np.zeros((num_frames, 1), dtype=bool)
    for note in notes:
        sounding[(middles >= note.onset) & (middles < note.offset), note.pitch % 12] = True
        frame = int(np.floor((note.onset - start) * frame_rate))
        if 0 <= frame < num_frames:
            begins[frame] = True
    return sounding, begins


def read_excerpts(path: str | Path) -> dict[str, tuple[str, float]]:
    """Read from which piece, and from where in it, the rows of a parquet file of rendered excerpts are.

    Args:
        path (`str` or `Path`): parquet file with the columns `source` and `start`.

    Returns:
        `dict`: recording id (`path#row`) -> source of the MIDI file, and start in seconds.
    """
    rows = pq.read_table(path, columns=["source", "start"]).to_pylist()
    return {f"{Path(path).as_posix()}#{row}": (entry["source"], entry["start"]) for row, entry in enumerate(rows)}


def read_midi_files(path: str | Path) -> dict[str, bytes]:
    """Read MIDI files by their `source` from a parquet file with the columns `source` and `midi`."""
    rows = pq.read_table(path, columns=["source", "midi"]).to_pylist()
    return {row["source"]: row["midi"] for row in rows}


__all__ = ["Note", "note_labels", "open_midi", "read_excerpts", "read_midi_files", "read_notes"]
