"""The base classes of records of an image, and of results about one image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field, GetPydanticSchema, model_validator

from nibt.data.images import MOST_PIXELS, ImageInput, Region, image_at
from nibt.results.base import Result, Serializable
from nibt.results.records import Size
from nibt.types import ModelRecord

ImageItself: TypeAlias = Annotated[
    ImageInput | None, GetPydanticSchema(lambda _, handler: handler(Any)), Field(exclude=True)  # not in the JSON form
]


_ImageRecord = TypeVar("_ImageRecord", bound="OfImage")


@dataclass(frozen=True, eq=False, kw_only=True)
class OfImage(Serializable):
    """Base class of records of an image.

    Attributes:
        source: The path or the URL of the image, or a description of it.
        image_hash: 16 hexadecimal digits: a hash of the image file, or of the size and pixels.
        size: Width and height of the upright image, in pixels.
        region: Left, top, width and height of the part of the upright image that the map covers, in pixels.
        input: The image itself. It is None if the record was loaded from a file and the image is no longer at
            ``source``.
    """

    source: str = ""
    image_hash: str = ""
    size: Size
    region: Region
    input: ImageItself = field(default=None, repr=False, compare=False)

    @model_validator(mode="before")
    @classmethod
    def _with_image(cls, data: Any) -> Any:
        """Add the image itself to plain data, if it is still at its source and unchanged."""
        if not isinstance(data, Mapping) or not isinstance(data.get("source"), str):
            return data
        return {**data, "input": image_at(data["source"], str(data.get("image_hash", "")))}

    @model_validator(mode="after")
    def _region_of_image(self: _ImageRecord) -> _ImageRecord:
        """Check that the region of plain data is a part of the image, and no larger than a map can be."""
        left, top, width, height = self.region
        if min(width, height) <= 0 or width * height > 4 * MOST_PIXELS:
            raise ValueError(
                f"region must have a width and a height above 0, and at most {4 * MOST_PIXELS:,} pixels "
                f"(got {width:g} x {height:g})"
            )
        if left >= self.size[0] or top >= self.size[1] or left + width <= 0 or top + height <= 0:
            raise ValueError(f"region must overlap the image, {self.size} (got {tuple(self.region)})")
        return self


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ResultOfImage(OfImage, Result):
    """Base class of results about one image, with the attributes of ``OfImage``.

    Attributes:
        model: The model and its hashes.
        versions: The versions of packages.
        warnings: Warnings for the reader.
    """

    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
