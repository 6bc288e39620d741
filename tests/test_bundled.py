# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Short names become folders, folders and Hub names stay, anything else is one clear error."""

import pytest

from audiolm_hf import bundled


@pytest.fixture
def one_checkpoint(monkeypatch, tmp_path):
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "unfinished").mkdir()
    monkeypatch.setattr(bundled, "_CHECKPOINTS", tmp_path / "checkpoints")
    return folder


def test_only_whole_checkpoints_are_listed(one_checkpoint):
    assert bundled.list_checkpoints() == ["tiny"]
    assert bundled.checkpoint("tiny") == str(one_checkpoint)


def test_names_folders_and_hub_names_are_told_apart(one_checkpoint, tmp_path):
    assert bundled.resolve_checkpoint("tiny") == str(one_checkpoint)
    assert bundled.resolve_checkpoint(tmp_path) == str(tmp_path)
    assert bundled.resolve_checkpoint("somebody/audiolm") == "somebody/audiolm"


@pytest.mark.parametrize("name", ["tinny", "unfinished", "/no/where", "./nowhere", "~/nowhere", "a/b/c", ""])
def test_what_is_neither_is_one_clear_error(one_checkpoint, name):
    with pytest.raises(ValueError, match=r"no folder and not one of the bundled \['tiny'\]"):
        bundled.resolve_checkpoint(name)
