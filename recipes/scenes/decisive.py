"""How much of an image decides, and is that part on the object? All on unseen scenes, through ``nibt.decisive_region``.

    OMP_NUM_THREADS=1 python recipes/scenes/decisive.py measure --out RUN --count 500
    python recipes/scenes/decisive.py report --out RUN    # into docs/explanation/study

A scene has two or three objects, one of which its caption names. ``keep`` is the share of the image that keeps half of
what the image adds to the similarity, ``change`` the share without which half of it is lost, and ``first`` the share
without which the noun of another object of the scene is first. ``on object`` is the share of each part's pixels on the
named object. ``redrawn`` is in how many scenes the part also decides if hidden pixels are those of the scene without
the named object, so that nothing is hidden but what shows it. The intervals are between 0 and 1 (Gaffke, or Clopper and
Pearson); ``n of`` counts the scenes of a mean. ``random`` takes the cells in random order. ``hidden by``
is what replaces cells; else the mean color. Slow methods have a fifth of the scenes.
"""

from functools import partial

import numpy as np
import torch.nn.functional as F
from runs import cells, collect, machine, measure_rows, parse_arguments, write_tables
from shown import ROWS as SHOWN
from shown import SLOW, STUDY

import nibt
from nibt.data.images import read_image
from nibt.data.pair import read_caption
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import SIDE, Scenes
from nibt.engine.encode import encode

UNSEEN = 20261201
"""The seed of scenes on which nothing was chosen."""
PARTS = ("keep", "change", "first")
COLUMNS = tuple(f"{name}{part}" for part in PARTS for name in ("", "on object, ", "redrawn, "))
LEFT_OUT = ("nib, not distributed", "nib, 5 views", "clip_surgery", "grad_cam")
ROWS = {
    **{name: row for name, row in SHOWN.items() if name not in LEFT_OUT},
    "random": ("random", {}),
    "nib, hidden by blur": ("nib", {"hide": "blur"}),
    "nib, hidden by noise": ("nib", {"hide": "noise"}),
}


def values(model, method, options, pair):
    """All numbers of one scene; those of a part without a decision are NaN."""
    hide = options.get("hide", "mean")
    named = {f"image_{name}": value for name, value in options.items() if name != "hide"}
    target = next(obj for obj in pair.objects if obj.spans)
    caption, other = (
        f"a picture of {with_article(obj.name)}"
        for obj in (target, next(obj for obj in pair.objects if obj.name != target.name))
    )
    answer = nibt.explain(model, pair.image, caption, method, **named)
    against = nibt.explain(model, pair.image, caption, method, against=other, **named)
    numbers = {}
    for key, of, region in (("keep", answer, "keep"), ("change", answer, "change"), ("first", against, "change")):
        part = nibt.decisive_region(model, of, region, hide=hide).decisive
        names = (key, f"on object, {key}", f"redrawn, {key}")
        if part is None or (key == "first" and part.decision != "first"):
            numbers |= dict.fromkeys(names, np.nan)
            continue
        pixels = F.interpolate(part.cells[None, None].float(), (SIDE, SIDE), mode="nearest")[0, 0].numpy() > 0
        on_object = float(target.mask[pixels].mean())
        decides = decides_redrawn(model, pair.image, target, pixels, caption, other, key)
        numbers |= dict(zip(names, (part.share, on_object, decides), strict=True))
    return numbers


def decides_redrawn(model, image, target, pixels, caption, other, key):
    """Whether a part decides if what is hidden shows the scene without the object; NaN if its absence does not."""
    shown, absent = (np.array(each.pil_image.convert("RGB")) for each in (image, target.without()))
    kept = pixels if key == "keep" else ~pixels
    images = [read_image(each) for each in (absent, shown, np.where(kept[..., None], shown, absent))]
    captions = [read_caption(each) for each in (caption, other)]
    cosines = model.similarity.to_each(encode(model.image, images), encode(model.text, captions))
    margin = cosines[:, 0] - cosines[:, 1] if key == "first" else cosines[:, 0]
    limit = 0.0 if key == "first" else margin[:2].mean()
    if not margin[0] < limit < margin[1]:
        return np.nan
    return float((margin[2] > limit) == (key == "keep"))


def measure(options):
    model, path = nibt.load_model(options.model), options.out / f"decisive-{options.part}.jsonl"
    scenes = [(pair,) for pair in Scenes(count=options.count, seed=UNSEEN, fewest=2, most=3, named="one")]
    measure_rows(path, ROWS, SLOW, scenes, partial(values, model), line, (options.part, options.parts))


def line(name, record, first):
    """A row of the table; of each part, the scenes that have one, and those in which its test has an answer."""
    values = record["values"]
    texts = cells(values, first["values"], COLUMNS, name == "nib", (0.0, 1.0))
    counts = [str(np.isfinite(values[key]).sum()) for part in PARTS for key in (part, f"redrawn, {part}")]
    return f"| {name} | {' | '.join([*texts, *counts])} | {len(values['keep'])} |"


def report(options):
    records = collect(options.out, "decisive")
    counted = [f"n of {name}{part}" for part in PARTS for name in ("", "redrawn, ")]
    columns = [*COLUMNS, *counted, "scenes"]
    head = f"| | {' | '.join(columns)} |"
    table = "\n".join(
        [
            head,
            "|---" * (len(columns) + 1) + "|",
            *(line(name, records[name], records["nib"]) for name in ROWS if name in records),
        ]
    )
    print(table)
    write_tables(STUDY, {"decisive": table}, f"{machine()}; scenes of seed {UNSEEN}")


def main():
    options = parse_arguments(__doc__)
    report(options) if options.what == "report" else measure(options)


if __name__ == "__main__":
    main()
