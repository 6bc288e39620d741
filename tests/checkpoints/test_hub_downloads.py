# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What was uploaded is loaded by its name and revision, and what cannot be loaded is one clear error."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig

import audiolm_hf
from audiolm_hf import AudioLMFeatureExtractor, AudioLMModel, AudioLMProcessor, cli, export_checkpoint, push_checkpoint
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification
from tests.helpers_checkpoint import CLIP, run_python, tiny_model, tiny_processor
from tests.helpers_hub import SENDS_DATA, StandInHub, connect, hub_environment, serve_hub, set_token

pytestmark = pytest.mark.filterwarnings(SENDS_DATA)
NAME, VOICE, PRIVATE, GATED = (f"somebody/{name}" for name in ("audiolm", "voice", "private", "gated"))
OPTIONS = {"continuation_length_s": 0.4, "min_continuation_length_s": 0.4, "seed": 0}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInHub]:
    """A stand-in of the Hub: a checkpoint of two revisions, an adapter of it, a private and a gated checkpoint."""
    folder = tmp_path_factory.mktemp("hub")
    with serve_hub() as hub, pytest.MonkeyPatch.context() as patch:
        connect(patch, hub, folder / "cache")
        other = tiny_model()
        with torch.no_grad():
            other.semantic.model.norm.weight.mul_(2)
        export_checkpoint(other, tiny_processor(), folder / "other", with_code=False)
        base = export_checkpoint(tiny_model(), tiny_processor(), folder / "base", with_code=False)
        AudioLMDetectorForAudioClassification(AudioLMDetectorConfig(sampling_rate=8000)).save_pretrained(
            base / "detector"
        )
        AudioLMFeatureExtractor().save_pretrained(base / "detector")
        model = AudioLMModel.from_pretrained(base)
        model.add_adapter(LoraConfig(target_modules=r"coarse\..*q_proj", init_lora_weights=False))
        model.save_pretrained(folder / "voice")
        path = folder / "voice" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": NAME}))
        shutil.copy(base / "processor_config.json", folder / "voice")
        for name in (NAME, PRIVATE, GATED):
            push_checkpoint(base, name, private=name == PRIVATE)
        push_checkpoint(folder / "other", NAME, revision="next")
        push_checkpoint(folder / "voice", VOICE, private=False)
        hub.repos[GATED].gated = True
        yield hub


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    processor = tiny_processor()
    return processor.batch_decode(tiny_model().generate(**processor(CLIP), **OPTIONS))[0]


def test_branches_and_commits_are_loaded_by_name(hub):
    main, later = hub.repos[NAME].branches["main"], hub.repos[NAME].branches["next"]
    ours = tiny_model().semantic.model.norm.weight
    for revision, factor in ((None, 1), ("main", 1), (main, 1), ("next", 2), (later, 2)):
        model = AudioLMModel.from_pretrained(NAME, revision=revision)
        assert torch.equal(model.semantic.model.norm.weight, factor * ours), revision
        assert AudioLMProcessor.from_pretrained(NAME, revision=revision).sampling_rate == 16000
    requests = len(hub.requests)
    AudioLMModel.from_pretrained(NAME)
    assert not [line for line in hub.requests[requests:] if line.startswith("GET") and "safetensors" in line]  # cached


def test_the_pipeline_gives_the_samples_of_the_uploaded_model(hub, expected):
    continue_audio = audiolm_hf.pipeline(NAME, device="cpu")
    np.testing.assert_array_equal(continue_audio(CLIP, **OPTIONS)["audio"], expected)
    other = audiolm_hf.pipeline(NAME, revision="next", device="cpu")(CLIP, **OPTIONS)["audio"]
    assert not np.array_equal(other, expected)


def test_an_adapter_is_loaded_with_its_base(hub, expected):
    continue_audio = audiolm_hf.pipeline(VOICE, device="cpu")
    assert continue_audio.model.active_adapters() == ["default"]
    assert not np.array_equal(continue_audio(CLIP, **OPTIONS)["audio"], expected)


def test_the_detector_of_a_checkpoint_is_loaded_from_its_subfolder(hub):
    detector = AudioLMDetectorForAudioClassification.from_pretrained(NAME, subfolder="detector")
    assert detector.config.sampling_rate == 8000


def test_models_processors_and_pipelines_push_themselves(hub, expected):
    name = "somebody/pushed"
    tiny_model().push_to_hub(name, private=True)
    tiny_processor().push_to_hub(name)
    assert hub.repos[name].private
    np.testing.assert_array_equal(audiolm_hf.pipeline(name, device="cpu")(CLIP, **OPTIONS)["audio"], expected)
    audiolm_hf.pipeline(name, device="cpu").push_to_hub("somebody/again", revision="next")
    again = audiolm_hf.pipeline("somebody/again", revision="next", device="cpu")
    np.testing.assert_array_equal(again(CLIP, **OPTIONS)["audio"], expected)
    for files in (hub.repos[name].files(), hub.repos["somebody/again"].files("next")):
        assert {"config.json", "model.safetensors", "processor_config.json"} <= set(files)
        text = b"".join(content for path, content in files.items() if path.endswith((".json", ".md")))
        for path in ("/tmp", str(Path.cwd()), str(Path.home())):
            assert path.encode() not in text, path


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("somebody/missing", None, "somebody/missing is not a local folder and is not a valid model identifier"),
        (PRIVATE, None, r"pass a token|passing `token=<your_token>`"),
        (GATED, None, "gated repo"),
        (NAME, "nowhere", "nowhere is not a valid git identifier"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(hub, monkeypatch, capsys, name, revision, message):
    set_token(monkeypatch, None)
    loaders = (AudioLMModel.from_pretrained, AudioLMProcessor.from_pretrained, audiolm_hf.pipeline)
    for load in loaders:
        with pytest.raises(OSError, match=message):
            load(name, revision=revision)
    if revision is None:
        assert cli.main(["continue", "--checkpoint", name, "-o", "never.wav"]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("audiolm-hf: error: ") and name in error


@pytest.mark.slow
def test_another_process_uses_the_stand_in_by_its_environment(hub, expected, tmp_path):
    code = (
        "import sys\nsys.modules['audiolm_hf'] = None\nimport transformers\nimport numpy as np\n"
        f"pipe = transformers.pipeline('audio-continuation', model={NAME!r}, trust_remote_code=True, device='cpu')\n"
        "assert type(pipe.model).__module__.startswith('transformers_modules.'), type(pipe.model)\n"
        f"np.save('audio.npy', pipe({str(CLIP)!r}, **{OPTIONS!r})['audio'])"
    )
    run_python(code, home=tmp_path, **hub_environment(hub))
    np.testing.assert_allclose(np.load(tmp_path / "audio.npy"), expected, atol=1e-5)
