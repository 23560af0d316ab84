"""What stands between the network and the page: which requests pass, and what every answer carries (ASGI).

The library that draws the page opens paths and addresses that a client names in some of its requests. None of these
pass here: only the routes that the page itself uses do, and of the files that a request names only those that were
uploaded to this page before.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "worker-src 'self' blob:; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
GET = (
    "/assets/",
    "/static/",
    "/theme.css",
    "/config",
    "/favicon.ico",
    "/robots.txt",
    "/answer/",
    "/gradio_api/file=",
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/",
    "/gradio_api/upload_progress",
    "/gradio_api/startup-events",
    "/gradio_api/app_id",
)
POST = (
    "/gradio_api/queue/join",
    "/gradio_api/run/predict",
    "/gradio_api/upload",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)
"""``run`` answers at once, and only what computes nothing: all else must join the queue."""
BODY = 256_000
"""Bytes of a request that is no upload."""
PATIENCE = 30.0
"""Seconds between two parts of a request."""
BUSY = "Others are waiting for their turn already: please try again in a minute."


class Guard:
    """The page behind its guard.

    ``folder`` is where uploads lie, ``upload`` the most bytes of one, ``stored`` of all of them together; ``hosts`` are
    the names under which the page may be asked for, all of them if there are none.
    """

    def __init__(
        self, app: App, folder: Path, upload: int, stored: int = 500_000_000, hosts: tuple[str, ...] = ()
    ) -> None:
        self._app, self._folder, self._hosts = app, folder.resolve(), hosts
        self._upload, self._stored = upload + 10_000, stored  # an upload is wrapped into a little more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # the page uses no sockets
        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is None and scope["method"] == "POST":
            refused, receive = await self._read(scope["path"], headers, receive)
        if refused is not None:
            await _answer(*refused, send)
            return
        await self._app(scope, receive, _dressed(send, scope["path"]))

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        path, method = scope["path"], scope["method"]
        if self._hosts and _name(headers.get("host", "")) not in self._hosts:
            return 421, f"this page answers on {', '.join(self._hosts)} alone"
        origin = headers.get("origin")
        if method == "POST" and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "this page takes nothing from other pages"
        if method in ("GET", "HEAD"):
            if path != "/" and not path.startswith(GET):
                return 404, "there is no such page"
            if path.startswith("/gradio_api/file=") and not self._ours(path.partition("=")[2]):
                return 403, "only files that were uploaded to this page can be downloaded"
            return None
        if method == "POST" and path.startswith(POST):
            return None
        return 405, "this page answers GET and POST"

    async def _read(
        self, path: str, headers: dict[str, str], receive: Receive
    ) -> tuple[tuple[int, str] | None, Receive]:
        """The whole body of a request, within its limit, looked at before anybody else does."""
        upload = path == "/gradio_api/upload"
        most = self._upload if upload else BODY
        if upload and self._full():
            return (503, "too many images lie here already: please try again in some minutes"), receive
        if int(headers.get("content-length", "0") or 0) > most:
            return (413, f"a request may have {most:,} bytes"), receive
        body = bytearray()
        while True:
            try:
                message = await asyncio.wait_for(receive(), PATIENCE)
            except TimeoutError:
                return (408, "the request did not come to its end"), receive
            if message["type"] != "http.request":
                return (400, "the request broke off"), receive
            body += message.get("body", b"")
            if len(body) > most:
                return (413, f"a request may have {most:,} bytes"), receive
            if not message.get("more_body"):
                break
        if not upload and not self._harmless(bytes(body)):
            return (403, "only images that were uploaded to this page are opened"), receive
        return None, _again(bytes(body), receive)

    def _harmless(self, body: bytes) -> bool:
        """Whether all files that a request names were uploaded to this page."""
        try:
            data = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            return False
        try:
            return all(self._ours(path) for path in _paths(data))
        except RecursionError:
            return False

    def _ours(self, path: Any) -> bool:
        try:
            return isinstance(path, str) and Path(path).resolve().is_relative_to(self._folder)
        except (OSError, ValueError):
            return False

    def _full(self) -> bool:
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file()) > self._stored


def _name(host: str) -> str:
    """The name in a header ``host``, without its port; empty where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _paths(data: Any) -> Iterator[Any]:
    """Every file that is named anywhere in a request: by its path, or by the address that the browser shows it by."""
    if isinstance(data, dict):
        if "path" in data:
            yield data["path"]
        url = data.get("url")
        if "path" in data and url is not None and "/gradio_api/file=" not in str(url):
            yield url  # an address elsewhere is no path of ours
        for value in data.values():
            yield from _paths(value)
    elif isinstance(data, list):
        for value in data:
            yield from _paths(value)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, for the page."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return receive_body


def _dressed(send: Send, path: str) -> Send:
    """Every answer carries the policy; where the queue is full it says so in plain words."""
    full = False

    async def sent(message: MutableMapping[str, Any]) -> None:
        nonlocal full
        if message["type"] == "http.response.start":
            own = {name.encode() for name in HEADERS}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in own]
            full = path.startswith("/gradio_api/queue/join") and message["status"] == 503
            if full:
                kept = [(name, value) for name, value in kept if name.lower() != b"content-length"]
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*kept, *added]}
        elif full:
            message = {**message, "body": b"" if message.get("more_body") else json.dumps({"detail": BUSY}).encode()}
        await send(message)

    return sent


async def _answer(status: int, text: str, send: Send) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
