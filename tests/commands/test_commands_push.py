# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf push` and `demo` hand their options on."""

import socket

import pytest
from huggingface_hub import constants

from audiolm_hf import cli, hub
from audiolm_hf.commands.options import find_device


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


@pytest.mark.parametrize(("options", "private"), [([], True), (["--private"], True), (["--no-private"], False)])
def test_a_new_repository_is_private_unless_told_otherwise(monkeypatch, tmp_path, options, private):
    seen = {}
    monkeypatch.setattr(hub, "push_checkpoint", lambda *arguments, **options: seen.update(options) or "")
    cli.main(["push", str(tmp_path), "somebody/audiolm", *options])
    assert seen["private"] is private and seen["with_code"] is True


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path, capsys):
    assert cli.main(["push", str(tmp_path), "somebody/audiolm"]) == 1
    assert "config.json; give a folder" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert cli.main(["push", "speech-tiny", "somebody/audiolm"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("audiolm-hf: error: the Hugging Face Hub cannot be reached (") and "refused" in error


@pytest.mark.parametrize("given", [False, True])
def test_demo_hands_its_options_on(monkeypatch, tmp_path, given):
    demo = pytest.importorskip("audiolm_hf.demo")
    seen = []
    monkeypatch.setattr(demo, "build_demo", lambda *options: seen.append(options) or "page")
    monkeypatch.setattr(demo, "launch_demo", lambda *options: seen.append(options))
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--threads", "2", "--device", "cpu"]
    assert cli.main(["demo", *(["--checkpoint", str(tmp_path), *options] if given else [])]) == 0
    expected = [(str(tmp_path), "cpu", 2), ("page", "127.0.0.1", port)]
    assert seen == (expected if given else [("speech-tiny", find_device(None), None), ("page", None, None)])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], "--port is 99999; give 1 or more and at most 65535"),
        (["--host", "256.1.1.1"], "cannot listen at 256.1.1.1"),
        (["--checkpoint", "speech-huge"], "'speech-huge' is not found"),
        (["--device", "gpu"], "--device is 'gpu'; this machine has cpu"),
        (["--threads", "0"], "--threads is 0; give 1 or more"),
    ],
)
def test_demo_refuses_before_the_model_is_loaded(monkeypatch, capsys, options, message):
    demo = pytest.importorskip("audiolm_hf.demo")
    monkeypatch.setattr(demo, "build_demo", lambda *given: pytest.fail("loaded"))
    assert cli.main(["demo", *options]) == 1
    assert message in capsys.readouterr().err


def test_demo_refuses_a_port_that_is_taken(monkeypatch, capsys):
    demo = pytest.importorskip("audiolm_hf.demo")
    monkeypatch.setattr(demo, "build_demo", lambda *given: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert cli.main(["demo", "--port", str(port)]) == 1
    assert f"cannot listen at this machine, port {port}" in capsys.readouterr().err
