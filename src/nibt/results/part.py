"""One place of an explained pair: a picture with its map, or a caption with its words; and its block in a JSON file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.images import ImageInput, Region, read_image
from nibt.data.units import Grid, Word, Words, WordScore
from nibt.errors import NibtError
from nibt.results.attribution import Attribution, PathSummary, over_image
from nibt.types import Modality
from nibt.values import ByValue

Plain: TypeAlias = Mapping[str, Any]  # what json reads


class _Attributed(ByValue):
    """What both kinds of parts read from their attribution."""

    attribution: Attribution

    @property
    def special_share(self) -> float:
        """The share of the absolute score on rows that stand for no patch or word, in [0, 1]."""
        return float(self.attribution.special_share)

    @property
    def narrowing(self) -> PathSummary | None:
        """How the layer was narrowed, where the method does that."""
        return self.attribution.narrowing


@dataclass(frozen=True, eq=False)
class ImageAttribution(_Attributed):
    """A picture: where it came from, its map, and the part of the upright original that the map's grid covers.

    ``region`` is in the original's pixels, ``size`` the original's width and height.
    """

    source: str
    attribution: Attribution
    region: Region
    size: tuple[int, int]
    picture: ImageInput | None = field(default=None, repr=False, compare=False)
    picture_hash: str = ""
    modality: ClassVar[Modality] = "image"

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The signed scores of the patches, rows x columns."""
        return self.attribution.grid

    def heatmap(self) -> np.ndarray:
        """The signed scores in the pixels of the original: float32, (height, width), 0 where the model did not see."""
        return over_image(self.grid, self.region, self.size)

    def block(self) -> dict[str, Any]:
        """The map as plain data."""
        return {"grid": self.grid.tolist(), "special_share": self.special_share, "narrowing": plain(self.narrowing)}

    def to_json(self) -> dict[str, Any]:
        """The whole part as plain data."""
        return {
            "modality": self.modality,
            "source": self.source,
            "picture_hash": self.picture_hash,
            "size": list(self.size),
            "region": list(asdict(self.region).values()),
            **self.block(),
        }

    @classmethod
    def read(cls, block: Plain, data: Plain) -> "ImageAttribution":
        """The part of a block; ``data`` has what else is known of the picture. The picture comes along if it is still
        where it was, and still the same.
        """
        picture = picture_at(data["source"], data["picture_hash"])
        width, height = data["size"]
        grid = _tensor(block["grid"])
        units, share = Grid(*grid.shape), _tensor(block["special_share"])
        attribution = Attribution(grid.flatten(), units, share, _narrowing(block["narrowing"]))
        region = Region(*data["region"])
        return cls(data["source"], attribution, region, (width, height), picture, data["picture_hash"])


@dataclass(frozen=True, eq=False)
class TextAttribution(_Attributed):
    """A caption, which is its own source, and the scores of its tokens."""

    source: str
    attribution: Attribution
    modality: ClassVar[Modality] = "text"

    @property
    def caption(self) -> str:
        """The caption as it was given."""
        return self.source

    @property
    def words(self) -> tuple[WordScore, ...]:
        """The words with their scores."""
        return self.attribution.words

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens, padding included."""
        return self.attribution.tokens

    @property
    def scores(self) -> Float[Tensor, " token"]:
        """The signed scores of the tokens, 0 on special ones."""
        return self.attribution.scores

    @property
    def special(self) -> Bool[Tensor, " token"]:
        """Which tokens are no part of a word."""
        return self.attribution.special

    def block(self) -> dict[str, Any]:
        """The tokens as plain data."""
        return {
            "tokens": list(self.tokens),
            "scores": self.scores.tolist(),
            "special": self.special.tolist(),
            "special_share": self.special_share,
            "narrowing": plain(self.narrowing),
        }

    def plain_words(self) -> list[dict[str, Any]]:
        """The words as plain data."""
        return [{"text": word.text, "score": word.score, "tokens": list(word.tokens)} for word in self.words]

    def to_json(self) -> dict[str, Any]:
        """The whole part as plain data."""
        return {"modality": self.modality, "caption": self.caption, "words": self.plain_words(), **self.block()}

    @classmethod
    def read(cls, block: Plain, data: Plain) -> "TextAttribution":
        """The part of a block; ``data`` has the caption and its words."""
        words = tuple(Word(word["text"], tuple(word["tokens"])) for word in data["words"])
        units = Words((tuple(block["tokens"]),), (words,), ~torch.tensor(block["special"], device="cpu"))
        share, narrowing = _tensor(block["special_share"]), _narrowing(block["narrowing"])
        return cls(data["caption"], Attribution(_tensor(block["scores"]), units, share, narrowing))


Part: TypeAlias = ImageAttribution | TextAttribution


def picture_at(source: str, digest: str) -> ImageInput | None:
    """The picture that was explained, if it is still there; None where it is gone, or another picture now."""
    try:
        picture = read_image(source)
    except NibtError:
        return None
    return picture if picture.digest == digest else None


def read_part(data: Plain) -> Part:
    """What ``to_json`` of a part wrote."""
    return ImageAttribution.read(data, data) if data["modality"] == "image" else TextAttribution.read(data, data)


def plain(narrowing: PathSummary | None) -> dict[str, Any] | None:
    """How a layer was narrowed, as plain data."""
    return None if narrowing is None else narrowing.as_json()


def _tensor(data: Any) -> Tensor:
    """Plain numbers as scores, whatever the default dtype and device are."""
    return torch.tensor(data, dtype=torch.float32, device="cpu")


def _narrowing(data: Plain | None) -> PathSummary | None:
    if data is None:
        return None
    numbers: dict[str, Any] = {key: _tensor(float(data[key])) for key in ("steps", "at_input", "at_reference", "sum")}
    return PathSummary(data["reference"], data["rule"], tuple(data["layers"]), **numbers, tolerance=data["tolerance"])
