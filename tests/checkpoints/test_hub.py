# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Uploading, and refusing what is no checkpoint. Running an exported one: test_hub_roundtrip.py."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peft import LoraConfig

from audiolm_hf import (
    AudioLMModel,
    add_code,
    checkpoint,
    export_checkpoint,
    list_checkpoints,
    pipeline,
    push_checkpoint,
)
from audiolm_hf.hub import list_upload
from tests.helpers_checkpoint import tiny_model, tiny_processor
from tests.helpers_hub import SENDS_DATA, STRANGER_TOKEN, TOKEN, HubError, StandInHub, connect, serve_hub, set_token

NAME = "somebody/audiolm"
pytestmark = pytest.mark.filterwarnings(SENDS_DATA)


@pytest.fixture
def uploads(monkeypatch, tmp_path) -> Iterator[StandInHub]:
    """A stand-in of the Hub, and a user who is logged in."""
    with serve_hub() as hub:
        connect(monkeypatch, hub, tmp_path / "cache")
        yield hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(
        tiny_model(), tiny_processor(), tmp_path_factory.mktemp("hub") / "my-checkpoint", with_code=False
    )


def uploaded(hub: StandInHub, revision: str = "main") -> set[str]:
    return set(hub.repos[NAME].files(revision)) - {".gitattributes"}


def test_a_checkpoint_is_uploaded_with_its_code_and_left_as_it_was(uploads, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    planned = list_upload(folder)
    assert not uploads.requests
    url = push_checkpoint(folder, NAME)
    repo = uploads.repos[NAME]
    assert url == f"{uploads.endpoint}/{NAME}/commit/{repo.branches['main']}"
    assert repo.messages == ["initial commit", "Upload my-checkpoint"]
    files = repo.files()
    assert {"model.safetensors", "processing_audiolm.py", "modeling_audiolm.py"} <= uploaded(uploads) == set(planned)
    assert {name: len(files[name]) for name in planned} == planned
    assert set(json.loads(files["config.json"])["custom_pipelines"]) == {"audio-continuation"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_checkpoint_is_uploaded_as_it_is_where_asked(uploads, folder):
    push_checkpoint(folder, NAME, with_code=False, revision="next", commit_message="Second")
    assert uploaded(uploads, "next") == {path.name for path in folder.iterdir()} and not uploaded(uploads)
    assert uploads.repos[NAME].messages[-1] == "Second"
    push_checkpoint(folder, NAME, with_code=False, revision="main")
    assert uploaded(uploads) == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("given", "private"), [({}, True), ({"private": None}, True), ({"private": False}, False)])
def test_a_new_repository_is_private_unless_told_otherwise(uploads, folder, given, private):
    push_checkpoint(folder, NAME, **given)
    assert uploads.repos[NAME].private is private
    with pytest.raises(ValueError, match="private is 'no'"):
        push_checkpoint(folder, NAME, private="no")


def test_what_has_not_changed_is_not_sent_again(uploads, folder):
    first = push_checkpoint(folder, NAME)
    sent = len(uploads.requests)
    assert push_checkpoint(folder, NAME) == first
    assert not [line for line in uploads.requests[sent:] if "/commit/" in line or line.startswith("PUT")]


def test_an_interrupted_upload_sends_only_the_rest(uploads, folder, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / "checkpoint")
    (copy / "samples").mkdir()
    (copy / "samples" / "sample_1.png").write_bytes(b"picture")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between huggingface_hub's own attempts

    def fail():
        if uploads.large_files:
            raise HubError(500, "", "interrupted")

    uploads.before_upload = fail
    with pytest.raises(OSError, match=r"upload to somebody/audiolm was interrupted: .*Run it again"):
        push_checkpoint(copy, NAME)
    assert len(uploads.large_files) == 1 and not uploaded(uploads)
    (arrived,) = uploads.large_files
    del uploads.requests[:]
    uploads.before_upload = lambda: None
    push_checkpoint(copy, NAME)
    assert uploaded(uploads) == set(list_upload(copy))
    sent = [line for line in uploads.requests if line.startswith("PUT")]
    assert len(sent) == 1 and arrived not in sent[0]


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        (None, NAME, r"refuses the upload to somebody/audiolm \(Invalid username or password\.\); log in"),
        ("hf_unknown", NAME, r"refuses the upload .*Invalid username or password"),
        (STRANGER_TOKEN, NAME, r"refuses the upload .*don't have the rights to create a model under somebody"),
        (TOKEN, "other/audiolm", r"refuses the upload to other/audiolm .*don't have the rights"),
        (TOKEN, "a/b/c", r"a/b/c"),
    ],
)
def test_an_upload_that_is_not_allowed_is_one_clear_error(uploads, folder, monkeypatch, token, name, message):
    set_token(monkeypatch, token)
    with pytest.raises((PermissionError, ValueError), match=message):
        push_checkpoint(folder, name)
    assert not uploads.repos


