# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks of input tensors, before any work: waveforms, ids and masks.

Anything but a dense tensor of the right kind raises a TypeError; a wrong shape and a value out of range raise a
ValueError. `name` is the argument's, for messages. Values cannot be read in compiled graphs and on the meta device.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .config_values_audiolm import Within

LARGEST_FLOAT = 128.0  # of full scale; louder floats are integers that were converted without scaling


def check_tensor(name: str, values: Any, shape: str, dims: int | None = None, filled: bool = False) -> None:
    """Check a dense tensor: its number of axes `dims`, none of them 0 if `filled`; `shape` describes it in errors."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} is of type {type(values).__name__}; give a tensor {shape}.")
    if values.layout != torch.strided:
        raise TypeError(f"{name} has layout {values.layout}; give a dense tensor, such as {name}.to_dense().")
    if values.dim() != (values.dim() if dims is None else dims) or (filled and 0 in values.shape):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; give {shape}{', none of them 0' if filled else ''}."
        )


def check_waveform(input_values: Tensor, name: str = "input_values") -> None:
    """Check a batch of waveforms `(batch, num_samples)`: finite floats, at most a little above full scale."""
    check_tensor(name, input_values, "(batch, num_samples)", 2, filled=True)
    if not input_values.is_floating_point():
        raise TypeError(f"{name} has dtype {input_values.dtype}; give floats in [-1, 1].")
    if not _can_read(input_values):
        return
    peak = float(torch.stack(input_values.detach().aminmax()).abs().amax())  # without a copy; NaN where a sample is
    if not math.isfinite(peak):
        row = int((~input_values.isfinite()).any(1).int().argmax())
        raise ValueError(f"{name} has samples in row {row} that are NaN or infinite; give finite samples in [-1, 1].")
    if peak > LARGEST_FLOAT:
        raise ValueError(f"{name} has samples up to {peak:.6g}; give samples in [-1, 1], where 1 is full scale.")


def check_ids(name: str, values: Tensor, size: int) -> None:
    """Check that tokens or codes are integers in `[0, size)`."""
    _check_whole(name, values)
    if values.numel() and _can_read(values) and (int(values.min()) < 0 or int(values.max()) >= size):
        raise ValueError(f"{name} has values from {int(values.min())} to {int(values.max())}; give 0 to {size - 1}.")


def _check_whole(name: str, values: Tensor) -> None:
    check_tensor(name, values, "of integers (torch.int64)")
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {values.dtype}; give integers (torch.int64).")


def check_codes(audio_codes: Tensor, num_codebooks: int, codebook_size: int) -> None:
    """Check codes `(batch, num_codebooks, frames)` of any number of leading levels."""
    shape = f"(batch, num_codebooks, frames) with 1 to {num_codebooks} codebooks"
    check_tensor("audio_codes", audio_codes, shape, 3, filled=True)
    if audio_codes.shape[1] > num_codebooks:
        raise ValueError(f"audio_codes has shape {tuple(audio_codes.shape)}; give {shape}.")
    check_ids("audio_codes", audio_codes, codebook_size)


def check_num_codebooks(num_codebooks: int | None, most: int) -> int:
    """Return a number of leading levels, by default all that the codec has."""
    return most if num_codebooks is None else Within(1, most, whole=True).check("num_codebooks", num_codebooks)


def length_mask(lengths: Tensor, length: int) -> Tensor:
    """Return `(batch, length)`: `True` within each row's own length, `False` after it."""
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def row_lengths(values: Tensor, attention_mask: Tensor | None, name: str = "attention_mask") -> Tensor:
    """Return the length of each row `(batch,)` of `(batch, length)` values, on their device, after checking the mask.

    The mask is 1 for what is real, then 0 for padding: integers, bools, or floats of these values; no row is empty.
    """
    batch, length = values.shape
    if attention_mask is None:
        return torch.full((batch,), length, dtype=torch.int64, device=values.device)
    check_tensor(name, attention_mask, "of 0 and 1")
    if attention_mask.is_complex():
        raise TypeError(f"{name} has dtype {attention_mask.dtype}; give a tensor of 0 and 1.")
    if attention_mask.shape != values.shape:
        raise ValueError(f"{name} has shape {tuple(attention_mask.shape)}; give that of its input, {(batch, length)}.")
    attention_mask = attention_mask.to(values.device)
    lengths = (attention_mask == 1).sum(dim=1)
    if not _can_read(lengths) or (lengths == length).all():  # the rest would read a long recording several times
        return lengths
    _check_binary(name, attention_mask)
    if (length_mask(lengths, length) != (attention_mask == 1)).any():
        raise ValueError(f"{name} has zeros before ones; pad rows on the right.")
    if (lengths == 0).any():
        raise ValueError(f"{name} is 0 everywhere in row {int(lengths.argmin())}; each row needs a 1.")
    return lengths


