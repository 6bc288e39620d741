# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks of the tensors that come in from outside: waveforms, ids and masks.

Every public method that takes them checks them here before any work, so that the error names what was given, what is
allowed, and the row.
"""

import torch
from torch import Tensor


def check_waveform(input_values: Tensor, name: str = "input_values") -> None:
    """Check a batch of waveforms.

    Args:
        input_values (`torch.FloatTensor` of shape `(batch, num_samples)`): mono audio.
        name (`str`, defaults to `"input_values"`): what messages call it.

    Raises:
        TypeError: if it is no tensor of real floating point numbers.
        ValueError: if it is not 2-D, is empty, or has samples that are NaN or infinite.
    """
    if not isinstance(input_values, Tensor):
        raise TypeError(f"{name} is of type {type(input_values).__name__}; give a tensor (batch, num_samples).")
    if not input_values.is_floating_point():
        raise TypeError(f"{name} has dtype {input_values.dtype}; give floats in [-1, 1].")
    if input_values.dim() != 2 or 0 in input_values.shape:
        raise ValueError(
            f"{name} has shape {tuple(input_values.shape)}; give (batch, num_samples), 1 row and 1 sample or more."
        )
    # Without a copy: both are NaN where a sample is.
    if can_read(input_values) and not torch.stack(input_values.aminmax()).isfinite().all():
        row = int((~input_values.isfinite()).any(1).int().argmax())
        raise ValueError(f"{name} has samples in row {row} that are NaN or infinite; give finite samples in [-1, 1].")


def check_ids(name: str, values: Tensor, size: int) -> None:
    """Check that tokens or codes are integers in `[0, size)`.

    Raises:
        TypeError: if they are not integers.
        ValueError: if one is out of range.
    """
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {values.dtype}; give integers (torch.int64).")
    if values.numel() and can_read(values) and (int(values.min()) < 0 or int(values.max()) >= size):
        raise ValueError(
            f"{name} has values from {int(values.min())} to {int(values.max())}; the allowed range is 0 to {size - 1}."
        )


def check_codes(audio_codes: Tensor, num_codebooks: int, codebook_size: int) -> None:
    """Check codes of shape `(batch, num_codebooks, frames)`, of any number of leading levels.

    Raises:
        TypeError: if they are not integers.
        ValueError: if they are empty, of another shape, of more levels than there are, or out of range.
    """
    if audio_codes.dim() != 3 or 0 in audio_codes.shape or audio_codes.shape[1] > num_codebooks:
        raise ValueError(
            f"audio_codes has shape {tuple(audio_codes.shape)}; give (batch, num_codebooks, frames) with 1 to "
            f"{num_codebooks} codebooks and 1 frame or more."
        )
    check_ids("audio_codes", audio_codes, codebook_size)


def check_num_codebooks(num_codebooks: int | None, most: int) -> int:
    """Return a number of leading levels; all that the codec has where none is given.

    Raises:
        ValueError: if it is no whole number from 1 to `most`.
    """
    if num_codebooks is None:
        return most
    if not isinstance(num_codebooks, int) or isinstance(num_codebooks, bool) or not 1 <= num_codebooks <= most:
        raise ValueError(f"num_codebooks is {num_codebooks!r}; this codec has 1 to {most}.")
    return num_codebooks


def row_lengths(values: Tensor, attention_mask: Tensor | None, name: str = "attention_mask") -> Tensor:
    """Check the mask of a batch that is padded on the right, and return the length of each row.

    Args:
        values (`torch.Tensor` of shape `(batch, length)`): what is masked.
        attention_mask (`torch.LongTensor` of shape `(batch, length)`, *optional*): 1 for what is real, then 0 for
            padding; integers, bools, or floats of these values.
        name (`str`, defaults to `"attention_mask"`): what messages call the mask.

    Returns:
        `torch.LongTensor` of shape `(batch,)`, on the device of `values`.

    Raises:
        TypeError: if the mask is no tensor of real numbers.
        ValueError: if its shape is another, it has values beside 0 and 1, padding before what is real, or an empty
            row.
    """
    batch, length = values.shape
    if attention_mask is None:
        return torch.full((batch,), length, dtype=torch.int64, device=values.device)
    if not isinstance(attention_mask, Tensor) or attention_mask.is_complex():
        kind = getattr(attention_mask, "dtype", type(attention_mask).__name__)
        raise TypeError(f"{name} is of type {kind}; give a tensor of 0 and 1.")
    if attention_mask.shape != values.shape:
        raise ValueError(
            f"{name} has shape {tuple(attention_mask.shape)} and its input {(batch, length)}; they must be equal."
        )
    attention_mask = attention_mask.to(values.device)
    real = attention_mask == 1
    lengths = real.sum(dim=1)
    if not can_read(real):
        return lengths
    for row, mask, length in zip(real, attention_mask, lengths.tolist(), strict=True):
        if not row[:length].all() or mask[length:].any():
            if not (row | (mask == 0)).all():
                raise ValueError(
                    f"{name} has values that are neither 0 nor 1; give 1 for what is real, 0 for padding."
                )
            raise ValueError(f"{name} has zeros before ones; pad rows on the right.")
    if (lengths == 0).any():
        raise ValueError(f"{name} is 0 everywhere in row {int(lengths.argmin())}; each row needs a 1.")
    return lengths


def can_read(tensor: Tensor) -> bool:
    """Say whether values can be looked at: not inside a compiled graph, which that would break, nor on meta."""
    return not (tensor.is_meta or torch.compiler.is_compiling())


__all__ = ["can_read", "check_codes", "check_ids", "check_num_codebooks", "check_waveform", "row_lengths"]
