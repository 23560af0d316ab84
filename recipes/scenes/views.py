"""The study of views: how many, from which layer, with how many nodes.

    OMP_NUM_THREADS=1 python recipes/scenes/views.py measure --out RUN [--part 0/2]    # resumes
    OMP_NUM_THREADS=1 python recipes/scenes/views.py measure --out RUN2 --model FOLDER --depth 6    # the second model
    python recipes/scenes/views.py report --out RUN [--second RUN2 --depth 6]    # into docs/explanation/study

``forwards`` counts the passes of the image tower: each view has one for its trace and, for each node, two for the
blocks above the layer and a third of one for those below, whose special tokens alone are computed. ``median gap`` and
``90th`` are percentiles of the completeness gap, relative to the change of the score. ``error`` is the sum of the
absolute differences from the map of 24 midpoints, over the sum of its absolute scores.
"""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from runs import SEED, Setting, collect, kept, machine, paired_test, parse_arguments, run, scenes, stored, write_tables
from study import table

import nibt
from nibt.evaluation.statistics import interval

matplotlib.use("Agg")
from matplotlib import pyplot as plt

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
SHOWN = ["pointing_game", "average_precision", "energy", "own_object", "confidence_drop"]
TRUE = ("pointing_game", "average_precision", "energy", "own_object")
RULES = {
    f"{rule} {steps}": (rule, steps)
    for rule, steps in (
        *(("gauss", steps) for steps in (2, 3, 4)),
        *(("midpoint", steps) for steps in (2, 3, 4, 5)),
    )
}
CONVERGED = 24  # midpoints
SHARES = (0.65, 0.75, 1.0)
"""The shares of the depth of layers."""


def nib(views, layer, rule, depth=12):
    quadrature, steps = RULES[rule]
    options = {"views": views, "layer": str(layer), "baseline": "blank", "quadrature": quadrature, "steps": steps}
    return Setting("image", options=options, depth=depth)


def default(depth=12):
    return nib(3, depth, "midpoint 4", depth)


def fast(depth=12):
    return nib(1, depth, "midpoint 3", depth)


def sweep(depth):
    """Rules with three views, then views, and layers, with the rule of the default."""
    chosen = [nib(3, depth, rule, depth) for rule in RULES]
    chosen += [nib(views, depth, rule, depth) for rule in ("midpoint 3", "midpoint 4") for views in (1, 2, 3, 4, 5)]
    chosen += [nib(views, round(share * depth), "midpoint 4", depth) for share in SHARES for views in (1, 3)]
    return unique(chosen)


WORD_RULES = [("gauss", steps) for steps in (6, 8)] + [("midpoint", steps) for steps in (4, 5, 6, 8)]
WORDS_BEFORE = ("midpoint", 4)
"""nibt's rule for words until six midpoints replaced it; the variant ``fast`` has it."""


def words(rule, data="one"):
    """The text side, where views have no meaning, and whose steps are the rest of the cost."""
    options = {"layer": "0", "baseline": "blank", "quadrature": rule[0], "steps": rule[1]}
    return Setting("text", options=options, data=data)


