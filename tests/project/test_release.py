# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The files by which others join the project: version, changelog, citation, issue forms, workflows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from audiolm_hf.provenance_audiolm import VERSION

ROOT = Path(__file__).parents[2]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}


def test_the_version_is_in_one_place_of_the_package():
    shown = subprocess.run([sys.executable, "-m", "hatchling", "version"], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == VERSION, shown.stderr
    lines = [path for path in (ROOT / "src").rglob("*.py") if f'"{VERSION}"' in path.read_text()]
    assert [path.name for path in lines] == ["provenance_audiolm.py"]
    assert VERSION not in (ROOT / "pyproject.toml").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION


def test_the_changelog_has_what_comes_next_first():
    assert re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] in (
        "Unreleased",
        VERSION,
    )


def test_the_citation_has_what_its_schema_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"] and citation["authors"]
    for work in citation["references"]:
        assert work["type"] and work["title"] and all({"family-names", "given-names"} <= {*a} for a in work["authors"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_the_site_requires(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form) and len(form["body"]) >= 2
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])
    assert len({field["id"] for field in form["body"]}) == len(form["body"])


def steps(name: str) -> str:
    return "\n".join(str(step) for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"])


def test_workflows_run_the_scripts_of_the_repository():
    assert set(WORKFLOWS) == {"tests", "versions", "release"}
    assert ".ci/run" in steps("tests") and ".ci/versions" in steps("versions")
    assert WORKFLOWS["versions"]["jobs"]["run"]["strategy"]["matrix"]["set"] == ["lowest", "newest"]
    for path in (".ci/run", ".ci/versions"):
        assert (ROOT / path).stat().st_mode & 0o111


def test_a_release_is_published_without_a_token_from_its_tag():
    release = WORKFLOWS["release"]
    assert release[True] == {"push": {"tags": ["v*"]}}  # `on`, which YAML 1.1 reads as true
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"} and release["jobs"]["publish"]["needs"]
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in steps("release") and "pypa/gh-action-pypi-publish" in steps("release")
