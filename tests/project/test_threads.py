# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Threads by the model's size."""

import pytest
import torch
from torch import nn

from audiolm_hf import threads
from audiolm_hf.threads import check_threads, set_threads, usable_cpus


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def model_of(*sizes: int) -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(1, size, bias=False) for size in sizes))


@pytest.mark.parametrize(
    ("sizes", "cpus", "expected"),
    [((4,), 8, 1), ((24_999_999,), 8, 1), ((10**6, 80_000_000), 8, 3), ((10**9,), 8, 8), ((10**9,), 1, 1)],
)
def test_the_largest_part_and_the_machine_decide(monkeypatch, sizes, cpus, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: cpus)
    text = set_threads(model_of(*sizes))
    assert torch.get_num_threads() == expected
    assert text.startswith(f"{expected} thread") and "--threads sets another number" in text


def test_what_is_asked_for_is_set(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads(model_of(4), 3) == "3 threads (as asked)"
    assert torch.get_num_threads() == 3


def test_the_environment_has_the_last_word_by_default(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    assert set_threads(model_of(4)) == "2 threads (as OMP_NUM_THREADS says)"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("value", ["", "0", "-3", "many", "0x2"])
def test_an_environment_that_holds_no_number_is_passed_over(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    torch.set_num_threads(2)
    assert set_threads(model_of(4)).startswith("1 thread (the largest part has")


def test_a_number_for_each_level_of_openmp_is_one(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    torch.set_num_threads(2)
    assert set_threads(model_of(4)) == "2 threads (as OMP_NUM_THREADS says)"


@pytest.mark.parametrize(("text", "allowed"), [("max 100000", 99), ("150000 100000", 1), ("400000 100000", 4)])
def test_the_quota_of_a_container_counts(monkeypatch, tmp_path, text, allowed):
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    unlimited = usable_cpus()
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus() == min(unlimited, allowed)


def test_more_threads_than_cpus_are_refused():
    with pytest.raises(ValueError, match=r"--threads is 100000; this process may use \d+ CPUs"):
        check_threads(100_000)
    check_threads(4 * usable_cpus())
    check_threads(None)
