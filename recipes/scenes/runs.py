"""Runs of settings over scenes: each setting is measured once and appended to a file, so that a stopped run goes on.

A setting names a method, its options and target, a side and a set of scenes. What is kept of it is every number of
every scene, and the seconds it took.
"""

import argparse
import csv
import io
import json
import math
import platform
import re
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import nibt
from nibt.data.ground_truth import GroundTruth
from nibt.data.units import Grid
from nibt.datasets.scenes import Scenes
from nibt.evaluation import statistics
from nibt.metrics.base import MetricInput
from nibt.metrics.localization import PointingGame
from nibt.results.attribution import Attribution

SEED = 2026  # kept for the study alone
FEW = 300
FIRST = {"few": FEW, "fewer": 100}
"""The kinds of data that are the first scenes of ``one``, and how many."""
INTERVAL = re.compile(r"(\S+) \[(\S+), (\S+)\](?: (\*))?")
WITH_P = re.compile(r"(\S+) \(p (\S+)\)")
"""Cells of tables: a mean with its interval, and a star if it differs; a difference with its p."""
STRETCH = 50  # scenes after which what is done of a setting is kept
TRUTH = {
    "image": ["pointing_game", "energy", "average_precision", "intersection_over_union", "own_object"],
    "text": ["word_auc"],
}
MODEL = ["confidence_drop", "confidence_increase", "completeness_gap", "special_token_share"]
NAMES = {
    "pointing_game": "pointing",
    "energy": "energy",
    "average_precision": "AP",
    "intersection_over_union": "IoU",
    "own_object": "own object",
    "word_auc": "AUC of words",
    "absent_words": "absent negative",
    "confidence_drop": "drop",
    "confidence_increase": "increase",
    "completeness_gap": "gap",
    "special_token_share": "special",
    "deletion": "deletion",
    "insertion": "insertion",
}


def scenes(kind, count):
    """``one``: two or three objects, one of them named; ``few`` and ``fewer``: the first of them. ``absent``: all
    named, and one of the nouns is not there.
    """
    if kind in FIRST:
        return scenes("one", min(count, FIRST[kind]))
    if kind == "absent":
        return list(Scenes(count=count, seed=SEED + 1, fewest=2, most=3, named="all", mismatch=100))
    return list(Scenes(count=count, seed=SEED, fewest=2, most=3, named="one"))


@dataclass(frozen=True)
class Setting:
    side: str
    method: str = "nib"
    target: str = "cosine"
    variant: str = "default"
    options: dict = field(default_factory=dict)
    data: str = "one"
    depth: int = 12

    @property
    def key(self):
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def metrics(self):
        if self.data == "absent":
            return ["absent_words"]
        return TRUTH[self.side] + MODEL

    @property
    def cost(self):
        """In plain forward passes of the tower, blocks counted: one for the trace, two for each node of the tail."""
        if self.method != "nib" or "layer" not in self.options:
            return math.nan
        layers = [int(layer) for layer in str(self.options["layer"]).split(",")]
        steps = self.options["steps"]
        one = 1 + sum(steps * (2 * (1 - layer / self.depth) + layer / self.depth / 3) for layer in layers)
        return one * self.options.get("views", 1)


def stored(path):
    """What a file of runs holds: key -> record."""
    if not path.exists():
        return {}
    return {record["key"]: record for record in map(json.loads, path.read_text().splitlines())}


def run(model, settings, path, count, part=(0, 1)):
    """Measure the settings that the file lacks; every ``part[1]``-th of them, from ``part[0]`` on."""
    done, sets = stored(path), {}
    for number, setting in enumerate(settings):
        if number % part[1] != part[0]:
            continue
        whole = done.get(replace(setting, data="one").key)
        if setting.data in FIRST and whole:  # the same scenes come first there
            share = min(1, FIRST[setting.data] / scenes_of(whole))
            values = {name: numbers[: FIRST[setting.data]] for name, numbers in whole["values"].items()}
            kept(path, {"key": setting.key, "seconds": round(whole["seconds"] * share, 1), "values": values})
            continue
        pairs = sets.setdefault(setting.data, scenes(setting.data, count))
        record = done.get(setting.key, {"key": setting.key, "seconds": 0.0, "values": {}})
        for first in range(scenes_of(record), len(pairs), STRETCH):
            record = gone_on(model, setting, record, pairs[first : first + STRETCH])
            kept(path, record)
            about = f"{setting.side} {setting.method} {setting.target} {setting.options}"
            print(about, scenes_of(record), mean_values(record), flush=True)


def gone_on(model, setting, record, pairs):
    """The record of a setting, some scenes longer."""
    strict = {"pointing_game": PointingGame(tolerance=0.0)}
    began = time.process_time()
    rows = nibt.measure(
        model,
        pairs,
        [strict.get(name, name) for name in setting.metrics],
        setting.method,
        setting.target,
        side=setting.side,
        variant=setting.variant,
        batch_size=50,
        **setting.options,
    )
    values = {
        name: record["values"].get(name, []) + [round(row.value, 5) for row in rows if row.metric == name]
        for name in setting.metrics
    }
    return {**record, "seconds": round(record["seconds"] + time.process_time() - began, 1), "values": values}


