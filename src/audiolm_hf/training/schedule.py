# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The learning rate over a training: a linear rise, a constant part, and a fall along a cosine.

The shape of transformers' `get_wsd_schedule`, with two differences that the shipped recipes were run with: the first
step already has a learning rate above 0, and the fall may begin during the rise.
"""

import math


def warmup_of(warmup_steps: float, max_steps: int) -> int:
    """Return the steps of the rise; a number below 1 is a share of all steps, as in `TrainingArguments`."""
    return max(1, round(warmup_steps * max_steps if warmup_steps < 1 else warmup_steps))


def learning_rate_factor(
    step: int, max_steps: int, warmup_steps: float, decay_steps: int | None = None, floor: float = 0.0
) -> float:
    """Return the learning rate of a step as a share of the highest.

    Args:
        step (`int`): steps done before it.
        max_steps (`int`): of the whole training.
        warmup_steps (`float`): steps of the rise, see [`warmup_of`].
        decay_steps (`int`, *optional*): last steps, of the fall; 0 for none, by default all after the rise.
        floor (`float`, defaults to 0.0): share that the fall ends at.
    """
    warmup = warmup_of(warmup_steps, max_steps)
    rise = min(1.0, (step + 1) / warmup)
    length = max_steps - warmup if decay_steps is None else decay_steps
    if not length:
        return rise
    progress = min(1.0, max(0.0, (step - max_steps + length) / length))
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
