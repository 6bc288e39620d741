# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Results are computed once, and refused for other settings."""

import math

import pytest

from audiolm_hf.evaluation.protocols.checkpoint import kept_result
from audiolm_hf.run_folder import named_files


def test_a_result_is_done_once_and_never_passed_off_as_another(tmp_path):
    calls = []
    (tmp_path / "a.parquet").write_bytes(b"12345")

    def evaluate():
        calls.append(1)
        return {"score": float("nan"), "pair": (1, 2.5)}

    def result(name, seed, **options):
        inputs = {"test": named_files([tmp_path / "a.parquet"])}
        return kept_result(tmp_path / "results", name, {"seed": seed, "clips": (1, 2)}, inputs, evaluate, **options)

    first, again = result("codec", 0), result("codec", 0)
    assert first["pair"] == again["pair"] == [1, 2.5] and math.isnan(first["score"]) and math.isnan(again["score"])
    assert len(calls) == 1
    with pytest.raises(ValueError, match=r"codec holds another run; different: seed \(0, now 1\)"):
        result("codec", 1)
    result("codec", 1, overwrite=True)
    result("tokens", 1)
    assert len(calls) == 3
    (tmp_path / "a.parquet").write_bytes(b"54321")  # as long as before
    with pytest.raises(ValueError, match=r"different: test \(a.parquet has other content\)"):
        result("codec", 1)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["codec", "tokens"]


def test_a_result_that_fails_leaves_nothing_that_counts_behind(tmp_path):
    def evaluate():
        raise ValueError("no audio")

    with pytest.raises(ValueError, match="no audio"):
        kept_result(tmp_path, "codec", {"seed": 0}, {}, evaluate)
    assert kept_result(tmp_path, "codec", {"seed": 1}, {}, lambda: {"a": 1}) == {"a": 1}
