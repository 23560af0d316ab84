"""Draws the picture of each method and measures what an explanation costs, for ``docs/reference/methods``.

python docs/figures.py                 # all methods: some minutes on one core
python docs/figures.py nib rise        # these only; the other pictures and times stay
python docs/figures.py --pictures      # the pictures only
python docs/figures.py --guides        # the pictures of the guides only
python docs/generate.py                # afterwards: the pages with these numbers

Each picture has two drawn scenes with the model ``scenes``, which every method explains; the named objects are
outlined. ``methods.webp`` has the first scene with all methods. ``costs.json`` has the seconds of one explanation of
both sides of a scene, and of a photograph with ``lite``, as the median of repeated calls.
"""

import argparse
import json
import os
import platform
import statistics
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

import nibt
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.errors import Unsupported
from nibt.methods.base import pair_methods
from nibt.registry import summary
from nibt.report.colors import Appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, text_rows
from nibt.report.image.parts import caption, part_scale
from nibt.report.request import is_signed
from nibt.results.explanation import Explanation

FOLDER = Path(__file__).parent / "images" / "methods"
COSTS = FOLDER / "costs.json"
GALLERY = FOLDER.parent / "methods.webp"
GUIDES: dict[str, dict[str, dict[str, Any]]] = {
    "views": {"One view": {"views": 1}, "Three views (the default)": {}, "Seven views": {"views": 7}},
    "special": {
        "Class token keeps its share": {"distribute": False, "views": 1},
        "Its share goes back to patches": {"views": 1},
    },
    "contrast": {"A picture of an owl": {}, "Rather than of a key": {"against": "a picture of a key"}},
    "bad": {"nib": {}, "rollout ignores the caption": {"method": "rollout"}, "random": {"method": "random"}},
}
"""The pictures of the guides: the options of each map of the first scene, by its heading."""
SCENE = Scenes(count=8, seed=4, fewest=3, most=3, named="one", smallest=30, backgrounds=("gradient", "texture"))[6]
SECOND = Scenes(count=8, seed=4, fewest=3, most=3, named="all", smallest=30, backgrounds=("gradient", "texture"))[3]
PHOTOGRAPH = ("sample:camera", "a camera on a tripod")
PHOTOGRAPH_SIZE = 384
"""The side of the input of ``lite``; smaller than its default, so that slow methods take minutes."""
FEWER = {"rise": {"image_masks": 400}, "shapley": {"budget": 256}}
"""Options that keep slow methods within minutes on the photograph."""
REPEATS, LONG = 5, 3.0  # explanations that take longer than LONG seconds are timed once
SIDE, GAP, INK = 300, 12, (30, 30, 30)
COLUMNS, ABOUT = 4, 64  # of the gallery: tiles in a row, and the height of the line below each
COLORS = Appearance(style="colors")  # the only outline is that of the named object


