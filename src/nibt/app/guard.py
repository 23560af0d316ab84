"""The ASGI middleware that protects the page: it filters requests and adds security headers to responses.

Some routes of gradio open paths and URLs from the request. The guard passes only the routes that the page uses, and
only requests whose files were uploaded to this page before.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from nibt.io import load_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "worker-src 'self' blob:; base-uri 'self'; form-action 'self'"
)
SECURITY_HEADERS = {
    # other pages may not show this one in a frame
    "content-security-policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
GET_ROUTES = (
    "/assets/",
    "/static/",
    "/theme.css",
    "/config",
    "/favicon.ico",
    "/robots.txt",
    "/answer/",
    "/help",
    "/gradio_api/file=",
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/",
    "/gradio_api/upload_progress",
    "/gradio_api/startup-events",
    "/gradio_api/app_id",
)
POST_ROUTES = (
    "/gradio_api/queue/join",
    "/gradio_api/run/predict",
    "/gradio_api/upload",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)
"""Prefixes of the paths that accept POST. ``run`` bypasses the queue, and the page lets it run only functions without
computations."""
MAX_BODY = 256_000
"""The largest request that is not an upload, in bytes."""
RECEIVE_TIMEOUT = 30.0
"""The longest time between two parts of a request, in seconds."""
NOT_OF_THE_PAGE = "This is not a request that the page sends."
QUEUE_FULL = "The queue is full: please try again in a minute."


class _Rejected(Exception):
    """A request is not passed on; the response has this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Guard:
    """An ASGI app that passes allowed requests to another app."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        folder: Path,
        max_upload: int,
        max_stored: int = 500_000_000,
        hosts: tuple[str, ...] = (),
        framed: bool = False,
    ) -> None:
        policy = {"content-security-policy": CONTENT_SECURITY_POLICY} if framed else {}
        self._headers = {**SECURITY_HEADERS, **policy}
        self._app = app
        self._folder = folder.resolve()
        self._hosts = hosts
        self._max_upload_body = max_upload + 10_000  # the file, with the multipart headers around it
        self._max_stored = max_stored
        self._is_closed = False
        self._running = set[asyncio.Task[Any]]()

    def close(self) -> None:
        """End all responses: the streams of an open page do not end by themselves. A signal handler may call it."""
        self._is_closed = True
        for task in tuple(self._running):
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return  # the page does not use web sockets

        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        try:
            self._check(scope["path"], scope["method"], headers)
            if scope["method"] == "POST":
                receive = await self._read_body(scope["path"], headers, receive)
        except _Rejected as error:
            await _send_error(error.status, error.text, send)
            return

        await self._respond(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and end its response where the page is closed or gradio fails."""
        guarded = _WithHeaders(send, scope["path"], self._headers)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._app(scope, receive, guarded)
        except asyncio.CancelledError:
            if not self._is_closed or not guarded.started:
                raise
            if not guarded.ended:
                await send({"type": "http.response.body"})
        except Exception as error:  # of gradio, about a request that the page does not send
            logging.getLogger(__name__).warning("gradio failed on a request: %r", error)
            if not guarded.started:
                await _send_error(400, NOT_OF_THE_PAGE, send)
        finally:
            self._running.discard(task)

    def _check(self, path: str, method: str, headers: dict[str, str]) -> None:
        """Check the path, the method and the headers of a request."""
        host = _place(f"//{headers.get('host', '')}")
        if self._hosts and (urlsplit(f"//{host}").hostname if host else "") not in self._hosts:
            raise _Rejected(421, f"this page can be reached only as {', '.join(self._hosts)}")

        origin = headers.get("origin")
        foreign = origin is not None and _place(origin) != headers.get("host")
        if foreign and (method == "POST" or not _place(str(origin))):
            raise _Rejected(403, "requests from other websites are rejected")

        if method in ("GET", "HEAD"):
            if path != "/" and not path.startswith(GET_ROUTES):
                raise _Rejected(404, "this page does not exist")
            if path.startswith("/gradio_api/file=") and not self._is_upload(path.partition("=")[2]):
                raise _Rejected(403, "only files that were uploaded to this page can be downloaded")
        elif method != "POST" or not path.startswith(POST_ROUTES):
            raise _Rejected(405, "this method and path are not allowed")

    async def _read_body(self, path: str, headers: dict[str, str], receive: Receive) -> Receive:
        """Read and check a body, and return a ``receive`` that repeats it."""
        is_upload = path == "/gradio_api/upload"
        if is_upload and self._stored_size() > self._max_stored:
            raise _Rejected(503, "the storage for uploaded images is full: please try again in a few minutes")

        max_size = self._max_upload_body if is_upload else MAX_BODY
        body = await _received_body(receive, headers.get("content-length", ""), max_size)
        if not is_upload:
            self._check_files(body)
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def repeat() -> MutableMapping[str, Any]:
            return messages.pop() if messages else await receive()

        return repeat

    def _stored_size(self) -> int:
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())

    def _check_files(self, body: bytes) -> None:
        """Check that all files in the data of a request were uploaded to this page."""
        try:
            has_only_uploads = all(map(self._is_upload, _file_paths(load_json(body or b"{}"))))
        except ValueError as error:
            raise _Rejected(400, "the body of a request must be JSON: reload the page") from error
        if not has_only_uploads:
            raise _Rejected(403, "only images that were uploaded to this page can be opened")

    def _is_upload(self, path: object) -> bool:
        try:
            return isinstance(path, str) and Path(path).resolve().is_relative_to(self._folder)
        except (OSError, ValueError):
            return False


