# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Files are read whole or refused, and written in one step with a note of their origin."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiolm_hf import audio_file_audiolm
from audiolm_hf.audio_file_audiolm import read_audio, write_audio
from audiolm_hf.provenance_audiolm import provenance, read_provenance
from tests.helpers_processes import call_in_fork

CLIP = Path(__file__).parents[1] / "data" / "librispeech_19-198-0008.flac"


def test_a_path_its_bytes_and_the_open_file_are_the_same_sound():
    from_path, rate = read_audio(CLIP)
    assert rate == 16000 and from_path.shape == (1, 40000) and from_path.dtype == np.float32
    for source in (str(CLIP), CLIP.read_bytes(), io.BytesIO(CLIP.read_bytes())):
        np.testing.assert_array_equal(read_audio(source)[0], from_path)


def test_channels_come_first(tmp_path):
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 2))
    soundfile.write(tmp_path / "stereo.wav", stereo, 8000, subtype="FLOAT")
    audio, rate = read_audio(tmp_path / "stereo.wav")
    assert rate == 8000
    np.testing.assert_allclose(audio, stereo.T, atol=1e-6)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".WAV"])
def test_what_is_written_is_read_back_with_its_origin(tmp_path, suffix):
    audio = read_audio(CLIP)[0][0]
    path = write_audio(tmp_path / f"out{suffix}", audio, 16000, provenance("speech-tiny", 7))
    again, rate = read_audio(path)
    assert rate == 16000 and again.shape == (1, len(audio))
    if suffix.lower() in (".wav", ".flac"):
        np.testing.assert_allclose(again[0], audio, atol=1.01 / 2**15)
    with soundfile.SoundFile(path) as file:
        text = file.copy_metadata()
    facts = read_provenance(path)
    assert facts["checkpoint"] == "speech-tiny" and facts["seed"] == 7 and facts["when"] == text["date"]
    assert text["title"] == "Audio continuation"
    if suffix != ".mp3":  # where the encoder names itself
        assert text["software"].startswith("audiolm_hf")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_loud_samples_are_clipped_and_do_not_wrap(tmp_path):
    path = write_audio(tmp_path / "loud.wav", np.array([2.0, -2.0, 0.25], np.float32), 16000)
    np.testing.assert_allclose(read_audio(path)[0][0], [1.0, -1.0, 0.25], atol=1e-4)


def test_a_long_file_is_written_in_blocks(tmp_path):
    # libvorbis crashes on 131 s at once, and takes the process with it.
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 131 * 16000).astype("float32")
    assert call_in_fork(write_audio, tmp_path / "long.ogg", noise, 16000) == tmp_path / "long.ogg"
    assert read_audio(tmp_path / "long.ogg")[0].shape == (1, 131 * 16000)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_full_disk_leaves_the_old_file(tmp_path, suffix):
    path = write_audio(tmp_path / f"out{suffix}", np.full(1600, 0.5, np.float32), 16000)
    before = path.read_bytes()
    noise = np.random.default_rng(0).uniform(-1, 1, 160000).astype("float32")

    def write_with_a_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        with pytest.raises(OSError, match=f"File too large: '{path}'"):
            write_audio(path, noise, 16000)
        return "refused"

    assert call_in_fork(write_with_a_limit) == "refused"
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.kill(os.getpid(), signal.SIGKILL))
        killed = call_in_fork(write_audio, tmp_path / "a.wav", np.zeros(1000, "float32"), 16000)
    assert killed == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.partial"))) == 1
    write_audio(tmp_path / "b.wav", np.zeros(1000, np.float32), 16000)
    assert [path.name for path in tmp_path.iterdir()] == ["b.wav"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    with audio_file_audiolm._locked(tmp_path / ".0.audiolm_hf.partial") as file:
        file.write(b"not yet whole")
        write_audio(tmp_path / "b.wav", np.zeros(1000, np.float32), 16000)
        assert (tmp_path / ".0.audiolm_hf.partial").exists()
    write_audio(tmp_path / "b.wav", np.zeros(1000, np.float32), 16000)
    assert not (tmp_path / ".0.audiolm_hf.partial").exists()


@pytest.mark.parametrize(("dtype", "zero", "scale"), [("int16", 0, 2**15), ("int32", 0, 2**31), ("uint8", 128, 2**7)])
def test_integers_are_written_by_their_full_scale(tmp_path, dtype, zero, scale):
    integers = np.array([zero, zero + scale // 2, zero - scale // 4]).astype(dtype)
    path = write_audio(tmp_path / "a.wav", integers, 16000)
    np.testing.assert_allclose(read_audio(path)[0][0], [0.0, 0.5, -0.25], atol=1e-4)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (b"", ValueError, "0 bytes"),
        (b"not audio at all", ValueError, "given as 16 bytes cannot be decoded"),
        ("/nowhere/clip.wav", FileNotFoundError, "does not exist"),
        (str(CLIP.parent), FileNotFoundError, "is a folder"),
        ("https://example.org/clip.wav", ValueError, "download the file"),
        (3, TypeError, "not as int"),
    ],
)
def test_what_is_not_a_file_is_one_clear_error(source, error, message):
    with pytest.raises(error, match=message):
        read_audio(source)


@pytest.mark.parametrize("keep", [0.02, 0.6])
def test_a_damaged_file_is_one_clear_error(tmp_path, keep):
    data = CLIP.read_bytes()
    broken = bytearray(data[: int(len(data) * keep)])
    broken[:4] = b"\0\0\0\0"
    path = tmp_path / "broken.flac"
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="broken.flac' cannot be decoded"):
        read_audio(path)


