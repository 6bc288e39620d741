# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The parallel stage: its rows of ids, its masks in training, its model and its losses."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, Trainer, TrainingArguments
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from audiolm_hf import AudioLMParallelConfig, AudioLMParallelModel, AudioLMStageCollator, build_stage_example
from audiolm_hf.token_layout_audiolm import frame_rows, hide_codes, pad_examples
from tests.conftest import TINY_LAYOUT, randomise
from tests.helpers_parallel import ENCODER, masked_rows, parallel_config, parallel_example, parallel_stage
from tests.reference import frame_logits, hidden_rows
from tests.stages.test_backbone_audiolm import small_backbone


def rows_of(tokens, starts, codes, num_frames, config):
    tokens, starts = torch.tensor(tokens, dtype=torch.int64), torch.tensor(starts, dtype=torch.float64)
    return frame_rows(tokens, starts, torch.tensor(codes), num_frames, config)


def test_a_row_has_the_token_of_its_time_and_a_code_or_mask_of_every_level():
    config = parallel_config()
    codes = [[1, 2], [3, 4], [5, 6], [7, 0], [1, 2]]
    rows = rows_of([9, 4], [1, 3], codes, 4, config)
    masks = [*range(20 + 40, 20 + 40 + 5)]
    assert [*config.mask_token_ids] == masks
    assert config.vocab_size == 20 + 5 * 8 + 5 + 4
    assert rows.tolist() == [
        [config.absent_token_id, 21, 31, 41, 51, 53],
        [9, 22, 32, 42, 44, 54],
        [9, *masks],
        [4, *masks],
    ]


def test_several_tokens_of_a_frame_are_averaged():
    config = parallel_config(condition_stride=5 * 0.5)  # 25 tokens a second beside 12.5 frames
    assert (config.frames_per_token, config.tokens_per_frame) == (Fraction(1, 2), 2)
    rows = rows_of([3, 8, 11], [0, 0, 1], [[0] * 2] * 5, 3, config)
    absent = config.absent_token_id
    assert rows[:, :2].tolist() == [[3, 8], [11, absent], [11, absent]]
    nothing = rows_of([], [], [[0] * 2] * 5, 2, config)
    assert nothing[:, :2].tolist() == [[absent, absent]] * 2
    model = randomise(AudioLMParallelModel(config))
    table = model.get_input_embeddings().weight
    codes = table[rows[0, 2:]].sum(0)
    torch.testing.assert_close(model.embed(rows[None])[0, 0], (table[3] + table[8]) / 2 + codes)
    torch.testing.assert_close(model.embed(rows[None])[0, 1], table[11] + table[rows[1, 2:]].sum(0))
    torch.testing.assert_close(model.embed(nothing[None])[0, 0], table[absent] + table[nothing[0, 2:]].sum(0))


@pytest.mark.parametrize(
    ("stride", "starts"), [(10, [0, 0, 1, 1, 2, 2]), (2.5, [1, 3, 5]), (5 * 86.1328125 / 25, None)]
)
def test_examples_place_tokens_at_their_frames(stride, starts):
    config = parallel_config(condition_stride=stride)
    tokens = torch.arange(6) if stride != 5 * 86.1328125 / 25 else torch.arange(4)
    frames = {10: 6, 2.5: 3}.get(stride, 13)
    rows = build_stage_example(config, tokens, torch.zeros(5, frames, dtype=torch.int64))["input_ids"]
    last = [max(i for i in row[: config.tokens_per_frame] if i != config.absent_token_id) for row in rows.tolist()]
    assert last == (starts or [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3])  # 3.445 frames each


@pytest.mark.parametrize("level", [None, 0, 4])
def test_masks_equal_those_of_the_slow_loop(level):
    config = parallel_config()
    for seed in range(50):
        example = parallel_example(config, 7, seed)
        found = hide_codes(example, config, np.random.default_rng(seed), level)
        expected = hidden_rows(example["input_ids"].tolist(), config, np.random.default_rng(seed), level)
        assert (found["input_ids"].tolist(), found["labels"].tolist()) == expected


