# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Options of generation."""

import copy

import pytest
import torch
from transformers import GenerationConfig

from audiolm_hf.generation_config_audiolm import AudioLMGenerationConfig
from tests.conftest import tiny_config, tiny_stage_config


def test_unknown_options_name_the_nearest():
    with pytest.raises(ValueError, match="no option 'seeed'; did you mean 'seed'"):
        AudioLMGenerationConfig().with_options(seeed=1)
    with pytest.raises(ValueError, match="no option 'input_ids' of transformers: the prompt is audio; give input_v"):
        AudioLMGenerationConfig().with_options(input_ids=1)
    with pytest.raises(ValueError, match="no option 'coarse_temprature'; did you mean 'coarse_temperature'"):
        AudioLMGenerationConfig().with_options(coarse_temprature=1.0)
    with pytest.raises(ValueError, match="no option 'semantic_guidance_scale'"):
        AudioLMGenerationConfig().with_options(semantic_guidance_scale=2.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("continuation_length_s", 0),
        ("continuation_length_s", -1.0),
        ("continuation_length_s", float("nan")),
        ("continuation_length_s", float("inf")),
        ("min_continuation_length_s", -0.1),
        ("semantic_temperature", 0),
        ("coarse_top_p", 0.0),
        ("coarse_top_p", 1.1),
        ("fine_top_k", -1),
        ("coarse_guidance_scale", -1.0),
        ("fine_batch_size", 0),
        ("fine_batch_size", 10**12),
        ("fine_batch_size", 2.5),
        ("semantic_top_k", 1.5),
        ("semantic_top_k", True),
        ("semantic_do_sample", "no"),
        ("semantic_do_sample", 1),
        ("use_fine_stage", "false"),
        ("coarse_temperature", float("inf")),
        ("coarse_temperature", 1e-300),
        ("coarse_temperature", "warm"),
        ("coarse_guidance_scale", float("inf")),
        ("continuation_length_s", 1e9),
        ("continuation_length_s", "7"),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give "):
        AudioLMGenerationConfig().with_options(**{name: value})
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give "):
        AudioLMGenerationConfig(**{name: value})


def test_unknown_options_of_a_configuration_name_the_nearest():
    with pytest.raises(ValueError, match="no option 'coarse_temprature'; did you mean 'coarse_temperature'"):
        AudioLMGenerationConfig(coarse_temprature=1.0)
    with pytest.raises(ValueError, match="no option 'num_beams'"):
        AudioLMGenerationConfig(num_beams=4)
    for name in ("max_new_tokens", "max_length", "min_new_tokens"):
        with pytest.raises(
            ValueError, match=f"no option '{name}' of transformers: lengths are in seconds.*continuation_length_s"
        ):
            AudioLMGenerationConfig().with_options(**{name: 100})
    with pytest.raises(TypeError, match="generation_config is a dict"):
        AudioLMGenerationConfig().with_options({"temperature": 1.0})


def temperatures(config):
    return [getattr(config, f"{stage}_temperature") for stage in ("semantic", "coarse", "fine")]


def test_options_without_a_stage_are_those_of_all_and_named_ones_win():
    config = AudioLMGenerationConfig(coarse_temperature=0.8, temperature=0.5)
    assert temperatures(config) == [0.5, 0.8, 0.5]
    assert temperatures(config.with_options(fine_temperature=1.0, temperature=0.7)) == [0.7, 0.7, 1.0]
    config.temperature = 0.9
    assert temperatures(config) == [0.9, 0.9, 0.9]
    greedy = config.with_options(do_sample=False, top_k=5, top_p=0.5)
    for stage in ("semantic", "coarse", "fine"):
        assert greedy.stage_values(stage).items() >= {"do_sample": False, "top_k": 5, "top_p": 0.5}.items()
    with pytest.raises(ValueError, match="semantic_temperature is -1"):
        config.with_options(temperature=-1)


def test_plain_configurations_change_and_own_ones_replace():
    own = AudioLMGenerationConfig(semantic_top_k=7, temperature=0.5)
    plain = GenerationConfig(temperature=0.9, do_sample=True, pad_token_id=3, use_cache=True)
    assert temperatures(own.with_options(plain)) == [0.9, 0.9, 0.9]
    assert own.with_options(plain).semantic_top_k == 7
    assert temperatures(own.with_options(plain, coarse_temperature=0.1)) == [0.9, 0.1, 0.9]
    other = AudioLMGenerationConfig(coarse_top_k=2)
    assert own.with_options(other) == other
    with pytest.raises(ValueError, match="no option 'max_new_tokens'.*continuation_length_s"):
        own.with_options(GenerationConfig(max_new_tokens=20))


def test_a_wrong_option_in_a_saved_configuration_is_refused(tmp_path):
    AudioLMGenerationConfig().save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(path.read_text().replace("fine_top_k", "fine_topk"))
    with pytest.raises(ValueError, match="no option 'fine_topk'; did you mean 'fine_top_k'"):
        AudioLMGenerationConfig.from_pretrained(tmp_path)


def test_options_are_saved_and_loaded(tmp_path):
    config = AudioLMGenerationConfig().with_options(semantic_top_k=5, continuation_length_s=3.5)
    assert AudioLMGenerationConfig().semantic_top_k == 0
    config.save_pretrained(tmp_path)
    loaded = AudioLMGenerationConfig.from_pretrained(tmp_path)
    assert (loaded.semantic_top_k, loaded.continuation_length_s, loaded.coarse_temperature) == (5, 3.5, 0.8)


def test_guidance_needs_a_stage_trained_without_some_conditions(tiny_audiolm):
    with pytest.raises(ValueError, match="coarse_guidance_scale is 3.0, but the coarse stage was trained with all of"):
        tiny_audiolm.generate(coarse_guidance_scale=3.0, continuation_length_s=0.1)
    trained = tiny_config(coarse_config=tiny_stage_config(condition_dropout=0.2))
    AudioLMGenerationConfig(coarse_guidance_scale=3.0).check_stages(trained, {})


@pytest.mark.parametrize(
    ("name", "reason"),
    {
        "num_beams": "beam search is not supported",
        "length_penalty": "beam search is not supported",
        "exponential_decay_length_penalty": "sampling only has temperature, top_k and top_p",
        "repetition_penalty": "sampling only has temperature, top_k and top_p",
        "logits_processor": "sampling only has temperature, top_k and top_p",
        "streamer": "it is an argument of generate",
        "assistant_model": "assisted decoding is not supported",
        "prompt_lookup_num_tokens": "assisted decoding is not supported",
        "guidance_scale": "give coarse_guidance_scale",
        "use_cache": "it has no effect here",
        "max_new_tokens": "lengths are in seconds; give continuation_length_s",
    }.items(),
)
def test_options_of_transformers_alone_are_no_misspellings(name, reason):
    with pytest.raises(ValueError, match=f"no option '{name}' of transformers: .*{reason}"):
        AudioLMGenerationConfig().with_options(**{name: 1})


def test_no_option_of_transformers_is_taken_for_a_misspelling():
    own = set(AudioLMGenerationConfig.option_names())
    for name in vars(GenerationConfig()).keys() - own:
        with pytest.raises(ValueError, match="of transformers: [^?]*$"):
            AudioLMGenerationConfig().with_options(**{name: 1})
    for name, nearest in {"temperatur": "temperature", "coarse_topk": "coarse_top_k"}.items():
        with pytest.raises(ValueError, match=f"no option '{name}'; did you mean '{nearest}'"):
            AudioLMGenerationConfig().with_options(**{name: 1})


def test_what_is_given_for_all_stages_is_for_those_of_a_model():
    chosen = AudioLMGenerationConfig(temperature=0.5, do_sample=False).for_stages(["semantic", "coarse"])
    assert chosen.stages == ["semantic", "coarse"] and chosen.semantic_temperature == chosen.coarse_temperature == 0.5
    with pytest.raises(ValueError, match="fine_temperature is given, but the model has no fine stage"):
        AudioLMGenerationConfig(fine_temperature=0.3).for_stages(["semantic", "coarse"])


def test_a_configuration_that_a_caller_puts_in_place_is_used_or_refused(tiny_audiolm):
    model = copy.copy(tiny_audiolm)
    model.generation_config = GenerationConfig(temperature=0.5, do_sample=True)
    options = model.check_generate_options()
    assert (
        options.coarse_temperature == 0.5
        and options.continuation_length_s == AudioLMGenerationConfig().continuation_length_s
    )
    model.generation_config = None
    assert model.check_generate_options().coarse_temperature == AudioLMGenerationConfig().coarse_temperature
    model.generation_config = {"temperature": 0.5}
    with pytest.raises(TypeError, match="generation_config is a dict; give a GenerationConfig"):
        model.check_generate_options()


def test_options_of_a_stage_that_does_not_run_are_refused(tiny_audiolm):
    message = "fine_top_k is given, but use_fine_stage is False; give use_fine_stage=True, or leave it out"
    with pytest.raises(ValueError, match=message):
        tiny_audiolm.check_generate_options(use_fine_stage=False, fine_top_k=3)
    with pytest.raises(ValueError, match=message):
        tiny_audiolm.check_generate_options(
            use_fine_stage=False, generation_config=GenerationConfig(fine_top_k=3, temperature=0.5)
        )
    tiny_audiolm.check_generate_options(use_fine_stage=False, top_k=3)  # of all stages that run
    with pytest.raises(ValueError, match="semantic_top_k has no effect with semantic_tokens"):
        tiny_audiolm.generate(semantic_tokens=torch.ones(1, 4, dtype=torch.int64), semantic_top_k=3)
    for config in (GenerationConfig(semantic_top_k=3), GenerationConfig(continuation_length_s=3)):
        with pytest.raises(ValueError, match=" has no effect with semantic_tokens"):
            tiny_audiolm.generate(semantic_tokens=torch.ones(1, 4, dtype=torch.int64), generation_config=config)
