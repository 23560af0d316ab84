"""Draws maps of late interaction beside each other: docs/images/late_interaction.png.

    OMP_NUM_THREADS=1 python recipes/scenes/late_pictures.py --model FOLDER

FOLDER is the model that `late_maps.py` measures. The scenes are the first of those that it measures, not chosen.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image, ImageDraw
from runs import scenes

import nibt
from nibt.report.colors import FAINT, INK, Appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, centered, resized, stacked, text_rows

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))
from figures import outline_named  # noqa: E402

FILE = DOCS / "images" / "late_interaction.png"
SIDE, GAP, LOOK = 150, 4, Appearance(style="heatmap")
METHODS = ("similarity_map", "nib", "occlusion")
COUNT = 5
NOTES = (
    "The first scenes that are measured. Red is evidence for the caption, blue against it.",
    "The outline is that of the object that the caption names. The model is not given this outline.",
)


def beside(images):
    row, left = Image.new("RGB", (sum(image.width + GAP for image in images) - GAP, images[0].height), "white"), 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + GAP
    return row


def block(pair, explanations):
    """Draw a scene below its caption: the image, and its map in each explanation."""
    original = resized(pair.image.pil_image, SIDE)
    maps = [overlay(explanation, original, LOOK) for explanation in explanations]
    for image in maps:
        outline_named(image, pair)
        ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=FAINT)
    images = beside([original, *maps])
    title = text_rows([pair.caption], images.width, ink=INK)
    page = Image.new("RGB", (images.width, title.height + images.height), "white")
    page.paste(title, (0, 0))
    page.paste(images, (0, title.height))
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model")
    model = nibt.load_model(parser.parse_args().model)
    rows = [
        block(pair, [nibt.explain(model, pair.image, pair.caption, name) for name in METHODS])
        for pair in scenes("one", COUNT)
    ]
    heads = beside([text_rows([head], SIDE) for head in ("the scene", *METHODS)])
    width = heads.width + 2 * MARGIN
    stacked([*(centered([part], width) for part in (heads, *rows)), text_rows(NOTES, width)], width).save(
        FILE, optimize=True
    )


if __name__ == "__main__":
    main()
