"""The study of layers, baselines, rules, nodes and targets: NIB on 1,000 scenes whose truth is known.

OMP_NUM_THREADS=1 python recipes/scenes/study.py measure --out RUN [--part 0/2]   # resumes; several parts side by side
python recipes/scenes/study.py report --out RUN          # tables and plots: docs/explanation/study
"""

import csv
import math
from pathlib import Path

import matplotlib
import numpy as np
from runs import FEW, NAMES, SEED, Setting, collect, machine, paired_test, parse_arguments, run, write_tables

import nibt
from nibt.evaluation.statistics import interval

matplotlib.use("Agg")
from matplotlib import pyplot as plt

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
DEPTH = 12
TARGETS = ("cosine", "centered")
BASELINES = {"zero": ("geometric", 4), "blank": ("gauss", 4), "mean": ("gauss", 4)}
METRICS = {
    "image": ["pointing_game", "average_precision", "energy", "own_object"],
    "text": ["word_auc", "confidence_drop", "confidence_increase"],
}
CONTRASTED = {"image": (0, 2, 4, 6, 8, 10), "text": (0, 3, 6, 9)}
"""The layers at which the target ``centered`` stands beside the cosine."""


def nib(side, layer, baseline, quadrature, steps, target="cosine", data="one"):
    options = {"layer": str(layer), "baseline": baseline, "quadrature": quadrature, "steps": steps}
    options["distribute"] = False  # the map of one layer alone
    if side == "image":
        options["views"] = 1
    return Setting(side, target=target, options=options, data=data)


def by_layer(side):
    """Every layer toward every baseline, and some with a contrast; images, which cost more, on the first scenes."""
    lines, data = {}, "few" if side == "image" else "one"
    for baseline, (quadrature, steps) in BASELINES.items():
        steps = steps if side == "image" else 2 * steps
        layers = range(DEPTH + (baseline != "zero"))
        lines[baseline, "cosine"] = [nib(side, layer, baseline, quadrature, steps, data=data) for layer in layers]
        if baseline != "zero":
            lines[baseline, "centered"] = [
                nib(side, layer, baseline, quadrature, steps, "centered", data) for layer in CONTRASTED[side]
            ]
    return lines


def finalists():
    """Single layers of the image side that the first scenes do not tell apart: on all scenes."""
    chosen = [(layer, "blank", "cosine") for layer in (4, 5, 6, 7, 8)]
    chosen += [(layer, "mean", "centered") for layer in (4, 6, 8)]
    return [nib("image", layer, baseline, "gauss", 4, target) for layer, baseline, target in chosen]


def by_nodes(side):
    """More and fewer nodes: where nibt narrows, and where the paper does; on the first scenes."""
    own, few = {"image": 7, "text": 0}[side], "few"
    lines = {
        (f"layer {own}, {baseline}, gauss",): [
            nib(side, own, baseline, "gauss", steps, data=few) for steps in (1, 2, 4, 8, 16)
        ]
        for baseline in ("blank", "mean")
    }
    lines["layer 9, zero, geometric",] = [nib(side, 9, "zero", "geometric", n, data=few) for n in (1, 2, 4, 8, 16)]
    lines["layer 9, zero, riemann",] = [nib(side, 9, "zero", "riemann", n, data=few) for n in (5, 10, 20, 40)]
    return lines


AVERAGES = ("2,4,6", "4,6,8", "5,6,7", "3,6,9", "1,2,3,4,5,6", "4,5,6,7,8,9")


def averages(side):
    """Several layers, with few nodes each: their errors average out, too."""
    return [
        nib(side, layers, baseline, "gauss", 2, target)
        for layers in AVERAGES
        for baseline, target in (("blank", "cosine"), ("mean", "centered"))
    ]


PAPER = {side: nib(side, 9, "zero", "riemann", 10) for side in ("image", "text")}


def controls(side):
    """What the published setting and what any map are held against."""
    plain = [Setting(side, method) for method in ("random", "center", "occlusion")]
    return [PAPER[side], *plain, Setting(side, "occlusion", target="centered")]


def negative():
    """Captions that name what is not there: is that word's score negative?"""
    chosen = [
        (layer, baseline, target) for layer in (0, 9) for baseline in ("zero", "blank", "mean") for target in TARGETS
    ]
    return [
        nib("text", layer, baseline, "geometric" if baseline == "zero" else "gauss", 8, target, "absent")
        for layer, baseline, target in chosen
    ] + [Setting("text", "occlusion", data="absent")]


def settings():
    """All of the study; what is quick and tells most comes first."""
    chosen = [*controls("image"), *controls("text"), *finalists(), *averages("image")]
    for side in ("image", "text"):
        chosen += [setting for line in by_layer(side).values() for setting in line]
    chosen += negative()
    for side in ("image", "text"):
        chosen += [setting for line in by_nodes(side).values() for setting in line]
    return list({setting.key: setting for setting in chosen}.values())


def cell(records, setting, metric, digits=2):
    record = records.get(setting.key)
    if record is None:
        return "-"
    mean, low, high = interval(record["values"][metric])
    if math.isnan(mean):
        return ""
    shown = digits if abs(mean) < 10 else 1
    return f"{mean:.{shown}f} [{low:.{shown}f}, {high:.{shown}f}]"


