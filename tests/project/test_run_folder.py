# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A folder holds one run: the same resumes, another is refused with what is different, two at once are refused."""

import json
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from audiolm_hf.run_folder import (
    RECORD_FILE,
    changed_files,
    check_writable,
    file_states,
    hold_folder,
    holds_finished,
    named_files,
    temporary_folder,
    walk_files,
)
from audiolm_hf.training.run import one_run
from tests.helpers_processes import fork_that_waits


def hold(folder, learning_rate=0.1, files=None, **options):
    settings = {"learning_rate": learning_rate, "backbone": {"hidden_size": 8}}
    return hold_folder(folder, "codec", settings, {"data": named_files(files or [])}, **options)


def run(folder, *arguments, **options):
    """A run that writes one file."""
    with hold(folder, *arguments, **options) as held:
        (folder / "weights").write_text("w")
        held.finish(folder / "weights")


def test_the_same_run_resumes_and_is_known_to_be_done(tmp_path):
    with hold(tmp_path / "run") as held:
        assert not held.done
        (tmp_path / "run/weights").write_text("half")
    with hold(tmp_path / "run") as held:
        assert not held.done
        held.finish(tmp_path / "run/weights")
    with hold(tmp_path / "run") as held:
        assert held.done
    assert holds_finished(
        tmp_path / "run", "codec", json.loads((tmp_path / "run/run.json").read_text())["settings"], {"data": {}}
    )
    (tmp_path / "run/weights").unlink()
    with hold(tmp_path / "run") as held:
        assert not held.done


def test_another_run_is_refused_with_the_keys_that_differ(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"different: learning_rate \(0.1, now 0.2\)\. Give another .*--overwrite"):
        run(tmp_path / "run", 0.2)
    with pytest.raises(ValueError, match=r"different: kind \(codec, now stage\)"):
        hold_folder(tmp_path / "run", "stage", {}, {}).__enter__()
    with pytest.raises(ValueError, match=r"backbone.hidden_size \(8, now 9\), learning_rate \(0.1, now not given\)"):
        hold_folder(tmp_path / "run", "codec", {"backbone": {"hidden_size": 9}}, {"data": {}}).__enter__()
    assert (tmp_path / "run/weights").read_text() == "w"


def test_overwrite_removes_what_another_run_wrote_and_nothing_else(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "run/samples").mkdir()
    (tmp_path / "run/samples/0.wav").write_text("s")
    with hold(tmp_path / "run", overwrite=True) as held:
        assert held.done  # the same run: kept
    with hold(tmp_path / "run", 0.2, overwrite=True) as held:
        assert not held.done
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", RECORD_FILE]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("t")
    with pytest.raises(ValueError, match=r"mine holds files and no run.json"):
        run(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/thesis.txt").read_text() == "t"
    run(tmp_path / "mine", shared=True)


def test_a_run_that_wrote_nothing_yet_binds_nobody(tmp_path):
    with pytest.raises(KeyError), hold(tmp_path / "run"):
        raise KeyError
    run(tmp_path / "run", 0.2)


def test_inputs_are_known_by_their_content(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.wav").write_text("first")
    (data / "b.wav").write_text("b")
    run(tmp_path / "run", files=[data])
    os.utime(data / "a.wav")  # another time, the same content
    run(tmp_path / "run", files=[data])
    moved = data.rename(tmp_path / "elsewhere").rename(tmp_path / "deep_data")
    (tmp_path / "again").mkdir()
    moved.rename(tmp_path / "again/data")
    data = tmp_path / "again/data"
    run(tmp_path / "run", files=[data])
    (data / "a.wav").write_text("other")  # as long as before
    with pytest.raises(ValueError, match=r"different: data \(a.wav has other content\)"):
        run(tmp_path / "run", files=[data])
    (data / "a.wav").unlink()
    (data / "c.wav").write_text("c")
    with pytest.raises(ValueError, match=r"a.wav is gone, c.wav is new"):
        run(tmp_path / "run", files=[data])


def test_a_file_with_another_time_and_no_hash_counts_as_changed(tmp_path):
    (tmp_path / "a").write_text("a")
    states = file_states(named_files([tmp_path / "a"]), hashed_bytes=0)
    assert states["a"][2] is None and changed_files(states, file_states(named_files([tmp_path / "a"]))) == []
    os.utime(tmp_path / "a", (1, 1))
    assert changed_files(states, file_states(named_files([tmp_path / "a"]))) == ["a has other content"]


def test_a_missing_file_is_another_content(tmp_path):
    missing = file_states({"a": tmp_path / "a"})
    assert changed_files(missing, file_states({"a": tmp_path / "a"})) == []
    (tmp_path / "a").write_text("")
    assert changed_files(missing, file_states({"a": tmp_path / "a"})) == ["a has other content"]


def test_linked_folders_are_searched_once_and_hidden_files_left_out(tmp_path):
    (tmp_path / "data/.git").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("data/a", "data/.b", "data/.git/c", "data/run.json", "other/d"):
        (tmp_path / name).write_text(name)
    (tmp_path / "data/linked").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "data")
    assert [path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path / "data")] == [
        "data/a",
        "data/linked/d",
    ]
    assert list(named_files([tmp_path / "data", tmp_path / "other/d", tmp_path / "data/linked/d"])) == [
        "a",
        "linked/d",
        "d",
        "d (3)",
    ]


@pytest.mark.parametrize("content", ["{", "[]", "3", ""])
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / RECORD_FILE).write_text(content)
    with pytest.raises(ValueError, match="is damaged"):
        run(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match="run is a file; give another"):
        run(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="link is a link to nothing; give another"):
        check_writable(tmp_path / "link")


def test_a_place_where_nothing_can_be_written_is_refused_before_the_inputs_are_read(monkeypatch):
    with pytest.raises(PermissionError, match="In the folder /proc no file can be written"):
        run("/proc/runs/first")
    monkeypatch.setattr("audiolm_hf.training.run.describe_config", None)
    with pytest.raises(PermissionError, match="In the folder /proc no file can be written"):
        one_run("codec")(print)(SimpleNamespace(output_folder="/proc/run"))


def test_two_at_once_are_refused(tmp_path):
    with hold(tmp_path), pytest.raises(BlockingIOError, match="Another process is at work in"):
        run(tmp_path)
    run(tmp_path)


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    with fork_that_waits(lambda: hold_folder(tmp_path / "run", "codec", {}, {})) as process:
        with pytest.raises(BlockingIOError):
            hold_folder(tmp_path / "run", "codec", {}, {}).__enter__()
        process.kill()
        process.join()
        with hold_folder(tmp_path / "run", "codec", {}, {}):
            pass  # no error


def test_temporary_folders_of_killed_processes_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, young, foreign = (tmp_path / name for name in ("own-killed", "own-young", "foreign"))
    for folder in (killed, young, foreign):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "voice.wav").write_bytes(b"private")
    live, lock = temporary_folder("own-")
    old = time.time() - 100
    for path in (killed, foreign, live.name):
        os.utime(path, (old, old))
    other, lock_of_other = temporary_folder("own-")
    with lock, lock_of_other:
        assert not killed.exists() and Path(live.name).is_dir()
        assert all((folder / "inner" / "voice.wav").is_file() for folder in (young, foreign))
    live.cleanup()
    other.cleanup()
