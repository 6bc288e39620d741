# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configurations: unknown keys, impossible values, what transformers itself adds, and round trips."""

import copy
import pickle

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, LlamaConfig

import audiolm_hf
from audiolm_hf.configuration_audiolm import (
    AudioLMCoarseConfig,
    AudioLMConfig,
    AudioLMFineConfig,
    AudioLMSemanticConfig,
    AudioLMSemanticTokenizerConfig,
    SoundStreamConfig,
)
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from tests.conftest import TINY_BACKBONE, tiny_config, tiny_stage_config

INF, NAN = float("inf"), float("nan")
CLASSES = [
    AudioLMConfig,
    SoundStreamConfig,
    AudioLMSemanticTokenizerConfig,
    AudioLMSemanticConfig,
    AudioLMCoarseConfig,
    AudioLMFineConfig,
]


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        (AudioLMConfig, {"semantc_config": {}}, "no key 'semantc_config'; did you mean 'semantic_config'"),
        (AudioLMConfig, {"codec_config": {"num_codbooks": 3}}, "did you mean 'num_codebooks'"),
        (AudioLMConfig, {"codec_config": {"model_type": "encodec", "num_filter": 3}}, "did you mean 'num_filters'"),
        (AudioLMConfig, {"temperature": 0.5}, "no key 'temperature'; known are coarse_config, codec_config, "),
        (AudioLMConfig, {"sampling_rate": 8000}, "AudioLMConfig.sampling_rate follows from other fields"),
        (SoundStreamConfig, {"stride": [2, 4]}, "did you mean 'strides'"),
        (SoundStreamConfig, {"hop_length": 320}, "hop_length follows from other fields"),
        (AudioLMSemanticTokenizerConfig, {"encoder_config": {"hidden_sise": 8}}, "did you mean 'hidden_size'"),
        (AudioLMCoarseConfig, {"condition_strides": 4}, "did you mean 'condition_stride'"),
        (AudioLMCoarseConfig, {"backbone_config": {"hiden_size": 8}}, "did you mean 'hidden_size'"),
        (AudioLMCoarseConfig, {"backbone_config": {"model_type": "lama"}}, "model_type 'lama'; did you mean 'llama'"),
        (AudioLMFineConfig, {"backbone_config": {"num_hidden_layers": -1}}, "num_hidden_layers is -1"),
        (AudioLMFineConfig, {"backbone_config": {"attention_dropout": 7}}, "attention_dropout is 7.* 0 to 1"),
    ],
)
def test_unknown_keys_and_impossible_parts_are_refused(config_class, values, message):
    with pytest.raises(ValueError, match=message):
        config_class(**values)


@pytest.mark.parametrize(
    ("config_class", "field", "value"),
    [
        (SoundStreamConfig, "sampling_rate", 0),
        (SoundStreamConfig, "strides", []),
        (SoundStreamConfig, "strides", [2, 0]),
        (SoundStreamConfig, "strides", [2, True]),
        (SoundStreamConfig, "num_codebooks", 2**40),
        (SoundStreamConfig, "num_codebooks", 2.0),
        (SoundStreamConfig, "num_encoder_layers", -1),
        (SoundStreamConfig, "num_channels", 0),
        (SoundStreamConfig, "codebook_decay", 2),
        (SoundStreamConfig, "codebook_decay", NAN),
        (SoundStreamConfig, "quantizer_dropout", 7),
        (SoundStreamConfig, "low_band_scale", INF),
        (SoundStreamConfig, "decoder_type", "istf"),
        (SoundStreamConfig, "initializer_range", -0.1),
        (AudioLMSemanticTokenizerConfig, "layer", -1),
        (AudioLMSemanticTokenizerConfig, "pooling", 0),
        (AudioLMSemanticConfig, "window_length_s", INF),
        (AudioLMSemanticConfig, "window_length_s", 0),
        (AudioLMSemanticConfig, "remove_repeats", "false"),
        (AudioLMSemanticConfig, "num_semantic_tokens", 2**40),
        (AudioLMCoarseConfig, "anchor_length_s", -1.0),
        (AudioLMCoarseConfig, "condition_dropout", 1.5),
        (AudioLMCoarseConfig, "condition_stride", -4.0),
        (AudioLMCoarseConfig, "mean_semantic_duration", 0),
        (AudioLMFineConfig, "use_cache", "no"),
        (AudioLMConfig, "initializer_range", NAN),
        (AudioLMConfig, "codec_config", 3),
    ],
)
def test_impossible_values_are_refused_when_given_and_when_assigned(config_class, field, value):
    with pytest.raises(StrictDataclassError, match=f"'{field}'"):
        config_class(**{field: value})
    config = config_class()
    with pytest.raises(StrictDataclassError, match=f"'{field}'"):
        setattr(config, field, value)