def test_masks_have_the_distribution_of_the_paper():
    config, frames, rng = parallel_config(), 40, np.random.default_rng(0)
    example = parallel_example(config, frames)
    levels, starts, shares = [], [], []
    for _ in range(4000):
        hidden = hide_codes(example, config, rng)
        levels.append(int((hidden["labels"] >= 0).any(0).nonzero()[0]) - 1)
        if levels[-1] < 4:  # the levels above tell where the prompt ends
            starts.append(int((hidden["input_ids"][:, 5] == config.mask_token_ids[4]).int().argmax()))
            if starts[-1] < 10:
                shares.append(int((hidden["labels"] >= 0).sum()) / (frames - starts[-1]))
    assert np.bincount(levels) / 4000 == pytest.approx([0.2] * 5, abs=0.03)
    assert np.mean(starts) == pytest.approx((frames - 1) / 2, abs=1)
    assert np.mean(shares) == pytest.approx(2 / math.pi, abs=0.03)  # of cos(u), u uniform in [0, pi / 2]


def test_semantic_tokens_and_the_codes_below_stay():
    config = parallel_config()
    example = parallel_example(config, 30)
    hidden = hide_codes(example, config, np.random.default_rng(1), 2)
    assert torch.equal(hidden["input_ids"][:, :3], example["input_ids"][:, :3])
    assert bool((hidden["labels"] >= 0).sum() == (hidden["labels"][:, 3] >= 0).sum() > 0)


@pytest.fixture(scope="module")
def stage():
    return parallel_stage()


def batch_of(config, lengths=(9, 5, 12), seed=0):
    rng = np.random.default_rng(seed)
    return pad_examples([hide_codes(parallel_example(config, n, n), config, rng) for n in lengths], config)


def test_every_frame_is_seen_from_both_sides_and_padding_is_not(stage):
    batch = batch_of(stage.config)
    with torch.no_grad():
        whole = stage(batch["input_ids"], batch["attention_mask"]).logits
        for row, length in enumerate((9, 5, 12)):
            single = stage(batch["input_ids"][row : row + 1, :length]).logits
            torch.testing.assert_close(whole[row : row + 1, :length], single, atol=1e-4, rtol=1e-4)
        for place in (0, 11):
            changed = batch["input_ids"].clone()
            changed[2, place, 0] = (changed[2, place, 0] + 1) % 20
            assert bool((stage(changed, batch["attention_mask"]).logits[2] != whole[2]).any(-1).all())


def test_the_loss_is_that_of_the_masked_codes_among_their_level(stage):
    batch = batch_of(stage.config)
    with torch.no_grad():
        outputs = stage(**batch)
        losses, correct = stage.token_losses(**batch)
    expected = []
    for row, frame, column in (batch["labels"] >= 0).nonzero().tolist():
        first = 20 + (column - 1) * 8
        scores = outputs.logits[row, frame, first : first + 8].log_softmax(-1)
        target = int(batch["labels"][row, frame, column]) - first
        expected.append(-float(scores[target]))
        assert float(losses[row, frame, column]) == pytest.approx(expected[-1], abs=1e-4)
        assert bool(correct[row, frame, column]) == (int(scores.argmax()) == target)
    assert float(outputs.loss) == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert int((losses != 0).sum()) == len(expected)


