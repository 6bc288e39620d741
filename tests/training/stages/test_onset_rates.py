# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Onset rates of tokens, fitted on rates that are known, and on what a tiny model generates."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from audiolm_hf import AudioLMModel, AudioLMSemanticConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMSemanticModel
from audiolm_hf.training.assemble import AssembleConfig, assemble
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.stages import onset_rates as module
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.onset_rates import OnsetRatesConfig, fit_onset_rates, fit_rates, with_onset_rates
from audiolm_hf.training.stages.training import build_stage_model
from tests import reference
from tests.helpers_checkpoint import DATA, tiny_model
from tests.helpers_sounds import RATE


def config_of(output, checkpoint, **changes):
    names = [path.name for path in sorted(DATA.glob("*.flac"))]
    values = {
        "num_prompts": 3,
        "num_continuations": 2,
        "prompt_length_s": 1.0,
        "continuation_length_s": 1.0,
        "data": AudioDataConfig(folder=str(DATA), train=names),
    }
    return OnsetRatesConfig(checkpoint=str(checkpoint), output_folder=str(output), **values | changes)


def test_the_expected_rate_equals_the_slow_one(tiny_audiolm):
    generator = torch.Generator().manual_seed(0)
    rates = torch.randn(2 * tiny_audiolm.semantic.config.num_semantic_tokens, generator=generator)
    stage = with_onset_rates(tiny_audiolm.semantic, rates)
    for length in range(2, 30):
        tokens = torch.randint(3, (length,), generator=generator)
        expected = reference.expected_onset_rate(tokens.tolist(), rates.tolist())
        assert float(stage.expected_onset_rate(tokens)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("informative", [True, False])
def test_rates_that_depend_on_the_tokens_are_found(informative):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(20, 6, generator=generator)
    directions = torch.randn(6, 2, generator=generator)
    truth = torch.cat([embeddings @ directions[:, 0], embeddings @ directions[:, 1] + 5])
    tokens = torch.randint(20, (400, 40), generator=generator).repeat_interleave(2, dim=1)
    rates = np.array([reference.expected_onset_rate(each, truth.tolist()) for each in tokens.tolist()])
    if not informative:
        rates = rates[torch.randperm(400, generator=generator).numpy()]
    table, correlation = fit_rates(tokens, rates, embeddings, 8)
    assert table.shape == (40,)
    found = [reference.expected_onset_rate(each, table.tolist()) for each in tokens.tolist()]
    assert np.mean(found) == pytest.approx(rates.mean(), abs=0.05)
    assert (correlation > 0.9) if informative else (abs(correlation) < 0.2)


def test_the_stage_gets_rates_and_stays_the_same_otherwise(checkpoint, tmp_path, monkeypatch):
    folder = fit_onset_rates(config_of(tmp_path / "run", checkpoint))
    stage = AudioLMSemanticModel.from_pretrained(folder)
    before = AudioLMModel.from_pretrained(checkpoint).semantic.state_dict()
    after = stage.state_dict()
    rates = after.pop("onset_rates")
    assert rates.shape == (2 * stage.config.num_semantic_tokens,)
    assert rates.isfinite().all()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "run/report.json").read_text())["correlation"] is None  # three prompts
    # Interrupted before the last prompt, it resumes to the same rates, also if a file was damaged since.
    resumed = config_of(tmp_path / "resumed", checkpoint)
    original, made = module._continue, []

    def stop(model, source, config, number):
        if number == 2:
            raise KeyboardInterrupt
        return original(model, source, config, number)

    def count(model, source, config, number):
        made.append(number)
        return original(model, source, config, number)

    monkeypatch.setattr(module, "_continue", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_onset_rates(resumed)
    (tmp_path / "resumed/continuations/00001.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr(module, "_continue", count)
    again = load_file(fit_onset_rates(resumed) / "model.safetensors")
    assert torch.equal(again["onset_rates"], rates)
    assert made == [1, 2]


def test_a_checkpoint_with_rates_prefers_the_rate_of_its_prompt(checkpoint, tmp_path):
    model = AudioLMModel.from_pretrained(checkpoint)
    for name, part in (("tokenizer", model.semantic_tokenizer), ("codec", model.codec), ("coarse", model.coarse)):
        part.save_pretrained(tmp_path / name)
    num_tokens = model.semantic.config.num_semantic_tokens
    rates = torch.linspace(0, 9, num_tokens).repeat(2)
    with_onset_rates(model.semantic, rates).save_pretrained(tmp_path / "semantic")
    assemble(
        AssembleConfig(
            semantic_tokenizer=str(tmp_path / "tokenizer"),
            codec=str(tmp_path / "codec"),
            stages={name: str(tmp_path / name) for name in ("semantic", "coarse")},
            output_folder=str(tmp_path / "assembled"),
            float8_stages=True,
        )
    )
    assembled = AudioLMModel.from_pretrained(tmp_path / "assembled")
    torch.testing.assert_close(assembled.semantic.onset_rates, rates.half().float())
    beats, still = torch.zeros(RATE), torch.full((RATE,), 1e-3)
    beats[1600::1600] = 0.9

    def expected(prompt):
        output = assembled.generate(
            prompt[None], continuation_length_s=2.0, min_continuation_length_s=2.0, semantic_num_candidates=16,
            semantic_temperature=2.0, num_return_sequences=4, seed=0,
        )  # fmt: skip
        return torch.stack([assembled.semantic.expected_onset_rate(each[-50:]) for each in output.semantic_tokens])

    assert expected(beats).mean() > expected(still).mean() + 0.5


def test_rates_that_are_all_equal_have_no_correlation():
    tokens = torch.arange(12)[:, None] % 4 + torch.arange(6)[None]
    table, correlation = fit_rates(tokens, np.full(12, 2.0), torch.randn(12, 3), 2)
    torch.testing.assert_close(table, torch.full((24,), 2.0))
    assert correlation is None


def test_a_stage_that_is_trained_further_loses_its_rates(checkpoint, tmp_path):
    stage = AudioLMModel.from_pretrained(checkpoint).semantic
    with_onset_rates(stage, torch.ones(2 * stage.config.num_semantic_tokens)).save_pretrained(tmp_path / "stage")
    config = StageTrainingConfig(
        stage="semantic",
        initial_weights=str(tmp_path / "stage"),
        train_tokens=["t"],
        validation_tokens=["v"],
        output_folder=str(tmp_path / "run"),
        window_length_s=1.0,
        max_steps=1,
    )
    model = build_stage_model(config, stage.config)
    assert not hasattr(model, "onset_rates")
    assert all(torch.equal(weight, dict(stage.named_parameters())[name]) for name, weight in model.named_parameters())


def test_rates_on_no_device_are_refused(tiny_audiolm):
    stage = with_onset_rates(tiny_audiolm.semantic, torch.ones(2 * tiny_audiolm.semantic.config.num_semantic_tokens))
    with pytest.raises(ValueError, match="offload_buffers"):
        stage.to("meta").expected_onset_rate(torch.zeros(3, dtype=torch.long))


def test_rates_of_tokens_without_repeats_are_refused():
    with pytest.raises(StrictDataclassError, match="has_onset_rates and remove_repeats"):
        AudioLMSemanticConfig(has_onset_rates=True, remove_repeats=True)


def test_what_cannot_be_fitted_is_refused(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="No recording lasts 500 s; give a shorter prompt_length_s"):
        fit_onset_rates(config_of(tmp_path / "long", checkpoint, prompt_length_s=500.0))
    with pytest.raises(ValueError, match="continuation_length_s is 0.02"):
        config_of(tmp_path / "short", checkpoint, continuation_length_s=0.02)
    model = tiny_model()
    model.semantic.config.remove_repeats = True
    monkeypatch.setattr(AudioLMModel, "from_pretrained", lambda *_, **__: model)
    with pytest.raises(ValueError, match="remove_repeats"):
        fit_onset_rates(config_of(tmp_path / "repeats", checkpoint))
