# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Output folders, each of which belongs to one run and is written by one process at a time.

`run.json` has the kind, the settings and the hashes of the inputs of a run. The same run is resumed; another run, and
a second process, are refused.
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.utils import WeakFileLock

from audiolm_hf.files import PARTIAL, write_json

RECORD_FILE = "run.json"
_FORMAT = 1  # of the record and of the folders' content
_LOCK_FILE = ".lock"
HASHED_BYTES = 4 * 2**30  # of an input's files; larger inputs are compared by modification times
_SHOWN_LENGTH = 40  # characters of a value in an error
_SHOWN_FILES = 3

_STOPPED = "stopped; the same command resumes from what is finished in {}."

FileStates = dict[str, list[Any]]  # size, time in nanoseconds and hash of files, by their names in an input


class Interrupted(KeyboardInterrupt):
    """An interruption by a signal, and how to resume."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


@dataclass
class RunFolder:
    """A folder that is held by this process, and the content of its `run.json`."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the run is finished and its result is unchanged."""
        result = self.record.get("result")
        if result is None:
            return False
        return not changed_files(result, file_states({name: self.path / name for name in result}, result))

    def finish(self, result: Path) -> None:
        """Record that the run is finished, with the file or folder of its result in the run's folder."""
        files = walk_files(result) if result.is_dir() else [result]
        states = file_states({path.relative_to(self.path).as_posix(): path for path in files})
        write_json(self.path / RECORD_FILE, self.record | {"result": states})


def check_writable(folder: Path, name: str = "") -> None:
    """Check that a file, whose `name` may be too long, can be created in a folder, which need not exist yet."""
    places = (folder.absolute(), *folder.absolute().parents)
    found = next(each for each in places if each.exists() or each.is_symlink())
    if not found.is_dir():
        what = "a file" if found.exists() else "a link to nothing"
        raise NotADirectoryError(f"{found} is {what}; give another output folder.")
    try:
        tempfile.TemporaryFile(dir=found, prefix=name).close()
    except OSError as error:
        raise PermissionError(f"In the folder {found} no file can be written ({error.strerror}).") from None


@contextmanager
def hold_folder(
    folder: str | Path,
    kind: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Path]],
    *,
    overwrite: bool = False,
    shared: bool = False,
) -> Iterator[RunFolder]:
    """Hold a folder for a run within a context, and create it if needed; a folder of another run is an error.

    `settings` are of JSON types, and `inputs` the files that the result depends on, by key of the settings and then by
    names that do not depend on their location, see [`named_files`]. `overwrite` empties a folder of another run, and
    `shared` allows other files in it.
    """
    path = Path(folder)
    check_writable(path)
    path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        _lock(path / _LOCK_FILE, stack)
        old = _read_record(path)
        if old is None and not shared and _has_content(path):
            raise ValueError(f"{path} holds files and no {RECORD_FILE}, so no run wrote it; give another folder.")
        new = _describe(kind, settings, inputs, old or {})
        different = [] if old is None else _differences(old, new)
        if different and _has_content(path):
            if not overwrite:
                raise ValueError(
                    f"{path} holds another run; different: {', '.join(different)}. Give another output folder, or "
                    "--overwrite (overwrite=True) to remove what the folder holds."
                )
            _empty(path)
        if old is not None and not different:
            new["result"] = old.get("result")
        write_json(path / RECORD_FILE, new)
        try:
            yield RunFolder(path, new)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            raise Interrupted(str(error) or _STOPPED.format(path), number) from None


@contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Hold a file that is to be written within a context; a second process is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{_LOCK_FILE}-{path.name}")
    with ExitStack() as stack:
        _lock(lock, stack, f"Another process writes {path}; wait for it, or give another file.")
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


def recorded_result(folder: Path) -> FileStates:
    """Return the recorded [`file_states`] of the result of a finished run; empty if it is not finished."""
    record = _read_record(folder)
    return {} if record is None else record.get("result") or {}


def holds_finished(
    folder: str | Path, kind: str, settings: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Path]]
) -> bool:
    """Return whether a run in a folder is finished; see [`hold_folder`] for the arguments."""
    path = Path(folder)
    old = _read_record(path)
    if old is None or not RunFolder(path, old).done:
        return False
    return not _differences(old, _describe(kind, settings, inputs, old))


def _lock(file: Path, stack: ExitStack, refusal: str = "") -> None:
    """Lock a file for a context or raise `BlockingIOError`; the lock ends with the process, even if it is killed."""
    try:
        stack.enter_context(WeakFileLock(file, timeout=0.5))
    except TimeoutError as error:
        text = f"Another process is at work in {file.parent}; wait for it, or give another folder."
        raise BlockingIOError(refusal or text) from error


