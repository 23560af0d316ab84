"""Tests of ``nibt.evaluation.audit.pair``."""

from dataclasses import dataclass, replace

import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.pair import Pair
from nibt.data.units import Grid
from nibt.engine.batches import trace_sides
from nibt.engine.spec import Request, resolve
from nibt.evaluation.audit import pair
from nibt.methods.base import Method
from nibt.registry import MethodSpec
from nibt.results.attribution import Attribution
from nibt.results.audit import Check
from nibt.results.explanation import Explanation
from nibt.results.notes import NO_MATCH, NOISE, WEAK_MATCH, Note, note_fields
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
    spec = resolve(tiny.model("clip"), Request(MethodSpec("nib")))
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
    assert by_name(explanation).keys() == {"weights", "mismatch_image", "top_region", "noun_places"}
    assert by_name(explanation)["weights"].value < 0.99, "the map depends on the weights"
    plain = nibt.explain(model, tiny.image(), CAPTION)
    others = [note for note in explanation.notes if note.code != "checks_without_match"]
    assert others == list(plain.notes)
    assert replace(explanation, checks=(), **note_fields(others)).to_json() == plain.to_json()
    assert Explanation.from_json(explanation.to_json()).checks == explanation.checks


@dataclass(frozen=True)
class OfCaption(Method):
    """A map whose cells are scored by the caption: those of the first and the second noun, by what it names."""

    def attribute(self, side: Side) -> Attribution:
        units, count = side.units, len(side.inputs)
        if not isinstance(units, Grid):
            return Attribution(torch.zeros(count, units.count), units, torch.zeros(count))
        scores = torch.zeros(count, units.count)
        by_caption = {one: cells for cells, one in zip(PLACED, self.embeddings(side), strict=True)}
        for row, other in enumerate(side.score.other.float()):
            nearest = max(by_caption, key=lambda key: float(key @ other))
            scores[row] = by_caption[nearest]
        return Attribution(scores, units.bare(), torch.zeros(count))

    def embeddings(self, side: Side) -> list[torch.Tensor]:
        text = tiny.model("clip").text
        captions = ["a cat in a car", "a photo of a cat", "a photo of a car"]
        return [text.encode(text.prepare([caption]))[0].float() for caption in captions]


def cells(**scores: float) -> torch.Tensor:
    of_places = torch.zeros(SIDE**2)
    of_places[:2], of_places[-2:] = scores.get("first", 0.0), scores.get("last", 0.0)
    return of_places


PLACED = [cells(first=1.0, last=-0.1), cells(first=1.0), cells(last=1.0)]


def test_a_noun_whose_place_has_no_positive_score_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of the caption is that of the cat; the place of the car, if it is named alone, has a negative sum."""
    explanation = nibt.check(tiny.model("clip"), tiny.image(), "a cat in a car", OfCaption())
    assert isinstance(explanation, Explanation)
    check = by_name(explanation)["noun_places"]
    assert (check.verdict, check.value) == ("fail", pytest.approx(-0.1))
    assert "“car”" in check.about
    monkeypatch.setitem(globals(), "PLACED", [cells(first=1.0, last=0.5), *PLACED[1:]])
    explanation = nibt.check(tiny.model("clip"), tiny.image(), "a cat in a car", OfCaption())
    assert isinstance(explanation, Explanation)
    assert by_name(explanation)["noun_places"].verdict == "pass"


def test_captions_without_an_everyday_noun_have_no_check_of_nouns() -> None:
    explanation = nibt.check(tiny.model("clip"), tiny.image(), "red and blue", Fixed(high=(5,)))
    assert isinstance(explanation, Explanation)
    assert "noun_places" not in by_name(explanation)


def test_all_nouns_that_fail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of the caption is positive only where no noun is."""
    monkeypatch.setitem(globals(), "PLACED", [cells(first=-0.2, last=-0.1).index_fill(0, torch.tensor([5]), 1.0)])
    monkeypatch.setitem(globals(), "PLACED", [*PLACED, cells(first=1.0), cells(last=1.0)])
    explanation = nibt.check(tiny.model("clip"), tiny.image(), "a cat in a car", OfCaption())
    assert isinstance(explanation, Explanation)
    check = by_name(explanation)["noun_places"]
    assert (check.verdict, check.value) == ("fail", pytest.approx(-0.4))
    assert "for “cat” and “car” alone is highest" in check.about
    assert "has -40% and -20% of its positive score (the map of the caption does not show them)" in check.about


@pytest.mark.parametrize(
    ("code", "side", "verdict", "is_named"),
    [
        (NO_MATCH, "", "pass", True),
        (WEAK_MATCH, "", "pass", True),
        (NOISE, "image", "pass", True),
        (NOISE, "text", "pass", False),
        (NO_MATCH, "", "fail", False),
        ("note", "", "pass", False),
    ],
)
def test_checks_that_pass_are_no_all_clear_without_a_match(
    code: str, side: str, verdict: str, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    grave = Note(code, "what stands before the map", side)
    first = nibt.explain(tiny.model("clip"), tiny.image(), CAPTION, "nib")
    explained = replace(first, **note_fields([grave, "another note"]))
    of_verdict = [check for check in checked(Fixed(high=(5,))).checks if check.verdict == verdict][:1]
    assert of_verdict, "the fixed map passes and fails"
    notes = list(pair._with_limit(explained.notes, of_verdict))
    assert [note.code for note in notes] == [code, *["checks_without_match"] * is_named, "note"]


def test_a_pair_that_does_not_match_has_the_note_beside_its_checks() -> None:
    explanation = checked("nib")
    assert "no_match" in explanation.codes
    assert "pass" in {check.verdict for check in explanation.checks}
    assert explanation.codes[1] == "checks_without_match"
    assert "does not show that the image has what the caption names" in explanation.other_warnings[0]
