# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""README and docs keep their promises: code runs, commands are understood, links and lists are what is there."""

import functools
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import yaml
from huggingface_hub import ModelCard
from peft import LoraConfig

import audiolm_hf
from audiolm_hf import cli
from audiolm_hf.bundled import checkpoint, example_prompt, list_checkpoints
from audiolm_hf.evaluation.card import NOT_STATED
from audiolm_hf.provenance_audiolm import checkpoint_hash
from audiolm_hf.training.recipe import load_config, resolve_steps

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
LORA = (ROOT / "configs/lora/README.md").read_text(encoding="utf-8")
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "configs/**/*.md", "spaces/**/*.md", "src/**/*.md")
    for path in sorted(ROOT.glob(pattern))
}
CONFIGS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.glob("configs/**/*.yaml")
}
CODE = {
    name: blocks
    for name, text in TEXTS.items()  # that of the Space runs in tests/commands/test_space.py
    if not name.startswith("spaces/")
    and (blocks := re.findall(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)```", text, re.DOTALL))
}
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
PROGRAMS = {
    *("audiolm-hf", "python", "python3", "pip", "hf", "git", "cd", "source", "ffmpeg", "ffplay", "aplay", "torchrun"),
    *("accelerate", "pytest", "ruff", "mypy", "mkdocs", "pre-commit", ".ci/run", ".ci/versions"),
}
# Bash takes commands apart: every program is a function that only writes its words to the output.
RECORD = """
set -u; exec 3>&1 1>/dev/null; PATH=/nowhere
record() { local IFS=$'\\t'; printf '%s\\n' "$*" >&3; }
command_not_found_handle() { record "$@"; }
for own in cd source .ci/run .ci/versions; do eval "$own() { record $own \\"\\$@\\"; }"; done
"""


def run(arguments, folder):
    return subprocess.run(arguments, cwd=folder, env=OFFLINE, capture_output=True, text=True, timeout=600)


def make_adapters(*voices):
    """Write an untrained adapter to where the training of the page writes each."""
    model = audiolm_hf.AudioLMModel.from_pretrained(checkpoint())
    model.add_adapter(LoraConfig(r=2, target_modules=r"coarse\.model\..*_proj"))
    for voice in voices:
        model.save_pretrained(f"runs/lora/{voice}/adapter")
        audiolm_hf.AudioLMProcessor.from_pretrained(checkpoint()).save_pretrained(f"runs/lora/{voice}/adapter")


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # of PEFT, for a second adapter
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by PEFT
@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")  # of torch, without an accelerator
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("src/")) for name in CODE]
)
def test_python_runs_as_printed(name, tmp_path, monkeypatch):
    """From top to bottom of a page, in one process, as its reader does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    namespace = {"__name__": "__main__"}
    for need, block in CODE[name]:
        if need:
            make_adapters(*{"adapter": ["voice"], "adapters": ["voice", "other"]}[need])
        exec(compile(block, name, "exec"), namespace)


def test_pages_agree_on_how_much_speech_the_checkpoint_was_trained():
    found = {name: re.findall(r"(\w+) hours of (?:English|training data)", text) for name, text in TEXTS.items()}
    assert {name: hours for name, hours in found.items() if hours} == {
        name: ["nine"] for name in ("README.md", "docs/index.md", "docs/troubleshooting.md")
    }


def test_the_page_on_voices_has_the_similarities_of_its_recipe():
    rows = {name: f"{float(value):.2f}" for name, value in re.findall(r"^\| (.+?) \| \**([\d.]+)", LORA, re.MULTILINE)}
    without, adapted = rows["`speech-tiny`"], rows["`speech-tiny` with the adapter"]
    assert f"from {without} to {adapted}" in PAGES["docs/lora.md"]
    (measured,) = re.findall(r"SHA-256 in its card begins with (\w{12})", LORA)
    assert checkpoint_hash(checkpoint("speech-tiny")).startswith(measured), "measure the example again"


def test_there_is_python_in_the_readme_and_on_pages():
    assert len(CODE["README.md"]) == 1 and len(CODE) >= 7


@pytest.fixture(scope="module")
def continuations(tmp_path_factory):
    """What the README's first command writes and prints in a fresh process."""
    folder = tmp_path_factory.mktemp("main")
    block = re.search(r"<!-- main-command -->\n```bash\n(.*?)\n```", README, re.DOTALL).group(1)
    install, command = block.split(" && ")
    assert install == "pip install . -c constraints.txt"
    program, *arguments = command.split()
    assert program == "audiolm-hf"
    result = run([sys.executable, "-m", "audiolm_hf.cli", *arguments], folder)
    assert result.returncode == 0, result.stderr
    return result.stdout, sf.read(folder / "continuation.wav", dtype="float32"), folder


def test_the_main_command_says_where_its_file_is(continuations):
    output, _, folder = continuations
    assert str((folder / "continuation.wav").resolve()) in output


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
def test_the_card_is_made_from_results_of_these_weights(name):
    folder = Path(checkpoint(name))
    card = ModelCard.load(folder / "README.md")
    assert card.data.license and len(card.data.eval_results) >= 7 and NOT_STATED not in card.text
    assert f"audiolm-hf evaluate checkpoint --checkpoint {name}" in card.text
    assert f"`{checkpoint_hash(folder)}`" in card.text, "write it again with audiolm-hf card"
    for kind, count in (("png", 6), ("mp3", 6)):
        files = re.findall(rf"\((samples/sample_\d\.{kind})\)", card.text)
        assert len(files) == count and all((folder / path).is_file() for path in files)
        assert all((folder / path).stat().st_size < 100_000 for path in files)


def test_the_file_tree_is_what_is_there():
    tree = re.search(r"<!-- file-tree -->\n```\n(.*?)```", TEXTS["docs/code.md"], re.DOTALL).group(1)
    named = set(re.findall(r"\b[a-z_]+\.py\b", tree))
    flat = {path.name for path in (ROOT / "src/audiolm_hf").glob("*.py")} - {"__init__.py"}
    assert (
        flat == {name for name in named if (ROOT / "src/audiolm_hf" / name).exists()}
        and named - {"reference.py"} == flat
    )
    for folder in re.findall(r"^  (\w+)/ ", tree, re.MULTILINE):
        assert (ROOT / "src/audiolm_hf" / folder).is_dir()


@functools.cache
def commands() -> list[tuple[str, list[str]]]:
    """Every command of the texts, and of the first comment of configurations, as words with the name of its text.

    Loops and variables are bash's, over all blocks of a text, as for its reader.
    """
    scripts = {name: "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)) for name, text in TEXTS.items()}
    scripts |= {name: "\n".join(re.findall(r"^#   (.*)", text, re.MULTILINE)) for name, text in CONFIGS.items()}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, script in scripts.items():
            if script:
                one_by_one = script.replace(" | ", " ; ")  # always in the same order
                done = subprocess.run(["bash", "-c", RECORD + one_by_one], cwd=folder, capture_output=True, text=True)
                assert done.returncode == 0 and not done.stderr, f"{name}: {done.stderr}"
                found += [(name, line.split("\t")) for line in done.stdout.splitlines()]
    return found


def own_arguments(words: list[str]) -> list[str] | None:
    """Return the arguments of `audiolm-hf`, also where torchrun or accelerate start it."""
    if words[0] == "audiolm-hf":
        return words[1:]
    return words[words.index("audiolm_hf.cli") + 1 :] if "audiolm_hf.cli" in words else None


OWN = [(name, arguments) for name, words in commands() if (arguments := own_arguments(words))]


def trained(command: list[str]) -> Any:
    """Return the checked configuration of a `train` command, or None of other commands and of a placeholder."""
    if command[0] != "train" or "X.yaml" in command:
        return None
    given = cli.build_parser(command[:1]).parse_args(command)
    return load_config(ROOT / given.config, given.overrides)


def trainings(config: Any) -> list[Any]:
    return [step.config for step in resolve_steps(config)] if hasattr(config, "steps") else [config]


def test_what_is_read_of_runs_was_made_by_a_command_before():
    checked = 0
    made: dict[str, list[str]] = {}
    for name, command in OWN:
        config = trained(command)
        outputs = made.setdefault(name, [])
        for before, word in itertools.pairwise(command):
            if word.startswith("runs/") and before != "-o":
                assert any(Path(word).is_relative_to(output) for output in outputs), f"{name}: {word}"
                checked += 1
            outputs += [word] if before == "-o" else []
        outputs += [config.output_folder] if config else []
    assert checked > 10


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("speech", ["data.folder=DATA"]),
        (
            "piano",
            [
                f"steps.{step}.data.folder=DATA"
                for step in ("render", "render_validation", "render_transposed", "render_varied")
            ],
        ),
    ],
)
def test_the_commands_of_a_recipe_are_its_steps(name, overrides):
    recipe = load_config(ROOT / f"configs/tiny/{name}/recipe.yaml", [*overrides, "steps.detector.data.folder=DATA"])
    readme = [command for text, command in OWN if text == f"configs/tiny/{name}/README.md"]
    steps = [step.config for step in resolve_steps(recipe) if step.kind != "tokenize"]
    alone = [config for command in readme if (config := trained(command))]
    assert alone[: len(steps) - 1] == steps[:-1]  # the last is the detector, alone that of the bundled checkpoint
    tokenized = [cli.build_parser(["tokenize"]).parse_args(command) for command in readme if command[0] == "tokenize"]
    splits = [
        (step.config, split, files)
        for step in resolve_steps(recipe)
        if step.kind == "tokenize"
        for split, files in (("train", step.config.data.train), ("validation", step.config.data.validation))
        if files
    ]
    assert len(tokenized) == len(splits)
    for command, (config, split, files) in zip(tokenized, splits, strict=True):
        assert str(command.output) == f"{config.output_folder}/{split}" and command.float16 == config.float16
        assert (str(command.tokenizer), str(command.codec)) == (config.semantic_tokenizer, config.codec)
        assert [*map(str, command.data)] == [f"{config.data.folder}/{file}" for file in files]


@pytest.mark.parametrize("name", ["speech", "piano"])
def test_the_overrides_that_the_page_names_are_those_of_recipes(name):
    given = re.findall(r"`([\w.]+=\d+)` (?:applies to every step|to one step)", PAGES["docs/train.md"])
    assert len(given) == 2
    load_config(ROOT / f"configs/tiny/{name}/recipe.yaml", [*given, "data.folder=DATA"] if name == "speech" else given)


def test_what_trains_on_the_data_folder_reads_what_the_data_command_builds():
    corpora = yaml.safe_load((ROOT / "configs/data/speech.yaml").read_text(encoding="utf-8"))["corpora"]
    built = {f"{name}/{split}.parquet" for name, corpus in corpora.items() for split in corpus["splits"]}
    read = set()
    for name, command in OWN:
        if name in ("docs/train.md", "docs/detect.md", "docs/lora.md") and "data.folder=DATA" in command:
            for each in trainings(trained(command)):
                data = vars(each).get("data")
                read.update(
                    *(vars(data).get(key, []) for key in ("train", "validation", "recordings")) if data else ()
                )
    assert read <= built and len(read) >= 4


def test_every_page_says_what_its_data_folder_is():
    for name, text in TEXTS.items():
        assert "DATA" not in text or "`DATA" in text or "DATA as in" in text, name


@pytest.mark.parametrize("command", [command for _, command in OWN], ids=" ".join)
def test_every_command_is_understood(command):
    if command[-1] == "--help":
        with pytest.raises(SystemExit, match="^0$"):
            cli.main(command)
        return
    arguments = cli.build_parser(command[:1]).parse_args(command)
    config = vars(arguments).get("config")
    assert config is None or str(config) == "X.yaml" or (ROOT / config).is_file()
    trained(command)


def test_other_commands_are_of_known_programs_and_packages():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, words in commands():
        program = next(word for word in words if "=" not in word)
        assert program in PROGRAMS, f"{name}: {words}"
        if program == "pip":
            assert set(re.findall(r"[a-z]+", " ".join(re.findall(r"\[(.*?)\]", " ".join(words))))) <= set(extras), (
                words
            )
        for path in re.findall(r"\b(?:configs|tests|spaces|src)/[\w./-]+", " ".join(words)):
            assert (ROOT / path).exists(), f"{name}: {path}"


def test_the_messages_in_titles_of_troubleshooting_are_the_sources():
    titles = re.findall(r"^\*\*(.+?)\*\*", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    quoted = {text for title in titles for text in re.findall("`(.+?)`", title) if " " in text} - {"pip install"}
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert quoted and all(text in source for text in quoted), quoted


def test_there_are_commands_of_every_verb():
    assert {command[0] for _, command in OWN} == set(cli.VERBS) - {"checkpoints", "convert"}
    assert "`audiolm-hf checkpoints`" in TEXTS["docs/index.md"]
    assert "`audiolm-hf convert" in (ROOT / "configs/lora/README.md").read_text()


def test_the_example_is_what_the_main_command_makes_with_the_bundled_checkpoint():
    facts = audiolm_hf.read_provenance(ROOT / "docs/audio/continuation.mp3")
    advice = "audiolm-hf continue -o docs/audio/continuation.mp3 --length-s 7 --seed 0 makes it again"
    assert facts["checkpoint_sha256"] == checkpoint_hash(checkpoint()) and facts["seed"] == 0, advice
    assert "audio/continuation.mp3" in README and "audio/continuation.mp3" in TEXTS["docs/index.md"]


def test_the_measured_figures_are_those_of_the_cards():
    cards = "".join((Path(checkpoint(name)) / "README.md").read_text() for name in list_checkpoints())
    table = re.search(r"<!-- measured -->\n(.*?)\n\n", README, re.DOTALL).group(1)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) >= 5
    for title, value, others in rows:
        found = [line for line in cards.splitlines() if line.startswith("| ") and f"| {value}" in line]
        assert any(all(other in line for other in others.split(", another")[:1]) for line in found), title


def test_every_page_and_every_name_of_the_package_is_in_the_documentation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text().replace("!!python", ""))["nav"]
    assert set(re.findall(r"[\w]+\.md", str(navigation))) == {Path(name).name for name in PAGES}
    assert set(re.findall(r"^::: audiolm_hf\.(\w+)", PAGES["docs/api.md"], re.MULTILINE)) == set(audiolm_hf.__all__)
    for name in PAGES.keys() - {"docs/api.md"}:
        assert f"({name})" in README, name


@pytest.mark.parametrize(("name", "levels"), [("speech-tiny", "levels 0-3"), ("piano-tiny", "levels 0 and 1")])
def test_the_diagram_shows_what_the_checkpoints_run(name, levels):
    folder = Path(checkpoint(name))
    config = json.loads((folder / "config.json").read_text())
    assert config["fine_config"] is None and "fine" not in (folder / "generation_config.json").read_text()
    assert json.loads((folder / "generation_config.json").read_text())["acoustic_mode"] == "parallel"
    count = config["coarse_config"]["num_coarse_codebooks"]
    assert levels == {4: "levels 0-3", 2: "levels 0 and 1"}[count] and levels in TEXTS["docs/concepts.md"]
    for text in (README, TEXTS["docs/concepts.md"]):
        diagram = text.split("```")[1]
        assert "[ semantic stage ]" in diagram and "[ acoustic stage ]" in diagram and "fine" not in diagram


def test_the_versions_and_sizes_are_those_of_the_package():
    text = TEXTS["docs/index.md"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert f"Python {' or '.join(versions)} (later ones install, but are not tested)" in text
    assert project["requires-python"] == f">={versions[0]}" and f"Python {versions[0]}" in README
    size = sum(path.stat().st_size for path in (ROOT / "src").rglob("*") if "__pycache__" not in path.parts)
    assert abs(size / 1e6 - 70) < 10 and "about 70 MB" in text


def test_only_contributors_install_in_place():
    """What is installed first is not replaced by another kind of installation by a command of another page."""
    installs = [(name, words) for name, words in commands() if words[:2] == ["pip", "install"]]
    installs = [(name, words) for name, words in installs if any(word.startswith(".") for word in words)]
    assert len(installs) >= 6
    assert {name for name, words in installs if "-e" in words} == {"CONTRIBUTING.md"}
    assert all(words[-2:] == ["-c", "constraints.txt"] for _, words in installs)
