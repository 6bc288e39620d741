# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Where the figures of a training with a loop of its own go, besides its `log.jsonl`: TensorBoard, W&B or Trackio."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator

Tracker = Literal["none", "tensorboard", "wandb", "trackio"]


def tracker_settings(report_to: Tracker, folder: Path) -> dict[str, Any]:
    """Say to an [`Accelerator`] where figures go.

    Args:
        report_to (`str`): `"none"`, `"tensorboard"`, `"wandb"` or `"trackio"`.
        folder (`Path`): of the training; TensorBoard's files are written into it.

    Returns:
        `dict`: keyword arguments of [`Accelerator`].

    Raises:
        ImportError: the tracker is not installed.
    """
    if report_to == "none":
        return {}
    if importlib.util.find_spec(report_to) is None:
        raise ImportError(
            f"report_to is {report_to!r}, which is not installed; `pip install {report_to}` installs it."
        )
    return {"log_with": report_to, "project_dir": str(folder)}


def start_tracking(accelerator: Accelerator, name: str, config: Any) -> None:
    """Open the tracker, if there is one.

    Args:
        accelerator ([`Accelerator`]): made with [`tracker_settings`].
        name (`str`): of the project.
        config (dataclass): shown beside the figures.
    """
    plain = (bool, int, float, str)
    values = {key: value if isinstance(value, plain) else str(value) for key, value in asdict(config).items()}
    accelerator.init_trackers(f"audiolm_hf-{name}", values)


def stop_tracking(accelerator: Accelerator) -> None:
    """Close the tracker, if there is one; `Accelerator.end_training` would part the processes, too."""
    for tracker in accelerator.trackers:
        tracker.finish()


__all__ = ["Tracker", "start_tracking", "stop_tracking", "tracker_settings"]
