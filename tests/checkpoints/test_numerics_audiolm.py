# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Tokens, codes and samples depend neither on dtypes nor on autocast, the mode of the model or torch's defaults."""

import copy
import json
import threading
from contextlib import contextmanager

import pytest
import torch
from transformers import AutoModel, pipeline

import audiolm_hf
from audiolm_hf.acoustic_codec_audiolm import build_acoustic_codec
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.residual_quantizer_audiolm import ResidualVectorQuantizer
from tests.conftest import randomise, tiny_config
from tests.helpers_checkpoint import tiny_model, tiny_processor
from tests.tokenizers.test_acoustic_codec_audiolm import CONFIGS

OTHER_DTYPES = [torch.bfloat16, torch.float16, torch.float64]
SHORT = {"continuation_length_s": 0.2, "min_continuation_length_s": 0.2, "seed": 0}


@pytest.fixture
def prompt():
    return 0.3 * torch.randn(1, 6400)


@pytest.fixture(scope="module", params=audiolm_hf.list_checkpoints())
def bundled(request):
    """A bundled checkpoint: its folder, prompt, and the prompt's tokens and codes in float32."""
    folder = audiolm_hf.checkpoint(request.param)
    processor = audiolm_hf.AudioLMProcessor.from_pretrained(folder)
    inputs = processor(audiolm_hf.example_prompt(request.param))
    model = AudioLMModel.from_pretrained(folder)
    return folder, inputs, model.generate(**inputs, **SHORT), model


def prompt_part(output, like):
    """Tokens and codes of the prompt: 25 and 50 of a second."""
    tokens = int(like.prompt_lengths[0]) // 640
    return output.semantic_tokens[:, :tokens], output.audio_codes[:, :, : 2 * tokens]


def assert_prompt_read_alike(output, like):
    assert output.audio_values.isfinite().all() and output.audio_values[0, -3200:].std() > 0
    for found, expected in zip(prompt_part(output, like), prompt_part(like, like), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_bundled_checkpoints_load_in_any_dtype_with_the_codes_of_float32(bundled, dtype):
    folder, inputs, expected, _ = bundled
    model = AudioLMModel.from_pretrained(folder, dtype=dtype)
    assert model.dtype == model.semantic.dtype == model.coarse.dtype == dtype
    assert_prompt_read_alike(model.generate(**inputs, **SHORT), expected)


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.bfloat16, torch.nn.Module.double])
def test_bundled_checkpoints_are_converted_with_the_codes_of_float32(bundled, convert):
    _, inputs, expected, model = bundled
    assert_prompt_read_alike(convert(copy.deepcopy(model)).generate(**inputs, **SHORT), expected)


def test_the_pipeline_takes_half_precision(bundled):
    folder, _, _, _ = bundled
    pipe = pipeline("audio-continuation", model=folder, dtype=torch.bfloat16)
    result = pipe(audiolm_hf.example_prompt(folder), return_full_audio=False, **SHORT)
    assert result["audio"].shape == (3200,) and abs(result["audio"]).max() > 0


def test_an_exported_checkpoint_takes_half_precision_and_is_saved_in_it(tiny_audiolm, prompt, tmp_path):
    expected = tiny_audiolm.generate(prompt, **SHORT)
    tiny_audiolm.save_pretrained(tmp_path / "float32")
    model = AutoModel.from_pretrained(tmp_path / "float32", dtype=torch.float16)
    model.save_pretrained(tmp_path / "float16")
    assert json.loads((tmp_path / "float16" / "config.json").read_text())["dtype"] == "float16"
    again = AutoModel.from_pretrained(tmp_path / "float16")
    assert again.semantic.dtype == torch.float16
    for part in ("semantic_tokenizer", "codec"):
        for name, tensor in tiny_audiolm.get_submodule(part).state_dict().items():
            loaded = again.get_submodule(part).state_dict()[name]
            assert loaded.dtype == tensor.dtype and torch.equal(loaded, tensor), name
    assert torch.equal(again.generate(prompt, **SHORT).audio_codes[:, :, :20], expected.audio_codes[:, :, :20])


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_codec_stays_in_float32_inside_the_model(kind):
    model = AudioLMModel(tiny_config())
    model.codec = build_acoustic_codec(CONFIGS[kind]()).model
    before = {name: tensor.clone() for name, tensor in model.codec.state_dict().items()}
    model.to(torch.bfloat16).half().double()
    assert model.coarse.dtype == torch.float64
    for name, tensor in model.codec.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_tokenizer_and_codec_alone_stay_in_float32(tiny_audiolm, tmp_path, dtype):
    for part, kind in (("codec", SoundStreamModel), ("semantic_tokenizer", AudioLMSemanticTokenizer)):
        module = copy.deepcopy(tiny_audiolm.get_submodule(part))
        expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        module.save_pretrained(tmp_path / part)
        for found in (module.to(dtype), kind.from_pretrained(tmp_path / part, dtype=dtype)):
            for name, tensor in found.state_dict().items():
                assert torch.equal(tensor, expected[name]), name
    quantizer = ResidualVectorQuantizer(tiny_audiolm.codec.config).to(dtype)
    assert all(tensor.dtype in (torch.float32, torch.bool) for tensor in quantizer.state_dict().values())


