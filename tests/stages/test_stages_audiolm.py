# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The table of stages: a stage from outside the package, and models without one of the package's own."""

import copy

import pytest
import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import AutoModelForCausalLM

from audiolm_hf import AudioLMConfig, AudioLMGenerationConfig, AudioLMModel, Stage, register_stage
from audiolm_hf.configuration_audiolm import (
    AudioLMCoarseConfig,
    AudioLMFineConfig,
    AudioLMSemanticConfig,
    AudioLMStageConfig,
)
from audiolm_hf.configuration_stage_audiolm import StageLayout
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.stage_generation_audiolm import generate_coarse_codes
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.training.stages.training import train_stage
from tests.conftest import randomise, tiny_config, tiny_stage_config
from tests.helpers_stages import config_of
from tests.helpers_tokens import write_tokens

NO_FINE = {
    "semantic_config": tiny_stage_config(num_fine_codebooks=0, window_length_s=2.0),
    "coarse_config": tiny_stage_config(num_fine_codebooks=0, window_length_s=1.0),
    "fine_config": None,
}


@strict
class AcousticConfig(AudioLMStageConfig):
    """All levels of the codes from semantic tokens."""

    model_type = "outside_acoustic"
    stage = "acoustic"
    layout = StageLayout(condition=("semantic",), predicted=("coarse", "fine"))


class AcousticModel(AudioLMStageModel):
    config_class = AcousticConfig


@pytest.fixture
def acoustic_stage():
    register_stage(Stage(AcousticModel, generate_coarse_codes, temperature=0.9, options=STAGES["coarse"].options))
    yield
    del STAGES["acoustic"]
    del AudioLMConfig.sub_configs_defaults["acoustic_config"]
    del AudioLMConfig.acoustic_config


@pytest.mark.usefixtures("acoustic_stage")
def test_a_stage_from_outside_is_trained_saved_loaded_and_generates(tiny_audiolm, tmp_path):
    folders = [write_tokens(tmp_path / name, [60, 45]) for name in ("train", "validation")]
    changes = {"stage": "acoustic", "condition_dropout": 0.5, "align_condition": True}
    folder = train_stage(config_of(folders, tmp_path / "out", max_steps=1, eval_steps=1, **changes))
    stage = AutoModelForCausalLM.from_pretrained(folder)
    assert type(stage) is AcousticModel
    assert stage.config.predicted_levels == [0, 1, 2, 3, 4]
    assert stage.config.condition_stride == 5 * 2  # codes of one of 25 semantic tokens a second, at 50 frames
    model = AudioLMModel.from_parts(
        tiny_audiolm.semantic_tokenizer, tiny_audiolm.codec, semantic=tiny_audiolm.semantic, acoustic=stage
    )
    assert list(model.stages) == ["semantic", "acoustic"]
    model.save_pretrained(tmp_path / "whole")
    loaded = AudioLMModel.from_pretrained(tmp_path / "whole")
    options = {
        "continuation_length_s": 0.4,
        "min_continuation_length_s": 0.4,
        "seed": 0,
        "acoustic_guidance_scale": 2.0,
    }
    prompt = torch.randn(1, 8000) / 10
    made = [each.generate(prompt, acoustic_temperature=0.7, **options) for each in (model, loaded)]
    assert made[0].audio_codes.shape == (1, 5, 24 + 20)
    assert torch.equal(made[0].audio_values, made[1].audio_values)
    loss = loaded(prompt)
    assert loss.loss == loss.semantic_loss + loss.acoustic_loss
    leaves, structure = tree_flatten(loss)  # as distributed training takes outputs apart
    for copied in (copy.copy(loss), tree_unflatten(leaves, structure), type(loss)(dict(loss))):
        assert list(copied) == list(loss) and copied.acoustic_loss == loss.acoustic_loss
        assert type(copied) is type(loss) and copied.hidden_states is None
    with pytest.raises(ValueError, match="coarse_top_k is given, but the model has no coarse stage, only sem"):
        loaded.generate(prompt, coarse_top_k=3)


@pytest.mark.usefixtures("acoustic_stage")
def test_two_stages_that_predict_the_same_levels_are_refused():
    with pytest.raises(StrictDataclassError, match=r"predict the levels \[-1, 0, 1, 0, 1, 2, 3, 4\].* each once"):
        tiny_config(acoustic_config=tiny_stage_config(), fine_config=None)


@pytest.fixture(scope="module")
def no_fine():
    torch.manual_seed(0)
    return randomise(AudioLMModel(tiny_config(**NO_FINE)))


