"""The study of views: how many, at which layer, with how many nodes; what they show beyond the image; how maps blend.

    OMP_NUM_THREADS=1 python recipes/scenes/views.py measure --out RUN [--part 0/2]    # resumes
    OMP_NUM_THREADS=1 python recipes/scenes/views.py measure --out RUN2 --model FOLDER --depth 6    # the second model
    python recipes/scenes/views.py report --out RUN [--second RUN2]    # into docs/explanation/study.md

``forwards`` counts the passes of the image tower: each view has one for its trace and two for each node, of which the
blocks above the layer are a part. Names of rules: ``late`` is one node at two thirds of the path, ``gauss n`` has n
nodes.
"""

from pathlib import Path

import matplotlib
from runs import SEED, Setting, collect, filled, machine, paired_test, parse_arguments, run
from study import table

import nibt
from nibt.evaluation.statistics import interval

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parents[2] / "docs" / "explanation"
SHOWN = ["pointing_game", "average_precision", "energy", "own_object", "confidence_drop", "completeness_gap"]
TRUE = ("pointing_game", "average_precision", "energy", "own_object")
RULES = {"late": ("late", 1), "gauss 1": ("gauss", 1), "gauss 2": ("gauss", 2), "gauss 4": ("gauss", 4)}
POSITIONS = (0.35, 0.5, 0.6, 0.75, 0.85, 1.0)
HIGHEST = 14  # forward passes of the dearest settings
SHARES = {7: 0.6, 8: 0.65, 9: 0.75}
"""The share of the depth that a layer of 12 blocks is, for models of another depth."""


def nib(views, layer, rule, depth=12, **changes):
    quadrature, steps = RULES[rule]
    options = {"views": views, "layer": str(layer), "baseline": "blank", "quadrature": quadrature, "steps": steps}
    return Setting("image", options=options, changes=changes, depth=depth)


def sweep(depth):
    """Views x layers x rules, up to the cost that the study looks at."""
    layers = sorted({round(share * depth) for share in SHARES.values()})
    rules = [(views, rule) for views in (1, 2, 3, 5, 7) for rule in ("late", "gauss 2")]
    rules += [(views, rule) for views in (1, 2, 3) for rule in ("gauss 1", "gauss 4")]
    chosen = [
        nib(views, layer, rule, depth)
        for views, rule in sorted(rules, key=lambda one: (one[1] != "late", one))
        for layer in (layers[:2] if rule == "gauss 4" else layers)
    ]
    return [setting for setting in chosen if setting.cost < HIGHEST]


def default(depth=12, **changes):
    return nib(3, round(0.65 * depth), "late", depth, **changes)


def before(depth=12):
    """nibt's default until views came."""
    return nib(1, round(0.6 * depth), "gauss 4", depth)


def further():
    """Other layers and numbers of views for the default's rule."""
    return [nib(3, layer, "late") for layer in (6, 10)] + [nib(4, 8, "late")]


def positions():
    return {f"{position:g}": default(position=position) for position in POSITIONS} | {"2/3 (nibt)": default()}


def fills():
    return {"mean color (nibt)": default(), **{name: default(fill=name) for name in ("edge", "reflect")}}


def blends():
    return {
        "overlap, 3 cells (nibt)": default(),
        "overlap, 1 cell": default(finest=1),
        "overlap, 2 cells": default(finest=2),
        **{name: default(blend=name) for name in ("bilinear", "smoothed", "least squares", "keeping sums")},
    }


WORD_RULES = [("gauss", steps) for steps in (4, 5, 6, 8)] + [("midpoint", steps) for steps in (3, 4, 5)]
WORDS_BEFORE = ("gauss", 6)
"""nibt's rule for words until four midpoints replaced it."""


def words(rule, data="one"):
    """The text side, where views have no meaning, and whose steps are the rest of the cost."""
    options = {"layer": "0", "baseline": "blank", "quadrature": rule[0], "steps": rule[1]}
    return Setting("text", options=options, data=data)


def words_table(records):
    """The words' own metrics by the rule, with the p of the difference from the rule before."""
    lines = ["| rule | AUC of words | p | absent negative | p | forwards |", "|---|---|---|---|---|---|"]
    for rule in WORD_RULES:
        cells = []
        for data, metric in (("one", "word_auc"), ("absent", "absent_words")):
            values, before = (records[words(one, data).key]["values"][metric] for one in (rule, WORDS_BEFORE))
            p = "" if rule == WORDS_BEFORE else f"{paired_test(values, before):.2g}"
            cells += ["{:.3f} [{:.3f}, {:.3f}]".format(*interval(values)), p]
        lines.append(f"| {rule[0]} {rule[1]} | {' | '.join(cells)} | {words(rule).cost:.1f} |")
    return "\n".join(lines)


