# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The forward pass of the whole: losses of all stages, windows, labels, frozen tokenizers, Trainer and PEFT."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, Trainer, TrainingArguments

from audiolm_hf.modeling_audiolm import AudioLMModel
from tests.conftest import randomise, tiny_config, tiny_stage_config
from tests.helpers_checkpoint import tiny_model
from tests.reference import slow_stage_losses

STAGES = ("semantic", "coarse", "fine")


@pytest.fixture
def recording():
    """0.4 s: ten semantic tokens and twenty frames, less than a window of any stage."""
    return 0.3 * torch.randn(1, 6400)


def tokens_of(model, recording):
    return {
        "semantic_tokens": model.semantic_tokenizer.tokenize(recording).semantic_tokens,
        "audio_codes": model.acoustic_codec.encode(recording),
    }


@torch.no_grad()
def test_the_loss_is_the_sum_of_the_stages_and_equals_the_slow_one(tiny_audiolm, recording):
    output = tiny_audiolm(recording)
    tokens = tokens_of(tiny_audiolm, recording)
    expected = slow_stage_losses(
        tiny_audiolm, tokens["semantic_tokens"][0].tolist(), tokens["audio_codes"][0].tolist()
    )
    for stage in STAGES:
        assert float(output[f"{stage}_loss"]) == pytest.approx(expected[stage], abs=1e-4), stage
    assert float(output.loss) == pytest.approx(sum(expected.values()), abs=1e-4)
    assert output.semantic_logits.shape == (1, 1 + 10 + 1, 24)  # beginning and end
    assert output.coarse_logits.shape == (1, 1 + 10 + 1 + 2 * 20, 40)
    assert output.fine_logits.shape == (1, 1 + 2 * 20 + 1 + 3 * 20, 44)


@torch.no_grad()
def test_tokens_given_are_as_good_as_waveforms(tiny_audiolm, recording):
    expected = tiny_audiolm(recording)
    output = tiny_audiolm(**tokens_of(tiny_audiolm, recording))
    assert all(torch.equal(output[name], expected[name]) for name in expected)
    assert isinstance(tiny_audiolm(recording, return_dict=False), tuple)


@torch.no_grad()
def test_padding_changes_nothing(tiny_audiolm):
    recordings = [0.3 * torch.randn(length) for length in (6400, 3000)]
    batch = torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    mask = (torch.arange(6400) < torch.tensor([[6400], [3000]])).long()
    output = tiny_audiolm(batch, mask)
    for row, recording in enumerate(recordings):
        single = tiny_audiolm(recording[None])
        for stage in STAGES:
            logits = single[f"{stage}_logits"]
            assert torch.allclose(output[f"{stage}_logits"][row : row + 1, : logits.shape[1]], logits, atol=1e-5)
    tokens = tiny_audiolm.semantic_tokenizer.tokenize(batch, mask)
    frames = torch.arange(20) < torch.tensor([[20], [10]])  # 3000 samples fill 9.4 frames
    codes = torch.zeros(2, 5, 20, dtype=torch.int64)
    for row, recording in enumerate(recordings):
        own = tiny_audiolm.acoustic_codec.encode(recording[None])
        codes[row, :, : own.shape[2]] = own
    again = tiny_audiolm(
        semantic_tokens=tokens.semantic_tokens,
        semantic_attention_mask=tokens.attention_mask,
        audio_codes=codes,
        codes_attention_mask=frames,
    )
    assert torch.allclose(again.loss, output.loss, atol=1e-5)


@torch.no_grad()
def test_long_recordings_are_cut_into_windows(tiny_audiolm):
    output = tiny_audiolm(0.3 * torch.randn(1, 40000))  # 2.5 s in windows of 2, 1 and 0.5 s
    assert [len(output[f"{stage}_logits"]) for stage in STAGES] == [2, 3, 6]  # 12 units of 40 ms in 0.5 s


