# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A stage under plain `Trainer`, with a dataset of the user's own: as any causal model of transformers."""

import copy

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
from transformers.utils.generic import find_labels

from audiolm_hf import AudioLMStageCollator, build_stage_example
from audiolm_hf.data.crops import corrupt_inputs
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX
from audiolm_hf.training.stages.bits import stage_bits
from tests.conftest import randomise, tiny_stage_config


@pytest.fixture(params=[AudioLMSemanticModel, AudioLMCoarseModel, AudioLMFineModel], ids=lambda cls: cls.__name__)
def stage(request):
    torch.manual_seed(0)
    return randomise(request.param(request.param.config_class(**tiny_stage_config())), scale=0.1)


def own_dataset(config, rows=8):
    """Sequences of crops of different lengths."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for row in range(rows):
        frames = 2 + row % 3
        tokens = torch.randint(0, 20, (frames,), generator=generator)
        codes = torch.randint(0, 8, (5, frames), generator=generator)
        examples.append(build_stage_example(config, tokens, codes, ends_recording=row % 2 == 0))
    return examples


def arguments(folder, **changes):
    options = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 3, "learning_rate": 1e-2}
    options |= {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 4}
    return TrainingArguments(str(folder), **{**options, **changes})


def accuracy(prediction):
    logits, labels = torch.as_tensor(prediction.predictions)[:, :-1], torch.as_tensor(prediction.label_ids)[:, 1:]
    known = labels != IGNORE_INDEX
    return {"accuracy": float((logits.argmax(-1) == labels)[known].float().mean()), "count": int(known.sum())}


def test_labels_are_the_only_labels(stage):
    assert find_labels(type(stage)) == ["labels"]


def test_training_with_an_evaluation_set_measures_loss_and_metrics(stage, tmp_path):
    examples = own_dataset(stage.config)
    collator = AudioLMStageCollator(stage.config)
    trainer = Trainer(
        stage,
        arguments(tmp_path, eval_strategy="steps", eval_steps=2),
        train_dataset=examples,
        eval_dataset=examples,
        data_collator=collator,
        compute_metrics=accuracy,
    )
    before = trainer.evaluate()
    labels = sum(int((example["labels"] != IGNORE_INDEX).sum()) for example in examples)
    assert before["eval_count"] == labels
    batches = [collator(examples[start : start + 3]) for start in range(0, len(examples), 3)]
    with torch.no_grad():
        losses = [float(stage.eval()(**batch).loss) * len(batch["labels"]) for batch in batches]
    assert before["eval_loss"] == pytest.approx(sum(losses) / len(examples), rel=1e-4)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before["eval_loss"]
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry][:2] == [2, 4]


def gradients(model, folder, examples, collator, **batches):
    """The gradient of the one step of a training with SGD."""
    model = copy.deepcopy(model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    options = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "warmup_steps": 0}
    trainer = Trainer(model, arguments(folder, **options | batches), train_dataset=examples, data_collator=collator)
    trainer.train()
    return {name: before[name] - weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("plain_labels", [False, True])
def test_accumulated_batches_have_the_gradient_of_one(stage, tmp_path, plain_labels):
    examples = own_dataset(stage.config)
    if plain_labels:  # also where nothing predicts it
        examples = [{**example, "labels": example["labels"].clone()} for example in examples]
        for example in examples:
            example["labels"][0] = example["input_ids"][-1]
    collator = AudioLMStageCollator(stage.config)
    whole = copy.deepcopy(stage).train()
    whole(**collator(examples)).loss.backward()
    expected = {name: weight.grad for name, weight in whole.named_parameters()}
    for size, steps in [(8, 1), (2, 4)]:
        batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        found = gradients(stage, tmp_path, examples, collator, **batches)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


def test_rows_may_have_numbers_of_their_own(stage):
    batch = AudioLMStageCollator(stage.config)(own_dataset(stage.config, rows=3))
    counts = (batch["labels"] != IGNORE_INDEX).sum(1)
    losses = stage.token_losses(**batch)[0].sum(1) / counts
    torch.testing.assert_close(stage(**batch, num_items_in_batch=3 * counts).loss, losses.mean())
    torch.testing.assert_close(
        stage(**batch, num_items_in_batch=torch.tensor([[7]])).loss, (losses * counts).sum() / 7
    )
    nothing = batch | {"labels": torch.full_like(batch["labels"], IGNORE_INDEX)}
    assert stage(**nothing, num_items_in_batch=torch.tensor(0)).loss.detach() == 0


@pytest.mark.parametrize("smoothing", [{"label_smoothing_factor": 0.1}, {}])
def test_a_loss_over_all_ids_is_refused_before_any_step(stage, tmp_path, smoothing):
    before = copy.deepcopy(stage.state_dict())
    own = {} if smoothing else {"compute_loss_func": lambda outputs, labels, **_: outputs.logits.mean()}
    trainer = Trainer(
        stage,
        arguments(tmp_path, **smoothing),
        train_dataset=own_dataset(stage.config),
        data_collator=AudioLMStageCollator(stage.config),
        **own,
    )
    with pytest.raises(ValueError, match="without labels, as Trainer does with label_smoothing_factor"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in stage.state_dict().items())


def test_bits_do_not_depend_on_the_batches(stage):
    examples, collator = own_dataset(stage.config), AudioLMStageCollator(stage.config)
    expected = stage_bits(stage, [collator(examples)])
    for size in (1, 3):
        found = stage_bits(stage, [collator(examples[place : place + size]) for place in range(0, 8, size)])
        for name, values in expected.items():
            assert found[name] == pytest.approx(values, rel=1e-5)


def test_training_stops_early(stage, tmp_path):
    examples = own_dataset(stage.config)
    trainer = Trainer(
        stage,
        arguments(
            tmp_path, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, max_steps=9,
            load_best_model_at_end=True, metric_for_best_model="loss", learning_rate=0.0,
        ),
        train_dataset=examples,
        eval_dataset=examples,
        data_collator=AudioLMStageCollator(stage.config),
        callbacks=[EarlyStoppingCallback(2)],
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3  # the first is the best, two are no better


def test_the_collator_pads_tensors_and_lists_alike_and_refuses_others(stage):
    examples = own_dataset(stage.config, rows=3)
    collator = AudioLMStageCollator(stage.config)
    batch = collator(examples)
    longest = max(len(example["input_ids"]) for example in examples)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == dict.fromkeys(batch, (3, longest))
    for row, example in enumerate(examples):
        length = len(example["input_ids"])
        assert torch.equal(batch["input_ids"][row, :length], example["input_ids"])
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (longest - length)
        assert (batch["labels"][row, length:] == IGNORE_INDEX).all()
        assert (batch["input_ids"][row, length:] == stage.config.padding_token_id).all()
    lists = collator([{name: tensor.tolist() for name, tensor in example.items()} for example in examples])
    assert all(torch.equal(lists[name], batch[name]) for name in batch)
    with pytest.raises(ValueError, match="Example 1 has audio_codes; give input_ids and labels"):
        collator([examples[0], {"audio_codes": torch.zeros(5, 2)}])
    with pytest.raises(ValueError, match="Example 0 has input_ids and labels of the shapes .* give one length"):
        collator([{"input_ids": [1, 2], "labels": [1]}])


def test_special_tokens_that_generate_is_told_otherwise_change_no_training(stage):
    examples = own_dataset(stage.config)
    batch = AudioLMStageCollator(stage.config)(examples)
    bits = stage_bits(stage, [batch])
    noisy = [corrupt_inputs(e["input_ids"], stage.config, 0.5, np.random.default_rng(0)) for e in examples]
    stage.config.bos_token_id = stage.config.eos_token_id = stage.config.pad_token_id = None
    changed = AudioLMStageCollator(stage.config)(examples)
    assert all(torch.equal(changed[name], batch[name]) for name in batch)
    assert stage_bits(stage, [changed]) == bits
    again = [corrupt_inputs(e["input_ids"], stage.config, 0.5, np.random.default_rng(0)) for e in examples]
    assert all(torch.equal(*pair) for pair in zip(noisy, again, strict=True))
    assert any(not torch.equal(ids, e["input_ids"]) for ids, e in zip(noisy, examples, strict=True))
