# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Links and references: those within the repository lead somewhere, those to the outside are listed below."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", ".github", "configs", "docs", "notebooks", "spaces", "src", "tests")
SUFFIXES = {".cfg", ".cff", ".csv", ".ipynb", ".md", ".py", ".toml", ".txt", ".yaml", ".yml", ""}
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
ADDRESS = URLS["Repository"]
ALONE = (*(ROOT / "src/audiolm_hf/checkpoints").iterdir(), ROOT / "spaces/audio_continuation")  # uploaded alone

# What is linked. There is no network in tests: whoever adds an entry has opened it.
HOSTS = {
    *("arxiv.org", "creativecommons.org", "huggingface.co", "download.pytorch.org", "keepachangelog.com"),
    *("www.contributor-covenant.org", "www.openslr.org", "keithito.com", "data.keithito.com", "www.piano-midi.de"),
    *("github.com", "pypi.org", "cv.iptc.org", "semver.org", "commonvoice.mozilla.org"),
}
REPOSITORIES = {
    ADDRESS,
    "https://github.com/cheriell/ClassicalPianoMIDI-dataset",
    "https://github.com/Picovoice/speech-to-intent-benchmark",
}
PAPERS = {
    "1505.07818": "Domain-Adversarial Training of Neural Networks",
    "1802.06182": "CREPE",
    "1904.12088": "Neural Source-Filter Waveform Models",
    "2001.04643": "DDSP",
    "2106.07447": "HuBERT",
    "2106.09685": "LoRA",
    "2107.03312": "SoundStream",
    "2110.01200": "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention Networks",
    "2202.04200": "MaskGIT",
    "2204.09224": "ContentVec",
    "2209.03143": "AudioLM",
    "2210.13438": "EnCodec",
    "2305.09636": "SoundStorm",
    "2305.11072": "Spin",
    "2305.13009": "TWIST",
    "2210.03142": "On Distillation of Guided Diffusion Models",
    "2305.18975": "kNN-VC",
    "2306.00814": "Vocos",
    "2306.06546": "DAC",
    "2409.07437": "SALMon",
}
TEMPLATES = {"LICENSE", "CONTRIBUTING.md", ".ci/address", "tests/project/test_links.py"}  # with addresses of nobody
HUB_NAMES = {
    *("facebook/hubert-base-ls960", "facebook/w2v-bert-2.0", "kyutai/mimi", "descript/dac_16khz"),
    *("HuggingFaceTB/SmolLM2-135M", "openai/whisper-tiny.en"),
}


def texts() -> dict[str, str]:
    """Every text file of the repository by its name, notebooks by the sources of their cells."""
    roots = [ROOT / folder for folder in FOLDERS]
    paths = [path for root in roots for path in root.rglob("*")] + [*ROOT.iterdir()]
    found = {}
    for path in paths:
        if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts and path.name != ".git":
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
            found[path.relative_to(ROOT).as_posix()] = text
    return found


TEXTS = texts()
PAGES = {name: text for name, text in TEXTS.items() if name.endswith(".md")}


def anchors(text: str) -> set[str]:
    """The anchors of headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """The targets of links and pictures outside of code."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return re.findall(r"(?:\]\(|(?:src|href)=\")([^)\s\"]+)", prose) + re.findall(r"<(https?://[^>]+)>", prose)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """Local links are files, and their anchors headings; the build of the documentation checks those of classes."""
    for target in links(PAGES[name]):
        path, _, anchor = target.partition("#")
        if target.startswith(("http", "mailto:")):
            continue
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.is_file(), target
        if name.startswith(("docs/", "configs/")):
            place = file.resolve().relative_to(ROOT).as_posix()
            assert place.startswith(("docs/", "configs/", "src/audiolm_hf/checkpoints/")), f"{target}: is no page"
        if anchor and not anchor.startswith("audiolm_hf."):
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_what_is_uploaded_alone_links_nothing_beside_itself():
    for folder in ALONE:
        for path in folder.rglob("*.md"):
            for target in links(path.read_text(encoding="utf-8")):
                inside = (path.parent / target).resolve().is_relative_to(folder)
                assert target.startswith("http") or inside, f"{path}: {target}"


