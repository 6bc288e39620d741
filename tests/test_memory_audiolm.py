# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Work that does not fit into memory is refused with the figures."""

import pytest

from audiolm_hf import memory_audiolm as memory
from audiolm_hf.memory_audiolm import available_memory, check_memory


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert 2**20 < available_memory() < 2**50
    (tmp_path / "memory.current").write_text("400\n")
    for limit, expected in (("1400\n", 1000), ("300\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert available_memory() == expected


def test_what_does_not_fit_is_refused_with_the_figures(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * 10**9)
    check_memory(3e9, "It", "give less")
    with pytest.raises(ValueError, match="It would take about 4 GB of memory, and 3 GB are available; give less"):
        check_memory(4e9, "It", "give less")
