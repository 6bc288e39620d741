# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The memory of a process, which generation must fit into."""

from audiolm_hf import generate_checks_audiolm as checks
from audiolm_hf.generate_checks_audiolm import available_memory


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "_CGROUP", tmp_path)
    assert 2**20 < available_memory() < 2**50
    (tmp_path / "memory.current").write_text("400\n")
    for limit, expected in (("1400\n", 1000), ("300\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert available_memory() == expected
