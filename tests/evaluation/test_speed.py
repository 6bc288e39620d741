# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from audiolm_hf.cli import main
from audiolm_hf.evaluation.speed import (
    format_generation,
    measure_generation,
    sample,
    stage_task,
)
from audiolm_hf.token_layout_audiolm import level_mask
from tests.helpers_parallel import parallel_audiolm


@pytest.fixture(scope="module")
def report(tiny_audiolm):
    return measure_generation(tiny_audiolm, length_s=0.2, batch_sizes=(1, 3), rounds=1)


def test_tasks_are_so_many_seconds_of_every_stage(tiny_audiolm):
    tasks = {name: stage_task(tiny_audiolm, name, 0.4) for name in tiny_audiolm.stages}
    found = [(name, num_tokens) for name, (_, num_tokens, _) in tasks.items()]
    assert found == [("semantic", 10), ("coarse", 40), ("fine", 60)]
    assert [audio_s for *_, audio_s in tasks.values()] == pytest.approx([0.4] * 3)
    assert [len(context) for context, *_ in tasks.values()] == [1, 1 + 10 + 1, 1 + 40 + 1]
    windows = [stage_task(tiny_audiolm, name, 60.0)[2] for name in tiny_audiolm.stages]
    assert windows == pytest.approx([stage.config.window_length_s for stage in tiny_audiolm.stages.values()])


def test_tokens_are_of_the_right_levels():
    model = parallel_audiolm()
    for name, stage in model.stages.items():
        context, num_tokens, _ = stage_task(model, name, 0.2)
        found = sample(stage, context, num_tokens, 2)
        assert found.shape == (2, num_tokens)
        allowed = level_mask(stage.config)
        assert bool(allowed[torch.arange(num_tokens) % len(allowed), found[0]].all())
        assert not bool((found == stage.config.end_token_id).any())


def test_metrics_follow_from_tokens_and_times(report):
    assert [(row["stage"], row["batch"]) for row in report["stages"][:3]] == [
        ("semantic", 1),
        ("semantic", 3),
        ("coarse", 1),
    ]
    assert len(report["stages"]) == 6
    for row in report["stages"]:
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
        assert row["realtime_factor"] == pytest.approx(row["seconds"] / row["audio_s"])
    coarse = [row for row in report["stages"] if row["stage"] == "coarse"]
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
    assert report["checkpoint"] == "model"


def test_the_device_is_named(report):
    assert "CPU, " in report["device"] and report["device"].endswith((" 1 thread", "threads"))
