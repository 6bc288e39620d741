# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Shared options of the commands, and their checks."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from audiolm_hf.bundled import DEFAULT_CHECKPOINT, resolve_checkpoint
from audiolm_hf.config_values_audiolm import MANY, Within, did_you_mean
from audiolm_hf.files import write_text
from audiolm_hf.run_folder import check_writable, hold_file
from audiolm_hf.threads import set_threads

SEEDS = Within(0, 2**63 - 1, whole=True)
LENGTHS_S = Within(0, 86_400, above=True)  # at most a day; the model checks the memory
CONTINUATIONS = Within(1, 1000, whole=True)
REPLACE = "give another --output, or --overwrite to replace it."


class Checked(argparse.Action):
    """An option with a number, or a list of numbers, that is checked when it is parsed."""

    def __init__(self, *, allowed: Within = MANY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allowed = allowed

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        """Check and store the value or values."""
        for value in values if isinstance(values, list) else [values]:
            self.allowed.check(option or self.dest, value)
        setattr(namespace, self.dest, values)


def add_checkpoint(parser: argparse.ArgumentParser, default: str | None = DEFAULT_CHECKPOINT) -> None:
    """Add `--checkpoint`, which is required if there is no default."""
    text = "name of a bundled checkpoint, folder (also of an adapter) or user/name on the Hub"
    text += "" if default is None else f" (default {default})"
    parser.add_argument("--checkpoint", default=default, required=default is None, help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device` and `--threads`."""
    parser.add_argument("--device", help="device, such as cpu or cuda:0 (default: an accelerator if there is one)")
    text = "number of threads on a CPU (default: OMP_NUM_THREADS, or by the size of the model)"
    parser.add_argument("--threads", type=int, action=Checked, help=text)


def add_seed(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=int, default=0, action=Checked, allowed=SEEDS, help=text)


def add_length(parser: argparse.ArgumentParser, flag: str, text: str, default: float | None = None) -> None:
    """Add an option for seconds or minutes, above 0."""
    parser.add_argument(flag, type=float, default=default, action=Checked, allowed=LENGTHS_S, help=text)


def add_number(parser: argparse.ArgumentParser, flag: str, text: str, default: int, allowed: Within = MANY) -> None:
    """Add an option for a count, of 1 or more."""
    text = f"{text} (default {default})"
    parser.add_argument(flag, type=int, default=default, action=Checked, allowed=allowed, help=text)


def add_continuations(parser: argparse.ArgumentParser, default: int = 1) -> None:
    """Add `--num-continuations`."""
    add_number(parser, "--num-continuations", "continuations of each prompt", default, CONTINUATIONS)


def add_data(
    parser: argparse.ArgumentParser,
    text: str = "parquet files, folders or lists of recordings",
    flag: str = "--data",
    required: bool = True,
) -> None:
    """Add an option for one or more paths of recordings."""
    parser.add_argument(flag, type=Path, nargs="+", required=required, help=text)


def add_report(parser: argparse.ArgumentParser, with_markdown: bool = False) -> None:
    """Add `--output`, the file for the results, and `--overwrite`; required where Markdown is written next to it."""
    text = "JSON file for all metrics; replaced if audiolm-hf wrote it"
    text += "; Markdown is written next to it" if with_markdown else ""
    parser.add_argument("-o", "--output", type=Path, required=with_markdown, help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace any existing file and other results")


class Parser(argparse.ArgumentParser):
    """The parser of a command; an unknown option is an error that suggests the closest one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments; an unknown option is an error."""
        found, rest = super().parse_known_args(args, namespace)
        unknown = next((text.partition("=")[0] for text in rest if text.startswith("-")), None)
        if unknown is not None:
            shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
            known = [flag for action in shown for flag in action.option_strings]
            self.error(f"there is no option {unknown}{did_you_mean(unknown, known)}")
        return found, rest


class _Removed(argparse.Action):
    """An option of an older release; using it is an error that names the replacement."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        raise ValueError(f"The option {option} was removed: {self.const}.")


def add_removed(parser: argparse.ArgumentParser, old: str, advice: str) -> None:
    """Add an option of an older release, whose use is an error with `advice`; `--help` does not show it."""
    parser.add_argument(old, nargs="*", action=_Removed, const=advice, help=argparse.SUPPRESS)


def find_device(name: str | None) -> str:
    """Return the device `name`, or by default the accelerator of this machine, or `"cpu"` without one."""
    devices = ["cpu"]
    if torch.accelerator.is_available():
        kind = str(torch.accelerator.current_accelerator())
        devices += [kind, *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
    if name is not None and name not in devices:
        raise ValueError(f"--device is {name!r}; this machine has {', '.join(devices)}.")
    return name or devices[min(1, len(devices) - 1)]


def load_model(arguments: argparse.Namespace, device: str, *data: Sequence[Path]) -> list[Any]:
    """Return the model of `--checkpoint` in float32, with `--threads` set, and an `AudioSource` for each of `data`.

    The data are checked before the model is loaded.
    """
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.modeling_audiolm import AudioLMModel

    sources = [AudioSource(paths) for paths in data]
    model = AudioLMModel.from_pretrained(resolve_checkpoint(arguments.checkpoint), dtype="float32").eval().to(device)
    set_threads(model, arguments.threads)
    for source in sources:
        source.sampling_rate = model.sampling_rate
    return [model, *sources]


def check_inputs(paths: Iterable[Path | None]) -> None:
    """Check that files and folders exist."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}; check the path.")


@contextmanager
def hold_report(output: Path | None, overwrite: bool, others: Sequence[str] = ()) -> Iterator[None]:
    """Check that a report can be written, also to a new folder, and lock it against other processes.

    Its suffix must not be one of `others`, the suffixes of files written next to it. Existing files are only replaced
    with `overwrite`, or if this program wrote the report.
    """
    if output is None:
        yield
        return
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; name a file, such as {output / 'report.json'}.")
    if output.exists() and not output.is_file():
        raise ValueError(f"--output {output} is a device or a pipe; name a file.")
    if output.suffix in others:
        raise ValueError(f"--output {output} ends in {output.suffix}, like another output; name a .json file.")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"--output {output} lies in {folder}, which is a file; name another folder.")
    check_writable(folder, output.name)
    found = [path for path in (output, *map(output.with_suffix, others)) if path.is_file()]
    if found and not overwrite and not _is_report(output):
        raise ValueError(f"{found[0]} already exists and was not written by audiolm-hf; {REPLACE}")
    with hold_file(output.resolve()):
        yield


def _is_report(path: Path) -> bool:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(report, dict) and str(report.get("command")).startswith("audiolm-hf ")


def write_report(output: Path | None, text: str) -> None:
    """Write a report atomically, also through a symbolic link; without a path, do nothing."""
    if output is not None:
        write_text(output.resolve(), text)
