# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The whole model: continuation, unconditional and acoustic generation, lengths, seeds, batches, errors."""

import copy

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from audiolm_hf.compat_audiolm import CHECKPOINTING
from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.loudness_audiolm import Loudness, soft_limit
from audiolm_hf.modeling_audiolm import AudioLMModel
from tests.conftest import randomise, tiny_config, tiny_stage_config
from tests.reference import greedy_continuation

LONG = {"continuation_length_s": 0.5, "min_continuation_length_s": 0.5, "seed": 0}


@pytest.fixture
def prompt():
    return 0.3 * torch.randn(1, 6500)  # ten semantic tokens and 100 samples


def as_trained(model, prompt):
    """A prompt `(1, num_samples)` at the loudness at which the model tokenizes it."""
    return Loudness.of(prompt[0], model.config.loudness_db, model.acoustic_codec.hop_length).normalize(prompt)


def test_output_is_prompt_and_exactly_the_seconds_asked_for(tiny_audiolm, prompt):
    for seconds in (0.5, 0.333, 1 / 16000):
        output = tiny_audiolm.generate(
            prompt, continuation_length_s=seconds, min_continuation_length_s=seconds, seed=0
        )
        length = round(seconds * 16000)
        assert output.prompt_lengths.tolist() == [6500]
        assert output.audio_lengths.tolist() == [6500 + length]
        assert output.audio_values.shape == (1, 6500 + length)
        assert torch.equal(output.audio_values[:, :6500], prompt)
    assert output.audio_values.isfinite().all()


def test_tokens_and_codes_are_those_of_the_end_of_the_prompt(tiny_audiolm, prompt):
    output = tiny_audiolm.generate(prompt, **LONG)
    seen = as_trained(tiny_audiolm, prompt[:, 100:])
    tokens = tiny_audiolm.semantic_tokenizer.tokenize(seen).semantic_tokens
    codes = tiny_audiolm.acoustic_codec.encode(seen)
    assert output.semantic_tokens.shape == (1, 10 + 13)  # 0.5 s are 12.5 tokens
    assert output.audio_codes.shape == (1, 5, 20 + 25)
    assert torch.equal(output.semantic_tokens[:, :10], tokens)
    assert torch.equal(output.audio_codes[:, :, :20], codes)


@pytest.mark.parametrize("seconds", [5, 600])
def test_a_long_prompt_is_seen_as_far_back_as_the_windows_look(tiny_audiolm, seconds):
    prompt = 0.3 * torch.randn(1, seconds * 16000)
    output = tiny_audiolm.generate(prompt, **LONG)
    seen = 2 * 16000 + 640  # the longest window and a unit of the grid
    assert output.prompt_lengths.tolist() == [seconds * 16000]
    assert torch.equal(output.audio_values[:, : prompt.shape[1]], prompt)
    assert output.semantic_tokens.shape == (1, 51 + 13)
    assert output.audio_codes.shape == (1, 5, 102 + 25)
    short = tiny_audiolm.generate(prompt[:, -seen:], **LONG)
    assert torch.equal(short.audio_codes, output.audio_codes)
    assert torch.equal(short.audio_values[:, seen:], output.audio_values[:, prompt.shape[1] :])


def test_greedy_continuation_equals_the_slow_loop(tiny_audiolm):
    prompt = 0.3 * torch.randn(1, 6 * 640)
    greedy = {f"{stage}_do_sample": False for stage in ("semantic", "coarse", "fine")}
    output = tiny_audiolm.generate(prompt, continuation_length_s=0.2, **greedy)
    seen = as_trained(tiny_audiolm, prompt)
    tokens = tiny_audiolm.semantic_tokenizer.tokenize(seen).semantic_tokens[0].tolist()
    codes = tiny_audiolm.acoustic_codec.encode(seen)[0].tolist()
    assert output.audio_codes[0].tolist() == greedy_continuation(tiny_audiolm, tokens, codes, 5)


def test_many_windows(tiny_audiolm, prompt):
    output = tiny_audiolm.generate(prompt, continuation_length_s=5.0, min_continuation_length_s=5.0, seed=0)
    assert output.audio_lengths.tolist() == [6500 + 5 * 16000]
    assert output.audio_values[0, -16000:].std() > 0


