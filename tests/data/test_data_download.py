# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Downloads that resume, and hashes, against a server on this machine."""

import hashlib
import http.server
import threading

import pytest

from audiolm_hf.data.corpora import check_digest, fetch

CONTENT = bytes(range(256)) * 5000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; the server's attributes say how."""

    def do_GET(self):
        start = 0
        if self.server.ranges and (given := self.headers["Range"]):
            start = int(given.removeprefix("bytes=").rstrip("-"))
        self.server.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.server.stop])

    def log_message(self, *given):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.tells_length, server.stop, server.starts = True, True, None, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}/archive.tar.gz"
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_resumes(server, tmp_path, ranges):
    server.ranges, server.stop = ranges, 700_000
    path = tmp_path / "archives" / "archive.tar.gz"
    with pytest.raises(ConnectionError, match="cannot be downloaded .*run the command again to resume"):
        fetch(server.url, path, DIGEST)
    assert not path.exists() and path.with_name("archive.tar.gz.partial").stat().st_size == 700_000
    server.stop = None
    assert fetch(server.url, path, DIGEST).read_bytes() == CONTENT
    assert server.starts == [0, 700_000 if ranges else 0]
    assert [file.name for file in path.parent.iterdir()] == ["archive.tar.gz"]
    assert fetch("http://127.0.0.1:1/never", path, DIGEST) == path


def test_a_whole_download_that_was_not_yet_renamed_is_used(server, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "a", DIGEST).read_bytes() == CONTENT


def test_a_server_need_not_tell_the_length(server, tmp_path):
    server.tells_length = False
    assert fetch(server.url, tmp_path / "a", DIGEST).read_bytes() == CONTENT


def test_another_file_is_refused_and_removed(server, tmp_path):
    with pytest.raises(ValueError, match="has the md5 .*, not 00; download it again"):
        fetch(server.url, tmp_path / "a", "md5:00")
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConnectionError, match="http://127.0.0.1:1/a cannot be downloaded .*--archive"):
        fetch("http://127.0.0.1:1/a", tmp_path / "a")


def test_a_full_disk_is_foreseen(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(ConnectionError, match="0.00128 GB are missing, and 1e-06 GB are free"):
        fetch(server.url, tmp_path / "a")


def test_no_digest_asks_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    check_digest(tmp_path / "a", None)
