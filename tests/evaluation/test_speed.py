# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import sys
import warnings

import pytest
import torch

from audiolm_hf.cli import main
from audiolm_hf.evaluation import speed_peers
from audiolm_hf.evaluation.speed import TRANSFORMERS, format_generation, measure_generation, time_runs
from audiolm_hf.evaluation.speed_tasks import sample, stage_task
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
    for row in [*report["stages"], *report["codec"]]:
        assert row["realtime_factor"] == pytest.approx(row["seconds"] / row["audio_s"])
        assert row["cpu_seconds"] > 0
    for row in report["stages"]:
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
        assert row["ms_per_step"] == pytest.approx(1000 * row["seconds"] / (row["tokens"] / row["batch"]))
    coarse = [row for row in report["stages"] if row["stage"] == "coarse"]
    assert [row["tokens"] for row in coarse] == [20, 60] and coarse[1]["audio_s"] == pytest.approx(0.6)
    assert [row["part"] for row in report["codec"]] == ["encode", "decode"]
    assert report["peak_memory_mib"] > 50


def test_continuations_are_timed_in_each_mode_until_their_first_chunk_and_their_end():
    model = parallel_audiolm()
    report = measure_generation(model, length_s=0.4, batch_sizes=(1,), rounds=1, against=[TRANSFORMERS])
    modes = ["hierarchical", "hierarchical, first chunk", "parallel", "parallel, first chunk"]
    assert [row["mode"] for row in report["continuations"]] == modes
    assert ["realtime_factor" in row for row in report["continuations"]] == [True, False] * 2
    systems = [(row["stage"], row["system"]) for row in report["stages"]]
    both = [(stage, system) for stage in ("semantic", "coarse", "fine") for system in ("audiolm-hf", TRANSFORMERS)]
    assert sorted(systems) == sorted([*both, ("parallel", "audiolm-hf")])
    assert report["skipped"] == {f"{TRANSFORMERS}, parallel stage": "transformers has no generate for masked tokens"}


def test_what_is_not_there_is_skipped_with_the_reason(tiny_audiolm, monkeypatch):
    monkeypatch.setitem(sys.modules, "audiolm_pytorch", None)
    report = measure_generation(tiny_audiolm, 0.1, (1,), 1, [speed_peers.AUDIOLM_PYTORCH])
    assert "sizes" not in report
    assert report["skipped"]["parallel continuations"] == "the checkpoint has no stages for it"
    assert "cannot be imported" in report["skipped"]["audiolm-pytorch"]
    assert "skipped: audiolm-pytorch: cannot be imported" in format_generation(report)


def test_packages_that_the_peer_does_not_need_are_replaced_while_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "audiolm_pytorch").mkdir()
    (tmp_path / "audiolm_pytorch" / "__init__.py").write_text(
        "import warnings, fairseq, torchaudio.transforms as T\nfrom torchaudio.functional import resample\n"
        "from . import audiolm_pytorch\nwarnings.warn = print\nspectrogram = T.MelSpectrogram(n_fft=8)\n"
    )
    (tmp_path / "audiolm_pytorch" / "audiolm_pytorch.py").write_text("get_encoded_dim = None\n")
    monkeypatch.setattr(
        speed_peers, "UNUSED", ("fairseq", "torchaudio", "torchaudio.functional", "torchaudio.transforms")
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    warn = warnings.warn
    peer = speed_peers._import_peer()
    for name in ("audiolm_pytorch", "audiolm_pytorch.audiolm_pytorch"):
        del sys.modules[name]
    assert warnings.warn is warn
    assert not {"fairseq", "torchaudio"} & {name.partition(".")[0] for name in sys.modules}
    assert isinstance(peer.spectrogram, torch.nn.Identity)
    assert peer.audiolm_pytorch.get_encoded_dim("t5") == speed_peers.T5_SIZE


def test_stages_of_the_sizes_of_the_peer_sample_their_tokens():
    for row, call in speed_peers._own_runs((32, 1), torch.float32):
        assert call().shape == (1, row["tokens"])


def test_the_table_has_rows_without_tokens_beside_others(report):
    codec = {
        "stage": "codec",
        "size": "-",
        "system": "peer",
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "realtime_factor": 0.5,
    }
    sizes = [{**report["stages"][0], "size": "256x4"}, codec]
    lines = [line.split() for line in format_generation(report | {"sizes": sizes}).splitlines()]
    assert ["codec", "-", "peer", "-", "-", "-", "1.000", "1.000", "0.500"] in lines


def test_runs_alternate_and_medians_are_without_the_first_round():
    calls = []
    runs = [({}, lambda: calls.append("a")), ({}, lambda: calls.append("b"))]
    time_runs(runs, torch.device("cpu"), 2)
    assert calls == ["a", "b"] * 3
    assert all(row["seconds"] > 0 for row, _ in runs)


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
