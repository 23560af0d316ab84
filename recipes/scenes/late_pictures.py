"""Draws maps of late interaction beside each other: docs/images/late_interaction.png.

    OMP_NUM_THREADS=1 python recipes/scenes/late_pictures.py --model FOLDER

FOLDER is the model that `late_maps.py` measures. The scenes are the first of those that it measures, not chosen.
"""

import argparse
from pathlib import Path

from pictures import GAP, SIDE, beside, block
from runs import scenes

import nibt
from nibt.report.image.layout import MARGIN, centered, stacked, text_rows

FILE = Path(__file__).parents[2] / "docs" / "images" / "late_interaction.png"
METHODS = ("similarity_map", "nib", "occlusion")
COUNT = 5
NOTES = (
    "The first scenes that are measured. Red is evidence for the caption, blue against it.",
    "The outline is that of the object that the caption names. The model does not see it.",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model")
    model = nibt.load_model(parser.parse_args().model)
    rows = [
        block(pair, [nibt.explain(model, pair.image, pair.caption, name) for name in METHODS])
        for pair in scenes("one", COUNT)
    ]
    heads = beside([text_rows([head], SIDE) for head in ("the scene", *METHODS)], GAP)
    width = heads.width + 2 * MARGIN
    stacked([*(centered([part], width) for part in (heads, *rows)), text_rows(NOTES, width)], width).save(
        FILE, optimize=True
    )


if __name__ == "__main__":
    main()