def table(records, rows, metrics, digits=2):
    lines = [
        "| | " + " | ".join(NAMES[metric] for metric in metrics) + " | forwards |",
        "|---" * (len(metrics) + 2) + "|",
    ]
    for name, setting in rows:
        numbers = " | ".join(cell(records, setting, metric, digits) for metric in metrics)
        cost = "" if math.isnan(setting.cost) else f"{setting.cost:.1f}"
        lines.append(f"| {name} | {numbers} | {cost} |")
    return "\n".join(lines)


def plot(lines, metrics, across, name, title):
    """One panel per metric, one line per kind of setting, with the intervals as bands, from the table of that name."""
    with (STUDY / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["setting"]: row for row in csv.DictReader(file)}
    down = -(-len(metrics) // 2)
    figure, panels = plt.subplots(down, 2, figsize=(9, 3.6 * down), layout="constrained")
    for panel in panels.flat[len(metrics) :]:
        panel.set_axis_off()
    for panel, metric in zip(panels.flat, metrics, strict=False):
        columns = [NAMES[metric] + end for end in ("", " low", " high")]
        for label, settings_ in lines.items():
            drawn = [(across(s), rows[short(s)]) for s in settings_ if short(s) in rows]
            points = [(place, *(float(row[key]) for key in columns)) for place, row in drawn if row[columns[0]]]
            if points:
                places, mean, low, high = map(np.array, zip(*points, strict=True))
                (line,) = panel.plot(places, mean, marker="o", markersize=3, label=label)
                panel.fill_between(places, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        panel.set_title(NAMES[metric], fontsize=13)
        panel.set_xlabel(title, fontsize=12)
        panel.tick_params(labelsize=11)
        panel.grid(alpha=0.3)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=11, loc="outside lower center", ncols=3)
    figure.savefig(STUDY / f"{name}.png", dpi=100)
    plt.close(figure)


def plots():
    """Draw the tables that ``report`` has written."""
    for side, metrics in METRICS.items():
        plot(named(by_layer(side)), metrics, lambda s: int(s.options["layer"]), f"{side}-layers", "layer")
    metrics = [*METRICS["image"][:2], "completeness_gap"]
    plot(named(by_nodes("image")), metrics, lambda s: s.options["steps"], "image-nodes", "steps")


def named(lines):
    return {", ".join(map(str, label)): line for label, line in lines.items()}


def pick(records, candidates, metric, others):
    """The cheapest setting that no truth metric tells from the best: ``others`` are looked at, too, at p < 0.01."""
    here = [setting for setting in candidates if setting.key in records]
    best = max(here, key=lambda setting: first(records, setting, metric))

    def worse(setting):
        for name in (metric, *others):
            p = paired_test(*(records[one.key]["values"][name] for one in (setting, best)))
            if first(records, setting, name) < first(records, best, name) and p < 0.01:
                return True
        return False

    return best, min([setting for setting in here if not worse(setting)], key=lambda setting: setting.cost)


def first(records, setting, metric):
    """The mean over the scenes that all settings have."""
    return np.nanmean(records[setting.key]["values"][metric][:FEW])


def short(setting):
    options = setting.options
    if not options:
        return f"{setting.method}, {setting.target}"
    return (
        f"layer {options['layer']}, {options['baseline']}, {options['quadrature']} {options['steps']}, {setting.target}"
    )


def report(records):
    """The tables as Markdown; docs/explanation/study.md, which is written by hand, says what follows."""
    parts = {}
    for side, metrics in METRICS.items():
        shown = [
            *metrics,
            *(
                m
                for m in ("confidence_drop", "confidence_increase", "completeness_gap", "special_token_share")
                if m not in metrics
            ),
        ]
        lines = by_layer(side)
        rows = [(short(setting), setting) for line in lines.values() for setting in line]
        parts[f"{side}-layers"] = table(records, rows, shown)
        nodes_ = by_nodes(side)
        rows = [(short(setting), setting) for line in nodes_.values() for setting in line]
        parts[f"{side}-nodes"] = table(records, rows, shown)
        rows = [(short(setting), setting) for setting in controls(side)]
        parts[f"{side}-controls"] = table(records, rows, shown)
        candidates = [s for group in (*lines.values(), *nodes_.values()) for s in group]
        candidates += averages("image") if side == "image" else []
        free = [s for s in candidates if s.options["baseline"] != "mean" and s.target == "cosine"]
        choices = []
        for name, among in (("with what the embedded model ships", candidates), ("with nothing given", free)):
            best, cheap = pick(records, among, metrics[1] if side == "image" else metrics[0], metrics[:1])
            choices += [(f"best {name}: {short(best)}", best), (f"cheapest as good: {short(cheap)}", cheap)]
        parts[f"{side}-choice"] = table(records, choices, shown)
    parts["averages"] = table(
        records,
        [(short(s), s) for s in averages("image")],
        ["pointing_game", "average_precision", "energy", "confidence_drop"],
    )
    parts["absent"] = table(records, [(short(s), s) for s in negative()], ["absent_words"])
    return parts


def main():
    options = parse_arguments(__doc__)
    if options.what == "measure":
        path = options.out / f"study-{options.part}.jsonl"
        run(nibt.load_model(options.model), settings(), path, options.count, (options.part, options.parts))
        return
    records = collect(options.out, "study")
    write_tables(STUDY, report(records), f"{machine()}; scenes of seed {SEED}")
    plots()
    print(f"{STUDY}: {sum(setting.key in records for setting in settings())} of {len(settings())} settings")


if __name__ == "__main__":
    main()
