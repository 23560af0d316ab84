"""How many maps of photographs are wrong, and how many of them have a note. It feeds docs/explanation/reading.md.

    python benchmarks/wrong_maps.py FOLDER            # FOLDER holds annotations.json and photographs
    python benchmarks/wrong_maps.py FOLDER --images 4

The pairs are each photograph with "a photo of a NAME" for each annotated category; with "a NAME and a NAME" for the two
largest categories to which the model reacts; and with its first two captions of which a word names a category. A map is
right if its maximum is inside a box of a named category, at least half of its outline is, and the sum of its scores in
the boxes of each named category is positive. Boxes are half a cell larger on each side. A map for a caption to which
the model does not react is noise, and wrong. A note is one on the match, on
noise, or on content words. Nothing was chosen on the photographs at odd positions.

The second look is a rule that nibt does not use: nine overlapping windows, each half as wide and high as the image, are
compared with the caption, and the map is doubted if the sums of its scores in them correlate with their similarities by
less than 0.3. This limit was chosen on the photographs at even positions.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from limit import machine

import nibt
from nibt.core.side import Side
from nibt.data.images import ImageInput, read_image
from nibt.datasets._captions import with_article
from nibt.engine.encode import encode
from nibt.engine.reactions import NEAR_BLANK, reactions
from nibt.models.base import Model
from nibt.results.explanation import Explanation
from nibt.targets.base import CosineSimilarity

CODES = {
    "no_match",
    "noise",
    "weak_match",
    "spelled_words",
    "unread_words",
    "lowering_words",
    "minor_words",
}
DOUBTED = 0.3
Boxes = list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Row:
    """One pair: which notes it has, and whether its map is right."""

    half: str
    kind: str
    caption: str
    noted: bool
    doubted: bool
    right: bool
    negative: bool


def pairs_of(record: dict, boxes: dict[str, Boxes], model: Model) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the kind of pair, the caption and the categories that it names."""
    for name in boxes:
        yield "category", f"a photo of {with_article(name)}", [name]
    known = [name for name in boxes if reacts(model, with_article(name))]
    known.sort(key=lambda name: -sum(width * height for *_, width, height in boxes[name]))
    if len(known) > 1:
        yield "two categories", " and ".join(map(with_article, known[:2])), known[:2]
    count = 0
    for number, caption in enumerate(record["captions"]):
        named = {word["category"] for word in record["grounded_words"] if word["caption"] == number}
        if named & set(boxes) and count < 2:
            count += 1
            yield "caption", caption, sorted(named & set(boxes))


def reacts(model: Model, caption: str) -> bool:
    trace = model.text.trace(model.text.prepare([caption]), model.text.depth)
    return float(reactions(Side(model, trace, CosineSimilarity()))) >= NEAR_BLANK


def judged(explanation: Explanation, named: dict[str, Boxes]) -> tuple[bool, bool]:
    """Return whether a map is right, and whether the sum in the boxes of a named category is negative."""
    width, height = explanation.size
    heatmap = np.nan_to_num(explanation.heatmap())
    pad = 0.5 / max(explanation.grid.shape)
    wide = np.zeros(heatmap.shape, bool)
    sums = []
    for boxes in named.values():
        exact = np.zeros(heatmap.shape, bool)
        for left, top, across, down in boxes:
            for mask, extra in ((exact, 0.0), (wide, pad)):
                rows = slice(max(0, int(top - extra * height)), int(np.ceil(top + down + extra * height)))
                columns = slice(max(0, int(left - extra * width)), int(np.ceil(left + across + extra * width)))
                mask[rows, columns] = True
        sums.append(float(heatmap[exact].sum()))
    outline = explanation.mask()
    if not outline.any():
        return False, min(sums) < 0
    peak = wide.flat[heatmap.argmax()]
    share = (outline & wide).sum() / outline.sum()
    return bool(peak and share >= 0.5 and min(sums) > 0), min(sums) < 0


def rows_of(model: Model, image: ImageInput, record: dict, half: str) -> Iterator[Row]:
    scale = image.size[0] / record["width"]
    boxes: dict[str, Boxes] = {}
    for item in record["objects"]:
        left, top, width, height = (scale * value for value in item["box_xywh"])
        boxes.setdefault(item["category"], []).append((left, top, width, height))
    for kind, caption, names in pairs_of(record, boxes, model):
        if not reacts(model, caption):  # every map is noise, and has a note
            yield Row(half, kind, caption, noted=True, doubted=False, right=False, negative=False)
            continue
        explanation = nibt.explain(model, image, caption)
        right, negative = judged(explanation, {name: boxes[name] for name in names})
        noted = bool(CODES & {note.code for note in explanation.notes})
        doubted = not noted and second_look(model, explanation) < DOUBTED
        yield Row(half, kind, caption, noted, doubted, right, negative)


def second_look(model: Model, explanation: Explanation) -> float:
    """Return the correlation of the sums of a map in nine windows with the similarities of the windows."""
    side, photograph = explanation.image, explanation.image.input.pil_image.convert("RGB")
    width, height = side.size
    boxes = [
        (column * width // 4, row * height // 4, width // 2, height // 2) for row in range(3) for column in range(3)
    ]
    crops = [photograph.crop((left, top, left + across, top + down)) for left, top, across, down in boxes]
    embeddings = torch.cat([encode(model.image, [read_image(crop)]).float() for crop in crops])
    caption = encode(model.text, [explanation.caption]).float()
    similarities = model.similarity.swapped().to_each(caption, embeddings)[0].tolist()
    sums = [float((side.grid.numpy() * side.shares_inside(box)).sum()) for box in boxes]
    return float(np.corrcoef(sums, similarities)[0, 1])


def line(title: str, rows: list[Row], with_look: bool) -> str:
    warned = [row.noted or (with_look and row.doubted) for row in rows]
    counts = [
        sum(row.right == right and warning == has for row, warning in zip(rows, warned, strict=True))
        for has, right in ((True, True), (True, False), (False, False), (False, True))
    ]
    share = 100 * counts[2] / max(1, len(rows))
    passed = sum(row.negative and not warning for row, warning in zip(rows, warned, strict=True))
    return f"| {title} | {len(rows)} | {' | '.join(map(str, counts))} | {share:.1f} % | {passed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--images", type=int)
    options = parser.parse_args()
    print(machine())
    model = nibt.load_model(options.model)
    records = json.loads((options.folder / "annotations.json").read_text(encoding="utf-8"))["images"]
    rows: list[Row] = []
    for place, record in enumerate(records[: options.images]):
        half = "odd" if place % 2 else "even"
        rows += rows_of(model, read_image(options.folder / record["file"]), record, half)
        print(f"{place + 1} of {len(records[: options.images])} photographs", flush=True)
    print(
        "\n| photographs, notes | pairs | noted, right | noted, wrong | not noted, wrong | not noted, right |", end=""
    )
    print(" not noted and wrong | not noted, negative sum in a box |")
    print("|---|---|---|---|---|---|---|---|")
    for half in ("even", "odd"):
        listed = [row for row in rows if row.half == half]
        for kind in ("category", "two categories", "caption"):
            of_kind = [row for row in listed if row.kind == kind]
            print(line(f"{half}, {kind}, notes", of_kind, with_look=False))
        print(line(f"{half}, all, notes", listed, with_look=False))
        print(line(f"{half}, all, notes and second look", listed, with_look=True))


if __name__ == "__main__":
    main()