async def _received_body(receive: Receive, length: str, max_size: int) -> bytes:
    """Return the body of a request, whose header states its length."""
    too_large = _Rejected(413, f"a request must have at most {max_size:,} bytes")
    if length.isascii() and length.isdecimal() and int(length) > max_size:
        raise too_large

    body = bytearray()  # its length is counted, too, since a header may be missing or wrong
    while True:
        try:
            message = await asyncio.wait_for(receive(), RECEIVE_TIMEOUT)
        except TimeoutError as error:
            raise _Rejected(408, "the request was not completed in time") from error

        if message["type"] != "http.request":
            raise _Rejected(400, "the connection was closed before the end of the request")

        body += message.get("body", b"")
        if len(body) > max_size:
            raise too_large
        if not message.get("more_body"):
            return bytes(body)


def _place(address: str) -> str:
    """Return the host and the port of an address; empty if it is not valid."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _file_paths(data: object) -> Iterator[object]:
    """Yield the paths of all files in the data of a request, and their URLs if these are not of the page."""
    if isinstance(data, dict):
        if "path" in data:
            yield data["path"]
        url = data.get("url")
        if "path" in data and url is not None and "/gradio_api/file=" not in str(url):
            yield url  # a URL is not a path in the folder of uploads, so the request is rejected
        for value in data.values():
            yield from _file_paths(value)
    elif isinstance(data, list):
        for value in data:
            yield from _file_paths(value)


Message: TypeAlias = MutableMapping[str, Any]
"""A message of ASGI."""


class _WithHeaders:
    """A ``send`` with the security headers, which replaces messages of gradio about its queue and its failures."""

    def __init__(self, send: Send, path: str, headers: Mapping[str, str]) -> None:
        self._send = send
        self._path = path
        self._security = headers
        self._detail = ""
        self.started = self.ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = self._start(message)
        elif self._detail:
            body = b"" if message.get("more_body") else json.dumps({"detail": self._detail}).encode()
            message = {**message, "body": body}

        self.ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    def _start(self, message: Message) -> Message:
        """Return the start of a response with the security headers; a replaced response has JSON."""
        status = message["status"]
        replaced = {name.encode() for name in SECURITY_HEADERS}
        headers = [(name, value) for name, value in message["headers"] if name.lower() not in replaced]
        if self._path.startswith("/gradio_api/queue/join") and status == 503:
            self._detail = QUEUE_FULL
        elif status == 500 and dict(headers).get(b"content-type", b"") != b"application/json":  # as errors for users
            self._detail = NOT_OF_THE_PAGE
            status = 400

        if self._detail:
            of_body = (b"content-length", b"content-type")
            headers = [(name, value) for name, value in headers if name.lower() not in of_body]
            headers.append((b"content-type", b"application/json"))

        added = [(name.encode(), value.encode()) for name, value in self._security.items()]
        return {**message, "status": status, "headers": [*headers, *added]}


async def _send_error(status: int, text: str, send: Send) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
