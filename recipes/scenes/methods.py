"""All methods and variants on scenes whose truth is known, both sides: the tables of docs/reference/results/methods.md.

OMP_NUM_THREADS=1 python recipes/scenes/methods.py measure --out RUN [--part 0/2]   # resumes
python recipes/scenes/methods.py report --out RUN

Images have one view and three, whatever the default of a method is, so that the methods can be compared at equal views.
"""

from pathlib import Path

import matplotlib
import numpy as np
from runs import (
    NAMES,
    SEED,
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
from nibt.engine.spec import Request, resolve
from nibt.evaluation.statistics import holm, interval
from nibt.registry import MethodSpec, find

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

RESULTS = Path(__file__).parents[2] / "docs" / "reference" / "results"
VIEWS = (1, 3)
FASTER = {"rise": {"masks": 500}}
"""Where the default would take days on a processor: 6,000 masks an image. What was used is said in the table."""
FIRST = ("nib", "gae", "legrad", "grad_eclip", "grad_cam", "chefer", "fast_ig")
"""These come first, the others in the order of their names, and then the slow ones."""
SLOW = ("occlusion", "integrated_gradients", "m2ib", "mfaba", "shapley", "rise")
"""These have the first scenes only on the image side."""
CONTROLS = ("center", "ones", "random")
BEFORE = {"layer": 7, "quadrature": "gauss", "steps": 4}
"""NIB's default on images until views came, with one view."""
METRICS = {
    "image": [*TRUTH["image"], "confidence_drop", "confidence_increase"],
    "text": [*TRUTH["text"], "confidence_drop", "confidence_increase"],
}
PATCHES = 64
"""The patches of an image in the model ``scenes``."""
COLORS = plt.get_cmap("tab10").colors
MARKERS = ("*", "o", "s", "^", "v", "D", "P", "X", "<", ">", "p", "h", "d", "H", "8")
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PLOTTED = ("pointing_game", "average_precision")


def settings():
    """Every method in every variant that differs from its default, on both sides; NIB with both targets."""
    chosen = [Setting("image", options={**BEFORE, "views": views}) for views in VIEWS]
    for method in nibt.available("methods"):
        if "vectors" in find("methods", method).needs:
            continue
        variants = find("methods", method).variants
        names = [name for name in variants if name == "default" or variants[name] != variants["default"]]
        for name in names:
            chosen += both(method, variant=name, options=FASTER.get(method, {}))
    chosen += both("nib", target="centered") + both("occlusion", target="centered")
    chosen += both("grad_cam", options={"along_path": True})
    return sorted(chosen, key=turn)


def both(method, options=None, **further):
    """A method with each number of views, and on the text side, where it has no views."""
    options, data = options or {}, "fewer" if method in SLOW else "one"
    images = [Setting("image", method, options={**options, "views": n}, data=data, **further) for n in VIEWS]
    return [*images, Setting("text", method, options={} if method in FASTER else options, **further)]


def turn(setting):
    """When a setting is measured: quick ones first."""
    order = (*FIRST, *sorted({*nibt.available("methods")} - {*FIRST, *SLOW}), *SLOW)
    other = setting.variant != "default" or setting.target != "cosine"
    slowest = setting.side == "image" and setting.method in SLOW[-2:]
    return slowest, slowest and setting.options["views"], setting.side, order.index(setting.method), other


def default(side):
    """NIB's default."""
    return Setting("image", options={"views": 3}) if side == "image" else Setting("text")


def name(setting):
    """The name of a row; views are named where they are not the default."""
    own = find("methods", setting.method).variants[setting.variant][setting.side].get("views", 1)
    parts = [
        setting.method,
        *([setting.variant] if setting.variant != "default" else []),
        *([setting.target] if setting.target != "cosine" else []),
        *(f"{key}={value}" for key, value in setting.options.items() if (key, value) != ("views", own)),
    ]
    return " ".join(parts)


def forwards(model, setting):
    """The cost in forward passes of the tower of images."""
    spec = resolve(model, Request(MethodSpec(setting.method, setting.variant, setting.options), setting.target))
    return spec.methods["image"].forwards(model.image.depth, PATCHES)


def measured(records, side):
    """The settings of a side that have been measured, as rows of its table."""
    return sorted((setting for setting in settings() if setting.side == side and setting.key in records), key=name)


def table(records, side, model):
    """Means and intervals; a star where NIB's default differs at 0.05 after Holm's correction."""
    shown = measured(records, side)
    base = records[default(side).key]["values"]
    columns = {}
    for metric in METRICS[side]:
        values = [records[setting.key]["values"][metric] for setting in shown]
        tested = holm([paired_test(one, base[metric]) for one in values])
        columns[metric] = [
            "{:.2f} [{:.2f}, {:.2f}]".format(*interval(one)) + ("" if p >= 0.05 else " *")
            for one, p in zip(values, tested, strict=True)
        ]
    extra = ["views", "forwards"] if side == "image" else []
    heads = ["method", *(NAMES[metric] for metric in METRICS[side]), *extra, "scenes", "ms each"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row, setting in enumerate(shown):
        count = scenes_of(records[setting.key])
        cost = [setting.options["views"], f"{forwards(model, setting):.4g}"] if extra else []
        spent = f"{1000 * records[setting.key]['seconds'] / count:.0f}"
        cells = [name(setting), *(columns[metric][row] for metric in METRICS[side]), *cost, count, spent]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def plot(records, model):
    """Quality against cost: hollow markers have one view, filled ones three; the line is the Pareto front."""
    rows = [
        (setting, forwards(model, setting))
        for setting in measured(records, "image")
        if setting.method not in CONTROLS and setting.target == "cosine"
    ]
    methods = sorted({setting.method for setting, _ in rows}, key=lambda method: (method != "nib", method))
    looks = {method: (COLORS[number % 10], MARKERS[number]) for number, method in enumerate(methods)}
    figure, panels = plt.subplots(1, len(PLOTTED), figsize=(13, 6), layout="constrained", sharex=True)
    fronts = []
    for panel, metric in zip(panels, PLOTTED, strict=True):
        points = [(cost, expected(records, one, metric), one) for one, cost in rows]
        fronts.append(front(points))
        panel.plot(*list(zip(*fronts[-1], strict=True))[:2], color="0.5", linewidth=1.2, zorder=1)
        for cost, value, setting in points:
            color, marker = looks[setting.method]
            inside = color if setting.options["views"] > 1 else "white"
            size = 110 if setting.method == "nib" else 45
            panel.scatter(cost, value, size, marker=marker, facecolors=[inside], edgecolors=[color], linewidths=1.5)
        panel.set(xscale="log", xlabel="forward passes of the image tower")
        panel.set_xticks(TICKS, map(str, TICKS))
        panel.minorticks_off()
        panel.set_xlim(0.5, 2 * max(cost for cost, _, _ in points))
        panel.set_title(NAMES[metric])
        panel.margins(y=0.08)
        panel.grid(alpha=0.3)
    shown = [
        Line2D([], [], linestyle="", marker=marker, color=color, label=method)
        for method, (color, marker) in looks.items()
    ]
    shown += [
        Line2D([], [], linestyle="", marker="o", color="0.3", markerfacecolor=inside, label=label)
        for label, inside in (("1 view", "white"), ("3 views", "0.3"))
    ]
    shown += [Line2D([], [], color="0.5", label="Pareto front")]
    figure.legend(handles=shown, loc="outside right center", fontsize=9)
    figure.draw_without_rendering()  # the places of labels depend on the layout
    for panel, best in zip(panels, fronts, strict=True):
        label(panel, best)
    figure.savefig(RESULTS / "methods.png", dpi=100)
    plt.close(figure)


def expected(records, setting, metric):
    """The mean over all scenes; of a method with the first ones only, NIB's mean plus the mean difference from NIB."""
    base, own = (records[one.key]["values"][metric] for one in (default(setting.side), setting))
    return np.mean(base) + np.mean(np.subtract(own, base[: len(own)]))


def label(panel, best):
    """Name the points of a front, above them on the left, where no point is; each label is above the one before."""
    last = 0
    for cost, value, setting in best:
        height = panel.transData.transform((cost, value))[1]
        last = max(height + 4, last + 13)
        text = name(setting).removesuffix(f" views={setting.options['views']}")
        text = text.replace("layer=7 quadrature=gauss steps=4", "layer 7, gauss 4")
        panel.annotate(text, (cost, value), (-5, last - height), textcoords="offset pixels", ha="right", fontsize=8)


def front(points):
    """The points that no other point beats in both cost and value."""
    kept = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def main():
    options = parse_arguments(__doc__)
    model = nibt.load_model(options.model)
    if options.what == "measure":
        run(
            model,
            settings(),
            options.out / f"methods-{options.part}.jsonl",
            options.count,
            (options.part, options.parts),
        )
        return
    records = collect(options.out, "methods")
    plot(records, model)
    for side in METRICS:
        (RESULTS / f"methods-{side}.csv").write_text(csv_text(rows_of(table(records, side, model))))
    print(f"{machine()}; {options.count} scenes of seed {SEED}; write the date into {RESULTS / 'methods.md'}")
    print("and run docs/generate.py")


if __name__ == "__main__":
    main()
