# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Compiled backbones: the tokens of those that are not, compiled once for sequences of many lengths."""

import copy
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.packed_decoder_audiolm import FixedCache, fixed_length
from audiolm_hf.sampling_audiolm import TokenSampler, fill_frames, parallel_noise, sample_tokens
from tests.conftest import randomise, tiny_stage_config
from tests.helpers_parallel import masked_rows, parallel_audiolm, parallel_stage

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::UserWarning"
    ),  # of torch's compiler about itself
    pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="transformers' masks need torch 2.7"),
]
BACKEND = "inductor" if shutil.which("g++") else "aot_eager"
GREEDY = TokenSampler(do_sample=False, temperature=1.0, top_k=0, top_p=1.0)


@pytest.fixture(autouse=True)
def _compile_anew():
    torch.compiler.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch.compiler.reset()


def compile_backbone(stage, backend=BACKEND):
    counter = CompileCounterWithBackend(backend)
    stage.model.compile(backend=counter, fullgraph=True, dynamic=False)
    return counter


def build(model_class, **changes):
    fields = tiny_stage_config()
    fields["backbone_config"] |= changes
    torch.manual_seed(0)
    return randomise(model_class(model_class.config_class(**fields)))


def continuations(stage):
    """Most likely tokens of two rows, after prompts of several lengths."""
    ids = torch.randint(stage.config.num_semantic_tokens, (2, 30), generator=torch.Generator().manual_seed(0))
    cases = [(20, 20, 12), (5, 9, 40), (3, 3, 7), (30, 11, 34)]  # ids of each row, and tokens to come
    rows = [([ids[0, :first], ids[1, :second]], torch.rand(2, new)) for first, second, new in cases]
    return [sample_tokens(stage, *row, GREEDY) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [AudioLMSemanticModel, AudioLMCoarseModel, AudioLMFineModel])
def test_steps_are_compiled_once_for_all_lengths(model_class):
    stage = build(model_class)
    expected = continuations(stage)
    counter = compile_backbone(stage)
    assert all(torch.equal(*pair) for pair in zip(continuations(stage), expected, strict=True))
    assert counter.frame_count == 1


@pytest.mark.slow
@torch._dynamo.config.patch(error_on_recompile=False)  # its caches count in numbers that are compiled into the steps
def test_compiled_steps_with_sliding_attention():
    stage = build(AudioLMCoarseModel, model_type="mistral", sliding_window=16)
    expected = continuations(stage)
    stage.model.compile(backend="eager", fullgraph=True)
    assert all(torch.equal(*pair) for pair in zip(continuations(stage), expected, strict=True))


@pytest.mark.slow
def test_a_compiled_parallel_stage_has_one_shape():
    stage = parallel_stage()
    cases = [(12, 4), (40, 10), (25, 0), (64, 30)]

    def run():
        rows = [masked_rows(stage.config, *case) for case in cases]
        passes = GREEDY.passes(len(stage.config.predicted_levels))
        return [
            fill_frames(stage, [row], [known], [parallel_noise(0, [place], length - known, passes)], GREEDY)[0]
            for place, (row, (length, known)) in enumerate(zip(rows, cases, strict=True))
        ]

    expected = run()
    counter = compile_backbone(stage)
    assert all(torch.equal(*pair) for pair in zip(run(), expected, strict=True))
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("stages", [("semantic", "coarse", "fine"), ("parallel",)])
def test_continuations_of_several_lengths_and_windows(stages):
    model = parallel_audiolm()
    prompt = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    options = {"acoustic_mode": "parallel" if "parallel" in stages else "hierarchical", "do_sample": False, "seed": 1}

    def run():
        spans = [{"continuation_length_s": each, "min_continuation_length_s": each} for each in (0.2, 0.5, 1.3)]
        return [model.generate(prompt, **span, **options).audio_codes for span in spans]

    expected = run()
    assert [codes.shape[-1] for codes in expected] == [60, 75, 115]
    with torch._dynamo.config.patch(error_on_recompile=False):  # one shape a power of two
        counters = [compile_backbone(getattr(model, name), "eager") for name in stages]
        assert all(torch.equal(*pair) for pair in zip(run(), expected, strict=True))
    assert all(1 <= counter.frame_count <= 3 for counter in counters)


def test_a_cache_is_used_again_by_the_next_sequence_that_fits(tiny_audiolm):
    decoder = copy.deepcopy(tiny_audiolm.coarse.model)
    first = FixedCache.take(decoder, 1, 64)
    assert FixedCache.take(decoder, 1, 64) is not first
    first.keep(decoder)
    assert FixedCache.take(decoder, 1, 128) is not first
    first.keep(decoder)
    assert FixedCache.take(decoder, 1, 64) is first


@pytest.mark.parametrize(("length", "expected"), [(1, 64), (64, 64), (65, 128), (1000, 1024)])
def test_lengths_are_powers_of_two(length, expected):
    assert fixed_length(length) == expected
