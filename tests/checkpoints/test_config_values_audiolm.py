# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Values of other models' configurations: impossible ones are refused by their kind, legal ones of any model pass."""

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.configuration_audiolm import (
    CODECS,
    SPECTRUM_ENCODER,
    WAVEFORM_ENCODERS,
    AudioLMCoarseConfig,
    AudioLMConfig,
    AudioLMSemanticTokenizerConfig,
)
from audiolm_hf.strict_config_audiolm import check_foreign_config, foreign_trained_values
from tests.conftest import TINY_LAYOUT

ROPE = {"rope_type": "default", "rope_theta": 1e4}
IMPOSSIBLE = [
    ("gpt2", "resid_pdrop", 7, "resid_pdrop is 7, .* a number from 0 to 1"),
    ("gpt2", "n_layer", -1, "n_layer is -1, .* an integer from 1 to 10,000"),
    ("gpt2", "n_positions", 0, "n_positions is 0"),
    (
        "gpt2",
        "activation_function",
        "foo",
        "activation_function is 'foo', which transformers does not have; known are",
    ),
    ("llama", "hidden_act", "sliu", "hidden_act is 'sliu', which transformers does not have; did you mean 'silu'"),
    ("llama", "rope_theta", -1.0, r"rope_parameters.rope_theta is -1.0, .* above 0"),
    ("llama", "rope_parameters", ROPE | {"rope_type": "yarm"}, "rope_type is 'yarm', .* did you mean 'yarn'"),
    ("llama", "rope_parameters", ROPE | {"rope_type": "linear", "factor": -2.0}, "rope_parameters.factor is -2.0"),
    ("llama", "rope_parameters", ROPE | {"rope_theta": "x"}, "rope_parameters.rope_theta is 'x'"),
    ("llama", "rms_norm_eps", -1e-6, "rms_norm_eps is -1e-06, .* above 0"),
    ("llama", "rms_norm_eps", 0.0, "rms_norm_eps is 0.0"),
    ("llama", "head_dim", 0, "head_dim is 0, .* an integer from 1"),
    ("xglm", "init_std", -0.02, "init_std is -0.02"),
    ("gemma3_text", "hidden_activation", "gelo", "hidden_activation is 'gelo'"),
    ("gemma3_text", "sliding_window", -4, "sliding_window is -4"),
    ("gemma3_text", "rope_parameters", {"full_attention": ROPE | {"rope_theta": 0}}, "full_attention.rope_theta is 0"),
    ("mixtral", "num_experts_per_tok", -1, "num_experts_per_tok is -1"),
    ("deepseek_v3", "kv_lora_rank", -1, "kv_lora_rank is -1"),
    ("opt", "layerdrop", 1.1, "layerdrop is 1.1"),
]
IMPOSSIBLE_ENCODERS = [
    ("wav2vec2-bert", "conv_depthwise_kernel_size", -3, "conv_depthwise_kernel_size is -3, .* an integer from 1"),
    ("wav2vec2-bert", "hidden_act", "swosh", "hidden_act is 'swosh'"),
    ("wav2vec2-bert", "layer_norm_eps", -1.0, "layer_norm_eps is -1.0"),
    ("wav2vec2", "conv_stride", [5, 2, 2, 2, 2, 2, 0], "conv_stride is 0"),
    ("wav2vec2", "feat_extract_activation", "foo", "feat_extract_activation is 'foo'"),
    ("hubert", "feat_proj_dropout", 2.0, "feat_proj_dropout is 2.0"),
    ("wavlm", "num_buckets", -1, "num_buckets is -1"),
    ("sew", "mask_time_prob", 1.5, "mask_time_prob is 1.5"),
]
NO_DEFAULTS = ["gemma4_assistant"]
LEGAL = [
    ("sew-d", {"position_buckets": -1}),  # none
    ("gemma3_text", {"sliding_window": None}),
    ("qwen2", {"sliding_window": 0}),
    ("muse_spark_text", {"layer_rope_theta": [0.0, 1e4] * 20}),
    ("gpt_neo", {"attention_layers": ["local"] * 24}),
    ("gpt2", {"n_inner": None, "summary_activation": "tanh", "resid_pdrop": 0, "embd_pdrop": 1}),
    ("llama", {"rope_parameters": ROPE | {"rope_type": "yarn", "factor": 4.0}}),
    ("deepseek_v3", {"first_k_dense_replace": 0, "num_nextn_predict_layers": 0}),
    ("qwen2", {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1}}),
    ("wav2vec2", {"layerdrop": 0, "mask_time_min_masks": 0, "pad_token_id": -1}),
    ("mamba", {"time_step_rank": "auto"}),
]


