# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints come back as they were, a damaged one gives way to the one before, and nothing is ever half written."""

import json
import logging

import pytest
import torch
from torch import nn

from audiolm_hf.training.checkpointing import (
    append_log,
    find_checkpoints,
    load_training_state,
    require_finite,
    rewind_log,
    save_training_state,
)


class TrainedLine:
    """A linear layer, its optimizer and their checkpoints in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 0.1)

    def train_and_save(self, step, **options):
        self.model(torch.full((1, 3), float(step))).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return save_training_state(
            self.folder, step, {"model": self.model}, {"optimizer": self.optimizer}, {"figure": step / 2}, **options
        )

    def load(self):
        return load_training_state(self.folder, {"model": self.model}, {"optimizer": self.optimizer})


@pytest.fixture
def line(tmp_path):
    return TrainedLine(tmp_path / "checkpoints")


def test_a_checkpoint_brings_weights_optimizer_and_state_back(line):
    line.train_and_save(1)
    weights = line.model.weight.clone()
    line.train_and_save(2)
    expected = line.model.weight.clone()
    other = TrainedLine(line.folder)
    assert other.load() == {"step": 2, "figure": 1.0}
    assert torch.equal(other.model.weight, expected) and not torch.equal(expected, weights)
    # The next step depends on the moments of the optimizer.
    line.train_and_save(3)
    other.train_and_save(3)
    assert torch.equal(other.model.weight, line.model.weight)


def test_no_checkpoint_is_no_state(line):
    assert line.load() is None


def test_the_newest_two_are_kept_and_what_a_kill_left_is_removed(line):
    line.train_and_save(1)
    (line.folder / ".partial-step-00000009").mkdir()
    for step in (2, 3):
        line.train_and_save(step)
    assert [path.name for path in line.folder.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in find_checkpoints(line.folder)] == ["step-00000002", "step-00000003"]


def damage(checkpoint, how):
    match how:
        case "truncated weights":
            path = checkpoint / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-9])
        case "empty optimizer":
            (checkpoint / "optimizer.safetensors").write_bytes(b"")
        case "missing weights":
            (checkpoint / "model.safetensors").unlink()
        case "missing state":
            (checkpoint / "state.json").unlink()
        case "half a state":
            (checkpoint / "state.json").write_text('{"step": ')
        case "another state":
            (checkpoint / "state.json").write_text("{}")
        case "a flipped bit":
            path = checkpoint / "model.safetensors"
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)


@pytest.mark.parametrize(
    "how",
    [
        "truncated weights",
        "empty optimizer",
        "missing weights",
        "missing state",
        "half a state",
        "another state",
        "a flipped bit",
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(line, how, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    line.train_and_save(1)
    expected = line.model.weight.clone()
    damage(line.train_and_save(2), how)
    assert line.load()["step"] == 1
    assert torch.equal(line.model.weight, expected)
    assert "step-00000002 cannot be resumed from" in caplog.text
    line.train_and_save(2)  # takes the place of the damaged one
    assert line.load()["step"] == 2


def test_damaged_checkpoints_alone_are_an_error(line):
    damage(line.train_and_save(1), "half a state")
    with pytest.raises(ValueError, match="is as it was saved; --overwrite starts again"):
        line.load()


def test_a_checkpoint_of_another_model_is_not_passed_over(line):
    line.train_and_save(1)
    line.model = nn.Linear(4, 2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        line.load()


def test_weights_that_are_not_finite_are_not_saved_and_the_ones_before_stay(line):
    line.train_and_save(1)
    with torch.no_grad():
        line.model.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"diverged at step 2: the weight bias is not finite; .*step-00000001"):
        save_training_state(line.folder, 2, {"model": line.model}, {}, {})
    assert line.load()["step"] == 1
    require_finite(line.model, 1, line.folder)


def test_a_log_forgets_the_steps_that_are_done_again(tmp_path):
    path = tmp_path / "log.jsonl"
    rewind_log(path, 0)
    for step in (10, 20, 30):
        append_log(path, {"step": step, "loss": 1 / step})
    whole = path.read_text()
    with path.open("a") as log:
        log.write('{"step": 40, "lo')  # killed while writing
    rewind_log(path, 30)
    assert path.read_text() == whole
    rewind_log(path, 25)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]
    append_log(path, {"step": 30})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30]
