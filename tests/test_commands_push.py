# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf push` and `demo` hand their options on."""

import pytest

from audiolm_hf import cli, hub


def test_push_hands_its_options_on(monkeypatch, tmp_path, capsys):
    seen = {}

    def push(folder: str, repo_id: str, **options: object) -> str:
        seen.update(folder=folder, repo_id=repo_id, **options)
        return "https://huggingface.co/somebody/audiolm/commit/1"

    monkeypatch.setattr(hub, "push_checkpoint", push)
    assert cli.main(["push", str(tmp_path), "somebody/audiolm", "--private", "--without-code"]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/somebody/audiolm/commit/1\n"
    assert seen["folder"] == str(tmp_path) and seen["repo_id"] == "somebody/audiolm"
    assert seen["private"] is True and seen["with_code"] is False


def test_an_existing_repository_keeps_its_visibility(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(hub, "push_checkpoint", lambda *arguments, **options: seen.update(options) or "")
    cli.main(["push", str(tmp_path), "somebody/audiolm"])
    assert seen["private"] is None and seen["with_code"] is True


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path, capsys):
    assert cli.main(["push", str(tmp_path), "somebody/audiolm"]) == 1
    assert "holds no config.json" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--checkpoint", "x/y", "--host", "0.0.0.0", "--port", "7861"]])
def test_demo_hands_its_options_on(monkeypatch, arguments):
    demo = pytest.importorskip("audiolm_hf.demo")
    seen = []
    monkeypatch.setattr(demo, "build_demo", lambda checkpoint: seen.append(checkpoint) or "page")
    monkeypatch.setattr(demo, "launch_demo", lambda *given: seen.append(given))
    assert cli.main(["demo", *arguments]) == 0
    assert seen == (["x/y", ("page", "0.0.0.0", 7861)] if arguments else ["speech-tiny", ("page", None, None)])