def measure_rows(path, rows, slow, items, values, line, part=(0, 1)):
    """Measure the rows of a table that a file lacks: numbers of each item, of a fifth of the items if a row is slow."""
    done = stored(path)
    for number, (name, setting) in enumerate(rows.items()):
        if name in done or number % part[1] != part[0]:
            continue
        listed = [values(*setting, *item) for item in items[: len(items) // 5 if name in slow else len(items)]]
        record = {"key": name, "values": {key: [each[key] for each in listed] for key in listed[0]}}
        kept(path, record)
        print(line(name, record, record), flush=True)


def cells(values, first, keys, is_first, bounds=None):
    """Cells of a table: means with intervals, and a star where they differ from the first row by the paired test.

    ``bounds`` are the least and the largest possible value.
    """
    texts = []
    for key in keys:
        numbers = np.array(values[key], float)
        known = not is_first and paired_test(numbers, np.array(first[key], float)) < 0.05
        texts.append("{:.3f} [{:.3f}, {:.3f}]".format(*statistics.interval(numbers, bounds)) + " *" * known)
    return texts


def scenes_of(record):
    """How many scenes a record has."""
    return max(map(len, record["values"].values()), default=0)


def kept(path, record):
    """One line more."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def mean_values(record):
    return {
        NAMES[name]: round(float(np.nanmean(values)), 3)
        for name, values in record["values"].items()
        if not np.isnan(values).all()
    }


def paired_test(values, others):
    """The p of the difference, over the scenes that both have: the slow settings have the first of them."""
    count = min(len(values), len(others))
    return statistics.paired_test(values[:count], others[:count])


def on_mask(metric, grid, mask):
    """What a truth metric says of one map and one mask."""
    attribution = Attribution(grid.flatten()[None], Grid(*grid.shape), torch.zeros(1))
    return float(metric(MetricInput(None, attribution, (GroundTruth(mask),)))[0])


def write_tables(folder, tables, note):
    """Write each table as a CSV file, and in ``runs.csv`` when and with what it was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    notes, path = {}, folder / "runs.csv"
    if path.exists():
        notes = dict(list(csv.reader(io.StringIO(path.read_text())))[1:])
    for name, table in tables.items():
        (folder / f"{name}.csv").write_text(csv_text(rows_of(table)))
        notes[name] = note
    path.write_text(csv_text([["table", "measured"], *map(list, sorted(notes.items()))]))


def csv_text(rows):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def rows_of(table):
    """The rows of a Markdown table, heads first, with columns of their own for intervals, p and stars."""
    heads, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
    columns = [[head or "setting", *cells] for head, *cells in zip(heads, *rows, strict=True)]
    return [list(row) for row in zip(*[column for parts in map(split, columns) for column in parts], strict=True)]


def split(column):
    """A column of means with intervals, or of differences with p, as several; other columns as they are."""
    head, *cells = column
    if any(INTERVAL.fullmatch(cell) for cell in cells):
        matches = [INTERVAL.fullmatch(cell) for cell in cells]
        parts = [
            match.groups("") if match else ("" if cell == "-" else cell, "", "", "")
            for match, cell in zip(matches, cells, strict=True)
        ]
        names = [head, f"{head} low", f"{head} high", f"{head} differs"]
        columns = [[name, *values] for name, values in zip(names, zip(*parts, strict=True), strict=True)]
        return columns if any(columns[3][1:]) else columns[:3]
    if any(WITH_P.fullmatch(cell) for cell in cells):
        differences, tests = zip(*(WITH_P.fullmatch(cell).groups() for cell in cells), strict=True)
        return [[head, *differences], [f"{head} p", *tests]]
    return [column]


def write_csv(path, headings, table):
    """Write a table of documents: its rows have a text for each heading."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, headings, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def machine():
    packages = ", ".join(f"{name} {version(name)}" for name in ("nibt", "torch", "transformers"))
    return f"{time.strftime('%-d %B %Y')}, {platform.machine()}, Python {platform.python_version()}, {packages}"


def parse_arguments(about, extend=lambda parser: None):
    """The command line of the recipes that measure and report; ``part`` and ``parts`` are whole numbers."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "report"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--part", default="0/1", help="which of how many parts side by side")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--count", type=int, default=1000, help="scenes")
    extend(parser)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.part, options.parts = map(int, options.part.split("/"))
    return options


def print_table(headings, rows):
    """Print rows, whose values are in the order of the headings, as a table of Markdown."""
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")


def collect(folder, name):
    """The records of all parts."""
    records = {}
    for path in sorted(folder.glob(f"{name}-*.jsonl")):
        records |= stored(path)
    return records