def test_the_token_given_is_used(uploads, folder, monkeypatch):
    set_token(monkeypatch, None)
    push_checkpoint(folder, NAME, token=TOKEN)
    assert uploaded(uploads)
    with pytest.raises(PermissionError, match="rights to write|rights to create"):
        push_checkpoint(folder, NAME, token=STRANGER_TOKEN)


def test_only_what_a_checkpoint_consists_of_is_uploaded(uploads, folder, tmp_path, caplog):
    copy = shutil.copytree(folder, tmp_path / "checkpoint")
    more = [
        "README.md",
        "samples/sample_1.png",
        "samples/sample_1.mp3",
        "samples/sample_1.opus",
        "detector/config.json",
        "detector/model.safetensors",
    ]
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
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("x")
    (copy / "secret").symlink_to(tmp_path)
    push_checkpoint(copy, NAME, with_code=False)
    assert uploaded(uploads) == names


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("README.md", "Trained on [this]({home}/DATA/train.parquet).", True),
        ("processor_config.json", '{{"feature_extractor": {{"path": "{home}/model"}}}}', True),
        ("generation_config.json", '{{"note": "https://example.org{home}/x and/or 3/4/5, application/json"}}', False),
        ("README.md", "The endpoint `/continue/speech` of <https://example.org/a/b>.", False),
    ],
)
def test_paths_of_this_machine_are_refused(uploads, folder, tmp_path, file, text, found):
    copy = shutil.copytree(folder, tmp_path / "checkpoint")
    (copy / file).write_text(text.format(home=tmp_path))
    if not found:
        assert list_upload(copy, with_code=False)
        return
    with pytest.raises(ValueError, match=rf"{file} names {tmp_path}/.*, a path of this machine"):
        push_checkpoint(copy, NAME, with_code=False)
    assert not uploads.requests


@pytest.mark.parametrize("name", list_checkpoints())
def test_the_bundled_checkpoints_can_be_uploaded(name):
    assert {"config.json", "model.safetensors", "README.md", "samples/sample_1.png"} <= set(
        list_upload(checkpoint(name))
    )


def test_an_adapter_is_uploaded_if_its_base_is_found_from_there(uploads, folder, tmp_path):
    model = AudioLMModel.from_pretrained(folder)
    model.add_adapter(LoraConfig(target_modules=r"coarse\..*q_proj"))
    model.save_pretrained(tmp_path / "voice")
    with pytest.raises(ValueError, match=r"The base of the adapter .* is '\.\..*', which is not found from the Hub"):
        push_checkpoint(tmp_path / "voice", "somebody/voice")
    path = tmp_path / "voice" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "somebody/base"}))
    push_checkpoint(tmp_path / "voice", NAME)
    assert {"adapter_config.json", "adapter_model.safetensors", "audiolm_adapter.json"} <= uploaded(uploads)


@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "samples/sample_1.png", "samples"])
def test_links_are_not_followed(uploads, folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "checkpoint")
    target = tmp_path / "elsewhere"
    if name == "samples":
        target.mkdir()
        (target / "sample_1.png").write_text("x")
    else:
        target.write_text("x")
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(target)
    with pytest.raises(ValueError, match=f"{name}.* is a link"):
        push_checkpoint(copy, "somebody/audiolm")
    assert not uploads.requests


def test_weights_that_run_code_are_not_uploaded(uploads, tmp_path):
    export_checkpoint(tiny_model().codec, None, tmp_path)
    (tmp_path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"optimizer\.pt.*safetensors"):
        push_checkpoint(tmp_path, "somebody/audiolm")
    assert not uploads.requests


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
    assert not uploads.requests


def test_an_unknown_checkpoint_is_one_clear_error():
    with pytest.raises(ValueError, match="'speech-huge' is not found"):
        pipeline("speech-huge")


def test_a_folder_is_loaded_with_its_path_or_its_name(folder):
    assert isinstance(pipeline(folder, device="cpu").model, AudioLMModel)
    assert isinstance(pipeline(str(folder), device="cpu").model, AudioLMModel)


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path):
    code = (
        "import sys, audiolm_hf\n"
        "try:\n    audiolm_hf.pipeline('user/name')\n"
        "except OSError as error:\n    sys.stdout.write(str(error))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("user/name is not a folder, and the Hugging Face Hub cannot be reached"), done
