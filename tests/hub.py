"""A hub on this machine that answers as the Hugging Face hub does, also when it refuses."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest

CLOSED = "http://127.0.0.1:9"
"""A port at which nothing listens."""
COMMITS = {"main": "a" * 40, "v1": "b" * 40, "refs/pr/2": "c" * 40}
_WEIGHTS = (".safetensors", ".bin")
_API = re.compile(
    r"/api/models/(?P<repository>[^/]+/[^/]+|[^/]+)(?:/(?:revision|(?P<tree>tree))/(?P<revision>[^/]+)(?:/(?P<below>.+))?)?"
)
_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+|[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass(frozen=True)
class Refusal:
    """An answer of the hub that is an error.

    Attributes:
        status: The status.
        code: ``X-Error-Code``.
        message: ``X-Error-Message``.
        headers: Other headers.
        paths: A pattern of the paths that are refused.

    """

    status: int
    code: str = ""
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    paths: str = ".*"


MISSING = Refusal(401, "RepoNotFound", "Repository not found")
ANONYMOUS = Refusal(401, "", "Invalid username or password.")
BAD_TOKEN = Refusal(401, "", "Invalid credentials in Authorization header")
GATED = Refusal(
    401,
    "GatedRepo",
    "Access to model org/clip is restricted. You must have access to it and be authenticated to access it. "
    "Please log in.",
    paths=".*/resolve/.*",
)
NOT_AUTHORIZED = Refusal(
    403,
    "GatedRepo",
    "Access to model org/clip is restricted and you are not in the authorized list. Visit the page to ask for access.",
    paths=".*/resolve/.*",
)
GATED_WEIGHTS = Refusal(GATED.status, GATED.code, GATED.message, paths=r".*/resolve/.*\.safetensors")
DISABLED = Refusal(403, "", "Access to this resource is disabled.")
LIMITED = Refusal(429, "", "We had to rate limit your IP.", (("Retry-After", "55"),))
BUSY = Refusal(503, "", "Service unavailable")


@dataclass
class Hub:
    """The state of a hub.

    Attributes:
        address: Where it listens.
        repositories: The folder of each repository and revision.
        refusals: The errors that it answers with.
        requests: The method and the path of each request.
        cut: The number of bytes after which the body of a weight file ends, for the next downloads.
        seconds: How long the body of a weight file takes.

    """

    address: str = ""
    repositories: dict[tuple[str, str], Path] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, repository: str, folder: Path, revision: str = "main") -> Path:
        """Add a repository whose files are those of a folder."""
        self.repositories[repository, revision] = folder
        return folder

    def downloads(self) -> list[str]:
        """Return the names of the files whose bodies were requested."""
        return [
            request.rpartition("/")[2]
            for request in self.requests
            if request.startswith("GET") and "/resolve/" in request
        ]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        for refusal in self.hub.refusals:
            if re.fullmatch(refusal.paths, path):
                return self.refuse(refusal)
        match = _API.fullmatch(path) or _FILE.fullmatch(path)
        repository, revision = (match["repository"], unquote(match["revision"] or "main")) if match else ("", "")
        if not any(name == repository for name, _ in self.hub.repositories):
            return self.refuse(MISSING)
        revision = {commit: name for name, commit in COMMITS.items()}.get(revision, revision)
        folder = self.hub.repositories.get((repository, revision))
        if folder is None:
            return self.refuse(Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
        commit = COMMITS[revision]
        if match and match.re is _API:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            names = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
            if match["tree"]:
                below = f"{match['below']}/" if match["below"] else ""
                names = {name: size for name, size in names.items() if name.startswith(below)}
                if not names:
                    return self.refuse(Refusal(404, "EntryNotFound", f"{below} does not exist on main"))
                tree = [{"type": "file", "oid": "0", "path": name, "size": size} for name, size in names.items()]
                return self.send_json(tree)
            siblings = [{"rfilename": name, "size": size} for name, size in names.items()]
            return self.send_json({"id": repository, "modelId": repository, "sha": commit, "siblings": siblings})
        file = folder / (unquote(match["file"]) if match else "")
        if not file.is_file():
            return self.refuse(Refusal(404, "EntryNotFound", "Entry not found", (("X-Repo-Commit", commit),)))
        self.send_file(file, commit)
        return None

    def send_json(self, data: Any) -> None:
        self.send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def refuse(self, refusal: Refusal) -> None:
        headers = {"X-Request-Id": "Root=1", **dict(refusal.headers)}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        headers["X-Error-Message"] = refusal.message
        self.send(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)

    def send_file(self, file: Path, commit: str) -> None:
        body = file.read_bytes()
        weights = file.suffix in _WEIGHTS
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{(sha256 if weights else sha1)(body).hexdigest()}"'
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if first:
            headers["Content-Range"] = f"bytes {first[1]}-{len(body) - 1}/{len(body)}"
            body = body[int(first[1]) :]
        if self.command == "GET" and weights and self.hub.cut:
            body = body[: self.hub.cut.pop(0)]
        self.send(206 if first else 200, body, headers, self.hub.seconds if weights else 0.0)

    def send(self, status: int, body: bytes, headers: dict[str, str], seconds: float = 0.0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            time.sleep(seconds)
            self.wfile.write(body[half:])


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub in a thread."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, hub)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        hub.address = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()
        thread.join()


def point_to(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's library ask another hub and use another cache; it has already read its environment."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
