# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""An estimate of one training, and how it is written down; see `estimate`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audiolm_hf.training.hardware import Accelerator

# Shares of a device's peak that are assumed: large matrix products reach much of it; a codec's convolutions have few
# channels and wait for memory, and a speech encoder has some of both.
ASSUMED_UTILISATION = {"stage": 0.4, "codec": 0.05, "centroids": 0.2}
GIB = 2**30
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Estimate:
    """What one training needs.

    Args:
        kind (`str`): of the training.
        name (`str`): of the part that is trained.
        parameters (`int`): that are trained, or used where nothing is.
        batch (`str`): what a step learns from, over all processes.
        steps (`int`, *optional*): of the training; `None` where time ends it.
        flops_per_step (`float`): operations of the models in one step, over all processes.
        memory (`dict`): bytes of one process, by what holds them.
        without_checkpointing, with_checkpointing (`int`, *optional*): bytes of activations, either way.
        bf16 (`bool`): computes in bfloat16.
        recomputes (`bool`, defaults to `False`): the forward pass is computed twice (gradient checkpointing).
    """

    kind: str
    name: str
    parameters: int
    batch: str
    steps: int | None
    flops_per_step: float
    memory: dict[str, float] = field(repr=False)
    without_checkpointing: int | None = None
    with_checkpointing: int | None = None
    bf16: bool = True
    recomputes: bool = False

    @property
    def memory_bytes(self) -> float:
        """Bytes of one process in all."""
        return sum(self.memory.values())

    def hours(self, device: Accelerator, utilisation: float | None) -> float | None:
        """Hours of one device at this share of its peak or the assumed one; `None` if the steps are not known."""
        if self.steps is None:
            return None
        utilisation = utilisation or ASSUMED_UTILISATION[self.kind]
        operations = self.flops_per_step * self.steps * (4 / 3 if self.recomputes else 1)
        return operations / (utilisation * device.peak_flops(self.bf16)) / 3600


def trained_state_bytes(parameters: int, num_processes: int) -> dict[str, float]:
    """Bytes of float32 weights, their gradients (twice with DDP's buckets) and the two moments of AdamW."""
    size = float(FLOAT32_BYTES * parameters)
    return {"weights": size, "gradients": size * (1 if num_processes == 1 else 2), "optimizer": 2 * size}


def describe(estimate: Estimate, device: Accelerator, utilisation: float | None = None) -> str:
    """Write an estimate as lines of text.

    Args:
        estimate ([`Estimate`]): of one training.
        device ([`Accelerator`]): what it is to run on.
        utilisation (`float`, *optional*): share of the device's peak, 0 to 1; by default `ASSUMED_UTILISATION`.

    Returns:
        `str`: without a line break at the end.
    """
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in estimate.memory.items())
    lines = [
        f"{estimate.name}: {estimate.parameters / 1e6:.1f} M parameters",
        f"a step: {estimate.batch}; {estimate.flops_per_step / 1e12:.1f} * 10^12 operations",
        f"memory of a process: {estimate.memory_bytes / GIB:.1f} GiB ({parts})",
    ]
    if estimate.without_checkpointing is not None and estimate.with_checkpointing is not None:
        lines.append(
            f"activations: {estimate.without_checkpointing / GIB:.1f} GiB, with gradient checkpointing "
            f"{estimate.with_checkpointing / GIB:.1f} GiB"
        )
    hours = estimate.hours(device, utilisation)
    if hours is not None:
        peak = device.peak_flops(estimate.bf16) / 1e12
        speed = f"{utilisation or ASSUMED_UTILISATION[estimate.kind]:.0%} of {peak:.0f} * 10^12 a second"
        lines.append(f"{estimate.steps:,} steps: {_hours(hours)} h of one {device.name} at {speed}")
    return "\n".join(lines)


def table(estimates: Sequence[Estimate], device: Accelerator, utilisation: float | None = None) -> str:
    """Write estimates as a Markdown table; arguments as for [`describe`]."""
    rows = [
        "| training | parameters | a step learns from | 10^12 operations a step | GiB per process | steps "
        f"| hours of one {device.name} |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for estimate in estimates:
        hours = estimate.hours(device, utilisation)
        rows.append(
            f"| {estimate.name} | {estimate.parameters / 1e6:.1f} M | {estimate.batch.split(',')[0]} "
            f"| {estimate.flops_per_step / 1e12:.1f} | {estimate.memory_bytes / GIB:.1f} "
            f"| {'' if estimate.steps is None else f'{estimate.steps:,}'} | {'' if hours is None else _hours(hours)} |"
        )
    return "\n".join(rows)


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 10 else f"{hours:.0f}"


__all__ = ["ASSUMED_UTILISATION", "FLOAT32_BYTES", "Estimate", "describe", "table", "trained_state_bytes"]
