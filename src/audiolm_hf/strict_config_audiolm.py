# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What all configurations of this package share: ranges beside the fields, no unknown keys, what weights depend on.

transformers' configurations take any keyword without a word. Here a key that no field declares is refused with the
nearest that one does, and a value out of its range with the range. Values that trained weights only work with are
marked so; `save_pretrained` of a model stores them as `trained_with`, and `from_pretrained` compares.
"""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

# Keywords that transformers' configurations understand, or carry along, though no field declares them.
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
_TRANSFORMERS_KEYS = _CARRIED | {
    name for name in dir(PreTrainedConfig) if not callable(getattr(PreTrainedConfig, name, None))
}


@dataclass(frozen=True)
class Within:
    """A range of numbers; calling it checks a number, or each of a list.

    Args:
        low (`float`): the least, or what is just too little if `above`.
        high (`float`): the most.
        above (`bool`, defaults to `False`): `low` itself is out of range.
        whole (`bool`, defaults to `False`): integers only.
    """

    low: float
    high: float
    above: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        if self.above:
            return f"{kind} above {self.low:,} and at most {self.high:,}"
        return f"{kind} from {self.low:,} to {self.high:,}"

    def holds(self, value: Any) -> bool:
        """Say whether a value is a number in range."""
        kinds = int if self.whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __call__(self, value: Any) -> None:
        """Raise a ValueError if a value is out of range; `None` is left to the field's type."""
        values = value if isinstance(value, list | tuple) else [value]
        if value is not None and not (values and all(self.holds(each) for each in values)):
            each = "one or more, each " if value is values else ""
            raise ValueError(f"{value!r} is out of range; give {each}{self}.")


def checked(default: Any, allowed: Within | None = None, *, trained: bool = False) -> Any:
    """Declare a field of a configuration.

    Args:
        default (`Any`): of the field.
        allowed ([`Within`], *optional*): its range, checked at every assignment.
        trained (`bool`, defaults to `False`): trained weights only work with the value they were trained with.

    Returns:
        `dataclasses.Field`.
    """
    validators = {} if allowed is None else {"validator": [allowed]}
    return dataclasses.field(default=default, metadata={"trained": trained, **validators})


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Name the known word nearest to an unknown one, or all if none is near, as the end of an error's sentence."""
    known = sorted(known)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(known)}."


_PLAIN = (str, bool, int, float, torch.dtype, PreTrainedConfig)
_ID_KEYS = ("id2label", "task_specific_params")  # may have numbers for keys
_SIZE = Within(1, 2**20, whole=True)
# Fields of other models' configurations, wherever they have them.
_FOREIGN_RANGES = {
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": Within(1, 10_000, whole=True),
    "num_attention_heads": _SIZE,
    "num_key_value_heads": _SIZE,
    "head_dim": _SIZE,
    "max_position_embeddings": Within(1, 2**40, whole=True),
}
# What the shapes of another model's weights do not tell about them.
_FOREIGN_TRAINED = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "layer_norm_eps",
    "conv_stride",
    "upsampling_ratios",
    "sampling_rate",
)


def check_foreign_config(where: str, config: PreTrainedConfig, given: dict[str, Any] | None) -> None:
    """Check the configuration of another model: its usual sizes, and the keys that it was built from.

    Args:
        where (`str`): what errors call it.
        config (`PreTrainedConfig`): as built.
        given (`dict`, *optional*): what it was built from.

    Raises:
        ValueError: a key that it does not have, or a size or a dropout out of range.
    """
    declared = {*inspect.signature(type(config).__init__).parameters, *type(config).attribute_map}
    declared |= {field.name for field in dataclasses.fields(config)} | vars(type(config)()).keys()  # some are derived
    # One that a file holds is complete, and may have attributes that some other program added.
    if given is not None and "architectures" not in given:
        for key in given:
            if key in vars(config) and not (key in declared or key in _TRANSFORMERS_KEYS or key.startswith("_")):
                raise ValueError(f"{where} ({type(config).__name__}) has no key {key!r}{did_you_mean(key, declared)}")
    ranges = {name: allowed for name, allowed in _FOREIGN_RANGES.items() if hasattr(config, name)}
    ranges |= {name: Within(0, 1) for name in declared if "dropout" in name or "layerdrop" in name}
    for name, allowed in ranges.items():
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not allowed.holds(value):
            raise ValueError(f"{where}.{name} is {value!r}, which is out of range; give {allowed}.")


