# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf data`: the archives of the recipes, in small and made here, become the folder that the recipes read."""

import csv
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import datasets
import mido
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import yaml

from audiolm_hf import cli
from audiolm_hf.commands.data import read_corpora
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.corpora import as_flac, read_lists
from audiolm_hf.training.render import RenderConfig
from tests.helpers_checkpoint import DATA, ROOT

CLIPS = {"19-198-0008": "train", "118-47824-0071": "validation", "7859-102519-0047": "test"}
CONFIGS = ROOT / "configs" / "data"


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def librispeech_archive(path: Path) -> None:
    """The layout of https://www.openslr.org/31."""
    speakers = ";ID |SEX| SUBSET |MINUTES| NAME\n19 | F | x | 25 | A\n118 | M | x | 25 | B\n7859 | F | x | 25 | C\n"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "LibriSpeech/SPEAKERS.TXT", speakers.encode())
        for clip in CLIPS:
            speaker, chapter, _ = clip.split("-")
            folder = f"LibriSpeech/train-clean-5/{speaker}/{chapter}"
            add(archive, f"{folder}/{clip}.flac", (DATA / f"librispeech_{clip}.flac").read_bytes())
            add(archive, f"{folder}/{clip[:-1]}9.flac", b"a recording that is not asked for")
            add(archive, f"{folder}/{speaker}-{chapter}.trans.txt", f"{clip} WORDS OF {speaker}\n".encode())


def ljspeech_archive(path: Path) -> None:
    """The layout of LJSpeech-1.1."""
    with tarfile.open(path, "w:bz2") as archive:
        add(archive, "LJSpeech-1.1/metadata.csv", b"LJ1|Mr. 1|Mister One\nLJ2|two|two\nLJ3|three|three\n")
        for number in (1, 2, 3):
            buffer = io.BytesIO()
            tone = 0.1 * np.sin(np.arange(22050) * 0.05 * number) + 0.01  # with a constant offset
            sf.write(buffer, tone, 22050, format="WAV", subtype="PCM_16")
            add(archive, f"LJSpeech-1.1/wavs/LJ{number}.wav", buffer.getvalue())


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """A configuration like configs/data/speech.yaml, and the archives of its corpora."""
    monkeypatch.chdir(tmp_path)
    librispeech_archive(tmp_path / "libri.tar.gz")
    ljspeech_archive(tmp_path / "lj.tar.bz2")
    for clip, split in CLIPS.items():
        (tmp_path / f"libri_{split}.txt").write_text(f"{clip}\n")
    for number, split in enumerate(("train", "validation", "test"), start=1):
        (tmp_path / f"lj_{split}.txt").write_text(f"LJ{number}\n")
    corpora = {
        name: {
            "layout": layout,
            "url": f"http://127.0.0.1:1/{file}",
            "digest": digest(tmp_path / file),
            "splits": {split: f"{short}_{split}.txt" for split in ("train", "validation", "test")},
        }
        for name, layout, file, short in (
            ("librispeech", "librispeech", "libri.tar.gz", "libri"),
            ("ljspeech", "ljspeech", "lj.tar.bz2", "lj"),
        )
    }
    (tmp_path / "speech.yaml").write_text(yaml.safe_dump({"corpora": corpora}))
    return tmp_path


ARCHIVES = ["--archive", "librispeech=libri.tar.gz", "--archive", "ljspeech=lj.tar.bz2"]


def run(*options: str, archives=ARCHIVES) -> int:
    return cli.main(["data", "--config", "speech.yaml", "-o", "DATA", *archives, *options])


def test_the_folder_of_the_recipes_is_built(speech, capsys):
    assert run() == 0
    assert "DATA/librispeech/train.parquet: 1 recordings, 1 speakers or composers, 0.0 min" in capsys.readouterr().out
    (record,) = AudioSource(Path("DATA/librispeech/train.parquet"))
    np.testing.assert_array_equal(record.array, sf.read(DATA / "librispeech_19-198-0008.flac", dtype="float32")[0])
    assert (record.speaker, record.text, record.accent) == ("libri-19", "WORDS OF 19", "unlabelled")
    assert record.source.endswith("libri.tar.gz:LibriSpeech/train-clean-5/19/198/19-198-0008.flac")
    (row,) = pq.read_table("DATA/librispeech/validation.parquet").to_pylist()
    assert row["gender"] == "male" and row["duration"] == pytest.approx(2.905, abs=0.1)
    (record,) = AudioSource(Path("DATA/ljspeech/train.parquet"))
    assert (record.speaker, record.text) == ("ljspeech-lj", "Mister One")
    assert len(record.array) == 16000 and abs(record.array.mean()) < 1e-4 and np.abs(record.array).max() > 0.09