def temporary_folder(prefix: str) -> tuple[tempfile.TemporaryDirectory, ExitStack]:
    """Return a new temporary folder and its lock, after removing those of the prefix whose processes were killed."""
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError), ExitStack() as stack:  # in use, or another user's
            if time.time() - old.stat().st_mtime > 60:  # and not just made
                _lock(old / _LOCK_FILE, stack)
                shutil.rmtree(old)
    folder, lock = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True), ExitStack()
    _lock(Path(folder.name) / _LOCK_FILE, lock)
    return folder, lock


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((path / RECORD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path / RECORD_FILE} is damaged; remove it and what the folder holds, or give another one.")
    return record


def _describe(
    kind: str, settings: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Path]], old: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of `run.json`, with the old hashes of unchanged files."""
    known = old.get("inputs", {})
    states = {key: file_states(files, known.get(key, {})) for key, files in inputs.items()}
    return {"format": _FORMAT, "kind": kind, "settings": json.loads(json.dumps(settings)), "inputs": states}


def named_files(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files, and all files in folders except hidden ones and `run.json`, by relative names."""
    named: dict[str, Path] = {}
    for place, root in enumerate(paths):
        for path in walk_files(root) if root.is_dir() else [root]:
            name = path.name if path == root else path.relative_to(root).as_posix()
            named[f"{name} ({place + 1})" if name in named else name] = path
    return named


def walk_files(root: Path) -> list[Path]:
    """Return the files of a folder by name, except hidden ones and `run.json`, also of linked folders, each once."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    seen: set[str] = set()
    for folder, names, files in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back would never end
            names.clear()
            continue
        seen.add(real)
        # Links last: a folder is found under its own name.
        ordered = sorted((Path(folder, name).is_symlink(), name) for name in names if not name.startswith("."))
        names[:] = [name for _, name in ordered]
        found += [Path(folder, name) for name in files if not name.startswith(".") and name != RECORD_FILE]
    return sorted(found)


def file_states(
    files: Mapping[str, Path], known: FileStates | None = None, hashed_bytes: float = HASHED_BYTES
) -> FileStates:
    """Return sizes, modification times and hashes of files, which may not exist, by the same names.

    Files whose size and time are those of an earlier result (`known`) are not read again. The hashes of files beyond
    `hashed_bytes` in all are `None`.
    """
    states: FileStates = {}
    for name, path in files.items():
        if not path.is_file():
            states[name] = [None, None, None]
            continue
        status = path.stat()
        size, time = status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)
        before = (known or {}).get(name)
        if before is not None and before[:2] == [size, time]:
            states[name] = before
            continue
        hashed_bytes -= size
        states[name] = [size, time, file_hash(path) if hashed_bytes >= 0 else None]
    return states


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between two records as text."""
    if old.get("format") != new["format"]:
        return [f"format ({old.get('format')}, now {new['format']})"]
    if old.get("kind") != new["kind"]:
        return [f"kind ({old.get('kind')}, now {new['kind']})"]
    before, now = _flat(old["settings"]), _flat(new["settings"])
    words = [
        f"{key} ({_shown(before, key)}, now {_shown(now, key)})"
        for key in sorted(before.keys() | now.keys())
        if (key in before) != (key in now) or before.get(key) != now.get(key)
    ]
    for key in sorted(old["inputs"].keys() | new["inputs"].keys()):
        changed = changed_files(old["inputs"].get(key, {}), new["inputs"].get(key, {}))
        if changed:
            more = f" and {len(changed) - _SHOWN_FILES} more" if len(changed) > _SHOWN_FILES else ""
            words.append(f"{key} ({', '.join(changed[:_SHOWN_FILES])}{more})")
    return words


def changed_files(old: FileStates, new: FileStates) -> list[str]:
    """Return the differences between two results of [`file_states`] as text."""
    changed = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            changed.append(f"{name} is {'new' if name in new else 'gone'}")
            continue
        (size, time, digest), (new_size, new_time, new_digest) = old[name], new[name]
        same = size == new_size and (time == new_time or (digest is not None and digest == new_digest))
        if not same:
            changed.append(f"{name} has other content")
    return changed


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    text = repr(values[key]) if key in values else "not given"
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "..."


def _has_content(path: Path) -> bool:
    return any(
        file.is_file()
        and file.name != RECORD_FILE
        and not any(part.startswith((_LOCK_FILE, PARTIAL)) for part in file.relative_to(path).parts)
        for file in path.rglob("*")
    )


def _empty(path: Path) -> None:
    """Empty a folder except for its locks, if no other process holds it."""
    with ExitStack() as stack:
        for lock in path.rglob(_LOCK_FILE):
            if lock != path / _LOCK_FILE:
                _lock(lock, stack)
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif not entry.name.startswith(_LOCK_FILE):
            entry.unlink()
