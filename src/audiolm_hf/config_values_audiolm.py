# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks of values: the allowed ones, their description in errors, and suggestions for unknown words.

Numbers of numpy and torch are allowed where those of Python are, and are converted to these.
"""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def plain(value: Any) -> Any:
    """Return numbers, bools and 0-d arrays of numpy and torch, also in lists and dictionaries, as Python's."""
    if type(value) in (bool, int, float, str):  # also for torch.compile, which cannot trace numpy's types in torch 2.6
        return value
    number = isinstance(value, np.generic | np.ndarray) or (isinstance(value, Tensor) and not value.is_meta)
    if number and value.ndim == 0:
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return {key: plain(inner) for key, inner in value.items()} if type(value) is dict else value


class Allowed:
    """What a value can be; its text ends an error message."""

    holds: Callable[[Any], bool]  # whether a value is allowed

    def check(self, name: str, value: Any, hint: str = "", optional: bool = False) -> Any:
        """Return a value, see [`plain`], or raise a ValueError; `None` is allowed if it is `optional`."""
        value = plain(value)
        if not (self.holds(value) or (optional and value is None)):
            raise ValueError(f"{name} is {value!r}; give {self}{hint}.")
        return value


@dataclass(frozen=True)
class Rule(Allowed):
    """A rule that a function checks, and its text."""

    text: str
    holds: Callable[[Any], bool]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Within(Allowed):
    """A range of numbers, without `low` if `above`, without `high` if `below`, and of integers if `whole`."""

    low: float
    high: float
    above: bool = False
    below: bool = False
    whole: bool = False

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low}"
        kind = "an integer" if self.whole else "a number"
        if self.high == math.inf:
            return f"{kind} of {self.low:,} or more"
        if self.above:
            return f"{kind} above {self.low:,} and {'below' if self.below else 'at most'} {self.high:,}"
        return f"{kind} from {self.low:,} to {'below ' if self.below else ''}{self.high:,}"

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number in the range."""
        kinds = int if self.whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        least = value > self.low if self.above else value >= self.low
        return least and (value < self.high if self.below else value <= self.high)

    def __call__(self, value: Any) -> None:
        """Validate a field of a configuration, a number or a list of them; `None` is allowed."""
        values = value if isinstance(value, list | tuple) else [value]
        if value is not None and not (values and all(self.holds(each) for each in values)):
            each = "one or more, each " if value is values else ""
            raise ValueError(f"{value!r} is out of range; give {each}{self}.")


FLAG = Rule("True or False", lambda value: isinstance(value, bool))
MANY = Within(1, math.inf, whole=True)
# Far above the sizes of existing models, but below sizes at which a single field fills the memory.
COUNT = Within(1, 2**20, whole=True)
LEVELS = Within(1, 256, whole=True)
LAYERS = Within(0, 1000, whole=True)
RATE = Within(1000, 768_000, whole=True)
SHARE = Within(0, 1)


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the closest known word to an unknown one, or all of them."""
    known = sorted(known)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(known)}."


def check_dtype(where: str, dtype: Any) -> None:
    """Check a dtype of weights, or each of a `dict`: `None`, `"auto"`, or a floating-point dtype or its name."""
    names = ("float32", "bfloat16", "float16", "float64")
    for key, each in dtype.items() if isinstance(dtype, dict) else [(None, dtype)]:
        if each not in (None, "auto", *names, *(getattr(torch, name) for name in names)):
            part = "" if key is None else f"[{key!r}]"
            raise ValueError(f"{where}{part} is {each!r}; give one of torch's {', '.join(names)}.")
