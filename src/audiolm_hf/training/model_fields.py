# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Which keys a training's free-form settings may have: those of the model configuration that they become.

transformers' configurations take any keyword without a word, so that `hiden_size: 512` would train another model than
the one meant. The trainings' YAML files are held to the configurations' own fields here.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from audiolm_hf.strict_config_audiolm import did_you_mean

# Understood by every configuration though no field of it.
_ALWAYS_KNOWN = ("model_type", "attn_implementation", "rope_theta")
DEFAULT_BACKBONE = "llama"


def check_model_fields(kind: str, values: dict[str, Any], where: str) -> None:
    """Check the keys inside `backbone`, `codec`, `encoder` or `generation`.

    Args:
        kind (`str`): of the training.
        values (`dict`): its settings.
        where (`str`): what the errors call the place these values come from.

    Raises:
        ValueError: a key that the model's configuration does not have, or an unknown `model_type`.
    """
    match kind:
        case "codec":
            from audiolm_hf.configuration_audiolm import SoundStreamConfig

            _check(values, "codec", _fields(SoundStreamConfig), where)
        case "semantic_encoder":
            from transformers import Wav2Vec2BertConfig

            _check(values, "encoder", _fields(Wav2Vec2BertConfig), where)
        case "assemble":
            from audiolm_hf.generation_audiolm import AudioLMGenerationConfig

            _check(values, "generation", AudioLMGenerationConfig.option_names(), where)
        case "stage":
            _check(values, "backbone", _backbone_fields(values.get("backbone") or {}, where), where)


def _check(values: dict[str, Any], name: str, known: Iterable[str], where: str) -> None:
    known = [*known]
    for key in values.get(name) or {}:
        if known and key not in known:
            raise ValueError(f"{where}: {name}: unknown key {key!r}{did_you_mean(str(key), known)}")


def _fields(config_class: Any) -> list[str]:
    """Every key of a configuration; none if it does not declare them."""
    if not dataclasses.is_dataclass(config_class):
        return []
    names = [field.name for field in dataclasses.fields(config_class)]
    return [*names, *config_class.attribute_map, *_ALWAYS_KNOWN]


def _backbone_fields(backbone: dict[str, Any], where: str) -> list[str]:
    from transformers import CONFIG_MAPPING

    model_type = backbone.get("model_type", DEFAULT_BACKBONE)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"{where}: backbone: model_type is {model_type!r}, which transformers does not know"
            f"{did_you_mean(str(model_type), CONFIG_MAPPING)}"
        )
    return _fields(CONFIG_MAPPING[model_type])


__all__ = ["check_model_fields"]
