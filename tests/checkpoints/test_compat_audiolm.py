# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What differs between releases of transformers: names, what is refused, and no warning of our own making."""

import ast
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from packaging.requirements import Requirement
from transformers import DynamicCache

import audiolm_hf
from audiolm_hf import compat_audiolm
from audiolm_hf.compat_audiolm import CACHE_NAME, SUPPORTED, check_version, slice_logits_to_keep
from audiolm_hf.modeling_stage_audiolm import AudioLMSemanticModel
from tests.conftest import randomise, tiny_stage_config
from tests.helpers_checkpoint import run_python

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def stage():
    torch.manual_seed(0)
    return randomise(AudioLMSemanticModel(AudioLMSemanticModel.config_class(**tiny_stage_config())))


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_range_is_that_of_pyproject(name):
    (declared,) = (line for line in map(Requirement, PROJECT["dependencies"]) if line.name == name)
    oldest, too_new = (".".join(map(str, version)) for version in SUPPORTED[name])
    assert declared.specifier == Requirement(f"{name}>={oldest},<{too_new}").specifier


@pytest.mark.parametrize("version", ["5.19.3", "4.57.1", "5.25.0", "5.25.0.dev0", "6.0.0rc1"])
def test_another_release_is_refused_in_one_sentence(version):
    with pytest.raises(ImportError, match=f"transformers>=5.20,<5.25, and {version} is installed; run:"):
        check_version("transformers", version)


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", "2.13.1a0+git12"])
def test_every_build_of_a_release_in_range_is_taken(version):
    check_version("torch", version)


def test_the_module_refuses_before_anything_else_is_imported(monkeypatch):
    monkeypatch.setattr(transformers, "__version__", "5.25.1")
    with pytest.raises(ImportError, match="audiolm_hf needs transformers>=5.20,<5.25, and 5.25.1 is installed"):
        runpy.run_path(compat_audiolm.__file__)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "flags", SimpleNamespace(optimize=2))
    with pytest.raises(ImportError, match="Python runs with -OO"):
        runpy.run_path(compat_audiolm.__file__)
    package = ast.parse(Path(audiolm_hf.__file__).read_text())
    first = next(node for node in package.body if isinstance(node, ast.Import | ast.ImportFrom))
    assert [name.name for name in first.names] == ["audiolm_hf.compat_audiolm"]


@pytest.mark.slow
def test_importing_the_package_beside_another_release_says_so(tmp_path):
    code = "import transformers\ntransformers.__version__ = '5.25.1'\nimport audiolm_hf"
    with pytest.raises(AssertionError, match="ImportError: audiolm_hf needs transformers"):
        run_python(code, home=tmp_path)


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_a_stage_takes_its_cache_by_both_names(stage, name):
    ids = torch.randint(0, 10, (2, 7))
    whole = stage(ids, use_cache=False).logits
    cache = DynamicCache(config=stage.config.backbone_config)
    first = stage(ids[:, :4], **{name: cache}, use_cache=True)
    assert first[CACHE_NAME] is cache
    last = stage(ids[:, 4:], **{name: first[CACHE_NAME]}, use_cache=True).logits
    torch.testing.assert_close(torch.cat([first.logits, last], 1), whole)


def test_a_cache_by_two_names_is_an_error(stage):
    cache = DynamicCache(config=stage.config.backbone_config)
    with pytest.raises(ValueError, match="past_key_values and cache are two names"):
        stage(torch.zeros(1, 2, dtype=torch.long), past_key_values=cache, cache=cache)


def test_logits_are_kept_where_they_are_wanted():
    states = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(slice_logits_to_keep(states, 0), states)
    assert torch.equal(slice_logits_to_keep(states, 1), states[:, 2:])
    assert torch.equal(slice_logits_to_keep(states, torch.tensor([0, 2])), states[:, [0, 2]])
    rows = torch.tensor([[0], [2]])
    assert torch.equal(slice_logits_to_keep(states, rows), torch.stack([states[0, :1], states[1, 2:]]))
    mask = torch.tensor([[True, False, False], [True, True, False]])
    assert torch.equal(slice_logits_to_keep(states, mask), torch.cat([states[0, :1], states[1, :2]]))


@pytest.mark.slow
def test_python_without_docstrings_is_refused():
    command = [sys.executable, "-OO", "-c", "import audiolm_hf"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert finished.returncode and "Python runs with -OO" in finished.stderr.splitlines()[-1]
