# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Decode audio files completely, or refuse them as damaged.

In: the path or the bytes of a file; out: `(num_channels, num_samples)` float32 and the sampling rate. Files are
decoded by libsndfile, or by ffmpeg if libsndfile does not support them or would decode only a part.

A header without a length is accepted; a file that is shorter than its header says is refused. Damage within a file is
found where the format has checksums (FLAC, Ogg), or where ffmpeg reports it. WAV, its like and the frames of MP3 have
none: a changed byte there is just another sound, but missing frames of MP3 are found if its header counts them.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .audio_samples_audiolm import SAMPLING_RATES, resampler, to_mono

try:
    import soundfile
except (ImportError, OSError):  # OSError: the package is there, its libsndfile is not
    soundfile = None

_BLOCK = 2**16  # samples decoded at once
_MOST_SAMPLES = 2**62  # largest position in a file
_SLACK_S = 0.01  # tolerated error of a header, such as its own size
_MP3_SLACK = 2 * 1152  # samples: the frame with the header, and an incomplete one
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# What libsndfile logs for a WAV, AIFF, AU, SVX, W64 or RF64 file whose header has another size than the file.
_CUT_SIZES = re.compile(r"^\s*(?:data|SSND|BODY|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_LARGEST_HEADER = 2048  # bytes that a file without samples may have
_SIZE_OF_STREAMS = 0x7FFF0000  # what writers that do not know the size put there, or more
_MOST_SAMPLES_PER_BYTE = 5000  # FLAC's largest block of silence; a header that promises more is wrong
# Formats that only ffmpeg decodes: offset and bytes in the file, and ffmpeg's name.
_FFMPEG_FORMATS = (
    (4, b"ftyp", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"#!AMR", "amr"),
    (0, b"OggS", "ogg"),  # of Speex or FLAC
)


def require_soundfile() -> None:
    """Check that soundfile is installed."""
    if soundfile is None:
        raise ImportError("Audio files are read and written with the package soundfile: pip install soundfile")


def decode_file(file: str | Path | bytes, start_s: float = 0.0, end_s: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a file, or a part of it, to float32 `(num_channels, num_samples)` and the rate; errors do not name it."""
    blocks, rates = zip(*_decode_blocks(file, start_s, end_s), strict=True)
    return np.ascontiguousarray(np.concatenate(blocks, axis=1)), rates[0]


def decode_mono(
    file: str | Path | bytes, sampling_rate: int, start_s: float = 0.0, end_s: float | None = None
) -> np.ndarray:
    """Decode a file, or a part of it, to mono float32 `(num_samples,)` at a sampling rate, in blocks of memory."""
    resample, samples = None, bytearray()  # these grow in place; joining blocks would take twice the memory
    for block, rate in _decode_blocks(file, start_s, end_s):
        resample = resample or resampler(rate, sampling_rate)
        samples += resample(to_mono(block), False).data
    if resample is not None:
        samples += resample(np.zeros(0, np.float32), True).data
    return np.frombuffer(samples, np.float32)


def _decode_blocks(file: str | Path | bytes, start_s: float, end_s: float | None) -> Iterator[tuple[np.ndarray, int]]:
    """Yield blocks `(num_channels, num_samples)` and their rate; the first is empty, so that there is always one."""
    with _decoder(file) as (decoder, num_samples):
        rate = decoder.samplerate
        first = round(min(start_s * rate, _MOST_SAMPLES))
        last = _MOST_SAMPLES if end_s is None else round(min(end_s * rate, _MOST_SAMPLES))
        position = 0
        if first and num_samples is not None:
            position = decoder.seek(min(first, num_samples, decoder.frames))
        yield np.zeros((decoder.channels, 0), np.float32), rate
        while position < last:
            block = decoder.read(min(_BLOCK, last - position), dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            yield np.ascontiguousarray(block[max(0, first - position) :].T), rate
            position += len(block)
        slack = _MP3_SLACK if decoder.subtype.startswith("MPEG") else round(_SLACK_S * rate)  # WAV may hold it, too
        if num_samples is not None and min(num_samples, last) - position > slack:
            raise ValueError(f"it should last {num_samples / rate:.2f} s, but ends after {position / rate:.2f} s")


def measure_duration(file: str | Path | bytes) -> float:
    """Return the length of an audio file in seconds, from its header, or by decoding if that does not have it."""
    with _decoder(file) as (decoder, num_samples):
        if num_samples is None:
            num_samples = sum(iter(lambda: len(decoder.read(_BLOCK, dtype="float32")), 0))
        return num_samples / decoder.samplerate


@contextlib.contextmanager
def _decoder(file: str | Path | bytes) -> Iterator[tuple[Any, int | None]]:
    """Open a file for decoding; yields the `SoundFile`, and its number of samples if the header is reliable."""
    require_soundfile()
    try:
        with contextlib.ExitStack() as stack:
            decoder, size = _open_decoder(file, stack)
            stack.callback(decoder.close)
            if decoder.samplerate not in SAMPLING_RATES:
                raise ValueError(f"its sampling rate is {decoder.samplerate} Hz")
            # soundfile would seek after every block, to where a header of unknown length does not let it.
            decoder.seekable = lambda: False
            if decoder.frames == 0 and size is not None and size > _LARGEST_HEADER:
                raise ValueError(
                    f"its header says that it has no samples, but it has {size} bytes; correct it, such as by: "
                    "ffmpeg -i FILE sound.flac"
                )
            believed = size is not None and decoder.frames <= size * _MOST_SAMPLES_PER_BYTE
            yield decoder, _stated_samples(decoder) if believed else None
    except soundfile.LibsndfileError as error:
        # soundfile's full message has the address of an object, which differs in every run.
        raise ValueError(f"soundfile cannot read it: {error.error_string}") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise ValueError(f"soundfile cannot read it: {error}") from None


def _stated_samples(decoder: Any) -> int:
    """Return the number of samples in a header; libsndfile reports that of a truncated file instead."""
    sizes = _CUT_SIZES.search(decoder.extra_info)
    if sizes is None:
        return decoder.frames
    stated, found = map(int, sizes.groups())
    if stated >= _SIZE_OF_STREAMS or stated < found:
        return decoder.frames
    if found == 0:
        raise ValueError("it ends before its first sample")
    return round(decoder.frames * stated / found)


def _open_decoder(file: str | Path | bytes, stack: contextlib.ExitStack) -> tuple[Any, int | None]:
    """Return a `SoundFile` and the size of the file in bytes; None if the header does not have the length."""
    with _open_raw(file) as raw:
        size = raw.seek(0, os.SEEK_END)
        if size == 0:
            raise ValueError("it is empty")
        try:
            decoder = soundfile.SoundFile(io.BytesIO(file) if isinstance(file, bytes) else _encoded(file))
        except soundfile.LibsndfileError:
            raw.seek(0)
            head = raw.read(16)
            demuxer = next((name for at, magic, name in _FFMPEG_FORMATS if head.startswith(magic, at)), None)
            if demuxer is None:
                raise
            if demuxer == "ogg":
                _check_pages(raw)
            return stack.enter_context(_converted(file, demuxer)), None
        if decoder.format == "RAW":  # then libsndfile relies on the ending: .au, .snd, .vox or .gsm
            decoder.close()
            raise ValueError("it has no header of any format")
        if decoder.format == "OGG" and _check_pages(raw):
            decoder.close()
            return stack.enter_context(_converted(file, "ogg")), None
        stream = _mp3_of_unknown_length(raw) if decoder.format == "MP3" else None
        if stream is not None:
            decoder.close()
            return _open_stream(stream), None
    return decoder, size


def _encoded(path: str | Path) -> str | bytes:
    """Return a path as libsndfile takes it; soundfile itself cannot encode all names in the locale C."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def _open_raw(file: str | Path | bytes) -> BinaryIO:
    if isinstance(file, bytes):
        return io.BytesIO(file)
    try:
        return Path(file).open("rb")
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    except OSError as error:
        raise ValueError(f"it cannot be opened: {error.strerror}") from None


def _open_stream(data: bytes) -> Any:
    """Open a file through a pipe, so that libsndfile reads to its end without relying on the length."""
    reading, writing = os.pipe()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return soundfile.SoundFile(reading)


def _mp3_of_unknown_length(raw: BinaryIO) -> bytes | None:
    """Return an MP3 file without the frame that replaces its length, or None if its header has the length."""
    size = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    head = raw.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(head[6:10])))
    raw.seek(start)
    frame = raw.read(2048)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at >= 0:
        flags = int.from_bytes(frame[at + 4 : at + 8])
        counts_frames, counts_bytes = flags & 1, flags & 2
        stated = int.from_bytes(frame[at + 12 : at + 16]) if counts_bytes else size
        raw.seek(start + stated)
        # Files joined to one keep the header of the first.
        joined = size - start > 1.05 * stated + 2**14 or raw.read(2) in (b"ID", frame[:2])
        if counts_frames and not joined:
            return None
        raw.seek(start + 2048)
        frame = frame[:at] + bytes(4) + frame[at + 4 :]
    return frame + raw.read()


