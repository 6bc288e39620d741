# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import logging
import math
from unittest.mock import patch

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoConfig, Trainer

from audiolm_hf.data.crops import validation_batches
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX
from audiolm_hf.training.stages.bits import stage_bits
from audiolm_hf.training.stages.training import (
    build_stage_config,
    build_stage_trainer,
    measure_semantic_duration,
    train_stage,
)
from tests.conftest import tiny_stage_config
from tests.helpers_stages import BACKBONE, config_of, interrupted_after, run_case
from tests.helpers_tokens import write_tokens

MODELS = {"semantic": AudioLMSemanticModel, "coarse": AudioLMCoarseModel, "fine": AudioLMFineModel}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    return write_tokens(folder / "train", [30, 12, 25, 40, 9, 33], seed=0), write_tokens(
        folder / "validation", [20, 11], seed=1
    )


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("stage", list(MODELS))
def test_stage_learns_and_every_parameter_moves(folders, tmp_path, stage):
    config = config_of(folders, tmp_path, stage=stage, max_steps=12, eval_steps=12, window_length_s=0.4)
    before = weights(build_stage_trainer(config).model)
    final = train_stage(config)
    model = MODELS[stage].from_pretrained(final)
    assert all(not tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    report = json.loads((tmp_path / "report.json").read_text())
    losses = [entry["loss"] for entry in report["log"] if "loss" in entry]
    assert losses[-1] < losses[0]
    assert report["steps"] == 12
    assert report["parameters"] == model.num_parameters()
    assert report["validation"]["all"]["bits"] < {"semantic": math.log2(21), "coarse": 3, "fine": 3}[stage]
    levels = {
        "semantic": {"semantic", "end"},
        "coarse": {"level_0", "level_1"},
        "fine": {"level_2", "level_3", "level_4"},
    }
    assert set(report["validation"]) == {"all"} | levels[stage]


def test_resumed_training_equals_an_uninterrupted_one(folders, tmp_path):
    changes = {"corruption": 0.2, "batch_tokens": 64}
    whole = train_stage(config_of(folders, tmp_path / "whole", **changes))
    with interrupted_after(4):
        train_stage(config_of(folders, tmp_path / "cut", **changes))
    assert [path.name for path in (tmp_path / "cut/checkpoints").iterdir()] == ["checkpoint-3"]
    resumed = train_stage(config_of(folders, tmp_path / "cut", **changes))
    one, other = (weights(AudioLMSemanticModel.from_pretrained(folder)) for folder in (whole, resumed))
    assert all(one[name].equal(other[name]) for name in one)
    logs = [json.loads((tmp_path / name / "report.json").read_text())["log"] for name in ("whole", "cut")]
    rates = [
        [(entry["step"], entry["learning_rate"], entry["loss"]) for entry in log if "loss" in entry] for log in logs
    ]
    assert rates[0] == rates[1]


def test_a_used_folder_is_for_the_same_training_alone(folders, tmp_path):
    train_stage(config_of(folders, tmp_path, max_steps=1))
    weights_file = tmp_path / "final/model.safetensors"
    before = weights_file.read_bytes()
    for changes, message in (
        ({"learning_rate": 1e-3}, r"different: learning_rate \(0.01, now 0.001\)"),
        ({"seed": 3}, r"different: seed \(0, now 3\)"),
        ({"window_length_s": 0.4}, r"different: window_length_s \(0.8, now 0.4\)"),
        ({"train_tokens": [str(folders[1])]}, "different: train_tokens "),
        ({"stage": "coarse"}, r"different: stage \('semantic', now 'coarse'\)"),
    ):
        with pytest.raises(ValueError, match=message):
            train_stage(config_of(folders, tmp_path, **{"max_steps": 1} | changes))
    assert weights_file.read_bytes() == before
    train_stage(config_of(folders, tmp_path, max_steps=1, seed=3), overwrite=True)
    assert weights_file.read_bytes() != before


def test_a_training_that_diverges_stops_and_keeps_the_weights_before(folders, tmp_path):
    step = Trainer.training_step

    def not_a_number(trainer, *arguments, **options):
        return step(trainer, *arguments, **options) * (torch.nan if trainer.state.global_step == 4 else 1)

    message = r"diverged at step 4: the loss is nan; the weights before it are in .*checkpoint-3"
    with pytest.raises(ValueError, match=message), patch.object(Trainer, "training_step", not_a_number):
        train_stage(config_of(folders, tmp_path))
    assert not (tmp_path / "final").exists()
    assert train_stage(config_of(folders, tmp_path)) == tmp_path / "final"


def test_weights_of_another_stage_are_no_start(folders, tmp_path):
    first = train_stage(config_of(folders, tmp_path / "first", max_steps=1))
    message = "initial_weights is .*, of type 'audiolm_semantic'; give one of type 'audiolm_coarse'"
    with pytest.raises(ValueError, match=message):
        train_stage(config_of(folders, tmp_path / "second", stage="coarse", initial_weights=str(first)))


def test_the_output_is_one_bar_and_what_became_of_it(folders, tmp_path, capfd, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with interrupted_after(4):
        train_stage(config_of(folders, tmp_path, stage="coarse", window_length_s=0.4))
    train_stage(config_of(folders, tmp_path, stage="coarse", window_length_s=0.4))
    printed = capfd.readouterr()
    assert "{'loss'" not in printed.out + printed.err
    assert "missing keys" not in caplog.text + printed.err
    assert "Writing model shards" not in printed.err
    assert "coarse: " in printed.err and "train: " not in printed.err
    assert "Resuming coarse from step 3." in caplog.text
    assert f"{tmp_path}/final" in caplog.text
    train_stage(config_of(folders, tmp_path, stage="coarse", window_length_s=0.4))
    assert f"Done before: {tmp_path}/final" in caplog.text


@pytest.mark.slow
def test_same_seed_same_weights_other_seed_other_weights(folders, tmp_path):
    runs = [
        train_stage(config_of(folders, tmp_path / name, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, same, other = (weights(AudioLMSemanticModel.from_pretrained(folder)) for folder in runs)
    assert all(first[name].equal(same[name]) for name in first)
    assert any(not first[name].equal(other[name]) for name in first)


@pytest.mark.slow
def test_best_checkpoint_is_kept(folders, tmp_path):
    # A learning rate this high soon makes things worse than they were.
    config = config_of(folders, tmp_path, max_steps=30, eval_steps=3, learning_rate=0.3, patience=2)
    train_stage(config)
    report = json.loads((tmp_path / "report.json").read_text())
    validations = {entry["step"]: entry["eval_bits"] for entry in report["log"] if "eval_bits" in entry}
    assert report["best_step"] == min(validations, key=validations.get)
    assert report["validation"]["all"]["bits"] == pytest.approx(min(validations.values()), rel=1e-4)


def test_bits_are_the_loss_of_training_over_all_labels(folders, tmp_path):
    trainer = build_stage_trainer(config_of(folders, tmp_path, stage="coarse", window_length_s=0.4))
    model = trainer.model.eval()
    (batch,) = validation_batches(TokenDataset(folders[1]), model.config, 10**6)
    bits = stage_bits(model, [batch])
    with torch.no_grad():
        loss = model(**batch).loss
    assert bits["all"]["bits"] == pytest.approx(float(loss) / math.log(2), rel=1e-5)
    parts = [bits["level_0"], bits["level_1"]]
    total = sum(part["tokens"] for part in parts)
    assert total == bits["all"]["tokens"] == int((batch["labels"] != IGNORE_INDEX).sum())
    assert sum(part["bits"] * part["tokens"] for part in parts) / total == pytest.approx(bits["all"]["bits"])
    halves = validation_batches(TokenDataset(folders[1]), model.config, 64)
    assert len(halves) > 1
    assert stage_bits(model, halves)["all"]["bits"] == pytest.approx(bits["all"]["bits"], rel=1e-5)


def test_stage_is_sized_by_its_tokens(folders, tmp_path):
    tokens = TokenDataset(folders[0])
    config = build_stage_config(
        config_of(folders, tmp_path, stage="fine", backbone=BACKBONE | {"model_type": "qwen2"}), tokens.info
    )
    assert (config.num_coarse_codebooks, config.num_fine_codebooks, config.vocab_size) == (2, 3, 5 * 8 + 4)
    assert isinstance(config.backbone_config, type(AutoConfig.for_model("qwen2")))
    assert (
        build_stage_config(config_of(folders, tmp_path, num_coarse_codebooks=5), tokens.info).num_fine_codebooks == 0
    )
    for stage, number in (("coarse", 6), ("fine", 5)):
        message = f"num_coarse_codebooks is {number}; give an integer from 1 to {number - 1}, the levels of the tokens"
        with pytest.raises(ValueError, match=message):
            build_stage_config(config_of(folders, tmp_path, stage=stage, num_coarse_codebooks=number), tokens.info)


@pytest.mark.parametrize(("stage", "stride"), [("coarse", 2 * 50 / 25), ("fine", 3 / 2)])
def test_an_aligned_condition_counts_the_predicted_tokens_beside_each_of_its_own(folders, tmp_path, stage, stride):
    changes = {"stage": stage, "window_length_s": 0.4, "align_condition": True}
    trained = train_stage(config_of(folders, tmp_path, **changes))
    assert AutoConfig.from_pretrained(trained).condition_stride == stride


def test_removed_repeats_measure_the_mean_duration(folders, tmp_path):
    tokens = TokenDataset(folders[0])
    config = build_stage_config(config_of(folders, tmp_path, remove_repeats=True), tokens.info)
    assert measure_semantic_duration(tokens) == 1.0  # the made-up tokens never repeat
    assert config.remove_repeats


def test_training_goes_on_from_given_weights(folders, tmp_path):
    first = train_stage(config_of(folders, tmp_path / "first"))
    config = config_of(folders, tmp_path / "second", initial_weights=str(first))
    assert all(
        tensor.equal(weights(AudioLMSemanticModel.from_pretrained(first))[name])
        for name, tensor in build_stage_trainer(config).model.state_dict().items()
    )
    for changes in ({"hidden_size": 16}, {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}):
        other = config_of(folders, tmp_path / "other", initial_weights=str(first), backbone=BACKBONE | changes)
        with pytest.raises(ValueError, match="has other sizes than backbone and the tokens; set backbone"):
            build_stage_trainer(other)


def test_given_weights_of_as_many_ids_have_the_same_vocabulary(folders, tmp_path):
    fields = {"num_semantic_tokens": 28, "num_coarse_codebooks": 1, "num_fine_codebooks": 4}
    config = AudioLMCoarseModel.config_class(**tiny_stage_config(**fields, backbone_config=BACKBONE))
    AudioLMCoarseModel(config).save_pretrained(tmp_path / "first")
    changes = {"stage": "coarse", "initial_weights": str(tmp_path / "first")}
    with pytest.raises(ValueError, match="has other sizes than backbone and the tokens"):
        build_stage_trainer(config_of(folders, tmp_path / "second", **changes))


@pytest.mark.parametrize("path", ["/nowhere/first", "./first", "runs/speech/first", "~/first"])
def test_a_path_that_cannot_be_a_name_on_the_hub_must_exist(folders, tmp_path, path):
    with pytest.raises(FileNotFoundError, match="initial_weights is .*first, which does not exist; give an existing"):
        train_stage(config_of(folders, tmp_path, initial_weights=path))


def test_embeddings_start_at_the_codebooks_if_a_codec_is_named(folders, tmp_path, tiny_audiolm):
    tiny_audiolm.codec.save_pretrained(tmp_path / "codec")
    tiny_audiolm.semantic_tokenizer.save_pretrained(tmp_path / "tokenizer")
    changes = {"stage": "coarse", "codec": str(tmp_path / "codec"), "semantic_tokenizer": str(tmp_path / "tokenizer")}
    model, again = (build_stage_trainer(config_of(folders, tmp_path, **changes)).model for _ in range(2))
    table = model.get_input_embeddings().weight
    assert table.equal(again.get_input_embeddings().weight)
    distances = torch.cdist(table[20:28], table[20:28])  # the codes of level 0
    codebook = tiny_audiolm.codec.quantizer.levels[0].codebook
    ratio = distances / torch.cdist(codebook, codebook)
    assert torch.allclose(ratio[~ratio.isnan()], ratio[0, 1], rtol=1e-3)


@pytest.fixture(scope="module")
def fine(folders, tmp_path_factory):
    """What a plain training of the fine stage ends with, as the yardstick of its options."""
    return run_case("fine", folders[0].parent, tmp_path_factory.mktemp("fine"))


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one if "." in name)


@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 3}, {"gradient_checkpointing": True}], ids=str)
def test_saving_memory_changes_nothing(fine, folders, tmp_path, changes):
    other = run_case("fine", folders[0].parent, tmp_path, **changes)
    assert len(other["labels"]) == 6 * changes.get("gradient_accumulation_steps", 1)
    assert largest_difference(fine, other) < 2e-4


def test_validation_too_is_in_parts_that_fit(folders, tmp_path):
    trainer = build_stage_trainer(config_of(folders, tmp_path, batch_tokens=200, gradient_accumulation_steps=4))
    assert max(batch["input_ids"].numel() for batch in trainer.eval_dataset) <= 50


def test_gradient_checkpointing_keeps_no_activations_of_layers(folders, tmp_path):
    def kept(**changes):
        trainer = build_stage_trainer(config_of(folders, tmp_path, stage="fine", max_steps=1, **changes))
        trainer.train()
        (batch,) = validation_batches(TokenDataset(folders[1]), trainer.model.config, 10**6)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()), lambda _: None):
            trainer.model.train()(**batch)
        return sum(sizes)

    assert kept(gradient_checkpointing=True) < 0.6 * kept()


