# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Bad and odd inputs, drawn from descriptions, and what each must come to: one clear error or a right result.

A family of inputs is a function of a random generator that returns a [`Case`]. [`answer`] runs it within a time limit.
"""

import contextlib
import faulthandler
import linecache
import math
import os
import random
import re
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError

SOURCE = str(Path(__file__).parents[1] / "src")
SHARE = float(os.environ.get("AUDIOLM_ODD_INPUTS", "1"))  # of the usual number of inputs
SEED = int(os.environ.get("AUDIOLM_ODD_SEED", "0"))
CPU_LIMIT_S = 5.0
WALL_LIMIT_S = 120.0
_CLEAR = (ValueError, TypeError, OSError, ImportError, NotImplementedError, StrictDataclassError)
# What Python, numpy and torch say of a value that nobody has checked.
_RAW = re.compile(
    r"not supported between|is not (iterable|callable|subscriptable)|has no attribute|unsupported operand|mismatch"
    r"|must match the size|out of bounds|broadcast|inhomogeneous|cannot be interpreted|invalid literal|could not conv"
    r"|must be real number|unpack|unhashable|mat1 and mat2|not implemented for|ambiguous|positional argument"
)


@dataclass
class Case:
    """One input: what is done with it, what must hold of the result, and the words that name it in an error."""

    label: str
    run: Callable[[], Any]
    check: Callable[[Any], None] = lambda result: None
    names: tuple[str, ...] = ()
    watched: Path | None = None  # a folder in which a refused input leaves nothing new


@dataclass
class Tally:
    """What became of the inputs of a family; `faults` holds one text for each kind."""

    counts: Counter = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
        return "\n\n".join([counts, *list(self.faults.values())[:40]])


class TooSlow(BaseException):
    """An input took longer than its limit; no `except Exception` stops it."""


def _stop(signum: int, frame: Any) -> None:
    raise TooSlow(f"more than {CPU_LIMIT_S} s of work, or {WALL_LIMIT_S} s of waiting")


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise [`TooSlow`] where an input takes too long; what hangs outside of Python ends the process."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    faulthandler.dump_traceback_later(2 * WALL_LIMIT_S, exit=True)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        for number, handler in before.items():
            signal.signal(number, handler)


def is_clear(error: BaseException, names: tuple[str, ...]) -> bool:
    """Whether an error is for the user: raised on purpose by this package, or with the name of what was given."""
    if isinstance(error, StrictDataclassError):  # names the field; its cause says what is wrong
        return error.__cause__ is None or (isinstance(error.__cause__, _CLEAR) and not _RAW.search(str(error)))
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return True
    if not isinstance(error, (*_CLEAR, RuntimeError)) or len(text) < 10:
        return False
    frame = traceback.extract_tb(error.__traceback__)[-1]
    on_purpose = linecache.getline(frame.filename, frame.lineno or 0).strip().startswith("raise")
    if frame.filename.startswith(SOURCE) and on_purpose:
        return True
    return isinstance(error, _CLEAR) and not _RAW.search(text) and any(name in text for name in names)


def answer(case: Case) -> tuple[str, str]:
    """Run a case: `"refused"` or `"right"`, or the kind of its fault, and a description."""
    torch.manual_seed(0)
    files = _files(case.watched)
    try:
        with warnings.catch_warnings(), time_limit():
            warnings.simplefilter("error", UserWarning)
            result = case.run()
    except TooSlow as error:
        return "hangs", f"hangs: {case.label}: {error}\n{_place(error)}"
    except Exception as error:
        left = _files(case.watched) - files
        if left:
            return "leaves files", f"leaves files: {case.label}: {sorted(left)}"
        if is_clear(error, case.names):
            return "refused", ""
        return "unclear", f"unclear: {case.label}: {type(error).__name__}: {str(error)[:300]}\n{_place(error)}"
    try:
        case.check(result)
    except Exception as error:
        return "wrong", f"wrong: {case.label}: {type(error).__name__}: {str(error)[:300]}\n{_place(error)}"
    return "right", ""


def _files(folder: Path | None) -> set[Path]:
    return set() if folder is None else set(folder.rglob("*"))


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "odd_inputs" not in frame.filename]
    return "\n".join(f"    {Path(frame.filename).name}:{frame.lineno}: {frame.line}" for frame in frames[-4:])


def try_all(family: Callable[[random.Random], Case], count: int, name: str) -> Tally:
    """Draw and run the cases of a family; equal at every call."""
    rng = random.Random(f"{SEED} {name}")
    tally = Tally()
    for _ in range(max(1, round(count * SHARE))):
        kind, text = answer(family(rng))
        tally.counts[kind] += 1
        if text:
            tally.faults.setdefault(re.sub(r"[\d.]+", "#", text.partition("\n")[2] or text), text)
    return tally


# -- values -----------------------------------------------------------------------------------------------------------

_NUMBERS = [0, 1, -1, 2, 3, 7, 10, 255, 1000, 16000, 2**20, 2**31, 2**40, 10**30, -(10**9)]
_REALS = [0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-300, 1e-3, 12.25, 1e9, 1e308, -1e308, math.nan, math.inf, -math.inf]
_TEXTS = ["", "no", "false", "0.5", "nan", "1e3", "a\0b", "ümläut", "x" * 300, "../..", "~", "None", "[1]"]


def _strange() -> list[Any]:
    return [
        *(
            None,
            True,
            False,
            b"",
            b"\xff\0",
            [],
            [None],
            [1, "a"],
            [[1]],
            {},
            {"a": 1},
            {1: 2},
            (),
            (0.5,),
            {1, 2},
            1j,
        ),
        *(object(), len, int, range(3), iter([1]), Path("nowhere"), np.float32(0.5), np.int64(3), np.bool_(True)),
        *(np.float64(math.nan), np.array([1.5, 2]), np.array("a"), np.zeros((2, 0)), torch.tensor(1.5)),
        *(torch.zeros(0), torch.tensor([1, 2]), torch.float16, torch.device("cpu"), random.Random(0)),
    ]


def odd_value(rng: random.Random) -> Any:
    """Any value at all."""
    return rng.choice(rng.choice([_NUMBERS, _REALS, _TEXTS, _strange()]))


def misspelled(rng: random.Random, word: str) -> str:
    """A word with a letter dropped, doubled or exchanged, never the same."""
    place = rng.randrange(len(word))
    changed = [
        word[:place] + word[place + 1 :],
        word[: place + 1] + word[place:],
        word[:place] + "q" + word[place + 1 :],
    ]
    return rng.choice([other for other in changed if other != word])


def brief(value: Any) -> str:
    """A value in a label."""
    if isinstance(value, torch.Tensor):
        return f"tensor{tuple(value.shape)} {value.dtype} {value.layout}".replace("torch.", "")
    if isinstance(value, np.ndarray):
        return f"array{value.shape} {value.dtype}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {brief(inner)}" for key, inner in [*value.items()][-12:]) + "}"
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."


_FLOATS = (torch.float16, torch.bfloat16, torch.float64)
_OTHERS = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool, torch.complex64)


def odd_tensor(rng: random.Random, good: torch.Tensor) -> Any:
    """A tensor like `good` with something changed: its type, shape, values or kind; or something else altogether."""
    change = rng.randrange(9)
    if change == 0:
        return good.to(rng.choice(_FLOATS))
    if change == 1:
        return good.to(rng.choice(_OTHERS))
    if change == 2:
        return rng.choice(
            [good[0], good[None], good[..., None], good[:0], good[..., :0], good.movedim(0, -1), good.sum()]
        )
    if change == 3:  # another length or batch
        return rng.choice([good[..., :-1], good[..., :1], torch.cat([good, good]), torch.cat([good, good], -1)])
    if change == 4:
        values = good.clone()
        spot = tuple(rng.randrange(size) for size in values.shape)
        special = [-1, -100, 2, 10**9] + (
            [math.nan, math.inf, -math.inf, 0.5, 1e30] if good.is_floating_point() else []
        )
        values[spot] = rng.choice(special)
        return values
    if change == 5:
        return rng.choice([torch.zeros_like(good), -good, good * 1000, torch.full_like(good, 1), good.flip(-1)])
    if change == 6:
        apart = torch.stack([good, good], -1)[..., 0]  # not contiguous
        leaf = good.clone().requires_grad_() if good.is_floating_point() else good
        return rng.choice([apart, leaf, good.to_sparse(), good.clone()])
    if change == 7:
        return rng.choice([good.numpy(), good.tolist(), [*good], None])
    return odd_value(rng)


def holds(condition: Any, what: str) -> None:
    """Fail with a text unless a condition holds."""
    if not bool(condition):
        raise AssertionError(what)


def equal(result: Any, expected: Any, what: str) -> None:
    """Fail unless two tensors are the same."""
    same = result.shape == expected.shape and torch.equal(result.to(expected.dtype), expected)
    holds(same, f"{what}: {brief(result)} is not that of the usual form, {brief(expected)}")
