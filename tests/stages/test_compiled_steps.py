# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Compiled backbones and captured steps: the same tokens, compiled or captured once for sequences of many lengths."""

import copy
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from audiolm_hf import sampling_audiolm, stage_steps_audiolm
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.sampling_audiolm import TokenSampler, fill_frames, parallel_noise, sample_blocks, sample_tokens
from audiolm_hf.stage_cache_audiolm import FixedCache, fixed_length
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
SAMPLED = TokenSampler(do_sample=True, temperature=0.9, top_k=6, top_p=0.95)
GUIDED = TokenSampler(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, guidance_scale=1.5)
CAUSAL = [AudioLMSemanticModel, AudioLMCoarseModel, AudioLMFineModel]


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
@pytest.mark.parametrize("model_class", CAUSAL)
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
@pytest.mark.parametrize("prefix_attention", [False, True])
def test_a_compiled_parallel_stage_has_one_shape(prefix_attention):
    stage = parallel_stage(prefix_attention=prefix_attention)
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


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """A device whose steps are captured; on a CPU, they run as they would be captured."""
    if request.param == "cpu":
        monkeypatch.setattr(stage_steps_audiolm, "can_capture", lambda *_: True)
        monkeypatch.setattr(sampling_audiolm, "can_step_rows", lambda *_: False)
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


def sequence_options(stage, sampler, first, second, new):
    """Arguments of `sample_blocks` for two rows with contexts of these lengths."""
    generator = torch.Generator().manual_seed(first)
    ids = torch.randint(stage.config.num_semantic_tokens, (2, 30), generator=generator).to(stage.device)
    options = {"contexts": [ids[0, :first], ids[1, :second]], "noise": torch.rand(2, new, generator=generator)}
    if sampler.guidance_scale != 1:
        options["unconditional_contexts"] = [ids[0, 2:first], ids[1, 1:second]]
    if isinstance(stage, AudioLMSemanticModel):
        options["num_forbidden_ends"] = torch.tensor([2, 10], device=stage.device)
    return {"model": stage, "sampler": sampler, **options}


def captured_tokens(stage, sampler=GREEDY):
    """Tokens of rows of several lengths whose steps fit the same graphs."""
    cases = [(20, 9, 40), (4, 4, 33), (11, 20, 38)]
    return [sample_tokens(**sequence_options(stage, sampler, *case)) for case in cases]


def eager_tokens(stage, sampler=GREEDY):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_steps_audiolm, "can_capture", lambda *_: False)
        return captured_tokens(stage, sampler)


def check_same_tokens(stage, sampler=GREEDY, expected=None):
    """Compare the tokens with those of eager steps, and return the graphs."""
    expected = eager_tokens(stage, sampler) if expected is None else expected
    assert all(torch.equal(*pair) for pair in zip(captured_tokens(stage, sampler), expected, strict=True))
    graphs = FixedCache._kept[stage.model].graphs
    turns = set(range(len(stage.config.predicted_levels)))
    assert graphs.warm == turns and set(graphs.graphs) == (turns if stage.device.type == "cuda" else set())
    return graphs


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("sampler", [GREEDY, SAMPLED, GUIDED], ids=["greedy", "sampled", "guided"])
@pytest.mark.parametrize("model_class", [AudioLMCoarseModel, AudioLMFineModel])
def test_captured_steps_choose_the_tokens_of_eager_steps(device, model_class, sampler, implementation):
    stage = build(model_class).to(device)
    stage.model.set_attn_implementation(implementation)
    check_same_tokens(stage, sampler)


def test_captured_steps_end_rows(device):
    stage = build(AudioLMSemanticModel).to(device)
    for sampler in (GREEDY, SAMPLED):
        check_same_tokens(stage, sampler)
    ends_often = TokenSampler(do_sample=True, temperature=20.0, top_k=0, top_p=1.0)
    check_same_tokens(stage, ends_often)
    for tokens in captured_tokens(stage, ends_often):
        ended = (tokens == stage.config.end_token_id).cumsum(1) > 0
        assert ended.any() and (tokens[ended] == stage.config.end_token_id).all()
        assert not ended[0, :2].any() and not ended[1, :10].any()


def test_graphs_are_captured_anew_for_other_weights_and_options_alone(device):
    stage = build(AudioLMCoarseModel).to(device)
    graphs = check_same_tokens(stage)
    assert check_same_tokens(stage) is graphs
    before = captured_tokens(stage)
    with torch.no_grad():
        stage.model.layers[0].mlp.up_proj.weight.mul_(-1)
    assert check_same_tokens(stage) is graphs
    assert not all(torch.equal(*pair) for pair in zip(captured_tokens(stage), before, strict=True))
    stage.model.layers[1].mlp.up_proj.weight.data = -stage.model.layers[1].mlp.up_proj.weight.data
    replaced = check_same_tokens(stage)
    assert replaced is not graphs
    assert check_same_tokens(stage, SAMPLED) is not replaced


def test_a_sequence_beside_and_after_an_interrupted_one(device):
    stage = build(AudioLMCoarseModel).to(device)
    expected = eager_tokens(stage)
    check_same_tokens(stage, expected=expected)
    blocks = sample_blocks(**sequence_options(stage, GREEDY, 20, 9, 40), block=7)
    beginning = [next(blocks), next(blocks)]
    graphs = check_same_tokens(stage, expected=expected)
    assert torch.equal(torch.cat([*beginning, *blocks], 1), expected[0])
    assert FixedCache._kept[stage.model].graphs is not graphs
    blocks = sample_blocks(**sequence_options(stage, GREEDY, 11, 20, 38), block=7)
    next(blocks)
    blocks.close()
    check_same_tokens(stage, expected=expected)


@pytest.mark.slow
@pytest.mark.parametrize("model_class", CAUSAL)
def test_captured_steps_are_compiled_once_for_each_shape(device, model_class, monkeypatch):
    stage = build(model_class).to(device)
    expected = eager_tokens(stage, SAMPLED)
    stage.model.compile(mode="reduce-overhead", fullgraph=True, dynamic=False)
    counter = CompileCounterWithBackend(BACKEND)
    compile_ = torch.compile
    # A backend of one's own takes no options.
    monkeypatch.setattr(torch, "compile", lambda *given, options, **kinds: compile_(*given, backend=counter, **kinds))
    graphs = check_same_tokens(stage, SAMPLED, expected)
    assert check_same_tokens(stage, SAMPLED, expected) is graphs
    for new in (100, 36, 101, 37):  # each in a cache of its own
        sample_tokens(**sequence_options(stage, SAMPLED, 20, 9, new))
    check_same_tokens(stage, SAMPLED, expected)
    assert counter.frame_count == 2


@pytest.mark.gpu
def test_steps_that_python_takes_part_in_are_not_captured():
    stage, calls = build(AudioLMCoarseModel).to("cuda"), []
    with torch.no_grad():
        assert stage_steps_audiolm.can_capture(stage, stage.device, 32)
        assert not stage_steps_audiolm.can_capture(stage, stage.device, 31)
    expected = eager_tokens(stage)
    handle = stage.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    assert all(torch.equal(*pair) for pair in zip(captured_tokens(stage), expected, strict=True))
    handle.remove()
    assert len(calls) == 40 + 33 + 38
    check_same_tokens(stage, expected=expected)


def test_steps_on_a_cpu_are_not_captured():
    stage = build(AudioLMCoarseModel)
    with torch.no_grad():
        assert not stage_steps_audiolm.can_capture(stage, stage.device, 1000)
