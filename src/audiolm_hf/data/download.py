# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Archives of public corpora: fetched so that an interruption costs nothing, checked by hash, read without unpacking.

In: a web address, a file or a folder; out: the members that are asked for, as bytes.
"""

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from audiolm_hf.progress import progress_bar

_BLOCK_BYTES = 2**20
_TIMEOUT_S = 60.0


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
        if response.status != http.client.PARTIAL_CONTENT:  # the server begins anew
            start = 0
        length = response.headers["Content-Length"]  # not told by every server
        total = None if length is None else start + int(length)
        free = shutil.disk_usage(partial.parent).free
        if total is not None and total - start > free:
            raise OSError(f"{total / 1e9:.3g} GB are to come, and {free / 1e9:.3g} GB are free in {partial.parent}")
        bar = progress_bar(desc=partial.stem, initial=start, total=total, unit="B", unit_scale=True)
        with partial.open("ab" if start else "wb") as file, bar:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
        if total is not None and partial.stat().st_size != total:
            raise OSError(f"{partial.stat().st_size} of {total} bytes came")


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
