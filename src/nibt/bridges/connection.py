"""The connection to a server of a model: its address and key, and a limit of what it is asked."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import Annotated, ClassVar, TypeVar

import httpx

from nibt.errors import BadOption, RequestRefused, ServerFailed, first_line
from nibt.io import load_json
from nibt.options import Positive, Range, RequestCount, TokenCount, complete
from nibt.records import JsonObject

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""The statuses after which the same request may succeed later."""
_LONGEST_WAIT = 30.0  # seconds
_START = 60  # characters of an answer in an error
_LARGEST_ANSWER = 64 * 2**20  # bytes
_MOST_TOKENS = 10**12  # of one request
_COUNTING = threading.Lock()  # of the module, so that servers can be copied and pickled
_Read = TypeVar("_Read")
AnyConnection = TypeVar("AnyConnection", bound="Connection")


@dataclass
class Spent:
    """What a server was asked so far.

    Attributes:
        requests: The number of requests that were sent.
        tokens: The number of tokens that were read and written, as the server counts them.
        largest: The largest number of tokens of one request.
        unfinished: The number of requests that are not answered yet.
        is_counted: Whether each answer says how many tokens were read and written.
    """

    requests: int = 0
    tokens: int = 0
    largest: int = 0
    unfinished: int = 0
    is_counted: bool = True


@dataclass(frozen=True)
class Session:
    """What sends requests while a connection is open."""

    client: httpx.Client
    pool: ThreadPoolExecutor


