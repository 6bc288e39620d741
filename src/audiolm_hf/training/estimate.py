# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What a training will need, before it is started: memory of each process, operations of a step, hours.

Parameters and the memory of activations come from the real modules, run without memory (`fake_run`). Hours follow from
the peak of a device and an assumed utilisation of it. `audiolm-hf train --config FILE --estimate` comes in here.
"""

from typing import Any

from audiolm_hf.training.estimate_audio import estimate_centroids, estimate_codec
from audiolm_hf.training.estimate_result import Estimate, describe, table
from audiolm_hf.training.estimate_stage import estimate_stage
from audiolm_hf.training.recipe import RecipeConfig, resolve_steps

ESTIMATORS: dict[str, Any] = {"stage": estimate_stage, "codec": estimate_codec, "centroids": estimate_centroids}


def estimate_training(kind: str, config: Any, num_processes: int = 1) -> Estimate:
    """Estimate one training.

    Args:
        kind (`str`): of the training: `"stage"`, `"codec"` or `"centroids"`.
        config: its dataclass.
        num_processes (`int`, defaults to 1): devices that share every batch.

    Returns:
        [`Estimate`].

    Raises:
        ValueError: there is no estimate for this kind, or the decoder's sizes are not in the file.
    """
    if kind not in ESTIMATORS:
        raise ValueError(f"There is no estimate for the kind {kind!r}; there is one for {', '.join(ESTIMATORS)}.")
    return ESTIMATORS[kind](config, num_processes)


def estimate_recipe(recipe: RecipeConfig, num_processes: int = 1) -> list[Estimate]:
    """Estimate every step of a recipe that trains on an accelerator; arguments as for [`estimate_training`]."""
    return [
        estimate_training(step.kind, step.config, num_processes)
        for step in resolve_steps(recipe)
        if step.kind in ESTIMATORS
    ]


__all__ = ["describe", "estimate_recipe", "estimate_training", "table"]
