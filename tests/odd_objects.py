# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Families of odd inputs for what lives in memory: configurations, options and tensors. See `odd_inputs`."""

import dataclasses
import functools
import json
import math
import random
from typing import Any

import torch
from transformers import PreTrainedConfig

from audiolm_hf import (
    AudioLMCoarseConfig,
    AudioLMConfig,
    AudioLMFineConfig,
    AudioLMGenerationConfig,
    AudioLMSemanticConfig,
    AudioLMSemanticTokenizer,
    AudioLMSemanticTokenizerConfig,
    AudioLMStageCollator,
    SoundStreamConfig,
    SoundStreamModel,
    build_stage_example,
)
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from tests.conftest import tiny_config
from tests.helpers_checkpoint import tiny_model
from tests.odd_inputs import Case, brief, equal, holds, misspelled, odd_tensor, odd_value

RATE = 16000
MODELS = {
    SoundStreamConfig: SoundStreamModel,
    AudioLMSemanticTokenizerConfig: AudioLMSemanticTokenizer,
    AudioLMSemanticConfig: AudioLMSemanticModel,
    AudioLMCoarseConfig: AudioLMCoarseModel,
    AudioLMFineConfig: AudioLMFineModel,
    AudioLMConfig: AudioLMModel,
}
_INHERITED = {field.name for field in dataclasses.fields(PreTrainedConfig)} | {"trained_with"}
model = functools.cache(tiny_model)


def _base(config_class: type) -> dict[str, Any]:
    """Arguments of a small, right configuration."""
    whole = tiny_config()
    parts = {type(part): part for part in (getattr(whole, name) for name in whole.sub_configs)}
    config = whole if config_class is AudioLMConfig else parts[config_class]
    fields = config.to_dict()
    names = [field.name for field in dataclasses.fields(config_class) if field.name not in _INHERITED]
    return {name: fields[name] for name in names}