def test_conversion_still_moves():
    codec = SoundStreamModel(tiny_config().codec_config).to("meta", torch.bfloat16)
    assert {tensor.device.type for tensor in codec.state_dict().values()} == {"meta"}
    assert codec.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_code_token_or_sample(tiny_audiolm, prompt, dtype):
    def results():
        codes = tiny_audiolm.codec.encode(prompt).audio_codes
        return [
            codes,
            tiny_audiolm.acoustic_codec.encode(prompt),
            tiny_audiolm.codec(prompt).audio_values,
            tiny_audiolm.codec.decode(codes).audio_values,
            tiny_audiolm.acoustic_codec.decode(codes),
            tiny_audiolm.codec.quantizer.decode(codes)[0],
            tiny_audiolm.semantic_tokenizer.tokenize(prompt).semantic_tokens,
            tiny_audiolm.semantic_tokenizer.extract_features(prompt)[0],
            tiny_audiolm.generate(prompt, **SHORT).audio_values,
        ]

    expected = results()
    with torch.autocast("cpu", dtype):
        found = results()
    for index, pair in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(*pair), index


@pytest.mark.parametrize("kind", CONFIGS)
def test_autocast_changes_no_code_of_any_codec(kind):
    codec = build_acoustic_codec(CONFIGS[kind]())
    for name, buffer in codec.model.named_buffers():
        if name.endswith(("embed", "embed_sum", "codebook")):
            buffer.normal_()
    codec.model.eval()
    audio = 0.1 * torch.randn(1, 8 * codec.hop_length)
    codes = codec.encode(audio)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codec.encode(audio), codes)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("gradients", [True, False])
def test_encoding_in_training_mode_changes_neither_weights_nor_codes(kind, gradients):
    codec = build_acoustic_codec(CONFIGS[kind]())
    audio = 0.1 * torch.randn(1, 8 * codec.hop_length)
    codes = codec.model.eval() and codec.encode(audio)
    before = copy.deepcopy(codec.model.train().state_dict())
    with torch.set_grad_enabled(gradients):
        for _ in range(3):
            found = codec.encode(audio)
    assert torch.equal(found, codes)
    assert codec.model.training
    for name, tensor in codec.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_only_a_training_step_moves_codebooks(tiny_audiolm):
    codec = copy.deepcopy(tiny_audiolm.codec).train()
    audio = 0.3 * torch.randn(1, 6400)

    def moved(step):
        before = copy.deepcopy(codec.state_dict())
        step()
        return any(not torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())

    assert not moved(lambda: codec.encode(audio))
    with torch.no_grad():
        assert not moved(lambda: codec(audio))
    with torch.inference_mode():
        assert not moved(lambda: codec(audio))
    assert not moved(lambda: codec.eval()(audio))
    assert moved(lambda: codec.train()(audio))


def test_generation_of_a_model_in_training_mode_is_that_of_evaluation(prompt):
    backbone = {"attention_dropout": 0.5}
    config = tiny_config()
    for stage in config.stage_configs.values():
        stage.backbone_config.update(backbone)
    model = randomise(AudioLMModel(config))
    expected = model.generate(prompt, **SHORT)
    model.train()
    model.fine.eval()
    before = copy.deepcopy(model.state_dict())
    assert torch.equal(model.generate(prompt, **SHORT).audio_values, expected.audio_values)
    assert model.training and model.coarse.model.training
    assert not (model.fine.training or model.semantic_tokenizer.training or model.codec.training)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "device": lambda: torch.device("meta"),  # as torch.set_default_device does
    "inference": torch.inference_mode,
    "gradients": torch.enable_grad,
    "deterministic": deterministic,
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_torchs_settings_have_no_influence(tiny_audiolm, prompt, tmp_path, surroundings):
    tiny_audiolm.save_pretrained(tmp_path)
    expected = tiny_audiolm.generate(prompt, **SHORT, num_return_sequences=2)
    codes = tiny_audiolm.codec.encode(prompt).audio_codes
    decoded = tiny_audiolm.codec.decode(codes).audio_values
    with SURROUNDINGS[surroundings]():
        found = tiny_audiolm.generate(prompt, **SHORT, num_return_sequences=2)
        assert torch.equal(tiny_audiolm.codec.encode(prompt).audio_codes, codes)
        assert torch.equal(tiny_audiolm.codec.decode(codes).audio_values, decoded)
        if surroundings != "device":  # where weights lie is then for transformers to say
            loaded = AudioLMModel.from_pretrained(tmp_path)
            assert torch.equal(loaded.generate(prompt, **SHORT).audio_values, expected.audio_values[:1])
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_torchs_settings_have_no_influence_on_any_codec(kind, surroundings):
    codec = build_acoustic_codec(CONFIGS[kind]())
    codec.model.eval()
    audio = 0.1 * torch.randn(1, 8 * codec.hop_length)
    codes = codec.encode(audio)
    decoded = codec.decode(codes)
    with SURROUNDINGS[surroundings]():
        assert torch.equal(codec.encode(audio), codes)
        assert torch.equal(codec.decode(codes), decoded)


