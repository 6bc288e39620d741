# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The times of semantic tokens and frames of codes, for any rates.

A step is the time from one token, or frame, to the next: an exact fraction of a second, so that semantic tokens at 25
Hz and frames at 12.5 Hz (Mimi) or 86.13 Hz (DAC) stay aligned without drift. The longer of the two steps is the unit.
Recordings are cut between units; if a unit is not a multiple of the shorter step, the tokens or frames of that step
are cut at the nearest place between two of them.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

_TOLERANCE = 1e-6  # of a step: floats that are meant to be whole


def _nearest(value: Fraction) -> int:
    """Round to the nearest integer, halves down."""
    return math.ceil(value - Fraction(1, 2))


@dataclass(frozen=True)
class TimeGrid:
    """The steps of semantic tokens and of frames of codes, in seconds; both begin at time 0."""

    token_s: Fraction
    frame_s: Fraction

    @classmethod
    def from_hops(cls, semantic_hop_length: int, semantic_rate: int, hop_length: int, rate: int) -> "TimeGrid":
        """Derive the grid from the samples per semantic token and per frame, each at its own rate in Hz."""
        return cls(Fraction(semantic_hop_length, semantic_rate), Fraction(hop_length, rate))

    @property
    def unit_s(self) -> Fraction:
        """Seconds of a unit, the longer of the two steps."""
        return max(self.token_s, self.frame_s)

    @property
    def frames_per_token(self) -> Fraction:
        """Frames of codes in the time of one semantic token."""
        return self.token_s / self.frame_s

    def tokens_before(self, unit: int) -> int:
        """Return the number of semantic tokens before a unit."""
        return _nearest(unit * self.unit_s / self.token_s)

    def frames_before(self, unit: int) -> int:
        """Return the number of frames before a unit."""
        return _nearest(unit * self.unit_s / self.frame_s)

    def units(self, length_s: float) -> int:
        """Return the number of whole units in `length_s` seconds, at least 1."""
        return max(1, int(length_s / float(self.unit_s) + _TOLERANCE))

    def units_of(self, num_tokens: int, num_frames: int) -> int:
        """Return the number of units of a recording with these tokens and frames; the last may be partial."""
        return num_tokens if self.token_s >= self.frame_s else num_frames

    def whole_units(self, num_frames: int) -> int:
        """Return the largest number of units with at most `num_frames` frames, see [`TimeGrid.frames_of`]."""
        return int(num_frames * self.frame_s / self.unit_s)

    def frames_of(self, num_units: int) -> int:
        """Return the largest number of frames that `num_units` consecutive units can have."""
        return math.ceil(num_units * self.unit_s / self.frame_s)

    def tokens_of(self, num_units: int) -> int:
        """Return the largest number of semantic tokens that `num_units` consecutive units can have."""
        return math.ceil(num_units * self.unit_s / self.token_s)

    def tokens_within(self, num_frames: int) -> int:
        """Return the number of semantic tokens that end within the time of `num_frames` frames."""
        return int(num_frames * self.frame_s / self.token_s)

    def unit_start(self, frame: int) -> int:
        """Return the first frame of the unit that `frame` is in."""
        return self.frames_before(int((frame + Fraction(1, 2)) * self.frame_s / self.unit_s))

    def frames_of_tokens(self, places: Tensor) -> Tensor:
        """Return the frame of each semantic token: the one that begins nearest to the token's beginning.

        If frames are longer than tokens, it is the one in which the token's middle is. `places`, the positions of the
        tokens counted in tokens, and the result are `torch.DoubleTensor`s of shape `(semantic_length,)`.
        """
        step = float(self.frames_per_token)
        if step >= 1:
            return torch.ceil(places * step - 0.5 - _TOLERANCE)
        return torch.floor((places + 0.5) * step + _TOLERANCE)
