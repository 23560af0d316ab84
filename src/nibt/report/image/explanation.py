"""The whole answer on one image: the photograph, the map over it, the coloured caption and what was measured."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.errors import BadOption
from nibt.outputs import image_exif, replacing
from nibt.report.image.comparison import draw_comparison
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, centred, shown, stacked
from nibt.report.image.rows import caption, header, notes, part_scale, photograph, ranking
from nibt.report.request import is_signed
from nibt.results.explanation import Comparison, Explanation
from nibt.torch_modes import plain_torch


@plain_torch()
def draw(answer: Explanation | Comparison, positive_only: bool = False) -> Image.Image:
    """The photograph, the map over it, and the caption below; of a comparison both parts below each other.

    Raises:
        BadInput: The answer was loaded from a file, and an image of it is no longer there.

    """
    return draw_comparison(answer, positive_only) if isinstance(answer, Comparison) else _page(answer, positive_only)


def check_format(path: Path, or_page: bool = False) -> None:
    """Refuse a name whose ending is that of no image format; ``or_page`` says that a page would do, too.

    Raises:
        BadOption: Pillow cannot write that format.

    """
    Image.init()
    formats = {end for end, name in Image.registered_extensions().items() if name in Image.SAVE}
    if path.suffix.lower() not in formats:
        page = ", or in .html for a page" if or_page else ""
        raise BadOption(
            f"{path.name!r} must end in the name of an image format, such as .png{page} (got {path.suffix!r})"
        )


def write(image: Image.Image, path: Path, request: Mapping[str, Any] | None = None, overwrite: bool = False) -> None:
    """Write an image, whole or not at all, signed with the request that it answers where its format holds EXIF data.

    Raises:
        WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
        CannotWrite: The folder is missing or closed, or the disk is full.

    """
    data = _encoded(image, Image.registered_extensions()[path.suffix.lower()], request or {})
    with replacing(path, overwrite) as draft:
        draft.write_bytes(data)


def _encoded(image: Image.Image, kind: str, request: Mapping[str, Any]) -> bytes:
    """The bytes of a file; encoded three times, since the signature has a digest of the pixels as they are decoded, and
    the number of all bytes, which does not depend on it.
    """
    plain, sized, buffer = BytesIO(), BytesIO(), BytesIO()
    image.save(plain, kind)
    if kind not in Image.OPEN:  # Pillow writes this format, and cannot read it
        return plain.getvalue()
    with Image.open(plain) as decoded:
        image.save(sized, kind, exif=image_exif(decoded, request))
        image.save(buffer, kind, exif=image_exif(decoded, request, len(sized.getvalue())))
    return buffer.getvalue()


def _page(answer: Explanation, positive_only: bool) -> Image.Image:
    original = shown(photograph(answer.image.input, answer.source))
    panels = [original, overlay(answer, original, positive_only)]
    beside = original.width <= 1.6 * original.height
    panel_width = 2 * original.width + MARGIN if beside else original.width
    width = max(panel_width, SIDE) + 2 * MARGIN
    image, text = answer.sides["image"], answer.sides["text"]
    signed = is_signed(answer)
    rows = [
        *header(answer, width, positive_only),
        *_panel_rows(panels, width, beside),
        part_scale(image, width, positive_only, signed, "image"),
        caption(answer, width, positive_only),
        part_scale(text, width, positive_only, signed, "words"),
    ]
    if answer.ranking:
        rows.append(ranking(answer.ranking, width))
    return stacked([*rows, notes(answer, width)], width)


def _panel_rows(panels: list[Image.Image], width: int, beside: bool) -> Iterator[Image.Image]:
    if not beside:
        yield from (centred([panel], width) for panel in panels)
    else:
        yield centred(panels, width)