def test_the_loss_can_be_divided_row_by_row(stage):
    batch = batch_of(stage.config)
    counts = torch.tensor([3.0, 7.0, 11.0])
    losses, _ = stage.token_losses(**batch)
    expected = (losses.flatten(1).sum(1) / counts).sum()
    torch.testing.assert_close(stage(**batch, num_items_in_batch=counts).loss, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_back(stage, dtype, tmp_path):
    stage.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    assert type(loaded) is AudioLMParallelModel and loaded.dtype == dtype
    batch = batch_of(stage.config)
    with torch.no_grad():
        logits = loaded(batch["input_ids"], batch["attention_mask"]).logits
        expected = stage(batch["input_ids"], batch["attention_mask"]).logits
    assert logits.dtype == dtype
    assert float((logits.float() - expected).abs().mean() / expected.abs().mean()) < 0.05
    again = AutoModel.from_pretrained(tmp_path)
    assert all(torch.equal(value, stage.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="transformers' masks need torch 2.7")
def test_compiled_equals_eager(stage):
    batch = batch_of(stage.config)
    compiled = torch.compile(stage, backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        found = compiled(batch["input_ids"], batch["attention_mask"]).logits
        torch.testing.assert_close(found, stage(batch["input_ids"], batch["attention_mask"]).logits)


def test_the_collator_masks_anew_from_its_seed():
    config = parallel_config()
    examples = [parallel_example(config, n, n) for n in (5, 8)]
    first, second = AudioLMStageCollator(config, seed=3), AudioLMStageCollator(config, seed=3)
    batches = [first(examples), first(examples)]
    assert batches[0]["input_ids"].shape == (2, 8, 6)
    assert not torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    for batch in batches:
        assert all(torch.equal(batch[name], value) for name, value in second(examples).items())
    with pytest.raises(ValueError, match=r"Example 0 has input_ids and labels of the shapes \(6,\)"):
        first([{name: value[0] for name, value in examples[0].items()}])


def test_a_plain_trainer_trains_it(tmp_path):
    config = parallel_config()
    model = AudioLMParallelModel(config)
    examples = [parallel_example(config, 6, n) for n in range(4)]
    arguments = TrainingArguments(str(tmp_path), max_steps=3, report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model, arguments, train_dataset=examples, data_collator=AudioLMStageCollator(config))
    before = [parameter.clone() for parameter in model.parameters()]
    assert math.isfinite(trainer.train().training_loss)
    assert all(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


REFUSED = {
    "bart": "has a decoder",
    "clip": "composed of several models",
    "gpt2": "does not look in both directions",
    "llama": "does not look in both directions",
    "nystromformer": "does not attend to all frames and to nothing else",
    "openai-gpt": "does not look in both directions",
    "wav2vec2": "does not take inputs_embeds",
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_is_no_encoder_is_refused_with_the_reason(family):
    with pytest.raises(StrictDataclassError, match=f"model_type '{family}', which .*{REFUSED[family]}.*such as EuroB"):
        AudioLMParallelConfig(backbone_config={"model_type": family}, **TINY_LAYOUT)


def test_a_decoder_of_a_family_of_encoders_is_refused():
    with pytest.raises(StrictDataclassError, match="does not look in both directions"):
        AudioLMParallelConfig(backbone_config={"model_type": "bert", "is_decoder": True}, **TINY_LAYOUT)


def encoder_backbone(family):
    sizes = small_backbone(family)
    if family == "funnel":  # which has blocks of layers
        del sizes["num_hidden_layers"]
    return sizes | {"is_decoder": False} if "is_decoder" in sizes else sizes


@pytest.mark.parametrize("family", ["bert", "modernbert", "roberta"])
def test_other_encoders_work(family):
    check_encoder(family)


def check_encoder(family):
    torch.manual_seed(0)
    model = randomise(
        AudioLMParallelModel(AudioLMParallelConfig(backbone_config=encoder_backbone(family), **TINY_LAYOUT))
    )
    test_every_frame_is_seen_from_both_sides_and_padding_is_not(model)
    model.train()(**batch_of(model.config)).loss.backward()


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(MODEL_FOR_MASKED_LM_MAPPING_NAMES))
def test_every_encoder_of_transformers_works_or_is_refused(family):
    try:
        AudioLMParallelConfig(backbone_config=encoder_backbone(family), **TINY_LAYOUT)
    except (StrictDataclassError, ValueError) as error:
        reason = str(error)
    else:
        reason = ""
        check_encoder(family)
    assert not reason or "backbone_config" in reason, reason


def test_its_configuration_is_saved_and_refuses_what_makes_no_sense(tmp_path):
    config = parallel_config(condition_stride=7.5)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.frames_per_token == Fraction(3, 2)
    assert parallel_config().frames_per_token == 2
    with pytest.raises(StrictDataclassError, match="remove_repeats is True, but the tokens need times"):
        parallel_config(remove_repeats=True)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, ValueError, "Pass input_ids or inputs_embeds"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.int64)}, ValueError, r"give \(batch, frames, 6\)"),
        ({"input_ids": torch.zeros(1, 4, 5, dtype=torch.int64)}, ValueError, r"shape \(1, 4, 5\); give \(1, 4, 6\)"),
        ({"input_ids": torch.full((1, 4, 6), 999)}, ValueError, "give 0 to 68"),
        ({"input_ids": torch.zeros(1, 4, 6).bool()}, TypeError, "dtype torch.bool"),
        (
            {"input_ids": torch.zeros(1, 4, 6).long(), "attention_mask": torch.ones(1, 5)},
            ValueError,
            r"shape \(1, 5\); give 0 and 1 of shape \(1, 4\)",
        ),
        (
            {"input_ids": torch.zeros(1, 4, 6).long(), "labels": torch.zeros(1, 4).long()},
            ValueError,
            r"labels has shape \(1, 4\); give \(1, 4, 6\)",
        ),
        (
            {"input_ids": torch.zeros(1, 4, 6).long(), "labels": torch.full((1, 4, 6), 66)},
            ValueError,
            "labels contain 24 ids that the parallel stage never predicts",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_one_clear_error(stage, changes, error, message):
    with pytest.raises(error, match=message):
        stage(**changes)


def test_the_default_encoder_is_a_bidirectional_llama_with_rotary_positions():
    assert AudioLMParallelConfig().backbone_config.model_type == ENCODER["model_type"] == "eurobert"


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_known_frames_attend_to_each_other_alone(implementation):
    stage = parallel_stage(prefix_attention=True)
    stage.set_attn_implementation(implementation)
    rows = torch.stack([masked_rows(stage.config, 9, 4), masked_rows(stage.config, 9, 0)])
    mask = torch.ones(2, 9).long()
    mask[1, 6:] = 0
    logits = stage(rows, mask).logits
    torch.testing.assert_close(logits[0], frame_logits(stage, rows[0], 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[1, :6], frame_logits(stage, rows[1, :6], 0), atol=1e-4, rtol=0)
    changed = rows.clone()
    changed[0, 6, 0] = (rows[0, 6, 0] + 1) % stage.config.num_semantic_tokens
    difference = (stage(changed, mask).logits - logits)[0].abs().amax(-1)
    assert difference[:4].max() == 0 and (difference[4:] > 1e-4).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("embeddings", "pass input_ids"),
        ("flex_attention", 'load a stage with prefix_attention with "sdpa" or "eager"'),
    ],
)
def test_prefix_attention_needs_ids_and_a_mask_for_each_frame(given, message):
    stage = parallel_stage(prefix_attention=True)
    rows = masked_rows(stage.config, 5, 2)[None]
    if given == "embeddings":
        with pytest.raises(ValueError, match=message):
            stage(inputs_embeds=stage.embed(rows))
        return
    stage.model.set_attn_implementation(given)
    for call in (stage, lambda ids: stage.encode(ids, None, ids[..., 1] < 60)):
        with pytest.raises(ValueError, match=message):
            call(rows)


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="transformers' masks need torch 2.7")
def test_the_whole_forward_with_prefix_attention_is_compiled():
    stage = parallel_stage(prefix_attention=True)
    rows = masked_rows(stage.config, 9, 4)[None]
    compiled = torch.compile(stage.forward, backend="eager", fullgraph=True)
    assert torch.equal(compiled(rows).logits, stage(rows).logits)


def test_prefix_attention_is_for_an_encoder_whose_layers_are_alike():
    with pytest.raises(StrictDataclassError, match="prefix_attention is True, but .* 'modernbert'.* use 'eurobert'"):
        parallel_config(prefix_attention=True, backbone_config=small_backbone("modernbert"))
