# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import itertools
import json
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from audiolm_hf.training.stages import clock as clock_module
from audiolm_hf.training.stages.clock import ClockCallback, TrainingClock, write_elapsed


@pytest.fixture
def now(monkeypatch):
    """A clock on the wall that only moves when told to."""
    wall = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: wall.seconds))
    return wall


def test_share_is_of_steps_or_of_minutes_whichever_is_further(now):
    clock = TrainingClock(max_steps=100, max_minutes=10)
    clock.start()
    assert clock.share_done(25) == 0.25
    now.seconds += 300
    assert clock.share_done(25) == 0.25  # it stands still until it is read
    clock.read()
    assert clock.share_done(25) == 0.5
    assert clock.share_done(80) == 0.8
    now.seconds += 600
    clock.read()
    assert clock.share_done(80) == 1.0


def test_learning_rate_rises_then_follows_a_cosine():
    clock = TrainingClock(max_steps=1000)
    rates = [clock.learning_rate_factor(step, warmup_steps=100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == pytest.approx(1, abs=0.03)
    assert rates[500] == pytest.approx(0.505, abs=1e-3)
    assert rates[1000] == pytest.approx(0.01)
    assert all(one >= other for one, other in itertools.pairwise(rates[99:]))


@pytest.mark.parametrize(("schedule", "middle", "end"), [("linear", 0.505, 0.01), ("constant", 1, 1)])
def test_other_schedules_rise_likewise(schedule, middle, end):
    clock = TrainingClock(max_steps=1000, schedule=schedule)
    rates = [clock.learning_rate_factor(step, warmup_steps=100) for step in range(1001)]
    assert rates[49] == pytest.approx(0.5, abs=0.03)
    assert (rates[500], rates[1000]) == (pytest.approx(middle), pytest.approx(end))


def test_unlimited_steps_still_give_the_trainer_a_number():
    assert TrainingClock(max_steps=7).step_limit == 7
    assert TrainingClock(max_minutes=1).step_limit > 10**6


def test_callback_stops_saves_and_validates_when_time_is_up(now, tmp_path):
    clock = TrainingClock(max_minutes=1)
    callback = ClockCallback(clock, "coarse")
    arguments = SimpleNamespace(output_dir=str(tmp_path), device=None)
    state, control = TrainerState(is_world_process_zero=False), TrainerControl()
    callback.on_train_begin(arguments, state, control)
    callback.on_optimizer_step(arguments, state, control)
    callback.on_step_end(arguments, state, control)
    assert not control.should_training_stop
    now.seconds += 60
    callback.on_optimizer_step(arguments, state, control)
    callback.on_step_end(arguments, state, control)
    assert control.should_training_stop
    assert control.should_save
    assert control.should_evaluate


def test_time_goes_on_after_a_resumption(now, tmp_path):
    checkpoint = tmp_path / "checkpoint-5"
    checkpoint.mkdir()
    arguments = SimpleNamespace(output_dir=str(tmp_path), device=None)
    state, control = TrainerState(global_step=5), TrainerControl()
    first = ClockCallback(TrainingClock(max_minutes=1), "coarse")
    first.on_train_begin(arguments, state, control)
    now.seconds += 45
    first.on_optimizer_step(arguments, state, control)
    write_elapsed(checkpoint, first.clock)
    first.on_train_end(arguments, state, control)
    assert json.loads((checkpoint / "clock.json").read_text()) == {"elapsed_s": 45.0}
    now.seconds += 3600
    second = TrainingClock(max_minutes=1)
    callback = ClockCallback(second, "coarse")
    callback.on_train_begin(arguments, state, control)
    callback.on_train_end(arguments, state, control)
    assert second.elapsed_s == 45.0
    assert second.share_done(5) == 0.75
