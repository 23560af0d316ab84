"""The axioms of attribution, as numbers: by how much a method breaks each of them, relative to its largest score.

Every axiom says what two towers, two units or two targets must have in common if they are equal in a certain way.
``python -m tests.axioms`` writes docs/explanation/axioms.csv and its summary in axioms.md.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nibt.core.side import Side
from nibt.methods._path import along_path
from nibt.methods.base import SIDES, Method
from nibt.models.base import Tower
from nibt.registry import find
from nibt.types import Embedding, Modality
from tests import axiom_towers as towers
from tests.axiom_towers import ALIKE, BATCH, COLUMNS, IGNORED, ROWS, UNITS, Change, side
from tests.helpers import METHODS, ROOT, at_end

PAGE = ROOT / "docs" / "explanation" / "axioms.md"
NODES = 32
KEPT, BROKEN = 1e-4, 1e-3
"""A violation below the first is rounding, one above the second is real; one between them is an error."""
NEARLY, FAR = 1e-2, 5e-2
"""The same for completeness, where an integral is a sum of that many steps."""

# The methods


@dataclass(frozen=True, eq=False)
class MethodCase:
    """A method with its options: a row of the table."""

    name: str
    variant: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    along: bool = False

    def method(self, tower: Tower) -> Method:
        kind = along_path(self.name) if self.along else find("methods", self.name)
        return kind.configured(tower, self.variant, self.options, {})

    def scores(self, of: Side) -> Tensor:
        """Return a score for each unit; finer maps are averaged over the units."""
        actual = self.method(of.tower)(of)
        if actual.scores.shape[1] == UNITS:
            return actual.scores.double()
        return F.adaptive_avg_pool2d(actual.grid.double(), (ROWS, COLUMNS)).flatten(1)


OPTIONS: dict[str, dict[str, Any]] = {
    "nib": {"steps": NODES, "views": 1},
    "integrated_gradients": {"steps": NODES},
    "rise": {"masks": 64},
    "naclip": {"spread": 1.0},
}
"""Enough steps for completeness, and few masks: a method that samples breaks the same axioms with any number of masks.
The neighborhood is narrower than the small grid.
"""
MORE = {
    "nib, layer 0": MethodCase("nib", options={"steps": NODES, "views": 1, "layer": 0}),
    "nib, fast": MethodCase("nib", "fast", {"views": 1}),
    "nib, zero, geometric": MethodCase(
        "nib", options={"steps": NODES, "views": 1, "baseline": "zero", "quadrature": "geometric"}
    ),
    "grad_cam, along path": MethodCase("grad_cam", options={"steps": NODES}, along=True),
    "banzhaf, sampled": MethodCase("banzhaf", options={"budget": 24}),
    "shapley, sampled": MethodCase("shapley", options={"budget": 24}),
}
NO_MEANING = {("completeness", name) for name in METHODS if not METHODS[name].reads_score} | {("completeness", "m2ib")}
"""Scores that are no shares of the target (nats, attention alone, a random number) have no change to sum to."""


@cache
def lines() -> dict[str, MethodCase]:
    """Return every method, and every variant that differs from its default on these towers, whose words are tokens."""
    cases = {}
    for name in METHODS:
        variants = find("methods", name).variants
        cases[name] = MethodCase(name, options=OPTIONS.get(name, {}))
        own = {variant: [{**sides[modality], "units": ""} for modality in SIDES] for variant, sides in variants.items()}
        others = [variant for variant in own if own[variant] != own["default"]]
        cases |= {f"{name}, {variant}": MethodCase(name, variant) for variant in others}
    return dict(sorted((cases | MORE).items()))


# The axioms


@cache
def _map(case: MethodCase, modality: Modality, *changes: Change, **how: Any) -> Tensor:
    """The scores on one of the towers, which several axioms share."""
    return case.scores(side(modality, *changes, **how))


def _apart(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two maps relative to their largest score, over the batch.

    A rectified map may be zero; if more than half of the maps are zero, nothing is proven.
    """
    largest = torch.stack([first, second]).abs().amax((0, 2))
    assert first.any(-1).sum() >= BATCH / 2, "maps of zeros prove nothing"
    return float(((first - second).abs().amax(-1) / largest.clamp_min(1e-30)).max())


def completeness(case: MethodCase, modality: Modality) -> float:
    """Do all scores sum to S minus S at the baseline of the method, or else at the blank input?"""
    of = side(modality)
    options = case.method(of.tower).options()
    layer = options["layer"][0] if "baseline" in options and "layer" in options else None
    cut = of.stem() if layer is None else of.cut(layer)
    baseline = of.baseline(options.get("baseline", "blank"), layer, cut.hidden)
    low = options["floor"] if options.get("quadrature") == "geometric" else 0.0
    change = of.value() - at_end(of, "zero", layer, cut, baseline + low * (cut.hidden - baseline))
    return float(((_map(case, modality).sum(-1) - change) / change).abs().max())