def test_bfloat16_computes_otherwise_and_keeps_float32_weights(fine, folders, tmp_path):
    other = run_case("fine", folders[0].parent, tmp_path, bf16=True)
    assert 1e-5 < largest_difference(fine, other) < 0.2
    assert all(tensor.dtype == torch.float32 for name, tensor in other.items() if "." in name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler about itself
def test_the_decoder_alone_is_compiled(folders, tmp_path):
    trainer = build_stage_trainer(config_of(folders, tmp_path, torch_compile=True, max_steps=1))
    assert trainer.model.model._compiled_call_impl is not None
    assert trainer.model._compiled_call_impl is None
    with torch.compiler.set_stance("force_eager"):  # what is compiled is torch's affair, and takes minutes on a CPU
        trainer.train()


def test_figures_of_every_level_reach_tensorboard(folders, tmp_path):
    train_stage(config_of(folders, tmp_path, stage="coarse", report_to=["tensorboard"], max_steps=3))
    (events,) = (tmp_path / "checkpoints").rglob("events.out.tfevents.*")
    assert b"output_dir" in events.read_bytes() and b"pytest-of" not in events.read_bytes()
    found = EventAccumulator(str(events.parent)).Reload()
    report = json.loads((tmp_path / "report.json").read_text())
    for level in ("level_0", "level_1"):
        for figure in ("bits", "accuracy"):
            (event,) = found.Scalars(f"eval/{figure}_{level}")
            assert event.step == 3
            assert event.value == pytest.approx(report["validation"][level][figure], rel=1e-5)
    assert {"train/loss", "train/learning_rate", "eval/bits"} <= set(found.Tags()["scalars"])


def test_a_tracker_that_is_not_installed_is_named(folders, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(ImportError, match="report_to names 'wandb', which is not installed; run `pip install wandb`"):
        build_stage_trainer(config_of(folders, tmp_path, report_to=["wandb"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": None}, "max_steps is None"),
        ({"max_minutes": 3.0}, "the old key 'max_minutes' is now max_steps"),
        ({"corruption": 1.5}, "corruption is 1.5"),
        ({"corruption": 1.0}, "corruption is 1.0; give a number from 0 to below 1"),
        ({"condition_dropout": 1.0, "stage": "coarse"}, "condition_dropout is 1.0"),
        ({"warmup_steps": 1e9}, r"warmup_steps is 1000000000\.0; give"),
        ({"condition_dropout": -0.1, "stage": "coarse"}, "condition_dropout is -0.1"),
        ({"condition_dropout": 0.1}, "semantic stage; only a stage that is conditioned on semantic tokens"),
        ({"initial_weights": "a", "codec": "b"}, "leave out codec and semantic_tokenizer"),
        ({"backbone": {}}, "Neither backbone nor warm_start"),
        ({"initial_weights": "a", "warm_start": "b"}, "starts from one of them"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0"),
        ({"report_to": ["tensorbored"]}, "must be one of 'tensorboard', 'wandb', 'trackio'"),
        ({"schedule": "cosine"}, "the old key 'schedule' is now decay_steps, which is 0 for a constant"),
        ({"stage": "medium"}, "stage is 'medium'; it must be one of 'semantic', 'coarse', 'fine'"),
    ],
)
def test_settings_that_make_no_sense_are_errors(folders, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(folders, tmp_path, **changes)


@pytest.mark.parametrize("changes", [{"window_length_s": 1e-9}, {"stage": "coarse", "anchor_length_s": 0.03}])
def test_lengths_below_a_step_of_the_tokens_are_errors(folders, tmp_path, changes):
    with pytest.raises(ValueError, match="_length_s is .*, and the tokens' time grid has steps of 0.04 s; give more"):
        train_stage(config_of(folders, tmp_path, **changes))


def test_a_training_shorter_than_a_validation_interval_is_validated_once(folders, tmp_path):
    train_stage(config_of(folders, tmp_path, max_steps=1, eval_steps=200))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["best_step"] == 1 and any("eval_bits" in entry for entry in report["log"])
