# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Packed products, and passes of them: what transformers' forward computes, and never of older weights."""

import copy
import random
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from audiolm_hf import packed_encoder_audiolm as packed
from audiolm_hf import packed_products_audiolm as packed_products
from audiolm_hf import sampling_audiolm as sampling
from audiolm_hf.sampling_audiolm import TokenSampler, fill_frames, parallel_noise
from tests.helpers_parallel import ENCODER, masked_rows, parallel_stage
from tests.reference import frame_logits

SAMPLED = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def drawn_stage(draw):
    """Any encoder that is packed."""
    heads = draw.choice([1, 2, 4, 6])
    changes = {
        "hidden_size": heads * draw.choice([4, 8, 12]),
        "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([each for each in (1, 2, 3, 6) if heads % each == 0]),
        "num_hidden_layers": draw.choice([1, 3]),
        "head_dim": draw.choice([4, 8, 16]),
        "attention_bias": draw.random() < 0.5,
        "mlp_bias": draw.random() < 0.5,
        "hidden_act": draw.choice(["silu", "gelu"]),
        "rope_parameters": {"rope_type": "linear", "factor": draw.choice([1.0, 2.0]), "rope_theta": 100.0},
    }
    stage = parallel_stage(backbone_config=ENCODER | changes, tie_word_embeddings=draw.random() < 0.5)
    stage.set_attn_implementation(draw.choice(["eager", "sdpa"]))
    return stage


