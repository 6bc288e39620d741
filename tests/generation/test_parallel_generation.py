# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Generation by the parallel stage: passes, windows, rows, and the choice between it and the coarse stage."""

import math
from itertools import pairwise

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig

from audiolm_hf import AudioLMGenerationConfig, AudioLMModel
from audiolm_hf import stage_generation_audiolm as generation
from audiolm_hf.sampling_audiolm import Progress, TokenSampler, fill_frames, masked_counts, parallel_noise
from audiolm_hf.stage_generation_audiolm import generate_parallel_codes
from audiolm_hf.token_layout_audiolm import codes_of_ids
from tests.conftest import tiny_config
from tests.helpers_parallel import masked_rows, parallel_audiolm, parallel_fields, parallel_stage
from tests.helpers_tokens import code_rows, collected
from tests.reference import anchored_windows, filled_rows
from tests.stages.test_stage_generation_audiolm import SEEDS

GREEDY = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
SAMPLED = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0}


@pytest.fixture(scope="module", params=[False, True], ids=["", "prefix"])
def stage(request):
    return parallel_stage(condition_dropout=0.1, prefix_attention=request.param)


def test_the_schedule_is_a_cosine_that_ends_at_zero():
    counts = masked_counts(1000, 16)
    assert counts[:3] == [1000, int(1000 * math.cos(math.pi / 32)), int(1000 * math.cos(math.pi / 16))]
    assert len(counts) == 17 and counts[-1] == 0
    assert all(before > after for before, after in pairwise(counts))
    assert masked_counts(3, 16) == [3, 2, 1] + [0] * 14  # at least one in each pass
    assert masked_counts(5, 1) == [5, 0]
    assert masked_counts(0, 4) == [0] * 5


@pytest.mark.parametrize("num_passes", [1, 4, 16, [3, 1, 2, 1, 5]])
@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_passes_equal_the_slow_loop(stage, num_passes, options):
    sampler = TokenSampler(**options, num_passes=num_passes, choice_temperature=2.0)
    passes = sampler.passes(5)
    for seed, (frames, known) in enumerate([(11, 4), (6, 0), (9, 8)]):
        rows = masked_rows(stage.config, frames, known, seed)
        noise = parallel_noise(seed, (1, 2), frames - known, passes)
        (found,) = fill_frames(stage, [rows], [known], [noise], sampler)
        expected = filled_rows(
            stage, rows, known, noise, passes, sampler.temperature, 2.0, do_sample=sampler.do_sample
        )
        assert found.tolist() == expected
        assert torch.equal(found[:known], rows[:known]) and torch.equal(found[:, 0], rows[:, 0])


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_batched_equals_single(stage, guidance_scale):
    sampler = TokenSampler(**SAMPLED, num_passes=[4, 1, 1, 3, 1], guidance_scale=guidance_scale)
    rows = [masked_rows(stage.config, frames, known, frames) for frames, known in ((11, 4), (6, 0), (9, 8))]
    known = [4, 0, 8]
    noise = [
        parallel_noise(5, (row,), len(ids) - count, sampler.passes(5))
        for row, (ids, count) in enumerate(zip(rows, known, strict=True))
    ]
    batched = fill_frames(stage, rows, known, noise, sampler)
    for row, filled in enumerate(batched):
        (single,) = fill_frames(stage, [rows[row]], [known[row]], [noise[row]], sampler)
        assert torch.equal(filled, single)