def test_datasets_reads_the_files_as_audio(speech, tmp_path):
    assert run() == 0
    files = str(speech / "DATA/ljspeech/test.parquet")
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert table.features["audio"] == datasets.Audio(sampling_rate=16000) and table.num_rows == 1


def test_a_second_run_makes_nothing_again(speech, capsys):
    assert run() == 0
    written = Path("DATA/librispeech/train.parquet").stat().st_mtime_ns
    (speech / "libri.tar.gz").unlink()
    shutil.copy("lj.tar.bz2", "libri.tar.gz")  # would fail if it were read
    assert run() == 0
    assert capsys.readouterr().out.count("done before") == 2
    assert Path("DATA/librispeech/train.parquet").stat().st_mtime_ns == written


def test_other_lists_are_refused_or_replace(speech, capsys):
    assert run() == 0
    (speech / "libri_train.txt").write_text("7859-102519-0047\n")
    (speech / "libri_test.txt").write_text("19-198-0008\n")
    assert run() == 1
    assert "DATA/librispeech holds another run; different: lists.test " in capsys.readouterr().err
    assert run("--overwrite") == 0
    (record,) = AudioSource(Path("DATA/librispeech/test.parquet"))
    assert record.speaker == "libri-19"


def test_an_unpacked_archive_is_read(speech):
    with tarfile.open("libri.tar.gz") as archive:
        archive.extractall("unpacked", filter="data")
    assert run(archives=["--archive", "librispeech=unpacked", *ARCHIVES[2:]]) == 0
    assert len(AudioSource(Path("DATA/librispeech/test.parquet"))) == 1


def test_an_archive_that_is_there_is_not_downloaded(speech, capsys):
    Path("DATA/archives").mkdir(parents=True)
    shutil.copy("libri.tar.gz", "DATA/archives")
    assert run(archives=ARCHIVES[2:]) == 0
    shutil.rmtree("DATA")
    assert run(archives=ARCHIVES[2:]) == 1
    assert "http://127.0.0.1:1/libri.tar.gz cannot be downloaded" in capsys.readouterr().err


