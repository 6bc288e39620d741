# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The accelerator and the trackers of a training with its own loop."""

import importlib.util
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator

from audiolm_hf.training.config import TrainingConfig


def require_trackers(config: TrainingConfig) -> None:
    """Check that the packages of `report_to` are installed; a missing one is an `ImportError`."""
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"report_to names {name!r}, which is not installed; run `pip install {name}`.")


def start_accelerator(config: TrainingConfig, name: str, **options: Any) -> Accelerator:
    """Build the accelerator of this process with `options`, and open the trackers as project `name`.

    Raises:
        ImportError: a tracker is not installed.
    """
    require_trackers(config)
    accelerator = Accelerator(
        mixed_precision="bf16" if config.bf16 else "no",
        cpu=config.use_cpu or not torch.accelerator.is_available(),
        log_with=list(config.report_to) or None,
        project_dir=config.output_folder,
        **options,
    )
    plain = (bool, int, float, str)
    values = {key: value if isinstance(value, plain) else str(value) for key, value in asdict(config).items()}
    accelerator.init_trackers(f"audiolm_hf-{name}", values)
    return accelerator


def stop_tracking(accelerator: Accelerator) -> None:
    """Close the trackers, without leaving the process group as `Accelerator.end_training` does."""
    for tracker in accelerator.trackers:
        tracker.finish()