def test_seeds_reproduce_and_differ(tiny_audiolm, prompt):
    first, again = tiny_audiolm.generate(prompt, **LONG), tiny_audiolm.generate(prompt, **LONG)
    assert torch.equal(first.audio_values, again.audio_values)
    other = tiny_audiolm.generate(prompt, **{**LONG, "seed": 1})
    assert not torch.equal(first.audio_values, other.audio_values)


def test_without_a_seed_torchs_generator_decides(tiny_audiolm, prompt):
    unseeded = {name: value for name, value in LONG.items() if name != "seed"}
    outputs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        outputs.append(tiny_audiolm.generate(prompt, **unseeded).audio_values)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    generated = [
        tiny_audiolm.generate(prompt, **unseeded, generator=torch.Generator().manual_seed(3)).audio_values
        for _ in range(2)
    ]
    assert torch.equal(*generated)


def test_batched_equals_single_with_prompts_of_different_lengths(tiny_audiolm):
    recordings = [0.3 * torch.randn(length) for length in (6500, 2000, 9000)]
    batch = torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in recordings], batch_first=True)
    options = {"continuation_length_s": 0.5, "seed": 0, "num_return_sequences": 2}
    batched = tiny_audiolm.generate(batch, mask, **options)
    for index, recording in enumerate(recordings):
        single = tiny_audiolm.generate(recording[None], **options)
        rows = slice(2 * index, 2 * index + 2)
        assert torch.equal(batched.audio_lengths[rows], single.audio_lengths)
        length = single.audio_values.shape[1]
        assert torch.allclose(batched.audio_values[rows, :length], single.audio_values, atol=1e-5)
        assert (batched.audio_values[rows, length:] == 0).all()
        assert torch.equal(batched.prompt_lengths[rows], torch.full((2,), len(recording)))


def test_continuations_of_one_prompt_differ(tiny_audiolm, prompt):
    output = tiny_audiolm.generate(prompt, **LONG, num_return_sequences=3)
    assert output.audio_values.shape[0] == 3
    assert len({tuple(row.tolist()) for row in output.audio_codes.flatten(1)}) == 3
    first = tiny_audiolm.generate(prompt, **LONG)
    assert torch.equal(output.audio_values[:1], first.audio_values)


def test_unconditional(tiny_audiolm):
    output = tiny_audiolm.generate(batch_size=3, **LONG)
    assert output.prompt_lengths.tolist() == [0, 0, 0]
    assert output.audio_lengths.tolist() == [8000, 8000, 8000]
    assert len({tuple(row.tolist()) for row in output.audio_codes.flatten(1)}) == 3


