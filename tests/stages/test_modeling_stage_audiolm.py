# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The stage models: their loss, and the distribution that they sample from."""

import pytest
import torch

from audiolm_hf.configuration_audiolm import AudioLMSemanticConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.token_layout_audiolm import SEMANTIC_LEVEL, build_stage_example, level_range, token_levels
from tests.conftest import randomise, tiny_stage_config
from tests.reference import greedy_tokens, mean_restricted_loss, places_beside_the_prediction

MODEL_CLASSES = [AudioLMSemanticModel, AudioLMCoarseModel, AudioLMFineModel]


@pytest.fixture(params=MODEL_CLASSES, ids=lambda cls: cls.config_class.stage)
def stage(request):
    torch.manual_seed(0)
    return randomise(request.param(request.param.config_class(**tiny_stage_config())))


def example_batch(config, rows=2):
    """Training sequences of crops of one length, as a batch."""
    examples = []
    for row in range(rows):
        generator = torch.Generator().manual_seed(row)
        tokens = torch.randint(0, 20, (4,), generator=generator)
        codes = torch.randint(0, 8, (5, 8), generator=generator)
        examples.append(build_stage_example(config, tokens, codes, ends_recording=True))
    return {name: torch.stack([example[name] for example in examples]) for name in ("input_ids", "labels")}


def test_loss_is_that_of_masked_full_logits(stage):
    batch = example_batch(stage.config)
    expected = mean_restricted_loss(stage, **batch)
    assert stage(**batch).loss.item() == pytest.approx(expected, rel=1e-5)


def test_training_and_validation_use_one_path(stage):
    batch = example_batch(stage.config)
    losses, correct = stage.token_losses(batch["input_ids"], None, batch["labels"])
    real = batch["labels"] != -100
    assert bool((losses[real] > 0).all())  # every label counts, the end token's among them
    assert bool((losses[~real] == 0).all())
    stage.train()  # the tiny backbone has no dropout
    assert stage(**batch).loss.item() == pytest.approx((losses.sum() / real.sum()).item(), rel=1e-5)
    assert not correct[~real].any()


def test_correctness_is_that_of_the_most_likely_id(stage):
    batch = example_batch(stage.config)
    logits = stage(batch["input_ids"]).logits
    _, correct = stage.token_losses(batch["input_ids"], None, batch["labels"])
    levels = token_levels(batch["labels"], stage.config)
    for row, position in (batch["labels"] != -100).nonzero().tolist():
        start, stop = level_range(stage.config, int(levels[row, position]))
        scores = logits[row, position - 1, start:stop].clone()
        if stage.config.stage == "semantic":
            scores[stage.config.bos_token_id] = -torch.inf
        assert bool(correct[row, position]) == (start + int(scores.argmax()) == int(batch["labels"][row, position]))


def test_padding_does_not_change_losses(stage):
    batch = example_batch(stage.config, rows=1)
    pad = torch.full((1, 3), stage.config.pad_token_id)
    ids, labels = torch.cat([batch["input_ids"], pad], 1), torch.cat([batch["labels"], torch.full((1, 3), -100)], 1)
    mask = torch.cat([torch.ones_like(batch["labels"]), torch.zeros(1, 3, dtype=torch.int64)], 1)
    padded, _ = stage.token_losses(ids, mask, labels)
    alone, _ = stage.token_losses(batch["input_ids"], None, batch["labels"])
    assert torch.allclose(padded[:, :-3], alone, atol=1e-5)


def test_num_items_in_batch_divides_the_sum(stage):
    batch = example_batch(stage.config)
    count = int((batch["labels"] != -100).sum())
    assert torch.allclose(stage(**batch, num_items_in_batch=2 * count).loss * 2, stage(**batch).loss)


def test_labels_may_come_already_shifted(stage):
    batch = example_batch(stage.config)
    shifted = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    unshifted = torch.full_like(shifted, -100)
    assert torch.equal(stage(batch["input_ids"], labels=unshifted, shift_labels=shifted).loss, stage(**batch).loss)


def test_logits_are_skipped_in_training_only(stage):
    batch = example_batch(stage.config)
    assert stage(**batch).logits is not None
    assert stage(**batch, skip_logits=True).logits is None
    stage.train()
    assert stage(**batch).logits is None
    assert stage(batch["input_ids"]).logits is not None


def test_labels_that_are_never_predicted_are_refused(stage):
    ids = torch.tensor([[0, stage.config.separator_token_id]])
    with pytest.raises(ValueError, match="never predicts"):
        stage(ids, labels=ids)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        *(
            ("attention_mask", torch.full((2, 5), value), ValueError, "neither 0 nor 1")
            for value in (0.5, -1, torch.nan)
        ),
        *(
            ("attention_mask", torch.ones(shape), ValueError, r"give 0 and 1 of shape \(2, 5\), as input_ids")
            for shape in ((2, 4), (3, 5))
        ),
        ("attention_mask", "no", TypeError, "is of type str"),
        ("labels", torch.ones(2, 4, dtype=torch.long), ValueError, r"labels has shape \(2, 4\)"),
        ("labels", torch.ones(2, 5), TypeError, "labels has dtype torch.float32; give integers"),
        ("input_ids", torch.ones(1, 2, 5, dtype=torch.long), ValueError, "give \\(batch, sequence_length\\)"),
        ("input_ids", torch.ones(2, 5), TypeError, "input_ids has dtype torch.float32; give integers"),
        ("input_ids", torch.full((2, 5), 10**6), ValueError, "input_ids has values from 1000000 to 1000000"),
        ("input_ids", [[1, 2]], TypeError, "input_ids is of type list"),
        ("position_ids", torch.full((2, 5), -1), ValueError, "position_ids has the value -1; positions begin at 0"),
    ],
)
def test_what_is_no_input_is_refused(stage, name, value, error, message):
    with pytest.raises(error, match=message):
        stage(**{"input_ids": torch.ones(2, 5, dtype=torch.long), name: value})


