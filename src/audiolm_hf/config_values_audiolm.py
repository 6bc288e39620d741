# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks of values: ranges of numbers, suggestions for unknown words, and fields of transformers' configurations.

Fields of other models' configurations are checked by their names and defaults, so that the checks also apply to models
that transformers adds later. The defaults of a configuration class are always allowed.
"""

import dataclasses
import difflib
import functools
import inspect
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

# Keywords that transformers' configurations accept although no field declares them.
_CARRIED = {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "distributed_config",
    "experts_implementation",
    "fusion_config",
    "per_layer_config",
    "quantization_config",
    "tie_word_embeddings",
    "transformers_weights",
}
TRANSFORMERS_KEYS = {
    *_CARRIED,
    *(field.name for field in dataclasses.fields(PreTrainedConfig)),
    *(name for name in dir(PreTrainedConfig) if not callable(getattr(PreTrainedConfig, name, None))),
}


class Allowed:
    """What a value can be; its text ends an error message."""

    def holds(self, value: Any) -> bool:
        """Return whether a value is allowed."""
        raise NotImplementedError

    def check(self, name: str, value: Any, hint: str = "", optional: bool = False) -> None:
        """Raise a ValueError if a value is not allowed; `None` is if it is `optional`."""
        if not (self.holds(value) or (optional and value is None)):
            raise ValueError(f"{name} is {value!r}; give {self}{hint}.")


class _Flag(Allowed):
    def holds(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "True or False"


@dataclass(frozen=True)
class Within(Allowed):
    """A range of numbers, without `low` if `above`, without `high` if `below`, and of integers if `whole`."""

    low: float
    high: float
    above: bool = False
    below: bool = False
    whole: bool = False

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low}"
        kind = "an integer" if self.whole else "a number"
        if self.high == math.inf:
            return f"{kind} of {self.low:,} or more"
        if self.above:
            return f"{kind} above {self.low:,} and {'below' if self.below else 'at most'} {self.high:,}"
        return f"{kind} from {self.low:,} to {'below ' if self.below else ''}{self.high:,}"

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number in the range."""
        kinds = int if self.whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        least = value > self.low if self.above else value >= self.low
        return least and (value < self.high if self.below else value <= self.high)

    def __call__(self, value: Any) -> None:
        """Validate a field of a configuration, a number or a list of them; `None` is allowed."""
        values = value if isinstance(value, list | tuple) else [value]
        if value is not None and not (values and all(self.holds(each) for each in values)):
            each = "one or more, each " if value is values else ""
            raise ValueError(f"{value!r} is out of range; give {each}{self}.")


