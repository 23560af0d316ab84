"""Do parts of evidence find a planted cue? On models whose reason is known, with the pixels of the cue.

    OMP_NUM_THREADS=1 python recipes/scenes/parts.py measure --models MODELS --out RUN [--count 200]
    python recipes/scenes/parts.py report --out RUN    # prints the table, and writes docs/explanation/study/parts.csv

With masks, the parts of ``nibt.parts`` are ranked as it does, shortcuts first; without, by their share of the score. A
part's purity is the share of its score on cells of which the cue covers more than 5 %. The settings of ``CHOSEN_ON``
were looked at, on other scenes, when the number of clusters, their division by masks, and the thresholds were chosen;
``badge`` and ``frame`` (``cues.py``) and those of ``background`` and ``companion`` were not.
"""

import time
from pathlib import Path

import cues  # noqa: F401 - which adds its kinds to SHORTCUTS
import numpy as np
import torch
from audits import pairs_of
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, stored, write_csv
from shortcut import SHORTCUTS, interventions, mixed, planted, share

import nibt
from nibt.data.ground_truth import covered_share
from nibt.datasets.scenes import Scenes
from nibt.evaluation.maps import maps
from nibt.evaluation.parts import COUNT, DEPTH
from nibt.evaluation.parts.evidence import evidence_cells
from nibt.evaluation.parts.groups import grouped, object_cells
from nibt.evaluation.statistics import jackknife
from nibt.registry import MethodSpec

FULL = ("mark", "text", "background", "companion", "frame", "badge")
HALF = ("mark", "text", "background", "companion", "frame")
HONEST = ("one", "framed", "logo", "printed", "placed")
CHOSEN_ON = ("mark", "text", "half mark", "half text", "honest one", "honest framed", "honest logo", "honest printed")
PURE, COVERED = 0.8, 0.05
CSV = Path(__file__).parents[2] / "docs" / "explanation" / "study" / "parts.csv"


def settings():
    """Each model with the pairs it is asked about: (model, pairs)."""
    return [
        *((kind, kind) for kind in FULL),
        ("scenes", "one"),
        *(("honest", kind) for kind in HONEST),
        *((f"half {kind}", kind) for kind in HALF),
        *(("honest", kind) for kind in ("mark", "text")),
    ]


def loaded(name, models):
    if name == "scenes":
        return nibt.load_model("scenes")
    kind = name.removeprefix("half ")
    folder = models / f"{kind}-1"
    return mixed(folder, 0.5) if name.startswith("half ") else nibt.load_model(folder)


def is_cue_setting(name, kind):
    return kind in SHORTCUTS and name not in ("scenes", "honest")


def purities(groups, cells, cue):
    """The share of each part's score on cells that the cue covers."""
    on_cue = np.array([cue[item].flat[place] > COVERED for item, place in zip(cells.images, cells.places, strict=True)])
    weights = [cells.weights[group.chosen] for group in groups]
    return [float((own * on_cue[group.chosen]).sum() / own.sum()) for own, group in zip(weights, groups, strict=True)]


def by_share(groups, cells):
    return sorted(groups, key=lambda group: -cells.weights[group.chosen].sum())


def measured(model, kind, count, seed, has_cue):
    """What is kept of a setting."""
    data = Scenes(count=count, seed=seed, fewest=2, most=3, named="one")
    pairs = pairs_of(kind, count, seed)
    images = [pair.image for pair in pairs]
    image_maps = maps(model, pairs, MethodSpec.parse("nib:fast"), "image", 0)
    layer = model.image.relative(DEPTH)
    cells = evidence_cells(model, images, image_maps, layer, 16, "nib:fast")

    started = time.perf_counter()
    result = nibt.parts(model, pairs)
    seconds = time.perf_counter() - started
    with_masks = grouped(cells, object_cells(pairs, cells.regions, cells.shape), COUNT, 0)
    matched = [min(with_masks, key=lambda group: distance(part, group)) for part in result.parts]
    record = {
        "seconds": seconds,
        "verdicts": [part.verdict for part in result.parts],
        "shares": [part.share for part in result.parts],
        "needed": [part.needed and [part.needed.value, part.needed.beyond_random_low] for part in result.parts],
        "names": [part.name for part in result.parts],
        "stability": [part.stability for part in result.parts],
    }
    if has_cue:
        scenes = [planted(kind, data, item) for item in range(count)]
        cue = [covered_share(torch.from_numpy(scene.of_shortcut), cells.shape).numpy() for scene in scenes]
        without = by_share(grouped(cells, None, COUNT, 0), cells)
        record["with"] = purities(matched, cells, cue)
        record["without"] = purities(without, cells, cue)
        record["truth"] = list(jackknife(interventions(model, scenes), share))
        if result.shortcuts:
            used = nibt.used_share(model, pairs, result)
            record["used"] = [used.value, used.low, used.high]
            record["used_pairs"] = used.count
    return record


def distance(part, group):
    return float(np.abs(part.center.numpy() - group.center).sum())


def measure(options):
    torch.set_num_threads(1)
    path = options.out / f"parts-{options.part}.jsonl"
    for number, (name, kind) in enumerate(settings()):
        key = f"{name}|{kind}"
        if number % options.parts != options.part or key in stored(path):
            continue
        if name != "scenes" and not (options.models / f"{name.removeprefix('half ')}-1" / "model.safetensors").exists():
            continue
        has_cue = is_cue_setting(name, kind)
        model = loaded(name, options.models)
        record = measured(model, kind, options.count, UNSEEN + 7, has_cue)
        kept(path, {"key": key, **record})
        print(
            key, [round(value, 2) for value in record.get("with", ())], record["verdicts"].count("shortcut"), flush=True
        )


def rank(purities):
    """The place of the first part that is pure, from 1; nothing if there is none."""
    return next((str(place) for place, value in enumerate(purities, 1) if value >= PURE), "-")


def ends(values):
    return "-" if values is None else "{:.2f} [{:.2f}, {:.2f}]".format(*values)


HEADINGS = ("model", "pairs", "chosen on", "cue used", "with masks: pure part", "without masks: pure part")
HEADINGS += ("largest purity without", "shortcuts", "share of shortcuts", "names of shortcuts", "used share by parts")


def rows(records):
    for key, record in records.items():
        name, kind = key.split("|")
        of_cue = "truth" in record
        shortcuts = [place for place, verdict in enumerate(record["verdicts"]) if verdict == "shortcut"]
        names = [record["names"][place] for place in shortcuts if record["names"][place]]
        yield {
            "model": name,
            "pairs": kind,
            "chosen on": "yes" if (name if of_cue else f"{name} {kind}") in CHOSEN_ON else "no",
            "cue used": ends(record.get("truth")),
            "with masks: pure part": rank(record["with"]) if of_cue else "",
            "without masks: pure part": rank(record["without"]) if of_cue else "",
            "largest purity without": f"{max(record['without'][:5]):.2f}" if of_cue else "",
            "shortcuts": str(len(shortcuts)),
            "share of shortcuts": f"{sum(record['shares'][place] for place in shortcuts):.2f}",
            "names of shortcuts": ", ".join(names) or "-",
            "used share by parts": ends(record.get("used")),
        }


def report(options):
    table = list(rows(collect(options.out, "parts")))
    print(f"{machine()}; {options.count} scenes of seed {UNSEEN + 7}\n")
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for row in table:
        print(f"| {' | '.join(row.values())} |")
    write_csv(CSV, HEADINGS, table)


def extend(parser):
    parser.add_argument("--models", type=Path, help="the folder of the models")


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, extend)
    {"measure": measure, "report": report}[arguments.what](arguments)