def main() -> None:
    """Draw and time the methods of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="all without one")
    parser.add_argument("--pictures", action="store_true", help="measure no times")
    parser.add_argument("--guides", action="store_true", help="draw the pictures of the guides only")
    arguments = parser.parse_args()
    every = pair_methods()
    FOLDER.mkdir(parents=True, exist_ok=True)
    scenes = nibt.load_model("scenes")
    for name, maps in {} if arguments.methods else GUIDES.items():
        tiles = [headed(scenes, heading, options) for heading, options in maps.items()]
        beside(tiles).save(FOLDER.parent / f"{name}.webp", quality=85, method=6)
    if arguments.guides:
        return
    for name in arguments.methods or every:
        answers = [nibt.explain(scenes, pair.image, pair.caption, name) for pair in (SCENE, SECOND)]
        tiles = [drawn(answer, pair, bar=True) for answer, pair in zip(answers, (SCENE, SECOND), strict=True)]
        beside(tiles).save(FOLDER / f"{name}.webp", quality=80, method=6)
        print(name, flush=True)
    if not arguments.methods:
        gallery(scenes, every).save(GALLERY, quality=80, method=6)
    if not arguments.pictures:
        measure(scenes, arguments.methods or every)


def measure(scenes: Any, names: list[str]) -> None:
    """Write the seconds of each method into ``costs.json``."""
    costs = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {"methods": {}}
    costs["machine"] = (
        f"{os.cpu_count()} {platform.machine()} cores, {torch.get_num_threads()} thread, Python "
        f"{platform.python_version()}, torch {version('torch').partition('+')[0]}, {date.today().isoformat()}"
    )
    costs["photograph"] = f"`lite` at {PHOTOGRAPH_SIZE} pixels"
    lite = nibt.load_model("lite", image_size=PHOTOGRAPH_SIZE)
    for name in names:
        inputs = {"scenes": (scenes, SCENE.image, SCENE.caption, {}), "lite": (lite, *PHOTOGRAPH, FEWER.get(name, {}))}
        costs["methods"][name] = {}
        for model_name, (model, image, text, options) in inputs.items():
            try:
                seconds = timed(model, image, text, name, options)
            except Unsupported:  # lite has no attention
                continue
            costs["methods"][name][model_name] = {"seconds": float(f"{seconds:.2g}"), "options": options}
        COSTS.write_text(json.dumps(costs, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(name, costs["methods"][name], flush=True)


def gallery(model: Any, names: list[str]) -> Image.Image:
    """Draw the first scene with every method, its name above and its first line below."""
    tiles = []
    for name in names:
        image = drawn(nibt.explain(model, SCENE.image, SCENE.caption, name), SCENE)
        heading = text_rows([name], SIDE, 20, INK)
        about = text_rows([summary("methods", name)], SIDE + 2 * MARGIN, 14)
        about = about.crop((MARGIN, 0, SIDE + MARGIN, about.height))
        tile = Image.new("RGB", (SIDE, heading.height + image.height + ABOUT + 8), "white")
        for part, top in ((heading, 0), (image, heading.height), (about, heading.height + image.height + 8)):
            tile.paste(part, (0, top))
        tiles.append(tile)
    rows = [beside(tiles[first : first + COLUMNS]) for first in range(0, len(tiles), COLUMNS)]
    return below(rows, rows[0].width)


def headed(model: Any, heading: str, options: dict[str, Any]) -> Image.Image:
    """Draw the map of the first scene below a heading, with the gap of what is shown."""
    answer = nibt.explain(model, SCENE.image, SCENE.caption, **options)
    path = answer.image.path
    gap = "" if path is None else f"gap {float(path.gap):+.3f} of {float(path.at_input - path.at_baseline):+.3f}"
    rows = [text_rows([heading], SIDE, 18, INK), drawn(answer, SCENE, bar=True), text_rows([gap or " "], SIDE, 14)]
    return below(rows, SIDE)


def timed(model: Any, image: Any, text: str, name: str, options: dict[str, Any]) -> float:
    """Return the seconds of a call on a warm model."""
    nibt.explain(model, image, text)  # blank states and the like are computed once
    seconds: list[float] = []
    while True:
        start = time.perf_counter()
        nibt.explain(model, image, text, name, **options)
        seconds.append(time.perf_counter() - start)
        if len(seconds) == REPEATS or seconds[-1] > LONG:
            return statistics.median(seconds)


def drawn(answer: Explanation, pair: Pair, bar: bool = False) -> Image.Image:
    """Draw the map over the image, with the outline of the named objects, the words below, and a color bar."""
    assert answer.image.input is not None
    original = answer.image.input.pil_image
    scale = SIDE / original.width
    image = overlay(answer, original.resize((SIDE, round(original.height * scale)), Image.Resampling.LANCZOS), COLORS)
    outline_named(image, pair)
    rows = [image, caption(answer.text, SIDE, COLORS, small=True)]
    if bar:
        rows.append(part_scale(answer.image, SIDE, COLORS, is_signed(answer)))
    return below(rows, SIDE, 8)


def outline_named(image: Image.Image, pair: Pair) -> None:
    """Draw the edge of the objects that the caption names."""
    mask = np.any([one.mask for one in pair.objects if one.spans and one.mask is not None], axis=0)
    whole = Image.fromarray(mask).convert("L").resize(image.size).point(lambda value: 255 * (value > 127))
    edge = np.asarray(whole) != np.asarray(whole.filter(ImageFilter.MinFilter(3)))
    image.paste(Image.new("RGB", image.size, "black"), mask=Image.fromarray(edge))


def below(rows: list[Image.Image], width: int, gap: int = 0) -> Image.Image:
    """Put rows below each other."""
    page, top = Image.new("RGB", (width, sum(row.height + gap for row in rows) - gap), "white"), 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + gap
    return page


def beside(tiles: list[Image.Image]) -> Image.Image:
    """Put tiles side by side."""
    page = Image.new("RGB", (len(tiles) * (SIDE + GAP) + GAP, max(tile.height for tile in tiles) + 2 * GAP), "white")
    for place, tile in enumerate(tiles):
        page.paste(tile, (GAP + place * (SIDE + GAP), GAP))
    return page


if __name__ == "__main__":
    main()
