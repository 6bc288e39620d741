# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Uploading, and refusing what is no checkpoint. Running an exported one: test_hub_roundtrip.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from peft import LoraConfig

from audiolm_hf import AudioLMModel, add_code, export_checkpoint, hub, pipeline, push_checkpoint
from tests.helpers_checkpoint import tiny_model, tiny_processor


@pytest.fixture
def uploads(monkeypatch) -> list[dict]:
    """Stand in for the Hub; what was uploaded, with the names and texts of its files."""
    seen: list[dict] = []

    class FakeApi:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
            seen.append({"private": private, "exist_ok": exist_ok, "token": self.token})
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path: Path, **options: object) -> str:
            root = Path(folder_path)
            files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
            config = json.loads((Path(folder_path) / "config.json").read_text())
            seen[-1] |= {"files": files, "config": config, **options}
            return f"https://huggingface.co/{options['repo_id']}/commit/1"

    monkeypatch.setattr(hub, "HfApi", FakeApi)
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(
        tiny_model(), tiny_processor(), tmp_path_factory.mktemp("hub") / "my-checkpoint", with_code=False
    )


def test_a_checkpoint_is_uploaded_with_its_code_and_left_as_it_was(uploads, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    url = push_checkpoint(folder, "somebody/audiolm", private=True, token="secret")
    (upload,) = uploads
    assert url.startswith("https://huggingface.co/somebody/audiolm")
    assert upload["private"] is True and upload["exist_ok"] is True and upload["token"] == "secret"
    assert upload["repo_id"] == "somebody/audiolm" and upload["commit_message"] == "Upload my-checkpoint"
    assert {"model.safetensors", "processing_audiolm.py", "modeling_audiolm.py"} <= upload["files"]
    assert set(upload["config"]["custom_pipelines"]) == {"audio-continuation"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_checkpoint_is_uploaded_as_it_is_where_asked(uploads, folder):
    push_checkpoint(folder, "somebody/audiolm", with_code=False, revision="next", commit_message="Second")
    (upload,) = uploads
    assert upload["files"] == {path.name for path in folder.iterdir()}
    assert upload["revision"] == "next" and upload["commit_message"] == "Second"


@pytest.mark.parametrize(("given", "private"), [({}, True), ({"private": None}, True), ({"private": False}, False)])
def test_a_new_repository_is_private_unless_told_otherwise(uploads, folder, given, private):
    push_checkpoint(folder, "somebody/audiolm", **given)
    assert uploads[0]["private"] is private
    with pytest.raises(ValueError, match="private is 'no'"):
        push_checkpoint(folder, "somebody/audiolm", private="no")


def test_only_what_a_checkpoint_consists_of_is_uploaded(uploads, folder, tmp_path, caplog):
    checkpoint = shutil.copytree(folder, tmp_path / "checkpoint")
    more = ["README.md", "samples/sample_1.png", "detector/config.json", "detector/model.safetensors"]
    names = {path.name for path in folder.iterdir()} | {*more}
    others = [
        "id_rsa",
        ".env",
        "tokens.npy",
        "wandb/run.json",
        "prompt.wav",
        "samples/sample_1.flac",
        "detector/log.jsonl",
        "optimizer.json",
    ]
    others += ["__pycache__/x.pyc", "notes.py", "training.safetensors", "checkpoint-3/model.safetensors", "token"]
    for name in [*more, *others]:
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_text("x")
    (checkpoint / "secret").symlink_to(tmp_path)
    push_checkpoint(checkpoint, "somebody/audiolm", with_code=False)
    assert uploads[0]["files"] == names


def test_an_adapter_is_uploaded_if_its_base_is_found_from_there(uploads, folder, tmp_path):
    model = AudioLMModel.from_pretrained(folder)
    model.add_adapter(LoraConfig(target_modules=r"coarse\..*q_proj"))
    model.save_pretrained(tmp_path / "voice")
    with pytest.raises(ValueError, match=r"The base of the adapter .* is '\.\..*', which is not found from the Hub"):
        push_checkpoint(tmp_path / "voice", "somebody/voice")
    path = tmp_path / "voice" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "somebody/base"}))
    push_checkpoint(tmp_path / "voice", "somebody/voice")
    assert {"adapter_config.json", "adapter_model.safetensors", "audiolm_adapter.json"} <= uploads[0]["files"]


@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "samples/sample_1.png", "samples"])
def test_links_are_not_followed(uploads, folder, tmp_path, name):
    checkpoint = shutil.copytree(folder, tmp_path / "checkpoint")
    target = tmp_path / "elsewhere"
    if name == "samples":
        target.mkdir()
        (target / "sample_1.png").write_text("x")
    else:
        target.write_text("x")
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).unlink(missing_ok=True)
    (checkpoint / name).symlink_to(target)
    with pytest.raises(ValueError, match=f"{name}.* is a link"):
        push_checkpoint(checkpoint, "somebody/audiolm")
    assert not uploads


def test_weights_that_run_code_are_not_uploaded(uploads, tmp_path):
    export_checkpoint(tiny_model().codec, None, tmp_path)
    (tmp_path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"optimizer\.pt.*safetensors"):
        push_checkpoint(tmp_path, "somebody/audiolm")
    assert not uploads


@pytest.mark.parametrize("content", [None, "{}", '{"model_type": "bert"}'])
@pytest.mark.parametrize("action", [add_code, lambda folder: push_checkpoint(folder, "somebody/audiolm")])
def test_what_is_no_checkpoint_is_refused(uploads, tmp_path, content, action):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(
        (ValueError, FileNotFoundError),
        match=r"config\.json; give a folder|has model_type None|checkpoint; this package has",
    ):
        action(tmp_path)
    assert not uploads


def test_an_unknown_checkpoint_is_one_clear_error():
    with pytest.raises(ValueError, match="'speech-huge' is not found"):
        pipeline("speech-huge")


def test_a_folder_is_loaded_with_its_path_or_its_name(folder):
    assert isinstance(pipeline(folder, device="cpu").model, AudioLMModel)
    assert isinstance(pipeline(str(folder), device="cpu").model, AudioLMModel)


def test_a_name_on_a_hub_that_cannot_be_reached_fails_at_once(tmp_path):
    code = (
        "import sys, time, audiolm_hf\n"
        "start = time.monotonic()\n"
        "try:\n    audiolm_hf.pipeline('user/name')\n"
        "except OSError as error:\n    sys.stdout.write(f'{time.monotonic() - start < 5} {error}')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("True user/name is no folder, and the Hugging Face Hub cannot be reached"), done
