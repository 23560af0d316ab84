"""Tests of ``nibt.evaluation.audit.pair``."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.data.pair import Pair
from nibt.data.units import Grid
from nibt.engine.batches import trace_sides
from nibt.engine.spec import resolve
from nibt.evaluation.audit.pair import second_look, windows
from nibt.methods.base import Method
from nibt.registry import MethodSpec
from nibt.results.attribution import Attribution
from nibt.results.audit import Check
from nibt.results.explanation import Explanation
from nibt.results.notes import UNSURE, note_fields
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
    assert by_name(explanation).keys() == {"weights", "mismatch_image", "top_region", "second_look"}
    assert by_name(explanation)["weights"].value < 0.99, "the map depends on the weights"
    notes = [note for note in explanation.notes if note.code != UNSURE]
    plain = replace(explanation, checks=(), **note_fields(notes))
    assert plain.to_json() == nibt.explain(model, tiny.image(), CAPTION).to_json()
    assert Explanation.from_json(explanation.to_json()).checks == explanation.checks


@pytest.mark.slow
@pytest.mark.parametrize(("high", "verdict"), [(True, "pass"), (False, "fail")])
def test_the_second_look_compares_the_map_with_the_similarities_of_windows(high: bool, verdict: str) -> None:
    """The map is high where a window alone matches best, or where it matches worst; the oracle encodes the crops."""
    scenes, image = nibt.load_model("scenes"), read_image("sample:scene")
    explanation = nibt.explain(scenes, image, "a cat", "center")
    boxes = windows(explanation.image)
    assert len(boxes) == 9
    assert {(left, top) for left, top, _, _ in boxes} == {(x, y) for x in (0, 32, 64) for y in (0, 32, 64)}
    assert {box[2:] for box in boxes} == {(64, 64)}
    crops = [image.pil_image.crop((x, y, x + width, y + height)) for x, y, width, height in boxes]
    values = torch.tensor([nibt.explain(scenes, crop, "a cat", "center").similarity for crop in crops])
    shares = torch.stack([torch.from_numpy(explanation.image.shares_inside(box)) for box in boxes])
    weights = values - values.mean()
    grid = ((1 if high else -1) * weights[:, None, None] * shares).sum(0).float()
    drawn = replace(explanation.image, grid=grid)
    look = second_look(scenes, Pair(image, "a cat"), MethodSpec("center"), drawn)
    assert look is not None
    sums = (grid * shares).sum((1, 2)).float()
    assert look.value == pytest.approx(float(torch.corrcoef(torch.stack([sums, values]))[0, 1]), abs=1e-3)
    assert look.verdict == verdict


def test_a_map_that_disagrees_with_the_second_look_has_a_note_in_every_view() -> None:
    explanation = checked(Fixed(high=(5,)))
    look = by_name(explanation)["second_look"]
    noted = [note for note in explanation.notes if note.code == UNSURE]
    assert bool(noted) == (look.verdict != "pass")
    assert all(look.about in note.text for note in noted)


def test_an_image_of_one_color_has_no_second_look() -> None:
    explanation = nibt.check(tiny.model("clip"), np.zeros((32, 32, 3), np.uint8), CAPTION)
    assert "second_look" not in by_name(explanation)
