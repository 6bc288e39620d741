# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Prompts, the tiny model's processor, and fresh Python processes in which a checkpoint is loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from audiolm_hf import AudioLMFeatureExtractor, AudioLMModel, AudioLMProcessor
from tests.conftest import randomise, tiny_config

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
CLIP = DATA / "librispeech_19-198-0008.flac"  # 2.5 s
OTHER_CLIP = DATA / "librispeech_118-47824-0071.flac"  # 2.9 s


def tiny_model() -> AudioLMModel:
    """The tiny model; equal at every call."""
    torch.manual_seed(0)
    return randomise(AudioLMModel(tiny_config()))


def tiny_processor() -> AudioLMProcessor:
    return AudioLMProcessor(AudioLMFeatureExtractor())


def lay_out_as_hub_cache(folder: Path, home: Path, repo_id: str) -> None:
    """Copy a folder to where a downloaded repository of the Hub lies."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = home / "hub" / f"models--{repo_id.replace('/', '--')}"
    shutil.copytree(folder, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)


def environment(home: Path, **changes: str) -> dict[str, str]:
    """Variables of a process that reaches no network, and that finds the package in src."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home),
        "HF_MODULES_CACHE": str(home / "modules"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }
    return {**os.environ, **offline, **changes}


def run_python(code: str, *arguments: object, home: Path, **changes: str) -> str:
    """Run code in a fresh process; returns what it wrote, and raises with what it said if it failed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(
        command, cwd=home, env=environment(home, **changes), capture_output=True, text=True, check=False, timeout=600
    )
    if result.returncode:
        raise AssertionError(f"{result.stdout}\n{result.stderr}")
    return result.stdout
