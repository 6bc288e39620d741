# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`import audiolm_hf` makes transformers know the package, and changes nothing else."""

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

import audiolm_hf
from audiolm_hf.registration import PARTS, register
from tests.helpers_checkpoint import run_python

IMPORT = """
import warnings
warnings.simplefilter("error")
import json, logging, os, random, sys, threading, warnings
import numpy as np
import torch
import transformers.pipelines
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers import GenerationMixin, PreTrainedModel, PreTrainedConfig, GenerationConfig

def state():
    return {
        "warn": (id(warnings.warn), id(warnings.showwarning), repr(warnings.filters)),
        "logging": (logging.root.level, len(logging.root.handlers), logging.getLogger("transformers").level),
        "torch": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()),
        "torch flags": (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()),
        "torch numbers": torch.get_rng_state().tolist(),
        "numpy": (repr(np.random.get_state()), repr(np.geterr()), repr(np.get_printoptions())),
        "random": random.getstate(),
        "environment": dict(os.environ),
        "excepthook": (id(sys.excepthook), threading.active_count()),
        "folder": (os.getcwd(), sys.path[:]),
    }

before, modules = state(), set(sys.modules)
import audiolm_hf
after = state()
new = {name.partition(".")[0] for name in set(sys.modules) - modules}
print(json.dumps({
    "changed": [key for key in before if before[key] != after[key]],
    "heavy": sorted(new & {"gradio", "matplotlib", "datasets", "sklearn", "peft", "accelerate", "pesq", "yaml"}),
}))
transformers.pipeline("audio-continuation")(audiolm_hf.example_prompt(), continuation_length_s=0.1)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return json.loads(run_python(IMPORT, home=tmp_path_factory.mktemp("home")).splitlines()[-1])


def test_nothing_outside_changes_and_neither_importing_nor_continuing_warns(imported):
    assert imported["changed"] == []


def test_only_what_running_a_checkpoint_needs_is_imported(imported):
    assert imported["heavy"] == []


def test_public_names_are_there_and_sorted():
    assert audiolm_hf.__all__ == sorted(audiolm_hf.__all__)
    assert not [name for name in audiolm_hf.__all__ if not hasattr(audiolm_hf, name)]
    for name in audiolm_hf.__all__:
        assert getattr(audiolm_hf, name).__doc__, name


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.model_class.__name__)
def test_auto_classes_know_every_part(part):
    config = AutoConfig.for_model(part.config_class.model_type)
    assert type(config) is part.config_class
    assert AutoModel._model_mapping[part.config_class] is part.model_class
    is_causal = "backbone_config" in part.config_class.sub_configs and part.model_class.can_generate()
    assert (part.config_class in AutoModelForCausalLM._model_mapping) == is_causal


def test_registering_again_changes_nothing():
    before = dict(PIPELINE_REGISTRY.supported_tasks["audio-continuation"])
    register()
    assert PIPELINE_REGISTRY.supported_tasks["audio-continuation"] == before


def test_a_processor_folder_is_loaded_by_the_auto_classes(tmp_path):
    processor = audiolm_hf.AudioLMProcessor(audiolm_hf.AudioLMFeatureExtractor(min_length_s=0.2))
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "audiolm"}))
    assert type(AutoProcessor.from_pretrained(tmp_path)) is audiolm_hf.AudioLMProcessor
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(extractor) is audiolm_hf.AudioLMFeatureExtractor and extractor.min_length_s == 0.2


def test_bundled_names_are_folders():
    for name in audiolm_hf.list_checkpoints():
        assert (Path(audiolm_hf.checkpoint(name)) / "config.json").is_file()
    with pytest.raises(ValueError, match="no bundled checkpoint 'speech-huge'"):
        audiolm_hf.checkpoint("speech-huge")


@pytest.mark.parametrize(
    ("name", "licence", "author"),
    [("speech-tiny", "CC BY 4.0", "Vassil Panayotov"), ("piano-tiny", "CC BY-SA 3.0", "Bernd Krueger")],
)
def test_the_example_prompts_are_four_seconds_with_their_licences(name, licence, author):
    path = Path(audiolm_hf.example_prompt(name))
    audio, rate = audiolm_hf.read_audio(path)
    assert rate == 16000 and 3.0 <= audio.shape[1] / rate <= 4.0
    text = (path.parent / "README.md").read_text()
    assert path.name in text and licence in text and author in text


def test_checkpoints_have_the_example_prompt_of_what_they_know():
    speech, piano = (audiolm_hf.example_prompt(name) for name in ("speech-tiny", "piano-tiny"))
    assert audiolm_hf.example_prompt() == audiolm_hf.example_prompt("somebody/audiolm") == speech != piano
    for name in audiolm_hf.list_checkpoints():
        assert audiolm_hf.example_prompt(audiolm_hf.checkpoint(name)) == audiolm_hf.example_prompt(name)
