"""The answer to one question: both sides, the score that was explained, and all that is needed to ask it again.

``SCHEMA`` is the version of the JSON form, which ``docs/json.md`` describes.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.units import WordScore
from nibt.errors import BadInput
from nibt.outputs import unsigned, write_bytes
from nibt.results.attribution import Attribution
from nibt.results.part import ImageAttribution, Part, TextAttribution
from nibt.values import ByValue

SCHEMA = 2
MISMATCH = "the model does not rate these as a match: the map explains a low score"
"""How the warning begins that comes first, and that every report shows before the map."""
_REQUEST = ("kind", "source", "picture_hash", "caption", "method", "model")  # the keys that say what was asked
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Ranked:
    """A label with its cosine, and its softmax probability among the labels at the model's own scale."""

    label: str
    cosine: float
    probability: float


class JsonSerializable(ByValue, ABC):
    """What has a JSON form: an explanation, a comparison, a word-region table, or an audit."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""

    def request(self) -> dict[str, Any]:
        """What was asked, as plain data: the inputs, the method, the model and the target, without what came of it."""
        data = self.to_json()
        request = {name: data[name] for name in _REQUEST if name in data}
        for place in ("first", "second"):
            if place in data:
                request[place] = {name: data[place][name] for name in _REQUEST if name in data[place]}
        score = data.get("score", {})
        labels = sorted(label["label"] for label in data.get("ranking", ()))
        return request | {"target": score.get("target"), "options": score.get("options"), "labels": labels}

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the JSON file, whole or not at all.

        Raises:
            WouldOverwrite: a file is there that nibt did not write, and ``overwrite`` is not given.
            CannotWrite: the folder is missing or closed, or the disk is full.

        """
        save([self], path, overwrite)


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(JsonSerializable):
    """Both sides of one answer, and the question that they answer.

    ``image.grid`` has the signed scores of the patches (rows x columns), ``words`` those of the words; ``region`` is
    the part of the picture that the grid covers. ``similarity`` is the cosine of the pair, ``score`` what was
    explained on each side. Attributes have the names and places of the JSON form.
    """

    caption: str
    image: Attribution
    text: Attribution
    region: Region
    size: tuple[int, int]
    similarity: float
    score: Mapping[str, Any]
    method: Mapping[str, Any]
    model: Mapping[str, Any]
    versions: Mapping[str, str]
    source: str = ""
    warnings: tuple[str, ...] = ()
    ranking: tuple[Ranked, ...] = ()
    picture: ImageInput | None = field(default=None, repr=False, compare=False)
    picture_hash: str = ""

    @classmethod
    def of(cls, image: ImageAttribution, text: TextAttribution, **told: Any) -> "Explanation":
        """The answer whose two parts these are; ``told`` is all the rest of it."""
        return cls(
            text.source,
            image.attribution,
            text.attribution,
            image.region,
            image.size,
            source=image.source,
            picture=image.picture,
            picture_hash=image.picture_hash,
            **told,
        )

    @property
    def parts(self) -> Mapping[str, Part]:
        """The picture with its map, the caption with its words."""
        return {"image": self._image, "text": self._text}

    @property
    def _image(self) -> ImageAttribution:
        return ImageAttribution(self.source, self.image, self.region, self.size, self.picture, self.picture_hash)

    @property
    def _text(self) -> TextAttribution:
        return TextAttribution(self.caption, self.text)

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The signed scores of the patches, rows x columns."""
        return self.image.grid

    @property
    def words(self) -> tuple[WordScore, ...]:
        """The words with their scores."""
        return self._text.words

    def heatmap(self) -> np.ndarray:
        """The signed scores in the pixels of the picture: float32, (height, width), 0 where the model did not see."""
        return self._image.heatmap()

    def __repr__(self) -> str:
        rows, columns = self.grid.shape
        lines = [
            f"Explanation of {self.source} with {self.caption!r}",
            f"  {question_line(self)}",
            f"  grid   {rows} x {columns}, from {float(self.grid.min()):+.4f} to {float(self.grid.max()):+.4f}",
            f"  words  {shortened([f'{word.text} {word.score:+.4f}' for word in self.words])}",
        ]
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])

    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "picture_hash": self.picture_hash,
            "size": list(self.size),
            "region": list(asdict(self.region).values()),
            "caption": self.caption,
            **record(self),
            "words": self._text.plain_words(),
            "image": self._image.block(),
            "text": self._text.block(),
            "ranking": [asdict(label) for label in self.ranking],
        }

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """Read a JSON file of one pair. The picture comes along if it is still where it was.

        Raises:
            BadInput: the file is missing, or is no explanation of this schema.

        """
        return load(path, cls.from_json, "explanation")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Explanation":
        """What ``to_json`` gave. The picture comes along if it is still where it was.

        Raises:
            KeyError, TypeError, ValueError: it is no such data.

        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, expected {SCHEMA}")
        image, text = ImageAttribution.read(data["image"], data), TextAttribution.read(data["text"], data)
        ranking = tuple(Ranked(**label) for label in data["ranking"])
        return cls.of(image, text, **recorded(data), ranking=ranking)


