# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What the commands have in common: options, and the checks of them that come before any work."""

import argparse
import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from audiolm_hf.bundled import DEFAULT_CHECKPOINT
from audiolm_hf.files import write_text

LARGEST_SEED = 2**63 - 1
LONGEST_S = 86_400  # a day; what does not fit into memory before that the model refuses
MOST_CONTINUATIONS = 1000


class Number(argparse.Action):
    """An option, or a list of them, whose number is checked as it is read.

    Args:
        minimum (`float`): smallest value.
        maximum (`float`, defaults to infinity): largest value; infinity itself is never allowed.
        exclusive (`bool`, defaults to `False`): the minimum itself is not allowed.
        kwargs: as in `add_argument`.
    """

    def __init__(
        self, *, minimum: float = 1, maximum: float = math.inf, exclusive: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum, self.exclusive = minimum, maximum, exclusive

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Check and store the value or values.

        Raises:
            ValueError: naming the option, its value and what is allowed.
        """
        for value in values if isinstance(values, list) else [values]:
            above = value > self.minimum if self.exclusive else value >= self.minimum
            if not (above and value <= self.maximum and math.isfinite(value)):
                allowed = f"above {self.minimum:g}" if self.exclusive else f"{self.minimum:g} or more"
                limit = "" if math.isinf(self.maximum) else f" and at most {self.maximum:g}"
                raise ValueError(f"{option or self.dest} is {value}; give {allowed}{limit}.")
        setattr(namespace, self.dest, values)


def add_checkpoint(parser: argparse.ArgumentParser, default: str | None = DEFAULT_CHECKPOINT) -> None:
    """Add `--checkpoint`, which must be given if there is no default."""
    text = "name of a bundled checkpoint, folder (also of an adapter) or user/name on the Hub"
    text += "" if default is None else f" (default {default})"
    parser.add_argument("--checkpoint", default=default, required=default is None, help=text)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add `--device` and `--threads`."""
    parser.add_argument("--device", help="such as cpu or cuda:0; by default an accelerator if there is one")
    parser.add_argument(
        "--threads",
        type=int,
        action=Number,
        help="threads on a CPU; by default what suits the model's size, or OMP_NUM_THREADS",
    )


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=int, default=0, action=Number, minimum=0, maximum=LARGEST_SEED, help=what)


def add_length(parser: argparse.ArgumentParser, flag: str, text: str, default: float | None = None) -> None:
    """Add an option for seconds or minutes, above 0."""
    parser.add_argument(
        flag, type=float, default=default, action=Number, minimum=0, maximum=LONGEST_S, exclusive=True, help=text
    )


def add_continuations(parser: argparse.ArgumentParser, default: int = 1) -> None:
    """Add `--num-continuations`."""
    text = f"continuations of each prompt (default {default})"
    parser.add_argument(
        "--num-continuations", type=int, default=default, action=Number, maximum=MOST_CONTINUATIONS, help=text
    )


def add_data(parser: argparse.ArgumentParser, what: str = "parquet files, folders or manifests") -> None:
    """Add `--data`, one or more paths of recordings."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help=what)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add `--output`, the file for what an evaluation or a benchmark found."""
    parser.add_argument("-o", "--output", type=Path, help="JSON file for all metrics; replaced if it is there")


class _Renamed(argparse.Action):
    """An option's old name: an error that gives the new one."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        raise ValueError(f"{option} is called {self.const} now.")


def add_renamed(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Refuse an option's old name with an error that gives the new one; `--help` does not show it."""
    parser.add_argument(old, nargs="*", action=_Renamed, const=new, help=argparse.SUPPRESS)


def find_device(name: str | None) -> str:
    """Return the device to compute on.

    Args:
        name (`str`, *optional*): what the user asked for.

    Returns:
        `str`: the device; without a name the accelerator of this machine, or `"cpu"`.

    Raises:
        ValueError: if this machine has no such device.
    """
    devices = ["cpu"]
    if torch.accelerator.is_available():
        kind = str(torch.accelerator.current_accelerator())
        devices += [kind, *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
    if name is not None and name not in devices:
        raise ValueError(f"--device is {name!r}; this machine has {', '.join(devices)}.")
    return name or devices[min(1, len(devices) - 1)]


def check_inputs(paths: Iterable[Path | None]) -> None:
    """Refuse, before the work, a file or folder that is not there.

    Raises:
        FileNotFoundError: naming the first path that does not exist.
    """
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}; check the path.")


def check_writable(folder: Path, name: str = "") -> None:
    """Refuse, before the work, a folder in which no file can be made.

    Args:
        folder (`Path`): the folder, which must be there.
        name (`str`, defaults to `""`): of the file that will be made, for file systems that limit names.

    Raises:
        ValueError: with the system's reason.
    """
    try:
        tempfile.TemporaryFile(dir=folder, prefix=name).close()
    except OSError as error:
        raise ValueError(f"In the folder {folder} no file can be written ({error.strerror}).") from None


def check_report(output: Path | None, others: Sequence[str] = ()) -> None:
    """Refuse, before the work, a report that could not be written after it.

    Args:
        output (`Path`, *optional*): the file; its folder is made later if it is not there.
        others (`Sequence[str]`, *optional*): endings of files that are written beside it.

    Raises:
        ValueError: if it is a folder, has no name or the ending of another file, or its folder cannot be written to.
    """
    if output is None:
        return
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; name a file, such as {output / 'report.json'}.")
    if output.suffix in others:
        raise ValueError(
            f"--output {output} ends in {output.suffix}, as what is written beside it; name a .json file."
        )
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"--output {output} lies in {folder}, which is a file; name another folder.")
    check_writable(folder, output.name)


def write_report(output: Path | None, text: str) -> None:
    """Write a report whole or not at all; without a path do nothing."""
    if output is not None:
        write_text(output, text)


__all__ = [
    "Number",
    "add_checkpoint",
    "add_continuations",
    "add_data",
    "add_length",
    "add_machine",
    "add_renamed",
    "add_report",
    "add_seed",
    "check_inputs",
    "check_report",
    "check_writable",
    "find_device",
    "write_report",
]
