# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import typing
from types import SimpleNamespace

import pytest
import torch

from audiolm_hf.cli import main
from audiolm_hf.run_folder import hold_folder
from audiolm_hf.training.kinds import RECIPE, TRAINING_KINDS, key_texts, training_kind
from audiolm_hf.training.processes import training_device
from audiolm_hf.training.recipe import RecipeConfig
from tests.conftest import some_slow


def classes_of(config_class):
    """A configuration's dataclass, and those of its fields."""
    yield config_class
    for hint in typing.get_type_hints(config_class).values():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                yield from classes_of(inner)


@pytest.mark.parametrize("kind", TRAINING_KINDS)
def test_every_key_has_its_text_and_no_text_is_of_nothing(kind):
    for config_class in classes_of(RecipeConfig if kind == RECIPE else training_kind(kind)[0]):
        names = {field.name for field in dataclasses.fields(config_class)}
        assert key_texts(config_class).keys() == names
        assert all(key_texts(config_class).values())


@pytest.mark.parametrize("kind", some_slow(TRAINING_KINDS, "coarse", "codec"))
def test_a_folder_in_which_another_process_trains_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("audiolm_hf.training.run.describe_config", lambda config: ({}, {}))
    monkeypatch.setattr("audiolm_hf.training.recipe.resolve_steps", lambda config: [])
    monkeypatch.setattr("audiolm_hf.training.render.check_synthesizer", lambda soundfont: None)
    config = SimpleNamespace(output_folder=str(tmp_path), use_cpu=True, soundfont="")
    with hold_folder(tmp_path, kind, {}, {}), pytest.raises(BlockingIOError, match="Another process is at work in"):
        training_kind(kind)[1](config)


def test_what_computes_uses_an_accelerator_unless_use_cpu_is_set(monkeypatch):
    for kind in sorted({*TRAINING_KINDS} - {"assemble", "render", RECIPE}):
        (field,) = [each for each in dataclasses.fields(training_kind(kind)[0]) if each.name == "use_cpu"]
        assert field.default is False, kind
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert [training_device(use_cpu).type for use_cpu in (False, True)] == ["cuda", "cpu"]


def shown(options, capsys):
    """What the command shows, with single spaces."""
    with pytest.raises(SystemExit) as exit_info:
        main(["train", *options])
    assert exit_info.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_of_a_kind_names_types_defaults_and_meanings(capsys):
    text = shown(["--kind", "codec", "--help"], capsys)
    assert text.startswith("kind: codec # Configuration of the codec training.")
    for line in (
        "output_folder (str, required): output folder; a run in this folder is resumed.",
        "warmup_steps (float, default 200.0): steps of linear warmup; a number below 1 is a share of all steps.",
        "data.train (list of str, required): parquet files, folders or lists of the training data, relative to",
        "num_codebooks (int, optional): number of leading levels to train and validate",
        "mel_weight (float, default 15.0): weight of the mel loss.",
        "report_to (list of 'tensorboard' or 'wandb' or 'trackio'): trackers that receive the metrics",
    ):
        assert line in text
    text = shown(["-h", "--kind", "semantic_encoder"], capsys)
    assert "iterations[].max_steps (int, required): number of training steps." in text


def test_help_without_a_kind_is_that_of_the_command(capsys):
    assert shown(["--help"], capsys).startswith("usage: audiolm-hf train")
    with pytest.raises(SystemExit):
        main(["train"])
    assert "required: --config" in capsys.readouterr().err
