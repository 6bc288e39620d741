# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Estimates against the real modules: counted operations, kept tensors, parameters."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data.crops import StageBatches
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.estimate import describe, estimate_recipe, estimate_training, table
from audiolm_hf.training.estimate_stage import decoder_flops, head_flops, linear_weights, stage_shape
from audiolm_hf.training.fake_run import saved_bytes, storage_bytes, without_memory
from audiolm_hf.training.hardware import ACCELERATORS, find_accelerator, recognise_accelerator
from audiolm_hf.training.kinds import build_training
from audiolm_hf.training.recipe import RecipeConfig
from audiolm_hf.training.stages.training import build_stage_config
from tests.helpers_tokens import INFO, write_tokens

BACKBONE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
STAGE = {
    "kind": "stage",
    "stage": "coarse",
    "output_folder": "out",
    "validation_tokens": ["none"],
    "window_length_s": 0.4,
    "num_coarse_codebooks": 2,
    "backbone": BACKBONE,
    "batch_tokens": 4 * 52,
    "max_steps": 100,
}
CODEC = {
    "kind": "codec",
    "output_folder": "out",
    "data": {"folder": "d", "train": ["a"]},
    "codec": {
        "strides": [4, 10],
        "num_codebooks": 2,
        "hidden_size": 8,
        "num_channels": 4,
        "encoder_type": "convolutional",
        "decoder_type": "mirrored",
    },
    "discriminator": {"window_lengths": [256], "downsamplings": [2], "num_channels": 4, "start_step": 0},
    "batch_size": 6,
    "crop_length_s": 0.04,
    "mixed_precision": "no",
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("tokens") / "train", [30, 12, 25])


def training(values, tmp_path, **changes):
    return build_training(values | changes, "test", tmp_path)


@pytest.mark.parametrize(
    ("stage", "sequence", "predicted", "level"),
    [("semantic", 12, 10, 20), ("coarse", 52, 40, 8), ("fine", 102, 60, 8)],
)
def test_shape_is_that_of_a_real_batch(tokens, tmp_path, stage, sequence, predicted, level):
    config = training(STAGE, tmp_path, stage=stage, train_tokens=[str(tokens)])
    stage_config = build_stage_config(config, TokenDataset(tokens))
    shape = stage_shape(stage_config, INFO)
    assert (shape.sequence_length, shape.num_predicted) == (sequence, predicted)
    assert shape.level_size - level in (0, 2)  # the semantic level's ids end with two special ones
    batch = StageBatches(TokenDataset(tokens), stage_config, batch_tokens=10**4, num_batches=1)[0]
    labels = (batch["labels"] != -100).sum(1)
    assert batch["input_ids"].shape[1] <= sequence and batch["input_ids"].shape[1] >= sequence - 1
    assert abs(int(labels.max()) - predicted) <= 1


