"""The connection to a server of a model: its address and key, and a limit of what it is asked."""

import base64
import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

import httpx
from PIL import Image

from nibt.errors import BadOption, ServerFailed, first_line
from nibt.options import Positive, Range, RequestCount, complete
from nibt.records import JsonObject

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""The statuses after which the same request may succeed later."""
_LONGEST_WAIT = 30.0  # seconds
_Read = TypeVar("_Read")


class Refused(ServerFailed):
    """A server refuses a request, fails at it, or answers something else than what was asked."""


@dataclass(frozen=True)
class Connection:
    """Base class of servers of models.

    Only the address is called: redirects are not followed, and nothing is kept. Images are sent as PNG.

    Args:
        url: The address up to the version of the interface, such as ``http://localhost:8000/v1``.
        name: The name of the model on the server.
        key_env: The name of the environment variable that has the key, which is sent as a bearer token. The key is in
            no error and no file.
        at_once: The largest number of requests at a time.
        requests: The largest number of requests, repeated ones included; None does not limit it.
        timeout: The seconds after which a request has failed.
        tries: How often a request is sent if the server is busy, does not answer, or cannot be reached.

    Attributes:
        sent: The number of requests that were sent.

    Raises:
        BadOption: An option has an invalid value, or the environment variable is not set.
        ServerFailed: A call was refused, failed ``tries`` times, would be more than ``requests``, or was answered by
            something else than what was asked.
    """

    content: ClassVar[str] = "an answer"
    """What the server is asked for, in messages."""

    url: str
    name: str
    key_env: str | None = field(default=None, kw_only=True)
    at_once: Annotated[int, Range(1, 64)] = field(default=4, kw_only=True)
    requests: RequestCount | None = field(default=None, kw_only=True)
    timeout: Positive = field(default=60.0, kw_only=True)
    tries: Annotated[int, Range(1, 20)] = field(default=4, kw_only=True)
    _count: list[int] = field(default_factory=lambda: [0], init=False, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        complete(self)
        address = httpx.URL(self.url) if self.url.startswith(("http://", "https://")) else None
        if address is None or not address.host:
            raise BadOption(f"url must be an address such as http://localhost:8000/v1 (got {self.url!r:.200})")
        if address.userinfo:
            raise BadOption("url must not have a name or a password: give the key in an environment variable, key_env")
        self._key()

    @property
    def sent(self) -> int:
        """The number of requests that were sent."""
        return self._count[0]

    @property
    def advice(self) -> str:
        """What to check if the server refuses a request or answers something else."""
        return f"check the name of the model (got {self.name!r})"

    def post(self, path: str, bodies: Iterable[JsonObject], read: Callable[[Any], _Read]) -> list[_Read]:
        """Send requests, some at once, and return what ``read`` makes of each answer, in the order of the requests.

        ``read`` gets the data of an answer, and raises ``ValueError``, ``TypeError``, ``LookupError`` or
        ``AttributeError`` if it is something else than what was asked.
        """
        headers = {"Authorization": f"Bearer {key}"} if (key := self._key()) else {}
        with (
            httpx.Client(timeout=self.timeout, headers=headers, follow_redirects=False) as client,
            ThreadPoolExecutor(self.at_once) as pool,
        ):
            answers = [pool.submit(self._answer, client, path, body, read) for body in bodies]
            try:
                return [answer.result() for answer in answers]
            except BaseException:
                pool.shutdown(cancel_futures=True)  # no request is sent after one has failed
                raise

    def _answer(self, client: httpx.Client, path: str, body: JsonObject, read: Callable[[Any], _Read]) -> _Read:
        """Send one request, again if the server is busy, and return what is read from its answer."""
        address = f"{self.url.rstrip('/')}/{path}" if not path.startswith("/") else self._root + path
        problem = ""
        failure = ServerFailed
        for number in range(self.tries):
            self._spend()
            wait = min(0.5 * 2**number, _LONGEST_WAIT)
            try:
                response = client.post(address, json=body)
            except httpx.TransportError as error:
                problem = f"cannot be reached ({first_line(error)})"
                failure = ServerFailed
            else:
                if response.status_code not in _AGAIN:
                    return self._read(response, read)
                problem = f"answers with the status {response.status_code}"
                failure = Refused if response.status_code == 500 else ServerFailed
                asked = response.headers.get("retry-after", "")
                wait = min(float(asked), _LONGEST_WAIT) if asked.isdigit() else wait
            if number + 1 < self.tries:
                time.sleep(wait)
        raise failure(f"the server {self.url} {problem}, {self.tries} times: check it, or try again later")

    @property
    def _root(self) -> str:
        """The address without the version of the interface."""
        return self.url.rstrip("/").removesuffix("/v1")

    def _spend(self) -> None:
        """Count a request, which must be within the limit."""
        with self._lock:
            if self.requests is not None and self._count[0] >= self.requests:
                raise ServerFailed(
                    f"the limit of {self.requests:,} requests is reached: set requests higher, or choose a method that "
                    "takes fewer, such as occlusion"
                )
            self._count[0] += 1

    def _read(self, response: httpx.Response, read: Callable[[Any], _Read]) -> _Read:
        """Return what is read from the data of an answer."""
        status = response.status_code
        if response.is_redirect:
            raise ServerFailed(f"the server {self.url} redirects to another address, which nibt does not call: give it")
        if status in (401, 403):
            remedy = f"check the key in {self.key_env}" if self.key_env else "name the variable of the key, key_env"
            raise ServerFailed(f"the server {self.url} refuses access (status {status}): {remedy}")
        if status != 200:
            text = " ".join(response.text.split())[:200]
            raise Refused(f"the server {self.url} refuses the request (status {status}: {text}): {self.advice}")

        try:
            return read(response.json())
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise Refused(
                f"the server {self.url} answers with something else than {self.content} ({first_line(error)}): "
                f"{self.advice}"
            ) from error

    def _key(self) -> str:
        """Return the key, or an empty text if none is needed."""
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise BadOption(f"the environment variable {self.key_env} must have the key of the server: set it")
        return key


def data_address(image: Image.Image) -> str:
    """Return an image as an address that has its data, in PNG."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def image_part(address: str) -> JsonObject:
    """Return the part of a message that is an image."""
    return {"type": "image_url", "image_url": {"url": address}}
