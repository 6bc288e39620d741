# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The times of semantic tokens and frames of codes, for any rates.

Both steps are exact fractions of a second, so that semantic tokens at 25 Hz and frames at 12.5 Hz (Mimi) or 86.13 Hz
(DAC) stay aligned without drift. Both sequences are cut at boundaries of units, the longer of the two steps; where a
unit is not a multiple of the shorter step, that sequence is cut at its nearest boundary.
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
    """The times of semantic tokens and frames of codes: seconds from one to the next, counted from the same moment."""

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
        """Return the whole units in so many seconds, at least 1."""
        return max(1, int(length_s / float(self.unit_s) + _TOLERANCE))

    def units_of(self, num_tokens: int, num_frames: int) -> int:
        """Return the units that the tokens and frames of one recording fill, the last perhaps in part."""
        return num_tokens if self.token_s >= self.frame_s else num_frames

    def whole_units(self, num_frames: int) -> int:
        """Return the most units whose frames, see [`TimeGrid.frames_of`], are at most so many."""
        return int(num_frames * self.frame_s / self.unit_s)

    def frames_of(self, num_units: int) -> int:
        """Return the frames that cover so many units; also the most frames of so many units anywhere on the grid."""
        return math.ceil(num_units * self.unit_s / self.frame_s)

    def tokens_of(self, num_units: int) -> int:
        """Return the most semantic tokens of so many units anywhere on the grid."""
        return math.ceil(num_units * self.unit_s / self.token_s)

    def tokens_within(self, num_frames: int) -> int:
        """Return the semantic tokens that end within so many frames."""
        return int(num_frames * self.frame_s / self.token_s)

    def unit_start(self, frame: int) -> int:
        """Return the last frame up to `frame` with which a unit begins."""
        return self.frames_before(int((frame + Fraction(1, 2)) * self.frame_s / self.unit_s))

    def frames_of_tokens(self, places: Tensor) -> Tensor:
        """Return the frame of each semantic token, as cuts at units place it: the one nearest to its beginning.

        Where frames are longer than tokens, it is the one that holds its middle. `places` on the grid, in tokens, and
        the result are `torch.DoubleTensor`s of shape `(semantic_length,)`.
        """
        step = float(self.frames_per_token)
        if step >= 1:
            return torch.ceil(places * step - 0.5 - _TOLERANCE)
        return torch.floor((places + 0.5) * step + _TOLERANCE)
