# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from transformers import get_wsd_schedule

from audiolm_hf.settings import build
from audiolm_hf.training.codec.config import CodecTrainingConfig
from audiolm_hf.training.config import learning_rate_factor


def rates(**arguments):
    return [learning_rate_factor(step, 100, **arguments) for step in range(100)]


def test_shape_is_that_of_transformers_after_the_rise():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_wsd_schedule(optimizer, num_warmup_steps=10, num_decay_steps=30, num_training_steps=100)
    ours = rates(warmup_steps=10, decay_steps=30)
    assert ours[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    for step in range(100):
        if step >= 10:
            assert ours[step] == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_values_are_those_that_the_recipes_were_run_with():
    encoder = [0.5 * (1 + math.cos(math.pi * (step - 8) / 92)) for step in range(8, 100)]
    assert rates(warmup_steps=0.08)[8:] == pytest.approx(encoder)
    stage = [
        min(1, (step + 1) / 20) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / 100))) for step in range(100)
    ]
    assert rates(warmup_steps=20, decay_steps=100, floor=0.01) == pytest.approx(stage)
    assert rates(warmup_steps=0, decay_steps=0) == [1.0] * 100


def test_a_fall_over_all_steps_needs_no_rise():
    data = {"folder": "d", "train": ["a"]}
    values = {"output_folder": "o", "data": data, "max_steps": 10, "decay_steps": 10}
    assert build(CodecTrainingConfig, values | {"warmup_steps": 0}).decay_steps == 10
    with pytest.raises(ValueError, match=r"warmup_steps \+ decay_steps is 12, more than max_steps=10"):
        build(CodecTrainingConfig, values | {"warmup_steps": 0.2})
