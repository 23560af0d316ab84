"""Draws the picture of each method and measures what an explanation costs, for ``docs/reference/methods``.

python docs/figures.py                 # all methods: some minutes on one core
python docs/figures.py nib rise        # these only; the other pictures and times stay
python docs/generate.py                # afterwards: the pages with these numbers

Each picture has a drawn scene with the model ``scenes``, where the named object is outlined in black, and a photograph
with ``lite``. ``costs.json`` has the seconds of one explanation of both sides, as the median of repeated calls.
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
from PIL import Image, ImageDraw, ImageFilter

import nibt
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.errors import Unsupported
from nibt.methods.base import pair_methods
from nibt.report.appearance import Appearance
from nibt.report.image.fonts import font_for
from nibt.report.image.heatmap import overlay
from nibt.report.image.rows import caption
from nibt.results.explanation import Explanation

FOLDER = Path(__file__).parent / "images" / "methods"
COSTS = FOLDER / "costs.json"
SCENE = Scenes(count=8, seed=4, fewest=3, most=3, named="one", smallest=30, backgrounds=("gradient", "texture"))[6]
PHOTOGRAPH = ("sample:camera", "a camera on a tripod")
PHOTOGRAPH_SIZE = 384
"""The side of the input of ``lite``; smaller than its default, so that slow methods take minutes."""
FEWER = {"rise": {"image_masks": 400}, "shapley": {"budget": 256}}
"""Options that keep slow methods within minutes on the photograph."""
REPEATS, LONG = 5, 3.0  # explanations that take longer than LONG seconds are timed once
SIDE, GAP, LINE, INK = 300, 12, 26, (30, 30, 30)
COLORS = Appearance(style="colors")  # the only outline is that of the named object


def main() -> None:
    """Draw and time the methods of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="all without one")
    names = parser.parse_args().methods or [name for name in nibt.available("methods") if name in pair_methods()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    costs = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {"methods": {}}
    costs["machine"] = (
        f"{os.cpu_count()} {platform.machine()} cores, {torch.get_num_threads()} thread, Python "
        f"{platform.python_version()}, torch {version('torch').partition('+')[0]}, {date.today().isoformat()}"
    )
    costs["photograph"] = f"`lite` at {PHOTOGRAPH_SIZE} pixels"
    scenes, lite = nibt.load_model("scenes"), nibt.load_model("lite", image_size=PHOTOGRAPH_SIZE)
    for name in names:
        explain = {
            "scenes": (scenes, SCENE.image, SCENE.caption, {}),
            "lite": (lite, *PHOTOGRAPH, FEWER.get(name, {})),
        }
        tiles, costs["methods"][name] = [], {}
        for model_name, (model, image, text, options) in explain.items():
            try:
                answer, seconds = timed(model, image, text, name, options)
            except Unsupported:
                tiles.append(empty(f"not with {model_name}: it has no attention"))
                continue
            costs["methods"][name][model_name] = {"seconds": float(f"{seconds:.2g}"), "options": options}
            tiles.append(drawn(answer, SCENE if model_name == "scenes" else None))
        beside(tiles).save(FOLDER / f"{name}.webp", quality=80, method=6)
        COSTS.write_text(json.dumps(costs, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(name, costs["methods"][name], flush=True)


def timed(model: Any, image: Any, text: str, name: str, options: dict[str, Any]) -> tuple[Explanation, float]:
    """Explain a pair, and return the result with the seconds of a call on a warm model."""
    nibt.explain(model, image, text)  # blank states and the like are computed once
    seconds: list[float] = []
    while True:
        start = time.perf_counter()
        answer = nibt.explain(model, image, text, name, **options)
        seconds.append(time.perf_counter() - start)
        if len(seconds) == REPEATS or seconds[-1] > LONG:
            return answer, statistics.median(seconds)


def drawn(answer: Explanation, pair: Pair | None) -> Image.Image:
    """Draw the map over the image, with the outline of the named object if the pair has one, and the words below."""
    assert answer.image.input is not None
    original = answer.image.input.pil_image
    scale = SIDE / original.width
    image = overlay(answer, original.resize((SIDE, round(original.height * scale)), Image.Resampling.LANCZOS), COLORS)
    if pair is not None:
        outline_named(image, pair)
    words = caption(answer.text, SIDE, COLORS, small=True)
    tile = Image.new("RGB", (SIDE, image.height + words.height + 8), "white")
    tile.paste(image, (0, 0))
    tile.paste(words, ((SIDE - words.width) // 2, image.height + 8))
    return tile


def outline_named(image: Image.Image, pair: Pair) -> None:
    """Draw the edge of the objects that the caption names."""
    mask = np.any([one.mask for one in pair.objects if one.spans and one.mask is not None], axis=0)
    whole = Image.fromarray(mask).convert("L").resize(image.size).point(lambda value: 255 * (value > 127))
    edge = np.asarray(whole) != np.asarray(whole.filter(ImageFilter.MinFilter(3)))
    image.paste(Image.new("RGB", image.size, "black"), mask=Image.fromarray(edge))


def empty(text: str) -> Image.Image:
    tile = Image.new("RGB", (SIDE, LINE), "white")
    ImageDraw.Draw(tile).text((SIDE // 2, 4), text, INK, font_for(text, 15), anchor="mt")
    return tile


def beside(tiles: list[Image.Image]) -> Image.Image:
    """Put tiles side by side."""
    page = Image.new("RGB", (len(tiles) * (SIDE + GAP) + GAP, max(tile.height for tile in tiles) + 2 * GAP), "white")
    for place, tile in enumerate(tiles):
        page.paste(tile, (GAP + place * (SIDE + GAP), GAP))
    return page


if __name__ == "__main__":
    main()
