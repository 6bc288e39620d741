# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Files are decoded to their end whatever their headers say, and what is cut off or absurd is refused."""

import io
import shutil
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
import soundfile

from audiolm_hf import audio_decoding_audiolm
from audiolm_hf.audio_decoding_audiolm import decode_file, measure_duration
from audiolm_hf.audio_file_audiolm import read_audio

RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def sound(length_s: float = 3.0) -> np.ndarray:
    """Noise that ends in silence, so that its bit rate varies."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, round(length_s * RATE)).astype(np.float32)
    samples[len(samples) // 3 :] *= 0.001
    return samples


def encoded(format: str, subtype: str, samples: np.ndarray | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    samples = sound() if samples is None else samples
    with soundfile.SoundFile(buffer, "w", RATE, 1, subtype, format=format, **options) as file:
        file.write(samples)
    return buffer.getvalue()


def flac_without_length(samples: np.ndarray | None = None) -> bytes:
    """What `ffmpeg -f flac -` writes: STREAMINFO with 0 samples, which means unknown."""
    data = bytearray(encoded("FLAC", "PCM_16", samples))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def mp3(samples: np.ndarray | None = None) -> bytes:
    return encoded("MP3", "MPEG_LAYER_III", samples, bitrate_mode="VARIABLE", compression_level=0.0)


def mp3_without_count(samples: np.ndarray | None = None) -> bytes:
    """Cut off the first frame, which tells how many there are."""
    data = mp3(samples)
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    start = data.rfind(b"\xff", 0, tag)
    return data[data.find(data[start : start + 2], tag) :]


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    with soundfile.SoundFile(io.BytesIO(flac_without_length())) as file:
        assert file.frames > 2**60
    whole, rate = decode_file(encoded("FLAC", "PCM_16"))
    (tmp_path / "a.flac").write_bytes(flac_without_length())
    for source in (flac_without_length(), tmp_path / "a.flac"):
        np.testing.assert_array_equal(decode_file(source)[0], whole)
        np.testing.assert_array_equal(decode_file(source, 1.0, 1.5)[0], whole[:, 16000:24000])
        assert measure_duration(source) == 3.0 and rate == RATE


def test_mp3_without_a_frame_count_is_read_to_its_end(tmp_path):
    data = mp3_without_count()
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert not 2.9 < file.frames / RATE < 3.2  # libsndfile guesses
    audio, _ = decode_file(data)
    assert 3.0 <= audio.shape[1] / RATE < 3.2
    assert measure_duration(data) == pytest.approx(audio.shape[1] / RATE)
    (tmp_path / "a.mp3").write_bytes(data)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.mp3")[0], audio)


def test_mp3_with_a_frame_count_is_as_long_as_what_was_encoded():
    assert decode_file(mp3())[0].shape == (1, 3 * RATE)
    with_tags = b"ID3\x04\x00\x00\x00\x00\x10\x00" + bytes(2048) + mp3()
    assert decode_file(with_tags)[0].shape == (1, 3 * RATE)


def test_joined_mp3_files_are_read_to_the_end_of_the_last():
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 3 * RATE).astype(np.float32)
    assert decode_file(mp3(noise) + mp3(noise))[0].shape[1] >= 6 * RATE
    small = mp3(noise[:RATE] * 0.001)
    assert len(small) < 2**14 and decode_file(small + small)[0].shape[1] >= 2 * RATE
    assert decode_file(small + b"TAG" + bytes(125))[0].shape == (1, RATE)


@needs_ffmpeg
def test_joined_ogg_files_are_read_to_the_end_of_the_last():
    data = encoded("OGG", "VORBIS") + encoded("OGG", "VORBIS", sound(2.0))
    assert decode_file(data)[0].shape[1] == pytest.approx(5 * RATE, abs=1000)


def test_joined_ogg_files_are_not_read_in_part_without_ffmpeg(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert decode_file(encoded("OGG", "VORBIS"))[0].shape == (1, 3 * RATE)
    with pytest.raises(ValueError, match="needs the program ffmpeg"):
        decode_file(encoded("OGG", "VORBIS") * 2)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "codec"), [("m4a", "aac"), ("webm", "libopus"), ("aac", "aac"), ("mka", "flac"), ("oga", "flac")]
)
def test_what_libsndfile_does_not_know_goes_through_ffmpeg(tmp_path, suffix, codec):
    soundfile.write(tmp_path / "a.wav", sound(), RATE)
    path = tmp_path / f"-a b.{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", codec, "-strict", "-2", f"file:{path}"]
    subprocess.run(command, check=True)
    audio, rate = decode_file(path)
    assert audio.shape[1] / rate == pytest.approx(3.0, abs=0.2)
    assert np.abs(audio[0, : rate // 2]).max() > 0.1
    np.testing.assert_array_equal(decode_file(path.read_bytes())[0], audio)
    assert measure_duration(path) == pytest.approx(audio.shape[1] / rate)


@pytest.mark.parametrize("head", [b"\0\0\0\x20ftypM4A \0\0\0\0", b"\x1aE\xdf\xa3" + bytes(20)])
def test_where_ffmpeg_is_missing_the_reason_names_it(monkeypatch, head):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs the program ffmpeg, which is not installed"):
        decode_file(head)


@needs_ffmpeg
def test_ffmpeg_is_not_led_to_other_files(tmp_path, monkeypatch):
    (tmp_path / "list.m4a").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n")
    with pytest.raises(ValueError, match="Format not recognised"):
        decode_file(tmp_path / "list.m4a")
    with pytest.raises(ValueError, match="ffmpeg cannot read it"):
        decode_file(b"\0\0\0\x20ftypM4A \0\0\0\0")


@pytest.mark.parametrize("make", [lambda: encoded("FLAC", "PCM_16"), mp3])
def test_a_file_that_was_cut_off_is_refused(make):
    data = make()
    noisy = len(data) // 3
    with pytest.raises(ValueError, match="lost sync|should last 3.00 s, but ends after"):
        decode_file(data[:noisy])


@pytest.mark.parametrize("rate", [1, 999, 10**9])
def test_an_absurd_sampling_rate_is_refused(rate):
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(), rate, format="WAV")
    with pytest.raises(ValueError, match=f"sampling rate is {rate} Hz"):
        decode_file(buffer.getvalue())
    with pytest.raises(ValueError, match=f"sampling rate is {rate} Hz"):
        measure_duration(buffer.getvalue())


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [(0.0, None, (0, 48000)), (1.0, None, (16000, 48000)), (0.1, 0.2, (1600, 3200)), (2.5, 1e308, (40000, 48000))],
)
@pytest.mark.parametrize("make", [lambda: encoded("WAV", "FLOAT"), flac_without_length])
def test_a_part_is_cut_out(make, start_s, end_s, expected):
    whole = decode_file(make())[0]
    np.testing.assert_array_equal(decode_file(make(), start_s, end_s)[0], whole[:, slice(*expected)])


def test_a_file_longer_than_a_block_is_whole():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * audio_decoding_audiolm._BLOCK + 17).astype(np.float32)
    np.testing.assert_array_equal(decode_file(encoded("WAV", "FLOAT", samples))[0][0], samples)


# What streams have in place of a length: where in the file, relative to a mark, how it is packed, and what.
LENGTHS = {
    "AU": (b".snd", 8, ">I", [2**32 - 1], [0, 2**31]),
    "W64": (b"data\xf3\xac", 16, "<Q", [0, 24, 2**64 - 1], []),
    "WAV": (b"data", 4, "<I", [2**32 - 1, 2**31 - 1], [0]),
    "AIFF": (b"SSND", 4, ">I", [0, 2**32 - 1], []),
    "CAF": (b"data", 4, ">q", [], [-1, 0, 4]),
    "RF64": (b"ds64", 16, "<Q", [], []),
}


@pytest.mark.parametrize("format", LENGTHS)
def test_files_without_a_length_are_read_to_the_end_or_refused(format):
    mark, offset, packing, read, refused = LENGTHS[format]
    whole = bytearray(encoded(format, "PCM_16"))
    expected, _ = decode_file(bytes(whole))
    at = whole.index(mark) + offset
    for length in [*read, *refused]:
        stream = bytearray(whole)
        stream[at : at + struct.calcsize(packing)] = struct.pack(packing, length)
        if length in read:
            np.testing.assert_array_equal(decode_file(bytes(stream))[0], expected)
        else:
            with pytest.raises(ValueError, match=r"header says that it has no samples|soundfile cannot read it"):
                decode_file(bytes(stream))


def test_what_the_system_cannot_read_is_one_error():
    with pytest.raises(ValueError, match="cannot be read"):
        decode_file("/proc/self/mem")


def ogg_pages(subtype: str) -> list[bytes]:
    samples = np.resize(sound(), 6 * RATE)
    data, pages = encoded("OGG", subtype, samples), []
    while data:
        length = 27 + data[26] + sum(data[27 : 27 + data[26]])
        pages.append(data[:length])
        data = data[length:]
    assert len(pages) >= 7
    return pages


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda pages: [*pages[:4], pages[4][:-9] + bytes([pages[4][-9] ^ 4]) + pages[4][-8:], *pages[5:]],
            "page 5 is",
        ),
        (lambda pages: [*pages[:4], pages[4][:-40], *pages[5:]], "page 5 is damaged"),
        (lambda pages: [*pages[:4], b"\0" * 300, *pages[4:]], "page 5 is damaged"),
        (lambda pages: [*pages[:4], *pages[5:]], "page 5 does not follow"),
        (lambda pages: [*pages[:5], *pages[4:]], "page 6 does not follow"),
        (lambda pages: [*pages[:3], pages[4], pages[3], *pages[5:]], "page 4 does not follow"),
        (lambda pages: pages[:-1], "last page is missing"),
        (lambda pages: [*pages[:-1], pages[-1][:-1]], "is damaged"),
    ],
)
def test_damage_within_an_ogg_file_is_refused(subtype, damage, reason):
    pages = ogg_pages(subtype)
    whole = decode_file(b"".join(pages))[0]
    assert whole.shape == (1, 6 * RATE)
    np.testing.assert_array_equal(decode_file(b"".join(pages) + bytes(1000))[0], whole)
    with pytest.raises(ValueError, match=reason):
        read_audio(b"".join(damage(pages)), RATE)


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "FLOAT"), ("W64", "PCM_16")]
)
def test_samples_that_a_header_counts_and_a_file_lacks_are_refused(format, subtype):
    whole = encoded(format, subtype)
    with pytest.raises(ValueError, match=r"should last 3\.00 s, but ends after 2\.9"):
        decode_file(whole[:-2000])
    with pytest.raises(ValueError, match=r"should last 3\.00 s, but ends after 2\.9"):
        decode_file(whole[:20000] + whole[22000:])


def test_frames_that_an_mp3_counts_and_lacks_are_refused():
    whole = mp3()
    with pytest.raises(ValueError, match=r"should last 3\.00 s"):
        decode_file(whole[:4000] + whole[7000:])


def test_a_header_that_counts_itself_is_believed_no_further():
    data = bytearray(encoded("WAV", "PCM_16"))
    data[40:44] = struct.pack("<I", len(data))
    assert decode_file(bytes(data))[0].shape == (1, 3 * RATE)


def through_ffmpeg(samples: np.ndarray, rate: int, *options: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV")
    command = ["ffmpeg", "-v", "error", "-i", "-", *options, "-"]
    return subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=True).stdout


@needs_ffmpeg
def test_damage_of_an_ogg_file_that_only_ffmpeg_decodes_is_refused():
    data = through_ffmpeg(sound(), RATE, "-c:a", "flac", "-f", "ogg")
    with pytest.raises(ValueError, match="is damaged"):
        decode_file(data[: len(data) // 2])


@needs_ffmpeg
def test_mp3_in_a_wav_file_is_read_like_mp3(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(2.0), RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "mp3", tmp_path / "b.wav"]
    subprocess.run(command, check=True)
    assert decode_file(tmp_path / "b.wav")[0].shape[1] == pytest.approx(2 * RATE, abs=2304)


@pytest.mark.parametrize("suffix", ["au", "snd", "vox", "gsm"])
def test_what_has_no_header_is_not_taken_for_sound(tmp_path, suffix):
    path = tmp_path / f"notes.{suffix}"
    path.write_bytes(b"This is text. " * 400)
    with pytest.raises(ValueError, match="has no header of any format"):
        decode_file(path)


@needs_ffmpeg
@pytest.mark.parametrize("options", [("-c:a", "aac", "-f", "adts"), ("-c:a", "libopus", "-f", "webm")])
def test_damage_that_ffmpeg_finds_is_refused(options):
    data = through_ffmpeg(sound(), RATE, *options)
    assert decode_file(data)[0].shape[1] > 0 and decode_file(data, end_s=0.5)[0].shape[1] > 0
    place = len(data) // 4
    with pytest.raises(ValueError, match="ffmpeg cannot read it") as error:
        decode_file(data[:place] + bytes(300) + data[place + 300 :])
    assert "@ 0x" not in str(error.value)  # no address in memory
    with pytest.raises(ValueError, match="ffmpeg cannot read it"):
        decode_file(data[: 2 * place])


@needs_ffmpeg
def test_what_ffmpeg_decodes_is_not_held_as_a_whole():
    samples = np.resize(sound(), (120 * 48000, 2))
    samples[48000:] = 0
    data = through_ffmpeg(samples, 48000, "-c:a", "flac", "-f", "matroska")
    tracemalloc.start()
    try:
        audio, _ = read_audio(data, RATE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(audio) == 120 * RATE and np.abs(audio[:1000]).max() > 0.1
    assert peak < 0.6 * samples.nbytes