FLAG = _Flag()
MANY = Within(1, math.inf, whole=True)
# Far above the sizes of existing models, but below sizes at which a single field fills the memory.
COUNT = Within(1, 2**20, whole=True)
LEVELS = Within(1, 256, whole=True)
LAYERS = Within(0, 1000, whole=True)
RATE = Within(1000, 768_000, whole=True)
SHARE = Within(0, 1)


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the closest known word to an unknown one, or all of them."""
    known = sorted(known)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(known)}."


_PLAIN = (str, bool, int, float, torch.dtype, PreTrainedConfig)
_ID_KEYS = ("id2label", "task_specific_params")  # keys may be numbers


def check_dtype(where: str, dtype: Any) -> None:
    """Check a dtype of weights, or each of a `dict`: `None`, `"auto"`, or a floating-point dtype or its name."""
    names = ("float32", "bfloat16", "float16", "float64")
    for key, each in dtype.items() if isinstance(dtype, dict) else [(None, dtype)]:
        if each not in (None, "auto", *names, *(getattr(torch, name) for name in names)):
            part = "" if key is None else f"[{key!r}]"
            raise ValueError(f"{where}{part} is {each!r}; give one of torch's {', '.join(names)}.")


def check_plain(where: str, values: dict[Any, Any]) -> None:
    """Check that the values of a configuration, or of a part, can be saved as JSON, and that its dtypes exist."""
    for key, value in values.items():
        name = f"{where}.{key}"
        if key in ("dtype", "torch_dtype"):
            check_dtype(name, value)
        elif isinstance(value, dict):
            if not all(isinstance(inner, str) or key in _ID_KEYS for inner in value):
                raise ValueError(f"{name} has keys that are no text; give names.")
            check_plain(name, value)
        elif isinstance(value, list | tuple | set):
            check_plain(name, dict(enumerate(value)))
        elif isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name} is {value!r}; give a number.")
        elif not (value is None or isinstance(value, _PLAIN) or key in _CARRIED):
            raise ValueError(f"{name} is of type {type(value).__name__}; give text, a number, a bool or lists.")


# Ranges by patterns of field names; the first match applies.
_SHARE = r"dropout|layerdrop|droppath|pdrop|drop_rate|_prob(_|$)"
_RANGES = {
    _SHARE: SHARE,
    r"^layer_rope_theta$": Within(0, 10**12),  # 0 for layers without rotary positions
    r"(^|_)(eps|epsilon|theta|factor)(_|$)|^rotary_embedding_base$": Within(0, 10**12, above=True),
    r"^init.*(range|std)$": Within(0, 10**6),
    r"^num_hidden_layers$": Within(1, 10_000, whole=True),
    r"vocab_size$|position_embeddings$|(chunk|block)_size$|_length$": Within(1, 2**40, whole=True),
    r"(^|_)(sizes?|dims?|kernels?|strides?|ratios|heads?|channels)$|^(d|dim)_": COUNT,
    r"^(num|n)_|_(layers|rank|groups|window)$": Within(0, 2**31, whole=True),
}
# Fields of a trained model that users can change: those of training, outputs and special ids.
_FREE = rf"{_SHARE}|^init|aux_loss|^mask_|_augment$|_token_id$|^vocab_size$|^output_|^use_cache$|^pretraining_tp$"


@functools.cache
def _defaults(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """Return the default values of a configuration; none if it has required arguments."""
    try:
        return vars(kind())
    except (StrictDataclassError, ValueError):
        return {}


def check_foreign_config(where: str, config: PreTrainedConfig, given: dict[str, Any] | None) -> None:
    """Check the values of the configuration of a transformers model, and the keys that were `given` to build it."""
    kind: Any = type(config)
    defaults = _defaults(kind)
    declared = {*inspect.signature(kind.__init__).parameters, *kind.attribute_map, *defaults}
    declared |= {field.name for field in dataclasses.fields(config)}
    # A configuration from a file is complete, and may have additional attributes of other programs.
    if given is not None and "architectures" not in given:
        for key in given:
            if key in vars(config) and not (key in declared or key in TRANSFORMERS_KEYS or key.startswith("_")):
                raise ValueError(f"{where} ({kind.__name__}) has no key {key!r}{did_you_mean(key, declared)}")
    usual_names = {own: usual for usual, own in kind.attribute_map.items()}
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            check_foreign_config(f"{where}.{name}", value, None)
        elif name in declared - TRANSFORMERS_KEYS:
            _check_value(f"{where}.{name}", usual_names.get(name, name), value, defaults.get(name))


def _check_value(where: str, name: str, value: Any, default: Any) -> None:
    """Check a value, or the items of a list or dictionary; None and defaults are always allowed."""
    if value is None or isinstance(value, bool) or value == default:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_value(f"{where}.{key}", str(key), inner, default.get(key) if isinstance(default, dict) else None)
    elif isinstance(value, list | tuple):
        for inner in value:
            usual = isinstance(default, list | tuple) and inner in default
            _check_value(where, name, inner, inner if usual else default)
    elif name in ("rope_type", "type") and "rope" in where:
        _require_word(where, value, {"default", *ROPE_INIT_FUNCTIONS})
    elif isinstance(default, str):
        if "act" in name and default in ACT2FN:
            _require_word(where, value, set(ACT2FN))
    elif not isinstance(value, str) or "rope" in where:
        allowed = next((allowed for pattern, allowed in _RANGES.items() if re.search(pattern, name)), None)
        if allowed is not None and not allowed.holds(value):
            raise ValueError(f"{where} is {value!r}, which is out of range; give {allowed}.")


def _require_word(where: str, value: Any, known: set[str]) -> None:
    if value not in known:
        raise ValueError(f"{where} is {value!r}, which transformers does not have{did_you_mean(str(value), known)}")


def foreign_trained_values(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the values that the results of another model depend on, as JSON types."""
    kept = {}
    for name, value in config.to_dict().items():
        is_flag = isinstance(value, bool) and re.search(_SHARE, name)
        if name not in TRANSFORMERS_KEYS and not name.startswith("_") and (is_flag or not re.search(_FREE, name)):
            kept[name] = value
    return {"model_type": config.model_type} | json.loads(json.dumps(kept, default=str))
