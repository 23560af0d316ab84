"""Models behind a server of embeddings: its two functions, for ``nibt.load_model(images=..., texts=...)``."""

import base64
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

import httpx
from PIL import Image

from nibt.errors import BadOption, ServerFailed, first_line
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.options import OneOf, Positive, Range, complete
from nibt.records import JsonObject

SHAPES = ("openai", "infinity", "jina", "cohere")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""The statuses after which the same request may succeed later."""
_LONGEST_WAIT = 30.0  # seconds
_TOGETHER = 16  # items in a request, where it takes several
Vector: TypeAlias = list[float]


@dataclass(frozen=True)
class EmbeddingServer:
    """A server that embeds images and texts, and a limit of what it is asked.

    Only the address is called: redirects are not followed, and nothing is kept, so that the same input is sent again if
    it is needed again. Images are sent as PNG.

    Args:
        url: The address up to the version of the interface, such as ``http://localhost:8000/v1``.
        name: The name of the model on the server.
        shape: The form of requests and answers. ``openai``: texts as ``input`` and images as messages, as vLLM takes
            them. ``infinity``: lists with a ``modality``. ``jina``: lists of objects with ``text`` or ``image``.
            ``cohere``: ``embed`` of version 2.
        key_env: The name of the environment variable that has the key, which is sent as a bearer token. The key is in
            no error and no file.
        at_once: The largest number of requests at a time.
        requests: The largest number of requests, repeated ones included; None does not limit it.
        timeout: The seconds after which a request has failed.
        tries: How often a request is sent if the server is busy, does not answer, or cannot be reached.
        blank: What is sent for a text without words, which many servers refuse.

    Attributes:
        sent: The number of requests that were sent.

    Raises:
        BadOption: An option has an invalid value, or the environment variable is not set.
        ServerFailed: A call was refused, failed ``tries`` times, would be more than ``requests``, or was answered by
            something else than the vectors.

    Examples:
        >>> EmbeddingServer("http://localhost:8000/v1", "my-clip").shape
        'openai'
    """

    url: str
    name: str
    shape: Annotated[str, OneOf(SHAPES)] = "openai"
    key_env: str | None = None
    at_once: Annotated[int, Range(1, 64)] = 4
    requests: Annotated[int, Range(1, 10_000_000)] | None = None
    timeout: Positive = 60.0
    tries: Annotated[int, Range(1, 20)] = 4
    blank: str = " "
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

    def images(self, images: Sequence[Image.Image]) -> list[Vector]:
        """Return the embeddings of images."""
        addresses = [_data_address(image) for image in images]
        match self.shape:
            case "infinity":
                return self._of_lists(addresses, lambda part: self._body(input=part, modality="image"))
            case "jina":
                pictures = [{"image": address.partition(",")[2]} for address in addresses]
                return self._of_lists(pictures, lambda part: self._body(input=part))
            case "cohere":
                bodies = [self._cohere_body(images=[address], input_type="image") for address in addresses]
                return self._vectors(bodies, [1] * len(bodies))
            case _:
                bodies = [self._body(messages=[_message(address)]) for address in addresses]
                return self._vectors(bodies, [1] * len(bodies))

    def texts(self, texts: Sequence[str]) -> list[Vector]:
        """Return the embeddings of texts."""
        listed = [text or self.blank for text in texts]
        match self.shape:
            case "infinity":
                return self._of_lists(listed, lambda part: self._body(input=part, modality="text"))
            case "jina":
                return self._of_lists([{"text": text} for text in listed], lambda part: self._body(input=part))
            case "cohere":
                return self._of_lists(listed, lambda part: self._cohere_body(texts=part, input_type="search_query"))
            case _:
                return self._of_lists(listed, lambda part: self._body(input=part))

    def _body(self, **entries: Any) -> JsonObject:
        return {"model": self.name, "encoding_format": "float", **entries}

    def _cohere_body(self, **entries: Any) -> JsonObject:
        return {"model": self.name, "embedding_types": ["float"], **entries}

    def _of_lists(self, items: Sequence[Any], body: Callable[[list[Any]], JsonObject]) -> list[Vector]:
        """Return the vectors of items that go to the server in lists."""
        parts = [list(items[first : first + _TOGETHER]) for first in range(0, len(items), _TOGETHER)]
        return self._vectors(map(body, parts), [len(part) for part in parts])

    def _vectors(self, bodies: Iterable[JsonObject], counts: Sequence[int]) -> list[Vector]:
        """Send requests, some at once, and return the vectors of their answers, in the order of the requests."""
        headers = {"Authorization": f"Bearer {key}"} if (key := self._key()) else {}
        with (
            httpx.Client(timeout=self.timeout, headers=headers, follow_redirects=False) as client,
            ThreadPoolExecutor(self.at_once) as pool,
        ):
            answers = [
                pool.submit(self._answer, client, body, count) for body, count in zip(bodies, counts, strict=True)
            ]
            try:
                return [vector for answer in answers for vector in answer.result()]
            except BaseException:
                pool.shutdown(cancel_futures=True)  # no request is sent after one has failed
                raise

    def _answer(self, client: httpx.Client, body: JsonObject, count: int) -> list[Vector]:
        """Send one request, again if the server is busy, and return the vectors of its answer."""
        problem = ""
        for number in range(self.tries):
            self._spend()
            wait = min(0.5 * 2**number, _LONGEST_WAIT)
            try:
                response = client.post(self._address, json=body)
            except httpx.TransportError as error:
                problem = f"cannot be reached ({first_line(error)})"
            else:
                if response.status_code not in _AGAIN:
                    return self._read(response, count)
                problem = f"answers with the status {response.status_code}"
                asked = response.headers.get("retry-after", "")
                wait = min(float(asked), _LONGEST_WAIT) if asked.isdigit() else wait
            if number + 1 < self.tries:
                time.sleep(wait)
        raise ServerFailed(f"the server {self.url} {problem}, {self.tries} times: check it, or try again later")

    @property
    def _address(self) -> str:
        return f"{self.url.rstrip('/')}/{'embed' if self.shape == 'cohere' else 'embeddings'}"

    def _spend(self) -> None:
        """Count a request, which must be within the limit."""
        with self._lock:
            if self.requests is not None and self._count[0] >= self.requests:
                raise ServerFailed(
                    f"the limit of {self.requests:,} requests is reached: set requests higher, or choose a method that "
                    "takes fewer, such as occlusion"
                )
            self._count[0] += 1

    def _read(self, response: httpx.Response, count: int) -> list[Vector]:
        """Return the vectors of an answer in their order, which must be ``count``."""
        status = response.status_code
        if response.is_redirect:
            raise ServerFailed(f"the server {self.url} redirects to another address, which nibt does not call: give it")
        if status in (401, 403):
            remedy = f"check the key in {self.key_env}" if self.key_env else "name the variable of the key, key_env"
            raise ServerFailed(f"the server {self.url} refuses access (status {status}): {remedy}")
        if status != 200:
            text = " ".join(response.text.split())[:200]
            raise ServerFailed(
                f"the server {self.url} refuses the request (status {status}: {text}): check the name of the model and "
                f"the shape of requests (got {self.name!r} and {self.shape})"
            )

        try:
            vectors = self._vectors_of(response.json())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ServerFailed(
                f"the server {self.url} answers with something else than embeddings of the shape {self.shape} "
                f"({first_line(error)}): choose another of {', '.join(SHAPES)}"
            ) from error
        if len(vectors) != count:
            raise ServerFailed(
                f"the server {self.url} must return {count} vectors for {count} items (got {len(vectors)})"
            )
        return vectors

    def _vectors_of(self, data: Any) -> list[Vector]:
        """Return the vectors of the data of an answer."""
        if self.shape == "cohere":
            vectors = data["embeddings"]["float"]
        else:
            rows = data["data"]
            vectors = [row["embedding"] for row in sorted(rows, key=lambda row: row.get("index", 0))]
        return [[float(number) for number in vector] for vector in vectors]

    def _key(self) -> str:
        """Return the key, or an empty text if none is needed."""
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise BadOption(f"the environment variable {self.key_env} must have the key of the server: set it")
        return key


def load_embedding_server(url: str, name: str, *, image_size: int | None = None, **options: Any) -> Model:
    """Load the model of a server of embeddings, which methods explain that change inputs.

    Args:
        url: The address, as of ``EmbeddingServer``.
        name: The name of the model on the server, and of the model in results.
        image_size: The side of images in pixels, as in ``load_model``.
        **options: Other options of ``EmbeddingServer``.
    """
    server = EmbeddingServer(url, name, **options)
    return load_model(images=server.images, texts=server.texts, name=name, image_size=image_size)


def _message(address: str) -> JsonObject:
    """Return a message with an image."""
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}


def _data_address(image: Image.Image) -> str:
    """Return an image as an address that has its data, in PNG."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
