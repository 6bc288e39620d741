# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Sampling one stage: the cache, the batch and the noise change nothing that they should not."""

import copy

import pytest
import torch
from transformers import DynamicCache

from audiolm_hf.compat_audiolm import CACHE_NAME
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.sampling_audiolm import Progress, TokenSampler, row_noise, sample_tokens
from audiolm_hf.stage_cache_audiolm import build_cache
from audiolm_hf.token_layout_audiolm import level_range, token_levels
from tests.conftest import randomise, tiny_stage_config
from tests.reference import greedy_tokens

GREEDY = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
SAMPLED = {"do_sample": True, "temperature": 0.9, "top_k": 6, "top_p": 0.95}


def build(model_class, **changes):
    torch.manual_seed(0)
    return randomise(model_class(model_class.config_class(**tiny_stage_config(**changes))))


STAGES = {
    "semantic": (AudioLMSemanticModel, {}),
    "coarse": (AudioLMCoarseModel, {}),
    "coarse, side by side": (AudioLMCoarseModel, {"condition_stride": 4}),
    "fine": (AudioLMFineModel, {}),
    "fine, side by side": (AudioLMFineModel, {"condition_stride": 1.5}),
}


@pytest.fixture(scope="module", params=STAGES)
def stage(request):
    model_class, changes = STAGES[request.param]
    return build(model_class, **changes)


def context_of(config, length):
    """The beginning of a sequence whose next id is of the first predicted level."""
    ids = [config.bos_token_id, *(index % 8 for index in range(length))]
    return torch.tensor(ids if config.stage == "semantic" else [*ids, config.separator_token_id])


def noise_of(*seeds, count=9):
    return torch.stack([row_noise(seed, (0,), count) for seed in seeds])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_greedy_equals_the_slow_loop_and_plain_generate(stage, implementation):
    stage.set_attn_implementation(implementation)
    context = context_of(stage.config, 5)
    new = sample_tokens(stage, [context], noise_of(0), TokenSampler(**GREEDY))[0].tolist()
    slow = greedy_tokens(stage, context.tolist(), 9)
    assert new[: len(slow)] == slow
    assert set(new[len(slow) :]) <= {stage.config.eos_token_id}
    plain = stage.generate(context[None], max_new_tokens=9, do_sample=False)[0, len(context) :].tolist()
    assert plain == slow


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_batched_equals_single(stage, options):
    contexts = [context_of(stage.config, length) for length in (2, 7, 4)]
    noise = noise_of(1, 2, 3)
    batched = sample_tokens(stage, contexts, noise, TokenSampler(**options))
    for row, context in enumerate(contexts):
        single = sample_tokens(stage, [context], noise[row : row + 1], TokenSampler(**options))
        assert torch.equal(batched[row], single[0])


def test_cached_logits_equal_uncached(stage, monkeypatch):
    recorded = []

    def record(sampler, scores, noise):
        recorded.append(scores.clone())
        return scores.argmax(-1)

    monkeypatch.setattr(TokenSampler, "choose", record)
    contexts = [context_of(stage.config, length) for length in (3, 6)]
    new = sample_tokens(stage, contexts, noise_of(0, 1), TokenSampler(**GREEDY))
    levels = stage.config.predicted_levels
    for step, scores in enumerate(recorded):
        start, stop = level_range(stage.config, levels[step % len(levels)])
        for row, context in enumerate(contexts):
            ids = torch.cat([context, new[row, :step]])[None]
            expected = stage(ids).logits[0, -1, start:stop]
            finite = scores[row].isfinite()
            if (ids == stage.config.eos_token_id).any():
                continue  # frozen: what follows an end token is not used
            assert torch.allclose(scores[row][finite], expected[finite], atol=1e-4)


def test_the_growing_cache_serves_like_transformers_own(stage):
    ids = context_of(stage.config, 6)[None]
    caches = [build_cache(stage.config, 20), DynamicCache(config=stage.config.backbone_config)]
    for part in (ids[:, :4], ids[:, 4:]):
        states = [stage.model(input_ids=part, **{CACHE_NAME: cache}, use_cache=True)[0] for cache in caches]
        assert torch.allclose(*states, atol=1e-6)
    assert caches[0].get_seq_length() == ids.shape[1]


def test_every_code_of_every_level_is_reachable():
    for model in (build(AudioLMCoarseModel), build(AudioLMFineModel)):
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))  # all ids equally likely
        contexts = [context_of(model.config, 3)] * 64
        noise = torch.stack([row_noise(0, (row,), 6) for row in range(64)])
        new = sample_tokens(model, contexts, noise, TokenSampler(**{**SAMPLED, "top_k": 0, "top_p": 1.0}))
        expected = {
            token for level in model.config.predicted_levels for token in range(*level_range(model.config, level))
        }
        assert set(new.flatten().tolist()) == expected


def test_tokens_stay_in_their_levels(stage):
    new = sample_tokens(stage, [context_of(stage.config, 3)], noise_of(0), TokenSampler(**SAMPLED))
    levels = stage.config.predicted_levels
    assert token_levels(new[0], stage.config).tolist() == [levels[step % len(levels)] for step in range(9)]