def test_level_logits_are_a_slice_of_the_head(stage):
    states = torch.randn(2, stage.config.hidden_size)
    for level in stage.config.predicted_levels:
        start, stop = level_range(stage.config, level)
        sliced, full = stage.level_logits(states, level), stage.lm_head(states)[:, start:stop]
        finite = sliced.isfinite()
        assert torch.allclose(sliced[finite], full[finite], atol=1e-6)
        assert int((~finite).sum()) == (2 if level == SEMANTIC_LEVEL else 0)


def test_a_replaced_head_is_used_whole(stage):
    states = torch.randn(2, stage.config.hidden_size)
    level = stage.config.predicted_levels[0]
    expected = stage.level_logits(states, level)
    stage.lm_head = torch.nn.Sequential(stage.lm_head)  # as an adapter wraps it
    assert torch.allclose(stage.level_logits(states, level), expected, atol=1e-6)


def test_one_step_changes_every_parameter(stage):
    before = {name: parameter.detach().clone() for name, parameter in stage.named_parameters()}
    optimizer = torch.optim.AdamW(stage.parameters(), lr=0.1)
    stage.train()(**example_batch(stage.config)).loss.backward()
    optimizer.step()
    assert [name for name, parameter in stage.named_parameters() if torch.equal(parameter, before[name])] == []


def test_eager_equals_sdpa(stage):
    batch = example_batch(stage.config)
    expected = stage(**batch)
    stage.set_attn_implementation("eager")
    assert stage.model.config._attn_implementation == "eager"
    assert torch.allclose(stage(**batch).logits, expected.logits, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_plain_generate_stays_in_its_levels(stage, options):
    context = example_batch(stage.config, rows=1)["input_ids"]
    end = 1 if stage.config.stage == "semantic" else int((context[0] == stage.config.separator_token_id).nonzero()) + 1
    context = context[:, :end]
    expected = greedy_tokens(stage, context[0].tolist(), 7)
    generated = stage.generate(context, max_new_tokens=7, do_sample=False, **options)
    assert generated[0, end:].tolist() == expected


def test_plain_generate_takes_turns_by_each_rows_last_token():
    torch.manual_seed(0)
    model = randomise(AudioLMCoarseModel(AudioLMCoarseModel.config_class(**tiny_stage_config())))
    config = model.config
    ids = torch.tensor(
        [
            [config.pad_token_id, config.bos_token_id, config.separator_token_id, 20],
            [config.bos_token_id, 1, 2, config.separator_token_id],
        ]
    )
    new = model.generate(ids, attention_mask=(ids != config.pad_token_id).long(), max_new_tokens=3, do_sample=False)
    levels = token_levels(new[:, 4:], config)
    assert levels.tolist() == [[1, 0, 1], [0, 1, 0]]
    later = model.generate(new, attention_mask=(new != config.pad_token_id).long(), max_new_tokens=2, do_sample=False)
    assert token_levels(later[:, 7:], config).tolist() == [[0, 1], [1, 0]]
    embeddings = model.get_input_embeddings()(ids[1:])
    assert token_levels(model.generate(inputs_embeds=embeddings, max_new_tokens=2), config).tolist() == [[0, 1]]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("model_class", [AudioLMCoarseModel, AudioLMFineModel])
def test_a_condition_side_by_side_is_the_same_decoder_at_other_positions(model_class, implementation):
    config = model_class.config_class(**tiny_stage_config(condition_stride=2.5, attn_implementation=implementation))
    beside = randomise(model_class(config))
    counted = model_class(model_class.config_class(**tiny_stage_config(attn_implementation=implementation))).eval()
    counted.load_state_dict(beside.state_dict())
    ids = example_batch(config)["input_ids"]
    places = torch.tensor([places_beside_the_prediction(row.tolist(), config) for row in ids])
    expected = counted(ids, torch.ones_like(ids), places).logits.detach()
    torch.testing.assert_close(beside(ids).logits, expected)
    assert (counted(ids).logits - expected).abs().max() > 1e-3  # the positions matter
    one = beside(ids[:1]).logits
    torch.testing.assert_close(one, expected[:1])  # a single row is not read as packed sequences


def test_attention_that_reads_steps_back_as_sequences_is_refused():
    model = AudioLMCoarseModel(AudioLMCoarseModel.config_class(**tiny_stage_config(condition_stride=4)))
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ValueError, match="flash_attention_2.*load a stage that has a condition_stride with"):
        model(torch.zeros(1, 3, dtype=torch.int64))


def test_saved_and_loaded_is_bit_equal(stage, tmp_path):
    stage.save_pretrained(tmp_path)
    loaded = type(stage).from_pretrained(tmp_path)
    for name, tensor in stage.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    batch = example_batch(stage.config)
    assert torch.equal(loaded(**batch).logits, stage(**batch).logits)


def test_head_is_tied_as_the_configuration_says():
    tied = AudioLMSemanticModel(AudioLMSemanticConfig(**tiny_stage_config()))
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    untied = AudioLMSemanticModel(AudioLMSemanticConfig(**tiny_stage_config(), tie_word_embeddings=False))
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
