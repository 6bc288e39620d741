# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Each stage in windows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf import stage_generation_audiolm as generation
from audiolm_hf.generation_config_audiolm import AudioLMGenerationConfig
from audiolm_hf.sampling_audiolm import TokenSampler
from audiolm_hf.stage_generation_audiolm import (
    CodeRows,
    TimedTokens,
    generate_coarse_codes,
    generate_fine_codes,
    generate_semantic_tokens,
)
from tests.helpers_tokens import INFO

SEEDS = [(0, 0), (0, 1), (0, 2)]


def sampler_of(stage, **options):
    return TokenSampler(**AudioLMGenerationConfig(**options).stage_values(stage))


@pytest.fixture
def seen_contexts(monkeypatch):
    """Lengths of all contexts that are sampled from, and how many tokens follow them."""
    seen = []
    original = generation.sample_tokens

    def spy(model, contexts, noise, sampler, **kwargs):
        seen.append(([len(context) for context in contexts], noise.shape[1]))
        return original(model, contexts, noise, sampler, **kwargs)

    monkeypatch.setattr(generation, "sample_tokens", spy)
    return seen


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 80), st.integers(0, 80), st.integers(2, 30))
def test_chunks_cover_the_new_frames_once(known, new, window):
    chunks = generation._chunks(known, known + new, window)
    covered = [frame for _, first, stop in chunks for frame in range(first, stop)]
    assert covered == list(range(known, known + new))
    assert all(stop - start <= window for start, _, stop in chunks)
    if chunks:
        assert chunks[0][0] == known - min(known, window // 3)


def test_semantic_windows_keep_half_as_context(tiny_audiolm, seen_contexts):
    new = generate_semantic_tokens(
        tiny_audiolm.semantic,
        [torch.arange(10) % 20],
        130,
        SEEDS[:1],
        sampler_of("semantic"),
        token_rate=25.0,
        min_tokens=130,
    )
    assert len(new[0]) == 130
    # A window holds 50 tokens: 10 known and 40 new, then 25 and 25, after bos; at last as many as are left.
    assert seen_contexts == [([11], 40), ([26], 25), ([26], 25), ([26], 25), ([26], 15)]


def test_semantic_rows_do_not_depend_on_each_other(tiny_audiolm):
    prompts = [torch.arange(length) % 20 for length in (10, 0, 33)]
    options = {"token_rate": 25.0, "min_tokens": 40}
    sampler = sampler_of("semantic", semantic_temperature=1.0)
    batched = generate_semantic_tokens(tiny_audiolm.semantic, prompts, 90, SEEDS, sampler, **options)
    for prompt, seed, row in zip(prompts, SEEDS, batched, strict=True):
        single = generate_semantic_tokens(tiny_audiolm.semantic, [prompt], 90, [seed], sampler, **options)
        assert torch.equal(row, single[0])


def timed(count):
    return TimedTokens(torch.arange(count) % 20, torch.arange(count, dtype=torch.float64) * 2)


def test_timed_tokens_are_cut_by_time():
    cut = timed(10).between(4, 9)
    assert (cut.tokens.tolist(), cut.starts.tolist()) == ([2, 3, 4], [0, 2, 4])
    without_repeats = TimedTokens(torch.tensor([1, 2, 3]), torch.tensor([0.0, 3.2, 6.4], dtype=torch.float64))
    assert without_repeats.between(3, 7).tokens.tolist() == [2, 3]


def test_coarse_windows_are_aligned_with_semantic_tokens(tiny_audiolm, seen_contexts):
    known = torch.zeros(2, 5, dtype=torch.int64)
    rows = CodeRows([timed(60)], [known], [120], SEEDS[:1], INFO.grid)
    codes = generate_coarse_codes(tiny_audiolm.coarse, rows, sampler_of("coarse"))
    assert codes[0].shape == (2, 120)
    assert torch.equal(codes[0][:, :5], known)
    # A window holds 50 frames and their 25 tokens, between bos and separator, then the 2 codes of each known frame.
    # Half a window, 25 frames, is context; its start is moved to where a token begins, so it holds 26.
    assert seen_contexts[0] == ([2 + 25 + 2 * 5], 2 * 45)
    assert seen_contexts[1] == ([2 + 25 + 2 * 26], 2 * 24)


def test_coarse_rows_do_not_depend_on_each_other(tiny_audiolm):
    conditions, lengths = [timed(40), timed(25), timed(55)], [80, 50, 110]
    known = [torch.randint(0, 8, (2, count)) for count in (6, 0, 60)]
    sampler = sampler_of("coarse")
    rows = CodeRows(conditions, known, lengths, SEEDS, INFO.grid)
    batched = generate_coarse_codes(tiny_audiolm.coarse, rows, sampler)
    for row in range(3):
        arguments = [[values[row]] for values in (conditions, known, lengths, SEEDS)]
        single = generate_coarse_codes(tiny_audiolm.coarse, CodeRows(*arguments, INFO.grid), sampler)
        assert torch.equal(batched[row], single[0])


def test_guidance_runs_the_coarse_stage_twice(tiny_audiolm):
    rows = CodeRows([timed(10)], [torch.zeros(2, 0, dtype=torch.int64)], [20], SEEDS[:1], INFO.grid)
    plain, guided = (
        generate_coarse_codes(tiny_audiolm.coarse, rows, sampler_of("coarse", coarse_guidance_scale=scale))[0]
        for scale in (1.0, 5.0)
    )
    assert not torch.equal(plain, guided)


def test_fine_chunks_are_one_batch_and_independent_of_its_size(tiny_audiolm, seen_contexts):
    coarse = [torch.randint(0, 8, (2, frames)) for frames in (90, 40)]
    known = [torch.cat([coarse[0][:, :12], torch.randint(0, 8, (3, 12))]), torch.zeros(5, 0, dtype=torch.int64)]
    rows = CodeRows([], known, [90, 40], SEEDS[:2], INFO.grid, codes=coarse)
    whole, by_one = (
        generate_fine_codes(tiny_audiolm.fine, rows, sampler_of("fine", fine_batch_size=size)) for size in (32, 1)
    )
    assert len(seen_contexts[0][0]) == 6  # 8 + 78 frames in four chunks of at most 25, and 40 in two
    assert len(seen_contexts) == 1 + 6
    for row in range(2):
        assert torch.equal(whole[row], by_one[row])
        assert torch.equal(whole[row][:2], coarse[row])
        assert torch.equal(whole[row][:, : known[row].shape[1]], known[row])


def test_progress_ends_at_its_total(tiny_audiolm):
    calls = []
    generate_semantic_tokens(
        tiny_audiolm.semantic,
        [torch.arange(3)],
        12,
        SEEDS[:1],
        sampler_of("semantic"),
        token_rate=25.0,
        callback=lambda *call: calls.append(call),
    )
    assert calls[-1] == ("semantic", 12, 12)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
