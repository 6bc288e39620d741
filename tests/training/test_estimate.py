# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Estimates against the real modules: counted operations, kept tensors, parameters."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from audiolm_hf.cli import main
from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data.crops import longest_sequence
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.estimate import estimate
from audiolm_hf.training.flops import decoder_bytes_per_token, decoder_flops_per_token, peak_flops
from audiolm_hf.training.kinds import build_training
from audiolm_hf.training.recipe import RecipeConfig, load_config, resolve_steps
from audiolm_hf.training.stages.training import build_stage_config
from tests.helpers_checkpoint import ROOT
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
    "train_tokens": ["none"],
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
    "bf16": False,
}


def training(values, **changes):
    return build_training(values | changes, "file.yaml")


def stage_model(length=40, **changes):
    """A small stage, and ids for its decoder."""
    config = build_stage_config(training(STAGE, **changes), INFO)
    return AudioLMStageModel(config).train(), torch.randint(0, 8, (2, length))


def test_operations_are_those_counted_in_the_real_step():
    model, ids = stage_model()
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model.model(input_ids=ids, use_cache=False)[0].sum().backward()
    assert 2 * 40 * decoder_flops_per_token(model.model, 40) == pytest.approx(counter.get_total_flops(), rel=1e-9)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_near_what_a_real_step_keeps(checkpointing):
    backbone = {**BACKBONE, "hidden_size": 256, "intermediate_size": 1024, "head_dim": 64, "num_key_value_heads": 4}
    model, ids = stage_model(length=64, backbone=backbone)
    model.set_attn_implementation("sdpa")
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = 0 if storage.data_ptr() in own else storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        hidden_states = model.model(input_ids=ids, use_cache=False)[0]
    whole = sum(kept.values())
    assert hidden_states.requires_grad
    estimated = 2 * 64 * decoder_bytes_per_token(model.model, bf16=False)
    assert estimated == pytest.approx(whole, rel=0.25)
    if checkpointing:
        assert 2 * 64 * decoder_bytes_per_token(model.model, False, gradient_checkpointing=True) < 0.5 * estimated


def test_a_stage_is_described(tmp_path):
    write_tokens(tmp_path / "train", [30, 12, 25])
    config = training(STAGE, train_tokens=[str(tmp_path / "train")])
    first, step, memory = estimate(config).splitlines()
    model, _ = stage_model()
    length = longest_sequence(INFO, model.config)
    assert first == f"coarse stage: {model.num_parameters() / 1e6:.1f} M parameters"
    assert step.startswith(f"a step: {208 // length} sequences of {length} ids; ")
    assert memory.startswith("memory of a process: 0.0 GiB")


def test_a_codec_is_counted_with_its_discriminators():
    config = training(CODEC)
    codec = SoundStreamModel(SoundStreamConfig(**config.codec))
    judges = CodecDiscriminator([256], [2], 4)
    total = codec.num_parameters() + sum(parameter.numel() for parameter in judges.parameters())
    memory = f"memory of a process: {16 * total / 2**30:.1f} GiB for the weights and their training"
    assert estimate(config) == f"codec: {total / 1e6:.1f} M parameters\na step: 6 crops of 0.04 s\n{memory}"
    alone = training(CODEC, discriminator={"start_step": None}, codec={"hidden_size": 512})
    assert estimate(alone).startswith(
        f"codec: {SoundStreamModel(SoundStreamConfig(hidden_size=512)).num_parameters() / 1e6:.1f} M"
    )


def test_a_recipe_is_estimated_step_by_step(tmp_path):
    steps = [
        {key: value for key, value in values.items() if key != "output_folder"}
        | {"name": values["kind"], "output_folder": f"$output/{values['kind']}"}
        for values in (CODEC, STAGE)
    ]
    parts = estimate(RecipeConfig(steps=steps, output_folder=str(tmp_path))).split("\n\n")
    assert [part.partition(":")[0] for part in parts] == ["codec", "coarse stage"]


def test_what_cannot_be_estimated_is_an_error():
    with pytest.raises(
        ValueError, match="no estimate for a SimpleNamespace; there is one for codec, stage and recipe"
    ):
        estimate(SimpleNamespace())
    with pytest.raises(ValueError, match="no `backbone`"):
        estimate(training(STAGE, backbone={}, warm_start="folder"))


def test_peaks_are_found_by_what_the_driver_says(monkeypatch):
    assert peak_flops(torch.device("cpu")) is None
    peaks = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA L40S": 362e12, "NVIDIA L4": 121e12, "Some Chip": None}
    for name, peak in peaks.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda")) == peak


def test_the_paper_s_table_is_what_the_command_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "configs/paper/README.md").read_text()
    command = re.search(r"`audiolm-hf (train .* --estimate)` prints", text).group(1)
    assert main(command.split()) == 0
    parts = capsys.readouterr().out.strip().split("\n\n")
    table = re.search(r"^\| training \|.*?\n\n", text, re.DOTALL | re.MULTILINE).group(0).strip().splitlines()[2:]
    configs = [step.config for step in resolve_steps(load_config(command.split()[2], ["data.folder=DATA"]))]
    steps = [config.max_steps for config in configs if hasattr(config, "max_steps")]
    assert len(parts) == len(table) == len(steps) == 4
    for part, row, count in zip(parts, table, steps, strict=True):
        name, parameters, batch, flops, weights, kept, shown = [cell.strip() for cell in row.split("|")[1:-1]]
        lines = [
            f"{name}: {parameters} parameters",
            f"a step: {batch}",
            f"memory of a process: {weights} GiB for the weights",
        ]
        lines[1] += "" if len(flops) == 1 else f"; {flops} * 10^12 operations"
        assert [line[: len(start)] for line, start in zip(part.splitlines(), lines, strict=True)] == lines
        assert len(kept) == 1 or f"about {kept} GiB for each" in part
        assert int(shown.replace(",", "")) == count