def test_files_that_texts_name_are_there():
    """In prose, comments, docstrings and workflows: every path that begins with a folder of the repository."""
    pattern = rf"(?<![\w/$.@-])(?:\.\./)*(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*\w"
    missing, found = [], 0
    for name, text in TEXTS.items():
        for match in re.findall(pattern, text):
            found += 1
            if not any((place / match).exists() for place in (ROOT, (ROOT / name).parent)):
                missing.append(f"{name}: {match}")
    assert not missing and found > 150


def test_links_to_the_outside_are_of_known_places_and_papers():
    places, papers = [], set()
    for name, text in TEXTS.items():
        for url in re.findall(r"https?://[^\s)>\"'`,\]}|]+", text):
            template = set(url) & set("{[\\$")
            if template or name in TEMPLATES:
                continue
            parts = urlsplit(url.rstrip(".;:"))
            if not (parts.hostname or "").startswith(("127.0.0.1", "example.", "localhost")):
                places.append((name, parts))
        papers |= set(re.findall(r"(?i)arxiv(?:\.org/abs/|[: ])\s*(\d{4}\.\d{4,5})", text))
    for name, parts in places:
        assert parts.hostname in HOSTS, f"{name}: {parts.geturl()}"
        assert parts.scheme == "https" or parts.hostname in ("www.piano-midi.de", "cv.iptc.org"), (name, parts)
        if parts.hostname == "github.com":
            assert any(parts.geturl().startswith(address) for address in REPOSITORIES), f"{name}: {parts.geturl()}"
    code = "".join(text for name, text in TEXTS.items() if name.startswith("src/") and name.endswith(".py"))
    named = set(re.findall(r"[A-Z][\w-]+ \(arXiv\s(\d{4}\.\d{4,5})\)", code))  # a new file names its own paper
    assert set(PAPERS) <= papers <= {*PAPERS, *named}
    assert {parts.hostname for _, parts in places} == HOSTS


def test_names_on_the_hub_are_known():
    page, recipe = TEXTS["docs/public_parts.md"], TEXTS["configs/public/recipe.yaml"]
    named = set(re.findall(r"\b(?:facebook|kyutai|descript|HuggingFaceTB|openai)/[\w.-]*\w", "".join(TEXTS.values())))
    assert set(re.findall(r"hf download (\S+)", page)) <= named & HUB_NAMES
    assert set(re.findall(r"# (\w+/[\w.-]+);", recipe)) <= HUB_NAMES
    documented = "".join(text for name, text in TEXTS.items() if name.startswith(("docs/", "configs/")))
    assert {name for name in named if name in documented} <= HUB_NAMES


def test_the_address_of_the_repository_is_the_same_everywhere():
    assert set(URLS) == {"Repository", "Documentation", "Issues", "Changelog", "Paper"}
    assert all(url.startswith(ADDRESS) for name, url in URLS.items() if name != "Paper")
    assert f"git clone --depth 1 {ADDRESS} && cd {ADDRESS.rsplit('/')[-1]} " in PAGES["docs/index.md"]
    assert f"git+{ADDRESS}\n" in TEXTS["spaces/audio_continuation/requirements.txt"]
    assert f"git+{ADDRESS}" in TEXTS["notebooks/first_steps.ipynb"]
    assert yaml.safe_load(TEXTS["CITATION.cff"])["repository-code"] == ADDRESS
    assert f"\nrepo_url: {ADDRESS}\n" in TEXTS["mkdocs.yml"]
    assert '.ci/address "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY"' in TEXTS[".github/workflows/release.yml"]


def test_one_command_sets_the_address_in_every_file(tmp_path):
    names = [name for name, text in TEXTS.items() if ADDRESS in text]
    for name in (*names, ".ci/address"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".ci/address").chmod(0o755)

    def run(*arguments):
        return subprocess.run([tmp_path / ".ci/address", *arguments], capture_output=True, text=True)

    assert run().stdout.strip() == ADDRESS
    refused = run("git@github.com:me/audiolm")
    assert refused.returncode == 2 and "must be like https://" in refused.stderr
    assert run("https://github.com/me/my-audiolm.git").returncode == 0
    assert run().stdout.strip() == "https://github.com/me/my-audiolm"
    for name in names:
        text = (tmp_path / name).read_text()
        assert ADDRESS not in text and "https://github.com/me/my-audiolm" in text, name
