"""Maps of late interaction on scenes whose truth is known: similarity maps beside NIB, occlusion and others.

    OMP_NUM_THREADS=1 python recipes/scenes/late_maps.py measure --model FOLDER --out RUN [--part 0/2]   # resumes
    python recipes/scenes/late_maps.py report --model FOLDER --out RUN

FOLDER is the model that `train.py --network late` and `export.py --network late` make. The caption names one of two or
three objects; the map is that of the whole caption, prompt included.
"""

from dataclasses import dataclass
from pathlib import Path

from runs import (
    NAMES,
    TRUTH,
    Setting,
    collect,
    csv_text,
    machine,
    paired_test,
    parse_arguments,
    rows_of,
    run,
    scenes_of,
)

import nibt
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.engine.encode import encode
from nibt.engine.spec import Request, resolve
from nibt.evaluation.statistics import holm, interval
from nibt.registry import MethodSpec

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "results" / "late_interaction.md"
SHOWN = ("method", "views", "pointing", "AP", "energy", "forwards")
ABOUT = """# Maps of late interaction

This page compares methods on a small `ColPaliForRetrieval` that was trained on drawn scenes of 64 nouns
([recipe](../../../recipes/scenes/README.md#a-network-with-late-interaction)). In a share of
{first} of 500 scenes with a single object, the noun of the object has the largest similarity of the 64
nouns.

The table has means over 500 scenes of two or three objects (`occlusion`: the first 300). The caption names one of these
objects.[^run] The file [late_interaction.csv](late_interaction.csv) also has further metrics, each method with one
view, and 95 % intervals. In this file, `*` marks a difference from the similarity map with one view (paired test with
Holm's correction, p < 0.05). The [glossary](../../explanation/glossary.md) explains pointing, AP and energy; `forwards`
is the cost in forward passes.

{table}

[^run]: {note}. `python recipes/scenes/late_maps.py measure --model FOLDER --out RUN`, then `report`.
"""
METHODS = (
    "similarity_map",
    "nib",
    "grad_eclip",
    "gae",
    "legrad",
    "grad_cam",
    "occlusion",
    "center",
    "random",
)
PATCHES = 64
VALIDATION = 2  # the seed of the scenes on which the model is judged


@dataclass(frozen=True)
class LateSetting(Setting):
    """A setting with metrics of the order of the pixels besides those of the truth."""

    @property
    def metrics(self):
        return [*TRUTH["image"], "deletion", "insertion"]


def settings():
    """Each method with one view and with three; occlusion of 3 views has the first scenes only."""
    single = [LateSetting("image", method, options={"views": 1}) for method in METHODS]
    several = [
        LateSetting("image", method, options={"views": 3}, data="few" if method == "occlusion" else "one")
        for method in METHODS
        if method not in ("center", "random")
    ]
    return [*single, *several]


def forwards(model, setting):
    spec = resolve(model, Request(MethodSpec(setting.method, options=setting.options)))
    return spec.methods["image"].forwards(model.image.depth, PATCHES)


def zero_shot(model, count=500):
    """The share of scenes with one object whose noun has the largest similarity among all nouns."""
    data = Scenes(seed=VALIDATION, fewest=1, most=1, count=count)
    images = encode(model.image, [data[item].image for item in range(count)])
    nouns = encode(model.text, [with_article(noun) for noun in NOUNS])
    best = model.similarity.to_each(images, nouns).argmax(1).tolist()
    return [float(NOUNS[index] == data.scene(item).names[0]) for item, index in enumerate(best)]


def table(model, records):
    """Means and intervals; a star where the similarity map with one view differs at 0.05 after Holm's correction."""
    shown = [setting for setting in settings() if setting.key in records]
    base = next(setting for setting in shown if setting.method == "similarity_map" and setting.options["views"] == 1)
    metrics, columns = base.metrics, {}
    for metric in metrics:
        values = [records[setting.key]["values"][metric] for setting in shown]
        tested = holm([paired_test(one, records[base.key]["values"][metric]) for one in values])
        columns[metric] = [
            "{:.3f} [{:.3f}, {:.3f}]".format(*interval(one)) + (" *" if p < 0.05 else "")
            for one, p in zip(values, tested, strict=True)
        ]
    heads = ["method", "views", *(NAMES.get(metric, metric) for metric in metrics), "forwards", "scenes"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row, setting in enumerate(shown):
        cells = [setting.method, str(setting.options["views"]), *(columns[metric][row] for metric in metrics)]
        cells += [f"{forwards(model, setting):.1f}", str(scenes_of(records[setting.key]))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(rows, first, note):
    """The page, with some columns of the table, and three views but for the similarity map."""
    columns = [rows[0].index(name) for name in SHOWN]
    short = [row for row in rows if row[1] != "1" or row[0] == "similarity_map"]
    head, *lines = ["| " + " | ".join(row[column] for column in columns) + " |" for row in short]
    return ABOUT.format(first=first, table="\n".join([head, "|---" * len(SHOWN) + "|", *lines]), note=note)


def main():
    options = parse_arguments(__doc__)
    model = nibt.load_model(options.model)
    if options.what == "measure":
        path = options.out / f"late-{options.part}.jsonl"
        run(model, settings(), path, options.count, (options.part, options.parts))
        return
    rows = rows_of(table(model, collect(options.out, "late")))
    PAGE.with_suffix(".csv").write_text(csv_text(rows))
    PAGE.write_text(page(rows, "{:.3f} [{:.3f}, {:.3f}]".format(*interval(zero_shot(model))), machine()))


if __name__ == "__main__":
    main()