def prefer(model, token):
    """Make one id overwhelmingly likely whatever the context is."""
    model.level_logits = lambda states, level: torch.nn.functional.one_hot(
        torch.full(states.shape[:-1], token), model.config.eos_token_id + 1
    ).float().mul(100)  # fmt: skip


def test_a_row_stops_at_the_end_token_and_not_before_it_may():
    model = build(AudioLMSemanticModel)
    prefer(model, model.config.eos_token_id)
    context = context_of(model.config, 3)
    sampler = TokenSampler(**SAMPLED)
    ends = sample_tokens(model, [context], noise_of(0), sampler)
    assert set(ends[0].tolist()) == {model.config.eos_token_id}
    later = sample_tokens(model, [context], noise_of(0), sampler, num_forbidden_ends=torch.tensor([4]))[0]
    assert (later[:4] != model.config.eos_token_id).all()
    assert (later[4:] == model.config.eos_token_id).all()


def test_ended_rows_are_frozen_and_others_go_on():
    model = build(AudioLMSemanticModel)
    contexts = [context_of(model.config, 3), context_of(model.config, 5)]
    free = torch.tensor([0, 9])
    prefer(model, model.config.eos_token_id)
    new = sample_tokens(model, contexts, noise_of(0, 1), TokenSampler(**SAMPLED), num_forbidden_ends=free)
    assert (new[0] == model.config.eos_token_id).all()
    assert (new[1] != model.config.eos_token_id).all()


def test_guidance_changes_the_choice():
    model = build(AudioLMCoarseModel)
    context = context_of(model.config, 5)
    unconditional = torch.tensor([model.config.bos_token_id, model.config.separator_token_id])
    seen = {}
    for scale in (0.0, 1.0, 4.0):
        sampler = TokenSampler(**GREEDY, guidance_scale=scale)
        new = sample_tokens(model, [context], noise_of(0), sampler, unconditional_contexts=[unconditional])
        seen[scale] = new[0].tolist()
    assert seen[1.0] == greedy_tokens(model, context.tolist(), 9)  # 1 is the conditional distribution
    assert seen[0.0] == greedy_tokens(model, unconditional.tolist(), 9)  # 0 is the other
    assert seen[4.0] not in (seen[1.0], seen[0.0])


def test_choices_follow_the_distribution():
    scores = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]])
    sampler = TokenSampler(**{**SAMPLED, "temperature": 1.0, "top_k": 0, "top_p": 1.0})
    noise = torch.linspace(0, 1, 10001)[:-1]
    chosen = sampler.choose(scores.expand(len(noise), -1), noise)
    frequencies = torch.bincount(chosen, minlength=4) / len(noise)
    assert torch.allclose(frequencies, scores[0].softmax(-1), atol=1e-3)
    assert frequencies[2] == 0


def test_noise_depends_on_seed_and_path_alone():
    assert torch.equal(row_noise(1, (2, 3), 5), row_noise(1, (2, 3), 5))
    others = [row_noise(1, (2, 4), 5), row_noise(2, (2, 3), 5), row_noise(1, (3, 2), 5)]
    assert not any(torch.equal(row_noise(1, (2, 3), 5), other) for other in others)
    state = torch.get_rng_state()
    row_noise(0, (), 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_never_passes_its_total():
    calls = []
    progress = Progress(lambda *call: calls.append(call), "fine", 5)
    progress.advance(3)
    progress.advance(3)
    assert calls == [("fine", 3, 5), ("fine", 5, 5)]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_an_error_that_names_the_stage(stage, broken):
    model = copy.deepcopy(stage)
    model.model.norm.weight.data[0] = broken
    for options in (GREEDY, SAMPLED):
        with pytest.raises(ValueError, match=f"The {stage.config.stage} stage's scores are NaN or infinite"):
            sample_tokens(model, [context_of(stage.config, 5)], noise_of(0), TokenSampler(**options))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_dtype_samples_in_float32_from_its_own_scores(stage, dtype, monkeypatch):
    model = copy.deepcopy(stage).to(dtype)
    seen = []
    choose = TokenSampler.choose
    monkeypatch.setattr(
        TokenSampler, "choose", lambda self, scores, noise: seen.append(scores) or choose(self, scores, noise)
    )
    context = context_of(stage.config, 5)
    sample_tokens(model, [context], noise_of(0), TokenSampler(**SAMPLED))
    assert {scores.dtype for scores in seen} == {torch.float32}
    start, stop = level_range(stage.config, stage.config.predicted_levels[0])
    expected = model(context[None]).logits[0, -1, start:stop].float()
    finite = seen[0][0].isfinite()
    tolerance = 5e-2 if dtype == torch.bfloat16 else 2e-2
    torch.testing.assert_close(seen[0][0][finite], expected[finite], atol=tolerance, rtol=tolerance)


def test_special_tokens_that_generate_is_told_otherwise_change_nothing(stage):
    contexts = [context_of(stage.config, length) for length in (2, 6)]
    expected = sample_tokens(stage, contexts, noise_of(0, 1), TokenSampler(**SAMPLED))
    model = copy.deepcopy(stage)
    model.config.bos_token_id = model.config.eos_token_id = model.config.pad_token_id = None
    assert torch.equal(sample_tokens(model, contexts, noise_of(0, 1), TokenSampler(**SAMPLED)), expected)
