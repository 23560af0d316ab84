"""A picture of each shortcut: the input, and its map by an honest model and by one that reads the shortcut.

    OMP_NUM_THREADS=1 python recipes/scenes/shortcut_pictures.py --models MODELS    # a minute of one core

MODELS has the folders KIND-1 that ``shortcut.py train`` wrote. The scene is the first of those of ``reasons.py`` whose
named object is large enough to be seen; it is not chosen by its map. The pictures are those of
``docs/explanation/shortcuts.md``.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from reasons import UNSEEN
from shortcut import SHORTCUTS, image, planted

import nibt
from nibt.datasets.scenes import Scenes
from nibt.report.colors import Appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import text_rows
from nibt.report.image.parts import caption

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "shortcuts"
SIDE, GAP, INK = 230, 10, (30, 30, 30)
LEAST = 600
"""The pixels of the named object, of 128 x 128."""
COLORS = Appearance(style="colors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    models = parser.parse_args().models
    data = Scenes(count=20, seed=UNSEEN, fewest=2, most=3, named="one")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind in SHORTCUTS:
        if kind != "position":  # no model learned it
            picture(kind, scene_of(kind, data), models).save(FOLDER / f"{kind}.webp", quality=80, method=6)


def scene_of(kind, data):
    scenes = (planted(kind, data, item) for item in range(len(data)))
    return next(scene for scene in scenes if np.asarray(scene.of_object).dtype != bool or scene.of_object.sum() > LEAST)


def picture(kind, scene, models):
    """Three tiles: the input, the map of the honest model, and that of the model that reads the shortcut."""
    shown = image(scene.images[0]).pil_image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    tiles = [below([text_rows(["The input"], SIDE, 14, INK), shown])]
    for heading, name in (("The honest model", "honest"), (f"One that reads “{kind}”", kind)):
        explanation = nibt.explain(
            nibt.load_model(models / f"{name}-1"), image(scene.images[0]).pil_image, scene.captions[0]
        )
        words = caption(explanation.text, SIDE, COLORS, small=True)
        tiles.append(below([text_rows([heading], SIDE, 14, INK), overlay(explanation, shown, COLORS), words]))
    page = Image.new("RGB", (3 * (SIDE + GAP) + GAP, max(tile.height for tile in tiles) + GAP), "white")
    for place, tile in enumerate(tiles):
        page.paste(tile, (GAP + place * (SIDE + GAP), GAP))
    return page


def below(rows):
    """Put rows below each other."""
    page, top = Image.new("RGB", (SIDE, sum(row.height for row in rows)), "white"), 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


if __name__ == "__main__":
    main()