def test_the_error_names_the_value_and_the_range():
    with pytest.raises(StrictDataclassError, match="1099511627776 is out of range; give an integer from 1 to 256"):
        SoundStreamConfig(num_codebooks=2**40)
    with pytest.raises(StrictDataclassError, match="give one or more, each an integer from 1 to 4,096"):
        SoundStreamConfig(strides=[0, 8])


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (AudioLMSemanticConfig, {}, "the semantic stage has none; leave it out"),
        (AudioLMFineConfig, {}, "the fine stage has none; leave it out"),
        (AudioLMCoarseConfig, {"remove_repeats": True}, "tokens without repeats have no times; leave it out"),
        (AudioLMCoarseConfig, {"window_length_s": 1.9}, "window_length_s is 1.9; give at most half of it"),
    ],
)
def test_an_anchor_that_cannot_be_is_refused(config_class, fields, message):
    with pytest.raises(StrictDataclassError, match=rf"anchor_length_s is 1.0, but {message}"):
        config_class(anchor_length_s=1.0, **fields)


def test_the_vocabulary_is_bounded():
    with pytest.raises(StrictDataclassError, match="AudioLMFineConfig has 268,435,460 ids.* at most 67,108,864"):
        AudioLMFineConfig(num_coarse_codebooks=128, num_fine_codebooks=128, codebook_size=2**20)


@pytest.mark.parametrize("config_class", CLASSES)
def test_what_transformers_adds_is_no_unknown_key(config_class, tmp_path):
    keys = {
        "dtype": "float32",
        "architectures": ["Some"],
        "transformers_version": "5.0.0",
        "_commit_hash": None,
        "_name_or_path": "somewhere",
        "name_or_path": "somewhere",
        "attn_implementation": "eager",
        "output_attentions": False,
        "output_hidden_states": False,
        "return_dict": True,
        "num_labels": 2,
        "auto_map": {},
        "model_type": config_class.model_type,
        "quantization_config": None,
    }
    config = config_class(**keys)
    config.save_pretrained(tmp_path)
    again = config_class.from_pretrained(tmp_path, name_or_path="somewhere")
    assert again.to_dict() == config.to_dict()
    assert copy.deepcopy(again).to_dict() == again.to_dict()
    assert pickle.loads(pickle.dumps(again)).to_dict() == again.to_dict()  # noqa: S301 # of its own


def test_overrides_of_from_pretrained_are_checked(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    config = AudioLMConfig.from_pretrained(tmp_path, coarse_config={"window_length_s": 5.0})
    assert config.coarse_config.window_length_s == 5.0 and config.coarse_config.codebook_size == 8
    with pytest.raises(StrictDataclassError, match="window_length_s"):
        AudioLMConfig.from_pretrained(tmp_path, coarse_config={"window_length_s": -1.0})
    with pytest.raises(ValueError, match="did you mean 'window_length_s'"):
        AudioLMConfig.from_pretrained(tmp_path, coarse_config={"window_lenght_s": 5.0})


@pytest.mark.parametrize("config_class", CLASSES)
def test_assigned_attributes_that_are_no_fields_are_not_saved(config_class, tmp_path):
    config = config_class()
    config.my_note = 3
    config.tie_word_embeddings = False
    config.save_pretrained(tmp_path)
    again = config_class.from_pretrained(tmp_path)
    assert not hasattr(again, "my_note") and again.tie_word_embeddings is False


def test_fields_assigned_since_are_checked_when_a_model_is_built():
    config = tiny_config()
    config.coarse_config.num_semantic_tokens = 21
    with pytest.raises(StrictDataclassError, match="must agree"):
        AudioLMModel(config)
    config = tiny_config().codec_config
    config.strides = [2, 4, 5, 16]
    with pytest.raises(StrictDataclassError, match="window_length"):
        SoundStreamModel(config)


def test_a_decoder_of_another_program_keeps_its_own_keys(tmp_path):
    backbone = LlamaConfig(**{**TINY_BACKBONE, "its_own_key": 3})
    config = AudioLMCoarseConfig(**tiny_stage_config(backbone_config=backbone))
    config.save_pretrained(tmp_path)
    assert AudioLMCoarseConfig.from_pretrained(tmp_path).backbone_config.its_own_key == 3


def test_a_backbone_without_a_kind_is_llama():
    config = AudioLMCoarseConfig(**tiny_stage_config(backbone_config={"hidden_size": 64, "num_attention_heads": 4}))
    assert (config.backbone_config.model_type, config.backbone_config.hidden_size) == ("llama", 64)


@pytest.mark.parametrize("name", audiolm_hf.list_checkpoints())
def test_bundled_configurations_have_known_keys_only(name):
    config = AutoConfig.from_pretrained(audiolm_hf.checkpoint(name))
    assert config.num_codebooks == config.num_coarse_codebooks < config.codec_config.num_codebooks
    recorded = {"parallel_config.prefix_attention": False} | config.trained_with  # the field is newer than piano-tiny
    assert recorded == config.trained_values(), "not all that the weights depend on is recorded"
    config.parallel_config.prefix_attention ^= True
    with pytest.raises(ValueError, match=r"parallel_config.prefix_attention is (True|False), but .* was trained with"):
        audiolm_hf.AudioLMModel.from_pretrained(audiolm_hf.checkpoint(name), config=config)