def _of_ignored(change: Change, case: MethodCase, modality: Modality) -> float:
    """Does a unit have a score, although S does not depend on it?"""
    scores = _map(case, modality, change)
    without = scores.clone()
    without[:, IGNORED] = 0.0
    return _apart(scores, without)


def between(first: tuple[Change, ...], second: Change, case: MethodCase, modality: Modality, **how: Any) -> float:
    """Do two towers that are the same function have the same map?"""
    return _apart(_map(case, modality, *first, **how), _map(case, modality, second, **how))


ONE, TWO = 0.7, -1.6


def _mixed(embedding: Embedding) -> Tensor:
    return ONE * towers.target(embedding) + TWO * towers.other_target(embedding)


def linearity(case: MethodCase, modality: Modality) -> float:
    """Is the map of a sum of targets the sum of their maps?"""
    first, second = _map(case, modality), _map(case, modality, score=towers.other_target)
    return _apart(ONE * first + TWO * second, _map(case, modality, score=_mixed))


def symmetry(case: MethodCase, modality: Modality) -> float:
    """Do two units have the same score if they have the same content and enter S in the same way?"""
    scores = _map(case, modality, towers.places_alike, make=towers.alike)
    swapped = scores.clone()
    swapped[:, ALIKE] = scores[:, ALIKE[::-1]]
    return _apart(scores, swapped)


def _shifted(embedding: Embedding) -> Tensor:
    return towers.target(embedding) + 0.5


def constant(case: MethodCase, modality: Modality) -> float:
    """Is the map the same if a constant is added to S?"""
    return _apart(_map(case, modality), _map(case, modality, score=_shifted))


AXIOMS: dict[str, Callable[[MethodCase, Modality], float]] = {
    "completeness": completeness,
    "sensitivity, row": partial(_of_ignored, towers.row_ignored),
    "sensitivity, content": partial(_of_ignored, towers.content_ignored),
    "invariance, blocks": partial(between, (towers.head_unread,), towers.all_inside),
    "invariance, basis": partial(between, (), towers.stream_multiplied, norm=False),
    "invariance, offset": partial(between, (), towers.stream_shifted, norm=False),
    "invariance, depth": partial(between, (towers.first_block_idle,), towers.last_block_idle),
    "linearity": linearity,
    "symmetry": symmetry,
    "constant": constant,
}

# The table


@cache
def violation(line: str, axiom: str, modality: Modality) -> float | None:
    """Return by how much an axiom is broken; None if it does not apply."""
    case = lines()[line]
    return None if (axiom, case.name) in NO_MEANING else AXIOMS[axiom](case, modality)


def keeps(line: str, axiom: str, modality: Modality) -> bool | None:
    """Return whether a method keeps the axiom; None if it does not apply."""
    actual, (kept, broken) = (
        violation(line, axiom, modality),
        (NEARLY, FAR) if axiom == "completeness" else (KEPT, BROKEN),
    )
    assert actual is None or not kept < actual <= broken, f"{line} neither keeps nor breaks {axiom}: {actual}"
    return None if actual is None else actual <= kept


def _cell(line: str, axiom: str) -> str:
    broken = [modality for modality in SIDES if keeps(line, axiom, modality) is False]
    if not broken:
        return "does not apply" if keeps(line, axiom, SIDES[0]) is None else "keeps"
    worst = max(violation(line, axiom, modality) or 0.0 for modality in broken)
    return f"{broken[0]} breaks {worst:.2g}" if len(broken) == 1 else f"breaks {worst:.2g}"


def table() -> str:
    """Return the methods by axioms, as CSV."""
    file = io.StringIO()
    rows = [[line, *(_cell(line, axiom) for axiom in AXIOMS)] for line in lines()]
    csv.writer(file, lineterminator="\n").writerows([["method", *AXIOMS], *rows])
    return file.getvalue()


def summary(text: str) -> str:
    """Return which methods with their defaults break each axiom, as Markdown."""
    rows = [row for row in csv.DictReader(text.splitlines()) if "," not in row["method"]]
    result = ["| axiom | methods that break it |", "|---|---|"]
    for axiom in AXIOMS:
        cells = {row["method"]: row[axiom].partition("breaks") for row in rows}
        broken = [f"`{name}`{side and f' ({side.strip()})'}" for name, (side, breaks, _) in cells.items() if breaks]
        result.append(f"| {axiom} | {', '.join(broken)} |")
    return "\n".join(result)


def page(text: str, old: str) -> str:
    """Return the page with the summary of a table."""
    return re.sub(
        r"(?<=<!-- axioms -->\n).*?(?=\n<!-- /axioms -->)", lambda _: summary(text), old, count=1, flags=re.DOTALL
    )


if __name__ == "__main__":
    written = table()
    PAGE.with_suffix(".csv").write_text(written, encoding="utf-8")
    PAGE.write_text(page(written, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