def break_archive(folder: Path) -> None:
    content = (folder / "libri.tar.gz").read_bytes()
    (folder / "libri.tar.gz").write_bytes(content[: len(content) // 2])


def cut_archive(folder: Path) -> None:
    break_archive(folder)
    config = yaml.safe_load((folder / "speech.yaml").read_text())
    config["corpora"]["librispeech"]["digest"] = None
    (folder / "speech.yaml").write_text(yaml.safe_dump(config))


def test_all_archives_are_checked_before_any_is_used(speech, capsys):
    wrong = ["--archive", "librispeech=libri.tar.gz", "--archive", "ljspeech=libri.tar.gz"]
    assert run(archives=wrong) == 1
    assert "libri.tar.gz has the sha256" in capsys.readouterr().err
    assert list(Path("DATA").iterdir()) == []


def set_key(key: str, value: object):
    def change(folder: Path) -> None:
        config = yaml.safe_load((folder / "speech.yaml").read_text())
        config["corpora"]["librispeech"][key] = value
        (folder / "speech.yaml").write_text(yaml.safe_dump(config))

    return change


def write(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (break_archive, [], "has the sha256"),
        (cut_archive, [], "libri.tar.gz is not a complete tar archive"),
        (write("libri_train.txt", b"19-198-0001\n"), [], "lacks 1 of 3 recordings, such as 19-198-0001"),
        (write("libri_test.txt", b"19-198-0009\n"), [], "speaker 19 is in the lists of test and train"),
        (write("lj_test.txt", b"LJ1\n"), [], "LJ1 is in the lists of test and train"),
        (write("libri_test.txt", b""), [], "libri_test.txt is empty or has an empty line"),
        (lambda folder: (folder / "libri_test.txt").unlink(), [], "There is no list libri_test.txt"),
        (write("speech.yaml", b"\x89PNG\r\n\xff\xfe"), [], "speech.yaml is not valid YAML"),
        (write("speech.yaml", b"kind: codec\n"), [], "speech.yaml: unknown key 'kind'"),
        (write("speech.yaml", b"corpora: {a: {url: b}}\n"), [], "'layout' is missing; add corpora.a.layout.\n"),
        (write("speech.yaml", b"corpora: {}\nphases: {a: {}}\n"), [], "unknown key 'phases'; known are corpora."),
        (write("speech.yaml", b"corpora: {}\nphase: a\n"), [], "unknown key 'phase'; known are corpora."),
        (set_key("device", "cpu"), [], "unknown key 'device'; did you mean 'digest'?"),
        (set_key("speakers", 3), [], "unknown key 'speakers'"),
        (set_key("layout", "vctk"), [], "layout is 'vctk'; choose from librispeech, ljspeech, midi"),
        (None, ["--config", "missing.yaml"], "There is no file missing.yaml; give a YAML file, such as one in"),
        (None, ["--archive", "librispeech"], "--archive is 'librispeech'; give CORPUS=PATH"),
        (None, ["--archive", "vctk=libri.tar.gz"], "with one of librispeech, ljspeech"),
        (None, ["--archive", "ljspeech=missing.tar"], "there is no file or folder missing.tar"),
        (None, ["-o", "speech.yaml"], "speech.yaml: File exists"),
        (None, ["-o", "/proc"], "In the folder /proc no file can be written"),
    ],
)
def test_misuse_is_one_line(speech, capsys, change, options, message):
    if change is not None:
        change(speech)
    assert run(*options) == 1
    (line,) = capsys.readouterr().err.splitlines(keepends=True)
    assert line.startswith("audiolm-hf: error: ") and message in line and "=..." not in line
    assert not list(speech.glob("DATA/librispeech/*.parquet"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("url", url)
            for url in ("", "a.tar", "file:///etc/passwd", "http://localhost", "http://localhost/", "http://[x/a.tar")
        ),
        *(("url", url) for url in (None, "http://127.0.0.1:2/lj.tar.bz2")),  # also the name of the other archive
        *(("digest", digest) for digest in ("", "md5:", "md5:zz", "crc:00", "sha256:00", 3)),
        *(("splits", splits) for splits in (None, {}, [], {"train": None}, {"train": ""}, {"train": "."})),
        *(("splits", {name: "libri_train.txt"}) for name in ("", "../a", "a/b", ".a", 1, None, "a" * 300)),
        *(("splits", {"train": name}) for name in ("bytes.txt", "twice.txt", "bytes.csv", "no_paths.csv", "folder")),
        ("excerpts", {"more": "libri_train.txt"}),  # of sound
    ],
)
def test_odd_values_are_refused_before_any_work(speech, capsys, key, value):
    for name in ("bytes.txt", "bytes.csv"):
        (speech / name).write_bytes(b"path\n\xff\xfe\0")
    (speech / "twice.txt").write_text("19-198-0008\n" * 2)
    (speech / "no_paths.csv").write_text("name\na\n")
    (speech / "folder").mkdir()
    set_key(key, value)(speech)
    refused(capsys)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", "archives", "x\0", 1, True, None])
def test_odd_names_of_corpora_are_refused_before_any_work(speech, capsys, name):
    config = yaml.safe_load((speech / "speech.yaml").read_text())["corpora"]
    (speech / "speech.yaml").write_text(yaml.safe_dump({"corpora": {name: config["librispeech"]}}))
    refused(capsys, archives=[])


@pytest.mark.parametrize(
    "text", ["corpora: []", "corpora: {}", "corpora: {a: }", "corpora: {a: []}", "{corpora: {}, b: 1}"]
)
def test_odd_corpora_are_refused_before_any_work(speech, capsys, text):
    (speech / "speech.yaml").write_text(text)
    refused(capsys, archives=[])