def _check_pages(raw: BinaryIO) -> bool:
    """Check the pages of an Ogg file, whose samples libsndfile leaves out silently where a page is damaged.

    Return whether it has several concatenated streams, of which libsndfile reads only the first.
    """
    raw.seek(0)
    expected: dict[bytes, int] = {}  # next page of each stream that has not ended, by its serial number
    chained, begun, count = False, False, 0
    while head := raw.read(27):
        count += 1
        if head[:4] != b"OggS" and count > 1 and not expected:
            break  # data after the end is not audio
        lengths = raw.read(head[26]) if len(head) == 27 else b""
        page = head + lengths + raw.read(sum(lengths))
        serial, number = page[14:18], int.from_bytes(page[18:22], "little")
        first, last = (bool(head[5] & flag) for flag in (2, 4)) if len(head) == 27 else (False, False)
        if page[:4] != b"OggS" or page[22:26] != _page_checksum(page):
            raise ValueError(f"its page {count} is damaged")
        if not first and expected.get(serial) != number:
            raise ValueError(f"its page {count} does not follow the one before")
        chained = chained or (first and begun)
        begun = begun or not first
        expected[serial] = number + 1
        if last:
            del expected[serial]
    if expected:
        raise ValueError("its last page is missing; if it was never written: ffmpeg -i FILE -c copy whole.ogg")
    return chained


