# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Weights that are elsewhere until they are needed: the samples are those of a model in memory."""

import copy
import re

import pytest
import torch
from accelerate import cpu_offload, disk_offload

from audiolm_hf.compat_audiolm import check_spreading
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel
from audiolm_hf.sampling_audiolm import TokenSampler, sample_tokens
from audiolm_hf.token_layout_audiolm import build_stage_example
from audiolm_hf.training.processes import leave_processes, process_rank
from tests.conftest import some_slow
from tests.helpers_processes import train_on_two
from tests.helpers_rates import CODECS, whole_model

PARTS = ("semantic_tokenizer", "codec", "semantic", "coarse", "fine")
OPTIONS = {"seed": 1, "continuation_length_s": 0.2, "min_continuation_length_s": 0.2}
IN_MEMORY = dict.fromkeys(PARTS, "cpu")
MAPS = {
    **{f"{name} on disk": {part: "disk" if part == name else "cpu" for part in PARTS} for name in PARTS},
    "all on disk": {"": "disk"},
    "layers apart": {
        **dict.fromkeys(PARTS, "cpu"),
        "coarse": "disk",
        "fine.model.embed_tokens": "cpu",
        "fine.model.layers.0": "disk",
        "fine.model.layers.1": "cpu",
        "fine.model.norm": "disk",
        "fine.model.rotary_emb": "cpu",
        "fine.lm_head": "cpu",
    },
}
del MAPS["layers apart"]["fine"]


