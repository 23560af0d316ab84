"""Tests of ``nibt.evaluation.audit.pair``."""

from dataclasses import dataclass, replace

import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.pair import Pair
from nibt.data.units import Grid
from nibt.engine.batches import trace_sides
from nibt.engine.spec import resolve
from nibt.methods.base import Method
from nibt.registry import MethodSpec
from nibt.results.attribution import Attribution
from nibt.results.audit import Check
from nibt.results.explanation import Explanation
from tests import tiny

CAPTION, SIDE = "a red cat", 4


@dataclass(frozen=True)
class Fixed(Method):
    """A map that is 1 in the cells ``high`` of any image."""

    high: tuple[int, ...] = ()

    def attribute(self, side: Side) -> Attribution:
        units, count = side.units, len(side.inputs)
        if isinstance(units, Grid):
            scores = torch.zeros(count, units.count)
            scores[:, list(self.high)] = 1.0
            return Attribution(scores, units.bare(), torch.zeros(count))
        return Attribution(torch.zeros(count, units.count), units, torch.zeros(count))


def checked(method: str | Method) -> Explanation:
    explanation = nibt.check(tiny.model("clip"), tiny.image(), CAPTION, method)
    assert isinstance(explanation, Explanation)
    return explanation


def by_name(explanation: Explanation) -> dict[str, Check]:
    return {check.name: check for check in explanation.checks}


def test_top_region_compares_with_all_places_of_the_same_shape() -> None:
    """The map has 16 cells, of which the top tenth are two: here neighbors, so there are 15 other places."""
    places = [(cell, cell - cell % SIDE + (cell + 1) % SIDE) for cell in range(SIDE**2)]
    drops = dict(zip(places, map(drop, places), strict=True))
    for place in sorted(places, key=drops.__getitem__)[:: SIDE**2 - 1] + places[3:5]:
        lower = sum(drops[other] < drops[place] for other in places)
        check = by_name(checked(Fixed(high=place)))["top_region"]
        assert check.value == pytest.approx(lower / 15)
        enough = {"pass": "as expected", "warn": "at least 90 % are expected", "fail": "no more than by chance"}
        assert check.about.endswith(f"{lower} of 15 lower it less ({enough[check.verdict]})")


def drop(cells: tuple[int, ...]) -> float:
    """Return by how much the similarity falls if the pixels of cells have the mean color."""
    spec = resolve(tiny.model("clip"), MethodSpec("nib"))
    side = trace_sides(spec, [Pair(tiny.image(), CAPTION)])[0]
    values = side.inputs.values.clone()
    size = values.shape[-1] // SIDE
    for row, column in (divmod(cell, SIDE) for cell in cells):
        values[..., row * size : (row + 1) * size, column * size : (column + 1) * size] = 0
    return float(side.value() - side.score(side.tower.encode(replace(side.inputs, values=values))))


def test_a_map_that_ignores_the_model_and_the_caption_fails() -> None:
    checks = by_name(checked(Fixed(high=(5,))))
    assert [checks[name].verdict for name in ("weights", "mismatch_image")] == ["fail", "fail"]
    assert checks["weights"].value == checks["mismatch_image"].value == 1


def test_checks_are_saved_and_leave_the_model_and_the_explanation_unchanged() -> None:
    model = tiny.fresh("clip")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    explanation = nibt.check(model, tiny.image(), CAPTION)
    assert isinstance(explanation, Explanation)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert by_name(explanation).keys() == {"weights", "mismatch_image", "top_region"}
    assert by_name(explanation)["weights"].value < 0.99, "the map depends on the weights"
    assert replace(explanation, checks=()).to_json() == nibt.explain(model, tiny.image(), CAPTION).to_json()
    assert Explanation.from_json(explanation.to_json()).checks == explanation.checks
