# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import logging
import multiprocessing
import os
import shutil
import signal
import time
from unittest.mock import patch

import pytest
from safetensors.torch import load_file

from audiolm_hf.training.checkpointing import (
    checkpoint_flaw,
    find_checkpoints,
    newest_checkpoint,
    remove_old_checkpoints,
    seal_checkpoint,
)
from audiolm_hf.training.stages.trainer import StageTrainer
from audiolm_hf.training.stages.training import train_stage
from tests.helpers_stages import config_of, interrupted_after
from tests.helpers_tokens import write_tokens


@pytest.fixture
def checkpoints(tmp_path):
    """Three sealed checkpoints of two small files."""
    for step in (3, 6, 12):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "inner").mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(100))
        (folder / "inner/state.json").write_text("{}")
        seal_checkpoint(folder)
    return tmp_path


@pytest.fixture
def warnings_of(caplog):
    logging.getLogger("transformers").propagate = True
    yield caplog
    logging.getLogger("transformers").propagate = False


def test_whole_checkpoints_are_found_by_their_step(checkpoints):
    (checkpoints / "checkpoint-best").mkdir()
    assert [path.name for path in find_checkpoints(checkpoints)] == ["checkpoint-3", "checkpoint-6", "checkpoint-12"]
    assert newest_checkpoint(checkpoints).name == "checkpoint-12"
    assert newest_checkpoint(checkpoints / "nothing") is None


@pytest.mark.parametrize(
    ("damage", "flaw"),
    [
        (lambda folder: (folder / "weights").write_bytes(bytes(50)), "weights is not what was saved"),
        (lambda folder: (folder / "weights").write_bytes(b"\1" + bytes(99)), "weights is not what was saved"),
        (lambda folder: (folder / "inner/state.json").unlink(), "inner/state.json is missing"),
        (lambda folder: (folder / "sealed.json").unlink(), "it was not finished"),
        (lambda folder: (folder / "sealed.json").write_text('{"wei'), "sealed.json is damaged"),
    ],
)
def test_damage_is_seen_and_the_one_before_taken(checkpoints, warnings_of, damage, flaw):
    damage(checkpoints / "checkpoint-12")
    assert checkpoint_flaw(checkpoints / "checkpoint-12") == flaw
    assert newest_checkpoint(checkpoints).name == "checkpoint-6"
    assert f"checkpoint-12 cannot be resumed from: {flaw}. Going back to the one before." in warnings_of.text


def test_two_checkpoints_and_the_best_are_kept(checkpoints):
    shutil.copytree(checkpoints / "checkpoint-3", checkpoints / "checkpoint-1")
    remove_old_checkpoints(checkpoints, checkpoints / "checkpoint-1")
    assert [path.name for path in find_checkpoints(checkpoints)] == ["checkpoint-1", "checkpoint-6", "checkpoint-12"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    return write_tokens(folder / "train", [30, 12, 25, 40, 9, 33], seed=0), write_tokens(
        folder / "validation", [20, 11]
    )


def weights_and_log(output):
    """The final weights, and the figures of every step."""
    log = json.loads((output / "report.json").read_text())["log"]
    figures = [
        {name: entry[name] for name in entry if "train_" not in name and name != "tokens_per_s"}
        for entry in log
        if "train_loss" not in entry
    ]
    return load_file(output / "final/model.safetensors"), figures


def check_equal(one, other):
    (weights, log), (other_weights, other_log) = weights_and_log(one), weights_and_log(other)
    assert all(weights[name].equal(other_weights[name]) for name in weights)
    assert log == other_log


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    """A training that nothing interrupts."""
    output = tmp_path_factory.mktemp("whole")
    train_stage(config_of(folders, output, **SETTINGS))
    return output


SETTINGS = {"max_steps": 8, "eval_steps": 2, "corruption": 0.2}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_training_goes_on_from_before_a_broken_checkpoint(whole, folders, tmp_path, warnings_of, name):
    output = tmp_path / "broken"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "final")
    last = output / "checkpoints/checkpoint-8"
    with (last / name).open("r+b") as file:
        file.truncate(40)
    train_stage(config_of(folders, output, **SETTINGS))
    assert f"checkpoint-8 cannot be resumed from: {name} is not what was saved" in warnings_of.text
    assert checkpoint_flaw(last) is None
    check_equal(whole, output)


