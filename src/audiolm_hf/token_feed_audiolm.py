# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Tokens and codes of several rows, passed from one stage to the next piece by piece.

A stage yields a list of pieces, one for each row, as soon as it has some; the next stage pulls only what its window
needs and forgets what is behind it. So the windows bound the memory, whatever the length.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .time_grid_audiolm import TimeGrid


class Piece(NamedTuple):
    """What a stage adds to a row: tokens `(length,)` or codes `(levels, frames)`; `last` if nothing follows."""

    values: Tensor
    last: bool


Pieces = Iterator[list[Piece]]


class Feed:
    """Known tokens or codes of several rows, and the pieces that a stage adds to them."""

    def __init__(self, known: list[Tensor], source: Pieces) -> None:
        self.kept, self.first, self.source = [*known], [0] * len(known), source
        self.ended = [False] * len(known)

    def count(self, row: int) -> int:
        """Return how many values a row has so far, forgotten ones included."""
        return self.first[row] + self.kept[row].shape[-1]

    def pull(self) -> None:
        """Wait for the next pieces."""
        pieces = next(self.source, None)
        if pieces is None:
            self.ended = [True] * len(self.kept)
            return
        for row, piece in enumerate(pieces):
            self.kept[row] = torch.cat([self.kept[row], piece.values], -1)
            self.ended[row] |= piece.last

    def reach(self, row: int, stop: int) -> None:
        """Wait until a row has `stop` values, or has ended."""
        while not self.ended[row] and self.count(row) < stop:
            self.pull()

    def between(self, row: int, start: int, stop: int) -> Tensor:
        """Return the values of a row from `start` to `stop`."""
        return self.kept[row][..., start - self.first[row] : stop - self.first[row]]

    def forget(self, row: int, start: int) -> None:
        """Drop the values of a row before `start`."""
        if start > self.first[row]:
            self.kept[row], self.first[row] = self.kept[row][..., start - self.first[row] :].clone(), start


class TimedTokens(Feed):
    """Semantic tokens of prompts and those that follow, with their times.

    Each token after the prompt lasts `duration` steps of the tokenizer. `num_frames` returns the number of
    frames of a row, given its index and how many tokens follow its prompt; before the row has ended, a lower bound.
    """

    def __init__(
        self,
        known: list[Tensor],
        source: Pieces,
        *,
        grid: TimeGrid,
        duration: float,
        num_frames: Callable[[int, int], int],
    ) -> None:
        super().__init__(known, source)
        self.prompt_lengths = [len(tokens) for tokens in known]
        self.grid, self.duration, self._num_frames = grid, duration, num_frames

    def num_new(self, row: int) -> int:
        """Return how many tokens follow the prompt of a row so far."""
        return self.count(row) - self.prompt_lengths[row]

    def num_frames(self, row: int) -> int:
        """Return how many frames a row has or, before it has ended, at least has."""
        return self._num_frames(row, self.num_new(row))

    def starts(self, row: int, first: int, stop: int) -> Tensor:
        """Return, on the CPU, the codec frames to which the tokens from `first` to `stop` belong."""
        places, prompt = torch.arange(first, stop, dtype=torch.float64, device="cpu"), self.prompt_lengths[row]
        return self.grid.frames_of_tokens(places.where(places < prompt, prompt + (places - prompt) * self.duration))

    def reach_frame(self, row: int, frame: int) -> None:
        """Wait until a row has all tokens of the frames before `frame`, and more frames than that, or has ended."""
        while not self.ended[row]:
            count = self.count(row)
            if self.num_frames(row) > frame and float(self.starts(row, count, count + 1)) >= frame:
                return
            self.pull()

    def between_frames(self, row: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the tokens of frames from `start` to `stop`, and their frames counted from `start`."""
        starts = self.starts(row, self.first[row], self.count(row))
        first, last = torch.searchsorted(starts, starts.new_tensor([start, stop])).tolist()
        return self.kept[row][first:last], starts[first:last] - start

    def forget_frames(self, row: int, start: int) -> None:
        """Drop the tokens of the frames before `start`."""
        starts = self.starts(row, self.first[row], self.count(row))
        self.forget(row, self.first[row] + int(torch.searchsorted(starts, float(start))))