@torch.no_grad()
def both_states(stage, lengths, seed=0):
    """States of some frames of rows, packed and by `encode`."""
    rows = [masked_rows(stage.config, length, length // 2, seed + length) for length in lengths]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=stage.config.padding_token_id)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    wanted = real & (torch.rand(real.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)
    wanted[0] = False  # a row may be complete before the others
    encoder = packed.pack_encoder(stage.model, lengths)
    return encoder.states(stage.embed(ids)[real], wanted[real]), stage.encode(ids, real.long())[wanted]


@pytest.mark.parametrize("seed", range(12))
def test_states_are_those_of_transformers(seed):
    draw = random.Random(seed)
    stage = drawn_stage(draw)
    found, expected = both_states(stage, draw.choice([[1, 7], [5, 9, 9], [40, 33]]), seed)
    assert len(found) > 0
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_bfloat16_is_as_close_to_float32_as_that_of_transformers():
    half = parallel_stage(backbone_config=ENCODER | {"hidden_size": 128, "num_hidden_layers": 4}).bfloat16()
    if packed.pack_encoder(half.model, [4]) is None:
        pytest.skip("this processor has no bfloat16")
    _, exact = both_states(copy.deepcopy(half).float(), [30, 50])
    ours, theirs = (float((each - exact).square().mean().sqrt()) for each in both_states(half, [30, 50]))
    assert 0 < ours < 1.2 * theirs


def filled(stage, guidance_scale=1.0):
    sampler = TokenSampler(**SAMPLED, num_passes=3, guidance_scale=guidance_scale)
    rows, known = [masked_rows(stage.config, frames, known, frames) for frames, known in ((11, 4), (6, 0))], [4, 0]
    counts = [len(ids) - count for ids, count in zip(rows, known, strict=True)]
    noise = [parallel_noise(5, (row,), count, sampler.passes(5)) for row, count in enumerate(counts)]
    return torch.cat(fill_frames(stage, rows, known, noise, sampler))


@pytest.mark.parametrize("prefix_attention", [False, True])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_codes_are_those_of_transformers(monkeypatch, guidance_scale, prefix_attention):
    stage, calls = parallel_stage(condition_dropout=0.1, prefix_attention=prefix_attention), []
    monkeypatch.setattr(stage, "encode", lambda *inputs: calls.append(1) or type(stage).encode(stage, *inputs))
    found = filled(stage, guidance_scale)
    assert not calls
    monkeypatch.setattr(sampling, "pack_encoder", lambda *_: None)
    assert torch.equal(found, filled(stage, guidance_scale))
    assert calls


@torch.no_grad()
def test_the_frames_of_a_prefix_are_computed_once():
    """A pass reads what was computed of the prefix, and returns the states of the frames that follow."""
    stage = parallel_stage(prefix_attention=True, backbone_config=ENCODER | {"num_attention_heads": 4})
    lengths, known = [11, 6, 9], [4, 0, 9]  # of some rows nothing or everything is known
    rows = [masked_rows(stage.config, *counts) for counts in zip(lengths, known, strict=True)]
    encoder = packed.pack_encoder(stage.model, lengths)
    prefix = [row[:count] for row, count in zip(rows, known, strict=True)]
    encoder.read_prefix(stage.embed(torch.cat(prefix)[None])[0], known)
    new = torch.cat([row[count:] for row, count in zip(rows, known, strict=True)])
    for masks in (0, 1):  # the second pass has other codes
        new[:, 1 + masks] = torch.tensor(stage.config.mask_token_ids[masks])
        found = encoder.states(stage.embed(new[None])[0], torch.ones(len(new), dtype=torch.bool))
        parts = new.split([length - count for length, count in zip(lengths, known, strict=True)])
        for states, start, rest in zip(found.split([len(each) for each in parts]), prefix, parts, strict=True):
            if len(rest):
                expected = frame_logits(stage, torch.cat([start, rest]), len(start))[len(start) :]
                torch.testing.assert_close(stage.lm_head(states), expected, atol=1e-4, rtol=0)


def test_changed_weights_count_at_once():
    stage = parallel_stage()
    before = filled(stage)
    with torch.no_grad():
        stage.model.layers[0].mlp.down_proj.weight.mul_(-3)
    assert not torch.equal(filled(stage), before)


def hooked(stage):
    stage.model.layers[1].register_forward_hook(lambda module, inputs, outputs: None)


def replaced(stage):
    stage.model.layers[0].mlp.up_proj = nn.Sequential(stage.model.layers[0].mlp.up_proj)


def other_attention(stage):
    AttentionInterface.register("own", AttentionInterface._global_mapping["sdpa"])
    stage.set_attn_implementation("own")


@pytest.mark.parametrize("change", [hooked, replaced, other_attention, nn.Module.double, nn.Module.train])
def test_other_encoders_are_left_to_transformers(change):
    stage = parallel_stage()
    assert packed.pack_encoder(stage.model, [4]) is not None
    change(stage)
    assert packed.pack_encoder(stage.model, [4]) is None


@pytest.fixture
def products(monkeypatch):
    """The shapes of the inputs that oneDNN multiplies."""
    shapes, multiply = [], packed_products._onednn._linear_pointwise

    def record(inputs, *arguments):
        shapes.append(tuple(inputs.shape))
        return multiply(inputs, *arguments)

    monkeypatch.setattr(packed_products, "_onednn", SimpleNamespace(_linear_pointwise=record))
    return shapes


@pytest.mark.parametrize("bias", [False, True])
def test_fast_products_are_products(products, bias):
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias)
    inputs = torch.randn(3, 50, 24)
    with torch.no_grad():
        expected = layer(inputs)
        with packed_products.FastProducts():
            torch.testing.assert_close(layer(inputs), expected)
    assert products == [(3, 50, 24)]


def test_fast_products_are_of_float32_without_gradients_alone(products):
    layer, inputs = nn.Linear(24, 40), torch.randn(50, 24)
    with packed_products.FastProducts():
        layer(inputs).sum().backward()
        with torch.no_grad():
            layer(inputs[:2])
            nn.Linear(24, 40).double()(inputs.double())
            with torch.autocast("cpu", torch.bfloat16):
                layer(inputs)
    assert products == [] and layer.weight.grad is not None


def test_products_of_few_rows_are_fast_with_large_weights_alone(products, monkeypatch):
    monkeypatch.setattr(packed_products, "LARGE_WEIGHT", 24 * 40)
    with packed_products.FastProducts(), torch.no_grad():
        nn.Linear(24, 39)(torch.randn(3, 24))
        nn.Linear(24, 40)(torch.randn(1, 24))
    assert products == [(1, 24)]


def test_a_bias_may_have_gaps():
    torch.manual_seed(0)
    inputs, weight, bias = torch.randn(50, 24), torch.randn(40, 24), torch.randn(80)[::2]
    with torch.no_grad(), packed_products.FastProducts():
        torch.testing.assert_close(nn.functional.linear(inputs, weight, bias), inputs @ weight.T + bias)


def test_what_is_kept_of_a_context_is_its_keys_and_values_alone():
    stage = parallel_stage(backbone_config=ENCODER | {"num_attention_heads": 4})
    encoder = packed.PackedEncoder(stage.model, [5, 3], is_causal=True)
    with torch.no_grad():
        encoder.states(torch.randn(8, stage.config.backbone_config.hidden_size), torch.arange(8) % 5 == 4)
    kept = [each for pair in encoder.layer_caches for each in pair]
    assert kept and all(each.untyped_storage().nbytes() == each.nbytes for each in kept)


def test_attention_on_a_gpu_is_not_planned_for_every_length():
    """cuDNN's takes 4 ms to plan a length (H100), and every step has another one."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    model = SimpleNamespace(device=torch.device("cuda"), _compiled_call_impl=None)
    with packed_products.fast_products(model):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
