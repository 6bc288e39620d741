# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Each stage in windows."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_hf import candidates_audiolm as best_of_many
from audiolm_hf import sampling_audiolm as sampling
from audiolm_hf import stage_generation_audiolm as generation
from audiolm_hf.generation_config_audiolm import AudioLMGenerationConfig
from audiolm_hf.sampling_audiolm import TokenSampler
from audiolm_hf.stage_generation_audiolm import generate_coarse_codes, generate_fine_codes, generate_semantic_tokens
from audiolm_hf.token_feed_audiolm import Feed, Piece, TimedTokens
from audiolm_hf.token_layout_audiolm import code_ids, stage_context
from audiolm_hf.training.stages.onset_rates import with_onset_rates
from tests.helpers_tokens import INFO, code_rows, collected
from tests.reference import anchored_windows, most_similar

SEEDS = [(0, 0), (0, 1), (0, 2)]


def sampler_of(stage, **options):
    return TokenSampler(**AudioLMGenerationConfig(**options).stage_values(stage))


@pytest.fixture
def seen_contexts(monkeypatch):
    """Lengths of all contexts that are sampled from, and how many tokens follow them."""
    seen = []
    for name in ("sample_tokens", "sample_blocks"):
        original = getattr(generation, name)

        def spy(model, contexts, noise, sampler, original=original, **kwargs):
            seen.append(([len(context) for context in contexts], noise.shape[1]))
            return original(model, contexts, noise, sampler, **kwargs)

        monkeypatch.setattr(generation, name, spy)
    return seen


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 80), st.integers(0, 80), st.integers(2, 30), st.integers(1, 5), st.integers(1, 40))
def test_chunks_cover_the_new_frames_once(known, new, window, most, step):
    codes = torch.arange(known + new)[None]
    pieces = ([Piece(codes[:, at : at + step], at + step >= known + new)] for at in range(known, known + new, step))
    chunks, taken = generation._Chunks(Feed([codes[:, :known]], pieces), [known], window), []
    while group := chunks.take(most):
        assert len(group) <= most
        taken += [(chunk, chunks.is_last(chunk)) for chunk in group]
    assert [frame for chunk, _ in taken for frame in range(chunk.new, chunk.stop)] == list(range(known, known + new))
    assert all(chunk.stop - chunk.start == window for chunk, last in taken if not last)
    assert [last for _, last in taken] == [False] * (len(taken) - 1) + [True] * (new > 0)
    if taken:
        assert taken[0][0].start == known - min(known, window // 3)


def test_semantic_windows_keep_half_as_context(tiny_audiolm, seen_contexts):
    prompt = torch.arange(10) % 20
    pieces = generate_semantic_tokens(
        tiny_audiolm.semantic,
        [prompt],
        130,
        SEEDS[:1],
        sampler_of("semantic"),
        token_rate=25.0,
        min_tokens=130,
    )
    assert len(collected(pieces, [prompt])[0]) == 10 + 130
    # A window holds 50 tokens: 10 known and 40 new, then 25 and 25, after bos; at last as many as are left.
    assert seen_contexts == [([11], 40), ([26], 25), ([26], 25), ([26], 25), ([26], 15)]


@pytest.mark.parametrize("num_candidates", [1, 3])
def test_semantic_rows_do_not_depend_on_each_other(tiny_audiolm, num_candidates):
    prompts = [torch.arange(length) % 20 for length in (10, 0, 33)]
    options = {"token_rate": 25.0, "min_tokens": 40}
    sampler = sampler_of("semantic", semantic_temperature=1.0, semantic_num_candidates=num_candidates)
    batched = collected(
        generate_semantic_tokens(tiny_audiolm.semantic, prompts, 90, SEEDS, sampler, **options), prompts
    )
    for prompt, seed, row in zip(prompts, SEEDS, batched, strict=True):
        pieces = generate_semantic_tokens(tiny_audiolm.semantic, [prompt], 90, [seed], sampler, **options)
        assert torch.equal(row, collected(pieces, [prompt])[0])


@pytest.mark.parametrize("onset_rate", [None, 0.0, 4.0])
@pytest.mark.parametrize("min_tokens", [0, 30])
@pytest.mark.parametrize("seed", range(4))
def test_the_candidate_most_like_the_prompt_is_kept(tiny_audiolm, seed, min_tokens, onset_rate):
    rates = torch.rand(40, generator=torch.Generator().manual_seed(seed)) * 8
    stage = with_onset_rates(tiny_audiolm.semantic, rates)
    prompt, options = torch.arange(10) % 7, {"token_rate": 25.0, "min_tokens": min_tokens}
    if onset_rate is not None:
        options["onset_rates"] = [onset_rate]

    def tokens(path, num_candidates):
        sampler = sampler_of("semantic", semantic_temperature=1.5, semantic_num_candidates=num_candidates)
        pieces = generate_semantic_tokens(stage, [prompt], 40, [(seed, *path)], sampler, **options)
        return collected(pieces, [prompt])[0][len(prompt) :].tolist()

    candidates = [tokens((0, number), 1) for number in range(5)]
    embeddings = stage.get_input_embeddings().weight.detach().numpy()[:20]
    assert len({tuple(each) for each in candidates}) == 5
    best = most_similar(prompt.tolist(), candidates, embeddings, onset_rate, rates.tolist(), 40)
    assert tokens((0,), 5) == candidates[best]


def test_a_candidate_without_tokens_is_not_kept(tiny_audiolm, monkeypatch):
    end, prompt = tiny_audiolm.semantic.config.end_token_id, torch.arange(10) % 7

    def kept(*candidates):
        monkeypatch.setattr(best_of_many, "sample_tokens", lambda *arguments, **options: torch.tensor(candidates))
        sampler = sampler_of("semantic", semantic_num_candidates=len(candidates))
        options = {"token_rate": 25.0}
        pieces = generate_semantic_tokens(tiny_audiolm.semantic, [prompt], 3, SEEDS[:1], sampler, **options)
        return collected(pieces, [prompt])[0][len(prompt) :].tolist()

    assert kept([end] * 3, [17, 18, end], [end] * 3) == [17, 18]
    assert kept([end] * 3, [end] * 3) == []


def test_a_candidate_that_ends_early_does_not_win_by_the_rate_of_few_tokens(tiny_audiolm, monkeypatch):
    end, prompt = tiny_audiolm.semantic.config.end_token_id, torch.arange(20) % 4
    stage = with_onset_rates(tiny_audiolm.semantic, torch.cat([torch.zeros(20), torch.full((20,), 4.0)]))
    options = {"token_rate": 25.0, "onset_rates": [0.0]}

    def kept(*candidates):
        monkeypatch.setattr(best_of_many, "sample_tokens", lambda *arguments, **options: torch.tensor(candidates))
        sampler = sampler_of("semantic", semantic_num_candidates=len(candidates))
        pieces = generate_semantic_tokens(stage, [prompt], 20, SEEDS[:1], sampler, **options)
        return collected(pieces, [prompt])[0][len(prompt) :].tolist()

    whole = prompt.tolist()
    for ended in ([19], [19, 19], [19, 18]):
        assert kept(ended + [end] * (20 - len(ended)), whole) == whole
    assert kept([0, 1] * 10, [0] * 10 + [1] * 10) == [0] * 10 + [1] * 10  # of whole ones, the slower one


@pytest.mark.parametrize(("length", "do_sample"), [(3, False), (0, True)])
def test_greedy_rows_and_rows_without_a_prompt_have_one_candidate(length, do_sample):
    sampler = sampler_of("semantic", semantic_do_sample=do_sample, semantic_num_candidates=5)
    (noise,) = generation._candidate_noise(sampler, torch.arange(length), 2**40, 0)
    assert torch.equal(noise.draw(3), sampling.RowNoise(2**40, [0]).draw(3))  # as without the option


def test_every_window_of_a_row_has_its_own_candidates(tiny_audiolm, monkeypatch):
    seen, original = [], generation.sample_best

    def spy(model, prompt, tokens, noise, length, *rest):
        seen.append((len(tokens), len(noise), length))
        return original(model, prompt, tokens, noise, length, *rest)

    monkeypatch.setattr(generation, "sample_best", spy)
    sampler = sampler_of("semantic", semantic_temperature=1.0, semantic_num_candidates=3)
    done = []
    pieces = generate_semantic_tokens(
        tiny_audiolm.semantic,
        [torch.arange(10) % 20, torch.arange(0)],
        90,
        SEEDS[:2],
        sampler,
        token_rate=25.0,
        min_tokens=90,
        callback=lambda stage, now, total: done.append((now, total)),
    )
    assert [[len(piece.values) for piece in each] for each in pieces] == [[40, 50], [25, 25], [25, 15]]
    # Known tokens, candidates (one for the row without a prompt), new tokens.
    assert seen == [(10, 3, 40), (0, 1, 50), (25, 3, 25), (25, 1, 25), (25, 3, 25), (25, 1, 15)]
    assert done == [(40, 180), (90, 180), (115, 180), (140, 180), (165, 180), (180, 180), (180, 180)]


def timed(known, new, duration=1.0, most=100):
    """Tokens of one row, the new ones one by one."""
    pieces = iter([[Piece(torch.tensor([token]), place == len(new))] for place, token in enumerate(new, start=1)])
    return TimedTokens(
        [torch.tensor(known)], pieces, grid=INFO.grid, duration=duration, num_frames=lambda row, num_new: most
    )


def test_timed_tokens_are_cut_by_time():
    tokens = timed([0, 1], [2, 3, 4, 5, 6])
    tokens.reach_frame(0, 9)
    assert tokens.count(0) == 5 and not tokens.ended[0]  # token 5 begins with frame 10
    tokens.forget_frames(0, 4)
    found, starts = tokens.between_frames(0, 4, 9)
    assert (found.tolist(), starts.tolist()) == ([2, 3, 4], [0, 2, 4])
    tokens.reach_frame(0, 1000)
    assert tokens.count(0) == 7 and tokens.ended[0]
    without_repeats = timed([1], [2, 3], duration=1.6)  # beginning with frames 0, 2 and 5.2
    without_repeats.reach_frame(0, 1000)
    assert without_repeats.between_frames(0, 2, 6)[0].tolist() == [2, 3]


def test_coarse_windows_are_aligned_with_semantic_tokens(tiny_audiolm, seen_contexts):
    known = torch.zeros(2, 5, dtype=torch.int64)
    pieces = generate_coarse_codes(
        tiny_audiolm.coarse, code_rows([60], [known], [120], SEEDS[:1]), sampler_of("coarse")
    )
    codes = collected(pieces, [known])
    assert codes[0].shape == (2, 120)
    # A window holds 50 frames and their 25 tokens, between bos and separator, then the 2 codes of each known frame.
    # Half a window, 25 frames, is context; its start is moved to where a token begins, so it holds 26.
    assert seen_contexts[0] == ([2 + 25 + 2 * 5], 2 * 45)
    assert seen_contexts[1] == ([2 + 25 + 2 * 26], 2 * 24)


@pytest.mark.parametrize("anchor", [0, 20])
@pytest.mark.parametrize(("count", "total"), [(0, 120), (5, 130), (6, 50), (31, 100), (90, 200)])
def test_windows_keep_the_beginning_of_the_first(tiny_audiolm, monkeypatch, anchor, count, total):
    coarse = copy.deepcopy(tiny_audiolm.coarse)
    coarse.config.anchor_length_s = anchor / 50
    known, seen, original = torch.randint(0, 8, (2, count)), [], generation.sample_blocks

    def spy(model, contexts, noise, *args, **kwargs):
        seen.append((contexts[0], noise.shape[1]))
        return original(model, contexts, noise, *args, **kwargs)

    monkeypatch.setattr(generation, "sample_blocks", spy)
    given = code_rows([total // 2], [known], [total], SEEDS[:1], 3)
    (codes,) = collected(generate_coarse_codes(coarse, given, sampler_of("coarse")), [known])
    tokens, expected = torch.arange(total // 2) % 20, []
    for before, new in anchored_windows(count, total, 50, anchor):
        frames = torch.tensor(before + new)
        semantic = tokens[frames[frames % 2 == 0] // 2]
        ids = code_ids(codes[:, before], [0, 1], coarse.config)
        expected.append((stage_context(semantic, ids, coarse.config), 2 * len(new)))
    assert [length for _, length in seen] == [length for _, length in expected]
    assert all(torch.equal(*pair) for pair in zip((c for c, _ in seen), (c for c, _ in expected), strict=True))


@pytest.mark.parametrize(("step", "anchor_s"), [(None, 0.0), (1, 0.0), (7, 0.4), (1, 0.5)])
def test_coarse_rows_do_not_depend_on_each_other_or_when_tokens_arrive(tiny_audiolm, step, anchor_s):
    coarse = copy.deepcopy(tiny_audiolm.coarse)
    coarse.config.anchor_length_s = anchor_s
    counts, lengths = [40, 25, 55], [80, 50, 110]
    known = [torch.randint(0, 8, (2, count)) for count in (6, 0, 60)]
    sampler = sampler_of("coarse")
    rows = code_rows(counts, known, lengths, SEEDS, step)
    batched = collected(generate_coarse_codes(coarse, rows, sampler), known)
    for row in range(3):
        alone = code_rows(*([values[row]] for values in (counts, known, lengths, SEEDS)))
        single = collected(generate_coarse_codes(coarse, alone, sampler), [known[row]])
        assert batched[row].shape == (2, lengths[row]) and torch.equal(batched[row], single[0])


def test_guidance_runs_the_coarse_stage_twice(tiny_audiolm):
    known = [torch.zeros(2, 0, dtype=torch.int64)]
    plain, guided = (
        collected(
            generate_coarse_codes(
                tiny_audiolm.coarse,
                code_rows([10], known, [20], SEEDS[:1]),
                sampler_of("coarse", coarse_guidance_scale=scale),
            ),
            known,
        )
        for scale in (1.0, 5.0)
    )
    assert not torch.equal(plain[0], guided[0])


def test_fine_chunks_are_more_and_more_together_and_independent_of_that(tiny_audiolm, seen_contexts):
    coarse = [torch.randint(0, 8, (2, frames)) for frames in (90, 40)]
    known = [torch.cat([coarse[0][:, :12], torch.randint(0, 8, (3, 12))]), torch.zeros(5, 0, dtype=torch.int64)]

    def fine(size):
        rows = code_rows([45, 20], known, [90, 40], SEEDS[:2])
        rows.codes = iter([[Piece(codes[:, row.shape[1] :], True) for codes, row in zip(coarse, known, strict=True)]])
        pieces = generate_fine_codes(tiny_audiolm.fine, rows, sampler_of("fine", fine_batch_size=size))
        return collected(pieces, known)

    whole, by_one = fine(32), fine(1)
    # 8 + 78 frames in four chunks of at most 25, and 40 in two: the first of each, then two, then the last one.
    assert [len(lengths) for lengths, _ in seen_contexts] == [2, 3, 1] + [1] * 6
    for row in range(2):
        assert torch.equal(whole[row], by_one[row])
        assert torch.equal(whole[row][:2], coarse[row])


def test_progress_ends_at_its_total(tiny_audiolm):
    calls = []
    pieces = generate_semantic_tokens(
        tiny_audiolm.semantic,
        [torch.arange(3)],
        12,
        SEEDS[:1],
        sampler_of("semantic"),
        token_rate=25.0,
        callback=lambda *call: calls.append(call),
    )
    assert [*pieces][-1][0].last
    assert calls[-1] == ("semantic", 12, 12)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
