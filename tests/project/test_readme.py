# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The README keeps its promises: its Python runs, its main command makes the file, its file tree is what is there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audiolm_hf import cli
from audiolm_hf.bundled import checkpoint, example_prompt, list_checkpoints

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def run(arguments, folder):
    return subprocess.run(arguments, cwd=folder, env=OFFLINE, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_python_runs_as_printed(block, tmp_path):
    result = run([sys.executable, "-c", block], tmp_path)
    assert result.returncode == 0, result.stderr


def test_there_is_python_in_the_readme():
    assert len(PYTHON_BLOCKS) >= 2


@pytest.fixture(scope="module")
def continuations(tmp_path_factory):
    """The file of the README's first command, and that of a second run."""
    folder = tmp_path_factory.mktemp("main")
    block = re.search(r"<!-- main-command -->\n```bash\n(.*?)\n```", README, re.DOTALL).group(1)
    install, command = block.split(" && ")
    assert install == "pip install . -c constraints.txt"
    program, *arguments = command.split()
    assert program == "audiolm-hf"
    results = [run([sys.executable, "-m", "audiolm_hf.cli", *arguments], folder) for _ in range(2)]
    first = sf.read(folder / "continuation.wav", dtype="float32")
    return results, first, folder


def test_the_main_command_says_where_its_file_is(continuations):
    results, _, folder = continuations
    for result in results:
        assert result.returncode == 0, result.stderr
        assert str((folder / "continuation.wav").resolve()) in result.stdout


def test_the_file_holds_the_prompt_and_seven_new_seconds(continuations):
    _, (audio, sampling_rate), _ = continuations
    prompt, _ = sf.read(example_prompt(), dtype="float32")
    assert len(audio) == len(prompt) + 7 * sampling_rate
    assert np.allclose(audio[: len(prompt)], prompt, atol=1 / 32000)


def test_what_is_new_is_neither_silence_nor_noise_nor_the_prompt_again(continuations):
    from audiolm_hf.evaluation.metrics.spectrograms import power_spectrogram

    _, (audio, sampling_rate), _ = continuations
    prompt, _ = sf.read(example_prompt(), dtype="float32")
    new = audio[len(prompt) :]
    level_db = 20 * np.log10(np.sqrt(np.mean(new**2)) / np.sqrt(np.mean(prompt**2)))
    assert -12 < level_db < 12
    # Speech changes in loudness from syllable to syllable; stationary noise does not.
    loudness_db = 10 * np.log10(power_spectrogram(new).sum(1) + 1e-8)
    assert loudness_db.std() > 4
    # Most of speech's energy lies below 4 kHz; white noise has half of it there.
    power = power_spectrogram(new).mean(0)
    assert power[: len(power) // 2].sum() > 0.8 * power.sum()
    # No stretch of a second is a copy of the prompt's sound at any shift.
    for start in range(0, len(new) - sampling_rate, sampling_rate):
        piece = new[start : start + sampling_rate]
        correlation = np.correlate(prompt, piece, mode="valid")
        energy = np.sqrt(np.convolve(prompt**2, np.ones(len(piece)), mode="valid") * np.sum(piece**2))
        assert np.abs(correlation / (energy + 1e-6)).max() < 0.9


@pytest.mark.parametrize("name", list_checkpoints())
def test_the_card_is_there_with_its_pictures(name):
    folder = Path(checkpoint(name))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        card.startswith("---\n")
        and "license:" in card
        and f"audiolm-hf evaluate checkpoint --checkpoint {name}" in card
    )
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", card)
    assert len(pictures) == 6 and all((folder / path).is_file() for path in pictures)


def test_the_file_tree_is_what_is_there():
    tree = re.search(r"<!-- file-tree -->\n```\n(.*?)```", README, re.DOTALL).group(1)
    named = set(re.findall(r"\b[a-z_]+\.py\b", tree))
    flat = {path.name for path in (ROOT / "src/audiolm_hf").glob("*.py")} - {"__init__.py"}
    assert (
        flat == {name for name in named if (ROOT / "src/audiolm_hf" / name).exists()}
        and named - {"reference.py"} == flat
    )
    for folder in re.findall(r"^  (\w+)/ ", tree, re.MULTILINE):
        assert (ROOT / "src/audiolm_hf" / folder).is_dir()


def commands() -> list[list[str]]:
    """Every `audiolm-hf` command of the README, without comments, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|", line.partition("#")[0])]
    return [shlex.split(part)[1:] for part in parts if part.startswith("audiolm-hf ")]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_understood(command):
    if command[-1] == "--help":
        with pytest.raises(SystemExit, match="^0$"):
            cli.main(command)
        return
    arguments = cli.build_parser(command[:1]).parse_args(command)
    config = vars(arguments).get("config")
    assert config is None or (ROOT / config).is_file()


def test_there_are_commands_of_every_verb_in_the_readme():
    assert {command[0] for command in commands()} == set(cli.VERBS) - {
        "checkpoints",
        "convert",
    }  # configs/lora has the second
    assert "`audiolm-hf checkpoints`" in README


@pytest.mark.parametrize(("name", "levels"), [("speech-tiny", "levels 0-3"), ("piano-tiny", "levels 0 and 1")])
def test_the_diagram_shows_what_the_checkpoints_run(name, levels):
    folder = Path(checkpoint(name))
    config = json.loads((folder / "config.json").read_text())
    assert config["fine_config"] is None and "fine" not in (folder / "generation_config.json").read_text()
    count = config["coarse_config"]["num_coarse_codebooks"]
    assert levels == {4: "levels 0-3", 2: "levels 0 and 1"}[count] and levels in README
    diagram = README.split("```")[1]
    assert "[ semantic stage ]" in diagram and "[ coarse stage   ]" in diagram and "fine" not in diagram


def test_the_versions_and_sizes_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert f"Python {' or '.join(versions)} (later ones install, but are not tested)" in README
    assert project["requires-python"] == f">={versions[0]}"
    size = sum(path.stat().st_size for path in (ROOT / "src").rglob("*") if "__pycache__" not in path.parts)
    assert abs(size / 1e6 - 70) < 10 and "about 70 MB" in README


def test_only_the_tests_are_installed_in_place():
    """What is installed first is not replaced by another kind of installation on the way down the page."""
    installs = re.findall(r"^pip install (?!torch|--no-deps)(.*?)(?: &&|$)", README, re.MULTILINE)
    assert len(installs) >= 4
    assert [line for line in installs if "-e" in line.split()] == [line for line in installs if "[test]" in line]


def test_paths_named_in_the_readme_exist():
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / path).exists(), path
