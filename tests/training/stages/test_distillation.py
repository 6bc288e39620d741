# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A stage is trained to predict in one pass what guidance by its semantic tokens or its prompt predicts in two."""

import json

import numpy as np
import pytest
import torch

from audiolm_hf import AudioLMCoarseModel, AudioLMParallelModel
from audiolm_hf.data.crops import validation_batches
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.token_layout_audiolm import level_range, token_levels
from audiolm_hf.training.stages.distillation import GuidanceTeacher
from audiolm_hf.training.stages.training import train_stage
from tests.conftest import randomise, tiny_stage_config
from tests.helpers_parallel import parallel_stage
from tests.helpers_stages import BACKBONE, config_of
from tests.helpers_tokens import write_tokens
from tests.reference import guided_log_probabilities

TOKENS, FRAMES = 5, 10  # of a prompt of 0.2 s
SCALES = {"distill_guidance_scale": (2.0, 1.0), "distill_prompt_scale": (1.0, 2.0)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    return [write_tokens(folder / name, [60, 45, 12]) for name in ("train", "validation")]


def training(folders, output, stage, **changes):
    backbone = BACKBONE | {"model_type": "eurobert" if stage == "parallel" else "llama"}
    return config_of(folders, output, stage=stage, backbone=backbone, batch_tokens=256, **changes)


def save_teacher(stage, folder, **changes):
    backbone = BACKBONE | {"model_type": "eurobert" if stage == "parallel" else "llama"}
    fields = {"condition_dropout": 0.2, "backbone_config": backbone, **changes}
    if stage == "parallel":
        parallel_stage(**fields).save_pretrained(folder)
        return folder
    torch.manual_seed(0)
    config = AudioLMCoarseModel.config_class(**tiny_stage_config(**{"num_fine_codebooks": 3, **fields}))
    randomise(AudioLMCoarseModel(config)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("stage", ["coarse", "parallel"])
@pytest.mark.parametrize("key", SCALES)
def test_guidance_is_distilled_into_one_pass(folders, tmp_path, stage, key):
    folder = save_teacher(stage, tmp_path / "teacher")
    changes = {"initial_weights": str(folder), key: 2, "learning_rate": 1e-3}
    if stage == "coarse":
        changes["anchor_length_s"] = 0.2
    train_stage(training(folders, tmp_path / "student", stage, max_steps=60, eval_steps=30, **changes))
    model_class = AudioLMParallelModel if stage == "parallel" else AudioLMCoarseModel
    models = [model_class.from_pretrained(each).eval() for each in (folder, tmp_path / "student/final")]
    teacher = GuidanceTeacher(models[0], *SCALES[key], TOKENS, FRAMES)
    losses = {name: [] for name in ("least", "before", "after")}
    for batch in validation_batches(TokenDataset([str(folders[1])]), models[1].config, 2000):
        chosen = batch["labels"] != -100
        with torch.no_grad():
            logits = [model(batch["input_ids"], batch["attention_mask"]).logits for model in models]
            logits.insert(0, expected_logits(models[0], batch, *SCALES[key]))
        compared = dict(zip(losses, [teacher.losses(each, **batch) for each in logits], strict=True))
        assert compared["least"][1][chosen].all() and not compared["least"][0][~chosen].any()
        torch.testing.assert_close(compared["least"][0][chosen], torch.tensor(entropies(models[0], logits[0], batch)))
        for name, (values, _) in compared.items():
            losses[name] += values[chosen].tolist()
    least, before, after = (float(np.mean(values)) for values in losses.values())
    share = 0.05 if key == "distill_prompt_scale" else 0.2  # a random teacher hardly depends on its prompt as a whole
    assert least < after < before - share * (before - least)
    report = json.loads((tmp_path / "student/report.json").read_text())
    assert report["validation"]["all"]["bits"] == pytest.approx(after / np.log(2), rel=1e-3)


def predicted(model, labels):
    """For each label of a batch in order: its row, the position that predicts it, and its level."""
    parallel = model.config.layout.parallel
    for row, position, *column in (labels != -100).nonzero().tolist():
        level = int(token_levels(labels[row, position][column] if parallel else labels[row, position], model.config))
        yield row, position if parallel else position - 1, level


def expected_logits(model, batch, guidance_scale, prompt_scale):
    """Guided log-probabilities in place of logits, computed for each row by itself."""
    logits = torch.zeros(*batch["labels"].shape[:2], model.config.vocab_size)
    places = list(predicted(model, batch["labels"]))
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        ids = batch["input_ids"][row, :length]
        for _, position, level in (place for place in places if place[0] == row):
            start, stop = level_range(model.config, level)
            logits[row, position, start:stop] = guided_log_probabilities(
                model, ids, position, level, guidance_scale, prompt_scale, TOKENS, FRAMES
            )
    return logits


def entropies(model, logits, batch):
    """The entropy of every prediction, in nats."""
    return [
        float(
            torch.distributions.Categorical(
                logits=logits[row, position, slice(*level_range(model.config, level))]
            ).entropy()
        )
        for row, position, level in predicted(model, batch["labels"])
    ]


@pytest.mark.parametrize("key", SCALES)
def test_only_a_stage_of_codes_that_starts_from_its_teacher_is_distilled(folders, tmp_path, key):
    with pytest.raises(ValueError, match=f"{key} is for a coarse or parallel stage that starts from its teacher"):
        training(folders, tmp_path, "coarse", anchor_length_s=0.2, **{key: 2})
    with pytest.raises(ValueError, match=f"{key} is for a coarse or parallel stage"):
        training(folders, tmp_path, "semantic", initial_weights="teacher", **{key: 2})


def test_a_teacher_can_be_guided(folders, tmp_path):
    folder = save_teacher("parallel", tmp_path / "unguided", condition_dropout=0.0)
    changes = {"initial_weights": str(folder), "distill_guidance_scale": 2}
    with pytest.raises(ValueError, match="was trained with all of its conditions"):
        train_stage(training(folders, tmp_path / "output", "parallel", **changes))


@pytest.mark.parametrize("changes", [{}, {"anchor_length_s": 0.2, "remove_repeats": True}])
def test_a_prompt_has_a_known_length(folders, tmp_path, changes):
    with pytest.raises(ValueError, match="do not begin with a prompt of known length; set anchor_length_s"):
        training(folders, tmp_path, "coarse", initial_weights="teacher", distill_prompt_scale=2, **changes)


@torch.no_grad()
def test_a_stage_with_prefix_attention_learns_from_one_without(folders, tmp_path):
    folder = save_teacher("parallel", tmp_path / "teacher")
    changes = {"initial_weights": str(folder), "distill_guidance_scale": 1, "prefix_attention": True}
    with torch.enable_grad():
        train_stage(training(folders, tmp_path / "student", "parallel", **changes))
    teacher = GuidanceTeacher(AudioLMParallelModel.from_pretrained(folder))
    student = AudioLMParallelModel.from_pretrained(tmp_path / "student/final").eval()
    assert student.config.prefix_attention and not teacher.model.config.prefix_attention
    losses = []
    for batch in validation_batches(TokenDataset([str(folders[1])]), student.config, 2000):
        values, _ = teacher.losses(student(batch["input_ids"], batch["attention_mask"]).logits, **batch)
        losses += values[batch["labels"] != -100].tolist()
    report = json.loads((tmp_path / "student/report.json").read_text())
    assert report["validation"]["all"]["bits"] == pytest.approx(np.mean(losses) / np.log(2), rel=1e-4)


def test_only_the_parallel_stage_has_prefix_attention(folders, tmp_path):
    with pytest.raises(ValueError, match="prefix_attention is True for the coarse stage; only the parallel stage"):
        training(folders, tmp_path, "coarse", prefix_attention=True)
