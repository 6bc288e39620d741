# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Tables are aligned, cards have their rows, JSON has no NaN."""

import json
import math

from audiolm_hf.evaluation.report import (
    format_headlines,
    format_interval,
    format_table,
    from_json,
    headline,
    join_parts,
    systems_table,
    to_json,
)

SYSTEMS = {"codec": {"stoi": 0.9, "error": 0.25}, "Opus": {"stoi": 0.8}}


def test_columns_are_aligned():
    assert format_table(["a", "bb"], [["ccc", "1"]]) == "a    bb\n---  --\nccc   1"
    lines = systems_table(SYSTEMS, {"stoi": "STOI", "error": "error %"}).splitlines()
    assert [line.split() for line in lines[2:]] == [["codec", "0.900", "25.0"], ["Opus", "0.800", "-"]]


def test_a_card_has_the_first_system_and_those_that_can_be_compared_with_it():
    assert headline("stoi", "codec, STOI", SYSTEMS) == ("codec, STOI", "0.900", "Opus: 0.800")
    assert headline("error", "error", SYSTEMS) == ("error", "0.250", "")
    card = format_headlines([headline("stoi", "STOI", SYSTEMS)])
    assert card == "| metric | value | baselines |\n|---|--:|---|\n| STOI | 0.900 | Opus: 0.800 |"


def test_parts_and_intervals():
    assert join_parts(["a", "", "b"]) == "a\n\nb\n"
    assert format_interval({"mean": 1, "low": 0.5, "high": 2}) == "1.000 [0.500, 2.000]"


def test_json_has_no_nan():
    text = to_json({"a": [float("inf"), 1.5], 2: {"b": float("nan")}})
    assert json.loads(text) == {"a": [None, 1.5], "2": {"b": None}}
    assert math.isnan(from_json(text)["2"]["b"]) and from_json(text)["a"][1] == 1.5
