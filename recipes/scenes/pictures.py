"""Draws scenes before and after views became the default: docs/explanation/study/before_after.png.

OMP_NUM_THREADS=1 python recipes/scenes/pictures.py

The scenes are the first eight of the study, not chosen.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw
from runs import scenes

import nibt
from nibt.report.appearance import Appearance
from nibt.report.colors import FAINT, INK
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, centred, shown, stacked, text_rows
from nibt.report.image.rows import photograph

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))
from figures import outline_named  # noqa: E402

FILE = DOCS / "explanation" / "study" / "before_after.png"
BEFORE = {"views": 1, "layer": 7, "quadrature": "gauss", "steps": 4, "text_steps": 1}
COUNT, COLUMNS, SIDE, GAP = 8, 2, 150, 4
HEADS = ("the scene", "before: 1 view", "now: 3 views")
NOTES = (
    "The first eight scenes of the study. Red is evidence for the caption, blue against it.",
    "The outline is that of the object that the caption names. The model does not see it.",
)
LOOK = Appearance(style="heatmap")


def beside(images, gap):
    """Images side by side."""
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    row, left = Image.new("RGB", (width, max(image.height for image in images)), "white"), 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


def below(rows):
    """Images one below the other."""
    page, top = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white"), 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


def block(pair, answers):
    """One scene: its caption, the image, and its map in each answer."""
    original = shown(photograph(pair.image, ""), SIDE)
    maps = [overlay(answer, original, LOOK) for answer in answers]
    for image in maps:
        outline_named(image, pair)
        ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=FAINT)
    images = beside([original, *maps], GAP)
    return below([text_rows([pair.caption], images.width, ink=INK), images])


def main():
    model = nibt.load_model("scenes")
    blocks = [
        block(pair, [nibt.explain(model, pair.image, pair.caption, **options) for options in (BEFORE, {})])
        for pair in scenes("one", COUNT)
    ]
    heads = beside([text_rows([head], SIDE) for head in HEADS], GAP)
    width = COLUMNS * (heads.width + MARGIN) + MARGIN
    rows = [[heads] * COLUMNS, *(blocks[first : first + COLUMNS] for first in range(0, COUNT, COLUMNS))]
    stacked([*(centred(row, width) for row in rows), text_rows(NOTES, width)], width).save(FILE, optimize=True)


if __name__ == "__main__":
    main()
