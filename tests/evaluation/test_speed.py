# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from audiolm_hf.cli import main
from audiolm_hf.evaluation.speed import (
    format_generation,
    measure_generation,
    sample,
    stage_tasks,
)
from audiolm_hf.token_layout_audiolm import level_mask


@pytest.fixture(scope="module")
def report(tiny_audiolm):
    return measure_generation(tiny_audiolm, length_s=0.2, batch_sizes=(1, 3), rounds=1)


def test_tasks_are_so_many_seconds_of_every_stage(tiny_audiolm):
    tasks = {task.name: task for task in stage_tasks(tiny_audiolm, 0.4)}
    assert [(name, task.num_tokens) for name, task in tasks.items()] == [
        ("semantic", 10),
        ("coarse", 40),
        ("fine", 60),
    ]
    assert [task.audio_s for task in tasks.values()] == pytest.approx([0.4] * 3)
    windows = [task.audio_s for task in stage_tasks(tiny_audiolm, 60.0)]
    assert windows == pytest.approx([1.0, 1.0, 0.5])  # no more than a stage's window, its prompt included


@pytest.mark.parametrize("do_sample", [True, False])
def test_both_modes_sample_the_same_tokens_of_the_right_levels(tiny_audiolm, do_sample):
    for task in stage_tasks(tiny_audiolm, 0.2):
        stage = tiny_audiolm.stages[task.name]
        cached, uncached = (sample(stage, task, 2, mode, do_sample) for mode in ("cached", "uncached"))
        assert cached.shape == (2, task.num_tokens) and cached.equal(uncached)
        allowed = level_mask(stage.config)
        turns = torch.arange(task.num_tokens) % len(allowed)
        assert bool(allowed[turns, cached[0]].all())
        assert not bool((cached == stage.config.end_token_id).any())


def test_figures_follow_from_tokens_and_times(report):
    assert [(row["stage"], row["batch"], row["mode"]) for row in report["stages"][:4]] == [
        ("semantic", 1, "cached"),
        ("semantic", 1, "uncached"),
        ("semantic", 3, "cached"),
        ("semantic", 3, "uncached"),
    ]
    assert len(report["stages"]) == 12
    for cached, uncached in zip(report["stages"][::2], report["stages"][1::2], strict=True):
        assert cached["tokens"] == uncached["tokens"]
        assert uncached["speedup"] == 1
        assert cached["speedup"] == pytest.approx(uncached["seconds"] / cached["seconds"])
        for row in (cached, uncached):
            assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
            assert row["realtime_factor"] == pytest.approx(row["seconds"] / row["audio_s"])
    coarse = [row for row in report["stages"] if row["stage"] == "coarse" and row["mode"] == "cached"]
    assert [row["tokens"] for row in coarse] == [20, 60] and coarse[1]["audio_s"] == pytest.approx(0.6)


def test_what_cannot_be_measured_is_an_error(tiny_audiolm):
    with pytest.raises(ValueError, match="length_s is 0"):
        measure_generation(tiny_audiolm, 0)
    with pytest.raises(ValueError, match=r"rounds is 1 and batch_sizes \[0\]"):
        measure_generation(tiny_audiolm, 0.1, (0,), 1)


def test_command_prints_the_table_and_writes_the_figures(tiny_audiolm, tmp_path, capsys):
    tiny_audiolm.save_pretrained(tmp_path / "model")
    command = ["benchmark", "generation", "--checkpoint", str(tmp_path / "model"), "--length-s=0.1", "--rounds=1"]
    assert main([*command, "--batch", "1", "2", "--device=cpu", "-o", str(tmp_path / "speed.json")]) == 0
    report = json.loads((tmp_path / "speed.json").read_text())
    assert capsys.readouterr().out.endswith(format_generation(report) + "\n")
    assert {row["batch"] for row in report["stages"]} == {1, 2}
    assert report["checkpoint"] == str(tmp_path / "model")
