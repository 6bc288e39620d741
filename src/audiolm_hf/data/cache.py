# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A cache of what was read or decoded last, in a bounded amount of memory."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Values by key; the least recently used ones are dropped first. Copies, also in other processes, are empty."""

    def __init__(self, max_bytes: int, num_bytes: Callable[[Value], int]) -> None:
        self.max_bytes, self.num_bytes = max_bytes, num_bytes
        self.total = 0
        self.values: OrderedDict[Any, Value] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_bytes, self.num_bytes)

    def get(self, key: Any, make: Callable[[], Value]) -> Value:
        """Return the value of a key, which `make` computes if it is not there."""
        if key not in self.values:
            value = make()
            self.total += self.num_bytes(value)
            self.values[key] = value
            while self.total > self.max_bytes and len(self.values) > 1:
                self.total -= self.num_bytes(self.values.popitem(last=False)[1])
        self.values.move_to_end(key)
        return self.values[key]