@torch.no_grad()
def test_labels_say_what_is_learned(tiny_audiolm, recording):
    tokens = tokens_of(tiny_audiolm, recording)
    codes = tokens["audio_codes"]
    everything = tiny_audiolm(**tokens)
    assert torch.equal(tiny_audiolm(**tokens, labels=codes).loss, everything.loss)
    labels = codes.clone()
    labels[:, :, :8] = -100
    labels[:, 4] = -100
    output = tiny_audiolm(recording, labels=labels)
    log_probabilities = everything.semantic_logits[0, 4:11, [*range(20), 21]].log_softmax(-1)  # of tokens 4 to the end
    targets = torch.cat([tokens["semantic_tokens"][0, 4:], torch.tensor([20])])
    assert float(output.semantic_loss) == pytest.approx(-float(log_probabilities[range(7), targets].mean()), abs=1e-4)
    fine = everything.fine_logits[0, 1 + 2 * 20 : -1]  # position of the separator predicts the first fine code
    losses = []
    for frame in range(8, 20):
        for level in (2, 3):
            ids = slice(level * 8, level * 8 + 8)
            losses.append(-fine[3 * frame + level - 2, ids].log_softmax(-1)[codes[0, level, frame]])
    assert float(output.fine_loss) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-4)


@torch.no_grad()
def test_labels_follow_what_is_left_of_repeats():
    stage = {"remove_repeats": True, "window_length_s": 2.0}
    names = ("semantic_config", "coarse_config")
    model = randomise(AudioLMModel(tiny_config(**{name: tiny_stage_config(**stage) for name in names})))
    tokens = torch.tensor([[3, 3, 3, 3, 5, 5, 7, 7, 7, 7]])
    codes = torch.randint(0, 8, (1, 5, 20))
    labels = codes.clone()
    labels[:, :, :8] = -100  # the time of the four 3
    output = model(semantic_tokens=tokens, audio_codes=codes, labels=labels)
    log_probabilities = output.semantic_logits[0, 1:4, [*range(20), 21]].log_softmax(-1)
    expected = -log_probabilities[range(3), [5, 7, 20]].mean()
    assert float(output.semantic_loss) == pytest.approx(float(expected), abs=1e-4)


@torch.no_grad()
def test_what_is_not_wanted_is_left_out(tiny_audiolm, recording):
    assert tiny_audiolm(recording, return_loss=False).keys() == {"semantic_logits", "coarse_logits", "fine_logits"}
    assert set(tiny_audiolm(recording, skip_logits=True)) == {"loss", "semantic_loss", "coarse_loss", "fine_loss"}
    states = tiny_audiolm(recording, output_hidden_states=True).hidden_states
    assert [tuple(state.shape) for state in states] == [(1, length, 32) for length in (12, 52, 102) for _ in range(3)]


def test_all_of_the_stages_learn_and_nothing_of_the_tokenizers(tiny_audiolm, recording):
    model = copy.deepcopy(tiny_audiolm).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    output = model(recording)
    assert set(output) == {"loss", "semantic_loss", "coarse_loss", "fine_loss"}  # no logits in training
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == (name.split(".")[0] in STAGES), name
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loaded_model_and_one_of_parts_have_frozen_tokenizers(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path)
    parts = ("semantic_tokenizer", "codec", *STAGES)
    joined = AudioLMModel.from_parts(**{part: tiny_audiolm.get_submodule(part) for part in parts})
    for model in (AutoModel.from_pretrained(tmp_path), joined):
        learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert learning == set(STAGES)


def test_conditions_are_dropped_in_training_only(recording):
    coarse = tiny_stage_config(window_length_s=1.0, condition_dropout=1.0)
    model = randomise(AudioLMModel(tiny_config(coarse_config=coarse)))
    with torch.no_grad():
        usual = model(recording)
        model.train()
        assert model(recording, skip_logits=False).coarse_logits.shape[1] == usual.coarse_logits.shape[1] - 10


WAVEFORM, TOKEN, CODES = torch.zeros(1, 640), torch.ones(1, 1).long(), torch.zeros(1, 5, 2).long()


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, ValueError, "got neither"),
        ({"semantic_tokens": TOKEN}, ValueError, "got semantic_tokens"),
        ({"input_values": WAVEFORM, "audio_codes": CODES}, ValueError, "got input_values, audio_codes"),
        ({"input_values": WAVEFORM * torch.nan}, ValueError, "NaN or infinite"),
        ({"input_values": WAVEFORM[0]}, ValueError, "input_values has shape"),
        ({"input_values": WAVEFORM, "attention_mask": WAVEFORM + 0.5}, ValueError, "neither 0 nor 1"),
        ({"semantic_tokens": [[1]], "audio_codes": CODES}, TypeError, "semantic_tokens is of type list"),
        ({"semantic_tokens": TOKEN.float(), "audio_codes": CODES}, TypeError, "give integers"),
        ({"semantic_tokens": TOKEN * 20, "audio_codes": CODES}, ValueError, "give 0 to 19"),
        ({"semantic_tokens": TOKEN, "audio_codes": CODES + 8}, ValueError, "give 0 to 7"),
        ({"semantic_tokens": TOKEN, "audio_codes": CODES[:, :4]}, ValueError, "with 5 codebooks or more"),
        ({"semantic_tokens": TOKEN.expand(2, 1), "audio_codes": CODES}, ValueError, "semantic_tokens has shape"),
        ({"semantic_tokens": TOKEN.expand(1, 9), "audio_codes": CODES}, ValueError, "Row 0 has 9 semantic tokens"),
        ({"input_values": WAVEFORM, "labels": CODES[..., :1]}, ValueError, "labels has shape"),
    ],
)
def test_bad_inputs_are_refused(tiny_audiolm, inputs, error, message):
    with pytest.raises(error, match=message):
        tiny_audiolm(**inputs)


