# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Render MIDI files of piano music with fluidsynth.

In: parquet files with a column `midi` (and `path`, `composer`, `title`, `source`); out: a folder of FLAC files, and
their list `recordings.jsonl`.
"""

import io
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
import soxr

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.evaluation.metrics.midi_notes import open_midi
from audiolm_hf.files import write_bytes, write_text
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import InputPath, OutputPath, Positive, Seed, Settings
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.run import one_run

SYNTHESIS_RATE = 44100  # Hz
LEVEL_DB = -24.0  # loudness of a piece (root mean square)
HIGHEST_PEAK = 0.9
_LARGEST_TRANSPOSITION = 12  # semitones; larger ones are not realistic for piano music
_LARGEST_TEMPO_CHANGE = 2.0
_MIDI_NOTES = 128
_MAX_TICKS = 2**15 - 1  # of a beat in a MIDI file


@dataclass
class RenderConfig(Settings):
    """Configuration of rendering."""

    data: AudioDataConfig  # parquet files with a column `midi`, in `train`
    output_folder: OutputPath  # folder for FLAC files and `recordings.jsonl`
    # SF2 file of the piano; the default is installed by Debian's `fluid-soundfont-gm`
    soundfont: InputPath = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
    sampling_rate: Annotated[int, Within(1000, 384000, whole=True)] = 16000  # sampling rate of the recordings, in Hz
    max_length_s: Positive | None = None  # seconds of each piece, from its beginning; all by default
    # largest transposition in semitones. If it is above 0, every piece is transposed up or down by a random interval
    # of at least 1 semitone.
    max_transposition: Annotated[int, Within(0, _LARGEST_TRANSPOSITION, whole=True)] = 0
    # largest factor of the tempo. If it is above 1, every piece is played faster or slower by a random factor.
    max_tempo_change: Annotated[float, Within(1, _LARGEST_TEMPO_CHANGE)] = 1.0
    seed: Seed = 0  # random seed of the transpositions and tempos


def check_synthesizer(soundfont: str) -> None:
    """Check that fluidsynth and the soundfont are installed; the error names their packages."""
    if shutil.which("fluidsynth") is None:
        raise FileNotFoundError("The program fluidsynth is not installed; install it (Debian: `fluidsynth`).")
    if not Path(soundfont).is_file():
        raise FileNotFoundError(f"There is no soundfont {soundfont}; install one (Debian: `fluid-soundfont-gm`).")


def render(config: RenderConfig, overwrite: bool = False) -> Path:
    """Render all pieces that are not yet rendered, and return the path of their list."""
    check_synthesizer(config.soundfont)
    return _render(config, overwrite=overwrite)


@one_run("render", "recordings.jsonl", alone=True)
def _render(config: RenderConfig) -> None:
    output = Path(config.output_folder)
    pieces = list(_read_pieces(config))
    lines = []
    for piece in progress_bar(pieces, desc="render", unit="piece"):
        name = re.sub(r"[^A-Za-z0-9]+", "_", str(Path(piece["path"]).with_suffix("")))
        path = output / f"{name}.flac"
        if not path.exists():
            midi = varied(piece["midi"], *_draw_variation(piece["path"], config))
            write_bytes(path, render_piece(midi, config.soundfont, config.sampling_rate, config.max_length_s))
        composer, title, source = (piece.get(key) or "" for key in ("composer", "title", "source"))
        labels = {"speaker": composer, "text": f"{composer}: {title}", "source": source}
        lines.append(json.dumps({"path": path.name, **labels}))
    write_text(output / "recordings.jsonl", "\n".join(lines) + "\n")


def _draw_variation(path: str, config: RenderConfig) -> tuple[int, float]:
    """Draw a piece's semitones and tempo from the seed and its path alone, so that a resumed run draws them again."""
    rng = np.random.default_rng([config.seed, *path.encode()])
    shifts = [sign * size for size in range(1, config.max_transposition + 1) for sign in (1, -1)]
    semitones = int(rng.choice(shifts)) if shifts else 0
    return semitones, float(config.max_tempo_change ** rng.uniform(-1, 1))


def _read_pieces(config: RenderConfig) -> Iterator[dict[str, Any]]:
    for path in config.data.train_paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no {path}; give parquet files with MIDI in a column `midi`.")
        try:
            table = pq.read_table(path)
        except pa.ArrowException as error:
            raise ValueError(f"{path} cannot be read as parquet ({error}); make or copy it again.") from None
        if "midi" not in table.column_names:
            raise ValueError(f"{path} has no column `midi`; it has {', '.join(table.column_names)}.")
        yield from table.to_pylist()


def varied(midi: bytes, semitones: int, tempo: float = 1.0) -> bytes:
    """Return a MIDI file transposed by `semitones` and played `tempo` times as fast.

    A note that would leave MIDI's range is transposed by an octave less.
    """
    if semitones == 0 and tempo == 1:
        return midi
    file = open_midi(midi)
    file.ticks_per_beat = min(_MAX_TICKS, max(1, round(file.ticks_per_beat * tempo)))  # a tick is then shorter
    for track in file.tracks:
        for message in track:
            if message.type in ("note_on", "note_off", "polytouch"):
                note = message.note + semitones
                message.note = note if 0 <= note < _MIDI_NOTES else note - int(np.copysign(12, semitones))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def render_piece(midi: bytes, soundfont: str, sampling_rate: int, max_length_s: float | None = None) -> bytes:
    """Render a piece, or its first `max_length_s`, to a mono FLAC file of 16 bit with the common loudness."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        source.write_bytes(midi)
        command = ["fluidsynth", "-q", "-n", "-i", "-C", "0", "-R", "1", "-g", "0.5", "-r", str(SYNTHESIS_RATE)]
        command += ["-T", "wav", "-O", "float", "-F", str(target), soundfont, str(source)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not target.is_file():
            raise ValueError(f"fluidsynth cannot play a piece: {result.stderr.strip() or 'no output'}.")
        samples, _ = sf.read(target, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), SYNTHESIS_RATE, sampling_rate, quality="VHQ")
    if max_length_s is not None:
        mono = mono[: round(max_length_s * sampling_rate)]
    rms, peak = np.sqrt(np.mean(mono**2)) + 1e-9, np.abs(mono).max() + 1e-9
    mono = mono * min(10 ** (LEVEL_DB / 20) / rms, HIGHEST_PEAK / peak)
    buffer = io.BytesIO()
    sf.write(buffer, mono, sampling_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
