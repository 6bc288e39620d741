# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Read audio files in all formats of libsndfile and ffmpeg, and write audio files with metadata.

A path, the bytes of a file, or an open file is read to `(num_channels, num_samples)` float32 and the sampling rate.
The processor and the datasets in `data` use these functions.
"""

import contextlib
import io
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .audio_decoding_audiolm import decode_file, decode_mono, require_soundfile, soundfile
from .audio_samples_audiolm import SAMPLING_RATES, as_float32, check_sampling_rate

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

AudioFile = str | os.PathLike | bytes | BinaryIO

_BLOCK = 2**16  # samples encoded at once; libvorbis crashes on some millions
_UNKNOWN_LENGTH = b"\xff" * 4  # in the header of a WAV file that is still being written
_TEXT_FIELDS = ("title", "copyright", "software", "artist", "comment", "date", "album", "license", "genre")
_METADATA_BYTES = 2**20  # at either end of a file
_MOST_METADATA = 32_000  # bytes of text that are written
_PARTIAL = "audiolm_hf.partial"


class _Format(NamedTuple):
    """libsndfile's names of a file format, and the sampling rates that it supports."""

    format: str
    subtype: str
    sampling_rates: range | tuple[int, ...]


_FORMATS = {
    ".wav": _Format("WAV", "PCM_16", SAMPLING_RATES),
    ".flac": _Format("FLAC", "PCM_16", range(SAMPLING_RATES.start, 655_351)),
    ".ogg": _Format("OGG", "VORBIS", range(SAMPLING_RATES.start, 192_001)),
    ".opus": _Format("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
    ".mp3": _Format("MP3", "MPEG_LAYER_III", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
}

# -- reading ----------------------------------------------------------------------------------------------------------


def _locate(source: AudioFile) -> tuple[str | bytes, str]:
    """Return the path or the bytes of a file, and its name for error messages."""
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        if not text:
            raise ValueError("The path of the audio file is empty; give the path of an audio file.")
        if "://" in text:
            raise ValueError(f"{text} is a web address; download the file and give its path.")
        path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises where there is no such user
        kind, what = 0, "is not a file"
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            what = "does not exist"
        except (OSError, ValueError) as error:
            what = f"cannot be found ({getattr(error, 'strerror', None) or error})"
        if kind == stat.S_IFIFO:
            source = path.read_bytes()
        elif kind != stat.S_IFREG:
            what = "is a folder" if kind == stat.S_IFDIR else what
            raise FileNotFoundError(f"The audio file {text!r} {what}; give the path of an audio file.")
        elif not os.access(path, os.R_OK):
            raise PermissionError(f"The audio file {text!r} may not be read by this user.")
        else:
            return str(path), repr(text)
    elif hasattr(source, "read"):
        if hasattr(source, "seekable") and source.seekable():
            source.seek(0)
        source = source.read()
        if isinstance(source, str):
            raise TypeError("The audio file is open as text; open it with mode 'rb'.")
    if not isinstance(source, bytes | bytearray):
        raise TypeError(f"An audio file is given as a path, bytes or an open file, not as {type(source).__name__}.")
    if len(source) == 0:
        raise ValueError("The audio file given as bytes is empty (0 bytes).")
    return bytes(source), f"given as {len(source)} bytes"


def read_audio(
    source: AudioFile, sampling_rate: int | None = None, end_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Read an audio file, by default completely, even if its header has a wrong length.

    Args:
        source (`str`, `os.PathLike`, `bytes` or binary file): WAV, FLAC, Ogg (Vorbis, Opus), MP3 and the other
            formats of libsndfile; where the program ffmpeg is installed also MP4 (.m4a), WebM, AAC, WMA and AMR.
        sampling_rate (`int`, *optional*): Hz. The file is mixed to mono and resampled to this rate block by block; by
            default it keeps its channels and rate.
        end_s (`float`, *optional*): seconds from the beginning to read at most.

    Returns:
        `(np.ndarray, int)`: float32 samples of shape `(num_channels, num_samples)`, or `(num_samples,)` at
        `sampling_rate`; and the rate in Hz.

    Raises:
        TypeError: if `source` is of another type.
        FileNotFoundError: if the path does not lead to a file.
        ValueError: if the file is not audio, ends before its header says, or is damaged where its format shows that:
            samples of WAV and frames of MP3 have no checksums.
    """
    if sampling_rate is None:
        return _decode(source, lambda file: decode_file(file, end_s=end_s))
    rate = check_sampling_rate(sampling_rate)
    return _decode(source, lambda file: decode_mono(file, rate, end_s=end_s)), rate


def check_audio(source: AudioFile) -> None:
    """Check that a file exists and that its beginning can be decoded; errors are those of [`read_audio`]."""
    read_audio(source, end_s=0.1)


def _decode(source: AudioFile, decode: Callable[[str | bytes], Any]) -> Any:
    """Call a function that decodes a file; errors have the name of the file."""
    file, name = _locate(source)
    try:
        return decode(file)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"The audio file {name} cannot be decoded ({reason}); give a whole WAV, FLAC, Ogg or MP3 file."
        ) from None


def read_ends(source: AudioFile) -> bytes:
    """Return the first and the last MiB of a sound file, where all formats have their metadata.

    Errors are those of [`read_audio`].
    """
    file, _ = _locate(source)
    check_audio(file)
    with io.BytesIO(file) if isinstance(file, bytes) else Path(file).open("rb") as opened:
        first = opened.read(_METADATA_BYTES)
        opened.seek(max(opened.tell(), opened.seek(0, io.SEEK_END) - _METADATA_BYTES))
        return first + opened.read()


# -- writing ----------------------------------------------------------------------------------------------------------


def check_ending(path: str | os.PathLike, sampling_rate: int | None = None) -> None:
    """Check that [`write_audio`] supports the ending of a file, and its format the sampling rate in Hz."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"The output file is {path!r}; give the path of a file, as text or a Path.")
    if any(ord(character) < 32 for character in os.fsdecode(path)):
        raise ValueError(f"The output file is {str(path)!r}; its name must not hold line breaks or the like.")
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"The output file is {str(path)!r}; its name must end in {', '.join(_FORMATS)}.")
    if sampling_rate is None or check_sampling_rate(sampling_rate) in (rates := _FORMATS[suffix].sampling_rates):
        return
    allowed = ", ".join(map(str, rates)) if isinstance(rates, tuple) else f"{rates.start} to {rates.stop - 1}"
    raise ValueError(
        f"The output file is {str(path)!r} and the audio is at {sampling_rate} Hz, but {suffix} files have {allowed} "
        "Hz; choose another ending, such as .wav."
    )


def check_folder(path: str | os.PathLike) -> None:
    """Check that a file can be created: that its folder exists and is writable, and that it is not a folder itself."""
    path = Path(os.fsdecode(path))
    if len(os.fsencode(path.name)) > 255:
        raise ValueError(f"The output file's name has {len(os.fsencode(path.name))} bytes; at most 255 are possible.")
    if path.is_symlink():  # writing follows them
        path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"The output file {str(path)!r} is a folder; give the name of a file.")
    if path.exists() and not path.is_file():
        raise ValueError(f"The output file {str(path)!r} is a pipe, a device or the like; give the name of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} of the output file is not there; make it first.")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise PermissionError(
            f"In the folder {str(path.parent)!r} of the output file no file can be written ({error.strerror})."
        ) from None


def encode_audio(
    audio: Any, sampling_rate: int, suffix: str = ".wav", metadata: Mapping[str, str] | None = None
) -> bytes:
    """Encode mono audio to the bytes of a file of the format with this suffix; see [`write_audio`]."""
    require_soundfile()
    check_ending(f"audio{suffix}", sampling_rate)
    samples = as_float32(audio, "Audio to write", copy=False)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"Audio to write has shape {samples.shape}; give (num_samples,) of finite samples.")
    if len(samples) == 0 and suffix.lower() != ".wav":
        raise ValueError(f"Audio to write holds no samples, which only .wav files can, and not {suffix}.")
    if not isinstance(metadata, Mapping | None):
        raise TypeError(f"metadata is a {type(metadata).__name__}; give a dict of texts.")
    for key, text in (metadata or {}).items():
        plain = isinstance(text, str) and "\0" not in text and text == text.encode(errors="ignore").decode()
        if key not in _TEXT_FIELDS or not plain:
            raise ValueError(f"metadata has {key!r}: {text!r}; give texts by the names {', '.join(_TEXT_FIELDS)}.")
    size = sum(len(text.encode()) for text in (metadata or {}).values())
    if size > _MOST_METADATA:  # of which libsndfile writes WAV and Opus files that cannot be read
        raise ValueError(f"metadata has {size:,} bytes of text; give at most {_MOST_METADATA:,}.")
    format, subtype, _ = _FORMATS[suffix.lower()]
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", int(sampling_rate), 1, subtype, format=format) as file:
        for key, text in (metadata or {}).items():
            setattr(file, key, text)  # libsndfile wants text before samples
        for start in range(0, len(samples), _BLOCK):
            file.write(np.clip(samples[start : start + _BLOCK], -1.0, 1.0))
    return buffer.getvalue()