def test_acoustic_generation_says_the_given_tokens(tiny_audiolm, prompt):
    tokens = torch.tensor([[1, 1, 2, 3], [4, 5, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    output = tiny_audiolm.generate(prompt.expand(2, -1), semantic_tokens=tokens, semantic_attention_mask=mask, seed=0)
    assert output.audio_lengths.tolist() == [6500 + 4 * 640, 6500 + 2 * 640]
    assert output.semantic_tokens[0, 10:].tolist() == [1, 1, 2, 3]
    assert output.semantic_attention_mask.sum(1).tolist() == [14, 12]
    assert output.codes_attention_mask.sum(1).tolist() == [28, 24]
    alone = tiny_audiolm.generate(semantic_tokens=tokens[:1], seed=0)
    assert alone.audio_lengths.tolist() == [4 * 640]


def end_at_once(model):
    """A copy whose semantic stage chooses the end token wherever it may."""
    copied = copy.deepcopy(model)
    end = copied.semantic.config.eos_token_id
    original = copied.semantic.level_logits

    def level_logits(states, level):
        logits = original(states, level)
        logits[..., end] = 1e4
        return logits

    copied.semantic.level_logits = level_logits
    return copied


def test_the_end_token_ends_a_row_but_not_before_its_least_length(tiny_audiolm, prompt):
    model = end_at_once(tiny_audiolm)
    output = model.generate(prompt, continuation_length_s=2.0, seed=0)
    assert output.audio_lengths.tolist() == [6500]
    assert torch.equal(output.audio_values, prompt)
    output = model.generate(prompt, continuation_length_s=2.0, min_continuation_length_s=0.4, seed=0)
    assert output.audio_lengths.tolist() == [6500 + 10 * 640]


def test_without_repeats_seconds_are_counted_by_mean_duration(prompt):
    stage = {"remove_repeats": True, "mean_semantic_duration": 1.6}
    config = tiny_config(
        semantic_config=tiny_stage_config(**stage), coarse_config=tiny_stage_config(**stage, window_length_s=1.0)
    )
    model = randomise(AudioLMModel(config))
    output = model.generate(prompt, continuation_length_s=2.0, min_continuation_length_s=2.0, seed=0)
    assert output.audio_lengths.tolist() == [6500 + 32000]
    assert output.semantic_tokens.shape[1] == 10 + 32  # 50 tokens' time / 1.6, rounded up
    spoken = model.generate(prompt, semantic_tokens=torch.tensor([[1, 1, 2]]), seed=0)
    assert spoken.audio_lengths.tolist() == [6500 + 3 * 640]  # given tokens include their repeats


def test_saved_and_loaded_is_bit_equal(tiny_audiolm, prompt, tmp_path):
    model = copy.deepcopy(tiny_audiolm)
    model.generation_config.semantic_top_k = 7
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    loaded = AudioLMModel.from_pretrained(tmp_path)
    assert loaded.generation_config.semantic_top_k == 7
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(loaded.generate(prompt, **LONG).audio_values, model.generate(prompt, **LONG).audio_values)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_way_of_attention_reaches_the_parts_and_changes_nothing(tiny_audiolm, prompt, tmp_path, implementation):
    tiny_audiolm.save_pretrained(tmp_path)
    loaded = AudioLMModel.from_pretrained(tmp_path, attn_implementation=implementation)
    for stage in loaded.stages.values():
        assert stage.model.config._attn_implementation == implementation
    output, usual = loaded.generate(prompt, **LONG), tiny_audiolm.generate(prompt, **LONG)
    assert torch.equal(output.audio_codes, usual.audio_codes)
    assert torch.allclose(output.audio_values, usual.audio_values, atol=1e-5)


def test_gradient_checkpointing_reaches_the_stages(tiny_audiolm):
    model = copy.deepcopy(tiny_audiolm)
    getattr(model, f"{CHECKPOINTING}_enable")()
    assert all(getattr(stage, f"is_{CHECKPOINTING}") for stage in model.stages.values())
    getattr(model, f"{CHECKPOINTING}_disable")()
    assert not any(getattr(stage, f"is_{CHECKPOINTING}") for stage in model.stages.values())


def test_pipelines_find_what_goes_in_and_what_comes_out(tiny_audiolm):
    assert tiny_audiolm.main_input_name == "input_values"
    assert "audio" in tiny_audiolm.input_modalities and tiny_audiolm.output_modalities == ("audio",)
    assert tiny_audiolm.can_generate() and tiny_audiolm.generation_config_class is type(tiny_audiolm.generation_config)


def test_parts_make_the_same_model(tiny_audiolm, prompt):
    parts = ("semantic_tokenizer", "codec", "semantic", "coarse", "fine")
    model = AudioLMModel.from_parts(**{name: tiny_audiolm.get_submodule(name) for name in parts})
    assert torch.equal(model.generate(prompt, **LONG).audio_values, tiny_audiolm.generate(prompt, **LONG).audio_values)


def test_options_reach_their_stage(tiny_audiolm, prompt):
    usual = tiny_audiolm.generate(prompt, **LONG)
    semantic, coarse, fine = (
        tiny_audiolm.generate(prompt, **LONG, **{f"{stage}_top_k": 1}) for stage in ("semantic", "coarse", "fine")
    )
    assert not torch.equal(semantic.semantic_tokens, usual.semantic_tokens)
    assert torch.equal(coarse.semantic_tokens, usual.semantic_tokens)
    assert not torch.equal(coarse.audio_codes[:, :2], usual.audio_codes[:, :2])
    assert torch.equal(fine.audio_codes[:, :2], usual.audio_codes[:, :2])
    assert not torch.equal(fine.audio_codes[:, 2:], usual.audio_codes[:, 2:])


def test_progress_reports_every_stage_to_its_end(tiny_audiolm, prompt):
    calls = []
    tiny_audiolm.generate(prompt, **LONG, progress=lambda *call: calls.append(call))
    last = {stage: (done, total) for stage, done, total in calls}
    assert list(last) == ["semantic", "coarse", "fine"]
    assert last == {"semantic": (13, 13), "coarse": (50, 50), "fine": (75, 75)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_values": torch.zeros(1, 0)}, ValueError, "none of them 0"),
        ({"input_values": torch.zeros(6400)}, ValueError, "input_values has shape"),
        ({"input_values": torch.zeros(1, 639)}, ValueError, r"Prompt 0 has 639 samples \(0.040 s\)"),
        ({"input_values": torch.full((1, 6400), torch.nan)}, ValueError, "NaN or infinite"),
        ({"input_values": torch.zeros(1, 6400, dtype=torch.int64)}, TypeError, "give floats"),
        (
            {"input_values": torch.zeros(1, 640), "attention_mask": torch.ones(1, 3)},
            ValueError,
            "give that of its input",
        ),
        ({"input_values": torch.zeros(1, 640), "attention_mask": torch.arange(640)[None]}, ValueError, "0 nor 1"),
        (
            {"input_values": torch.zeros(1, 2), "attention_mask": torch.tensor([[0, 1]])},
            ValueError,
            "zeros before ones",
        ),
        ({"semantic_tokens": torch.zeros(1, 0, dtype=torch.int64)}, ValueError, "none of them 0"),
        ({"input_values": torch.zeros(1, 640), "batch_size": 2}, ValueError, "leave batch_size out"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"num_return_sequences": 0}, ValueError, "num_return_sequences is 0"),
        ({"continuation_length_s": -1.0}, ValueError, "continuation_length_s is -1.0"),
        ({"continuation_length_s": 1.0, "min_continuation_length_s": 2.0}, ValueError, "is 2.0, above"),
        ({"semantic_temprature": 1.0}, ValueError, "did you mean 'semantic_temperature'"),
        ({"fine_guidance_scale": 2.0}, ValueError, "no option 'fine_guidance_scale'"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": 1, "generator": torch.Generator()}, ValueError, "give one of them"),
        ({"semantic_tokens": torch.tensor([[20]])}, ValueError, "give 0 to 19"),
        ({"semantic_tokens": torch.tensor([[0.5]])}, TypeError, "give integers"),
        ({"semantic_tokens": torch.tensor([[1]]), "continuation_length_s": 1.0}, ValueError, "set the length"),
        (
            {"semantic_tokens": torch.tensor([[1], [2]]), "input_values": torch.zeros(1, 640)},
            ValueError,
            "1 prompts and 2 rows",
        ),
    ],
)
def test_bad_arguments_are_refused(tiny_audiolm, arguments, error, message):
    with pytest.raises(error, match=message):
        tiny_audiolm.generate(**arguments)


def test_parts_that_disagree_are_refused():
    layout = tiny_stage_config(num_fine_codebooks=4)
    stages = {f"{name}_config": dict(layout) for name in ("semantic", "coarse", "fine")}
    with pytest.raises(ValueError, match="codec has 5 codebooks and the stages model 6"):
        AudioLMModel(tiny_config(**stages))
    with pytest.raises(ValueError, match="remove_repeats is True and coarse_config"):
        AudioLMModel(tiny_config(semantic_config=tiny_stage_config(remove_repeats=True)))
    with pytest.raises(StrictDataclassClassValidationError, match="must agree"):
        tiny_config(fine_config=tiny_stage_config(codebook_size=9))


def test_configuration_round_trip(tiny_audiolm):
    again = AudioLMConfig.from_dict(tiny_audiolm.config.to_dict())
    assert again.to_dict() == tiny_audiolm.config.to_dict()


def test_without_the_fine_stage_the_coarse_codes_are_decoded(tiny_audiolm, prompt):
    stages = []
    complete = tiny_audiolm.generate(prompt, continuation_length_s=0.2, seed=0)
    output = tiny_audiolm.generate(
        prompt,
        continuation_length_s=0.2,
        seed=0,
        use_fine_stage=False,
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert set(stages) == {"semantic", "coarse"}
    levels = tiny_audiolm.config.coarse_config.num_coarse_codebooks
    assert torch.equal(output.audio_codes, complete.audio_codes[:, :levels])
    assert output.audio_values.shape == complete.audio_values.shape
    decoded = tiny_audiolm.acoustic_codec.decode(output.audio_codes)[0]
    start = 2 * tiny_audiolm.acoustic_codec.hop_length  # past the cross-fade; the stages do not see 100 samples
    found = output.audio_values[0, 6500 + start :]
    loudness = Loudness.of(prompt[0, 100:], tiny_audiolm.config.loudness_db, 320)
    expected = loudness.calibrated(loudness.normalize(prompt[0, 100:]), decoded[:6400], 320).restore(decoded)
    assert torch.allclose(found, soft_limit(expected)[6400 + start :][: len(found)], atol=1e-5)