@pytest.fixture(scope="module")
def saved(tiny_audiolm, tmp_path_factory):
    """A checkpoint, a prompt, and what the model in memory makes of it."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_audiolm.save_pretrained(folder)
    prompt = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    return folder, prompt, AudioLMModel.from_pretrained(folder).generate(prompt, **OPTIONS)


def check_same_samples(saved, tmp_path, **options):
    folder, prompt, expected = saved
    model = AudioLMModel.from_pretrained(folder, offload_folder=tmp_path, **options)
    assert any(parameter.device.type == "meta" for parameter in model.parameters())
    assert model.device == torch.device("cpu")
    output = model.generate(prompt, **OPTIONS)
    assert torch.equal(output.semantic_tokens, expected.semantic_tokens)
    assert torch.equal(output.audio_codes, expected.audio_codes)
    torch.testing.assert_close(output.audio_values, expected.audio_values)
    check_stream(model, prompt, output)


def check_stream(model, prompt, output):
    """Streamed, and after a stream that was left, the samples are the same, and the weights stay where they are."""
    elsewhere = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    left = model.stream(prompt, **OPTIONS, chunk_s=0.05)
    assert len(next(left)) == 800
    left.close()
    chunks = torch.cat([*model.stream(prompt, **OPTIONS, chunk_s=0.05)])
    assert len(chunks) == 3200
    assert torch.equal(chunks, output.audio_values[0, prompt.shape[1] :])
    assert [name for name, tensor in model.state_dict().items() if tensor.is_meta] == elsewhere


@pytest.mark.parametrize("name", some_slow(MAPS, "all on disk", "layers apart"))
def test_a_part_on_disk_changes_nothing(saved, tmp_path, name):
    check_same_samples(saved, tmp_path, device_map=MAPS[name])


@pytest.mark.parametrize("memory", ["20KB", "150KB"])
def test_a_model_split_for_want_of_memory_is_the_same(saved, tmp_path, memory):
    check_same_samples(saved, tmp_path, device_map="auto", max_memory={"cpu": memory})


@pytest.mark.parametrize("part", ["semantic_tokenizer", "codec"])
def test_a_part_that_does_not_fit_is_placed_with_all_that_it_holds(saved, tmp_path, tiny_audiolm, part):
    """Accelerate leaves out buffers beside the children of what it splits."""
    size = sum(tensor.nbytes for tensor in getattr(tiny_audiolm, part).state_dict().values())
    check_same_samples(saved, tmp_path, device_map="auto", max_memory={"cpu": size - 1})


def offload_by_map(model, folder, **parts):
    model.save_pretrained(folder / "saved")
    device_map = parts or {"": "disk"}
    return AudioLMModel.from_pretrained(
        folder / "saved", device_map=device_map, offload_folder=folder / "offload", offload_buffers=True
    )


OFFLOADED = {
    "cpu_offload": lambda model, folder: cpu_offload(model, torch.device("cpu"), offload_buffers=True),
    "disk_offload": lambda model, folder: disk_offload(model, folder, torch.device("cpu"), offload_buffers=True),
    "weights alone": lambda model, folder: cpu_offload(model, torch.device("cpu")),
    "all on disk": offload_by_map,
    "codec on disk": lambda model, folder: offload_by_map(
        model, folder, **dict.fromkeys(PARTS, "cpu") | {"codec": "disk"}
    ),
    "tokenizer on disk": lambda model, folder: offload_by_map(
        model, folder, **dict.fromkeys(PARTS, "cpu") | {"semantic_tokenizer": "disk"}
    ),
}


@pytest.fixture(scope="module", params=some_slow(CODECS, "soundstream"))
def of_codec(request):
    """A codec's name, a model with it, a prompt, and what the model in memory makes of it."""
    model = whole_model(request.param)
    prompt = 0.1 * torch.randn(1, model.sampling_rate // 2, generator=torch.Generator().manual_seed(0))
    codes = model.acoustic_codec.encode(prompt)
    features, _ = model.semantic_tokenizer.extract_features(prompt, sampling_rate=model.sampling_rate)
    return request.param, model, prompt, codes, features, model.generate(prompt, **OPTIONS)


@pytest.mark.parametrize("way", OFFLOADED)
def test_buffers_elsewhere_change_nothing(tmp_path, of_codec, way):
    codec_name, model, prompt, codes, features, expected = of_codec
    away = OFFLOADED[way](copy.deepcopy(model), tmp_path)
    elsewhere = [name for name, tensor in away.state_dict().items() if tensor.is_meta]
    assert elsewhere
    output = away.generate(prompt, **OPTIONS)
    assert torch.equal(output.semantic_tokens, expected.semantic_tokens)
    assert torch.equal(output.audio_codes, expected.audio_codes)
    torch.testing.assert_close(output.audio_values, expected.audio_values)
    assert torch.equal(away.acoustic_codec.encode(prompt), codes)
    again, _ = away.semantic_tokenizer.extract_features(prompt, sampling_rate=model.sampling_rate)
    torch.testing.assert_close(again, features)
    if codec_name == "soundstream":
        assert torch.equal(away.codec.encode(prompt).audio_codes, codes)
        assert away.codec.decode(codes).audio_values.isfinite().all()
    assert [name for name, tensor in away.state_dict().items() if tensor.is_meta] == elsewhere


def test_a_stage_alone_on_disk_has_the_same_loss_tokens_and_generation(tiny_audiolm, tmp_path):
    coarse = tiny_audiolm.coarse
    coarse.save_pretrained(tmp_path / "stage")
    away = AudioLMCoarseModel.from_pretrained(tmp_path / "stage", device_map={"": "disk"}, offload_folder=tmp_path)
    codes = torch.randint(0, 8, (5, 3), generator=torch.Generator().manual_seed(0))
    example = build_stage_example(coarse.config, torch.arange(4), codes)
    batch = {name: tensor[None] for name, tensor in example.items()}
    torch.testing.assert_close(away(**batch).loss, coarse(**batch).loss)
    ids = batch["input_ids"]
    sampler = TokenSampler(do_sample=True, temperature=0.9, top_k=0, top_p=1.0)
    both = [sample_tokens(model, [ids[0]], torch.full((1, 6), 0.4), sampler) for model in (away, coarse)]
    assert torch.equal(*both)
    both = [model.generate(ids, max_new_tokens=4, do_sample=False) for model in (away, coarse)]
    assert torch.equal(*both)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own, in its compiler
def test_a_decoder_can_be_compiled(tiny_audiolm):
    model = copy.deepcopy(tiny_audiolm)
    prompt = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    options = {"seed": 1, "continuation_length_s": 0.2, "use_fine_stage": False}
    expected = model.generate(prompt, **options)
    model.coarse.model.compile(dynamic=True)
    model.semantic.compile(dynamic=True)
    assert torch.equal(model.generate(prompt, **options).audio_codes, expected.audio_codes)


def loss_and_gradients(model, example):
    """The loss of an example, and gradients of what no process has alone."""
    loss = model(**example).loss
    loss.backward()
    shared = {"loss": loss.detach(), "norm": model.model.norm.weight.grad}
    return {name: getattr(tensor, "full_tensor", lambda tensor=tensor: tensor)() for name, tensor in shared.items()}


def lose_in_parallel(folder, output, example):
    torch.set_num_threads(1)
    model = AudioLMCoarseModel.from_pretrained(folder, tp_plan="auto")
    assert model.model.layers[0].self_attn.q_proj.weight.to_local().shape[0] == model.config.hidden_size // 2
    torch.save(loss_and_gradients(model, example), output / f"{process_rank()}.pt")
    leave_processes()


def spreads():
    try:
        check_spreading()
    except ImportError:
        return False
    return True


@pytest.mark.skipif(not spreads(), reason="torch's distribute_tensor has no argument src_data_rank, which is used")
@pytest.mark.slow
def test_a_stage_spread_over_two_processes_has_the_loss_of_one(tiny_audiolm, tmp_path):
    tiny_audiolm.coarse.save_pretrained(tmp_path)
    config = tiny_audiolm.config.coarse_config
    example = build_stage_example(
        config, torch.arange(8) % config.num_semantic_tokens, torch.arange(80).view(5, 16) % 8
    )
    example = {name: tensor[None] for name, tensor in example.items()}
    train_on_two(lose_in_parallel, tmp_path, tmp_path, tmp_path, example)
    expected = loss_and_gradients(AudioLMCoarseModel.from_pretrained(tmp_path), example)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)


@pytest.mark.parametrize("name", ["tp_plan", "tp_size", "distributed_config"])
def test_a_torch_that_cannot_spread_weights_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr("torch.distributed.tensor.distribute_tensor", lambda tensor, mesh, placements: tensor)
    with pytest.raises(ImportError, match=f"torch 2.7 on; {re.escape(torch.__version__)} is installed"):
        AudioLMCoarseModel.from_pretrained(tmp_path, **{name: "auto"})
