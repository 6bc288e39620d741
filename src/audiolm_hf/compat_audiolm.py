# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Differences between the supported releases of transformers, and an error for other releases."""

import sys
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from inspect import signature
from types import FunctionType
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

SUPPORTED = {"torch": ((2, 6), (2, 14)), "transformers": ((5, 20), (5, 25))}  # from and below, as in pyproject.toml


def check_version(name: str, version: str) -> None:
    """Raise an ImportError if a release of a library is older or newer than the supported ones."""
    oldest, too_new = SUPPORTED[name]
    if not oldest <= tuple(int(number) for number in version.split(".")[:2]) < too_new:
        wanted = f"{name}>={'.'.join(map(str, oldest))},<{'.'.join(map(str, too_new))}"
        raise ImportError(f'audiolm_hf needs {wanted}, and {version} is installed; run: pip install "{wanted}"')


check_version("torch", torch.__version__)
check_version("transformers", transformers.__version__)
if sys.flags.optimize > 1:
    raise ImportError("Python runs with -OO, which drops the docstrings that transformers reads; use -O, or neither.")


def check_spreading() -> None:
    """Raise an ImportError if transformers cannot spread weights over processes with the installed torch."""
    from torch.distributed.tensor import distribute_tensor  # which some builds of torch lack

    if "src_data_rank" not in signature(distribute_tensor).parameters:
        raise ImportError(f"Weights are spread over processes from torch 2.7 on; {torch.__version__} is installed.")


# Name of the cache in the arguments and outputs of decoders, which is "cache" since 5.24.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"

# Name of gradient checkpointing in options and methods.
_RENAMED = hasattr(PreTrainedModel, "activation_checkpointing_enable")
CHECKPOINTING = "activation_checkpointing" if _RENAMED else "gradient_checkpointing"

# Before 5.23, speech encoders also draw a random number for every layer in evaluation mode, without using it.
_DRAWS = tuple(int(number) for number in transformers.__version__.split(".")[:2]) < (5, 23)
unmoved_generator: Any = partial(torch.random.fork_rng, devices=[]) if _DRAWS else nullcontext

try:
    from transformers.modeling_utils import slice_logits_to_keep
except ImportError:  # older releases

    def slice_logits_to_keep(hidden_states: Tensor, logits_to_keep: int | Tensor) -> Tensor:
        """Return the positions to compute logits for, like transformers' function of this name."""
        if isinstance(logits_to_keep, int):
            return hidden_states[:, -logits_to_keep:]
        if logits_to_keep.ndim == 1:
            return hidden_states[:, logits_to_keep]
        if logits_to_keep.dtype == torch.bool:
            return hidden_states[logits_to_keep]
        return torch.take_along_dim(hidden_states, logits_to_keep[..., None], dim=1)


def with_globals(function: Any, **names: Any) -> Any:
    """Return a copy of a function in which these names of its module stand for other values."""
    return FunctionType(function.__code__, function.__globals__ | names, function.__name__, function.__defaults__)


# A method without its check of the PEFT release. Since 5.24, the check requires PEFT 0.22, which is not released; the
# methods work with 0.21.
_any_peft = partial(with_globals, check_peft_version=lambda min_version: None)


class AdapterMethods:
    """The methods of transformers' `PeftAdapterMixin` without their checks of the PEFT release."""

    add_adapter = _any_peft(PreTrainedModel.add_adapter)
    set_adapter = _any_peft(PreTrainedModel.set_adapter)
    disable_adapters = _any_peft(PreTrainedModel.disable_adapters)
    enable_adapters = _any_peft(PreTrainedModel.enable_adapters)
    active_adapters = _any_peft(PreTrainedModel.active_adapters)
    delete_adapter = _any_peft(PreTrainedModel.delete_adapter)
