"""A server on this machine, which tests let answer as servers of models document it."""

import base64
import io
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from PIL import Image

AnyServed = TypeVar("AnyServed", bound="Served")


class Refusal(Exception):
    """A server refuses a request with status 400."""


@dataclass
class Served(ABC):
    """The state of a server.

    Attributes:
        address: Where it listens.
        answers: What it answers with before it works: statuses, with a header or a body.
        delay: The seconds that it waits before each answer.
        pause: The seconds between the first bytes of an answer.
        requests: The bodies of all requests.
        headers: The headers of all requests.
        most: The largest number of requests at a time.
        reads_images: Whether images have an effect.
        lasts: The number of requests after which access is refused.
        connections: The number of connections.
    """

    address: str = ""
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    delay: float = 0.0
    pause: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most: int = 0
    now: int = 0
    reads_images: bool = True
    lasts: int = 1_000_000
    connections: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @abstractmethod
    def respond(self, path: str, body: dict[str, Any]) -> Any:
        """Return the data of an answer."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of a ``Served``."""

    served: Served
    protocol_version = "HTTP/1.1"  # which keeps connections
    disable_nagle_algorithm = True  # which waits for more to send

    def setup(self) -> None:
        with self.served.lock:
            self.served.connections += 1
        super().setup()

    def do_POST(self) -> None:
        served = self.served
        with served.lock:
            served.now += 1
            served.most = max(served.most, served.now)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        threading.Event().wait(served.delay)
        with served.lock:
            served.requests.append(body)
            served.headers.append(dict(self.headers))
            status, headers, text = served.answers.pop(0) if served.answers else (200, {}, "")
            if len(served.requests) > served.lasts:
                status, text = 401, "no"
        if status == 200 and not text:
            try:
                text = json.dumps(served.respond(self.path, body))
            except Refusal as refusal:
                status, text = 400, json.dumps({"error": {"message": str(refusal)}})
        data = text.encode()
        with served.lock:
            served.now -= 1
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # who waits may have gone
            for byte in data[:50] if served.pause else b"":
                self.wfile.write(bytes([byte]))
                time.sleep(served.pause)
            self.wfile.write(data[50:] if served.pause else data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def listening(served: AnyServed) -> Iterator[AnyServed]:
    """Serve inside ``with``."""
    handler = type("Bound", (Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def image_of(address: str) -> Image.Image:
    """Return the image of a data address, which must be PNG."""
    head, _, data = address.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
