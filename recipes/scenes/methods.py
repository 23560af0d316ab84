"""All methods and variants on scenes whose truth is known, both sides: the table of docs/reference/results/methods.md.

OMP_NUM_THREADS=1 python recipes/scenes/methods.py measure --out RUN [--part 0/2]   # resumes
python recipes/scenes/methods.py report --out RUN
"""

from pathlib import Path

from runs import NAMES, SEED, TRUTH, Setting, collect, machine, paired_test, parse_arguments, run, scenes_of

import nibt
from nibt.evaluation.statistics import holm, interval
from nibt.registry import find

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "results" / "methods.md"
QUICK = {"rise": {"masks": 500}}
"""Where the default would take days on a processor: 6,000 masks an image. What was used is said in the table."""
HEAVY = ("integrated_gradients", "m2ib", "rise", "shapley")
"""These come last."""
METRICS = {
    "image": [*TRUTH["image"], "confidence_drop", "confidence_increase"],
    "text": [*TRUTH["text"], "confidence_drop", "confidence_increase"],
}


def settings():
    """Every method in every variant that differs from its default, on both sides; NIB with both targets."""
    chosen = []
    for side in ("image", "text"):
        for method in nibt.available("methods"):
            kind = find("methods", method)
            variants = [
                name for name in kind.variants if name == "default" or kind.variants[name] != kind.variants["default"]
            ]
            quick = QUICK.get(method, {}) if side == "image" else {}
            chosen += [Setting(side, method, variant=variant, options=quick) for variant in variants]
        chosen += [
            Setting(side, "nib", "centred"),
            Setting(side, "occlusion", "centred"),
            Setting(side, "grad_cam", options={"along_path": True}),
        ]
    return sorted(chosen, key=lambda setting: (setting.method in HEAVY, setting.side))


def name(setting):
    parts = [
        setting.method,
        *([setting.variant] if setting.variant != "default" else []),
        *([setting.target] if setting.target != "cosine" else []),
        *(f"{key}={value}" for key, value in setting.options.items()),
    ]
    return " ".join(parts)


def table(records, side):
    """Means and intervals; a star where NIB's default differs at 0.05 after Holm's correction."""
    shown = sorted((setting for setting in settings() if setting.side == side and setting.key in records), key=name)
    base = records[Setting(side, "nib").key]["values"]
    columns = {}
    for metric in METRICS[side]:
        measured = [records[setting.key]["values"][metric] for setting in shown]
        tested = holm([paired_test(values, base[metric]) for values in measured])
        columns[metric] = [
            "{:.2f} [{:.2f}, {:.2f}]".format(*interval(values)) + ("" if p >= 0.05 else " *")
            for values, p in zip(measured, tested, strict=True)
        ]
    lines = [
        "| method | " + " | ".join(NAMES[metric] for metric in METRICS[side]) + " | scenes | ms each |",
        "|---" * (len(METRICS[side]) + 3) + "|",
    ]
    for row, setting in enumerate(shown):
        numbers = " | ".join(columns[metric][row] for metric in METRICS[side])
        count = scenes_of(records[setting.key])
        spent = 1000 * records[setting.key]["seconds"] / count
        lines.append(f"| {name(setting)} | {numbers} | {count} | {spent:.0f} |")
    return "\n".join(lines)


def main():
    options = parse_arguments(__doc__)
    if options.what == "measure":
        path = options.out / f"methods-{options.part}.jsonl"
        run(nibt.load_model(options.model), settings(), path, options.count, (options.part, options.parts))
        return
    records = collect(options.out, "methods")
    sides = "\n\n".join(f"## {side.capitalize()} side\n\n{table(records, side)}" for side in ("image", "text"))
    about = (
        f"Every method and variant on drawn scenes with ground truth. {machine()}; {options.count} scenes of seed "
        f"{SEED} with two or three objects, one of them named; mean and bootstrap 95 % interval; * differs from NIB's "
        "default (paired Wilcoxon, Holm over the methods, 0.05). `ms each` is processor time with the metrics, whose "
        "share the rows `ones` show. `python recipes/scenes/methods.py`; [which one to "
        "use](../methods/index.md#which-one)."
    )
    PAGE.write_text(f"# All methods on drawn scenes\n\n{about}\n\n{sides}\n")


if __name__ == "__main__":
    main()
