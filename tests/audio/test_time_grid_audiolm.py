# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The grid of times: exact where the rates are simple, nearest and without drift where they are not."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiolm_hf.time_grid_audiolm import TimeGrid

EQUAL_RATES = TimeGrid.from_hops(640, 16000, 320, 16000)  # 25 tokens and 50 frames a second
ENCODEC = TimeGrid.from_hops(640, 16000, 320, 24000)  # 75 frames a second
MIMI = TimeGrid.from_hops(640, 16000, 1920, 24000)  # 12.5
DAC = TimeGrid.from_hops(640, 16000, 512, 44100)  # 86.13
GRIDS = st.sampled_from([EQUAL_RATES, ENCODEC, MIMI, DAC, TimeGrid.from_hops(320, 16000, 480, 24000)]) | st.builds(
    TimeGrid, *[st.fractions(Fraction(1, 200), Fraction(1, 5), max_denominator=44100)] * 2
)


@pytest.mark.parametrize(
    ("grid", "unit_s", "tokens", "frames"),
    [
        (EQUAL_RATES, Fraction(1, 25), 100, 200),
        (ENCODEC, Fraction(1, 25), 100, 300),
        (MIMI, Fraction(2, 25), 200, 100),
        (DAC, Fraction(1, 25), 100, 345),  # 344.53
    ],
)
def test_units_of_common_codecs(grid, unit_s, tokens, frames):
    assert grid.unit_s == unit_s
    assert (grid.tokens_before(100), grid.frames_before(100)) == (tokens, frames)
    assert grid.frames_of(100) == frames
    assert grid.units(3.0) == int(3 / unit_s)
    assert grid.units(0.001) == 1


@given(grid=GRIDS, unit=st.integers(0, 10**7))
def test_boundaries_are_the_nearest_ones_however_late(grid, unit):
    time = unit * grid.unit_s
    assert abs(grid.frames_before(unit) * grid.frame_s - time) <= grid.frame_s / 2
    assert abs(grid.tokens_before(unit) * grid.token_s - time) <= grid.token_s / 2
    longer = grid.frames_before(unit) if grid.frame_s > grid.token_s else grid.tokens_before(unit)
    assert longer == unit


@given(grid=GRIDS, frames=st.integers(0, 10**6))
def test_whole_units_fill_what_is_there(grid, frames):
    units = grid.whole_units(frames)
    assert grid.frames_of(units) <= frames < grid.frames_of(units + 1)
    covered = grid.frames_of(units)
    tokens = grid.tokens_within(covered)
    # The tokens end with the frames, or a step before.
    assert 0 <= covered * grid.frame_s - tokens * grid.token_s < min(grid.frame_s, grid.token_s)


@given(grid=GRIDS, start=st.integers(0, 1000), length=st.integers(1, 200))
def test_cuts_of_training_and_of_generation_are_the_same(grid, start, length):
    tokens = range(grid.tokens_before(start), grid.tokens_before(start + length))
    first, last = grid.frames_before(start), grid.frames_before(start + length)
    places = torch.arange(grid.tokens_before(start + length) + 5, dtype=torch.float64)
    belongs = grid.frames_of_tokens(places)
    assert [int(place) for place in places[(belongs >= first) & (belongs < last)]] == list(tokens)
    assert len(tokens) <= grid.tokens_of(length)
    assert last - first <= grid.frames_of(length)


@given(grid=GRIDS, frame=st.integers(0, 10**6))
def test_unit_start_is_the_last_boundary_up_to_a_frame(grid, frame):
    start = grid.unit_start(frame)
    unit = round(start * grid.frame_s / grid.unit_s)
    assert start <= frame
    assert start == grid.frames_before(unit)
    assert grid.frames_before(unit + 1) > frame
