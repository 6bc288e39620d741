# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The memory of a process, which generation must fit into."""

import pytest
import torch

from audiolm_hf import generate_checks_audiolm as checks
from audiolm_hf.generate_checks_audiolm import available_memory


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "_CGROUP", tmp_path)
    assert 2**20 < available_memory() < 2**50
    (tmp_path / "memory.current").write_text("400\n")
    for limit, expected in (("1400\n", 1000), ("300\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert available_memory() == expected


def test_candidates_of_one_row_at_a_time_take_memory(tiny_audiolm, monkeypatch):
    def needed(**options):
        with pytest.raises(ValueError, match="semantic_num_candidates") as caught:
            tiny_audiolm.generate(torch.zeros(2, 1280), continuation_length_s=0.5, **options)
        return float(str(caught.value).split("about ")[1].split()[0])

    monkeypatch.setattr(checks, "available_memory", lambda: 0)
    one, fifty, hundred = (needed(semantic_num_candidates=count) for count in (1, 50, 100))
    assert one < fifty < hundred
    # Twice as many rows have twice as many samples and codes, but no more candidates at once.
    assert needed(semantic_num_candidates=100, num_return_sequences=2) < 2 * hundred
