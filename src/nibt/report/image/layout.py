"""The layout of images: rows below each other, images side by side, lines of text."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from io import BytesIO

from PIL import Image, ImageDraw

from nibt.io import one_line
from nibt.report.colors import ALERT, ALERT_EDGE, FAINT, INK, PAPER, RGB
from nibt.report.image.fonts import fitting, length, shortened, write

SIDE, MARGIN, SMALL, TILE = 560, 24, 15, 190
_LABEL, _LEAST_LABEL = 20, 11
_MOST_LINES = 4  # the lines of one word
_PIXELS_SHOWN = 4  # the enlargement above which the pixels of an image are shown as squares


def stacked(rows: Sequence[Image.Image], width: int) -> Image.Image:
    """Stack rows of the width of the page."""
    page = Image.new("RGB", (width, sum(row.height for row in rows) + MARGIN * (len(rows) + 1)), PAPER)
    top = MARGIN
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + MARGIN
    return page


def below(upper: Image.Image, lower: Image.Image, gap: int = 0) -> Image.Image:
    """Draw an image below another one of the same width."""
    group = Image.new("RGB", (upper.width, upper.height + gap + lower.height), PAPER)
    group.paste(upper, (0, 0))
    group.paste(lower, (0, upper.height + gap))
    return group


def resized(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Return a copy whose longer side is that of a panel; tiny images are enlarged without smoothing."""
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > _PIXELS_SHOWN else Image.Resampling.LANCZOS)


def uri(image: Image.Image, file_type: str = "PNG", **options: int) -> str:
    """Return an image as a data URI, for pages without network access."""
    buffer = BytesIO()
    image.save(buffer, file_type, **options)
    return f"data:image/{file_type.lower()};base64,{b64encode(buffer.getvalue()).decode()}"


def centered(images: list[Image.Image], width: int) -> Image.Image:
    """Center images side by side in a row."""
    row = Image.new("RGB", (width, max(image.height for image in images)), PAPER)
    left = (width - sum(image.width for image in images) - MARGIN * (len(images) - 1)) // 2
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + MARGIN
    return row


def tile(image: Image.Image, name: str, number: str = "") -> Image.Image:
    """Draw a small image with its name and a number above it."""
    framed = Image.new("RGB", (max(image.width, 100), image.height + _LABEL + 12), PAPER)
    framed.paste(image, ((framed.width - image.width) // 2, _LABEL + 12))
    pen, room = ImageDraw.Draw(framed), framed.width - 6 - length(number, SMALL)
    size = next((size for size in range(_LABEL, _LEAST_LABEL, -1) if length(name, size) <= room), _LEAST_LABEL)
    write(pen, (2, 4), shortened(name, size, room), INK, size)
    write(pen, (framed.width - 2, 8), number, INK, SMALL, anchor="rt")
    return framed


def text_rows(lines: Sequence[str], width: int, size: int = SMALL, ink: RGB = FAINT, paper: RGB = PAPER) -> Image.Image:
    """Draw centered lines of text, wrapped to the width."""
    wrapped = [row_text for line in lines for row_text in _wrapped(line, width - 2 * MARGIN, size)]
    height = 3 * size // 2
    row = Image.new("RGB", (width, height * len(wrapped)), paper)
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(wrapped):
        write(pen, (width // 2, height * number), line, ink, size, anchor="mt")
    return row


def banner(text: str, width: int) -> Image.Image:
    """Draw an important line on a colored background, with a mark at its left edge."""
    inner = text_rows([text], width - 2 * MARGIN, ink=INK, paper=ALERT)
    row = Image.new("RGB", (width, inner.height + MARGIN), PAPER)
    pen = ImageDraw.Draw(row)
    pen.rectangle((MARGIN, 0, width - MARGIN - 1, row.height - 1), fill=ALERT)
    row.paste(inner, (MARGIN, MARGIN // 2))
    pen.rectangle((MARGIN, 0, MARGIN + 5, row.height - 1), fill=ALERT_EDGE)
    return row


def _wrapped(text: str, width: int, size: int) -> Iterator[str]:
    line = ""
    for word in _broken(text, width, size):
        candidate = f"{line} {word}" if line else word
        if line and length(candidate, size) > width:
            yield line
            line = word
        else:
            line = candidate
    yield line


def _broken(text: str, width: int, size: int) -> Iterator[str]:
    """Yield the words; a word wider than a line is broken, and shortened after ``_MOST_LINES``."""
    for word in one_line(text).split(" "):
        for _ in range(_MOST_LINES - 1):
            end = fitting(word, size, width)
            if end >= len(word):
                break
            yield word[:end]
            word = word[end:]
        yield shortened(word, size, width)