def test_a_global_generator_is_neither_used_nor_moved_with_a_seed(tiny_audiolm, prompt):
    torch.manual_seed(3)
    expected = tiny_audiolm.generate(prompt, **SHORT).audio_values
    state = torch.get_rng_state()
    torch.manual_seed(4)
    assert torch.equal(tiny_audiolm.generate(prompt, **SHORT).audio_values, expected)
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_built_under_another_default_dtype_read_in_float32(dtype):
    with default_dtype(dtype):
        model = AudioLMModel(tiny_config())
        assert torch.get_default_dtype() == dtype
    for part in (model.codec, model.semantic_tokenizer):
        assert {tensor.dtype for tensor in part.state_dict().values()} <= {torch.float32, torch.bool}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_converting_a_model_is_loading_it_in_that_dtype(tiny_audiolm, prompt, tmp_path, dtype):
    tiny_audiolm.save_pretrained(tmp_path)
    loaded = AudioLMModel.from_pretrained(tmp_path, dtype=dtype)
    converted = AudioLMModel.from_pretrained(tmp_path).to(dtype)
    for name, buffer in loaded.named_buffers():
        assert torch.equal(converted.get_buffer(name), buffer), name
    assert {buffer.dtype for name, buffer in converted.named_buffers() if "inv_freq" in name} == {torch.float32}
    ids = torch.arange(8)[None]
    assert torch.equal(converted.semantic(ids).logits, loaded.semantic(ids).logits)
    assert torch.equal(converted.generate(prompt, **SHORT).audio_values, loaded.generate(prompt, **SHORT).audio_values)


def test_a_prompt_stays_exact_where_inputs_are_brought_to_the_models_dtype(tiny_audiolm, prompt):
    processor = tiny_processor()
    clips = [prompt[0].numpy(), prompt[0, :4000].numpy()]
    for audio in (clips[0], clips):
        plain = processor(audio, sampling_rate=16000)
        moved = processor(audio, sampling_rate=16000).to("cpu", torch.bfloat16)
        assert moved["input_values"].dtype == torch.float32
        assert torch.equal(moved["input_values"], plain["input_values"])
        assert processor(audio, sampling_rate=16000).to("meta")["input_values"].is_meta
        assert torch.equal(copy.deepcopy(moved)["input_values"], plain["input_values"])


def test_a_model_without_weights_is_refused(tiny_audiolm, prompt):
    with pytest.raises(ValueError, match="on the device meta, without weights"):
        copy.deepcopy(tiny_audiolm).to("meta").generate(prompt.to("meta"))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_part_of_the_codec_in_another_dtype_is_one_clear_error(tiny_audiolm, prompt, part):
    model = copy.deepcopy(tiny_audiolm)
    expected = model.acoustic_codec.encode(prompt)
    getattr(model.codec, part).half()
    message = "The codec has weights of several dtypes .*float16.*; call float"
    with pytest.raises(ValueError, match=message):
        model.generate(prompt, **SHORT)
    for codec in (model.acoustic_codec, model.codec):
        with pytest.raises(ValueError, match=message):
            codec.encode(prompt)
        with pytest.raises(ValueError, match=message):
            codec.decode(expected)
    getattr(model.codec, part).float()
    assert torch.equal(model.acoustic_codec.encode(prompt), expected)


def test_a_tokenizer_whose_encoder_has_another_dtype_is_one_clear_error(tiny_audiolm, prompt):
    tokenizer = copy.deepcopy(tiny_audiolm.semantic_tokenizer)
    tokenizer.encoder.half()
    with pytest.raises(ValueError, match=r"The semantic tokenizer has weights of several dtypes .*float16"):
        tokenizer.tokenize(prompt)


def test_type_keeps_the_flags_of_the_codec(tiny_audiolm, prompt):
    model = copy.deepcopy(tiny_audiolm).type(torch.float16)
    assert model.semantic.dtype == torch.float16
    assert torch.equal(model.codec.encode(prompt).audio_codes, tiny_audiolm.codec.encode(prompt).audio_codes)


def test_a_model_in_training_stays_in_evaluation_mode_until_its_last_thread_is_done():
    model, modes = tiny_model().train(), []
    before = [module.training for module in model.modules()]
    first_runs, second_runs, first_is_done = (threading.Event() for _ in range(3))

    def first(*done):
        first_runs.set()
        second_runs.wait(20)

    def second(*done):
        second_runs.set()
        first_is_done.wait(20)
        modes.append(model.coarse.training or model.coarse.model.training)

    options = {"seed": 0, "batch_size": 1, "continuation_length_s": 0.1}
    thread = threading.Thread(target=lambda: first_runs.wait(20) and model.generate(**options, progress=second))
    thread.start()
    model.generate(**options, progress=first)
    assert not model.training  # the other thread still uses it
    first_is_done.set()
    thread.join()
    assert modes and not any(modes)
    assert [module.training for module in model.modules()] == before and model.coarse.training
