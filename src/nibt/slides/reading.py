"""Reading of parts of slides: pyramids of scanners, tiled TIFF files, and plain images.

Nothing but pixels, their size and the magnification is read: no label image, and no name or date of a patient.
Only this file imports OpenSlide.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from nibt.data.images import SAMPLE, ImageSource, is_url, read_image
from nibt.errors import BadInput, import_optional, reason
from nibt.io import read_path, short_digest

_NEEDS = "slides need the packages openslide-python and openslide-bin"
_PIECE = 2048
"""The largest side of what is decoded at once, in pixels, if it is made smaller afterwards."""
_CONVERT = "convert it to a tiled TIFF file, as vips tiffsave IN OUT.tif --tile --pyramid does"


ReadRegion: TypeAlias = Callable[[tuple[int, int], int, tuple[int, int]], Image.Image]
"""Returns a rectangle of a level as an RGB image, from its corner in pixels of the largest level, the number of the
level, and its size in pixels of that level.
"""


@dataclass(frozen=True)
class Slide:
    """A slide that is open.

    Attributes:
        source: Its path, or a description.
        digest: The first digits of the SHA-256 of its file; of an image in memory, of its pixels.
        size: Width and height in pixels at full resolution.
        downsamples: For each level of the pyramid, by how much it is smaller than the first one.
        magnification: The magnification of the objective, such as 40; None if the file does not state it.
        microns: The size of a pixel at full resolution in micrometers; None if the file does not state it.
        notes: What was changed when a plain image was read.
        read_region: Reads a rectangle of a level.
    """

    source: str
    digest: str
    size: tuple[int, int]
    downsamples: tuple[float, ...]
    magnification: float | None
    microns: float | None
    notes: tuple[str, ...]
    read_region: ReadRegion

    def read(self, corner: tuple[int, int], extent: tuple[int, int], size: tuple[int, int]) -> Image.Image:
        """Return a rectangle of the slide; what is outside of the slide is white.

        Args:
            corner: Left and top, in pixels at full resolution.
            extent: Width and height, in pixels at full resolution.
            size: Width and height of the image that is returned, which is not larger.
        """
        scale = max(extent[0] / size[0], 1.0)
        level = max(place for place, factor in enumerate(self.downsamples) if factor <= scale * 1.001 or place == 0)
        factor = self.downsamples[level]
        pixels = max(1, round(extent[0] / factor)), max(1, round(extent[1] / factor))
        image = self._reduced(corner, level, pixels, int(scale / factor * 1.001))
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)

    def _reduced(self, corner: tuple[int, int], level: int, pixels: tuple[int, int], by: int) -> Image.Image:
        """Return a rectangle that is reduced by a whole number, piece by piece, so that little is decoded at once."""
        if by < 2:
            return self.read_region(corner, level, pixels)

        factor = self.downsamples[level]
        step = max(1, _PIECE // by) * by
        reduced = Image.new("RGB", (-(-pixels[0] // by), -(-pixels[1] // by)))
        for top in range(0, pixels[1], step):
            for left in range(0, pixels[0], step):
                place = corner[0] + round(left * factor), corner[1] + round(top * factor)
                size = min(step, pixels[0] - left), min(step, pixels[1] - top)
                reduced.paste(self.read_region(place, level, size).reduce(by), (left // by, top // by))
        return reduced


@contextmanager
def open_slide(source: ImageSource) -> Iterator[Slide]:
    """Open a slide for the block: a file that OpenSlide reads, or a plain image, which is read as a whole.

    Raises:
        BadInput: The file is missing, damaged, or of a format that nobody here reads.
        Unsupported: OpenSlide is not installed.
    """
    if not isinstance(source, str | os.PathLike) or str(source).startswith(SAMPLE):
        yield _plain(source)
        return

    name = os.fspath(source)
    if is_url(str(name)):
        raise BadInput(f"a slide must be a local file (got the URL {name!r}): download it, and give its path")
    path = read_path("the slide", name)
    if not path.exists():
        raise BadInput(f"there is no slide {str(path)!r:.300}: give the path of a file")

    openslide = import_optional("openslide", _NEEDS, "slides")
    if path.is_dir() or openslide.OpenSlide.detect_format(str(path)) is None:
        yield _plain_file(path)
        return

    with _readable(path, openslide), openslide.OpenSlide(str(path)) as opened:
        properties = opened.properties
        yield Slide(
            source=str(name),
            digest=short_digest(path),
            size=opened.dimensions,
            downsamples=tuple(opened.level_downsamples),
            magnification=_number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
            microns=_number(properties.get(openslide.PROPERTY_NAME_MPP_X)),
            notes=(),
            read_region=partial(_region_of_file, path, openslide, opened),
        )


@contextmanager
def _readable(path: Path, openslide: Any) -> Iterator[None]:
    """Convert what OpenSlide raises to ``BadInput``."""
    try:
        yield
    except openslide.OpenSlideError as error:
        raise BadInput(
            f"{str(path)!r:.300} is a slide that is damaged, truncated or of an unusual kind ({reason(error)}): "
            f"restore it, or {_CONVERT}"
        ) from error


def _region_of_file(
    path: Path, openslide: Any, opened: Any, corner: tuple[int, int], level: int, size: tuple[int, int]
) -> Image.Image:
    """Read a rectangle of a file; what the scanner left out, and what is outside, is transparent and becomes white."""
    with _readable(path, openslide):
        region = opened.read_region(corner, level, size)
    if region.getchannel("A").getextrema() != (255, 255):
        region = Image.alpha_composite(Image.new("RGBA", region.size, "white"), region)
    return region.convert("RGB")


def _plain_file(path: Path) -> Slide:
    try:
        return _plain(path)
    except BadInput as error:
        raise BadInput(
            f"{str(path)!r:.300} is no slide that OpenSlide reads (tiled TIFF, SVS, NDPI and others), and no plain "
            f"image: {error}; {_CONVERT}"
        ) from error


def _plain(source: ImageSource) -> Slide:
    """Return a plain image, which has one level."""
    image = read_image(source)
    return Slide(
        source=image.source,
        digest=image.digest,
        size=image.size,
        downsamples=(1.0,),
        magnification=None,
        microns=None,
        notes=image.notes,
        read_region=partial(_region_of_image, image.pil_image),
    )


def _region_of_image(image: Image.Image, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
    region = Image.new("RGB", size, "white")
    right = min(corner[0] + size[0], image.width)
    bottom = min(corner[1] + size[1], image.height)
    if right > corner[0] and bottom > corner[1]:
        region.paste(image.crop((*corner, right, bottom)), (0, 0))
    return region


def _number(text: str | None) -> float | None:
    """Return a property of a slide as a number above 0; None for others, since a file may have any text there."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < 1e6 else None