@pytest.mark.slow
def test_codes_are_drawn_from_the_distribution_of_the_model(stage):
    """Many rows that differ in their noise alone: the first code accepted follows the softmax."""
    rows = masked_rows(stage.config, 1, 0)
    sampler = TokenSampler(**SAMPLED, num_passes=2)
    noise = [parallel_noise(seed, (0,), 1, [2, 1, 1, 1, 1]) for seed in range(3000)]
    filled = fill_frames(stage, [rows] * 3000, [0] * 3000, noise, sampler)
    found = torch.bincount(torch.stack(filled)[:, 0, 1] - 20, minlength=8) / 3000
    with torch.no_grad():
        expected = (stage(rows[None]).logits[0, 0, 20:28] / 0.8).softmax(-1)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_guidance_moves_away_from_the_codes_without_a_condition(stage):
    rows = masked_rows(stage.config, 8, 2)
    without = rows.clone()
    without[:, 0] = stage.config.absent_token_id
    with torch.no_grad():
        both = stage(torch.stack([rows, without])).logits[:, 2:, 20:28].log_softmax(-1)
    guided = both[1] + 3.0 * (both[0] - both[1])
    noise = parallel_noise(0, (0,), 6, [1] * 5)
    (found,) = fill_frames(stage, [rows], [2], [noise], TokenSampler(**GREEDY, num_passes=1, guidance_scale=3.0))
    assert torch.equal(found[2:, 1] - 20, guided.argmax(-1))


def test_progress_counts_every_code(stage):
    seen = []
    progress = Progress(lambda *values: seen.append(values), "parallel", 5 * 7)
    rows = masked_rows(stage.config, 11, 4)
    sampler = TokenSampler(**SAMPLED, num_passes=3)
    fill_frames(stage, [rows], [4], [parallel_noise(0, (0,), 7, sampler.passes(5))], sampler, progress=progress)
    assert [done for _, done, _ in seen] == [1, 4, 7, 14, 21, 28, 35]


def test_broken_weights_are_one_clear_error(stage):
    broken = parallel_stage()
    broken.model.norm.weight.data.fill_(torch.nan)
    rows = masked_rows(stage.config, 4, 0)
    with pytest.raises(ValueError, match="The parallel stage's scores are NaN or infinite"):
        fill_frames(broken, [rows], [0], [parallel_noise(0, (0,), 4, [1] * 5)], TokenSampler(**SAMPLED, num_passes=1))


@pytest.fixture
def seen_windows(monkeypatch):
    seen = []
    original = generation.fill_frames

    def spy(model, rows, num_known, *args, **kwargs):
        seen.append([(len(row), known) for row, known in zip(rows, num_known, strict=True)])
        return original(model, rows, num_known, *args, **kwargs)

    monkeypatch.setattr(generation, "fill_frames", spy)
    return seen


@pytest.mark.parametrize(
    ("share", "windows"),
    [(0.5, [[(50, 5)], [(50, 26)], [(50, 26)], [(48, 26)]]), (0.25, [[(50, 5)], [(50, 12)], [(44, 12)]])],
)
def test_windows_overlap_by_a_share_and_begin_with_a_token(stage, seen_windows, share, windows):
    known = torch.randint(0, 8, (5, 5))
    rows = code_rows([60], [known], [120], SEEDS[:1])
    sampler = TokenSampler(**SAMPLED, num_passes=2, context_share=share)
    (codes,) = collected(generate_parallel_codes(stage, rows, sampler), [known])
    assert codes.shape == (5, 120) and int(codes.max()) < 8
    assert seen_windows == windows
    assert sum(length - kept for ((length, kept),) in seen_windows) == 115