def _page_checksum(page: bytes) -> bytes:
    """Compute the checksum of an Ogg page, which is the CRC of zlib with all bits in reverse order."""
    data = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED_BITS)
    return (zlib.crc32(data, 2**32 - 1) ^ (2**32 - 1)).to_bytes(4, "big").translate(_REVERSED_BITS)


@contextlib.contextmanager
def _converted(file: str | Path | bytes, demuxer: str) -> Iterator[Any]:
    """Decode the first audio stream of a file with ffmpeg; yields a `SoundFile` that reads it from a pipe."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(f"it is of a kind ({demuxer}) that needs the program ffmpeg, which is not installed")
    with contextlib.ExitStack() as stack:
        if isinstance(file, bytes):  # MP4 cannot be read from a pipe
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "audio"
            temporary.write_bytes(file)
            file = temporary
        log = stack.enter_context(tempfile.TemporaryFile())
        # The kind is fixed, so that no playlist makes ffmpeg open other files or addresses.
        source = ["-nostdin", "-v", "error", "-f", demuxer, "-i", f"file:{file}", "-map", "0:a:0"]
        command = [program, *source, "-c:a", "pcm_f32be", "-f", "au", "-"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log))
        stack.callback(process.kill)  # where only a part was read
        try:
            decoder = soundfile.SoundFile(process.stdout.fileno(), closefd=False)
        except soundfile.LibsndfileError:
            decoder = None
        if decoder is not None:
            yield decoder
            if process.stdout.read(1):  # only a part was wanted
                return
        status = process.wait()
        log.seek(0)
        text = log.read().decode(errors="replace").replace(f"file:{file}", "it")
        text = re.sub(" @ 0x[0-9a-f]+", "", text)  # another one in every run
        lines = [line for line in text.strip().splitlines() if not line.startswith("[au]")]  # which has no time stamps
        if status or lines or decoder is None:
            raise ValueError(f"ffmpeg cannot read it ({lines[-1] if lines else 'no audio in it'})")
