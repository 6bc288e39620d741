# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A stand-in of the Hugging Face Hub on this machine: the HTTP endpoints that huggingface_hub uses for models.

Repositories, branches, commits, uploads of large files (LFS) and downloads, with the Hub's status codes and headers.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from transformers.utils import hub as transformers_hub

from audiolm_hf import adapters_audiolm

USER, TOKEN = "somebody", "hf_standInTokenOfSomebody"
STRANGER_TOKEN = "hf_standInTokenOfAStranger"
SENDS_DATA = "ignore:Use 'content=:DeprecationWarning"  # of httpx, about how huggingface_hub uploads large files
LFS_SUFFIXES = (".safetensors", ".png")  # as in the .gitattributes of a new repository
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass
class Repo:
    """Branches and commits; a commit maps paths to contents."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a branch or commit."""
        return self.commits[self.branches.get(revision, revision)]

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Add a commit to a branch, and return its id."""
        digest = hashlib.sha1(f"{branch}{len(self.commits)}".encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content)
        self.branches[branch] = digest.hexdigest()
        self.commits[digest.hexdigest()] = files
        self.messages.append(message)
        return digest.hexdigest()


@dataclass
class StandInHub:
    """What is stored, and what was asked for."""

    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large_files: dict[str, bytes] = field(default_factory=dict)  # by SHA-256
    requests: list[str] = field(default_factory=list)  # "POST /api/repos/create"
    before_upload: Callable[[], None] = lambda: None  # called as a large file arrives

    def user(self, token: str | None) -> str | None:
        """Return the name of a token's owner."""
        return {TOKEN: USER, STRANGER_TOKEN: "stranger"}.get(token or "")


class HubError(Exception):
    """An answer of the Hub that is not a success."""

    def __init__(self, status: int, code: str = "", message: str = "", content: dict | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}
        self.content = content or {"error": message}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandInHub

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output free of requests."""

    def answer(self, method: str) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.body = self.read_body()
        path = unquote(urlsplit(self.path).path)
        try:
            for pattern, function in ROUTES[method].items():
                if match := re.fullmatch(pattern, path):
                    return self.send(200, *function(self, **match.groupdict()))
            raise HubError(404, message=f"no endpoint {self.path}")
        except HubError as error:
            self.send(error.status, error.content, error.headers)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def do_GET(self) -> None:
        self.answer("GET")

    def do_HEAD(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def user(self) -> str | None:
        return self.hub.user((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def json(self) -> dict:
        return json.loads(self.body)

    def find(self, repo: str, revision: str = "main", *, writing: bool = False) -> Repo:
        """Return a repository that the user may read or write; the Hub's answers where not."""
        found = self.hub.repos.get(repo)
        owner = self.user == repo.partition("/")[0]
        if found is None or (found.private and not owner):
            raise HubError(404 if self.user else 401, "RepoNotFound", "Repository not found")
        if writing and not owner:
            raise HubError(403 if self.user else 401, "", "You don't have the rights to write to this repository")
        if revision not in found.branches and revision not in found.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def whoami(self) -> tuple:
        if self.user is None:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return ({"type": "user", "name": self.user, "auth": {"type": "access_token"}},)

    def create(self) -> tuple:
        fields = self.json()
        name = f"{fields.get('organization') or self.user}/{fields['name']}"
        if self.user is None:
            raise HubError(401, "", "Invalid username or password.")
        if fields.get("organization") not in (None, self.user):
            raise HubError(403, "", f"You don't have the rights to create a model under {fields['organization']}")
        url = {"url": f"{self.hub.endpoint}/{name}"}
        if name in self.hub.repos:
            raise HubError(409, content=url)
        private = fields.get("private") or fields.get("visibility") == "private"
        self.hub.repos[name] = Repo(private=private)
        self.hub.repos[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return (url,)

    def branch(self, repo: str, revision: str) -> tuple:
        found = self.find(repo, writing=True)
        if revision in found.branches:
            raise HubError(409, "", "Reference already exists")
        found.branches[revision] = found.branches["main"]
        return ({},)

    def preupload(self, repo: str, revision: str) -> tuple:
        stored = self.find(repo, revision, writing=True).files(revision)
        files = []
        for file in self.json()["files"]:
            mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
            oid = _object_id(file["path"], stored[file["path"]]) if file["path"] in stored else None
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return ({"files": files},)

    def batch(self, repo: str) -> tuple:
        self.find(repo, writing=True)
        objects = []
        for item in self.json()["objects"]:
            upload = {"upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"}}
            there = {} if item["oid"] in self.hub.large_files else {"actions": upload}
            objects.append({"oid": item["oid"], "size": item["size"], **there})
        return ({"transfer": "basic", "objects": objects},)

    def upload(self, oid: str) -> tuple:
        self.hub.before_upload()
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "", "The content has another SHA-256")
        self.hub.large_files[oid] = self.body
        return ({},)

    def commit(self, repo: str, revision: str) -> tuple:
        found = self.find(repo, revision, writing=True)
        files, message = dict(found.files(revision)), ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            else:
                raise HubError(400, "", f"unknown operation {line['key']}")
        commit = found.commit(revision, files, message)
        return ({"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{commit}", "commitOid": commit},)

    def info(self, repo: str, revision: str = "main") -> tuple:
        found = self.find(repo, revision)
        names = [{"rfilename": name} for name in found.files(revision)]
        commit = found.branches.get(revision, revision)
        return ({"id": repo, "sha": commit, "private": found.private, "gated": found.gated, "siblings": names},)

    def tree(self, repo: str, revision: str) -> tuple:
        files = self.find(repo, revision).files(revision)
        listed = []
        for path, content in files.items():
            oid = _object_id(path, content)
            large = {"lfs": {"oid": oid, "size": len(content), "pointerSize": 1}} if len(oid) == 64 else {}
            listed.append({"type": "file", "path": path, "size": len(content), "oid": oid, **large})
        return (listed,)

    def resolve(self, repo: str, revision: str, path: str) -> tuple:
        found = self.find(repo, revision)
        headers = {"X-Repo-Commit": found.branches.get(revision, revision)}
        if found.gated and self.user != repo.partition("/")[0]:
            raise HubError(403 if self.user else 401, "GatedRepo", f"Access to model {repo} is restricted")
        if path not in found.files(revision):
            error = HubError(404, "EntryNotFound", "Entry not found")
            error.headers |= headers
            raise error
        content = found.files(revision)[path]
        return content, headers | {"ETag": f'"{_object_id(path, content)}"', "X-Linked-Size": str(len(content))}