@pytest.mark.parametrize("first_window", [None, 10])
@pytest.mark.parametrize(("count", "total"), [(0, 120), (5, 130), (31, 100), (44, 48), (90, 200)])
def test_windows_keep_the_beginning_of_the_first(monkeypatch, count, total, first_window):
    stage, seen, original = parallel_stage(anchor_length_s=0.4), [], generation.fill_frames

    def spy(model, rows, *args, **kwargs):
        filled = original(model, rows, *args, **kwargs)
        seen.append(filled[0])
        return filled

    monkeypatch.setattr(generation, "fill_frames", spy)
    known = torch.randint(0, 8, (5, count))
    given = code_rows([total // 2], [known], [total], SEEDS[:1])
    sampler = TokenSampler(**SAMPLED, num_passes=2, context_share=0.25, first_window_s=(first_window or 5000) / 50)
    (codes,) = collected(generate_parallel_codes(stage, given, sampler), [known])
    tokens = (torch.arange(total // 2) % 20).repeat_interleave(2)
    for rows, (before, new) in zip(seen, anchored_windows(count, total, 50, 20, 0.25, first_window), strict=True):
        assert torch.equal(rows[:, 0], tokens[before + new])
        assert torch.equal(
            codes_of_ids(rows[None, :, 1:].flatten(1), range(5), stage.config)[0], codes[:, before + new]
        )


@pytest.mark.parametrize("first_window_s", [1000.0, 0.3])
@pytest.mark.parametrize("step", [None, 1, 7])
def test_rows_do_not_depend_on_each_other_or_when_tokens_arrive(stage, step, first_window_s):
    counts, lengths = [40, 25, 55], [80, 50, 110]
    known = [torch.randint(0, 8, (5, count)) for count in (6, 0, 60)]
    sampler = TokenSampler(**SAMPLED, num_passes=4, first_window_s=first_window_s)
    batched = collected(generate_parallel_codes(stage, code_rows(counts, known, lengths, SEEDS, step), sampler), known)
    for row in range(3):
        alone = code_rows(*([values[row]] for values in (counts, known, lengths, SEEDS)))
        (single,) = collected(generate_parallel_codes(stage, alone, sampler), [known[row]])
        assert torch.equal(batched[row], single)


OPTIONS = {"continuation_length_s": 0.6, "min_continuation_length_s": 0.6, "seed": 3}


@pytest.fixture(scope="module")
def both():
    """The stages of the paper, and a parallel one that predicts all levels."""
    return parallel_audiolm()


@pytest.fixture(scope="module")
def coarse_levels():
    """A parallel stage that predicts the coarse levels alone, and is followed by the fine stage."""
    return parallel_audiolm(parallel_config=parallel_fields(num_fine_codebooks=0))


@pytest.fixture(scope="module")
def alone():
    return parallel_audiolm(coarse_config=None, fine_config=None)


def prompt():
    return torch.sin(torch.arange(16000) / 7)[None] / 10


def test_the_mode_selects_the_stages(both, coarse_levels, alone):
    modes = [model.config.acoustic_modes for model in (both, coarse_levels, alone)]
    paper = ["semantic", "coarse", "fine"]
    assert modes == [
        {"hierarchical": paper, "parallel": ["semantic", "parallel"]},
        {"hierarchical": paper, "parallel": ["semantic", "parallel", "fine"]},
        {"parallel": ["semantic", "parallel"]},
    ]
    for model in (both, coarse_levels):
        ran = {}
        for mode in (None, "hierarchical", "parallel"):
            stages = []
            made = model.generate(
                prompt(), **OPTIONS, acoustic_mode=mode, progress=lambda stage, *_, seen=stages: seen.append(stage)
            )
            ran[mode] = (list(dict.fromkeys(stages)), made.audio_codes)
            assert made.audio_codes.shape == (1, 5, 50 + 30)
        assert ran["hierarchical"][0] == ran[None][0] == paper
        assert torch.equal(ran["hierarchical"][1], ran[None][1])
        assert ran["parallel"][0] == model.config.acoustic_modes["parallel"]
        assert not torch.equal(ran["parallel"][1], ran[None][1])
        assert torch.equal(ran["parallel"][1][..., :50], ran[None][1][..., :50])


def test_a_parallel_stage_beside_them_changes_nothing_in_hierarchical_mode(both):
    parts = {name: both.get_submodule(name) for name in ("semantic_tokenizer", "codec", "semantic", "coarse", "fine")}
    expected = AudioLMModel.from_parts(**parts).generate(prompt(), **OPTIONS)
    assert torch.equal(both.generate(prompt(), **OPTIONS).audio_values, expected.audio_values)


def test_the_checkpoint_says_which_mode_is_its_own(both, tmp_path):
    both.save_pretrained(tmp_path)
    loaded = AudioLMModel.from_pretrained(tmp_path)
    loaded.generation_config = loaded.generation_config.with_options(
        acoustic_mode="parallel", parallel_num_passes=[2] * 5
    )
    loaded.save_pretrained(tmp_path / "own")
    again = AudioLMModel.from_pretrained(tmp_path / "own")
    assert again.generation_config.parallel_num_passes == [2] * 5
    made = again.generate(prompt(), **OPTIONS)
    expected = both.generate(prompt(), **OPTIONS, acoustic_mode="parallel", parallel_num_passes=[2] * 5)
    assert torch.equal(made.audio_codes, expected.audio_codes)
    assert again.num_generated_codebooks() == 5


def test_batch_equals_single_in_parallel_mode(alone):
    prompts = torch.cat([prompt(), prompt().flip(1)])
    mask = torch.ones(2, 16000).long()
    mask[1, 9000:] = 0
    batched = alone.generate(prompts, mask, **OPTIONS, num_return_sequences=2)
    for row, length in enumerate((16000, 9000)):
        single = alone.generate(prompts[row : row + 1, :length], **OPTIONS, num_return_sequences=2)
        for place in range(2):
            frames = int(single.codes_attention_mask[place].sum())
            assert torch.equal(batched.audio_codes[2 * row + place, :, :frames], single.audio_codes[place, :, :frames])


def test_a_prompt_and_the_joint_loss_without_any_other_acoustic_stage(alone):
    made = alone.generate(prompt(), **OPTIONS)
    torch.testing.assert_close(made.audio_values[0, :16000], prompt()[0])
    losses = [alone(prompt()) for _ in range(2)]
    assert torch.equal(losses[0].parallel_loss, losses[1].parallel_loss)  # masks of evaluation are always the same
    assert losses[0].parallel_logits.shape == (1, 50, alone.parallel.config.vocab_size)
    alone.train()
    drawn = [alone(prompt()).parallel_loss for _ in range(2)]
    alone.eval()
    assert not torch.equal(*drawn)
    labels = torch.full((1, 5, 50), -100)
    labels[:, :, :46] = 0  # of the masked codes, those of the last frames are left out
    assert not torch.equal(alone(prompt(), labels=labels).parallel_loss, losses[0].parallel_loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parallel_num_passes": 0}, "parallel_num_passes is 0; give an integer from 1 to 1,000, or a list of these"),
        ({"parallel_num_passes": []}, r"parallel_num_passes is \[\]; give an integer"),
        ({"parallel_num_passes": [4, 1.5]}, r"parallel_num_passes is \[4, 1.5\]; give an integer"),
        ({"parallel_num_passes": [4, 1]}, "parallel_num_passes has 2 numbers, and the parallel stage 5 levels"),
        ({"parallel_first_window_s": 0}, "parallel_first_window_s is 0; give a number above 0"),
        ({"parallel_choice_temperature": -1}, "parallel_choice_temperature is -1; give a number from 0"),
        (
            {"parallel_guidance_scale": 2.0},
            "parallel_guidance_scale is 2.0, but the parallel stage was trained with all",
        ),
        ({"acoustic_mode": "fast"}, "acoustic_mode is 'fast'; give 'hierarchical' or 'parallel'"),
        (
            {"acoustic_mode": "hierarchical"},
            "acoustic_mode is 'hierarchical', but the model has the stages semantic, par",
        ),
        ({"coarse_temperature": 0.5}, "coarse_temperature is given, but the model has no coarse stage"),
    ],
)
def test_options_that_make_no_sense_are_one_clear_error(alone, options, message):
    with pytest.raises(ValueError, match=message):
        alone.generate(prompt(), **options)


def test_options_of_a_stage_that_the_mode_leaves_out_are_refused():
    both = parallel_audiolm()
    both.generation_config.acoustic_mode = "parallel"
    message = "coarse_top_k is given, but acoustic_mode is 'parallel', without the coarse stage; give acou"
    with pytest.raises(ValueError, match=message):
        both.generate(prompt(), coarse_top_k=3)
    message = "parallel_num_passes is given, but acoustic_mode is 'hierarchical', without the parallel stage; give"
    with pytest.raises(ValueError, match=message):
        both.check_generate_options(parallel_num_passes=3, acoustic_mode="hierarchical")
    both.check_generate_options(coarse_top_k=3, acoustic_mode="hierarchical")
    both.check_generate_options(temperature=0.5)
    with pytest.raises(ValueError, match="coarse_top_k is given, but acoustic_mode is 'parallel'"):
        both.generate(prompt(), generation_config=GenerationConfig(coarse_top_k=3))


def test_a_whole_configuration_is_in_place_of_the_own_one_in_its_mode_too():
    both = parallel_audiolm()
    both.generation_config.acoustic_mode = "parallel"
    own, options = both.check_generate_options(), {"seed": 0, "continuation_length_s": 0.2}
    assert both.check_generate_options(generation_config=own).acoustic_mode == "parallel"
    given = AudioLMGenerationConfig(coarse_top_k=1)  # of the default mode, which is the hierarchical one
    assert both.check_generate_options(generation_config=given).used_stages(both.config)[1:] == ["coarse", "fine"]
    chosen = both.generate(prompt(), acoustic_mode="hierarchical", coarse_top_k=1, **options).audio_codes
    assert both.generate(prompt(), generation_config=given, **options).audio_codes.equal(chosen)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_an_adapter_of_a_stage_that_the_mode_leaves_out_is_a_warning(caplog):
    peft, model = pytest.importorskip("peft"), parallel_audiolm()

    def generate_in(mode):
        caplog.clear()
        model.generate(prompt(), acoustic_mode=mode, continuation_length_s=0.1)
        return caplog.text

    model.add_adapter(peft.LoraConfig(target_modules=r"coarse\..*_proj"))
    assert not generate_in("hierarchical")
    message = (
        "The model has an adapter of the coarse stage, without effect here, where the stages semantic, parallel gen"
    )
    assert message in generate_in("parallel")
    model.disable_adapters()
    assert not generate_in("parallel")
    model.enable_adapters()
    model.add_adapter(peft.LoraConfig(target_modules=r"parallel\..*_proj"), "voice")
    assert not generate_in("parallel")
    assert "adapter of the parallel stage, without effect" in generate_in("hierarchical")  # the first is not set now
    model.set_adapter("default")
    assert not generate_in("hierarchical")
    assert message in generate_in("parallel")
    model.set_adapter(["default", "voice"])
    assert not generate_in("hierarchical") + generate_in("parallel")


def test_the_mode_needs_its_stage(tiny_audiolm):
    with pytest.raises(
        ValueError, match="acoustic_mode is 'parallel', but the model has the stages semantic, coarse, f"
    ):
        tiny_audiolm.generate(acoustic_mode="parallel")
    with pytest.raises(ValueError, match="parallel_num_passes is given, but the model has no parallel stage"):
        tiny_audiolm.generate(parallel_num_passes=3)


def test_stages_that_no_mode_uses_are_refused():
    with pytest.raises(StrictDataclassError, match="a parallel stage can take the place of others"):
        tiny_config(coarse_config=None, parallel_config=parallel_fields())  # a fine stage after all levels
    with pytest.raises(
        StrictDataclassError, match="num_fine_codebooks is 3, but the tokenizer, codec and other stages use 2"
    ):
        tiny_config(parallel_config=parallel_fields(num_fine_codebooks=2))
    assert list(AudioLMGenerationConfig().stages) == ["semantic", "coarse", "fine", "parallel"]