def write_audio(
    path: str | os.PathLike, audio: Any, sampling_rate: int, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a mono audio file atomically, so that there is always the old or the complete new file.

    An existing file is replaced, and a symbolic link is followed, as by `soundfile.write`.

    Args:
        path (`str` or `os.PathLike`): ends in .wav, .flac (both 16 bit), .ogg (Vorbis), .opus or .mp3.
        audio (`np.ndarray`, `torch.Tensor` or list, of shape `(num_samples,)`): floats, which are clipped to [-1, 1],
            or uint8, int16 or int32 samples.
        sampling_rate (`int`): Hz.
        metadata (`Mapping[str, str]`, *optional*): text fields, see
            [`~audiolm_hf.provenance_audiolm.provenance`].

    Returns:
        `Path` of the file.

    Raises:
        TypeError: if the samples are not numbers, or integers of another type.
        ValueError: if the ending, the rate, the shape or a sample is invalid.
        OSError: if the file cannot be written, or the disk is full.
    """
    check_ending(path, sampling_rate)
    path = Path(path)
    check_folder(path)
    # Encode in memory, because libsndfile does not report errors when a file is closed, such as a full disk.
    data = encode_audio(audio, sampling_rate, path.suffix, metadata)
    _replace(path, lambda file: file.write(data))
    return path


def wav_pieces(
    chunks: Iterable[Any], sampling_rate: int, metadata: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """Encode mono audio, chunk by chunk, to the bytes of a WAV file of 16 bits, for a pipe.

    The header comes first, and says that the length is unknown; players and libraries then read to the end.
    """
    header = encode_audio(np.zeros(0, np.float32), sampling_rate, ".wav", metadata)
    yield header[:4] + _UNKNOWN_LENGTH + header[8:-4] + _UNKNOWN_LENGTH
    for chunk in chunks:
        data = encode_audio(chunk, sampling_rate)
        yield data[data.index(b"data") + 8 :]


def write_wav_pieces(path: str | os.PathLike, pieces: Iterable[bytes]) -> Path:
    """Write what [`wav_pieces`] yields to a file, atomically like [`write_audio`], with the length in the header."""
    path = Path(path)

    def write(file: BinaryIO) -> None:
        sizes = [file.write(piece) for piece in pieces]
        for place, size in ((4, sum(sizes) - 8), (sizes[0] - 4, sum(sizes[1:]))):
            if size < 2**32:  # more than 37 hours at 16 kHz remain of unknown length
                file.seek(place)
                file.write(size.to_bytes(4, "little"))

    check_folder(path)
    _replace(path, write)
    return path


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, or the one that a symbolic link leads to, under another name; rename it when it is on the disk."""
    path = Path(os.path.realpath(path))
    _remove_partials(path.parent)
    partial = path.with_name(f".{secrets.token_hex(8)}.{_PARTIAL}")
    try:
        with _locked(partial) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # such as of a full disk
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Create a locked file, which [`_remove_partials`] of other processes does not remove while it is open."""
    while True:
        with partial.open("xb") as file:
            _lock(file)
            if partial.exists():  # not removed before it was locked
                yield file
                return


def _lock(file: BinaryIO, wait: bool = True) -> bool:
    """Lock an open file until it is closed or its process ends, and return whether this succeeded."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # another process has it, or the file system knows no locks
        return False
    return True


def _remove_partials(folder: Path) -> None:
    """Remove partial files of killed processes."""
    for partial in folder.glob(f".*.{_PARTIAL}"):
        with contextlib.suppress(OSError), partial.open("rb") as file:
            if _lock(file, wait=False):
                partial.unlink()