def settings(depth):
    """All of the study; what tells most comes first."""
    chosen = [default(depth), before(depth)]
    chosen += [words(rule, data) for rule in WORD_RULES for data in ("one", "absent")]
    if depth == 12:
        chosen += [*positions().values(), *fills().values(), *blends().values()]
        return unique([*chosen, *sweep(depth), *further()])
    return unique([*chosen, *sweep(depth)])


def unique(settings):
    """Each setting once, in their order."""
    return list({setting.key: setting for setting in settings}.values())


def short(setting):
    options = setting.options
    rule = next(name for name, rule in RULES.items() if rule == (options["quadrature"], options["steps"]))
    views = "1 view" if options["views"] == 1 else f"{options['views']} views"
    return f"{views}, layer {options['layer']}, {rule}"


def worse(records, setting, other):
    """Whether a setting is worse than another in a truth metric, at p < 0.01."""
    pairs = [[records[one.key]["values"][name] for one in (setting, other)] for name in TRUE]
    return any(sum(ours) < sum(theirs) and paired_test(ours, theirs) < 0.01 for ours, theirs in pairs)


def choices(records, depth):
    """The settings that the study names, of those that were measured."""
    known = [one for one in settings(depth) if one.key in records and one.side == "image" and not one.changes]
    alike = [one for one in known if not worse(records, one, before(depth))]
    under = [one for one in known if one.cost < 12]
    sharp = max(under, key=lambda one: interval(records[one.key]["values"]["average_precision"])[0])
    named = {
        "before": before(depth),
        "default": default(depth),
        "cheapest, in no metric worse than before": min(alike, key=lambda one: one.cost),
        "largest AP below 12 forwards": sharp,
    }
    return [(f"{name}: {short(setting)}", setting) for name, setting in named.items()]


def plot(records):
    """Quality against cost, a line per rule."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for panel, metric, title in zip(panels, TRUE, ("pointing", "AP"), strict=False):
        for rule in RULES:
            own = [one for one in sweep(12) if short(one).endswith(rule) and one.key in records]
            best = _front([(one.cost, interval(records[one.key]["values"][metric])[0]) for one in own])
            if best:
                panel.plot(*zip(*best, strict=True), marker="o", markersize=4, label=rule)
        for name, one, mark in (("default", default(), "*"), ("before", before(), "s")):
            value = interval(records[one.key]["values"][metric])[0]
            panel.plot(one.cost, value, mark, color="black", markersize=10, label=name)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("forward passes of the image tower", fontsize=9)
        panel.grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    (DOCS / "study").mkdir(exist_ok=True)
    figure.savefig(DOCS / "study" / "views.png", dpi=110)
    plt.close(figure)


def _front(points):
    """The points that no other point beats in both cost and value."""
    kept = []
    for cost, value in sorted(points):
        if not kept or value > kept[-1][1]:
            kept.append((cost, value))
    return kept


def report(options):
    records = collect(options.out, "views")
    plot(records)

    def rows(named):
        return table(records, [(name, one) for name, one in named if one.key in records], SHOWN, digits=3)

    parts = {
        "views choices": rows(choices(records, 12)),
        "views sweep": rows([(short(one), one) for one in [*sweep(12), *further()]]),
        "views positions": rows(positions().items()),
        "views fill": rows(fills().items()),
        "views blending": rows(blends().items()),
        "views words": words_table(records),
    }
    if options.second:
        second = collect(options.second, "views")
        known = [(short(one), one) for one in sweep(options.depth) if one.key in second]
        chosen = choices(second, options.depth)
        parts["views second"] = table(second, [*chosen, *known], SHOWN, digits=3)
        parts["views second words"] = words_table(second)
    parts = {name: f"\n\n{content}\n\n" for name, content in parts.items()}
    parts["views machine"] = f"{machine()}; scenes of seed {SEED}"
    filled(DOCS / "study.md", parts)


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
    chosen = settings(options.depth)
    run(nibt.load_model(options.model), chosen, path, options.count, (options.part, options.parts))


if __name__ == "__main__":
    main()
