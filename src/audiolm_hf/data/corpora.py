# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Public corpora as the parquet files that the recipes train on.

In: the archives as they are published, and lists of what goes into which split; out: a parquet file for each split,
with the audio as mono FLAC of 16 bit, or with MIDI files. Every listed recording must be there; none is in two splits.
"""

import csv
import hashlib
import http.client
import io
import math
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
from datasets import Audio, Features, Value

from audiolm_hf.data.audio import decode_audio
from audiolm_hf.files import write_bytes
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import FILLED, Filename, Settings, Text, matching

SAMPLING_RATE = 16000  # Hz
LARGEST_OFFSET = 1e-3  # a larger constant is subtracted from a recording
SPLITS = ("train", "validation", "test")  # no recording and, where it is known, no speaker is in two of them
_TEXTS = ("text", "speaker", "gender", "accent")
AUDIO_FEATURES = Features(
    {"audio": Audio(sampling_rate=SAMPLING_RATE)}
    | {name: Value("string") for name in _TEXTS}
    | {name: Value("float32") for name in ("duration", "start")}
    | {"source": Value("string")}
)
MIDI_FEATURES = Features(
    {"midi": Value("binary")}
    | {name: Value("string") for name in ("path", "composer", "title")}
    | {"duration": Value("float64"), "source": Value("string")}
)
ARCHIVES_FOLDER = "archives"  # of the downloads, beside the folders of the corpora
_BLOCK_BYTES = 2**20
_TIMEOUT_S = 60.0
_SECONDS = ("duration", "start")  # columns of lists
_ADDRESS = matching(r"(https?|ftp)://[\w.-]+(:\d+)?/(\S*/)?[^\s/]+", "the http, https or ftp address of a file")
_DIGEST = matching(
    r"md5:[\da-f]{32}|sha1:[\da-f]{40}|sha256:[\da-f]{64}|sha512:[\da-f]{128}",
    "md5, sha1, sha256 or sha512, a colon and all hexadecimal digits in lower case",
)


def fetch(url: str, path: Path, digest: str | None = None) -> Path:
    """Download a file, or what is missing of `<path>.partial`; one with another digest is removed."""
    if path.is_file():
        return path
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(url, partial)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{url} cannot be downloaded ({reason}); run the command again to resume, or download it by other means "
            "and name the file with --archive."
        ) from error
    try:
        check_digest(partial, digest)
    except ValueError:
        partial.unlink()
        raise
    partial.replace(path)
    return path


def _download(url: str, partial: Path) -> None:
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # the file was whole, but not yet renamed
            return
        raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT:  # the server restarts the download
            start = 0
        length = response.headers["Content-Length"]  # not sent by every server
        total = None if length is None else start + int(length)
        free = shutil.disk_usage(partial.parent).free
        if total is not None and total - start > free:
            raise OSError(f"{total / 1e9:.3g} GB are missing, and {free / 1e9:.3g} GB are free in {partial.parent}")
        bar = progress_bar(desc=partial.stem, initial=start, total=total, unit="B", unit_scale=True)
        with partial.open("ab" if start else "wb") as file, bar:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
        if total is not None and partial.stat().st_size != total:
            raise OSError(f"{partial.stat().st_size} of {total} bytes arrived")


def check_digest(path: Path, digest: str | None) -> None:
    """Check the digest of a file, `"<algorithm>:<hexadecimal digits>"`, if it is known."""
    if digest is None:
        return
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise ValueError(f"{path} has the {algorithm} {found}, not {expected}; download it again.")


def read_members(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """List the files of an archive, or of its unpacked folder; each is read before the next is asked for."""
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            yield path.relative_to(source).as_posix(), path.read_bytes
        return
    with tarfile.open(source, "r|*") as archive:
        for entry in archive:
            if (file := archive.extractfile(entry)) is not None:
                yield entry.name, file.read


@dataclass
class Corpus(Settings):
    """A corpus: where it is published, and what of it is used."""

    layout: str  # how its archive is laid out, of `LAYOUTS`
    url: Annotated[str, _ADDRESS]  # of the archive
    # Parquet file -> list of its recordings: a name a line, or CSV with details of MIDI files.
    splits: Annotated[dict[Filename, Text], FILLED]
    digest: Annotated[str, _DIGEST] | None = None  # of the archive
    # Parquet file -> CSV with path and start (s) of excerpts that are rendered from the MIDI files.
    excerpts: dict[Filename, Text] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; choose from {', '.join(LAYOUTS)}.")
        if self.excerpts and self.layout != "midi":
            raise ValueError(
                f"excerpts are rendered from MIDI files, and the layout is {self.layout}; leave them out."
            )
        for split in self.splits.keys() & self.excerpts.keys():
            raise ValueError(f"{split} is in splits and in excerpts, whose files are in one folder; rename one.")


@dataclass
class CorporaConfig(Settings):
    """The YAML file of `audiolm-hf data`."""

    corpora: Annotated[dict[Filename, Corpus], FILLED]  # folder of the data folder -> corpus

    def __post_init__(self) -> None:
        super().__post_init__()
        if ARCHIVES_FOLDER in self.corpora:
            raise ValueError(f"A corpus is named {ARCHIVES_FOLDER}, like the folder of the downloads; rename it.")
        files: dict[str, str] = {}  # a download's name -> its address
        for name, corpus in self.corpora.items():
            if files.setdefault(Path(corpus.url).name, corpus.url) != corpus.url:
                raise ValueError(f"The archive of {name} has the name of another; give a url that ends differently.")


@dataclass(frozen=True)
class Recording:
    """A recording of a corpus."""

    content: bytes  # the sound or MIDI file
    name: str  # path of the file in the archive
    labels: dict[str, str]  # text, speaker, gender and accent, as far as they are known


def read_lists(corpus: Corpus, folder: Path) -> dict[str, list[dict[str, str]]]:
    """Read the columns of the recordings of each split, at least `path`; none may be in two of `SPLITS`."""
    columns = ("composer", "title", "duration") if corpus.layout == "midi" else ()
    lists = {split: read_list(folder / name, columns) for split, name in corpus.splits.items()}
    for split, rows in lists.items():
        if len({row["path"] for row in rows}) < len(rows):
            raise ValueError(f"{folder / corpus.splits[split]} names a recording twice; keep it once.")
    owners: dict[str, str] = {}
    for split in lists:
        base = split.removeprefix("midi_")
        owned = {row["path"] for row in lists[split]}  # each is in one split only
        if corpus.layout == "librispeech":
            owned |= {f"speaker {path.partition('-')[0]}" for path in owned}
        for key in owned:
            if base in SPLITS and owners.setdefault(key, base) != base:
                raise ValueError(f"{key} is in the lists of {owners[key]} and {base}; keep it in one.")
    return lists


def read_list(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a list; each has a `path` and, in CSV, the other `columns`."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no list {path}; use a configuration in configs/data.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [{"path": line.strip()} for line in file]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}); give a list of recordings.") from error
    if not rows or not all(row.get("path") for row in rows):
        raise ValueError(f"{path} is empty or has an empty line; it must name a recording in each.")
    for row in rows:
        for column in columns:
            if not row.get(column) or (column in _SECONDS and not _is_time(row[column])):
                kind = "seconds" if column in _SECONDS else "text"
                raise ValueError(f"{path} has the {column} {row.get(column)!r} of {row['path']}; give {kind}.")
    return rows


def _is_time(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False


def _librispeech(source: Path, wanted: set[str]) -> dict[str, Recording]:
    """LibriSpeech: `SPEAKERS.TXT`, and `<speaker>/<chapter>/` with FLAC files and one `.trans.txt`."""
    content: dict[str, tuple[bytes, str]] = {}
    texts: dict[str, str] = {}
    genders: dict[str, str] = {}
    for name, read in read_members(source):
        path = PurePosixPath(name)
        if path.name == "SPEAKERS.TXT":
            lines = [line.split("|") for line in read().decode().splitlines() if not line.startswith(";")]
            sexes = {"F": "female", "M": "male"}
            genders |= {cells[0].strip(): sexes.get(cells[1].strip(), "") for cells in lines if len(cells) > 1}
        elif path.name.endswith(".trans.txt"):
            texts |= dict(line.split(" ", 1) for line in read().decode().splitlines() if " " in line)
        elif path.suffix == ".flac" and path.stem in wanted:
            content[path.stem] = (read(), name)
    found = {}
    for key, (data, name) in content.items():
        speaker = key.partition("-")[0]
        labels = {"text": texts.get(key, ""), "speaker": f"libri-{speaker}", "gender": genders.get(speaker, "")}
        found[key] = Recording(data, name, labels | {"accent": "unlabelled"})
    return found


def _ljspeech(source: Path, wanted: set[str]) -> dict[str, Recording]:
    """LJ Speech: `metadata.csv` (name, text and normalized text between bars), and `wavs/`."""
    content: dict[str, tuple[bytes, str]] = {}
    texts: dict[str, str] = {}
    for name, read in read_members(source):
        path = PurePosixPath(name)
        if path.name == "metadata.csv":
            lines = [line.split("|") for line in read().decode().splitlines()]
            texts = {cells[0]: cells[-1] for cells in lines}
        elif path.suffix == ".wav" and path.stem in wanted:
            content[path.stem] = (read(), name)
        if texts and len(content) == len(wanted):
            break  # the rest of three gigabytes is not needed
    labels = {"speaker": "ljspeech-lj", "gender": "female", "accent": "us"}
    return {key: Recording(data, name, {"text": texts.get(key, "")} | labels) for key, (data, name) in content.items()}


def _midi(source: Path, wanted: set[str]) -> dict[str, Recording]:
    """MIDI files in a folder for each composer."""
    found = {}
    for name, read in read_members(source):
        path = "/".join(PurePosixPath(name).parts[-2:])
        if path in wanted:
            found[path] = Recording(read(), name, {})
    return found


LAYOUTS: dict[str, Callable[[Path, set[str]], dict[str, Recording]]] = {
    "librispeech": _librispeech,
    "ljspeech": _ljspeech,
    "midi": _midi,
}


def read_corpus(corpus: Corpus, source: Path, lists: dict[str, list[dict[str, str]]]) -> dict[str, Recording]:
    """Read the listed recordings from an archive, or the folder it was unpacked into, by the names in the lists."""
    rows = {row["path"]: row for split in lists.values() for row in split}
    try:
        found = LAYOUTS[corpus.layout](source, set(rows))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{source} is not a complete tar archive ({error}); download it again.") from error
    missing = [path for path in rows if path not in found]
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing)} of {len(rows)} recordings, such as {missing[0]}; it is "
            f"incomplete, or not the archive of {corpus.url}."
        )
    for path, row in rows.items():
        expected = row.get("sha256")
        if expected and hashlib.sha256(found[path].content).hexdigest() != expected:
            raise ValueError(f"{path} in {source} is not the file that is listed: its sha256 is not {expected}.")
    return found


def audio_rows(corpus: Corpus, rows: list[dict[str, str]], recordings: dict[str, Recording]) -> list[dict[str, Any]]:
    """Make the rows of a split of sound files, see `AUDIO_FEATURES`."""
    made = []
    for row in rows:
        recording = recordings[row["path"]]
        data, num_samples = as_flac(recording.content)
        made.append(
            {
                "audio": {"bytes": data, "path": f"{row['path']}.flac"},
                "duration": num_samples / SAMPLING_RATE,
                "start": 0.0,
                "source": f"{corpus.url}:{recording.name}",
                **recording.labels,
            }
        )
    return made


def midi_rows(corpus: Corpus, rows: list[dict[str, str]], recordings: dict[str, Recording]) -> list[dict[str, Any]]:
    """Make the rows of a split of MIDI files, see `MIDI_FEATURES`."""
    return [
        {
            "midi": recordings[row["path"]].content,
            "path": PurePosixPath(row["path"]).name,
            "composer": row["composer"],
            "title": row["title"],
            "duration": float(row["duration"]),
            "source": f"{corpus.url}:midis/{row['path']}",
        }
        for row in rows
    ]


def as_flac(content: bytes) -> tuple[bytes, int]:
    """Convert a recording to mono FLAC of 16 kHz and 16 bit; the bytes of such a file are kept."""
    array = decode_audio(content, SAMPLING_RATE)
    offset = float(array.mean())
    with sf.SoundFile(io.BytesIO(content)) as file:
        kept = (file.format, file.subtype, file.channels, file.samplerate) == ("FLAC", "PCM_16", 1, SAMPLING_RATE)
    if kept and abs(offset) <= LARGEST_OFFSET:
        return content, len(array)
    if abs(offset) > LARGEST_OFFSET:
        array = array - offset
    return encode_flac(array), len(array)


def encode_flac(array: np.ndarray) -> bytes:
    """Return mono samples at `SAMPLING_RATE` as a FLAC file of 16 bit."""
    buffer = io.BytesIO()
    sf.write(buffer, array.clip(-1.0, 1.0), SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def write_rows(path: Path, rows: list[dict[str, Any]], features: Features) -> None:
    """Write a parquet file that `datasets` reads as well, whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), buffer)
    write_bytes(path, buffer.getvalue())
