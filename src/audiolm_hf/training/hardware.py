# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What accelerators can do at most, for estimates before a training and for utilisation after a measurement."""

import re
from dataclasses import dataclass

from audiolm_hf.config_values_audiolm import did_you_mean


@dataclass(frozen=True)
class Accelerator:
    """One kind of accelerator; figures of its maker's data sheet, without sparsity.

    Args:
        name (`str`): short name, as `--device` takes it.
        bf16_tflops (`float`): 10^12 bfloat16 operations a second, matrix units, sums in float32.
        float32_tflops (`float`): the same in float32, without TF32.
        memory_gib (`float`): GiB.
    """

    name: str
    bf16_tflops: float
    float32_tflops: float
    memory_gib: float

    def peak_flops(self, bf16: bool) -> float:
        """Operations a second at most."""
        return 1e12 * (self.bf16_tflops if bf16 else self.float32_tflops)


# Longer names first: the first whose words are all in what the driver reports is taken.
ACCELERATORS = (
    Accelerator("h200", 989.4, 66.9, 141e9 / 2**30),
    Accelerator("h100-pcie", 756.0, 51.2, 80e9 / 2**30),
    Accelerator("h100-nvl", 835.0, 60.0, 94e9 / 2**30),
    Accelerator("h100", 989.4, 66.9, 80e9 / 2**30),
    Accelerator("a100-40gb", 312.0, 19.5, 40e9 / 2**30),
    Accelerator("a100", 312.0, 19.5, 80e9 / 2**30),
    Accelerator("l40s", 362.0, 91.6, 48e9 / 2**30),
    Accelerator("rtx-4090", 165.2, 82.6, 24e9 / 2**30),
    Accelerator("rtx-3090", 71.0, 35.6, 24e9 / 2**30),
    Accelerator("l4", 121.0, 30.3, 24e9 / 2**30),
)


def find_accelerator(name: str) -> Accelerator:
    """Look an accelerator up by its short name.

    Args:
        name (`str`): such as `"h100"`.

    Returns:
        [`Accelerator`].

    Raises:
        ValueError: its figures are not known here.
    """
    names = [accelerator.name for accelerator in ACCELERATORS]
    if name not in names:
        raise ValueError(f"The device is {name!r}{did_you_mean(name, names)}")
    return ACCELERATORS[names.index(name)]


def recognise_accelerator(reported: str) -> Accelerator | None:
    """Match what a driver calls its device, such as `"NVIDIA H100 80GB HBM3"`; `None` if it is not known."""
    words = set(re.findall("[a-z0-9]+", reported.lower()))
    return next((accelerator for accelerator in ACCELERATORS if set(accelerator.name.split("-")) <= words), None)


__all__ = ["ACCELERATORS", "Accelerator", "find_accelerator", "recognise_accelerator"]
