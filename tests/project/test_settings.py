# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools
import math
from typing import Annotated, Any, Literal

import pytest

from audiolm_hf.data.tokenization import TokenizationPlan
from audiolm_hf.settings import BatchSize, Count, LearningRate, OutputPath, Positive, Settings, Share, Use, build
from audiolm_hf.training.codec.config import CodecTrainingConfig
from audiolm_hf.training.kinds import TRAINING_KINDS, training_kind
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.lora import LoraStageConfig


@dataclasses.dataclass
class Inner(Settings):
    size: int = 1
    rate: float = 1.0


@dataclasses.dataclass
class Outer(Settings):
    name: str
    mode: Literal["a", "b"] = "a"
    inner: Inner = dataclasses.field(default_factory=Inner)
    items: list[int] = dataclasses.field(default_factory=list)
    limit: int | None = None
    flag: bool = False
    anything: dict[str, Any] = dataclasses.field(default_factory=dict)
    inners: list[Inner] = dataclasses.field(default_factory=list)
    counts: Annotated[dict[str, Count], Use.INPUT] = dataclasses.field(default_factory=dict)


def test_values_reach_nested_dataclasses_with_their_types():
    config = build(
        Outer,
        {"name": "x", "inner": {"rate": "1e-3"}, "items": [1, 2], "limit": 3, "inners": [{"size": 2}], "mode": "b"},
    )
    assert config == Outer("x", "b", Inner(1, 0.001), [1, 2], 3, inners=[Inner(2)])
    assert isinstance(build(Inner, {"rate": 2}).rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "limmit": 1}, "unknown key 'limmit'; did you mean 'limit'"),
        ({"name": "x", "inner": {"sise": 1}}, "inner: unknown key 'sise'; did you mean 'size'"),
        ({"mode": "a"}, "the key 'name' is missing"),
        ({"name": 3}, r"name is 3 \(int\); it must be str"),
        ({"name": "x", "mode": "c"}, "mode is 'c'; it must be one of 'a', 'b'"),
        ({"name": "x", "items": [1, "two"]}, r"items\[1\] is 'two'"),
        ({"name": "x", "items": 1}, r"items is 1 \(int\); it must be list of int"),
        ({"name": "x", "counts": 1}, r"counts is 1 \(int\); it must be dict of int"),
        ({"name": "x", "limit": True}, "limit is True"),
        ({"name": "x", "flag": 1}, "flag is 1"),
        ({"name": "x", "inner": {"rate": "fast"}}, "rate is 'fast'; it must be a number"),
        ({"name": "x", "inner": 3}, "inner is 3"),
        ({"name": "x", "anything": {"a": [1.0, math.nan]}}, "anything.a.1 is nan; it must be a finite number"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        build(Outer, values, "file.yaml")


def test_none_is_allowed_only_where_the_type_says_so():
    assert build(Outer, {"name": "x", "limit": None}).limit is None
    with pytest.raises(ValueError, match="name is None"):
        build(Outer, {"name": None})


@dataclasses.dataclass(frozen=True)
class Numbers(Settings):
    count: Count = 1
    share: Share = 0.5
    rate: LearningRate = 1e-3
    length: Positive | None = None
    batch: BatchSize = 1
    folder: OutputPath = "o"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count is 0; give an integer from 1 to 1,000,000,000"),
        ({"count": -1}, "count is -1"),
        ({"count": 2**40}, "count is 1099511627776"),
        ({"count": "3"}, r"count is '3' \(str\); it must be int"),
        ({"count": 1.0}, r"count is 1.0 \(float\)"),
        ({"count": True}, "count is True"),
        ({"count": None}, "count is None"),
        ({"count": [1]}, r"count is \[1\]"),
        ({"share": 1.5}, "share is 1.5; give a number from 0 to 1"),
        ({"share": math.nan}, "share is nan; it must be a finite number"),
        ({"share": "nan"}, "share is nan; it must be a finite number"),
        ({"rate": 0.0}, "rate is 0.0; give a number above 0 and at most 1"),
        ({"rate": 1e30}, r"rate is 1e\+30"),
        ({"rate": 10**400}, "rate is 1000"),
        ({"length": math.inf}, "length is inf; it must be a finite number"),
        ({"length": -1}, "length is -1.0"),
        ({"batch": 10**7}, "batch is 10000000; give an integer from 1 to 65,536"),
        ({"folder": ""}, "folder is ''; give a value that is not empty"),
        ({"folder": " "}, "folder is ' '"),
        ({"folder": "a\0b"}, "folder is 'a"),
    ],
)
def test_numbers_out_of_range_are_refused_from_python_and_from_files(values, message):
    with pytest.raises(ValueError, match=message):
        Numbers(**values)
    with pytest.raises(ValueError, match=f"file.yaml: {message}"):
        build(Numbers, values, "file.yaml")


