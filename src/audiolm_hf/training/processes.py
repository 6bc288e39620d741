# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What several processes of one training share: the rows of a batch, sums and means over all of them.

A batch is drawn whole in every process and dealt out row by row, and whatever divides a loss is summed over all
processes first. Several processes then take the same steps as one with the same batch.
"""

import os

import torch
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def process_count() -> int:
    """Return the number of processes that train together."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def process_rank() -> int:
    """Return the number of this process among those that `torchrun` started; 0 for one alone."""
    return int(os.environ.get("RANK", "0"))


def announce(text: str) -> None:
    """Tell the user how a training stands, once for all processes; `transformers.logging` can turn it off."""
    if not process_rank():
        logger.warning(text)


def own_rows(batch_size: int) -> slice:
    """Choose the rows of a batch that this process takes.

    Args:
        batch_size (`int`): rows, over all processes.

    Returns:
        `slice` of the rows.

    Raises:
        ValueError: the rows cannot be dealt out evenly.
    """
    count = process_count()
    if batch_size % count:
        raise ValueError(
            f"batch_size is {batch_size}, which {count} processes cannot share evenly; give a multiple of {count}."
        )
    return slice(torch.distributed.get_rank() if count > 1 else 0, None, count)


def sum_over_processes(values: Tensor) -> Tensor:
    """Add up the `values` of all processes; no gradient passes."""
    total = values.detach().clone()
    if is_distributed():
        torch.distributed.all_reduce(total)
    return total


def mean_over_processes(values: Tensor) -> Tensor:
    """Average the `values` of all processes; no gradient passes."""
    return sum_over_processes(values) / process_count()


def leave_processes() -> None:
    """Part from the other processes of a training; threads that still serve them may abort a process that ends."""
    if is_distributed():
        torch.distributed.destroy_process_group()
