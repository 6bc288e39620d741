# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Short names become folders, folders and Hub names stay, anything else is one clear error."""

import numpy as np
import pytest
from transformers import pipeline

import audiolm_hf
from audiolm_hf import AudioLMConfig, AudioLMModel, AudioLMProcessor, bundled


@pytest.fixture
def one_checkpoint(monkeypatch, tmp_path):
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "unfinished").mkdir()
    monkeypatch.setattr(bundled, "_CHECKPOINTS", tmp_path / "checkpoints")
    return folder


def test_only_whole_checkpoints_are_listed(one_checkpoint):
    assert bundled.list_checkpoints() == ["tiny"]
    assert bundled.checkpoint("tiny") == str(one_checkpoint)


def test_names_folders_and_hub_names_are_told_apart(one_checkpoint, tmp_path):
    assert bundled.resolve_checkpoint("tiny") == str(one_checkpoint)
    assert bundled.resolve_checkpoint(tmp_path) == str(tmp_path)
    assert bundled.resolve_checkpoint("somebody/audiolm") == "somebody/audiolm"


@pytest.mark.parametrize("name", ["tinny", "unfinished", "/no/where", "./nowhere", "~/nowhere", "a/b/c", "no/", ""])
def test_what_is_neither_is_one_clear_error(one_checkpoint, name):
    with pytest.raises(ValueError, match=r"neither a folder nor one of the bundled \['tiny'\]"):
        bundled.resolve_checkpoint(name)


@pytest.mark.parametrize("loader", [AudioLMConfig, AudioLMModel, AudioLMProcessor])
def test_a_short_name_is_refused_before_it_is_looked_for_on_the_hub(loader, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"pass its folder, audiolm_hf\.checkpoint\('speech-tiny'\)"):
        loader.from_pretrained("speech-tiny")
    monkeypatch.chdir(tmp_path)
    AudioLMConfig.from_pretrained(audiolm_hf.checkpoint("speech-tiny")).save_pretrained("speech-tiny")
    assert AudioLMConfig.from_pretrained("speech-tiny").coarse_config is not None  # a folder of one's own


@pytest.mark.parametrize("name", audiolm_hf.list_checkpoints())
def test_every_bundled_checkpoint_continues_its_example_without_a_network(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    continue_audio = pipeline("audio-continuation", model=audiolm_hf.checkpoint(name))
    prompt = audiolm_hf.example_prompt(name)
    first, again, other = (
        continue_audio(prompt, continuation_length_s=1.0, min_continuation_length_s=1.0, seed=seed)["audio"]
        for seed in (0, 0, 1)
    )
    new = first[-16000:]
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(first) > 16000 and new.std() > 1e-3 and np.abs(new).max() <= 1
