# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Parts are done once for the same key, again for another; JSON has no NaN; hashes see every file that matters."""

import json

import pytest

from audiolm_hf.evaluation.parts import checkpoint_hash, describe_files, kept_part, to_json


def test_a_part_is_done_again_only_when_its_key_changes(tmp_path):
    calls = []

    def evaluate():
        calls.append(1)
        return {"score": float("nan"), "pair": (1, 2.5)}

    first = kept_part(tmp_path, "codec", {"seed": 0, "clips": (1, 2)}, evaluate)
    assert first == kept_part(tmp_path, "codec", {"seed": 0, "clips": (1, 2)}, evaluate)
    assert first == {"score": None, "pair": [1, 2.5]}
    assert len(calls) == 1
    kept_part(tmp_path, "codec", {"seed": 1, "clips": (1, 2)}, evaluate)
    kept_part(tmp_path, "tokens", {"seed": 1, "clips": (1, 2)}, evaluate)
    assert len(calls) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codec.json", "tokens.json"]


def test_a_part_that_fails_leaves_nothing_behind(tmp_path):
    def evaluate():
        raise ValueError("no audio")

    with pytest.raises(ValueError, match="no audio"):
        kept_part(tmp_path, "codec", {}, evaluate)
    assert not list(tmp_path.iterdir())


def test_json_has_no_nan():
    text = to_json({"a": [float("inf"), 1.5], 2: {"b": float("nan")}})
    assert json.loads(text) == {"a": [None, 1.5], "2": {"b": None}}


def test_hash_sees_weights_and_configurations_but_not_the_card(tmp_path):
    with pytest.raises(FileNotFoundError, match="give the folder of a whole AudioLM"):
        checkpoint_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    first = checkpoint_hash(tmp_path)
    (tmp_path / "README.md").write_text("card")
    assert checkpoint_hash(tmp_path) == first
    (tmp_path / "generation_config.json").write_text("{}")
    second = checkpoint_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert len({first, second, checkpoint_hash(tmp_path)}) == 3


def test_files_are_known_by_name_and_size(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"12345")
    assert describe_files([tmp_path / "a.parquet"]) == [["a.parquet", 5]]