@pytest.mark.parametrize("name", ["out", "out.m4a", "out.txt"])
def test_unknown_endings_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.wav, \.flac, \.ogg, \.opus, \.mp3"):
        write_audio(tmp_path / name, np.zeros(10, np.float32), 16000)


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (np.zeros((1, 10), np.float32), ValueError, "finite samples"),
        (np.array([np.nan], np.float32), ValueError, "finite samples"),
        (np.array([30000.0, 0.0]), ValueError, "floats up to 30000"),
        ([30000, 0], TypeError, "a list of whole numbers"),
        (np.zeros(10, np.int64), TypeError, "dtype int64"),
        ("a.wav", TypeError, "not an array"),
    ],
)
def test_unusable_samples_are_not_written(tmp_path, audio, error, message):
    with pytest.raises(error, match=message):
        write_audio(tmp_path / "out.wav", audio, 16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("a.ogg", 10**9, "sampling_rate is 1000000000"),
        ("a.ogg", 300000, ".ogg files have 1000 to 192000 Hz"),
        ("a.flac", 700000, ".flac files have 1000 to 655350 Hz"),
        ("a.opus", 44100, ".opus files have 8000, 12000, 16000, 24000, 48000 Hz"),
        ("a.mp3", 96000, ".mp3 files have 8000, 11025"),
        ("a.wav", 0, "sampling_rate is 0"),
        ("a.wav", float("nan"), "sampling_rate is nan"),
        ("a.wav", 16000.5, "sampling_rate is 16000.5"),
    ],
)
def test_rates_that_a_format_does_not_have_are_refused(tmp_path, name, rate, message):
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / name, np.zeros(1000, np.float32), rate)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("missing/a.wav", FileNotFoundError, "make it first"), ("folder.wav", IsADirectoryError, "is a folder")],
)
def test_a_place_where_no_file_can_be_is_one_clear_error(tmp_path, name, error, message):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(error, match=message):
        write_audio(tmp_path / name, np.zeros(10, np.float32), 16000)


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_written_through(tmp_path, exists):
    real, link = tmp_path / "there" / "real.wav", tmp_path / "link.wav"
    real.parent.mkdir()
    link.symlink_to("there/real.wav")
    if exists:
        write_audio(real, np.zeros(10, np.float32), 16000)
    assert write_audio(link, np.full(20, 0.5, np.float32), 16000) == link
    assert link.is_symlink() and read_audio(real)[0].shape == (1, 20)
    assert [path.name for path in real.parent.iterdir()] == ["real.wav"]
    shutil.rmtree(real.parent)
    with pytest.raises(FileNotFoundError, match="there' of the output file is not there; make it first"):
        write_audio(link, np.zeros(10, np.float32), 16000)


def test_open_files_and_pipes_are_read(tmp_path):
    expected = read_audio(CLIP)[0]
    with tempfile.NamedTemporaryFile() as file:
        file.write(CLIP.read_bytes())
        np.testing.assert_array_equal(read_audio(file)[0], expected)
    reading, writing = os.pipe()
    threading.Thread(target=lambda: os.write(writing, CLIP.read_bytes()) and os.close(writing)).start()
    with os.fdopen(reading, "rb") as pipe:
        np.testing.assert_array_equal(read_audio(pipe)[0], expected)
    with pytest.raises(TypeError, match="mode 'rb'"):
        read_audio(io.StringIO("text"))


@pytest.mark.parametrize("metadata", [{"comment": 3}, {"comment": None}, {"remark": "x"}])
def test_text_fields_that_would_be_lost_are_refused(tmp_path, metadata):
    with pytest.raises(ValueError, match=f"metadata has '{next(iter(metadata))}'.*title"):
        write_audio(tmp_path / "a.wav", np.zeros(10, np.float32), 16000, metadata)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_file_without_samples_is_readable_or_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".wav":
        assert read_audio(write_audio(path, np.zeros(0, np.float32), 16000))[0].shape == (1, 0)
    else:
        with pytest.raises(ValueError, match="holds no samples"):
            write_audio(path, np.zeros(0, np.float32), 16000)


@pytest.mark.parametrize("name", ["a\nb.wav", "a\0b.wav", "a\tb.wav"])
def test_names_with_control_characters_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="must not hold line breaks or the like"):
        write_audio(tmp_path / name, np.zeros(100), 16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_a_folder_that_takes_no_files_is_refused_before_anything_is_encoded(monkeypatch, folder):
    monkeypatch.setattr("audiolm_hf.audio_file_audiolm.encode_audio", lambda *given: pytest.fail("encoded first"))
    with pytest.raises(PermissionError, match="of the output file no file can be written"):
        write_audio(f"{folder}/a.wav", np.zeros(100), 16000)


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 302 bytes; at most 255"):
        write_audio(tmp_path / ("\u00e4" * 149 + ".wav"), np.zeros(100), 16000)


@pytest.mark.slow
def test_names_beyond_ascii_are_read_in_the_locale_c(tmp_path):
    soundfile.write(tmp_path / "\u00fc.flac", np.zeros(16000), 16000)
    code = (
        "import pathlib, sys; from audiolm_hf.audio_file_audiolm import read_audio\n"
        "from audiolm_hf.commands.continue_ import was_generated\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "sys.stdout.write(f'{read_audio(sys.argv[1])[0].shape} {was_generated(pathlib.Path(sys.argv[1]))}')"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-X", "utf8=0", "-c", code, tmp_path / "\u00fc.flac"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 16000) False", done.stderr


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_metadata_are_as_long_as_can_be_read_again(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_audio(path, np.zeros(1600), 16000, {"title": "t", "comment": "c" * 31_999})
    assert read_audio(path, 16000)[0].shape[-1] >= 1600
    with pytest.raises(ValueError, match="metadata has 64,000 bytes of text; give at most 32,000"):
        write_audio(path, np.zeros(1600), 16000, {"comment": "ü" * 32_000})
