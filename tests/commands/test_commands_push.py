# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf push` uploads to a stand-in of the Hub, and `demo` hands its options on."""

import socket

import pytest
from huggingface_hub import constants

from audiolm_hf import cli, export_checkpoint
from audiolm_hf.commands.options import find_device
from audiolm_hf.hub import list_upload
from tests.helpers_checkpoint import tiny_model
from tests.helpers_hub import SENDS_DATA, connect, serve_hub, set_token

NAME = "somebody/audiolm"


@pytest.fixture
def hub_of_somebody(monkeypatch, tmp_path):
    with serve_hub() as hub:
        connect(monkeypatch, hub, tmp_path / "cache")
        yield hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_checkpoint(tiny_model().codec, None, tmp_path_factory.mktemp("push") / "codec", with_code=False)


@pytest.mark.filterwarnings(SENDS_DATA)
def test_push_prints_the_commit(hub_of_somebody, folder, capsys):
    assert cli.main(["push", str(folder), NAME]) == 0
    repo = hub_of_somebody.repos[NAME]
    assert capsys.readouterr().out == f"{hub_of_somebody.endpoint}/{NAME}/commit/{repo.branches['main']}\n"
    assert repo.private and "modeling_soundstream_audiolm.py" in repo.files()
    options = ["--no-private", "--without-code", "--revision", "next", "--message", "Second"]
    assert cli.main(["push", str(folder), "somebody/open", *options]) == 0
    repo = hub_of_somebody.repos["somebody/open"]
    assert not repo.private and repo.messages[-1] == "Second"
    assert set(repo.files("next")) == {".gitattributes", *(path.name for path in folder.iterdir())}


def test_a_dry_run_lists_what_would_be_uploaded_and_asks_nobody(hub_of_somebody, folder, capsys):
    assert cli.main(["push", str(folder), NAME, "--dry-run"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    sizes = {name: int(size.replace(",", "")) for size, name in map(str.split, lines)}
    assert sizes == list_upload(folder) and sizes["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert total.split() == [f"{sum(sizes.values()):,}", "bytes", "to", NAME]
    assert cli.main(["push", str(folder), NAME, "--dry-run", "--without-code"]) == 0
    assert ".py" not in capsys.readouterr().out
    assert not hub_of_somebody.requests


def test_a_push_without_token_is_one_line(hub_of_somebody, monkeypatch, folder, capsys):
    set_token(monkeypatch, None)
    assert cli.main(["push", str(folder), NAME]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"audiolm-hf: error: The Hub refuses the upload to {NAME} (") and "hf auth login" in error


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
    expected = [([str(tmp_path)], "cpu", 2), ("page", "127.0.0.1", port)]
    assert seen == (expected if given else [(None, find_device(None), None), ("page", None, None)])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], "--port is 99999; give an integer from 1 to 65,535"),
        (["--host", "256.1.1.1"], "cannot listen at 256.1.1.1"),
        (["--checkpoint", "speech-huge"], "'speech-huge' is not found"),
        (["--device", "gpu"], "--device is 'gpu'; this machine has cpu"),
        (["--threads", "0"], "--threads is 0; give an integer of 1 or more"),
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
