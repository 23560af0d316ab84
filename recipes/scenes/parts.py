"""Do parts of evidence find a planted cue? On models whose reason is known, with the pixels of the cue.

    OMP_NUM_THREADS=1 python recipes/scenes/parts.py measure --models MODELS --out RUN [--count 200]
    python recipes/scenes/parts.py report --out RUN    # prints the table, and writes docs/explanation/study/parts.csv
    python recipes/scenes/parts.py measure --scenes 31 --models MODELS --out NEW    # other scenes, and report
    python recipes/scenes/parts.py measure --audits --models MODELS --out RUN --count 144    # and report --audits

With masks, the parts of ``nibt.parts`` are in its order; without, the largest come first. A
part's purity is the share of its score on cells of which the cue covers more than 5 %. The settings of ``CHOSEN_ON``
were looked at, on other scenes, when the number of clusters, their division by masks, and the thresholds were chosen;
``badge`` and ``frame`` (``cues.py``) and those of ``background`` and ``companion`` were not.

With ``--audits``, the tenth question of an audit is answered as ``nibt audit`` does, with maps of ``nib``, on other
scenes, on which nothing was chosen. Audits of ``SIZES`` pairs are of pairs in a row, without overlap.
"""

import csv
import os
import time
from pathlib import Path

import cues  # noqa: F401 - which adds its kinds to SHORTCUTS
import numpy as np
import torch
from audits import pairs_of
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, print_table, stored, write_csv
from shortcut import SHORTCUTS, interventions, mixed, planted, share

import nibt
from nibt.data.ground_truth import covered_share
from nibt.datasets.scenes import Scenes
from nibt.evaluation.finished import NOTHING_FINISHED
from nibt.evaluation.maps import maps
from nibt.evaluation.parts.evidence import evidence_cells
from nibt.evaluation.parts.found import DEPTH, default_count, found_parts
from nibt.evaluation.parts.groups import grouped, object_cells
from nibt.evaluation.statistics import interval, jackknife
from nibt.registry import MethodSpec

FULL = ("mark", "text", "background", "companion", "frame", "badge", "sticker", "texture", "two", "tint")
HONEST = ("one", "framed", "logo", "printed", "placed")
SEEDS = (1, 2, 3)
"""The seeds of the trainings of each kind."""
CHOSEN_ON = ("mark", "text", "half mark", "half text", "honest one", "honest framed", "honest logo", "honest printed")
PURE, COVERED = 0.8, 0.05
SCENES = 7
"""The scenes of the table."""
CSV = Path(__file__).parents[2] / "docs" / "explanation" / "study" / "parts.csv"


def settings(models):
    """Each model that is there with the pairs it is asked about: (model, pairs)."""
    listed = [("scenes", "one")]
    for seed in SEEDS:
        listed += [(f"{kind}-{seed}", kind) for kind in FULL]
        listed += [(f"honest-{seed}", kind) for kind in (*HONEST, "mark", "text")]
        listed += [(f"half {kind}-{seed}", kind) for kind in FULL]
    return [(name, kind) for name, kind in listed if name == "scenes" or folder_of(name, models).exists()]


def folder_of(name, models):
    return models / name.removeprefix("half ") / "model.safetensors"


def loaded(name, models):
    if name == "scenes":
        return nibt.load_model("scenes")
    folder = folder_of(name, models).parent
    return mixed(folder, 0.5) if name.startswith("half ") else nibt.load_model(folder)


def without_seed(name):
    return name.rpartition("-")[0] or name


