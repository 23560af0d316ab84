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
from nibt.io import load_json
from nibt.options import Positive, Range, RequestCount, complete
from nibt.records import JsonObject

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""The statuses after which the same request may succeed later."""
_LONGEST_WAIT = 30.0  # seconds
_LARGEST_ANSWER = 64 * 2**20  # bytes
_COUNTING = threading.Lock()  # of the module, so that servers can be copied and pickled
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

    def __post_init__(self) -> None:
        complete(self)
        try:
            address = httpx.URL(self.url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            raise BadOption(f"url must be an address such as http://localhost:8000/v1 (got {self.url!r:.200})")
        if address.query or address.fragment:
            raise BadOption("url must have nothing after a ? or a #: give the part before it, up to the version")
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
                response, data = self._received(client, address, body)
            except httpx.RequestError as error:
                problem = f"cannot be reached, or breaks off its answer ({self._without_key(first_line(error))})"
                failure = ServerFailed
            else:
                if response.status_code not in _AGAIN:
                    return self._read(response, data, read)
                problem = f"answers with the status {response.status_code}"
                failure = Refused if response.status_code == 500 else ServerFailed
                asked = response.headers.get("retry-after", "")
                wait = min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else wait
            if number + 1 < self.tries:
                time.sleep(wait)
        raise failure(f"the server {self.url} {problem}, {self.tries} times: check it, or try again later")

    def _received(self, client: httpx.Client, address: str, body: JsonObject) -> tuple[httpx.Response, bytes]:
        """Send one request, and return its answer with its data, which may neither take too long nor be too large."""
        latest = time.monotonic() + self.timeout
        data = bytearray()
        with client.stream("POST", address, json=body) as response:
            for received in response.iter_bytes():
                data += received
                if len(data) > _LARGEST_ANSWER:
                    raise ServerFailed(
                        f"the server {self.url} answers with more than {_LARGEST_ANSWER:,} bytes: check it"
                    )
                if time.monotonic() > latest:  # the client's own limit is that of each read
                    raise httpx.ReadTimeout("timed out")
        return response, bytes(data)

    @property
    def _root(self) -> str:
        """The address without the version of the interface."""
        return self.url.rstrip("/").removesuffix("/v1")

    def _spend(self) -> None:
        """Count a request, which must be within the limit."""
        with _COUNTING:
            if self.requests is not None and self._count[0] >= self.requests:
                raise ServerFailed(
                    f"the limit of {self.requests:,} requests is reached: set requests higher, or choose a method that "
                    "takes fewer, such as occlusion"
                )
            self._count[0] += 1

    def _read(self, response: httpx.Response, data: bytes, read: Callable[[Any], _Read]) -> _Read:
        """Return what is read from the data of an answer."""
        status = response.status_code
        if response.is_redirect:
            raise ServerFailed(f"the server {self.url} redirects to another address, which nibt does not call: give it")
        if status in (401, 403):
            remedy = f"check the key in {self.key_env}" if self.key_env else "name the variable of the key, key_env"
            raise ServerFailed(f"the server {self.url} refuses access (status {status}): {remedy}")
        if status != 200:
            text = self._without_key(" ".join(data.decode(errors="replace").split()))[:200]
            raise Refused(f"the server {self.url} refuses the request (status {status}: {text}): {self.advice}")

        try:
            return read(load_json(data))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            problem = self._without_key(first_line(error))
            raise Refused(
                f"the server {self.url} answers with something else than {self.content} ({problem}): {self.advice}"
            ) from None  # the error may quote the key

    def _without_key(self, text: str) -> str:
        """Return a text from outside, which may repeat the key, without it."""
        key = self._key()
        return text.replace(key, "[key]") if key else text

    def _key(self) -> str:
        """Return the key, or an empty text if none is needed."""
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise BadOption(f"the environment variable {self.key_env} must have the key of the server: set it")
        if not (key.isascii() and key.isprintable()):
            raise BadOption(f"the key in {self.key_env} must be one line of ASCII characters: set it again")
        return key


def data_address(image: Image.Image) -> str:
    """Return an image as an address that has its data, in PNG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def image_part(address: str) -> JsonObject:
    """Return the part of a message that is an image."""
    return {"type": "image_url", "image_url": {"url": address}}