def test_a_range_says_what_it_holds():
    assert str(Within(0, 1, above=True, below=True)) == "a number above 0 and below 1"
    assert str(Within(0, 1, below=True)) == "a number from 0 to below 1"
    assert [Within(0, 1, below=True).holds(value) for value in (0, 0.5, 1, True, "0", float("nan"))] == [
        *(True, True),
        *(False,) * 4,
    ]


@pytest.mark.parametrize(("model_type", "field", "value", "message"), IMPOSSIBLE)
def test_impossible_values_of_a_backbone_are_refused(model_type, field, value, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"backbone_config.*{message}"):
        AudioLMCoarseConfig(backbone_config={"model_type": model_type, field: value}, **TINY_LAYOUT)
    config = AutoConfig.for_model(model_type, **{field: value})
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        AudioLMCoarseConfig(backbone_config=config, **TINY_LAYOUT)


@pytest.mark.parametrize(("model_type", "field", "value", "message"), IMPOSSIBLE_ENCODERS)
def test_impossible_values_of_an_encoder_are_refused(model_type, field, value, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"encoder_config.*{message}"):
        AudioLMSemanticTokenizerConfig(encoder_config={"model_type": model_type, field: value})


def test_impossible_values_of_a_codec_are_refused():
    with pytest.raises(ValueError, match="codec_config.upsampling_ratios is 0"):
        AudioLMConfig(codec_config={"model_type": "encodec", "upsampling_ratios": [8, 5, 4, 0]})
    with pytest.raises(ValueError, match="codec_config.rope_parameters.rope_theta is -3"):
        AudioLMConfig(codec_config={"model_type": "mimi", "rope_theta": -3})


@pytest.mark.parametrize(("model_type", "values"), LEGAL)
def test_legal_values_pass(model_type, values):
    check_foreign_config("it", AutoConfig.for_model(model_type, **values), values)


@pytest.mark.parametrize(("model_type", "reason"), [("esm", "does not run on"), ("xlnet", "does not run on")])
def test_the_reason_for_a_refusal_is_the_true_one(model_type, reason):
    with pytest.raises(StrictDataclassError, match=f"model_type '{model_type}', which {reason}"):
        AudioLMCoarseConfig(backbone_config={"model_type": model_type}, **TINY_LAYOUT)


@pytest.mark.slow
def test_the_defaults_of_every_model_of_transformers_pass():
    built = 0
    for model_type in CONFIG_MAPPING:
        try:
            config = AutoConfig.for_model(model_type)
        except (ValueError, StrictDataclassError):
            continue  # has no defaults
        check_foreign_config(model_type, config, config.to_dict())
        again = type(config).from_dict(config.to_dict())
        assert config.sub_configs or foreign_trained_values(again) == foreign_trained_values(config), model_type
        built += 1
    assert built > 700


@pytest.mark.slow
@pytest.mark.parametrize("model_type", sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}))
def test_every_decoder_passes_or_is_refused_for_what_it_is(model_type):
    reasons = []
    try:
        AudioLMCoarseConfig(backbone_config={"model_type": model_type}, **TINY_LAYOUT)
    except StrictDataclassError as error:
        reasons.append(str(error))
    assert all("backbone_config has model_type" in reason for reason in reasons) or model_type in NO_DEFAULTS


@pytest.mark.parametrize("model_type", [SPECTRUM_ENCODER, *WAVEFORM_ENCODERS])
def test_the_defaults_of_every_speech_encoder_pass(model_type):
    config = AudioLMSemanticTokenizerConfig(encoder_config={"model_type": model_type})
    assert config.encoder_config.model_type == model_type


@pytest.mark.parametrize("model_type", [*CODECS][1:])
def test_the_defaults_of_every_codec_pass(model_type):
    check_foreign_config(model_type, AutoConfig.for_model(model_type), {})


def test_what_results_depend_on_is_all_that_is_not_free():
    values = foreign_trained_values(AutoConfig.for_model("llama", rope_theta=5e5))
    assert values["rope_parameters"] == {"rope_type": "default", "rope_theta": 5e5}
    assert {"hidden_act", "rms_norm_eps", "attention_bias", "model_type"} <= values.keys()
    free = {"attention_dropout", "vocab_size", "use_cache", "initializer_range", "bos_token_id", "tie_word_embeddings"}
    assert not values.keys() & (free | {"transformers_version", "dtype", "_name_or_path", "architectures"})
    assert foreign_trained_values(AutoConfig.for_model("esm", token_dropout=True))["token_dropout"] is True
    assert foreign_trained_values(AutoConfig.for_model("qwen3_moe"))["norm_topk_prob"] is False
