# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Base of this package's configurations, which checks keys and values.

transformers' configurations accept any keyword; here, errors name unknown keys and values out of range. Values that
trained weights depend on are saved as `trained_with` by `save_pretrained` of a model, and compared by
`from_pretrained`.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from .config_values_audiolm import (
    TRANSFORMERS_KEYS,
    Within,
    check_foreign_config,
    check_plain,
    did_you_mean,
    foreign_trained_values,
)

# The bundled checkpoints; the folder does not exist if this file was loaded with a checkpoint.
BUNDLED = Path(__file__).parent / "checkpoints"


def refuse_short_name(source: Any) -> None:
    """Raise an error for the short name of a bundled checkpoint, which transformers would look for on the Hub."""
    if isinstance(source, str) and not Path(source).is_dir() and (BUNDLED / source / "config.json").is_file():
        raise ValueError(f"{source!r} is a bundled checkpoint; pass its folder, audiolm_hf.checkpoint({source!r}).")


def checked(default: Any, allowed: Within | None = None, *, trained: bool = False) -> Any:
    """Declare a field with a range, checked at every assignment; trained weights only work with a `trained` value."""
    validators = {} if allowed is None else {"validator": [allowed]}
    return dataclasses.field(default=default, metadata={"trained": trained, **validators})


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
                raise ValueError(
                    f"{source} has no config.json with a model_type; give a folder that save_pretrained wrote."
                )
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
        if model_type not in CONFIG_MAPPING:
            raise ValueError(
                f"{type(self).__name__}.{name}: transformers has no model_type {model_type!r}"
                f"{did_you_mean(str(model_type), CONFIG_MAPPING)}"
            )
        return values | {"model_type": model_type}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, without attributes that could not be loaded and paths that the parts were loaded from.

        As with transformers' remote code, the place of the code is only saved with the code.
        """
        fields = {name: value for name, value in super().to_dict().items() if self._knows(name)}
        for name in self.sub_configs:
            _forget_folders(fields.get(name) or {})
        if self._auto_class is None:
            fields.pop("auto_map", None)
            fields.pop("custom_pipelines", None)
        if fields["trained_with"] is None:
            del fields["trained_with"]
        return fields

    def trained_values(self) -> dict[str, Any]:
        """Return the values that trained weights depend on, by field, or by `part_config.field` for parts."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata.get("trained")
        }
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
        for name, value in self.trained_values().items():
            if name in stored and stored[name] != value:
                raise ValueError(f"{name} is {value!r}, but {source} was trained with {stored[name]!r}.")