@pytest.mark.parametrize("sequence_length", [17, 64])
def test_operations_are_those_counted_in_the_real_decoder(tokens, tmp_path, sequence_length):
    config = training(STAGE, tmp_path, train_tokens=[str(tokens)])
    stage_config = build_stage_config(config, TokenDataset(tokens))
    with without_memory():
        model = AudioLMStageModel(stage_config).train()
        model.set_attn_implementation("eager")  # the counter knows its products, not every fused kernel
        input_ids = torch.zeros(3, sequence_length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model.model(input_ids=input_ids, use_cache=False)[0].sum().backward()
    estimated = decoder_flops(linear_weights(model.model), stage_config.backbone_config, sequence_length, 3)
    assert estimated == counter.get_total_flops()


def test_operations_of_the_head_are_those_counted_in_the_real_loss(tokens, tmp_path):
    config = training(STAGE, tmp_path, train_tokens=[str(tokens)])
    stage_config = build_stage_config(config, TokenDataset(tokens))
    shape = stage_shape(stage_config, INFO)
    model = AudioLMStageModel(stage_config).train()
    model.set_attn_implementation("eager")
    batch = StageBatches(TokenDataset(tokens), stage_config, batch_tokens=52, num_batches=1)[0]
    predicted = int((batch["labels"] != -100).sum())
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    length, rows = batch["input_ids"].shape[1], len(batch["input_ids"])
    decoder = decoder_flops(linear_weights(model.model), stage_config.backbone_config, length, rows)
    share = predicted / shape.num_predicted
    assert decoder + head_flops(stage_config, shape, share) == pytest.approx(counter.get_total_flops(), rel=1e-9)


@pytest.mark.parametrize("bf16", [False, True])
def test_memory_of_activations_is_what_a_real_run_keeps(tokens, tmp_path, bf16):
    config = training(STAGE, tmp_path, train_tokens=[str(tokens)], bf16=bf16)
    estimate = estimate_training("stage", config)
    model = AudioLMStageModel(build_stage_config(config, TokenDataset(tokens))).train()
    input_ids = torch.randint(8, (4, 52))
    saved = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor) or tensor, torch.Tensor.detach
    )
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = model.model(input_ids=input_ids, use_cache=False)[0]
    pieces = {tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    own = {parameter.data_ptr() for parameter in model.parameters()}
    real = sum(size for place, size in pieces.items() if place not in own)
    assert output.shape == (4, 52, 32)
    assert estimate.memory["activations"] == estimate.without_checkpointing
    assert estimate.without_checkpointing == real
    assert estimate.parameters == model.num_parameters()
    assert estimate.memory["weights"] == sum(parameter.nbytes for parameter in model.parameters())


def test_checkpointing_keeps_less_and_computes_more(tokens, tmp_path):
    plain = estimate_training("stage", training(STAGE, tmp_path, train_tokens=[str(tokens)]))
    less = estimate_training(
        "stage", training(STAGE, tmp_path, train_tokens=[str(tokens)], gradient_checkpointing=True)
    )
    assert less.memory["activations"] == plain.with_checkpointing < plain.without_checkpointing / 2
    assert less.memory["activations"] > plain.without_checkpointing / BACKBONE["num_hidden_layers"]
    device = find_accelerator("a100")
    assert less.hours(device, 0.4) == pytest.approx(plain.hours(device, 0.4) * 4 / 3)


def test_states_of_the_optimizer_are_what_adamw_keeps(tokens, tmp_path):
    config = training(STAGE, tmp_path, train_tokens=[str(tokens)])
    model = AudioLMStageModel(build_stage_config(config, TokenDataset(tokens)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 4, dtype=torch.long), labels=torch.full((1, 4), 20), skip_logits=True).loss.backward()
    optimizer.step()
    moments = sum(tensor.nbytes for state in optimizer.state.values() for tensor in state.values() if tensor.dim() > 0)
    memory = estimate_training("stage", config).memory
    assert memory["optimizer"] == moments
    assert memory["gradients"] == sum(parameter.grad.nbytes for parameter in model.parameters())
    assert estimate_training("stage", config, num_processes=2).memory["gradients"] == 2 * memory["gradients"]


@pytest.mark.slow
def test_processes_and_accumulation_share_a_batch(tokens, tmp_path):
    config = training(STAGE, tmp_path, train_tokens=[str(tokens)])
    one, two = (estimate_training("stage", config, processes) for processes in (1, 2))
    parts = training(STAGE, tmp_path, train_tokens=[str(tokens)], gradient_accumulation_steps=2)
    accumulated = estimate_training("stage", parts)
    assert one.batch == "4 sequences of 52 ids, 4 at once in each process"
    assert two.batch == accumulated.batch == "4 sequences of 52 ids, 2 at once in each process"
    assert one.flops_per_step == two.flops_per_step == accumulated.flops_per_step
    assert two.memory["activations"] == accumulated.memory["activations"] < one.memory["activations"]


@pytest.mark.slow
def test_a_codec_is_what_its_modules_count(tmp_path):
    estimate = estimate_training("codec", training(CODEC, tmp_path))
    codec = SoundStreamModel(SoundStreamConfig(**CODEC["codec"])).train()
    judges = CodecDiscriminator([256], [2], 4)
    crop = torch.zeros(6, 640)
    with FlopCounterMode(display=False) as counter:
        codec.decoder(codec.encoder(crop)).sum().backward()
        generator = counter.get_total_flops()
    quantizer = 2 * 6 * 16 * 2 * 1024 * 32
    with FlopCounterMode(display=False) as counter:
        judges(crop)
    judging = counter.get_total_flops() * (2 * 3 * 2 / 3 + 4)
    assert estimate.flops_per_step == pytest.approx(generator + quantizer + judging, rel=1e-6)
    assert estimate.parameters == sum(
        parameter.numel() for module in (codec, judges) for parameter in module.parameters()
    )
    kept = saved_bytes(lambda: codec.decoder(codec.encoder(crop)), [codec], bf16=False)
    assert estimate.memory["activations"] == pytest.approx(kept, rel=0.05)
    without = estimate_training("codec", training(CODEC, tmp_path, discriminator={}))
    assert "discriminators" not in without.memory and without.flops_per_step < estimate.flops_per_step


def test_storage_is_counted_once_and_without_parameters():
    layer = torch.nn.Linear(4, 4)
    tensor = torch.zeros(10)
    assert storage_bytes([tensor, tensor[:3], layer.weight, torch.zeros(2, dtype=torch.bfloat16)], [layer]) == 44


@pytest.mark.slow
def test_a_small_encoder_s_folder_is_estimated(tmp_path, tiny_audiolm):
    tiny_audiolm.semantic_tokenizer.encoder.save_pretrained(tmp_path / "encoder")
    values = {"kind": "centroids", "data": {"folder": "d", "train": ["a"]}, "output_folder": "o", "layer": 1}
    values |= {"encoder": str(tmp_path / "encoder"), "max_features": 10_000}
    estimate = estimate_training("centroids", training(values, tmp_path))
    assert estimate.parameters == tiny_audiolm.semantic_tokenizer.encoder.num_parameters()
    assert estimate.steps == 4  # 8 recordings of 12.5 s are 2496 tokens
    assert estimate.flops_per_step > 0


def test_text_and_table_say_the_same(tokens, tmp_path):
    step = STAGE | {"name": "a", "train_tokens": [str(tokens)], "output_folder": "$output/a"}
    assemble = {"name": "b", "kind": "assemble", "semantic_tokenizer": "t", "codec": "c", "semantic": "s"}
    assemble |= {"coarse": "c", "fine": "f", "output_folder": "$output/b"}
    recipe = RecipeConfig([step, assemble], "out")
    (estimate,) = estimate_recipe(recipe)
    device = find_accelerator("h100")
    text = describe(estimate, device, 0.5)
    assert text.startswith("coarse stage: 0.0 M parameters\na step: 4 sequences of 52 ids, 4 at once in each process")
    assert "100 steps: 0.0 h of one h100 at 50% of 989 * 10^12 a second" in text
    rows = table([estimate], device).splitlines()
    assert len(rows) == 3 and rows[2].startswith("| coarse stage | 0.0 M | 4 sequences of 52 ids |")
    hours = estimate.flops_per_step * 100 / (0.5 * 989.4e12) / 3600
    assert estimate.hours(device, 0.5) == pytest.approx(hours)


def test_what_cannot_be_estimated_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no estimate for the kind 'assemble'"):
        estimate_training("assemble", None)
    config = training(STAGE, tmp_path, backbone={}, warm_start="folder", train_tokens=["none"])
    with pytest.raises(ValueError, match="no `backbone`"):
        estimate_training("stage", config)


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
    ],
)
def test_devices_are_recognised_by_what_their_driver_says(reported, name):
    assert recognise_accelerator(reported) == find_accelerator(name)


def test_unknown_devices_are_named():
    assert recognise_accelerator("Some Chip 3000") is None
    with pytest.raises(ValueError, match="The device is 'h10'; did you mean 'h100'"):
        find_accelerator("h10")
    assert all(device.bf16_tflops > device.float32_tflops for device in ACCELERATORS)
