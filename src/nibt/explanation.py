"""The answer to one question: both sides, the score that was explained, and all that is needed to ask it again.

``SCHEMA`` is the version of the JSON form, which ``docs/json.md`` describes.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from nibt.attribution import Attribution
from nibt.errors import BadInput
from nibt.files import written_whole
from nibt.pair import Picture
from nibt.part import CaptionPart, Part, PicturePart, narrowings
from nibt.preparation.geometry import Region
from nibt.units import Word

SCHEMA = 1
MISMATCH = "the model does not rate these as a match: the map explains a low score"
"""How the warning begins that comes first, and that every report shows before the map."""
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Ranked:
    """A label with its cosine, and its softmax probability among the labels at the model's own scale."""

    label: str
    cosine: float
    probability: float


class Saved(ABC):
    """What has a JSON form: an explanation, a comparison, a word-region table, or an audit."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all.

        Raises:
            CannotWrite: the folder is missing or closed, or the disk is full.

        """
        save([self], path)


@dataclass(frozen=True)
class Explanation(Saved):
    """Both sides of one answer, and the question that they answer.

    ``image.grid`` has the signed scores of the patches (rows x columns), ``words`` those of the words;
    ``similarity`` is the cosine of the pair, ``score`` what was explained on each side.
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
    picture: Picture | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, image: PicturePart, text: CaptionPart, **told: Any) -> "Explanation":
        """The answer whose two parts these are; ``told`` is all the rest of it."""
        return cls(text.source, image.attribution, text.attribution, image.region, image.size,
                   source=image.source, picture=image.picture, **told)  # fmt: skip

    @property
    def parts(self) -> Mapping[str, Part]:
        """The picture with its map, the caption with its words."""
        return {"image": self._image, "text": self._text}

    @property
    def _image(self) -> PicturePart:
        return PicturePart(self.source, self.image, self.region, self.size, self.picture)

    @property
    def _text(self) -> CaptionPart:
        return CaptionPart(self.caption, self.text)

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The signed scores of the patches, rows x columns."""
        return self.image.grid

    @property
    def words(self) -> Iterator[tuple[Word, float]]:
        """Each word with the sum of its tokens' scores."""
        return self._text.words

    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""
        return {
            "schema": SCHEMA, "picture": self.source, "size": list(self.size), "caption": self.caption, **record(self),
            "image": self._image.block(), "text": self._text.block(), "narrowing": narrowings(self.parts),
            "ranking": [asdict(label) for label in self.ranking],
        }  # fmt: skip

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
        told = data["narrowing"]
        image = PicturePart.read(data["image"], data["picture"], data["size"], told.get("image"))
        text = CaptionPart.read(data["text"], data["caption"], told.get("text"))
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


def mismatch(warnings: Sequence[str]) -> str:
    """The warning that the model rates the pair as no match; empty where nothing is claimed."""
    return next((warning for warning in warnings if warning.startswith(MISMATCH)), "")


def other_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    """All warnings but that of ``mismatch``."""
    return tuple(warning for warning in warnings if not warning.startswith(MISMATCH))


def record(answer: Answer) -> dict[str, Any]:
    """How it was asked, as plain data."""
    return {
        "similarity": answer.similarity, "score": dict(answer.score), "method": dict(answer.method),
        "model": dict(answer.model), "versions": dict(answer.versions), "warnings": list(answer.warnings),
    }  # fmt: skip


def recorded(data: Mapping[str, Any]) -> dict[str, Any]:
    """What ``record`` wrote."""
    told = {key: data[key] for key in ("similarity", "score", "method", "model", "versions")}
    return {**told, "warnings": tuple(data["warnings"])}


def save(answers: Sequence[Saved], path: str | Path) -> None:
    """Write one JSON object for one pair, a list for several."""
    data = [answer.to_json() for answer in answers]
    with written_whole(Path(path)) as draft:
        draft.write_text(as_text(data[0] if len(data) == 1 else data), encoding="utf-8")


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