def check_num_items(num_items: Any, labels: Any) -> None:
    """Raise a `ValueError` for a number of labels without labels."""
    if num_items is not None and labels is None:
        raise ValueError(
            "num_items_in_batch is given without labels, as Trainer does with label_smoothing_factor and with "
            "compute_loss_func: the loss would be over the ids of all levels, and not shifted. Leave both out; for a "
            "loss of your own, override Trainer.compute_loss."
        )


def is_packed(attention_mask: Any, position_ids: Tensor | None) -> bool:
    """Return whether positions restart within a row, as in transformers' packed sequences."""
    if attention_mask is not None or position_ids is None or torch.compiler.is_compiling():
        return False
    return bool(((position_ids == 0).sum(-1) > 1).any())


def _check_binary(name: str, mask: Tensor) -> None:
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"{name} has values that are neither 0 nor 1; give 1 for what is real, 0 for padding.")


def check_sequences(
    inputs: Tensor,
    vocab_size: int,
    *,
    attention_mask: Any = None,
    position_ids: Tensor | None = None,
    labels: Tensor | None = None,
    past: int = 0,
) -> None:
    """Check the inputs of a stage, all `(batch, sequence_length)`; the values of labels are checked later.

    `inputs` are ids below `vocab_size`, or embeddings (3-D floats). 4-D masks and what attention kernels have instead
    are left to the decoder. After `past` ids in a cache, values are not read, and the mask is that much longer.
    """
    check_tensor("input_ids", inputs, "(batch, sequence_length)", filled=True)
    embedded = inputs.dim() == 3 and inputs.is_floating_point()
    if not embedded and inputs.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"input_ids has dtype {inputs.dtype}; give integers (torch.int64).")
    if not embedded:
        check_tensor("input_ids", inputs, "(batch, sequence_length)", 2)
        if not past:
            check_ids("input_ids", inputs, vocab_size)
    batch, length = inputs.shape[:2]
    for name, values, batches in (("labels", labels, (batch,)), ("position_ids", position_ids, (batch, 1))):
        if values is not None:
            _check_whole(name, values)
            many_axes = name == "position_ids" and values.dim() == 3 and len(values) > 1  # of some decoders
            if (values.dim() != 2 and not many_axes) or values.shape[-1] != length or values.shape[-2] not in batches:
                raise ValueError(f"{name} has shape {tuple(values.shape)}; give {(batch, length)}, as input_ids.")
    if position_ids is not None and not past and _can_read(position_ids) and int(position_ids.min()) < 0:
        raise ValueError(f"position_ids has the value {int(position_ids.min())}; positions begin at 0.")
    if attention_mask is not None:
        _check_mask(attention_mask, batch, length, past)


def check_frames(
    inputs: Tensor, vocab_size: int, num_columns: int, attention_mask: Any = None, labels: Tensor | None = None
) -> None:
    """Check the inputs of the parallel stage, ids or embeddings; see [`check_sequences`]."""
    check_tensor("input_ids", inputs, f"(batch, frames, {num_columns})", 3, filled=True)
    batch, frames = inputs.shape[:2]
    for name, values in (("input_ids", None if inputs.is_floating_point() else inputs), ("labels", labels)):
        if values is None:
            continue
        _check_whole(name, values)
        if tuple(values.shape) != (batch, frames, num_columns):
            raise ValueError(f"{name} has shape {tuple(values.shape)}; give {(batch, frames, num_columns)}.")
    if not inputs.is_floating_point():
        check_ids("input_ids", inputs, vocab_size)
    if attention_mask is not None:
        _check_mask(attention_mask, batch, frames, 0)


def _check_mask(mask: Any, batch: int, length: int, past: int) -> None:
    several = isinstance(mask, Mapping)
    made = [*mask.values()] if several else [mask]
    if made and all(hasattr(each, "mask_mod") or (several and isinstance(each, Tensor)) for each in made):
        return
    check_tensor("attention_mask", mask, "(batch, sequence_length)")
    if mask.dim() == 4 and not mask.is_complex():
        return
    fits = mask.dim() == 2 and mask.shape[0] == batch and not mask.is_complex()
    if not fits or (mask.shape[1] < length if past else mask.shape[1] != length):
        raise ValueError(
            f"attention_mask has dtype {mask.dtype} and shape {tuple(mask.shape)}; give 0 and 1 of shape "
            f"{(batch, past + length)}, as input_ids."
        )
    if not past and _can_read(mask):
        _check_binary("attention_mask", mask)


def _can_read(tensor: Tensor) -> bool:
    return not (tensor.is_meta or torch.compiler.is_compiling())
