# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Which decoders of transformers a stage can be built on.

Decided by what a model's class declares, so that the same rules apply to decoders that transformers adds later.
"""

import inspect
from collections.abc import Callable
from typing import Any

from transformers import MODEL_MAPPING, PreTrainedConfig

# Models that take a `Cache` but keep state of their own beside it, or count places from the padding on, or are no
# decoders of ids.
_OTHER_STATE = ("dory", "flaubert", "minimax", "recurrent_gemma", "roformer", "xlm")
_OTHER_INPUT = ("gradium_phonon_tts", "higgs_audio_v2", "pocket_tts", "voxtral_realtime_encoder")
_CAUSAL_ANYWAY = ("gpt_neox", "gpt_neox_japanese")  # whatever their is_decoder says
# Families whose results depend on positions with some configurations only, or never.
_USES_POSITIONS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("inkling_text", "inkling2_text", "inkling2_loop_text", "jamba", "kimi_linear", "nemotron_h", "zamba"),
        lambda config: False,
    ),
    **dict.fromkeys(
        ("afmoe", "cohere2", "cohere2_moe", "flint", "kolibri1", "lara_mini"),
        lambda config: "sliding_attention" in config.layer_types,
    ),
    **dict.fromkeys(
        ("exaone4", "exaone_moe"),
        lambda config: config.sliding_window is None or "sliding_attention" in config.layer_types,
    ),
    **dict.fromkeys(("llama4_text", "smollm3"), lambda config: any(config.no_rope_layers)),
    **dict.fromkeys(
        ("granite_swa", "granitemoe_swa", "muse_glimmer_text", "muse_spark_text"),
        lambda config: any(config.layer_rope_theta),
    ),
    "granitemoehybrid": lambda config: config.position_embedding_type == "rope",
    "zamba2": lambda config: config.use_mem_rope,
}
_RECURRENT_LAYERS = {"linear_attention", "mamba", "conv", "sparse", "dense"}


def check_backbone(config: PreTrainedConfig, *, needs_positions: bool) -> None:
    """Check that a language model can be the decoder of a stage, where needed one that uses `position_ids`."""
    reason = _backbone_flaw(config, needs_positions)
    if reason is not None:
        raise ValueError(f"backbone_config has model_type {config.model_type!r}, which {reason}.")


def _backbone_flaw(config: PreTrainedConfig, needs_positions: bool) -> str | None:
    kind = type(config)
    if getattr(config, "is_encoder_decoder", False):
        return "has an encoder; use the configuration of a decoder alone, such as Llama or GPT-2"
    parts = [name for name in config.sub_configs if getattr(getattr(config, name, None), "model_type", "")]
    if parts:
        return f"is composed of several models ({', '.join(parts)}); use the configuration of its text decoder alone"
    if kind not in MODEL_MAPPING or isinstance(MODEL_MAPPING[kind], tuple):
        return "is no model that AutoModel builds; use a decoder such as Llama or GPT-2"
    parameters = set(inspect.signature(MODEL_MAPPING[kind].forward).parameters)
    if "decoder_input_ids" in parameters:
        return "has an encoder; use the configuration of a decoder alone, such as Llama or GPT-2"
    takes_cache = parameters & {"past_key_values", "cache"} and {"attention_mask", "inputs_embeds"} <= parameters
    if not takes_cache or config.model_type in (*_OTHER_STATE, *_OTHER_INPUT):
        return "does not run on a transformers Cache of keys and values; use a decoder such as Llama or GPT-2"
    layer_types = set(getattr(config, "layer_types", None) or ())
    if layer_types and layer_types <= _RECURRENT_LAYERS:
        return "has recurrent layers only; give it at least one layer of attention"
    uses_positions = _USES_POSITIONS.get(config.model_type, lambda config: "position_ids" in parameters)
    if needs_positions and not uses_positions(config):
        return "does not use position_ids, so that a condition_stride has no effect; leave condition_stride out"
    return _configuration_flaw(config)


def _configuration_flaw(config: PreTrainedConfig) -> str | None:
    """What is wrong with these values of a family that is otherwise accepted."""
    if getattr(config, "is_decoder", True) is False and config.model_type not in _CAUSAL_ANYWAY:
        return "sees the tokens that it is to predict; set is_decoder=True in it"
    if getattr(config, "default_language", "") is None:
        return "has layers for each language; set its default_language"
    for name in ("embedding_size", "input_embedding_size"):
        width = getattr(config, name, config.hidden_size)
        if width != config.hidden_size:
            return f"has {name} = {width} and hidden_size = {config.hidden_size}; make them equal"
    return None