@runtime_checkable
class Answer(Protocol):
    """What explanations and comparisons have in common: how it was asked, and what came of it in each place."""

    @property
    def parts(self) -> Mapping[str, Part]: ...
    @property
    def similarity(self) -> float: ...
    @property
    def score(self) -> Mapping[str, Any]: ...
    @property
    def method(self) -> Mapping[str, Any]: ...
    @property
    def model(self) -> Mapping[str, Any]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


def question_line(answer: Answer) -> str:
    """The similarity and what was asked, in one line."""
    asked = f"{method_text(answer.method)} explains {answer.score.get('target')}"
    return f"similarity {answer.similarity:.4f}; {asked}; model {answer.model.get('id')}"


def method_text(method: Mapping[str, Any]) -> str:
    """A method with its variant, in a few words."""
    variant = method.get("variant", "default")
    return str(method.get("name")) if variant == "default" else f"{method.get('name')} ({variant})"


def shortened(texts: Sequence[str], most: int = 8) -> str:
    """Texts in one line, the first of them where they are many.

    >>> shortened(["a", "b", "c"], 2)
    'a, b, and 1 more'

    """
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])


def mismatch(warnings: Sequence[str]) -> str:
    """The warning that the model rates the pair as no match; empty where nothing is claimed."""
    return next((warning for warning in warnings if warning.startswith(MISMATCH)), "")


def other_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    """All warnings but that of ``mismatch``."""
    return tuple(warning for warning in warnings if not warning.startswith(MISMATCH))


def record(answer: Answer) -> dict[str, Any]:
    """How it was asked, as plain data."""
    return {
        "similarity": answer.similarity,
        "score": dict(answer.score),
        "method": dict(answer.method),
        "model": dict(answer.model),
        "versions": dict(answer.versions),
        "warnings": list(answer.warnings),
    }


def recorded(data: Mapping[str, Any]) -> dict[str, Any]:
    """What ``record`` wrote."""
    told = {key: data[key] for key in ("similarity", "score", "method", "model", "versions")}
    return {**told, "warnings": tuple(data["warnings"])}


def save(answers: Sequence[JsonSerializable], path: str | Path, overwrite: bool = False) -> None:
    """Write one JSON object for one pair, a list for several.

    Raises:
        WouldOverwrite: a file is there that nibt did not write, and ``overwrite`` is not given.
        CannotWrite: the folder is missing or closed, or the disk is full.

    """
    data = [answer.to_json() for answer in answers]
    data[0] = {"signature": unsigned(request_of(answers)), **data[0]}
    write_bytes(Path(path), as_text(data[0] if len(data) == 1 else data).encode(), overwrite)


def request_of(answers: Sequence[JsonSerializable]) -> dict[str, Any]:
    """What was asked for a file of these results: that of the only one, or the digests of all."""
    requests = [answer.request() for answer in answers]
    if len(requests) == 1:
        return requests[0]
    return {"pairs": [sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()[:16] for one in requests]}


def as_text(data: Any) -> str:
    """JSON that a person can read, without NaN."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def load(path: str | Path, read: Callable[[Any], _Read], what: str) -> _Read:
    """Read the JSON object of one pair.

    Raises:
        BadInput: the file is missing, or ``read`` does not find in it ``what`` it ought to be.

    """
    try:
        return read(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{str(path)!r} is no {what} that nibt wrote ({error})") from error