def configurations(rng: random.Random) -> Case:
    """Fields of every configuration with other values, and keys that no field has."""
    config_class = rng.choice([*MODELS])
    fields = _base(config_class)
    names = [rng.choice([*fields]) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    changes = {name: _near(rng, fields[name]) for name in names}
    wrong_key = rng.random() < 0.1
    if wrong_key:
        names = [misspelled(rng, names[0])]
        changes = {names[0]: fields[rng.choice([*fields])]}

    def check(config: Any) -> None:
        holds(not wrong_key, f"the key {names[0]!r} is accepted")
        values = config.to_dict()
        for name, value in changes.items():
            if not isinstance(value, dict) and value is not None:
                holds(_same(values[name], value), f"{name} is {values[name]!r}")
                holds(isinstance(value, bool) == isinstance(fields[name], bool), f"{name} accepts {value!r}")
        text = config.to_json_string(use_diff=False)
        holds("NaN" not in text, "it holds NaN")
        again = config_class(**{name: inner for name, inner in json.loads(text).items() if name in fields})
        holds(again.to_dict() == values, "it cannot be read again")
        if all(inner <= 4096 for inner in _whole_numbers(values)):
            with torch.device("meta"):
                MODELS[config_class](config)

    label = (
        f"{config_class.__name__}: {'; '.join(_difference(fields.get(name), changes[name], name) for name in changes)}"
    )
    return Case(label, lambda: config_class(**{**fields, **changes}), check, tuple(names))


def _near(rng: random.Random, value: Any) -> Any:
    """A value that may or may not do in place of a right one."""
    if rng.random() < 0.5:
        return odd_value(rng)
    if isinstance(value, dict):
        keys = [name for name in value if not isinstance(value[name], dict)]
        name = rng.choice(keys)
        return {**value, name: _near(rng, value[name])} if rng.random() < 0.8 else {**value, misspelled(rng, name): 1}
    if isinstance(value, bool):
        return rng.choice([not value, int(value), str(value)])
    if isinstance(value, int | float):
        return rng.choice([value + 1, value - 1, value * 2, value // 2, -value, float(value), str(value), [value], 0])
    if isinstance(value, list) and value:
        return rng.choice([value[::-1], value[:1], [], value * 3, tuple(value), [_near(rng, value[0]), *value[1:]]])
    return odd_value(rng)


def _difference(usual: Any, given: Any, name: str) -> str:
    if isinstance(usual, dict) and isinstance(given, dict):
        return "; ".join(
            _difference(usual.get(key), value, f"{name}.{key}")
            for key, value in given.items()
            if key not in usual or usual[key] is not value
        )
    return f"{name} = {brief(given)}"


def _same(stored: Any, given: Any) -> bool:
    return list(stored) == list(given) if isinstance(given, list | tuple) else bool(stored == given)


def _whole_numbers(values: Any) -> list[int]:
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else []
    found = [number for value in inner for number in _whole_numbers(value)]
    return [*found, values] if isinstance(values, int) else found


def odd_options(rng: random.Random) -> dict[str, Any]:
    """Options of generation with other values; what would only take long is left out."""
    config = AudioLMGenerationConfig()
    names = rng.sample(AudioLMGenerationConfig.option_names(), rng.choice([1, 1, 2, 4]))
    options = {name: _near(rng, getattr(config, name, None) or getattr(config, f"fine_{name}", 1)) for name in names}
    if rng.random() < 0.1:
        options[misspelled(rng, names[0])] = 1
    if rng.random() < 0.1:
        options[rng.choice(["max_new_tokens", "num_beams", "penalty_alpha", "repetition_penalty"])] = odd_value(rng)
    for name in ("continuation_length_s", "min_continuation_length_s"):
        value = options.get(name)
        if isinstance(value, int | float) and 0.2 < value < 1e6:
            options[name] = rng.choice([0.03, 0.1, 1e7])
    return options


def generation_options(rng: random.Random) -> Case:
    """Options of an AudioLMGenerationConfig, given in each way."""
    options = odd_options(rng)
    way = rng.choice(["class", "with_options", "update", "validate"])

    def run() -> AudioLMGenerationConfig:
        config = AudioLMGenerationConfig()
        if way == "class":
            return AudioLMGenerationConfig(**options)
        if way == "with_options":
            return config.with_options(**options)
        if way == "update":
            config.update(**options)
        else:
            for name, value in options.items():
                setattr(config, name, value)
        config.validate()
        return config

    def check(config: AudioLMGenerationConfig) -> None:
        again = AudioLMGenerationConfig(**json.loads(config.to_json_string()))
        for name in vars(AudioLMGenerationConfig()):
            value = getattr(config, name)
            if name in options or name.partition("_")[2] in options:
                holds(not isinstance(value, float) or math.isfinite(value), f"{name} is {value!r}")
                holds(getattr(again, name) == value, f"{name} is {value!r}, read again {getattr(again, name)!r}")

    return Case(f"{way} {brief(options)}", run, check, tuple(options))


def _clip(rng: random.Random, rows: int = 1, length: int = 1280) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(1000))
    return 0.3 * torch.randn(rows, length, generator=generator).clamp(-3, 3)


def _mask(rng: random.Random, like: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(like, dtype=torch.int64)
    if len(mask) > 1 and mask.shape[1] > 1:
        mask[-1, rng.randrange(1, mask.shape[1]) :] = 0
    return mask


def _as_usual(value: Any, dtype: torch.dtype) -> Any:
    return value.detach().to_dense().to(dtype) if isinstance(value, torch.Tensor) else value


def whole_model(rng: random.Random) -> Case:
    """`generate` with odd prompts, masks, tokens, numbers and options."""
    values = {"input_values": _clip(rng, rng.choice([1, 2]), rng.choice([1280, 1900, 4000]))}
    values["attention_mask"] = torch.ones_like(values["input_values"], dtype=torch.int64)
    if rng.random() < 0.3:
        values = {"semantic_tokens": torch.randint(20, (1, 3))} | (values if rng.random() < 0.5 else {})
    elif rng.random() < 0.1:
        values = {}
    what = rng.choice(["tensor", "tensor", "options", "options", "numbers"])
    if what == "tensor" and values:
        name = rng.choice([*values])
        values[name] = odd_tensor(rng, values[name])
    options: dict[str, Any] = {} if "semantic_tokens" in values else {"continuation_length_s": 0.08}
    if what == "options":
        options |= odd_options(rng)
    if what == "numbers":
        name = rng.choice(["num_return_sequences", "batch_size", "seed", "generator", "progress", "generation_config"])
        options[name] = rng.choice([odd_value(rng), 2, 1, 10**7])
        if isinstance(options[name], int) and 2 < options[name] < 10**6 and name != "seed":
            options[name] = -2

    def check(output: Any) -> None:
        audio = output.audio_values
        holds(audio.dtype == torch.float32 and audio.isfinite().all(), "its samples")
        holds(((output.audio_codes >= 0) & (output.audio_codes < 8)).all(), "its codes")
        holds(((output.semantic_tokens >= 0) & (output.semantic_tokens < 20)).all(), "its tokens")
        prompt = _as_usual(values.get("input_values"), torch.float32)
        if prompt is not None:
            rows = prompt.repeat_interleave(len(audio) // len(prompt), 0)
            for row, given, length in zip(audio, rows, output.prompt_lengths.tolist(), strict=True):
                equal(row[:length], given[:length], "the prompt")
                holds(not row[length:].any() or row[length:].abs().max() <= 1, "its continuation")
        longest = options.get("continuation_length_s")
        if longest is not None:
            new = output.audio_lengths - output.prompt_lengths
            holds((new <= max(1, round(longest * RATE))).all() and (new >= 0).all(), f"its lengths {new}")

    label = f"generate({brief(values)}, {brief(options)})"
    return Case(label, lambda: model().generate(**values, **options), check, (*values, *options))


def joint_training(rng: random.Random) -> Case:
    """The whole model's `forward` with odd recordings, or odd tokens and codes of one."""
    clip = _clip(rng, 2, 4000)
    values: dict[str, Any] = {"input_values": clip, "attention_mask": _mask(rng, clip)}
    values["attention_mask"][:, :1280] = 1
    if rng.random() < 0.5:
        tokens, codes = torch.randint(20, (2, 4)), torch.randint(8, (2, 5, 8))
        values = {"semantic_tokens": tokens, "semantic_attention_mask": torch.ones_like(tokens), "audio_codes": codes}
        values["codes_attention_mask"] = torch.ones_like(codes[:, 0])
    name = rng.choice([*values])
    values[name] = odd_tensor(rng, values[name])

    def check(output: Any) -> None:
        holds(output.loss.isfinite(), "its loss")
        usual = {
            key: _as_usual(value, torch.float32 if key == "input_values" else torch.int64)
            for key, value in values.items()
        }
        with torch.no_grad():
            equal(output.loss.detach(), model()(**usual).loss, "the loss")

    return Case(f"forward({brief(values)})", lambda: model()(**values), check, (name,))


def codecs(rng: random.Random) -> Case:
    """A codec's encode, decode and forward with odd waveforms, masks, codes and numbers of levels."""
    codec = rng.choice([model().codec, model().acoustic_codec])
    contract = codec is not model().codec
    if rng.random() < 0.4:
        return _decoding(rng, codec, contract)
    rows = rng.choice([1, 2])
    clip = _clip(rng, rows, rng.choice([1, 319, 320, 1000]))
    arguments: dict[str, Any] = {"input_values": clip, "attention_mask": _mask(rng, clip), "num_codebooks": 3}
    name = rng.choice([*arguments])
    arguments[name] = odd_value(rng) if name == "num_codebooks" else odd_tensor(rng, arguments[name])
    method = "encode" if contract or rng.random() < 0.6 else "forward"

    def check(output: Any) -> None:
        codes = output if contract else output.audio_codes
        holds(codes.shape[2] == -(-arguments["input_values"].shape[1] // 320), f"its frames {tuple(codes.shape)}")
        holds(((codes >= 0) & (codes < 8)).all() and codes.dtype == torch.int64, "its codes")
        if method == "encode":
            usual = {key: _as_usual(arguments[key], like.dtype) for key, like in (("input_values", clip),)}
            mask = _as_usual(arguments["attention_mask"], torch.int64)
            usual |= {"attention_mask": mask, "num_codebooks": arguments["num_codebooks"]}
            expected = codec.encode(**usual)
            equal(codes, expected if contract else expected.audio_codes, "the codes")
        else:
            holds(output.audio_values.isfinite().all() and output.loss.isfinite(), "its samples or loss")

    label = f"{type(codec).__name__}.{method}({brief(arguments)})"
    return Case(label, lambda: getattr(codec, method)(**arguments), check, (name,))


def _decoding(rng: random.Random, codec: Any, contract: bool) -> Case:
    codes = torch.randint(8, (2, rng.choice([1, 3, 5]), rng.choice([1, 4])))
    arguments: dict[str, Any] = {"audio_codes": codes}
    if not contract:
        mask = _mask(rng, torch.ones(2, 5))[:, : codes.shape[2]].clamp(min=0)
        mask[:, 0] = 1
        arguments |= {"attention_mask": mask, "num_samples": 100}
    name = rng.choice([*arguments])
    arguments[name] = odd_value(rng) if name == "num_samples" else odd_tensor(rng, arguments[name])

    def check(output: Any) -> None:
        audio = output if contract else output.audio_values
        holds(audio.isfinite().all() and audio.dtype == torch.float32, "its samples")
        length = arguments["audio_codes"].shape[2] * 320
        if not contract and arguments["num_samples"] is not None:
            length = min(length, arguments["num_samples"])
        holds(audio.shape == (len(arguments["audio_codes"]), length), f"its shape {tuple(audio.shape)}")

    label = f"{type(codec).__name__}.decode({brief(arguments)})"
    return Case(label, lambda: codec.decode(**arguments), check, (name,))


def semantic_tokenizers(rng: random.Random) -> Case:
    """A semantic tokenizer with odd waveforms, masks and rates."""
    tokenizer = model().semantic_tokenizer
    clip = _clip(rng, rng.choice([1, 2]), rng.choice([1, 640, 1000]))
    arguments: dict[str, Any] = {"input_values": clip, "attention_mask": _mask(rng, clip), "sampling_rate": RATE}
    name = rng.choice([*arguments])
    odd_rate = rng.choice([odd_value(rng), 24000, 44100, 8000, 16001])
    arguments[name] = odd_rate if name == "sampling_rate" else odd_tensor(rng, arguments[name])
    method = rng.choice(["tokenize", "extract_features", "forward"])

    def check(output: Any) -> None:
        values, mask = output if method == "extract_features" else (output.semantic_tokens, output.attention_mask)
        holds(values.isfinite().all() and values.shape[:2] == mask.shape, "its values")
        if method == "extract_features":
            return
        holds(((values >= 0) & (values < 20)).all(), "its tokens")
        usual = {key: _as_usual(arguments[key], dtype) for key, dtype in _TOKENIZER_TYPES.items()}
        expected = tokenizer.tokenize(**usual, sampling_rate=arguments["sampling_rate"])
        equal(values, expected.semantic_tokens, "the tokens")

    label = f"{method}({brief(arguments)})"
    return Case(label, lambda: getattr(tokenizer, method)(**arguments), check, (name,))


_TOKENIZER_TYPES = {"input_values": torch.float32, "attention_mask": torch.int64}


def stages(rng: random.Random) -> Case:
    """A stage's forward, losses and plain `generate` with odd ids, masks, positions and labels."""
    stage = model().stages[rng.choice(["semantic", "coarse", "fine"])]
    config = stage.config
    example = build_stage_example(config, torch.randint(20, (3,)), torch.randint(8, (5, 3)))
    good = {name: torch.stack([values, values]) for name, values in example.items()}
    good["attention_mask"] = torch.ones_like(good["input_ids"])
    method = rng.choice(["forward", "token_losses", "generate"])
    if method == "generate":
        good = {"input_ids": good["input_ids"], "attention_mask": good["attention_mask"]}
    elif method == "forward":
        good["position_ids"] = torch.arange(good["input_ids"].shape[1]).repeat(2, 1)
    arguments: dict[str, Any] = dict(good)
    name = rng.choice([*arguments])
    arguments[name] = odd_tensor(rng, arguments[name])

    def check(output: Any) -> None:
        if method == "generate":
            holds(((output >= 0) & (output < config.vocab_size)).all(), "its ids")
            return
        expected_of = {key: _as_usual(value, torch.int64) for key, value in arguments.items()}
        expected = getattr(stage, method)(**expected_of)
        if method == "token_losses":
            holds(output[0].isfinite().all() and output[0].shape == good["input_ids"].shape, "its losses")
            equal(output[0], expected[0], "the losses")
            return
        holds(output.logits.isfinite().all(), "its logits")
        holds(output.loss is None or output.loss.isfinite(), "its loss")
        equal(output.logits, expected.logits, "the logits")

    def run() -> Any:
        if method == "generate":
            return stage.generate(**arguments, max_new_tokens=3)
        return getattr(stage, method)(**arguments)

    return Case(f"{config.stage}.{method}({brief(arguments)})", run, check, (name,))


def stage_examples(rng: random.Random) -> Case:
    """Training sequences of odd tokens and codes, and batches of odd sequences."""
    config = model().stages[rng.choice(["semantic", "coarse", "fine"])].config
    arguments: dict[str, Any] = {"semantic_tokens": torch.randint(20, (4,)), "audio_codes": torch.randint(8, (5, 4))}
    used = {"semantic": ["semantic_tokens"], "coarse": [*arguments], "fine": ["audio_codes"]}[config.stage]
    name = rng.choice(used)
    if rng.random() < 0.5:
        arguments[name] = odd_tensor(rng, arguments[name])

        def check(example: Any) -> None:
            ids = example["input_ids"]
            holds(ids.dtype == torch.int64 and ids.dim() == 1 and len(ids) == len(example["labels"]), "its sequence")
            holds(((ids >= 0) & (ids < config.layout_size)).all(), "its ids")
            usual = {key: _as_usual(value, torch.int64) for key, value in arguments.items()}
            equal(ids, build_stage_example(config, **usual)["input_ids"], "the sequence")

        label = f"{config.stage} build_stage_example({brief(arguments)})"
        return Case(label, lambda: build_stage_example(config, **arguments), check, (name,))
    examples: Any = [dict(build_stage_example(config, **arguments)) for _ in range(2)]
    key = rng.choice(["input_ids", "labels"])
    examples[1][key] = odd_tensor(rng, examples[1][key])
    if rng.random() < 0.2:
        examples = rng.choice([[], None, examples[0], [examples], [1, 2], [{}]])

    def check_batch(batch: Any) -> None:
        holds({values.shape for values in batch.values()} == {batch["input_ids"].shape}, "its shapes")
        holds(all(values.dtype == torch.int64 and values.dim() == 2 for values in batch.values()), "its types")
        holds(((batch["input_ids"] >= 0) & (batch["input_ids"] < config.layout_size)).all(), "its ids")

    label = f"{config.stage} collator({brief(examples)})"
    return Case(label, lambda: AudioLMStageCollator(config)(examples), check_batch, ("input_ids", "labels", "xample"))


FAMILIES = {
    configurations: 400,
    generation_options: 200,
    whole_model: 200,
    joint_training: 100,
    codecs: 250,
    semantic_tokenizers: 120,
    stages: 150,
    stage_examples: 100,
}
