"""Whether nibt explains models as they compute that it was not developed on: 28 released-like folders.

    OMP_NUM_THREADS=1 python benchmarks/kept_back.py [--only TEXT]

Each model of ``models/kept_back.py`` imitates a popular repository without a file of facts here: its class, processor
and template, with random weights and settings that other copies do not have. The folder is written by Transformers (or
timm) and read by nibt as a user does. Everything is compared with the model's own documented call (``generate`` with
forced tokens, the similarity of ``get_image_features``, the logits), on images that are painted here:

- **score**: the log-probability of a given answer, the similarity or the logit, of an image and of a painted one.
- **blank**: the same for an image of the mean color, and that scores and the stated gap add up to this change.
- **removed**: the scores of occlusion at up to 12 cells are the changes of the own score if these cells of the image
  are painted: 1 - correlation.
- **placed**: the share of cells whose state at the lowest layer changes most if the image does at this cell.

A model is *right*, *refused* (with the reason), or WRONG, with what differs. Exit code 1: one is wrong.
"""

import argparse
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from models import kept_back
from models.kept_back import KeptBack
from PIL import Image

import nibt
from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid, cells_of
from nibt.errors import NibtError
from nibt.generators.answers import ForcedWord, Generator, Prompted

CAPTION, ANSWER = "a photo of two red cats", "a red cat on a mat"
CELLS = 12
SAME = 2e-3
"""The largest difference of scores, relative to the size of the score or to 1: of weights in bfloat16, read as such."""
RESIZED = 0.15
"""The largest 1 - correlation of removed cells, whose edges are resized with the image."""


@dataclass(frozen=True)
class Cell:
    """A cell of a map, and its pixels: left, top, right, bottom."""

    row: int
    column: int
    box: tuple[int, int, int, int]


def cells_of_map(region: Region | Sequence[float], rows: int, columns: int, size: tuple[int, int]) -> list[Cell]:
    """Return some cells, evenly spread, which are inside the image."""
    left, top, width, height = region
    cells = []
    for row in range(rows):
        for column in range(columns):
            across = [left + (column + end) * width / columns for end in (0, 1)]
            down = [top + (row + end) * height / rows for end in (0, 1)]
            if min(*across, *down) > -0.5 and across[1] < size[0] + 0.5 and down[1] < size[1] + 0.5:
                cells.append(Cell(row, column, (*map(round, (across[0], down[0], across[1], down[1])),)))
    return cells[:: max(1, math.ceil(len(cells) / CELLS))]


def painted(image: Image.Image, cell: Cell, color: tuple[int, int, int]) -> Image.Image:
    result = image.copy()
    result.paste(color, cell.box)
    return result


def different(first: float, second: float) -> bool:
    return abs(first - second) > SAME * max(1.0, abs(second))


@dataclass(frozen=True)
class Explained:
    """What nibt says of an image: its score, that of a blank image, the map of a method, and where it is."""

    value: float
    blank: float
    total: float
    """The sum of all scores and the stated gap."""
    grid: torch.Tensor
    region: Sequence[float]


def explained(model: Any, known: KeptBack, image: Image.Image, method: str) -> Explained:
    """Explain an image by the public call."""
    options = {"layer": 0, "steps": 16, "views": 1} if method == "nib" else {}
    if isinstance(model, Generator):
        options |= {"narrow": ["image"], "other_images": []}
        options.pop("views", None)
        result = nibt.explain_answer(model, image, known.prompt, ANSWER, method, **options)
        value = sum(word.value for word in result.words)
        blank = sum(word.with_blank_image for word in result.words)
        total = sum(float(word.grid.sum()) + word.gaps.get("image", 0.0) for word in result.words)
        return Explained(value, blank, total, sum(word.grid for word in result.words), result.region)

    result = nibt.explain(model, image, known.caption, method, **options)
    side = result.sides["image"]
    path = side.path
    blank = float(path.at_baseline) if path else math.nan
    total = float(path.sum + path.gap) if path else math.nan
    return Explained(result.similarity, blank, total, side.grid, side.region)


