"""Pictures: of results as ``draw`` returns them, of the map of one explanation, and of the strongest links of words."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import ClassVar
from zlib import crc32

from PIL import Image

from nibt.errors import BadOption, reason
from nibt.formats.base import LOOK, Drawing, Format, Result, bare
from nibt.records import JsonObject
from nibt.report.image.draw import draw
from nibt.report.image.heatmap import map_image, mask_image, overlay
from nibt.report.image.layout import MARGIN, apart, stacked
from nibt.report.image.parts import photograph
from nibt.results.explanation import Explanation
from nibt.results.outputs import image_exif, signed, unsigned

PIXELS = {
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF", ".bmp": "BMP"},
    **{".jp2": "JPEG2000", ".ico": "ICO", ".ppm": "PPM", ".tga": "TGA", ".tif": "TIFF", ".tiff": "TIFF"},
}
"""The names in Pillow of the formats of pixels, by the endings of their files."""
VECTOR = (".pdf", ".svg", ".eps")
"""The endings of files whose texts are no pixels."""
_EXIF_CHUNK = b"eXIf"
_FIGURES = ("explanation", "regions", "answer")
"""The kinds of results that have a figure of a chosen width."""
_OF_FIGURES = ("width", "font")


class PictureFormat(Format):
    """Base class of formats that are pictures. The ending chooses how they are encoded."""

    @abstractmethod
    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        """Draw the picture of a file."""

    def check(self, path: Path, kinds: Sequence[str], count: int) -> None:
        super().check(path, kinds, count)
        if path.suffix.lower() in PIXELS:
            encoded(Image.new("RGB", (16, 16)), PIXELS[path.suffix.lower()], {})  # some builds of Pillow lack encoders

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        ending = path.suffix.lower()
        if ending not in VECTOR:
            return encoded(self.picture(results, drawing), PIXELS[ending], request)

        from nibt.report.image.links import with_texts  # which imports matplotlib

        with apart():
            picture = self.picture(results, drawing)
        return with_texts(picture, ending[1:], unsigned(request))


def encoded(image: Image.Image, format_name: str, request: Mapping[str, object]) -> bytes:
    """Encode an image with its signature, which is in its EXIF data or after its last byte, where readers ignore it."""
    plain = BytesIO()
    sized = BytesIO()
    buffer = BytesIO()
    try:
        if format_name == "PNG":
            return _encoded_png(image, request)

        # the signature has a digest of the pixels, as readers decode them, and the number of bytes, its own included
        image.save(plain, format_name)
        with Image.open(plain) as decoded:
            image.save(sized, format_name, exif=image_exif(decoded, request))
            image.save(buffer, format_name, exif=image_exif(decoded, request, len(sized.getvalue())))

        # some formats, such as BMP, have no EXIF data
        with Image.open(buffer) as written:
            if written.getexif():
                return buffer.getvalue()
    except (OSError, ValueError, KeyError, SystemError) as error:
        raise BadOption(
            f"Pillow cannot write {image.width} x {image.height} pixels as {format_name} ({reason(error)}): choose .png"
        ) from error

    return signed(plain.getvalue() + f"\n% {unsigned(request)}\n".encode())


def _encoded_png(image: Image.Image, request: Mapping[str, object]) -> bytes:
    """Encode an image once: PNG keeps all pixels, and a number in its signature does not change how large it is."""
    buffer = BytesIO()
    image.save(buffer, "PNG", exif=image_exif(image, request))
    data = bytearray(buffer.getvalue())

    # a chunk of PNG is its length, its name, its content, and a checksum of its name and content
    name = data.index(_EXIF_CHUNK)
    length = int.from_bytes(data[name - 4 : name])
    end = name + len(_EXIF_CHUNK) + length
    chunk = image_exif(image, request, len(data)).tobytes().removeprefix(b"Exif\x00\x00")
    assert len(chunk) == length
    data[end - length : end] = chunk
    data[end : end + 4] = crc32(data[name:end]).to_bytes(4)
    return bytes(data)


class Links(PictureFormat, name="links"):
    """A figure of the strongest links from words to parts of the image: a PDF file with lines and text, or an image."""

    endings = (".links.pdf", ".links.png", ".links.svg")
    holds = ("regions",)
    draws = (*LOOK, "top", "box", "words")

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        if path.suffix.lower() in VECTOR:
            return _figure(results, drawing, path.suffix.lower()[1:], unsigned(request))
        return super().encode(results, path, drawing, request)

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        return Image.open(BytesIO(_figure(results, drawing))).convert("RGB")

    def request(self, results: Sequence[Result], drawing: Drawing) -> JsonObject:
        links = [drawing.top, list(drawing.words), drawing.box]
        return {**super().request(results, drawing), "links": links}


def _figure(results: Sequence[Result], drawing: Drawing, file_type: str = "png", signature: str = "") -> bytes:
    from nibt.report.image.links import links_figure  # which imports matplotlib

    return links_figure(bare(results[0]), drawing.top, drawing.words, drawing.box, drawing.look, file_type, signature)


class MapFormat(PictureFormat):
    """Base class of pictures of the map of one explanation, in the size of its image."""

    @abstractmethod
    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        """Draw the map of an explanation."""

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        return self.of_map(bare(results[0]), drawing)


class GrayMap(MapFormat, name="map"):
    """The map in gray, in the size of the image: 128 is zero, 255 the largest absolute score of a cell."""

    endings = (".map.png",)
    draws = ("positive_only",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return map_image(explanation, drawing.positive_only)


class Mask(MapFormat, name="mask"):
    """A mask in the size of the image: white where the score reaches the threshold."""

    endings = (".mask.png",)
    draws = ("threshold",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return mask_image(explanation, drawing.threshold)


class Overlay(MapFormat, name="overlay"):
    """The map over the image, without text, in the size of the image."""

    endings = (".overlay.png",)
    draws = LOOK

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return overlay(explanation, photograph(explanation.image.input, explanation.source), drawing.look)


class Scores(MapFormat, name="tif"):
    """The scores of the pixels as 32-bit floats; NaN where the model did not see the image."""

    endings = (".tif", ".tiff")
    media_type = "image/tiff"

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return Image.fromarray(explanation.heatmap())


class Picture(PictureFormat, name="image"):
    """Pictures: image, map and caption. In .pdf, .svg and .eps, ``width`` and ``font`` make a figure for a paper."""

    endings = (".png", *VECTOR, *(ending for ending in PIXELS if ending not in (".png", *Scores.endings)))
    holds = ("explanation", "comparison", "regions", "answer", "decomposition", "slide")
    several: ClassVar = True
    draws = (*LOOK, *_OF_FIGURES)

    @classmethod
    def endings_with(cls, option: str) -> Sequence[str]:
        return VECTOR if option in _OF_FIGURES else super().endings_with(option)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        if drawing.width is None:
            if drawing.font != Drawing.font:
                raise BadOption(f"font is for a figure of a width in inches (got {drawing.font!r:.60}): set width, too")
            return super().encode(results, path, drawing, request)

        ending = path.suffix.lower()
        result = bare(results[0])
        if ending not in VECTOR:
            raise BadOption(f"width is for {', '.join(VECTOR)} (got {ending}): leave it out, or choose one of these")
        if len(results) > 1 or result.kind not in _FIGURES:
            raise BadOption(
                f"width is for a single result of one of {', '.join(_FIGURES)} (got {len(results)} of "
                f"{result.kind}): leave it out"
            )

        from nibt.report.image.figure import paper_figure  # which imports matplotlib

        return paper_figure(result, drawing.look, drawing.width, drawing.font, ending[1:], unsigned(request))

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        images = [draw(bare(result), drawing.positive_only, drawing.style, drawing.cmap) for result in results]
        return images[0] if len(images) == 1 else stacked(images, max(image.width for image in images) + MARGIN)
