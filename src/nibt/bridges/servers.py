"""Models behind a server of embeddings: its two functions, for ``nibt.load_model(images=..., texts=...)``."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from operator import itemgetter
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from PIL import Image

from nibt.bridges.connection import Connection, image_part
from nibt.errors import RequestRefused
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.options import OneOf
from nibt.records import JsonObject, is_finite
from nibt.report.image.layout import uri

SHAPES = ("openai", "infinity", "jina", "cohere")
_TOGETHER = 16  # items in a request, where it takes several
_Item = TypeVar("_Item")
Vector: TypeAlias = list[float]


@dataclass(frozen=True)
class EmbeddingServer(Connection):
    """A server that embeds images and texts, and a limit of what it is asked.

    The same input is sent again if it is needed again. It has the options of ``Connection``, too.

    Args:
        shape: The form of requests and answers. ``openai``: texts as ``input`` and images as messages, as vLLM takes
            them. ``infinity``: lists with a ``modality``. ``jina``: lists of objects with ``text`` or ``image``.
            ``cohere``: ``embed`` of version 2.
        blank: What is sent for a text without words, which many servers refuse.

    Examples:
        >>> EmbeddingServer("http://localhost:8000/v1", "my-clip").shape
        'openai'
    """

    content: ClassVar[str] = "embeddings"

    shape: Annotated[str, OneOf(SHAPES)] = "openai"
    blank: str = " "

    @property
    def advice(self) -> str:
        """What to check if the server refuses a request or answers something else."""
        return (
            f"check the name of the model and the shape of requests (got {self.name!r} and {self.shape}; shapes are "
            f"{', '.join(SHAPES)})"
        )

    def images(self, images: Sequence[Image.Image]) -> list[Vector]:
        """Return the embeddings of images."""
        addresses = [uri(image.convert("RGB")) for image in images]
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
                bodies = [
                    self._body(messages=[{"role": "user", "content": [image_part(address)]}]) for address in addresses
                ]
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

    def _body(self, **entries: object) -> JsonObject:
        return {"model": self.name, "encoding_format": "float", **entries}

    def _cohere_body(self, **entries: object) -> JsonObject:
        return {"model": self.name, "embedding_types": ["float"], **entries}

    def _of_lists(self, items: Sequence[_Item], body: Callable[[list[_Item]], JsonObject]) -> list[Vector]:
        """Return the vectors of items that go to the server in lists."""
        parts = [list(items[first : first + _TOGETHER]) for first in range(0, len(items), _TOGETHER)]
        return self._vectors(map(body, parts), [len(part) for part in parts])

    def _vectors(self, bodies: Iterable[JsonObject], counts: Sequence[int]) -> list[Vector]:
        """Return the vectors of the answers to requests, of which each has so many."""
        path = "embed" if self.shape == "cohere" else "embeddings"
        answers = self.post(path, bodies, self._vectors_of)
        for vectors, count in zip(answers, counts, strict=True):
            if len(vectors) != count:
                raise RequestRefused(
                    f"{self.called} must return {count} vectors for {count} items (got {len(vectors)})"
                )

        listed = [vector for vectors in answers for vector in vectors]
        lengths = sorted({len(vector) for vector in listed})
        if len(lengths) > 1:
            raise RequestRefused(
                f"{self.called} must return vectors of one length (got {lengths[0]} and {lengths[-1]}): {self.advice}"
            )
        if not all(0 < sum(number * number for number in vector) < inf for vector in listed):
            raise RequestRefused(
                f"{self.called} must return vectors that are not zero, and whose lengths are finite (got another): "
                f"{self.advice}"
            )
        return listed

    def _vectors_of(self, data: Any) -> list[Vector]:
        """Return the vectors of the data of an answer."""
        try:
            vectors = self._listed(data)
        except (TypeError, LookupError, AttributeError) as error:
            entries = "embeddings.float" if self.shape == "cohere" else "data, a list of objects with embedding"
            raise ValueError(f"it has no {entries}") from error

        for vector in vectors:
            if not isinstance(vector, list) or not all(map(is_finite, vector)):
                raise ValueError("a vector must be a list of finite numbers")

        return [[float(number) for number in vector] for vector in vectors]

    def _listed(self, data: Any) -> list[Any]:
        """Return what an answer has in place of its vectors, in their order."""
        if self.shape == "cohere":
            return list(data["embeddings"]["float"])

        rows = data["data"]
        places = [row.get("index", place) for place, row in enumerate(rows)]
        if sorted(places) != list(range(len(rows))):
            raise ValueError(f"index must be each number below {len(rows)} once (got {places!r:.60})")
        return [row["embedding"] for _, row in sorted(zip(places, rows, strict=True), key=itemgetter(0))]


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