def states(model: Any, known: KeptBack, image: Image.Image) -> tuple[torch.Tensor, Grid]:
    """Return the states of cells at the lowest layer at which nibt can cut the model."""
    picture = ImageInput(image, "painted")
    if isinstance(model, Generator):
        tower = model.answers
        prompted = Prompted(picture, known.prompt)
        inputs = tower.prepare([ForcedWord(prompted, tower.read(prompted, ANSWER), 0)])
    else:
        tower = model.image
        inputs = tower.prepare([picture])
    cut = tower.trace(inputs).cut(0)
    return cut.hidden[0], cells_of(cut.units)


def placed(model: Any, known: KeptBack, image: Image.Image, cells: list[Cell]) -> float:
    """Return the share of cells whose states change most where the image does."""
    before, grid = states(model, known, image)
    hits = []
    for cell in cells:
        inverted = Image.fromarray(255 - np.asarray(image.crop(cell.box)))
        changed = image.copy()
        changed.paste(inverted, cell.box[:2])
        change = (states(model, known, changed)[0] - before)[list(grid.tokens)].norm(dim=-1)
        place = divmod(int(change.argmax()), grid.columns)
        hits.append(max(abs(place[0] - cell.row), abs(place[1] - cell.column)) <= known.near)
    return float(np.mean(hits))


def examined(known: KeptBack, folder: Path) -> tuple[str, dict[str, float]]:
    """Return the verdict on a model, and what was measured."""
    own = known.own(folder, ANSWER)
    image = picture(known.size)
    load = nibt.load_generator if known.answers else nibt.load_model
    try:
        model = load(folder, **known.options)
        actual = explained(model, known, image, "occlusion")
    except NibtError as error:
        return f"refused: {error}", {}

    numbers = {"score": abs(actual.value - own(image))}
    if different(actual.value, own(image)):
        return f"WRONG: the score is {actual.value:.4f}, not {own(image):.4f}", numbers

    rows, columns = actual.grid.shape
    cells = cells_of_map(actual.region, rows, columns, image.size)
    changes, scores = [], []
    for cell in cells:
        white = painted(image, cell, (255, 255, 255))
        changes.append(own(image) - own(painted(image, cell, known.mean), white))
        scores.append(float(actual.grid[cell.row, cell.column]))
    numbers["removed"] = 1 - float(np.corrcoef(changes, scores)[0, 1])
    if not numbers["removed"] < RESIZED:
        return f"WRONG: removed cells change the score by {np.round(changes, 3)}, not {np.round(scores, 3)}", numbers

    other = painted(image, cells[len(cells) // 2], (250, 20, 20))
    value = explained(model, known, other, "center").value
    if different(value, own(other)):
        return f"WRONG: the score of a painted image is {value:.4f}, not {own(other):.4f}", numbers

    try:
        narrowed = explained(model, known, image, "nib")
    except NibtError as error:
        return f"right, without a cut: {str(error)[:60]}", numbers
    blank = own(Image.new("RGB", image.size, known.mean), Image.new("RGB", image.size, "white"))
    numbers["blank"] = abs(narrowed.blank - blank)
    if numbers["blank"] > RESIZED * max(0.5, abs(own(image) - blank)):
        return f"WRONG: the score of a blank image is {narrowed.blank:.4f}, not {blank:.4f}", numbers
    if different(narrowed.total, own(image) - narrowed.blank):
        return f"WRONG: scores and gap add up to {narrowed.total:.4f}, not {own(image) - narrowed.blank:.4f}", numbers

    numbers["placed"] = placed(model, known, image, cells)
    if numbers["placed"] < 0.5:
        return "WRONG: states change at other cells than the image", numbers
    return "right", numbers


def picture(size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of the name of a model")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| model | class | score | blank | removed | placed | verdict |\n|---|---|---|---|---|---|---|")
    wrong = 0
    for known in kept_back.MODELS:
        if options.only.lower() not in known.name.lower():
            continue
        with TemporaryDirectory() as folder, torch.no_grad():
            class_name = known.save(Path(folder))
            torch.set_grad_enabled(True)
            verdict, numbers = examined(known, Path(folder))
        wrong += verdict.startswith("WRONG")
        cells = [f"{numbers[name]:.2g}" if name in numbers else "" for name in ("score", "blank", "removed", "placed")]
        print(f"| {' | '.join([known.name, class_name, *cells, verdict])} |", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