def refused(capsys, archives=ARCHIVES, command=None):
    assert (run(archives=archives) if command is None else cli.main(command)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("audiolm-hf: error: ") and "Error: " not in line and len(line) < 500
    assert not Path("DATA").exists()


def test_a_recording_as_it_should_be_keeps_its_bytes():
    content = (DATA / "librispeech_19-198-0008.flac").read_bytes()
    assert as_flac(content) == (content, 40000)


def midi_file(note: int) -> bytes:
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    for _ in range(40):  # of half a second
        track.append(mido.Message("note_on", note=note, velocity=80, time=0))
        track.append(mido.Message("note_off", note=note, velocity=0, time=480))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


@pytest.fixture
def piano(tmp_path, monkeypatch):
    """A configuration like configs/data/piano.yaml, and its archive."""
    monkeypatch.chdir(tmp_path)
    pieces = {"Bach/a.mid": midi_file(60), "Haydn/b.mid": midi_file(67)}
    with tarfile.open("music.tar.gz", "w:gz") as archive:
        for path, content in pieces.items():
            add(archive, f"Dataset-505aef5/midis/{path}", content)
    for split, (path, content) in zip(("train", "test"), pieces.items(), strict=True):
        row = [path, path.partition("/")[0], "Piece", "20", hashlib.sha256(content).hexdigest()]
        write_csv(tmp_path / f"midi_{split}.csv", ["path", "composer", "title", "duration", "sha256"], row)
    write_csv(tmp_path / "excerpts.csv", ["path", "start"], ["Haydn/b.mid", "5.0"])
    corpus = {
        "layout": "midi",
        "url": "http://127.0.0.1:1/music.tar.gz",
        "splits": {"midi_train": "midi_train.csv", "midi_test": "midi_test.csv"},
        "excerpts": {"test": "excerpts.csv"},
    }
    Path("piano.yaml").write_text(yaml.safe_dump({"corpora": {"piano": corpus}}))
    return ["data", "--config", "piano.yaml", "--archive", "piano=music.tar.gz", "-o", "DATA"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("excerpts", "path\nHaydn/b.mid\n"),
        *(("excerpts", f"path,start\nHaydn/b.mid,{start}\n") for start in ("", "x", "nan", -1, 20)),
        ("excerpts", "path,start\nHaydn/c.mid,1\n"),
        ("excerpts", "path,start\n"),
        *(("midi_train", f"path,composer,title,duration\nBach/a.mid,{rest}\n") for rest in ("B", "B,,20", "B,P,-1")),
        ("midi_train", "path\nBach/a.mid\n"),
    ],
)
def test_odd_lists_are_refused_before_any_work(piano, capsys, monkeypatch, name, text):
    monkeypatch.setattr("audiolm_hf.training.render.check_synthesizer", lambda soundfont: None)
    Path(f"{name}.csv").write_text(text)
    refused(capsys, command=piano)


def test_no_file_is_of_two_lists(piano, capsys, monkeypatch):
    monkeypatch.setattr("audiolm_hf.training.render.check_synthesizer", lambda soundfont: None)
    Path("piano.yaml").write_text(Path("piano.yaml").read_text().replace("test: excerpts", "midi_train: excerpts"))
    refused(capsys, command=piano)


def write_csv(path: Path, *rows: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not Path(RenderConfig.soundfont).is_file(), reason="fluidsynth is missing"
)
def test_midi_files_and_their_excerpts(piano):
    assert cli.main(piano) == 0
    (row,) = pq.read_table("DATA/piano/midi_train.parquet").to_pylist()
    assert row["midi"] == midi_file(60) and (row["path"], row["composer"], row["duration"]) == ("a.mid", "Bach", 20.0)
    (record,) = AudioSource(Path("DATA/piano/test.parquet"))
    assert record.duration == 15.0 and (record.speaker, record.text) == ("piano-haydn", "Haydn: Piece")
    assert 20 * np.log10(np.sqrt(np.mean(record.array**2))) == pytest.approx(-24, abs=3)
    spectrum = np.abs(np.fft.rfft(record.array))
    assert np.argmax(spectrum) / 15 == pytest.approx(392, rel=0.01)  # the note g


def test_another_midi_file_is_refused(piano, capsys, monkeypatch):
    monkeypatch.setattr("audiolm_hf.training.render.check_synthesizer", lambda soundfont: None)
    text = Path("midi_train.csv").read_text()
    Path("midi_train.csv").write_text(text.replace(hashlib.sha256(midi_file(60)).hexdigest(), "00"))
    assert cli.main(piano) == 1
    assert "Bach/a.mid in music.tar.gz is not the file that is listed" in capsys.readouterr().err


def test_a_missing_synthesizer_is_named_before_the_work(piano, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert cli.main(piano) == 1
    expected = "audiolm-hf: error: The program fluidsynth is not installed; install it (Debian: `fluidsynth`).\n"
    assert capsys.readouterr().err == expected
    assert not Path("DATA").exists()


def test_the_lists_of_the_recipes_are_what_their_readmes_say():
    speech = read_corpora(CONFIGS / "speech.yaml")
    lists = {name: read_lists(corpus, CONFIGS) for name, corpus in speech.items()}
    counts = {split: len(rows) for split, rows in lists["librispeech"].items()}
    assert counts == {"train": 1003, "validation": 24, "test": 51, "adapt": 131}
    speakers = {split: {row["path"].partition("-")[0] for row in rows} for split, rows in lists["librispeech"].items()}
    assert [len(speakers[split]) for split in ("train", "validation", "test")] == [19, 2, 4]
    assert speakers["adapt"] == speakers["validation"] == {"332", "6272"}
    assert [len(rows) for rows in lists["ljspeech"].values()] == [265, 8, 18]
    (piano,) = read_corpora(CONFIGS / "piano.yaml").values()
    assert [len(rows) for rows in read_lists(piano, CONFIGS).values()] == [219, 30, 66]
