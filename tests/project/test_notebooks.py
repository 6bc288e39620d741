# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The notebooks run from top to bottom, with fewer steps of training."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import audiolm_hf
from audiolm_hf import AudioLMConfig, AudioLMGenerationConfig
from tests.helpers_checkpoint import ROOT, environment

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[list[str]]:
    """Lines of each code cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]).splitlines() for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_neither_outputs_nor_paths(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert "/home/" not in "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_adapt_acoustic_stages_that_generate_by_default(path):
    config = AudioLMConfig.from_pretrained(audiolm_hf.checkpoint())
    used = AudioLMGenerationConfig.from_pretrained(audiolm_hf.checkpoint()).used_stages(config)
    lines = "\n".join(line for cell in code_of(path) for line in cell)
    adapted = re.findall(r"^  (\w+): \{\{max_steps", lines, re.MULTILINE)
    assert adapted and {*adapted} <= {*used[1:]}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    """Lines with `!` run as commands of the shell, with Jupyter's `{name}`; lines with `%` install."""
    monkeypatch.chdir(tmp_path)
    played = []
    display = SimpleNamespace(Audio=lambda samples, rate: (len(samples), rate), display=played.append)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    namespace = {}
    for lines in code_of(path):
        python = [line for line in lines if not line.startswith(("!", "%"))]
        exec(compile("\n".join(python).replace("STEPS = 240", "STEPS = 2"), path.name, "exec"), namespace)
        for line in lines:
            if line.startswith("!"):
                program, *arguments = shlex.split(line[1:].format(**namespace))
                assert program == "audiolm-hf"
                command = [sys.executable, "-m", "audiolm_hf.cli", *arguments]
                done = subprocess.run(
                    command, env=environment(tmp_path / "home"), capture_output=True, text=True, timeout=600
                )
                assert done.returncode == 0, done.stderr
    assert len(played) == 4 and all(count > 5 * rate for count, rate in played)
    assert audiolm_hf.read_provenance("generated.wav")["softwareAgent"] == f"audiolm_hf {audiolm_hf.__version__}"