def words_table(records):
    """The words' own metrics by the rule, with the p of the difference from the rule before."""
    heads = ["rule", "AUC of words", "AUC p", "absent negative", "absent p", "median gap", "90th", "forwards"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for rule in WORD_RULES:
        cells = []
        for data, metric in (("one", "word_auc"), ("absent", "absent_words")):
            values, before = (records[words(one, data).key]["values"][metric] for one in (rule, WORDS_BEFORE))
            p = "" if rule == WORDS_BEFORE else f"{paired_test(values, before):.2g}"
            cells += ["{:.3f} [{:.3f}, {:.3f}]".format(*interval(values)), p]
        cells += gaps(records[words(rule).key])
        lines.append(f"| {rule[0]} {rule[1]} | {' | '.join(cells)} | {words(rule).cost:.1f} |")
    return "\n".join(lines)


def settings(depth):
    """All of the study; what tells most comes first."""
    chosen = [default(depth), fast(depth)]
    chosen += [words(rule, data) for rule in WORD_RULES for data in ("one", "absent")]
    return unique([*chosen, *sweep(depth)])


def unique(settings):
    """Each setting once, in their order."""
    return list({setting.key: setting for setting in settings}.values())


def short(setting):
    options = setting.options
    rule = next(name for name, rule in RULES.items() if rule == (options["quadrature"], options["steps"]))
    views = "1 view" if options["views"] == 1 else f"{options['views']} views"
    return f"{views}, layer {options['layer']}, {rule}"


def errors(model, chosen, path, count):
    """The distance of each map from the converged one of the same views and layer, on the first scenes."""
    done, pairs = stored(path), scenes("few", count)
    images, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]

    @cache
    def maps(**options):
        image_options = {f"image_{name}": value for name, value in options.items()}
        answers = nibt.explain(model, images, captions, batch_size=50, text_steps=1, **image_options)
        return [answer.grid for answer in answers]

    for setting in chosen:
        if (key := f"error {setting.key}") in done or setting.side != "image":
            continue
        converged = maps(**setting.options | {"quadrature": "midpoint", "steps": CONVERGED})
        pairs_of_maps = zip(maps(**setting.options), converged, strict=True)
        values = [float((grid - best).abs().sum() / best.abs().sum()) for grid, best in pairs_of_maps]
        kept(path, {"key": key, "values": {"error": values}})
        print(key, round(sum(values) / len(values), 3), flush=True)


def gaps(record):
    """The median and the 90th percentile of the completeness gap."""
    return [f"{number:.3f}" for number in np.quantile(record["values"]["completeness_gap"], [0.5, 0.9])]


def rows_with_gaps(records, named):
    """A table of settings with what their sums miss."""
    head, line, *rows = table(records, named, SHOWN, digits=3).splitlines()
    lines = [f"{head} median gap | 90th | error |", f"{line}---|---|---|"]
    for row, (_, setting) in zip(rows, named, strict=True):
        error = records.get(f"error {setting.key}")
        mean = "" if error is None else f"{np.mean(error['values']['error']):.3f}"
        lines.append(f"{row} {' | '.join(gaps(records[setting.key]))} | {mean} |")
    return "\n".join(lines)


def plot(records):
    """Quality against cost, a line per rule."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for panel, metric, title in zip(panels, TRUE, ("pointing", "AP"), strict=False):
        for rule in ("midpoint 3", "midpoint 4"):
            same_rule = [one for one in sweep(12) if short(one).endswith(f"layer 12, {rule}")]
            points = sorted((one.cost, interval(records[one.key]["values"][metric])[0]) for one in same_rule)
            panel.plot(*zip(*points, strict=True), marker="o", markersize=4, label=f"{rule}, 1 to 5 views")
        for name, one, mark in (("default", default(), "*"), ("fast", fast(), "s")):
            value = interval(records[one.key]["values"][metric])[0]
            panel.plot(one.cost, value, mark, color="black", markersize=10, label=name)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("forward passes of the image tower", fontsize=9)
        panel.grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    STUDY.mkdir(exist_ok=True)
    figure.savefig(STUDY / "views.png", dpi=110)
    plt.close(figure)


def report(options):
    records = collect(options.out, "views")
    plot(records)

    def rows(named):
        return rows_with_gaps(records, [(name, one) for name, one in named if one.key in records])

    parts = {
        "views-sweep": rows([(short(one), one) for one in sweep(12)]),
        "views-words": words_table(records),
    }
    if options.second:
        parts["views-second-words"] = words_table(collect(options.second, "views"))
    write_tables(STUDY, parts, f"{machine()}; scenes of seed {SEED}")


def main():
    def extend(parser):
        parser.add_argument(
            "--depth", type=int, default=12, help="blocks of the image tower of the model (report: of the second)"
        )
        parser.add_argument("--second", type=Path, help="report: the runs of the second model")

    options = parse_arguments(__doc__, extend)
    if options.what == "report":
        report(options)
        return
    path = options.out / f"views-{options.part}.jsonl"
    chosen, model = settings(options.depth), nibt.load_model(options.model)
    run(model, chosen, path, options.count, (options.part, options.parts))
    errors(model, chosen[options.part :: options.parts], path, options.count)


if __name__ == "__main__":
    main()
