"""The image of an explanation: the photograph, the map over it, the colored caption and the notes."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.errors import BadOption
from nibt.outputs import check_sources, image_exif, replacing, signed, unsigned
from nibt.report.appearance import Appearance, appearance
from nibt.report.image.comparison import draw_comparison
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, centred, shown, stacked
from nibt.report.image.rows import caption, header, notes, part_scale, photograph, ranking
from nibt.report.request import is_signed
from nibt.results.explanation import Comparison, Explanation, is_noise
from nibt.torch_modes import plain_torch


@plain_torch()
def draw(
    answer: Explanation | Comparison, positive_only: bool = False, style: str = "overlay", cmap: str = "red_blue"
) -> Image.Image:
    """Draw the photograph, the map over it, and the caption below; for a comparison, both inputs below each other.

    Args:
        answer: The result.
        positive_only: Whether negative scores are hidden.
        style: How maps are drawn: ``overlay``, colors over the grayed photograph with an outline where the score is at
            least half of the largest positive one; ``colors``, without the outline; ``outline``, over the photograph in
            its own colors; ``heatmap``, colors alone.
        cmap: ``red_blue``, ``orange_purple``, ``pink_green``, or a color map of matplotlib (its two ends).

    Raises:
        BadOption: There is no such style or color map.
        BadInput: An image of a loaded result is missing.

    """
    look = appearance(positive_only, style, cmap)
    return draw_comparison(answer, look) if isinstance(answer, Comparison) else _page(answer, look)


def check_format(path: Path, or_page: bool = False) -> None:
    """Check the suffix of an image file; with ``or_page`` the message also suggests a page."""
    Image.init()
    formats = {end for end, name in Image.registered_extensions().items() if name in Image.SAVE}
    if path.suffix.lower() not in formats:
        page = ", or in .html for a page" if or_page else ""
        raise BadOption(
            f"{path.name!r} must end in the name of an image format, such as .png{page} (got {path.suffix!r})"
        )


def write(image: Image.Image, path: Path, request: Mapping[str, Any] | None = None, overwrite: bool = False) -> None:
    """Write an image atomically, signed with its request if the format has EXIF data."""
    check_sources(path, [request or {}])
    data = _encoded(image, Image.registered_extensions()[path.suffix.lower()], request or {})
    with replacing(path, overwrite) as draft:
        draft.write_bytes(data)


def _encoded(image: Image.Image, kind: str, request: Mapping[str, Any]) -> bytes:
    """Encode an image with its signature.

    A format with EXIF data is encoded three times, since the signature has a digest of the decoded pixels and the
    number of bytes. Others have it after their last byte, where readers ignore it.
    """
    plain, sized, buffer = BytesIO(), BytesIO(), BytesIO()
    image.save(plain, kind)
    if kind in Image.OPEN:
        with Image.open(plain) as decoded:
            image.save(sized, kind, exif=image_exif(decoded, request))
            image.save(buffer, kind, exif=image_exif(decoded, request, len(sized.getvalue())))
        with Image.open(buffer) as written:
            if written.getexif():
                return buffer.getvalue()
    return signed(plain.getvalue() + f"\n% {unsigned(request)}\n".encode())


def _page(answer: Explanation, look: Appearance) -> Image.Image:
    look = look.pale if is_noise(answer.warnings) else look
    original = shown(photograph(answer.image.input, answer.source))
    panels = [original, overlay(answer, original, look)]
    beside = original.width <= 1.6 * original.height
    panel_width = 2 * original.width + MARGIN if beside else original.width
    width = max(panel_width, SIDE) + 2 * MARGIN
    image, text = answer.sides["image"], answer.sides["text"]
    signed = is_signed(answer)
    rows = [
        *header(answer, width, look),
        *_panel_rows(panels, width, beside),
        part_scale(image, width, look, signed, "image"),
        caption(answer, width, look),
        part_scale(text, width, look, signed, "words"),
    ]
    if answer.ranking:
        rows.append(ranking(answer.ranking, width))
    return stacked([*rows, notes(answer, width)], width)


def _panel_rows(panels: list[Image.Image], width: int, beside: bool) -> Iterator[Image.Image]:
    if not beside:
        yield from (centred([panel], width) for panel in panels)
    else:
        yield centred(panels, width)