def is_cue_setting(name, kind):
    return kind in SHORTCUTS and without_seed(name) not in ("scenes", "honest")


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
    with_masks = grouped(cells, object_cells(pairs, cells.regions, cells.shape), default_count(count), 0)
    matched = [min(with_masks, key=lambda group: distance(part, group)) for part in result.parts]
    record = {
        "seconds": seconds,
        "verdicts": [part.verdict for part in result.parts],
        "shares": [part.share for part in result.parts],
        "needed": [part.needed and [part.needed.value, part.needed.low, part.needed.high] for part in result.parts],
        "names": [part.name for part in result.parts],
        "stability": [part.stability for part in result.parts],
    }
    if has_cue:
        scenes = [planted(kind, data, item) for item in range(count)]
        cue = [covered_share(torch.from_numpy(scene.of_shortcut), cells.shape).numpy() for scene in scenes]
        without = by_share(grouped(cells, None, default_count(count), 0), cells)
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
    for number, (name, kind) in enumerate(settings(options.models)):
        key = f"{name}|{kind}"
        if number % options.parts != options.part or key in stored(path):
            continue
        has_cue = is_cue_setting(name, kind)
        model = loaded(name, options.models)
        record = measured(model, kind, options.count, UNSEEN + options.scenes, has_cue)
        kept(path, {"key": key, **record})
        print(
            key, [round(value, 2) for value in record.get("with", ())], record["verdicts"].count("shortcut"), flush=True
        )


SIZES = (24, 48)
"""The numbers of pairs of audits."""
METHOD = "nib"
"""The method of audits."""


def audited(model, kind, count, seed):
    """The verdicts and the effects of the parts of each audit, by the number of pairs."""
    pairs = pairs_of(kind, count, seed)
    image_maps = maps(model, pairs, MethodSpec.parse(METHOD), "image", 0)
    audits = {}
    for size in SIZES:
        for first in range(0, count - size + 1, size):
            found = found_parts(
                model,
                pairs[first : first + size],
                image_maps[first : first + size],
                METHOD,
                layer=model.image.relative(DEPTH),
                count=default_count(size),
                texts=[],
                seed=0,
                batch_size=16,
                data={},
                versions={},
                finished=NOTHING_FINISHED,
            )
            rows = [
                {
                    "verdict": part.verdict,
                    "on_objects": part.on_objects,
                    "share": part.share,
                    "images": part.images,
                    "needed": part.needed and [part.needed.value, part.needed.low, part.needed.high],
                }
                for part in found.parts
            ]
            audits.setdefault(str(size), []).append(rows)
    return audits


def measure_audits(options):
    torch.set_num_threads(1)
    path = options.out / f"part-audits-{options.part}.jsonl"
    half_last = sorted(settings(options.models), key=lambda setting: setting[0].startswith("half "))
    for number, (name, kind) in enumerate(half_last):
        key = f"{name}|{kind}"
        if number % options.parts != options.part or key in stored(path):
            continue
        started = time.perf_counter()
        audits = audited(loaded(name, options.models), kind, options.count, UNSEEN + 12)
        kept(path, {"key": key, "audits": audits})
        fails = {
            size: sum(any(row["verdict"] == "shortcut" for row in one) for one in rows) for size, rows in audits.items()
        }
        print(key, fails, f"{time.perf_counter() - started:.0f} s", flush=True)


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
            "chosen on": "yes"
            if (without_seed(name) if of_cue else f"{without_seed(name)} {kind}") in CHOSEN_ON
            else "no",
            "cue used": ends(record.get("truth")),
            "with masks: pure part": rank(record["with"]) if of_cue else "",
            "without masks: pure part": rank(record["without"]) if of_cue else "",
            "largest purity without": f"{max(record['without'][:5]):.2f}" if of_cue else "",
            "shortcuts": str(len(shortcuts)),
            "share of shortcuts": f"{sum(record['shares'][place] for place in shortcuts):.2f}",
            "names of shortcuts": ", ".join(names) or "-",
            "used share by parts": ends(record.get("used")),
        }


def by_kind(table):
    """One row for each kind of model and pairs; its values are those of the models, in the order of their seeds."""
    kinds = {}
    for row in table:
        kinds.setdefault((without_seed(row["model"]), row["pairs"], row["chosen on"]), []).append(row)

    for (name, pairs, chosen), of_kind in kinds.items():
        joined = {heading: ", ".join(row[heading].split(" [")[0] for row in of_kind) for heading in HEADINGS[3:]}
        yield {"model": name, "pairs": pairs, "chosen on": chosen, **joined}


def is_within(text, last):
    return text != "-" and int(text) <= last


