# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The few names that differ between the transformers releases in range, and the error for a release outside it."""

import sys
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from types import FunctionType
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

SUPPORTED = {"torch": ((2, 6), (2, 14)), "transformers": ((5, 20), (5, 25))}  # from and below, as pyproject.toml says


def check_version(name: str, version: str) -> None:
    """Refuse a release outside the range that was tested.

    Args:
        name (`str`): of the library, a key of `SUPPORTED`.
        version (`str`): that is installed, such as `"5.24.0"`.

    Raises:
        ImportError: it is older or newer.
    """
    oldest, too_new = SUPPORTED[name]
    if not oldest <= tuple(int(number) for number in version.split(".")[:2]) < too_new:
        wanted = f"{name}>={'.'.join(map(str, oldest))},<{'.'.join(map(str, too_new))}"
        raise ImportError(f'audiolm_hf needs {wanted}, and {version} is installed; run: pip install "{wanted}"')


check_version("torch", torch.__version__)
check_version("transformers", transformers.__version__)
if sys.flags.optimize > 1:
    raise ImportError(
        "Python runs with -OO or PYTHONOPTIMIZE=2, which drops the docstrings that transformers reads; use -O, or "
        "neither."
    )

# What a decoder's forward and its output call the keys and values of earlier ids: "cache" since 5.24.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"

# What options and methods call computing activations again in the backward pass.
_RENAMED = hasattr(PreTrainedModel, "activation_checkpointing_enable")
CHECKPOINTING = "activation_checkpointing" if _RENAMED else "gradient_checkpointing"

# Before 5.23 the speech encoders draw a random number for every layer in evaluation mode, too, and use none of them.
_DRAWS = tuple(int(number) for number in transformers.__version__.split(".")[:2]) < (5, 23)
unmoved_generator: Any = partial(torch.random.fork_rng, devices=[]) if _DRAWS else nullcontext

try:
    from transformers.modeling_utils import slice_logits_to_keep
except ImportError:  # older releases

    def slice_logits_to_keep(hidden_states: Tensor, logits_to_keep: int | Tensor) -> Tensor:
        """Return the positions whose logits are wanted, as transformers' function of this name does.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(batch, sequence_length, hidden_size)`): of the last layer.
            logits_to_keep (`int` or `torch.Tensor`): the last positions, 0 for all; or positions, `(n,)` or
                `(batch, n)`; or a boolean mask `(batch, sequence_length)`.

        Returns:
            `torch.FloatTensor` of shape `(batch, n, hidden_size)`; `(n, hidden_size)` with a mask.
        """
        if isinstance(logits_to_keep, int):
            return hidden_states[:, -logits_to_keep:]
        if logits_to_keep.ndim == 1:
            return hidden_states[:, logits_to_keep]
        if logits_to_keep.dtype == torch.bool:
            return hidden_states[logits_to_keep]
        return torch.take_along_dim(hidden_states, logits_to_keep[..., None], dim=1)


def _any_peft(method: Any) -> Any:
    """Return a method of transformers' that does not ask which release of PEFT is installed.

    Since 5.24 it asks for 0.22, which is not out; with 0.21 it does the same.
    """
    names = method.__globals__ | {"check_peft_version": lambda min_version: None}
    return FunctionType(method.__code__, names, method.__name__, method.__defaults__)


class AdapterMethods:
    """The methods of transformers' `PeftAdapterMixin` that ask for a release of PEFT, without that."""

    add_adapter = _any_peft(PreTrainedModel.add_adapter)
    set_adapter = _any_peft(PreTrainedModel.set_adapter)
    disable_adapters = _any_peft(PreTrainedModel.disable_adapters)
    enable_adapters = _any_peft(PreTrainedModel.enable_adapters)
    active_adapters = _any_peft(PreTrainedModel.active_adapters)
    delete_adapter = _any_peft(PreTrainedModel.delete_adapter)


__all__ = [
    "CACHE_NAME",
    "CHECKPOINTING",
    "SUPPORTED",
    "AdapterMethods",
    "check_version",
    "slice_logits_to_keep",
    "unmoved_generator",
]
