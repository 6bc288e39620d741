# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The recordings of one voice (or one instrument): which a model is adapted to, and which are kept for evaluation.

Adaptation and its evaluation both choose here, in the order of the data, so that no recording is on both sides. A
recording is identified by its original (`source`) if the data has it, so that copies in several files are one.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from audiolm_hf.data.audio import AudioRecord, AudioSource


def recording_name(record: AudioRecord) -> str:
    """Name a recording by its original, or by its file (and row) where that is not known."""
    return record.source or re.sub(r" \(\d+\)(?=[#\[]|$)", "", Path(record.id).name)  # without the number in a listing


def read_voice(source: AudioSource, speaker: str | None = None) -> list[AudioRecord]:
    """Decode all recordings of one speaker, in order; without a label of the speaker, all recordings are one voice."""
    records = list(source)
    chosen = [record for record in records if speaker is None or record.speaker == speaker]
    if not chosen:
        known = sorted({record.speaker for record in records})
        raise ValueError(f"There is no recording of the speaker {speaker!r}; the data has {known}.")
    return chosen


def split_voice(
    records: Sequence[AudioRecord], train_minutes: float, validation_minutes: float
) -> tuple[list[AudioRecord], list[AudioRecord]]:
    """Split recordings in their order into training and validation, each of at least the given minutes."""
    train, rest = _take(records, train_minutes)
    validation, _ = _take(rest, validation_minutes)
    if not train or not validation:
        total = sum(record.duration for record in records) / 60
        raise ValueError(
            f"The {len(records)} recordings last {total:.1f} minutes, too short for {train_minutes} to train on and "
            f"{validation_minutes} to validate on; give more recordings or smaller numbers."
        )
    return train, validation


def _take(records: Sequence[AudioRecord], minutes: float) -> tuple[list[AudioRecord], list[AudioRecord]]:
    """Split after the first recordings that together last `minutes`; if all are too short, before the first."""
    length = 0.0
    for place, record in enumerate(records):
        length += record.duration
        if length >= 60 * minutes:
            return list(records[: place + 1]), list(records[place + 1 :])
    return [], list(records)


def leave_out(records: Sequence[AudioRecord], names: Collection[str]) -> list[AudioRecord]:
    """Return the recordings that are not among those named, see [`recording_name`]."""
    return [record for record in records if recording_name(record) not in names]