def print_goals(table):
    """How many models reach what was asked for, on kinds on which nothing was chosen and on all.

    A tint is in all cells alike, so that each part is purely of it: it is not counted.
    """
    of_cue = [row for row in table if row["cue used"] != "-" and row["pairs"] != "tint"]
    groups = {
        "full cues used for more than 0.6": [row for row in of_cue if float(row["cue used"][:4]) > 0.6],
        "cues used for 0.3 to 0.6": [row for row in of_cue if 0.3 <= float(row["cue used"][:4]) <= 0.6],
    }
    for title, group in groups.items():
        for heading, last in (("with masks: pure part", 3), ("without masks: pure part", 5)):
            for chosen in (("no",), ("yes", "no")):
                hits = [float(is_within(row[heading], last)) for row in group if row["chosen on"] in chosen]
                if hits:
                    label = "nothing chosen on" if len(chosen) == 1 else "all"
                    low, high = interval(hits)[1:]
                    share = f"{sum(hits):.0f} of {len(hits)} [{low:.2f}, {high:.2f}]"
                    print(f"{title}, {label}: {heading} among the first {last}: {share}")

    honest = [float(int(row["shortcuts"]) > 0) for row in table if row["cue used"] == "-"]
    print("models without a cue that have a shortcut:", failing([[{"verdict": "shortcut"}] * bool(v) for v in honest]))


def with_earlier(table, path):
    """The rows, and those of the documents' table of models that this run does not have."""
    measured = {(row["model"], row["pairs"]) for row in table}
    with path.open(newline="") if path.exists() else open(os.devnull) as file:
        earlier = [row for row in csv.DictReader(file) if (row["model"], row["pairs"]) not in measured]
    return sorted([*earlier, *table], key=lambda row: (row["model"].startswith("half "), row["model"] != "scenes"))


def report(options):
    path = CSV if options.scenes == SCENES else CSV.with_name("parts_new_scenes.csv")
    table = with_earlier(list(rows(collect(options.out, "parts"))), path)
    print(f"{machine()}; {options.count} scenes of seed {UNSEEN + options.scenes}\n")
    print_table(HEADINGS, by_kind(table))
    print()
    print_goals(table)
    write_csv(path, HEADINGS, table)


def failing(audits):
    """How many audits fail, with the interval of their share."""
    fails = [float(any(row["verdict"] == "shortcut" for row in rows)) for rows in audits]
    low, high = interval(fails)[1:]
    return f"{sum(fails):.0f} of {len(fails)} [{low:.2f}, {high:.2f}]"


def group_of(key):
    """The group of a setting, in which its audits are also counted together."""
    name, kind = key.split("|")
    if not is_cue_setting(name, kind):
        return "all without a cue"
    return "all half" if name.startswith("half ") else "all full"


AUDIT_HEADINGS = ("model", "pairs", *(f"{size} pairs: fail" for size in SIZES))
AUDIT_CSV = CSV.with_name("part_audits.csv")


def report_audits(options):
    by_group = {}
    for key, record in collect(options.out, "part-audits").items():
        for group in (tuple(key.split("|")), (group_of(key), "")):
            of_group = by_group.setdefault(group, {str(size): [] for size in SIZES})
            for size, audits in record["audits"].items():
                of_group[size] += audits

    table = []
    for (name, kind), by_size in sorted(by_group.items(), key=lambda row: row[0][0].startswith("all")):
        cells = (name, kind, *map(failing, by_size.values()))
        table.append(dict(zip(AUDIT_HEADINGS, cells, strict=True)))

    print(f"{machine()}; {options.count} scenes of seed {UNSEEN + 12}\n")
    print_table(AUDIT_HEADINGS, table)
    write_csv(AUDIT_CSV, AUDIT_HEADINGS, table)


def extend(parser):
    parser.add_argument("--models", type=Path, help="the folder of the models")
    parser.add_argument(
        "--scenes", type=int, default=SCENES, help="which scenes; those by default decided the order of the parts"
    )
    parser.add_argument("--audits", action="store_true", help="the tenth question of audits")


def main():
    options = parse_arguments(__doc__, extend)
    both = (measure_audits, report_audits) if options.audits else (measure, report)
    both[options.what == "report"](options)


if __name__ == "__main__":
    main()