def check_plain(where: str, values: dict[Any, Any]) -> None:
    """Check that values can be saved as JSON and read again, whatever configuration they are for.

    Args:
        where (`str`): what errors call the configuration.
        values (`dict`): by the names of fields; those of parts may be `dict`s or configurations.

    Raises:
        ValueError: a value, or one inside it, is something else, or NaN; or a dtype does not exist.
    """
    for key, value in values.items():
        name = f"{where}.{key}"
        if key in ("dtype", "torch_dtype") and not isinstance(value, torch.dtype | None):
            if not isinstance(getattr(torch, str(value), None), torch.dtype):
                raise ValueError(f"{name} is {value!r}; give a dtype of torch, such as 'float32'.")
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


def _rope_theta(config: PreTrainedConfig) -> float | None:
    parameters = getattr(config, "rope_parameters", None)
    return parameters.get("rope_theta") if isinstance(parameters, dict) else None


def _forget_folders(fields: dict[str, Any]) -> None:
    fields.pop("_name_or_path", None)
    for value in fields.values():
        if isinstance(value, dict):
            _forget_folders(value)


class StrictConfig(PreTrainedConfig):
    """Base of this package's configurations.

    Args:
        trained_with (`dict`, *optional*): values that the weights beside a saved configuration were trained with, by
            the names of their fields; written when a model is saved.
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
            if not hasattr(config, "trained_values"):
                where = f"{type(self).__name__}.{name}"
                check_foreign_config(where, config, value if isinstance(value, dict) else None)

    @classmethod
    def _knows(cls, key: str) -> bool:
        """Whether a key is a field, or one that transformers adds."""
        declared = any(field.name == key for field in dataclasses.fields(cls))
        return declared or key in _TRANSFORMERS_KEYS or key.startswith("_")

    def _with_model_type(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Name the kind of model that the values of a part are for, where several kinds are possible."""
        spec = self.sub_configs_defaults[name]
        if spec.config_class is not AutoConfig:
            return values
        model_type = values.get("model_type", spec.model_type)
        if model_type not in CONFIG_MAPPING:
            raise ValueError(
                f"{type(self).__name__}.{name}: transformers has no model_type {model_type!r}"
                f"{did_you_mean(str(model_type), CONFIG_MAPPING)}"
            )
        return values | {"model_type": model_type}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields; where the code lies only if it is saved, too, as transformers does with remote code.

        Where the parts were loaded from is left out: it means nothing on another machine. So are attributes that
        somebody assigned and no field declares: they could not be read again.
        """
        fields = {name: value for name, value in super().to_dict().items() if self._knows(name)}
        for name in self.sub_configs:
            _forget_folders(fields[name])
        if self._auto_class is None:
            fields.pop("auto_map", None)
            fields.pop("custom_pipelines", None)
        if fields["trained_with"] is None:
            del fields["trained_with"]
        return fields

    def trained_values(self) -> dict[str, Any]:
        """Return what weights of this configuration only work with: value by name, `part_config.name` in a part."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata.get("trained")
        }
        for part in self.sub_configs:
            config = getattr(self, part)
            if hasattr(config, "trained_values"):
                inner = config.trained_values()
            else:
                inner = {name: getattr(config, name) for name in _FOREIGN_TRAINED if hasattr(config, name)}
                inner["rope_theta"] = _rope_theta(config)
            values |= {f"{part}.{name}": value for name, value in inner.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def check_trained_values(self, stored: dict[str, Any], source: str) -> None:
        """Compare with what weights were trained with.

        Args:
            stored (`dict`): `trained_with` of the saved configuration. Names that only one side knows are passed over.
            source (`str`): where the weights come from.

        Raises:
            ValueError: a value differs.
        """
        for name, value in self.trained_values().items():
            if name in stored and stored[name] != value:
                raise ValueError(
                    f"{name} is {value!r}, but the weights in {source} were trained with {stored[name]!r}; load them "
                    "with that."
                )


__all__ = ["StrictConfig", "Within", "check_foreign_config", "check_plain", "checked", "did_you_mean"]
