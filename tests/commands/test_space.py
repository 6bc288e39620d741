# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Space: started by its one command, offline, and driven over the network of this machine."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from audiolm_hf import export_checkpoint, read_audio
from tests.helpers_checkpoint import CLIP, ROOT, environment, tiny_model, tiny_processor

gradio_client = pytest.importorskip("gradio_client")
SPACE = ROOT / "spaces" / "audio_continuation"
START_S = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"app.py ended with {process.returncode}:\n{log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"app.py did not listen within {START_S} s:\n{log.read_text()}")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("space")
    folder = export_checkpoint(tiny_model(), tiny_processor(), home / "tiny")
    port, log = free_port(), home / "log.txt"
    command = [sys.executable, str(SPACE / "app.py"), "--checkpoint", str(folder), "--port", str(port)]
    variables = environment(home, GRADIO_TEMP_DIR=str(home / "gradio"), TMPDIR=str(home))
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=home, env=variables, stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_until_open(process, port, log)
            downloads = home / "downloads"
            client = gradio_client.Client(f"http://127.0.0.1:{port}", verbose=False, download_files=str(downloads))
            yield client
            client.close()
        finally:
            process.terminate()
            process.wait(30)


def test_a_prompt_is_continued(client):
    path, figure = client.predict(gradio_client.handle_file(str(CLIP)), 1.0, 0, api_name="/continue_audio")
    audio, rate = read_audio(path)
    assert rate == 16000 and audio.shape[1] == 40000 + 16000
    assert figure["type"] == "matplotlib" and figure["plot"].startswith("data:image/")


def test_the_visitor_is_told_what_is_wrong(client):
    with pytest.raises(Exception, match="no prompt yet"):
        client.predict(None, 1.0, 0, api_name="/continue_audio")
    with pytest.raises(Exception, match="cannot be decoded"):
        client.predict(gradio_client.handle_file(str(ROOT / "LICENSE")), 1.0, 0, api_name="/continue_audio")


def test_the_header_is_that_of_a_space():
    header = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    assert header["sdk"] == "gradio" and header["license"] == "apache-2.0"
    assert (SPACE / header["app_file"]).is_file()
    assert len(header["short_description"]) <= 60
    says, requirement = (SPACE / "requirements.txt").read_text().splitlines()
    assert says.startswith("# The released version.") and requirement == "audiolm_hf[space]"