def test_numbers_given_as_text_become_numbers():
    assert Numbers(rate="1e-4", length="2").rate == 1e-4
    assert Numbers(length=2).length == 2.0


GOOD: dict[str, dict[str, Any]] = {
    "stage": {
        "stage": "coarse",
        "output_folder": "o",
        "train_tokens": ["a"],
        "validation_tokens": ["b"],
        "window_length_s": 1.0,
        "backbone": {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2},
        "max_steps": 100,
    },
    "codec": {"output_folder": "o", "data": {"folder": "d", "train": ["a"]}},
    "semantic_encoder": {
        "output_folder": "o",
        "data": {"folder": "d", "train": ["a"]},
        "encoder": {},
        "iterations": [{"num_clusters": 2, "max_steps": 1}],
    },
    "centroids": {"output_folder": "o", "data": {"folder": "d", "train": ["a"]}, "encoder": "e", "layer": 1},
    "speaker_invariance": {
        "output_folder": "o",
        "data": {"folder": "d", "train": ["a"]},
        "tokenizer": "t",
        "max_steps": 1,
    },
    "tokenize": {
        "output_folder": "o",
        "data": {"folder": "d", "train": ["a"]},
        "semantic_tokenizer": "t",
        "codec": "c",
    },
    "lora": {
        "output_folder": "o",
        "data": {"folder": "d", "recordings": ["a"]},
        "base": "b",
        "stages": {"coarse": {}},
    },
    "assemble": {
        "output_folder": "o",
        "semantic_tokenizer": "t",
        "codec": "c",
        "stages": {"semantic": "s", "coarse": "c", "fine": "f"},
    },
    "onset_rates": {"output_folder": "o", "checkpoint": "c", "data": {"folder": "d", "train": ["a"]}},
    "detector": {"output_folder": "o", "checkpoint": "c", "data": {"folder": "d", "train": ["a"]}},
    "render": {"output_folder": "o", "data": {"folder": "d", "train": ["a"]}},
}


def settings_of(kind):
    """All settings of a training, with those that are not given."""
    return dataclasses.asdict(build(training_kind(kind)[0], GOOD[kind]))


def numbers_in(values, path=()):
    """Paths of the numbers in settings, without those of models, which are for their configurations to check."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, dict | list) and key not in ("backbone", "encoder"):
            yield from numbers_in(value, (*path, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key)


NUMBERS = [(kind, path) for kind in GOOD for path in numbers_in(settings_of(kind))]


@pytest.mark.parametrize(("kind", "path"), NUMBERS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_no_number_of_a_training_can_be_senseless(kind, path):
    name = next(key for key in reversed(path) if isinstance(key, str))
    for value in (-1, -0.5, math.nan, math.inf, "many", [1], {}, True, 1e30):
        settings = part = settings_of(kind)
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        with pytest.raises(ValueError, match=name):
            build(training_kind(kind)[0], settings)


@pytest.mark.parametrize("kind", GOOD)
def test_output_folders_and_inputs_must_be_named(kind):
    config_class = training_kind(kind)[0]
    for name, value in GOOD[kind].items():
        if isinstance(value, str | list) and name not in ("stage",):
            with pytest.raises(ValueError, match=name):
                build(config_class, GOOD[kind] | {name: type(value)()})


def test_every_kind_but_recipes_is_held_to_its_types():
    assert {*GOOD, "recipe"} == set(TRAINING_KINDS)
    for config_class, values in itertools.product(
        (StageTrainingConfig, CodecTrainingConfig), ({"max_steps": -1}, {"max_steps": "a"}, {"seed": -1})
    ):
        kind = "stage" if config_class is StageTrainingConfig else "codec"
        with pytest.raises(ValueError, match=next(iter(values))):
            config_class(**GOOD[kind] | values)
    for values in ({"rank": 0}, {"dropout": 1.0}, {"max_steps": None}, {"learning_rate": [1]}):
        with pytest.raises(ValueError, match=next(iter(values))):
            LoraStageConfig(**values)
    for values in ({"num_workers": "2"}, {"recordings_per_shard": [1]}, {"min_duration_s": -1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            TokenizationPlan(**values)
