"""The study's main numbers, measured again on its first scenes: do they say what the table says?

OMP_NUM_THREADS=1 python recipes/scenes/check_study.py [--count 100]

The whole study takes hours (``study.py``, ``methods.py``). Here NIB, NIB as published and the center are measured on
the first scenes of the same seed; each mean's bootstrap 95 % interval must reach the one in
docs/reference/results/methods-*.csv. Exit code 1: one does not.
"""

import argparse
import csv
import sys
from pathlib import Path

from runs import NAMES, scenes

import nibt
from nibt.evaluation.statistics import interval

RESULTS = Path(__file__).parents[2] / "docs" / "reference" / "results"
METRICS = {"image": ["pointing_game", "energy", "average_precision", "own_object"], "text": ["word_auc"]}
METHODS = {"nib": {}, "nib paper": {"variant": "paper"}, "center": {}}


def documented(side):
    """The intervals of the table, by method and metric as it calls them."""
    with (RESULTS / f"methods-{side}.csv").open(newline="") as file:
        return {
            (row["method"], name): (float(row[f"{name} low"]), float(row[f"{name} high"]))
            for row in csv.DictReader(file)
            for name in map(NAMES.get, METRICS[side])
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    pairs, apart = scenes("one", parser.parse_args().count), 0
    model = nibt.load_model("scenes")
    for side, metrics in METRICS.items():
        intervals = documented(side)
        for label, options in METHODS.items():
            study_metrics = [on_the_mask(name) for name in metrics]
            rows = nibt.measure(model, pairs, study_metrics, label.split()[0], side=side, **options)
            for metric in metrics:
                mean, low, high = interval([row.value for row in rows if row.metric == metric])
                expected = intervals[label, NAMES[metric]]
                meets = low <= expected[1] and high >= expected[0]
                apart += not meets
                print(
                    f"{side}, {label}, {NAMES[metric]}: {mean:.3f} [{low:.3f}, {high:.3f}], documented "
                    f"{list(expected)}{'' if meets else '  APART'}"
                )
    sys.exit(apart > 0)


def on_the_mask(name):
    """The study points without a tolerance."""
    from nibt.metrics.localization import PointingGame

    return PointingGame(tolerance=0.0) if name == "pointing_game" else name


if __name__ == "__main__":
    main()
