# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiolm_hf.files import (
    fill_folder,
    replace_file,
    replace_folder,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)
from tests.helpers_processes import call_in_fork


def test_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_bytes(path, b"first")
    with pytest.raises(TypeError):
        write_bytes(path, "no bytes")
    assert path.read_bytes() == b"first"


def test_values_come_back_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "new" / "folder"
    write_json(folder / "a.json", {"a": [1, None]})
    write_text(folder / "b.txt", "ü\n")
    write_tensors(folder / "c.safetensors", {"x": torch.arange(3)})
    assert json.loads((folder / "a.json").read_text()) == {"a": [1, None]}
    assert (folder / "b.txt").read_bytes() == "ü\n".encode()
    assert load_file(folder / "c.safetensors")["x"].tolist() == [0, 1, 2]
    assert len(list(folder.iterdir())) == 3


def test_a_folder_is_replaced_only_when_the_new_one_is_written(tmp_path):
    folder = tmp_path / "model"
    replace_folder(folder, lambda path: (path / "old").write_text("1"))

    def fail(path):
        (path / "new").write_text("2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_folder(folder, fail)
    assert [path.name for path in folder.iterdir()] == ["old"] and [*tmp_path.iterdir()] == [folder]
    replace_folder(folder, lambda path: (path / "new").write_text("2"))
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_is_replaced_only_when_the_new_one_is_written(tmp_path):
    path = tmp_path / "folder" / "targets"
    replace_file(path, lambda unfinished: unfinished.write_text("old"))

    def fail(unfinished):
        unfinished.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, fail)
    assert path.read_text() == "old"


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    def fail(unfinished):
        Path("/dev/full").write_bytes(b"w")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'report.json'}'"):
        replace_file(tmp_path / "report.json", fail)
    assert not list(tmp_path.iterdir())


def test_a_kept_folder_has_its_last_file_only_when_all_others_are_there(tmp_path):
    (tmp_path / "mine").write_text("m")

    def write(folder):
        (folder / "config.json").write_text("c")
        (folder / "stage").mkdir()
        (folder / "stage/weights").write_text("w")

    fill_folder(tmp_path, write)
    fill_folder(tmp_path, write)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "mine", "stage"]

    def fail(folder):
        write(folder)
        raise ValueError("too large")

    with pytest.raises(ValueError, match="too large"):
        fill_folder(tmp_path, fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "stage"]


def test_the_error_of_a_full_disk_in_the_middle_of_tensors_names_the_file_or_folder_and_the_old_one_stays(tmp_path):
    large = {"weight": torch.zeros(100_000)}
    write_tensors(tmp_path / "a.safetensors", {"weight": torch.ones(1)})
    replace_folder(tmp_path / "step-1", lambda path: (path / "old").write_text("1"))

    def write_with_a_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        with pytest.raises(OSError, match=f"File too large: '{tmp_path / 'a.safetensors'}'"):
            write_tensors(tmp_path / "a.safetensors", large)
        with pytest.raises(OSError, match=f"File too large: '{tmp_path / 'step-1'}'"):
            replace_folder(tmp_path / "step-1", lambda path: save_file(large, path / "codec.safetensors"))
        return "refused"

    assert call_in_fork(write_with_a_limit) == "refused"
    assert load_file(tmp_path / "a.safetensors")["weight"].tolist() == [1.0]
    assert {path.name for path in tmp_path.rglob("*")} == {"a.safetensors", "step-1", "old"}
