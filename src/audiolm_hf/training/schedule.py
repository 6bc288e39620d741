# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The learning rate schedule: linear warmup, a constant phase, and cosine decay.

It differs from transformers' `get_wsd_schedule` in two ways, on which the bundled checkpoints depend: the learning
rate of the first step is above 0, and the decay may begin during the warmup.
"""

import math


def warmup_of(warmup_steps: float, max_steps: int) -> int:
    """Return the number of warmup steps; a number below 1 is a share of all steps, as in `TrainingArguments`."""
    return max(1, round(warmup_steps * max_steps if warmup_steps < 1 else warmup_steps))


def learning_rate_factor(
    step: int, max_steps: int, warmup_steps: float, decay_steps: int | None = None, floor: float = 0.0
) -> float:
    """Return the learning rate as a share of its peak; the last steps, by default all, decay to `floor`."""
    warmup = warmup_of(warmup_steps, max_steps)
    rise = min(1.0, (step + 1) / warmup)
    length = max_steps - warmup if decay_steps is None else decay_steps
    if not length:
        return rise
    progress = min(1.0, max(0.0, (step - max_steps + length) / length))
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
