# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Piano rendered from MIDI: pitch, level, resuming, and the errors."""

import io
import json
import shutil
from pathlib import Path

import mido
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.midi_notes import open_midi
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.recipe import run_training
from audiolm_hf.training.render import RenderConfig, _draw_variation, _read_pieces, render, varied

SOUNDFONT = Path(RenderConfig.soundfont)
needs_synthesizer = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not SOUNDFONT.is_file(), reason="fluidsynth or its soundfont is missing"
)


def one_note(pitch: int) -> bytes:
    """A MIDI file that holds a note for two seconds."""
    track = mido.MidiTrack([mido.Message("note_on", note=pitch, velocity=90)])
    track.append(mido.Message("note_off", note=pitch, time=1920))  # 480 ticks are half a second
    buffer = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(file=buffer)
    return buffer.getvalue()


@pytest.fixture
def pieces(tmp_path: Path) -> Path:
    rows = [
        {"midi": one_note(pitch), "path": f"Bach/no {pitch}.mid", "composer": "Bach", "title": f"No. {pitch}"}
        for pitch in (57, 69)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "midi.parquet")
    return tmp_path


def midi(folder: Path, name: str = "midi.parquet") -> AudioDataConfig:
    return AudioDataConfig(str(folder), [name])


@needs_synthesizer
def test_pieces_sound_at_their_pitch_and_level(pieces: Path):
    manifest = run_training(write_yaml(pieces))
    source = AudioSource([manifest], 16000)
    assert [source[index].speaker for index in range(2)] == ["Bach", "Bach"]
    for index, frequency in enumerate((220.0, 440.0)):
        samples = source[index].array
        assert np.sqrt(np.mean(samples**2)) == pytest.approx(10 ** (-24 / 20), rel=0.02)
        spectrum = np.abs(np.fft.rfft(samples[:16000] * np.hanning(16000)))
        assert spectrum[int(frequency) - 4 : int(frequency) + 5].max() > 0.5 * spectrum.max()


def write_yaml(folder: Path) -> Path:
    path = folder / "render.yaml"
    path.write_text(f"kind: render\ndata: {{folder: {folder}, train: [midi.parquet]}}\noutput_folder: {folder}/out\n")
    return path


@needs_synthesizer
def test_finished_pieces_are_not_rendered_again(pieces: Path):
    config = RenderConfig(midi(pieces), str(pieces / "out"), max_length_s=0.5)
    lines = [json.loads(line) for line in render(config).read_text().splitlines()]
    first, second = (pieces / "out" / line["path"] for line in lines)
    assert sf.info(first).frames == 8000
    before, kept = first.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    render(config)
    assert first.stat().st_mtime_ns == kept
    assert first.read_bytes() == before
    assert sf.info(second).frames == 8000


def pitches_and_times(midi: bytes) -> list[tuple[int, float]]:
    """Pitches of the messages that begin and end notes, and seconds since the message before."""
    return [(message.note, message.time) for message in open_midi(midi) if hasattr(message, "note")]


def test_transposed_notes_move_and_keep_their_times():
    for semitones in (-5, 0, 3):
        assert pitches_and_times(varied(one_note(60), semitones)) == [(60 + semitones, 0.0), (60 + semitones, 2.0)]
    assert {pitch for pitch, _ in pitches_and_times(varied(one_note(125), 5))} == {118}  # 130 is no note
    with pytest.raises(ValueError, match="are not a MIDI file"):
        varied(b"no midi", 1)


def test_notes_are_played_faster_or_slower():
    for tempo in (0.8, 1.0, 1.25):
        (_, start), (pitch, length) = pitches_and_times(varied(one_note(60), 1, tempo))
        assert (pitch, start) == (61, 0.0)
        assert length == pytest.approx(2.0 / tempo, rel=2e-3)


def test_variations_are_drawn_from_seed_and_path(pieces: Path):
    def drawn(**changes):
        config = RenderConfig(midi(pieces), "out", **changes)
        return [_draw_variation(f"Bach/{number}.mid", config) for number in range(200)]

    assert set(drawn()) == {(0, 1.0)}
    both, alone = drawn(max_transposition=2, max_tempo_change=1.2), drawn(max_transposition=2)
    assert [semitones for semitones, _ in both] == [semitones for semitones, _ in alone]
    assert {semitones for semitones, _ in both} == {-2, -1, 1, 2}
    tempos = [tempo for _, tempo in both]
    assert min(tempos) < 0.9 < 1.1 < max(tempos)
    assert 1 / 1.2 <= min(tempos) <= max(tempos) <= 1.2
    assert drawn(max_tempo_change=1.2, seed=1) != drawn(max_tempo_change=1.2)


@needs_synthesizer
def test_every_piece_has_its_own_transposition(pieces: Path):
    rows = [{"midi": one_note(60), "path": f"Bach/{number}.mid"} for number in range(6)]
    pq.write_table(pa.Table.from_pylist(rows), pieces / "many.parquet")
    render(RenderConfig(midi(pieces, "many.parquet"), str(pieces / "out"), max_length_s=1.0, max_transposition=2))
    shifts = []
    for path in sorted((pieces / "out").glob("*.flac")):
        spectrum = np.abs(np.fft.rfft(sf.read(path)[0] * np.hanning(16000)))
        shifts.append(round(69 + 12 * np.log2(np.argmax(spectrum) / 440)) - 60)
    assert set(shifts) <= {-2, -1, 1, 2}
    assert len(set(shifts)) > 1
    with pytest.raises(ValueError, match="max_transposition is 13; give an integer from 0 to 12"):
        RenderConfig(midi(pieces), "out", max_transposition=13)
    with pytest.raises(ValueError, match="max_tempo_change is 0.9; give a number from 1 to 2"):
        RenderConfig(midi(pieces), "out", max_tempo_change=0.9)


def test_a_missing_program_is_named(pieces: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(pieces))
    with pytest.raises(FileNotFoundError, match="fluidsynth is not installed; install it .Debian: `fluidsynth`"):
        render(RenderConfig(midi(pieces), str(pieces / "out")))


def test_a_file_that_is_cut_off_is_named(pieces: Path):
    whole = next(pieces.glob("*.parquet")).read_bytes()
    (pieces / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.parquet cannot be read as parquet .*; make or copy it again"):
        next(_read_pieces(RenderConfig(midi(pieces, "cut.parquet"), str(pieces / "out"))))


@needs_synthesizer
def test_what_cannot_be_rendered_is_refused(pieces: Path):
    output = str(pieces / "out")
    with pytest.raises(FileNotFoundError, match="no soundfont"):
        render(RenderConfig(midi(pieces), output, soundfont=str(pieces / "none.sf2")))
    with pytest.raises(FileNotFoundError, match=r"other\.parquet"):
        render(RenderConfig(midi(pieces, "other.parquet"), output))
    pq.write_table(pa.table({"audio": [b""]}), pieces / "audio.parquet")
    with pytest.raises(ValueError, match="no column `midi`; it has audio"):
        render(RenderConfig(midi(pieces, "audio.parquet"), output))
    rows = [{"midi": b"no midi", "path": "a.mid"}]
    pq.write_table(pa.Table.from_pylist(rows), pieces / "broken.parquet")
    with pytest.raises(ValueError, match="cannot play a piece"):
        render(RenderConfig(midi(pieces, "broken.parquet"), output))
