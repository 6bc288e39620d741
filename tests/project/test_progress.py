# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Progress bars write little where standard error is not a terminal."""

import ast
from pathlib import Path

import pytest

import audiolm_hf
from audiolm_hf.progress import progress_bar


@pytest.mark.parametrize(
    "make", [lambda: progress_bar(range(1000)), lambda: progress_bar(iter(range(1000)), total=1000)]
)
def test_a_bar_in_a_file_has_a_line_for_each_tenth(capfd, make):
    assert sum(make()) == 499500
    lines = capfd.readouterr().err.split("\r")
    assert 10 <= len(lines) <= 13
    assert "1000/1000" in lines[-1]


def test_a_bar_of_unknown_length_in_a_file_waits(capfd):
    assert sum(progress_bar(iter(range(1000)))) == 499500
    assert len(capfd.readouterr().err.split("\r")) <= 3


def test_all_bars_are_of_one_kind():
    package = Path(audiolm_hf.__file__).parent
    users = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tqdm")
    }
    assert users == {"progress.py"}
