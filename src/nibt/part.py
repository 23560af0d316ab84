"""One place of an explained pair: a picture with its map, or a caption with its words; and its block in a JSON file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.attribution import Attribution, Narrowing
from nibt.errors import NibtError
from nibt.pair import Picture, read_picture
from nibt.preparation.geometry import Region
from nibt.types import Modality
from nibt.units import Grid, Word, Words, word_scores

Plain: TypeAlias = Mapping[str, Any]  # what json reads


@dataclass(frozen=True)
class PicturePart:
    """A picture: where it came from, its map, and the part of the upright original that the map's grid covers.

    ``region`` is in the original's pixels, ``size`` the original's width and height.
    """

    source: str
    attribution: Attribution
    region: Region
    size: tuple[int, int]
    picture: Picture | None = field(default=None, repr=False, compare=False)
    picture_hash: str = ""
    modality: ClassVar[Modality] = "image"

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The signed scores of the patches, rows x columns."""
        return self.attribution.grid

    def block(self) -> dict[str, Any]:
        """The map as plain data."""
        assert isinstance(self.attribution.units, Grid)
        return {
            "grid": [self.attribution.units.rows, self.attribution.units.columns],
            "scores": self.grid.tolist(),
            "region": list(asdict(self.region).values()),
            "special_share": float(self.attribution.special_share),
        }

    def to_json(self) -> dict[str, Any]:
        """The whole part as plain data."""
        return {"modality": self.modality, "picture": self.source, "picture_hash": self.picture_hash,
                "size": list(self.size), **self.block()}  # fmt: skip

    @classmethod
    def read(
        cls, block: Plain, source: str, size: Sequence[int], narrowing: Plain | None, picture_hash: str = ""
    ) -> "PicturePart":
        """The part of a block. The picture comes along if it is still where it was, and still the same."""
        picture = picture_at(source, picture_hash)
        width, height = size
        share, told = _tensor(block["special_share"]), _narrowing(narrowing)
        attribution = Attribution(_tensor(block["scores"]).flatten(), Grid(*block["grid"]), share, told)
        return cls(source, attribution, Region(*block["region"]), (width, height), picture, picture_hash)


@dataclass(frozen=True)
class CaptionPart:
    """A caption, which is its own source, and the scores of its tokens."""

    source: str
    attribution: Attribution
    modality: ClassVar[Modality] = "text"

    @property
    def words(self) -> Iterator[tuple[Word, float]]:
        """Each word with the sum of its tokens' scores."""
        return word_scores(self.attribution.scores, self._units)

    @property
    def _units(self) -> Words:
        assert isinstance(self.attribution.units, Words)
        return self.attribution.units

    def block(self) -> dict[str, Any]:
        """The words and tokens as plain data."""
        return {
            "tokens": list(self._units.tokens[0]),
            "scores": self.attribution.scores.tolist(),
            "special": (~self._units.explained).tolist(),
            "words": [{"text": word.text, "score": score, "tokens": list(word.tokens)} for word, score in self.words],
            "special_share": float(self.attribution.special_share),
        }

    def to_json(self) -> dict[str, Any]:
        """The whole part as plain data."""
        return {"modality": self.modality, "caption": self.source, **self.block()}

    @classmethod
    def read(cls, block: Plain, caption: str, narrowing: Plain | None) -> "CaptionPart":
        """The part of a block."""
        words = tuple(Word(word["text"], tuple(word["tokens"])) for word in block["words"])
        units = Words((tuple(block["tokens"]),), (words,), ~torch.tensor(block["special"], device="cpu"))
        share, told = _tensor(block["special_share"]), _narrowing(narrowing)
        return cls(caption, Attribution(_tensor(block["scores"]), units, share, told))


Part: TypeAlias = PicturePart | CaptionPart


def picture_at(source: str, digest: str) -> Picture | None:
    """The picture that was explained, if it is still there; None where it is gone, or another picture now."""
    try:
        picture = read_picture(source)
    except NibtError:
        return None
    return picture if picture.digest == digest else None


def read_part(data: Plain, narrowing: Plain | None) -> Part:
    """What ``to_json`` of a part wrote."""
    if data["modality"] == "image":
        return PicturePart.read(data, data["picture"], data["size"], narrowing, data["picture_hash"])
    return CaptionPart.read(data, data["caption"], narrowing)


def narrowings(parts: Mapping[str, Part]) -> dict[str, Any]:
    """How each part was narrowed, where its method does that, as plain data."""
    told = {name: part.attribution.narrowing for name, part in parts.items()}
    return {name: narrowing.as_json() for name, narrowing in told.items() if narrowing is not None}


def _tensor(numbers: Any) -> Tensor:
    """Numbers of a file as they were written, whatever torch's default dtype and device are."""
    return torch.tensor(numbers, dtype=torch.float32, device="cpu")


def _narrowing(data: Plain | None) -> Narrowing | None:
    if data is None:
        return None
    numbers: dict[str, Any] = {key: _tensor(float(data[key])) for key in ("steps", "at_input", "at_reference", "sum")}
    return Narrowing(data["reference"], data["rule"], tuple(data["layers"]), **numbers)
