"""The whole answer on one picture: the photograph, the map over it, the coloured caption and what was measured."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from nibt.comparison import Comparison
from nibt.errors import BadOption
from nibt.explanation import Explanation
from nibt.files import written_whole
from nibt.report.comparison import draw_comparison
from nibt.report.heatmap import overlay
from nibt.report.layout import MARGIN, SIDE, centred, shown, stacked
from nibt.report.request import is_signed
from nibt.report.rows import caption, header, notes, part_scale, photograph, ranking


def draw(answer: Explanation | Comparison, positive: bool = False) -> Image.Image:
    """The photograph, the map over it, and the caption below; of a comparison both parts below each other.

    Raises:
        BadInput: the answer was loaded from a file, and a picture of it is no longer there.

    """
    return draw_comparison(answer, positive) if isinstance(answer, Comparison) else _page(answer, positive)


def check_format(path: Path, or_page: bool = False) -> None:
    """Refuse a name whose ending is that of no picture format; ``or_page`` says that a page would do, too.

    Raises:
        BadOption: Pillow cannot write that format.

    """
    Image.init()
    formats = {end for end, name in Image.registered_extensions().items() if name in Image.SAVE}
    if path.suffix.lower() not in formats:
        page = ", or in .html for a page" if or_page else ""
        raise BadOption(f"{path.name!r} must end in the name of a picture format, such as .png{page} (got "
                        f"{path.suffix!r})")  # fmt: skip


def write(image: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        CannotWrite: the folder is missing or closed, or the disk is full.

    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    buffer = BytesIO()
    image.save(buffer, kind)
    with written_whole(path) as draft:
        draft.write_bytes(buffer.getvalue())


def _page(answer: Explanation, positive: bool) -> Image.Image:
    original = shown(photograph(answer.picture, answer.source))
    panels = [original, overlay(answer, original, positive)]
    beside = original.width <= 1.6 * original.height
    panel_width = 2 * original.width + MARGIN if beside else original.width
    width = max(panel_width, SIDE) + 2 * MARGIN
    image, text = answer.parts["image"], answer.parts["text"]
    signed = is_signed(answer)
    rows = [
        *header(answer, width, positive),
        *_panel_rows(panels, width, beside),
        part_scale(image, width, positive, signed, "image"),
        caption(answer, width, positive),
        part_scale(text, width, positive, signed, "words"),
    ]
    if answer.ranking:
        rows.append(ranking(answer.ranking, width))
    return stacked([*rows, notes(answer, width)], width)


def _panel_rows(panels: list[Image.Image], width: int, beside: bool) -> Iterator[Image.Image]:
    if not beside:
        yield from (centred([panel], width) for panel in panels)
    else:
        yield centred(panels, width)
