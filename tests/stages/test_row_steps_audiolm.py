# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Steps row by row: what transformers' forward computes, whenever they are taken, and never of older weights."""

import copy
import functools
import logging
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from audiolm_hf import row_kernels_audiolm as row_kernels
from audiolm_hf import row_steps_audiolm as row_steps
from audiolm_hf import sampling_audiolm as sampling
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMSemanticModel
from audiolm_hf.sampling_audiolm import Progress, TokenSampler, row_noise, sample_blocks, sample_tokens
from tests.conftest import TINY_LAYOUT, randomise

PLAIN = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
GREEDY = TokenSampler(**PLAIN)
SAMPLED = TokenSampler(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
NUM_TOKENS = 12
ROPES = {
    "default": {},
    "linear": {"factor": 2.0},
    "yarn": {"factor": 2.0, "original_max_position_embeddings": 16},
    "llama3": {
        "factor": 2.0,
        "original_max_position_embeddings": 16,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}


class FirstIds(TokenSampler):
    """Chooses ids whatever the scores are, so that all decoders see the same."""

    def choose(self, scores, noise):
        super().choose(scores, noise)
        return torch.zeros(len(scores), dtype=torch.long)


def backbone(**changes):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {"model_type": "llama", **sizes, "num_key_value_heads": 2, "max_position_embeddings": 128, **changes}


def build(model_class=AudioLMCoarseModel, condition_stride=None, tie_word_embeddings=True, **changes):
    options = {} if model_class is AudioLMSemanticModel else {"condition_stride": condition_stride}
    config = model_class.config_class(
        backbone_config=backbone(**changes), tie_word_embeddings=tie_word_embeddings, **options, **TINY_LAYOUT
    )
    torch.manual_seed(0)
    return randomise(model_class(config))


def drawn_case(seed):
    """Any decoder that is stepped row by row, any batch, with or without padding and guidance."""
    draw = random.Random(seed)
    family = draw.choice(["llama", "llama", "mistral", "qwen2"])
    heads = draw.choice([1, 2, 4, 6])
    rope = draw.choice(list(ROPES))
    changes = {
        "model_type": family,
        "hidden_size": heads * draw.choice([4, 8, 12]),
        "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([each for each in (1, 2, 3, 6) if heads % each == 0]),
        "num_hidden_layers": draw.choice([1, 3]),
        "head_dim": draw.choice([4, 8, 16]),
        "rope_parameters": {"rope_type": rope, "rope_theta": draw.choice([100.0, 10000.0]), **ROPES[rope]},
        "hidden_act": draw.choice(["silu", "swish"]),
        "rms_norm_eps": draw.choice([1e-6, 1e-2]),
    }
    if family == "llama":
        changes |= {"attention_bias": draw.random() < 0.5, "mlp_bias": draw.random() < 0.5}
    if family == "mistral":
        changes["sliding_window"] = None
    if family == "qwen2":
        del changes["head_dim"]
    stride = draw.choice([None, 2.5])
    model = build(draw.choice([AudioLMCoarseModel, AudioLMSemanticModel]), stride, draw.random() < 0.5, **changes)
    model.set_attn_implementation(draw.choice(["eager", "sdpa"]))
    lengths = draw.choice([(5,), (4, 4), (3, 7, 5)])
    return model, [context_of(model.config, length) for length in lengths], draw.random() < 0.5


def context_of(config, length):
    ids = [config.begin_token_id, *(index % 8 for index in range(length))]
    return torch.tensor(ids if config.stage == "semantic" else [*ids, config.separator_token_id])


@pytest.fixture
def run(monkeypatch):
    """Samples, the scores that they were chosen from, and the number of compiled steps of each row."""

    def sample(model, contexts, sampler=GREEDY, *, by_transformers=False, **options):
        scores, steps = [], []
        choose, follow = TokenSampler.choose, row_steps.RowSteps.follow
        with monkeypatch.context() as patch:
            patch.setattr(TokenSampler, "choose", lambda s, each, n: scores.append(each) or choose(s, each, n))
            patch.setattr(TokenSampler, "row_temperature", None)  # scores are handed to `choose`
            patch.setattr(row_steps.RowSteps, "follow", lambda s, ids: steps.append(1) or follow(s, ids))
            if by_transformers:
                patch.setattr(sampling, "can_step_rows", lambda *_: False)
            noise = torch.stack([row_noise(0, (row,), NUM_TOKENS) for row in range(len(contexts))])
            tokens = sample_tokens(model, contexts, noise, sampler, **options)
        return tokens, torch.cat(scores, -1), len(steps)

    return sample


def check_equal(run, model, contexts, **options):
    tokens, scores, steps = run(model, contexts, **options)
    expected, expected_scores, none = run(model, contexts, by_transformers=True, **options)
    assert none == 0
    assert torch.equal(tokens, expected)
    torch.testing.assert_close(scores, expected_scores, atol=1e-4, rtol=0)
    return steps


@pytest.mark.parametrize("seed", range(24))
def test_tokens_and_scores_are_those_of_transformers(run, seed):
    model, contexts, guided = drawn_case(seed)
    options = {}
    if model.config.stage == "semantic":
        options["num_forbidden_ends"] = torch.full((len(contexts),), NUM_TOKENS)
    elif guided:
        options["unconditional_contexts"] = [context[-1:] for context in contexts]
    assert check_equal(run, model, contexts, **options) == NUM_TOKENS - 1
    assert check_equal(run, model, contexts, sampler=SAMPLED, **options) == NUM_TOKENS - 1


@pytest.mark.parametrize("lengths", [(6,), (3, 6)])
def test_bfloat16_is_as_close_to_float32_as_that_of_transformers(run, lengths):
    model = build(hidden_size=128, num_hidden_layers=4, attention_bias=True)
    half = copy.deepcopy(model).bfloat16()
    if not row_steps.can_step_rows(half.model, 1):
        pytest.skip("this processor has no bfloat16")
    exact = copy.deepcopy(half).float()
    contexts = [context_of(model.config, length) for length in lengths]
    scores = []
    for each, by_transformers in ((half, False), (half, True), (exact, True)):
        _, found, steps = run(each, contexts, FirstIds(**PLAIN), by_transformers=by_transformers)
        scores.append(found)
        assert (steps > 0) != by_transformers
    ours, theirs = (float((each - scores[2])[scores[2].isfinite()].square().mean().sqrt()) for each in scores[:2])
    assert 0 < ours < 1.2 * theirs


def hooked(model):
    model.model.layers[1].register_forward_hook(lambda module, inputs, outputs: None)


def replaced(model):
    layer = model.model.layers[0].mlp.up_proj
    layer.forward = layer.forward


def adapted(model):
    peft = pytest.importorskip("peft")
    model.add_adapter(peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))


def quantized(model):
    class Halved(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) / 2

    model.model.layers[0].mlp.up_proj.__class__ = Halved


def other_attention(model):
    def doubled(module, query, key, value, mask, **kwargs):
        attended, weights = AttentionInterface._global_mapping["sdpa"](module, query, key, value, mask, **kwargs)
        return attended * 2, weights

    AttentionInterface.register("doubled", doubled)
    model.set_attn_implementation("doubled")


def parametrized(model):
    class Halved(nn.Module):
        def forward(self, weight):
            return weight / 2

    nn.utils.parametrize.register_parametrization(model.model.norm, "weight", Halved())


LEFT_TO_TRANSFORMERS = {
    "hook": hooked,
    "replaced forward": replaced,
    "adapter": adapted,
    "other layers": quantized,
    "other attention": other_attention,
    "parametrization": parametrized,
    "float64": lambda model: model.double(),
    "one layer in bfloat16": lambda model: model.model.norm.bfloat16(),
    "training": lambda model: model.model.layers[0].train(),
    "other scales of the attention": lambda model: setattr(model.model.layers[1].self_attn, "scaling", 0.9),
    "fewer layers": lambda model: setattr(model.config.backbone_config, "num_hidden_layers", 1),
}


@pytest.mark.parametrize("change", LEFT_TO_TRANSFORMERS)
def test_whatever_changes_a_decoder_is_left_to_transformers(run, change):
    model = build()
    LEFT_TO_TRANSFORMERS[change](model)
    assert check_equal(run, model, [context_of(model.config, 5)]) == 0


OTHER_DECODERS = {
    "moving positions": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}},
    "sliding window": {"model_type": "mistral", "sliding_window": 6},
    "normalized heads": {"model_type": "qwen3", "head_dim": 8},
    "another family": {"model_type": "gemma", "head_dim": 8},
    "another activation": {"hidden_act": "gelu"},
}


