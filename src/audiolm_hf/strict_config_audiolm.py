# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Base of this package's configurations, which checks keys and values.

transformers' configurations accept any keyword; here, errors name unknown keys and values out of range. Values that
trained weights depend on are saved as `trained_with`, and compared by `from_pretrained`. Fields of transformers' own
configurations are checked by their names and defaults, so that the checks also apply to models that transformers adds
later; defaults are always allowed.
"""

import dataclasses
import functools
import inspect
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import dataclasses as hub_dataclasses
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .config_values_audiolm import COUNT, SHARE, Within, check_dtype, did_you_mean, plain

# Keywords that transformers' configurations accept although no field declares them.
_CARRIED = {
    *("attn_implementation", "experts_implementation", "auto_map", "custom_pipelines", "tie_word_embeddings"),
    *("distributed_config", "fusion_config", "per_layer_config", "quantization_config", "transformers_weights"),
}
TRANSFORMERS_KEYS = {
    *_CARRIED,
    *(field.name for field in dataclasses.fields(PreTrainedConfig)),
    *(name for name in dir(PreTrainedConfig) if not callable(getattr(PreTrainedConfig, name, None))),
}


_ADDED = {"prefix_attention": False}  # fields that older checkpoints lack, with the values that these imply
_PLAIN = (str, bool, int, float, torch.dtype, PreTrainedConfig)
_ID_KEYS = ("id2label", "task_specific_params")  # keys may be numbers
# The bundled checkpoints; the folder does not exist if this file was loaded with a checkpoint.
BUNDLED = Path(__file__).parent / "checkpoints"


def refuse_short_name(source: Any) -> None:
    """Raise an error for the short name of a bundled checkpoint, which transformers would look for on the Hub."""
    if isinstance(source, str) and not Path(source).is_dir() and (BUNDLED / source / "config.json").is_file():
        raise ValueError(f"{source!r} is a bundled checkpoint; pass its folder, audiolm_hf.checkpoint({source!r}).")


def checked(default: Any, allowed: Within | None = None, *, trained: bool = False) -> Any:
    """Declare a field whose range is checked at every assignment; trained weights only work with a `trained` value."""
    validators = {} if allowed is None else {"validator": [allowed]}
    return dataclasses.field(default=default, metadata={"trained": trained, **validators})


def strict(config_class: Any) -> Any:
    """Decorate a configuration whose fields are checked whenever they are set, as [`plain`] values."""
    set_checked: Any = hub_dataclasses.strict(config_class).__setattr__
    config_class.__setattr__ = lambda self, name, value: set_checked(self, name, plain(value))
    return config_class


def _forget_folders(fields: dict[str, Any]) -> None:
    fields.pop("_name_or_path", None)
    for value in fields.values():
        if isinstance(value, dict):
            _forget_folders(value)


class StrictConfig(PreTrainedConfig):
    """Base of this package's configurations.

    Args:
        trained_with (`dict`, *optional*): values of fields that the saved weights were trained with.
    """

    trained_with: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for key in kwargs:
            if not self._knows(key):
                if hasattr(type(self), key):
                    raise ValueError(f"{type(self).__name__}.{key} follows from other fields; it cannot be given.")
                inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
                own = {field.name for field in dataclasses.fields(self)} - inherited
                raise ValueError(f"{type(self).__name__} has no key {key!r}{did_you_mean(key, own)}")
        check_plain(type(self).__name__, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        given = {name: getattr(self, name) for name in self.sub_configs}
        for name, value in given.items():
            if isinstance(value, dict):
                setattr(self, name, self._with_model_type(name, value))
        super().__post_init__(**kwargs)
        for name, value in given.items():
            config = getattr(self, name)
            if config is not None and not hasattr(config, "trained_values"):
                where = f"{type(self).__name__}.{name}"
                check_foreign_config(where, config, value if isinstance(value, dict) else None)

    @classmethod
    def _knows(cls, key: str) -> bool:
        """Return whether a key is a field, or one that transformers adds."""
        declared = key in cls.sub_configs or any(field.name == key for field in dataclasses.fields(cls))
        return declared or key in TRANSFORMERS_KEYS or key.startswith("_")

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read `config.json`, and raise an error if it is of another type of model."""
        source = pretrained_model_name_or_path
        refuse_short_name(source)
        fields, kwargs = super().get_config_dict(source, **kwargs)
        found = [part.get("model_type") for part in (fields, *fields.values()) if isinstance(part, dict)]
        if cls.model_type and cls.model_type not in found:
            if not any(found):
                raise ValueError(f"{source} has no config.json with a model_type; give a folder of save_pretrained.")
            raise ValueError(f"{source} is of type {found[0]!r}; {cls.__name__} is for type {cls.model_type!r}.")
        return fields, kwargs

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike) -> dict[str, Any]:
        fields = super()._dict_from_json_file(json_file)
        if not isinstance(fields, dict):
            raise ValueError(f"{json_file} holds a {type(fields).__name__}, not an object; save the model again.")
        return fields

    def _with_model_type(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a part that can be one of several kinds of model, with `model_type`."""
        spec = self.sub_configs_defaults[name]
        if spec.config_class is not AutoConfig:
            return values
        model_type = values.get("model_type", spec.model_type)
        if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
            raise ValueError(
                f"{type(self).__name__}.{name}: transformers has no model_type {model_type!r}"
                f"{did_you_mean(str(model_type), CONFIG_MAPPING)}"
            )
        return values | {"model_type": model_type}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, without attributes that could not be loaded and paths that the parts were loaded from.

        As with transformers' remote code, `auto_map` is only saved with the code. It names the model's file for the
        configuration, too, so that the parts that register there are known when `config.json` is read.
        """
        fields = {name: value for name, value in super().to_dict().items() if self._knows(name)}
        for name in self.sub_configs:
            _forget_folders(fields.get(name) or {})
        if self._auto_class is None:
            fields.pop("auto_map", None)
            fields.pop("custom_pipelines", None)
        elif "AutoModel" in (fields.get("auto_map") or {}):
            module = fields["auto_map"]["AutoModel"].rpartition(".")[0]
            fields["auto_map"] = fields["auto_map"] | {"AutoConfig": f"{module}.{type(self).__name__}"}
        if fields["trained_with"] is None:
            del fields["trained_with"]
        return fields

    def trained_values(self) -> dict[str, Any]:
        """Return the values that trained weights depend on, by field, or by `part_config.field` for parts."""
        trained = [field.name for field in dataclasses.fields(self) if field.metadata.get("trained")]
        values = {name: getattr(self, name) for name in trained}
        for part in self.sub_configs:
            config = getattr(self, part)
            if config is None:  # a stage that is not there
                continue
            own = hasattr(config, "trained_values")
            inner = config.trained_values() if own else foreign_trained_values(config)
            values |= {f"{part}.{name}": value for name, value in inner.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def check_trained_values(self, stored: dict[str, Any], source: str) -> None:
        """Check the fields against those that the weights in `source` were trained with, where both have them."""
        values = self.trained_values()
        added = {name: _ADDED[name.rpartition(".")[2]] for name in values if name.rpartition(".")[2] in _ADDED}
        stored = added | stored if stored else {}
        for name, value in values.items():
            if name in stored and stored[name] != value:
                raise ValueError(f"{name} is {value!r}, but {source} was trained with {stored[name]!r}.")


def check_plain(where: str, values: dict[Any, Any]) -> None:
    """Check that the values of a configuration, or of a part, can be saved as JSON, and that its dtypes exist."""
    for key, value in values.items():
        name = f"{where}.{key}"
        if key in ("dtype", "torch_dtype"):
            check_dtype(name, value)
        elif isinstance(value, dict):
            if not all(isinstance(inner, str) or key in _ID_KEYS for inner in value):
                raise ValueError(f"{name} has keys that are not text; give names.")
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