@dataclass(frozen=True)
class Connection:
    """Base class of servers of models.

    Only the address is called: redirects are not followed, and nothing is kept. Images are sent as PNG.

    Args:
        url: The address up to the version of the interface, such as ``http://localhost:8000/v1``. It is in no error
            after it was read, so that it gets into no file.
        name: The name of the model on the server.
        key_env: The name of the environment variable that has the key, which is sent as a bearer token. The key is in
            no error and no file.
        at_once: The largest number of requests at a time.
        requests: The largest number of requests, repeated ones included; None does not limit it.
        tokens: The largest number of tokens that are read and written, as the server counts them; None does not limit
            it. A request is sent if the limit holds with as many tokens as the largest request before it had.
        timeout: The seconds after which a request has failed.
        tries: How often a request is sent if the server is busy, does not answer, or cannot be reached.

    Attributes:
        sent: The number of requests that were sent.
        tokens_used: The number of tokens that were read and written; None if the server does not count them.

    Raises:
        BadOption: An option has an invalid value, or the environment variable is not set.
        ServerFailed: The server cannot be reached, refuses access, failed ``tries`` times, or would be asked more than
            the limits.
        RequestRefused: A request was refused, or answered by something else than what was asked.
    """

    content: ClassVar[str] = "an answer"
    """What the server is asked for, in messages."""

    url: str
    name: str
    key_env: str | None = field(default=None, kw_only=True)
    at_once: Annotated[int, Range(1, 64)] = field(default=4, kw_only=True)
    requests: RequestCount | None = field(default=None, kw_only=True)
    tokens: TokenCount | None = field(default=None, kw_only=True)
    timeout: Positive = field(default=60.0, kw_only=True)
    tries: Annotated[int, Range(1, 20)] = field(default=4, kw_only=True)
    _spent: Spent = field(default_factory=Spent, init=False, repr=False, compare=False)
    _session: Session | None = field(default=None, init=False, repr=False, compare=False)

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

        if self.key_env is not None and not self.key_env.strip():
            raise BadOption(f"key_env must be the name of an environment variable (got {self.key_env!r})")

        self._key()

    @property
    def sent(self) -> int:
        """The number of requests that were sent."""
        return self._spent.requests

    @property
    def tokens_used(self) -> int | None:
        """The number of tokens that were read and written; None if the server does not count them."""
        return self._spent.tokens if self._spent.is_counted else None

    @property
    def largest(self) -> int:
        """The largest number of tokens of one request so far."""
        return self._spent.largest

    @property
    def called(self) -> str:
        """What messages call the server. They have no address, since messages get into files, logs and pages."""
        return f"the server of {self.name!r}"

    @property
    def advice(self) -> str:
        """What to check if the server refuses a request or answers something else."""
        return f"check the name of the model (got {self.name!r})"

    @contextmanager
    def session(self: AnyConnection) -> Iterator[AnyConnection]:
        """Yield the connection with a client that stays open inside ``with``; it counts what it sends as this one."""
        if self._session is not None:
            yield self
            return

        headers = {"Authorization": f"Bearer {key}"} if (key := self._key()) else {}
        with httpx.Client(timeout=self.timeout, headers=headers, follow_redirects=False) as client:
            pool = ThreadPoolExecutor(self.at_once)
            opened = copy(self)
            object.__setattr__(opened, "_session", Session(client, pool))
            try:
                yield opened
            finally:
                pool.shutdown(cancel_futures=True)

    def post(self, path: str, bodies: Iterable[JsonObject], read: Callable[[object], _Read]) -> list[_Read]:
        """Send requests, some at once, and return what ``read`` makes of each answer, in the order of the requests."""
        answers = dict(self.answers(path, bodies, read))
        return [answers[number] for number in range(len(answers))]

    def answers(
        self, path: str, bodies: Iterable[JsonObject], read: Callable[[object], _Read]
    ) -> Iterator[tuple[int, _Read]]:
        """Send requests, some at once, and yield what ``read`` makes of the answers, with their numbers, as they come.

        ``read`` gets the data of an answer, and raises ``ValueError``, ``TypeError``, ``LookupError`` or
        ``AttributeError`` if it is something else than what was asked. No request is sent after one has failed, but
        the answers to those that were sent are yielded before the error is raised.
        """
        stopped = threading.Event()
        failures: list[Exception] = []
        with self.session() as opened:
            assert opened._session is not None
            client = opened._session.client
            pool = opened._session.pool
            numbers: dict[Future[_Read], int] = {}

            def send(body: JsonObject) -> _Read:
                if stopped.is_set():  # which is known here before the answers are looked at
                    raise CancelledError
                try:
                    return self._answer(client, stopped, path, body, read)
                except Exception as error:
                    failures.append(error)
                    stopped.set()
                    raise

            try:
                for number, body in enumerate(bodies):
                    numbers[pool.submit(send, body)] = number
                for answer in as_completed(numbers):
                    if answer.cancelled():
                        continue

                    error = answer.exception()
                    if error is None:
                        yield numbers[answer], answer.result()
                        continue
                    if not isinstance(error, Exception):
                        raise error

                    _cancel(stopped, numbers)
            finally:
                _cancel(stopped, numbers)

        if failures:
            raise failures[0]

    def _answer(
        self,
        client: httpx.Client,
        stopped: threading.Event,
        path: str,
        body: JsonObject,
        read: Callable[[object], _Read],
    ) -> _Read:
        """Send one request, again if the server is busy, and return what is read from its answer."""
        address = f"{self.url.rstrip('/')}/{path}" if not path.startswith("/") else self._root + path
        problem = ""
        failure = ServerFailed
        for number in range(self.tries):
            wait = min(0.5 * 2**number, _LONGEST_WAIT)
            try:
                response, data = self._received(client, address, body)
            except httpx.RequestError as error:
                problem = f"cannot be reached, or breaks off its answer ({self._without_secrets(first_line(error))})"
                failure = ServerFailed
            else:
                if response.status_code not in _AGAIN:
                    return self._read(response, data, read)

                problem = f"answers with the status {response.status_code}"
                failure = RequestRefused if response.status_code == 500 else ServerFailed
                asked = response.headers.get("retry-after", "")
                wait = min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else wait
            if number + 1 < self.tries and paused(stopped, wait):
                break

        raise failure(f"{self.called} {problem}, {self.tries} times: check it, or try again later")

    def _received(self, client: httpx.Client, address: str, body: JsonObject) -> tuple[httpx.Response, bytes]:
        """Send one request, and return its answer with its data, which may neither take too long nor be too large."""
        self._begin()
        latest = time.monotonic() + self.timeout
        data = bytearray()
        tokens: int | None = 0
        try:
            with client.stream("POST", address, json=body) as response:
                for received in response.iter_bytes():
                    data += received
                    if len(data) > _LARGEST_ANSWER:
                        raise RequestRefused(
                            f"{self.called} answers with more than {_LARGEST_ANSWER:,} bytes: check it"
                        )
                    if time.monotonic() > latest:  # the client's own limit is that of each read
                        raise httpx.ReadTimeout("timed out")
            if response.status_code == 200 and self.reads_tokens(address):
                tokens = _tokens_of(data)
            return response, bytes(data)
        finally:
            self._end(tokens)

    def reads_tokens(self, address: str) -> bool:
        """Return whether the model reads what is sent to an address."""
        return True

    @property
    def _root(self) -> str:
        """The address without the version of the interface."""
        return self.url.rstrip("/").removesuffix("/v1")

    def _begin(self) -> None:
        """Count a request that is sent, which must be within the limits."""
        with _COUNTING:
            spent = self._spent
            if self.requests is not None and spent.requests >= self.requests:
                raise ServerFailed(
                    f"the limit of {self.requests:,} requests is reached: set requests higher, or choose another "
                    "method or fewer cells"
                )

            if self.tokens is not None:
                if not spent.is_counted:
                    raise ServerFailed(
                        f"{self.called} does not say how many tokens it reads and writes (usage), so tokens cannot be "
                        "limited: set requests instead"
                    )
                expected = spent.tokens + spent.largest * (spent.unfinished + 1)
                if expected > self.tokens or spent.tokens >= self.tokens:
                    raise ServerFailed(
                        f"the limit of {self.tokens:,} tokens is reached ({spent.tokens:,} are used, and a request "
                        f"takes up to {spent.largest:,}): set tokens higher, or choose another method or "
                        "fewer cells"
                    )

            spent.requests += 1
            spent.unfinished += 1

    def _end(self, tokens: int | None) -> None:
        """Count the tokens of a request that is answered, or has failed."""
        with _COUNTING:
            spent = self._spent
            spent.unfinished -= 1
            spent.is_counted = spent.is_counted and tokens is not None
            spent.tokens += tokens or 0
            spent.largest = max(spent.largest, tokens or 0)

    def _read(self, response: httpx.Response, data: bytes, read: Callable[[object], _Read]) -> _Read:
        """Return what is read from the data of an answer."""
        status = response.status_code
        if response.is_redirect:
            raise ServerFailed(f"{self.called} redirects to another address, which nibt does not call: give it")
        if status in (401, 403):
            remedy = f"check the key in {self.key_env}" if self.key_env else "name the variable of the key, key_env"
            raise ServerFailed(f"{self.called} refuses access (status {status}): {remedy}")
        if status != 200:
            text = self._without_secrets(" ".join(data.decode(errors="replace").split()))[:200]
            raise RequestRefused(f"{self.called} refuses the request (status {status}: {text}): {self.advice}")

        try:
            return read(load_json(data))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            problem = self._without_secrets(first_line(error))
            if isinstance(error, JSONDecodeError):
                start = self._without_secrets(data.decode(errors="replace")).strip()[:_START]
                problem = f"it begins with {start!r}, and is no JSON" if start else "it is empty"
            raise RequestRefused(
                f"{self.called} answers with something else than {self.content} ({problem}): {self.advice}"
            ) from None  # the error may quote the key

    def _without_secrets(self, text: str) -> str:
        """Return a text from outside, which may repeat the key and the address, without them."""
        key = self._key()
        host = httpx.URL(self.url).host
        text = text.replace(key, "[key]") if key else text
        return text.replace(self.url, "[server]").replace(host, "[server]")

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


def paused(stopped: threading.Event, seconds: float) -> bool:
    """Wait before another try, and return whether no further request is wanted."""
    return stopped.wait(seconds)


def _cancel(stopped: threading.Event, answers: Iterable[Future]) -> None:
    """Send no further request, and wait for no further try of those that were sent."""
    stopped.set()
    for answer in answers:
        answer.cancel()


def _tokens_of(data: bytearray) -> int | None:
    """Return how many tokens a server has read and written for an answer; None if it does not say so."""
    try:
        usage = load_json(bytes(data))["usage"]
        total = counted(usage.get("total_tokens"))
        read = counted(usage.get("prompt_tokens"))
        written = counted(usage.get("completion_tokens", 0))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None

    if total is None and read is not None and written is not None:
        return read + written
    return total


def counted(value: object) -> int | None:
    """Return a number of tokens that a server states; None if it is none, such as a text or a negative number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value < _MOST_TOKENS and value == int(value) else None


def image_part(address: str) -> JsonObject:
    """Return the part of a message that is an image."""
    return {"type": "image_url", "image_url": {"url": address}}