def test_a_model_has_the_stages_that_its_configuration_names(no_fine, tmp_path):
    assert [name for name, _ in no_fine.named_children()] == ["semantic_tokenizer", "codec", "semantic", "coarse"]
    assert list(AudioLMConfig().stage_configs) == ["semantic", "coarse"]
    no_fine.save_pretrained(tmp_path)
    loaded = AudioLMModel.from_pretrained(tmp_path)
    assert list(loaded.stages) == ["semantic", "coarse"]
    assert "fine" not in (tmp_path / "generation_config.json").read_text()
    options = {"continuation_length_s": 0.4, "seed": 0}
    made = [model.generate(torch.ones(1, 8000) / 10, **options) for model in (no_fine, loaded)]
    assert made[0].audio_codes.shape[1] == 2
    assert torch.equal(made[0].audio_values, made[1].audio_values)
    assert set(loaded(torch.ones(1, 8000) / 10)) == {
        "loss", "semantic_loss", "coarse_loss", "semantic_logits", "coarse_logits"
    }  # fmt: skip


@pytest.mark.parametrize("option", [{"fine_temperature": 0.9}, {"fine_batch_size": 2}, {"use_fine_stage": False}])
def test_options_of_a_stage_that_is_not_there_are_refused(no_fine, option):
    (name,) = option
    message = f"{name} is given, but the model has no fine stage, only semantic, coarse; leave it out"
    with pytest.raises(ValueError, match=message):
        no_fine.generate(**option)
    with pytest.raises(ValueError, match=message):
        no_fine.generate(generation_config=AudioLMGenerationConfig(**option | {"fine_top_k": 0}))
    no_fine.check_generate_options(generation_config=AudioLMGenerationConfig(), temperature=0.5)  # all defaults


def test_coarse_codes_alone_sound_the_same_without_the_fine_stage(tiny_audiolm):
    parts = {name: tiny_audiolm.get_submodule(name) for name in ("semantic_tokenizer", "codec", "semantic", "coarse")}
    without = AudioLMModel.from_parts(**parts)  # its stages were trained beside a fine one
    options = {"seed": 3, "continuation_length_s": 0.6, "input_values": torch.ones(1, 16000) / 10}
    expected = tiny_audiolm.generate(use_fine_stage=False, **options)
    made = without.generate(**options)
    assert torch.equal(made.audio_values, expected.audio_values)
    assert torch.equal(made.audio_codes, expected.audio_codes)


@pytest.mark.parametrize(
    ("config_class", "reason"),
    [
        (AudioLMFineConfig, "num_fine_codebooks is 0, so the fine stage has no level to predict"),
        (AudioLMSemanticConfig, None),
        (AudioLMCoarseConfig, None),
    ],
)
def test_no_fine_codebooks(config_class, reason):
    sizes = tiny_stage_config(num_fine_codebooks=0)
    if reason is None:
        assert config_class(**sizes).num_codebooks == 2
        return
    with pytest.raises(StrictDataclassError, match=reason):
        config_class(**sizes)


def test_a_layout_with_an_end_is_of_semantic_tokens_alone():
    with pytest.raises(ValueError, match="predicts_end is for semantic tokens alone, and the stage has"):
        StageLayout(condition=("semantic",), predicted=("coarse",), predicts_end=True)


def test_a_wrapper_that_is_no_stage_is_one_clear_error(tiny_audiolm):
    for wrap in (lambda stage: torch.compile(stage, backend="eager"), torch.nn.DataParallel):
        model = copy.deepcopy(tiny_audiolm)
        model.coarse = wrap(model.coarse)
        with pytest.raises(TypeError, match=r"is a (OptimizedModule|DataParallel); .* its method compile\(\)"):
            model.generate(continuation_length_s=0.2)


def test_a_part_under_another_name_is_refused(tiny_audiolm):
    parts = (tiny_audiolm.semantic_tokenizer, tiny_audiolm.codec)
    with pytest.raises(ValueError, match=r"coarse is given a AudioLMSemanticModel; the stages are semantic \(Aud"):
        AudioLMModel.from_parts(*parts, semantic=tiny_audiolm.semantic, coarse=tiny_audiolm.semantic)


def test_an_older_checkpoint_with_a_fine_stage_gives_the_codes_that_it_gave(tiny_audiolm, tmp_path):
    """Of the code before the table of stages, on the tiny model, from the same files."""
    tiny_audiolm.save_pretrained(tmp_path)
    loaded = AudioLMModel.from_pretrained(tmp_path)
    prompt = torch.sin(torch.arange(8000) / 7)[None] / 10
    options = {"seed": 5, "continuation_length_s": 0.2, "min_continuation_length_s": 0.2}
    coarse = [[5, 1, 5, 4, 2, 2, 1, 1, 1, 7], [4, 7, 5, 7, 7, 4, 3, 7, 7, 6]]
    fine = [[5, 0, 6, 2, 7, 7, 7, 4, 7, 4], [0, 7, 0, 1, 1, 1, 1, 2, 1, 2], [4, 7, 2, 4, 7, 0, 5, 0, 5, 1]]
    assert loaded.generate(prompt, **options).audio_codes[0, :, 24:].tolist() == coarse + fine
    assert loaded.generate(prompt, use_fine_stage=False, **options).audio_codes[0, :, 24:].tolist() == coarse