ROUTES: dict[str, dict[str, Callable[..., tuple]]] = {
    "GET": {
        "/api/whoami-v2": Handler.whoami,
        f"/api/models/{REPO}": Handler.info,
        f"/api/models/{REPO}/revision/(?P<revision>.+)": Handler.info,
        f"/api/models/{REPO}/tree/(?P<revision>[^/]+)": Handler.tree,
        f"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)": Handler.resolve,
    },
    "POST": {
        "/api/repos/create": Handler.create,
        "/api/validate-yaml": lambda handler: ({},),
        f"/api/models/{REPO}/branch/(?P<revision>.+)": Handler.branch,
        f"/api/(?:models|spaces)/{REPO}/preupload/(?P<revision>.+)": Handler.preupload,
        f"/api/(?:models|spaces)/{REPO}/commit/(?P<revision>.+)": Handler.commit,
        rf"/{REPO}\.git/info/lfs/objects/batch": Handler.batch,
    },
    "PUT": {"/lfs/(?P<oid>[0-9a-f]{64})": Handler.upload},
}


def _object_id(path: str, content: bytes) -> str:
    """Return the id of a file: SHA-256 of a large one, git's SHA-1 of any other."""
    if path.endswith(LFS_SUFFIXES):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serve_hub() -> Iterator[StandInHub]:
    """Serve an empty Hub at a free port of this machine."""
    hub = StandInHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connect(patch: pytest.MonkeyPatch, hub: StandInHub, cache: Path, token: str | None = TOKEN) -> None:
    """Let this process use the stand-in, as the environment of `hub_environment` lets another one."""
    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for module in (constants, adapters_audiolm):
        patch.setattr(module, "HF_HUB_OFFLINE", False)
    patch.setattr(transformers_hub, "_hf_api", None, raising=False)  # kept from the first call on, with its endpoint
    set_token(patch, token)


def set_token(patch: pytest.MonkeyPatch, token: str | None) -> None:
    """Log in with another token, or log out."""
    if token is None:
        patch.delenv("HF_TOKEN", raising=False)
    else:
        patch.setenv("HF_TOKEN", token)


def hub_environment(hub: StandInHub) -> dict[str, str]:
    """Variables of a process that uses the stand-in."""
    return {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
