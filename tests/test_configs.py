# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Every YAML file of the repository fits the dataclass of its training."""

from pathlib import Path

import pytest

from audiolm_hf.training.config import load_config

FOLDER = Path(__file__).parent.parent / "configs"
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "accelerate")  # not ours, but its own


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_configuration_loads(path):
    overrides = [] if "\ndata:" not in path.read_text() else ["data.folder=/data"]
    assert load_config(path, overrides) is not None


def test_there_are_configurations():
    assert len(FILES) >= 7