def test_a_moved_training_finds_its_best_checkpoint_and_holds_no_path(folders, tmp_path, monkeypatch):
    bits = iter((1.0, 2.0, 3.0, 4.0, 4.0))  # the first checkpoint is the best
    monkeypatch.setattr(StageTrainer, "validate", lambda *_: {"all": {"bits": next(bits), "accuracy": 0.5}})
    output, data = tmp_path / "runs/here", tmp_path / "data"
    for folder in folders:
        shutil.copytree(folder, data / folder.name)
    with interrupted_after(5):
        train_stage(config_of([data / folder.name for folder in folders], output, **SETTINGS))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"pytest-of" in path.read_bytes()] == []
    first = load_file(output / "checkpoints/checkpoint-2/model.safetensors")
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    shutil.move(data, tmp_path / "moved/data")
    monkeypatch.chdir(tmp_path / "moved")
    final = train_stage(config_of([f"data/{folder.name}/" for folder in folders], "here", **SETTINGS))
    assert json.loads((tmp_path / "moved/here/report.json").read_text())["best_step"] == 2
    weights = load_file(final / "model.safetensors")
    assert all(weights[name].equal(first[name]) for name in weights)


def test_a_checkpoint_counts_only_when_it_is_sealed(folders, tmp_path, monkeypatch):
    def crash(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("audiolm_hf.training.stages.trainer.seal_checkpoint", crash)
    with pytest.raises(KeyboardInterrupt):
        train_stage(config_of(folders, tmp_path, **SETTINGS))
    assert (tmp_path / "checkpoints/checkpoint-2/model.safetensors").is_file()
    assert newest_checkpoint(tmp_path / "checkpoints") is None


@pytest.mark.slow
def test_killed_training_ends_with_the_weights_of_an_uninterrupted_one(whole, folders, tmp_path):
    output = tmp_path / "killed"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["audiolm_hf.training.stages.training"])
    for step, delay_s in ((2, 0.0), (4, 0.002), (6, 0.02), (8, 0.0)):  # while a checkpoint is written, and after
        process = processes.Process(target=train_stage, args=(config_of(folders, output, **SETTINGS),))
        process.start()
        while not (output / f"checkpoints/checkpoint-{step}").exists() and process.is_alive():
            time.sleep(0.0005)
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (output / "final").exists()
    process = processes.Process(target=train_stage, args=(config_of(folders, output, **SETTINGS),))
    process.start()
    process.join()
    check_equal(whole, output)


def train_with_signals(config, *numbers, after=3):
    """Train, with these signals within the step after so many."""
    step = StageTrainer.training_step

    def signalled(trainer, *arguments, **options):
        if trainer.state.global_step == after:
            for number in numbers:
                signal.raise_signal(number)
        return step(trainer, *arguments, **options)

    with patch.object(StageTrainer, "training_step", signalled):
        train_stage(config)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_finishes_its_step_and_resumes(whole, folders, tmp_path, capsys, number):
    before = signal.getsignal(number)
    message = r"stopped at step 4, which is saved in .*; the same command resumes"
    with pytest.raises(KeyboardInterrupt, match=message) as stopped:
        train_with_signals(config_of(folders, tmp_path, **SETTINGS), number)
    assert stopped.value.number == number  # decides the exit status
    assert "Stopping after this step" in capsys.readouterr().err
    assert newest_checkpoint(tmp_path / "checkpoints").name == "checkpoint-4"
    assert not (tmp_path / "final").exists() and signal.getsignal(number) == before
    with pytest.raises(KeyboardInterrupt, match="stopped at step 7"):  # between two checkpoints
        train_with_signals(config_of(folders, tmp_path, **SETTINGS), number, after=6)
    train_stage(config_of(folders, tmp_path, **SETTINGS))
    check_equal(whole, tmp_path)


def test_a_second_interruption_stops_at_once(folders, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped; the same command resumes"):
        train_with_signals(config_of(folders, tmp_path, **SETTINGS), signal.SIGINT, signal.SIGINT)
    assert newest_checkpoint(tmp_path / "checkpoints").name == "checkpoint-2"


def test_an_ignored_interruption_stays_ignored(whole, folders, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train_with_signals(config_of(folders, tmp_path, **SETTINGS), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    check_equal(whole, tmp_path)


def test_a_resumed_training_has_no_new_patience(folders, tmp_path):
    # A learning rate this high soon makes things worse than they were.
    settings = {
        "max_steps": 30,
        "eval_steps": 2,
        "learning_rate": 1.0,
        "decay_steps": 0,
        "warmup_steps": 12,
        "patience": 3,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_stage(config_of(folders, whole, **settings))
    report = json.loads((whole / "report.json").read_text())
    assert report["best_step"] + 6 == report["steps"] < 30
    for after in (report["best_step"] + 2, report["steps"] - 2):
        with pytest.raises(KeyboardInterrupt):
            train_with_signals(config_of(folders, parts, **settings), signal.SIGINT, after=after)
    train_stage(config_of(folders, parts, **settings))
    assert json.loads((parts / "report.json").read_text())["steps"] == report["steps"]
    check_equal(whole, parts)