def arguments(folder, **changes):
    options = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True}
    return TrainingArguments(str(folder), disable_tqdm=True, logging_steps=1, **options | {"max_steps": 4} | changes)


def test_trainer_trains_and_evaluates_the_whole(tmp_path):
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    data = [{"input_values": row} for row in 0.3 * torch.randn(4, 6400)]
    changes = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "load_best_model_at_end": True,
        "max_steps": 6,
    }
    trainer = Trainer(model, arguments(tmp_path, **changes), train_dataset=data, eval_dataset=data)
    first = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < first - 0.1
    changed = {
        name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == set(STAGES)
    loaded = AutoModel.from_pretrained(tmp_path / "checkpoint-6")
    assert loaded.stages.keys() == model.stages.keys()


def padded(rows):
    """Recordings of different lengths, as one batch."""
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_values": values, "attention_mask": (torch.arange(values.shape[1]) < lengths[:, None]).long()}


LENGTHS = (6400, 3000, 40000, 900)  # the third has several windows


@torch.no_grad()
def test_every_recording_has_the_same_weight(tiny_audiolm):
    rows = [0.3 * torch.randn(length) for length in LENGTHS]
    together, alone = tiny_audiolm(**padded(rows)), [tiny_audiolm(row[None]) for row in rows]
    for name in ("loss", *(f"{stage}_loss" for stage in STAGES)):
        assert float(together[name]) == pytest.approx(sum(float(each[name]) for each in alone) / len(rows), abs=1e-5)


def test_accumulated_batches_have_the_gradient_and_the_evaluation_of_one(tmp_path):
    rows = [0.3 * torch.randn(length) for length in LENGTHS]
    whole = tiny_model().train()
    whole(**padded(rows)).loss.backward()
    expected = {name: weight.grad for name, weight in whole.named_parameters() if weight.requires_grad}
    evaluated = []
    for size in (4, 2, 1):
        model = tiny_model()
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4 // size, "max_steps": 1}
        changes |= {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "per_device_eval_batch_size": size}
        options = arguments(tmp_path, save_strategy="no", **changes)
        trainer = Trainer(model, options, train_dataset=rows, eval_dataset=rows, data_collator=padded)
        evaluated.append(trainer.evaluate()["eval_loss"])
        trainer.train()
        for name, weight in model.named_parameters():
            if name in expected:
                torch.testing.assert_close(before[name] - weight.detach(), expected[name], atol=1e-5, rtol=1e-5)
    assert evaluated == pytest.approx([evaluated[0]] * 3, rel=1e-5)


def test_trainer_gives_metrics_the_logits_of_every_stage(tmp_path):
    data = [{"input_values": row} for row in 0.3 * torch.randn(3, 6400)]
    seen = []

    def compute_metrics(prediction):
        seen.extend(logits.shape for logits in prediction.predictions)
        return {}

    trainer = Trainer(tiny_model(), arguments(tmp_path), eval_dataset=data, compute_metrics=compute_metrics)
    assert trainer.evaluate()["eval_loss"] > 0
    assert seen == [(3, 12, 24), (3, 52, 40), (3, 102, 44)]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by PEFT
def test_peft_trains_the_whole(tmp_path, recording):
    model = get_peft_model(tiny_model(), LoraConfig(target_modules=["q_proj", "v_proj"]))
    data = [{"input_values": recording[0]} for _ in range(4)]
    trainer = Trainer(model, arguments(tmp_path), train_dataset=data)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    learned = {name.split(".")[2] for name, weight in model.named_parameters() if "lora_B" in name and weight.any()}
    assert learned == set(STAGES)
