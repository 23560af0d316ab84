"""The answer to one question: both sides, the score that was explained, and all that is needed to ask it again.

``SCHEMA`` is the version of the JSON form, which ``docs/json.md`` describes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.attribution import Attribution, Narrowing
from nibt.errors import BadInput
from nibt.files import written_whole
from nibt.pair import Picture, read_picture
from nibt.preparation.geometry import Region
from nibt.units import Grid, Word, Words, word_scores

SCHEMA = 1


@dataclass(frozen=True)
class Ranked:
    """A label with its cosine, and its softmax probability among the labels at the model's own scale."""

    label: str
    cosine: float
    probability: float


@dataclass(frozen=True)
class Explanation:
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

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The signed scores of the patches, rows x columns."""
        return self.image.grid

    @property
    def words(self) -> Iterator[tuple[Word, float]]:
        """Each word with the sum of its tokens' scores."""
        assert isinstance(self.text.units, Words)
        return word_scores(self.text.scores, self.text.units)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""
        narrowing = {side: part.narrowing.as_json() for side, part in (("image", self.image), ("text", self.text))
                     if part.narrowing is not None}  # fmt: skip
        return {
            "schema": SCHEMA, "picture": self.source, "size": list(self.size), "caption": self.caption,
            "similarity": self.similarity, "score": dict(self.score), "method": dict(self.method),
            "model": dict(self.model), "versions": dict(self.versions), "warnings": list(self.warnings),
            "image": self._image_json(), "text": self._text_json(), "narrowing": narrowing,
            "ranking": [asdict(label) for label in self.ranking],
        }  # fmt: skip

    def _image_json(self) -> dict[str, Any]:
        assert isinstance(self.image.units, Grid)
        return {
            "grid": [self.image.units.rows, self.image.units.columns],
            "scores": self.image.grid.tolist(),
            "region": list(asdict(self.region).values()),
            "special_share": float(self.image.special_share),
        }

    def _text_json(self) -> dict[str, Any]:
        units = self.text.units
        assert isinstance(units, Words)
        return {
            "tokens": list(units.tokens[0]),
            "scores": self.text.scores.tolist(),
            "special": (~units.explained).tolist(),
            "words": [{"text": word.text, "score": score, "tokens": list(word.tokens)} for word, score in self.words],
            "special_share": float(self.text.special_share),
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all.

        Raises:
            CannotWrite: the folder is missing or closed, or the disk is full.

        """
        save([self], path)

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """Read a JSON file of one pair. The picture comes along if it is still where it was.

        Raises:
            BadInput: the file is missing, or is no explanation of this schema.

        """
        try:
            return _from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{str(path)!r} is no explanation that nibt wrote ({error})") from error


@runtime_checkable
class Answer(Protocol):
    """What has a JSON form: an explanation, or a word-region table."""

    def to_json(self) -> dict[str, Any]: ...


def save(answers: Sequence[Answer], path: str | Path) -> None:
    """Write one JSON object for one pair, a list for several."""
    data = [answer.to_json() for answer in answers]
    with written_whole(Path(path)) as draft:
        draft.write_text(as_text(data[0] if len(data) == 1 else data), encoding="utf-8")


def as_text(data: Any) -> str:
    """JSON that a person can read, without NaN."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _from_json(data: dict[str, Any]) -> Explanation:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']}, expected {SCHEMA}")
    image, text, told = data["image"], data["text"], data["narrowing"]
    grid = Grid(*image["grid"])
    words = tuple(Word(word["text"], tuple(word["tokens"])) for word in text["words"])
    units = Words((tuple(text["tokens"]),), (words,), ~torch.tensor(text["special"]))
    try:
        picture = read_picture(data["picture"])
    except BadInput:
        picture = None
    return Explanation(
        data["caption"],
        Attribution(torch.tensor(image["scores"]).flatten(), grid, torch.tensor(image["special_share"]),
                    _narrowing(told.get("image"))),
        Attribution(torch.tensor(text["scores"]), units, torch.tensor(text["special_share"]),
                    _narrowing(told.get("text"))),
        Region(*image["region"]), tuple(data["size"]), data["similarity"], data["score"], data["method"], data["model"],
        data["versions"], data["picture"], tuple(data["warnings"]),
        tuple(Ranked(**label) for label in data["ranking"]), picture,
    )  # fmt: skip


def _narrowing(data: dict[str, Any] | None) -> Narrowing | None:
    if data is None:
        return None
    numbers: dict[str, Any] = {
        key: torch.tensor(data[key]) for key in ("steps", "at_input", "at_reference", "sum", "gap")
    }
    return Narrowing(data["reference"], data["rule"], tuple(data["layers"]), **numbers)
