"""The ranking of labels or images as a row of a picture."""

from collections.abc import Collection, Sequence

from PIL import Image, ImageDraw

from nibt.report.colors import FAINT, INK, PAPER
from nibt.report.image.layout import MARGIN, SMALL, shortened_inside, write
from nibt.results.explanation import Ranked

_MOST_LABELS = 10


def ranking(
    labels: Sequence[Ranked], width: int, headings: tuple[str, str], subjects: Collection[int] = ()
) -> Image.Image:
    """Draw the first labels from best to worst, with cosine, probability and a bar.

    The headings are what is ranked, and by what. Those at the positions ``subjects``, which are explained, are marked,
    and drawn also where they are not among the first.
    """
    listed = [*labels[:_MOST_LABELS], *(label for label in labels[_MOST_LABELS:] if label.position in subjects)]
    column = min(width - 2 * MARGIN, 560)
    more = len(labels) - len(listed)
    row = Image.new("RGB", (width, 26 * (len(listed) + 1 + bool(more))), PAPER)
    pen = ImageDraw.Draw(row)
    left = (width - column) // 2
    name_width = column - 270

    noun, compared = headings
    heading = f"{noun} (marked: explained)" if subjects else noun
    for across, text in ((0, heading), (name_width, compared), (name_width + 70, "probability")):
        write(pen, (left + across, 4), text, FAINT, SMALL)

    for number, item in enumerate(listed, 1):
        top = 26 * number
        if item.position in subjects:
            pen.rectangle((left - 10, top + 5, left - 6, top + 21), fill=INK)

        text = shortened_inside(item.label, SMALL, name_width - 10)
        write(pen, (left, top + 4), text, INK, SMALL)
        write(pen, (left + name_width, top + 4), f"{item.similarity:z.3f}", INK, SMALL)
        write(pen, (left + name_width + 70, top + 4), f"{item.probability:.1%}", INK, SMALL)

        start = left + name_width + 160
        pen.rectangle((start, top + 6, start + 110, top + 19), outline=FAINT)
        pen.rectangle((start, top + 6, start + round(110 * item.probability), top + 19), fill=FAINT)

    if more:
        text = f"and {more} more {noun}s"
        write(pen, (left, 26 * (len(listed) + 1) + 4), text, FAINT, SMALL)

    return row
