# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What semantic tokens of piano know: which pitch classes sound, and when notes begin.

In: a checkpoint's tokenizers, rendered excerpts and the MIDI files they were rendered from; out: for each kind of
tokens the part of the labels' entropy that they explain, as a dictionary for a JSON file and as a table.

Paper: AudioLM (arXiv 2209.03143), tokenizers trained on piano.
"""

from pathlib import Path
from typing import Any

import numpy as np

from audiolm_hf.acoustic_codec_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.metrics.information import activity_information, shuffled
from audiolm_hf.evaluation.metrics.midi_notes import Note, note_labels, read_excerpts, read_midi_files, read_notes
from audiolm_hf.evaluation.protocols.token_systems import TokenSystem, token_systems
from audiolm_hf.evaluation.report import format_table
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer

FIGURES = {
    "pitch_class_information": "pitch classes",
    "pitch_class_shuffled": "(shuffled)",
    "onset_information": "onsets",
    "onset_shuffled": "(shuffled)",
}


def notes_of_recordings(test: AudioSource, midi: str | Path) -> dict[str, tuple[list[Note], float]]:
    """Find the notes of rendered excerpts.

    Args:
        test ([`AudioSource`]): parquet files with the columns `source` and `start`.
        midi (`str` or `Path`): parquet file of the MIDI files, with the same `source`.

    Returns:
        `dict`: recording id -> notes of the whole piece, and where the excerpt begins in it, in seconds.

    Raises:
        ValueError: no recording has a MIDI file.
    """
    files = read_midi_files(midi)
    found: dict[str, tuple[list[Note], float]] = {}
    for path in test.paths:
        for name, (source, start) in read_excerpts(path).items():
            if source in files:
                found[name] = (read_notes(files[source]), start)
    if not found:
        raise ValueError(f"No recording of {[str(path) for path in test.paths]} has its `source` in {midi}.")
    return found


def note_figures(
    system: TokenSystem, records: list[AudioRecord], notes: dict[str, tuple[list[Note], float]], seed: int = 0
) -> dict[str, float]:
    """Measure tokens against notes; the keys of `FIGURES`."""
    tokens, pitches, onsets = [], [], []
    for record, row in zip(records, system.tokens, strict=True):
        if record.id in notes:
            sounding, begins = note_labels(*notes[record.id], len(row), system.frame_rate)
            tokens.append(row)
            pitches.append(sounding)
            onsets.append(begins)
    joined, sounding, begins = (np.concatenate(parts) for parts in (tokens, pitches, onsets))
    mixed = shuffled(joined, seed)
    return {
        "pitch_class_information": activity_information(joined, sounding),
        "pitch_class_shuffled": activity_information(mixed, sounding),
        "onset_information": activity_information(joined, begins),
        "onset_shuffled": activity_information(mixed, begins),
    }


def evaluate_piano_tokens(
    tokenizer: AudioLMSemanticTokenizer,
    codec: AcousticCodec | None,
    test: AudioSource,
    train: AudioSource,
    midi: str | Path,
    train_minutes: float = 80.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare semantic tokens of piano with clusters of spectra and with acoustic codes.

    Args:
        tokenizer ([`AudioLMSemanticTokenizer`]): of the semantic tokens.
        codec ([`AcousticCodec`], *optional*): of the acoustic codes.
        test ([`AudioSource`]): rendered excerpts, see [`notes_of_recordings`].
        train ([`AudioSource`]): recordings that the spectral clusters are fitted on.
        midi (`str` or `Path`): the MIDI files of `test`.
        train_minutes (`float`, defaults to 80.0): how much of `train`.
        seed (`int`, defaults to 0): of the clusters and the shuffled tokens.

    Returns:
        `dict`: `systems`, the figures of each kind of tokens; the settings.

    Raises:
        ValueError: no recording has a MIDI file.
    """
    notes = notes_of_recordings(test, midi)
    records = [record for record in test if record.id in notes]
    kinds, _ = token_systems(tokenizer, codec, records, train, train_minutes, seed)
    return {
        "kind": "piano",
        "systems": {name: note_figures(system, records, notes, seed) for name, system in kinds.items()},
        "num_tokens": kinds["semantic tokens"].num_tokens,
        "frame_rate": kinds["semantic tokens"].frame_rate,
        "recordings": len(records),
        "seconds": sum(record.duration for record in records),
        "train_minutes": train_minutes,
        "seed": seed,
    }


def format_piano_token_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`evaluate_piano_tokens`] as a table for a terminal."""
    rows = [[name, *(f"{figures[figure]:.3f}" for figure in FIGURES)] for name, figures in report["systems"].items()]
    parts = [
        f"{report['recordings']} excerpts, {report['seconds']:.0f} s; {report['num_tokens']} tokens at "
        f"{report['frame_rate']:g} Hz; part of the labels' entropy that the tokens explain",
        format_table(["tokens", *FIGURES.values()], rows),
    ]
    return "\n\n".join(parts) + "\n"


__all__ = ["FIGURES", "evaluate_piano_tokens", "format_piano_token_report", "note_figures", "notes_of_recordings"]