@pytest.mark.parametrize("changes", OTHER_DECODERS)
def test_other_decoders_are_left_to_transformers(run, changes):
    model = build(**OTHER_DECODERS[changes])
    assert check_equal(run, model, [context_of(model.config, 5)]) == 0


def test_autocast_and_global_hooks_are_left_to_transformers(run):
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        assert check_equal(run, model, [context_of(model.config, 5)]) == 0
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, outputs: None)
    try:
        assert check_equal(run, model, [context_of(model.config, 5)]) == 0
    finally:
        handle.remove()


def step_of_optimizer(model):
    model(torch.tensor([[20, 1, 2, 23, 9]]), labels=torch.tensor([[-100, -100, -100, -100, 9]])).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def merged(model):
    peft = pytest.importorskip("peft")
    adapter = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapter.merge_and_unload()


CHANGES = {
    "optimizer": step_of_optimizer,
    "load_state_dict": lambda model: model.load_state_dict(
        {name: tensor * 1.5 for name, tensor in model.state_dict().items()}
    ),
    "in place": lambda model: model.model.layers[0].mlp.down_proj.weight.data.mul_(3),
    "merged adapter": merged,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_count_at_once(run, change):
    model = build()
    contexts = [context_of(model.config, 5)]
    _, before, _ = run(model, contexts)
    CHANGES[change](model)
    assert check_equal(run, model, contexts) > 0
    assert not torch.equal(run(model, contexts)[1], before)


def test_changed_heads_count_at_once(run):
    model = build(tie_word_embeddings=False)
    contexts = [context_of(model.config, 5)]
    _, before, _ = run(model, contexts)
    model.lm_head.weight.data.mul_(3)
    assert check_equal(run, model, contexts) > 0
    torch.testing.assert_close(run(model, contexts)[1], before * 3)


HEADS = {
    "hook": lambda model: model.lm_head.register_forward_hook(lambda module, inputs, outputs: outputs * 2),
    "replaced scores": lambda model: setattr(
        model, "level_logits", lambda states, level: 2 * type(model).level_logits(model, states, level)
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", HEADS)
def test_a_head_that_is_no_plain_weight_is_called(run, change, dtype):
    model = build(tie_word_embeddings=False).to(dtype)
    contexts = [context_of(model.config, 5)]
    before = run(model, contexts, FirstIds(**PLAIN))[1]
    HEADS[change](model)
    found = run(model, contexts, FirstIds(**PLAIN))[1]
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.2}
    torch.testing.assert_close(found, before * 2, **tolerance)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_head_of_another_dtype_is_an_error_for_any_number_of_rows(run, rows):
    model = build(tie_word_embeddings=False)
    model.lm_head.bfloat16()
    with pytest.raises(RuntimeError, match="dtype"):
        run(model, [context_of(model.config, 5)] * rows)


def one_row(**changes):
    model = build(**{"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 3, **changes})
    return model, [context_of(model.config, 5)]


def change_sizes(model):
    mlp = model.model.layers[1].mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = (
        nn.Linear(*sizes, bias=False) for sizes in ((32, 20), (32, 20), (20, 32))
    )
    model.eval()


DIFFERENT_LAYERS = {
    "epsilon of a layer": lambda model: setattr(model.model.layers[0].input_layernorm, "variance_epsilon", 1.0),
    "last epsilon": lambda model: setattr(model.model.norm, "variance_epsilon", 1.0),
    "sizes": change_sizes,
}


@pytest.mark.parametrize("change", DIFFERENT_LAYERS)
def test_layers_that_differ_are_left_to_transformers(run, change):
    model = build()
    DIFFERENT_LAYERS[change](model)
    assert check_equal(run, model, [context_of(model.config, 5)]) == 0


def test_steps_of_one_row_return_to_python_again_and_again(monkeypatch):
    """Otherwise a long chunk could not be interrupted, nor its progress shown."""
    model, contexts = one_row(max_position_embeddings=256)
    reports, calls, choose = [], [], row_steps.RowSteps.choose
    monkeypatch.setattr(row_steps.RowSteps, "choose", lambda *arguments: calls.append(1) or choose(*arguments))
    progress = Progress(lambda stage, done, total: reports.append(done), "coarse", 100)
    sample_tokens(model, contexts, row_noise(0, (0,), 100)[None], SAMPLED, progress=progress)
    assert len(calls) == 7
    assert reports == [1, *range(17, 98, 16), 100]


@pytest.mark.parametrize("part", ["lm_head", "model.layers.0.mlp.up_proj"])
def test_weights_changed_between_blocks_count_from_the_next_call_on(part):
    model, contexts = one_row(tie_word_embeddings=False)
    noise = row_noise(0, (0,), 20)[None]
    before = sample_tokens(model, contexts, noise, SAMPLED)
    blocks = sample_blocks(model, contexts, noise, SAMPLED, block=4)
    first = next(blocks)
    model.get_submodule(part).weight.data.mul_(-3)
    assert torch.equal(torch.cat([first, *blocks], 1), before)
    assert not torch.equal(sample_tokens(model, contexts, noise, SAMPLED), before)


def test_a_damaged_cache_of_numba_leaves_the_steps_to_transformers(run, monkeypatch, caplog):
    def fail(dtype):
        raise EOFError("Ran out of input")

    model, contexts = one_row()
    row_steps.load_row_steps.cache_clear()
    monkeypatch.setattr(row_steps, "_run_once", fail)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    try:
        with caplog.at_level("WARNING"):
            assert [run(model, contexts)[2] for _ in range(2)] == [0, 0]
    finally:
        row_steps.load_row_steps.cache_clear()
    (message,) = [each.message for each in caplog.records if "Numba" in each.message]
    assert "EOFError: Ran out of input" in message and "delete" in message and "__pycache__" in message


BROKEN = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            raise OSError("Could not find/load shared object file 'libllvmlite.so'")
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["missing library", "empty index", "cut code"])
def test_models_generate_with_a_broken_numba(fault, tmp_path):
    code = """
import torch, audiolm_hf
model = audiolm_hf.AudioLMModel.from_pretrained(audiolm_hf.checkpoint("speech-tiny"))
print(model.generate(torch.ones(1, 16000) / 10, continuation_length_s=0.2, seed=0).audio_codes.tolist())
"""
    call = functools.partial(
        subprocess.run,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = call([sys.executable, "-c", code]).stdout
    for file in tmp_path.rglob("*.nb[ic]"):
        if fault == "empty index" and file.suffix == ".nbi":
            file.write_bytes(b"")
        if fault == "cut code" and file.suffix == ".nbc":
            file.write_bytes(file.read_bytes()[:100])
    found = call([sys.executable, "-c", (BROKEN if fault == "missing library" else "") + code])
    assert found.stdout == expected
    assert ("Numba cannot load" in found.stderr) == (fault != "missing library")


def test_without_numba_transformers_takes_the_steps(run, monkeypatch):
    model, contexts = one_row()
    tokens, scores, steps = run(model, contexts)
    assert steps == NUM_TOKENS - 1
    monkeypatch.setattr(row_kernels, "IS_COMPILED", False)
    monkeypatch.setattr(row_steps, "load_row_steps", row_steps.load_row_steps.__wrapped__)  # as in a new process
    others, other_scores, steps = run(model, contexts)
    assert steps == 0
    assert torch.equal(tokens, others)
    torch.testing.assert_close(scores, other_scores, atol=1e-4, rtol=0)


def test_numba_is_loaded_by_steps_alone():
    """It takes a quarter of a second, which training and GPUs need not wait for."""
    code = "import sys; import audiolm_hf.pipeline_audiolm, audiolm_hf.modeling_audiolm; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_generation_compiles_nothing_after_a_model_is_loaded(dtype, tmp_path):
    """Compiling takes three seconds, and loading what is compiled half a second."""
    code = f"""
import torch, audiolm_hf
from audiolm_hf import row_kernels_audiolm as kernels
model = audiolm_hf.AudioLMModel.from_pretrained(audiolm_hf.checkpoint("speech-tiny"), dtype="{dtype}")
before = [len(each.signatures) for each in (kernels.advance, kernels.score, kernels.step)]
options = {{"continuation_length_s": 0.5, "seed": 0, "acoustic_mode": "hierarchical", "coarse_top_k": 9}}
model.generate(torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) / 10, **options)
print(before, [len(each.signatures) for each in (kernels.advance, kernels.score, kernels.step)])
"""
    run_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run_.stdout == "[1, 1, 1] [1, 1, 1]\n", run_.stderr


def test_large_decoders_are_left_to_transformers_for_many_rows_or_threads(monkeypatch):
    model, _ = one_row()
    num_bytes = sum(weight.nbytes for weight in model.model.layers.parameters())
    monkeypatch.setattr(row_steps, "MOST_BYTES", 2.5 * num_bytes)
    cases = [(3, 1, 1, False), (2, 1, 1, True), (2, 2, 1, True), (2, 3, 1, False), (3, 9, 1e6, True)]
    for threads, rows, cached_bytes, expected in cases:
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(row_steps, "CACHED_BYTES", cached_bytes)
        assert row_steps.can_step_rows(model.model, rows) == expected


@torch.inference_mode()
@pytest.mark.parametrize("threads", [1, 3])
def test_a_row_of_a_batch_is_the_row_alone(monkeypatch, threads):
    """Bit for bit, whatever the lengths of the contexts, whichever rows have ended, and on any number of threads."""
    model = build(AudioLMSemanticModel, num_hidden_layers=3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    contexts = [context_of(model.config, length) for length in (5, 2, 9, 5, 7)]
    noise = torch.stack([row_noise(0, (row,), 60) for row in range(5)])
    forbidden = torch.tensor([0, 3, 60, 0, 20])
    found = sample_tokens(model, contexts, noise, SAMPLED, num_forbidden_ends=forbidden)
    ends = (found == model.config.end_token_id).sum(1).tolist()
    assert ends[2] == 0 and len(set(ends)) > 3
    for row, context in enumerate(contexts):
        alone = sample_tokens(model, [context], noise[row : row + 1], SAMPLED, num_forbidden_ends=forbidden[row, None])
        assert torch.equal(found[row], torch.nn.functional.pad(alone[0], (0, 60 - alone.shape[1]), value=found[0, -1]))


def test_rows_are_stepped_by_a_thread_that_outlives_the_main_one():
    code = """
import threading, time, torch
torch.set_num_threads(2)
import audiolm_hf
model = audiolm_hf.AudioLMModel.from_pretrained(audiolm_hf.checkpoint("speech-tiny"))
def run():
    threading.main_thread().join()
    rows = torch.ones(2, 16000) / 10
    print(model.generate(rows, continuation_length_s=0.2, seed=0, semantic_top_k=9).audio_codes.shape)
threading.Thread(target=run).start()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.startswith("torch.Size([2, "), found.stderr


def test_blocks_that_are_changed_do_not_change_what_follows():
    model, contexts = one_row()
    noise = row_noise(0, (0,), 20)[None]
    expected = sample_tokens(model, contexts, noise, SAMPLED)
    found = [(block.clone(), block.fill_(0))[0] for block in sample_blocks(model, contexts, noise, SAMPLED, block=4)]
    assert torch.equal(torch.cat(found, 1), expected)


def test_a_context_that_rows_share_is_read_once(run, monkeypatch):
    model, lengths, read = build(), [], row_steps.PackedEncoder
    monkeypatch.setattr(
        row_steps, "PackedEncoder", lambda *args, **kwargs: lengths.append(args[1]) or read(*args, **kwargs)
    )
    first, other = context_of(model.config, 5), context_of(model.config, 3)
    assert check_equal(run, model, [first, other, first, first]) == NUM_TOKENS - 1
    assert lengths == [[len(first), len(other)]]


def test_weights_in_the_middle_of_a_pair_are_copied():
    values = torch.arange(9).bfloat16()
    array = row_steps.array_of(values[1:].view(2, 4), torch.uint32)
    assert array.flags.aligned
    assert torch.equal(torch.from_numpy(array).view(torch.bfloat16), values[1:].view(2, 4))


def test_steps_are_compiled_where_no_folder_can_be_written(monkeypatch):
    compile_ = row_kernels.njit

    def refuse(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(**options)

    monkeypatch.setattr(row_kernels, "njit", refuse)
    assert row_kernels._compiled(lambda value: value + 1)(2) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 2), (7, 34), (600, 40)])
def test_products_of_a_row_are_those_of_torch(dtype, shape):
    torch.manual_seed(0)
    weight, row = torch.randn(shape).to(dtype), torch.randn(shape[1])
    scores = row_kernels.score(row_steps.array_of(weight, torch.uint32), row.numpy())
    torch.testing.assert_close(torch.from_numpy(scores), weight.float() @ row, atol=1e-5, rtol=1e-5)


def test_exponentials_are_those_of_numpy():
    values = np.concatenate([np.linspace(-86, 88, 20001), [0.0, -np.inf, -200.0]]).astype(np.float32)
    found = np.array([row_kernels._exp(value) for value in values])
    np.testing.assert_allclose(found, np.exp(values.astype(np.float64)), rtol=3e-7, atol=2e-38)
    large = [row_kernels._exp(np.float32(value)) for value in (88.5, 90.0, 1000.0, np.inf)]
    assert min(large) > 1e38
    assert np.isnan(row_kernels._exp(np.float32(np.nan)))


def test_floats_are_rounded_to_the_nearest_bfloat16():
    torch.manual_seed(0)
    values = torch.cat([torch.randn(1000) * 10, torch.tensor([0.0, 1.00390625, 1.01171875, 3e38, torch.inf])])
    bits = [int(row_kernels._rounded(np.uint32(each))) for each in values.numpy().view(np.uint32)]
    assert bits == values.bfloat16().view(torch.uint16).tolist()


CHOICES = {
    "sampled": {"do_sample": True},
    "cold": {"do_sample": True, "temperature": 0.3},
    "hot": {"do_sample": True, "temperature": 3.0},
    "greedy": {},
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("model_class", [AudioLMCoarseModel, AudioLMSemanticModel])
def test_compiled_choices_are_those_of_the_sampler(run, model_class, choice):
    model = build(model_class)
    contexts, sampler = [context_of(model.config, 5)], TokenSampler(**{**PLAIN, **CHOICES[choice]})
    options = {"num_forbidden_ends": torch.tensor([3])} if model_class is AudioLMSemanticModel else {}
    for seed in range(8):
        noise = row_noise(seed, (0,), 40)[None]
        tokens = sample_tokens(model, contexts, noise, sampler, **options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TokenSampler, "row_temperature", None)
            assert torch.equal(sample_tokens(model, contexts, noise, sampler, **options), tokens)


SCORES = {
    "different": [0.0, 1.0, 2.0],
    "equal": [5.0, 5.0, 5.0],
    "far": [-50.0, 100.0, 99.0],
    "one forbidden": [0.0, -torch.inf, 0.0],
    "NaN": [1.0, torch.nan, 0.0],
    "infinite": [torch.inf] * 3,
}


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("noise", [0.0, 0.3, 0.7, 1 - 2**-24])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_a_choice_from_given_scores_is_that_of_the_sampler(scores, noise, temperature):
    sampler = TokenSampler(do_sample=temperature > 0, temperature=temperature or 1.0, top_k=0, top_p=1.0)
    weights = np.array([[each, 0.0] for each in scores], np.float32)
    arguments = np.array([1.0, 0.0], np.float32), (2, -1), np.float32(temperature), noise
    chosen, highest = row_kernels.choose(weights, *arguments)
    usable = torch.tensor(scores).isfinite() | (torch.tensor(scores) == -torch.inf)
    usable[2] = True  # it is forbidden
    assert math.isfinite(highest) == bool(usable.all())
    if usable.all():
        given = torch.tensor([[*scores[:2], -torch.inf]])
        assert chosen == int(sampler.choose(given, torch.tensor([noise], dtype=torch.float64)))
        assert highest == max(scores[:2])


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_gates_may_be_far_from_zero(run, scale):
    model, contexts = one_row()
    for layer in model.model.layers:
        layer.mlp.gate_proj.weight.data.mul_(scale)
        layer.mlp.down_proj.weight.data.div_(scale)
    assert check_equal(run, model, contexts) == NUM_TOKENS - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["model.layers.1.mlp.down_proj", "model.layers.0.self_attn.k_proj", "lm_head"])
def test_weights_that_cannot_be_used_are_an_error(dtype, value, where):
    model, contexts = one_row(tie_word_embeddings=False)
    model.to(dtype).get_submodule(where).weight.data[:, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        sample_tokens(model, contexts, row_noise(0, (0,), NUM_TOKENS)[None], SAMPLED)


def test_steps_without_onednn_are_the_same(run, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = build(attention_bias=True)
    assert check_equal(run, model, [context_of(model.config, length) for length in (3, 6)]) > 0
    half = build().bfloat16()
    assert run(half, [context_of(half.config, 5)])[2] == 0  # torch would convert all weights in every step


@pytest.mark.parametrize("lengths", [(70,), (37, 3)])
@pytest.mark.parametrize("num_key_value_heads", [2, 4])
def test_contexts_are_read_without_modules(run, monkeypatch, lengths, num_key_value_heads):
    reads, states = [], row_steps.PackedEncoder.states
    monkeypatch.setattr(row_steps.PackedEncoder, "states", lambda *arguments: reads.append(1) or states(*arguments))
    model = build(num_attention_heads=4, num_key_value_heads=num_key_value_heads, attention_bias=True)
    assert check_equal(run, model, [context_of(model.config, length) for length in lengths]) > 0
    assert reads == [1]
