# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from audiolm_hf.cli import main
from audiolm_hf.training.throughput import (
    ThroughputOptions,
    Variant,
    build_batch,
    build_stage,
    format_training,
    measure_training,
    measured_peak_flops,
    training_rows,
)

SMALL = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "batch": 2, "length": 20}
TINY = ThroughputOptions(
    **SMALL, steps=2, rounds=3, variants=("eager", "sdpa"), dtypes=("bf16", "float32"), device="cpu"
)


@pytest.fixture(scope="module")
def report():
    return measure_training(TINY)


def test_every_variant_is_measured_in_every_dtype(report):
    rows = [(row["variant"], row["dtype"]) for row in report["variants"]]
    assert rows == [("eager", "bf16"), ("sdpa", "bf16"), ("eager", "float32"), ("sdpa", "float32")]
    assert report["peak_from"]["bf16"].startswith("measured")


def test_figures_follow_from_tokens_and_times(report):
    for row in report["variants"]:
        assert row["tokens"] == 2 * 2 * 20 and len(row["turns_s"]) == 3
        assert row["seconds"] == sorted(row["turns_s"])[1]
        assert row["tokens_per_s"] == pytest.approx(80 / row["seconds"])
        peak = 1e12 * report["peak_tflops"][row["dtype"]]
        assert row["mfu"] == pytest.approx(row["tokens_per_s"] * report["flops_per_token"] / peak)
    eager, sdpa = report["variants"][:2]
    assert eager["ratio"] == 1 and sdpa["ratio"] == pytest.approx(eager["seconds"] / sdpa["seconds"])


def test_operations_of_a_token_are_those_counted_in_the_real_step(report):
    model = build_stage(TINY)
    batch, shape = build_batch(TINY, model.config)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model(**batch, use_cache=False).loss.backward()
    assert report["flops_per_token"] * 40 == pytest.approx(counter.get_total_flops(), rel=1e-9)
    assert int((batch["labels"] != -100).sum()) == 2 * shape.num_predicted
    assert report["parameters"] == model.num_parameters()


def test_variants_compute_the_same_and_leave_the_model_as_it_was():
    model = build_stage(TINY)
    batch, _ = build_batch(TINY, model.config)
    decoder = model.model
    losses = []
    for name in ("eager", "sdpa"):
        with Variant(name, "float32", model):
            losses.append(float(model(**batch, use_cache=False).loss.detach()))
            assert decoder.config._attn_implementation == name
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert model.model is decoder


def test_a_step_changes_the_weights():
    model = build_stage(TINY)
    before = model.lm_head.weight.detach().clone()
    with Variant("sdpa", "bf16", model) as variant:
        variant.step(build_batch(TINY, model.config)[0], torch.optim.AdamW(model.parameters(), 1e-2))
    assert not model.lm_head.weight.equal(before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_rows_take_the_median_turn_and_the_first_variant_as_one():
    model = build_stage(TINY)
    variants = [Variant("eager", "bf16", model), Variant("sdpa", "bf16", model)]
    variants[0].turns, variants[1].turns = [4.0, 2.0, 9.0], [1.0, 2.0, 0.5]
    rows = training_rows(variants, TINY, flops_per_token=100.0, peaks={"bf16": 1000.0})
    assert [(row["tokens_per_s"], row["mfu"], row["ratio"]) for row in rows] == [(20, 2, 1), (80, 8, 4)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler imports what torch itself calls old
def test_compiled_decoder_trains_too():
    pytest.importorskip("torch._inductor")
    model = build_stage(TINY)
    batch, _ = build_batch(TINY, model.config)
    with Variant("sdpa", "float32", model):
        loss = float(model(**batch, use_cache=False).loss.detach())
    with Variant("compile", "float32", model):
        assert float(model(**batch, use_cache=False).loss.detach()) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"length": 3}, "length is 3"),
        ({"variants": ("fast",)}, r"variants has \['fast'\]; give some of eager, sdpa"),
        ({"dtypes": ()}, r"dtypes has \[\]"),
    ],
)
def test_what_cannot_be_measured_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        ThroughputOptions(**SMALL | changes)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("audiolm_hf.training.throughput.is_flash_attn_2_available", lambda: False)
    with pytest.raises(ValueError, match="needs the package flash-attn"):
        ThroughputOptions(variants=("flash_attention_2",))


def test_peak_is_a_plausible_number():
    assert 1e8 < measured_peak_flops("float32", "cpu") < 1e14


def test_command_prints_the_table_and_writes_the_figures(tmp_path, capsys):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    command = ["benchmark", "training", *flags, "--steps=1", "--rounds=1", "--variants", "sdpa", "--device=cpu"]
    assert main([*command, "-o", str(tmp_path / "new" / "speed.json")]) == 0
    report = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert capsys.readouterr().out == format_training(report) + "\n"
    assert report["options"]["length"] == 20 and len(report["variants"]) == 1
