"""What every method keeps, on both sides and on families that differ; a method is tested by being listed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack as modes

import nibt
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.errors import Unsupported
from nibt.methods._cost import evaluate
from nibt.methods.base import SIDES, Method
from nibt.models.base import Tower
from nibt.results.attribution import Attribution
from nibt.types import Modality
from tests import tiny
from tests.helpers import CHEAP, METHODS, QUICK, cosine
from tests.shared_models import module_state
from tests.suites import VARIED, few

KINDS = (
    "clip",
    "siglip",
    "siglip naflex",
    "own vit average",
    "coca",
    "own text both ways",
    "mt5",
    "timm eva",
    "own resnet",
    "convnext",
)


FELT = {
    **dict.fromkeys(
        ("clearclip", "clip_surgery", "maskclip", "naclip", "sclip"),
        "a score is the score of one token, which has the constant",
    ),
    "rise": "it multiplies the masks by the score itself, as published, so a constant adds what the masks add",
}
"""Methods that depend on a constant added to the score, and the reason."""


CASES = [(name, kind, side) for kind in KINDS for side in ("image", "text") for name in METHODS]


REFUSED = [
    case
    for case in CASES
    if case[1] in tiny.CONVOLUTIONAL and case[2] == "image" and "attention" in METHODS[case[0]].needs
]


SUPPORTED = [case for case in CASES if case not in REFUSED]


Score = Callable[[Tensor], Tensor]


@cache
def traces(kind: str, modality: Modality, which: tuple[int, ...]) -> tuple[Any, Tensor]:
    """Return one side of a few pairs whose captions differ in length, and the embeddings of the other side."""
    model = tiny.model(kind)
    image = model.image.trace(model.image.prepare([tiny.image(seed=index) for index in which]))
    text = model.text.trace(model.text.prepare([tiny.CAPTIONS[index] for index in which]))
    return (image, text.embedding) if modality == "image" else (text, image.embedding)


def of(kind: str, modality: Modality, which: tuple[int, ...] = (0, 1), change: Score = lambda score: score) -> Side:
    trace, opposite = traces(kind, modality, which)
    return Side(tiny.model(kind), trace, lambda embedding: change(cosine(embedding, opposite)))


def method(name: str, tower: Tower) -> Method:
    return METHODS[name].configured(tower, "default", QUICK.get(name, {}), {})


@dataclass(frozen=True)
class Case:
    """A method on one side of a kind of model, and its attribution of two pairs."""

    name: str
    kind: str
    modality: Modality

    @cached_property
    def attribution(self) -> Attribution:
        return self.run(of(self.kind, self.modality))

    def run(self, side: Side) -> Attribution:
        return method(self.name, side.tower)(side)


def world() -> list[Any]:
    """Return global state. Python's own generator is left out, since beartype, which checks the shapes here, draws from
    it.
    """
    return [
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        modes(),
    ]


class Broken(Exception):
    """Raised by a score on purpose."""


def scores_have_the_shape_of_the_units(case: Case) -> None:
    actual = case.attribution
    units = actual.units
    count = units.count if isinstance(units, Grid) else units.explained.shape[1]
    assert actual.scores.shape == (2, count)
    assert actual.scores.isfinite().all()
    assert not actual.scores.requires_grad, "the scores keep a graph"
    assert actual.special_token_share.shape == (2,)
    assert ((actual.special_token_share >= 0) & (actual.special_token_share <= 1)).all()
    if not isinstance(units, Grid):
        assert not actual.scores[~units.explained].any(), "special tokens have scores"
    own = (
        count if isinstance(units, Grid) else len(units.tokens[1])
    )  # without what pads the caption to the other's length
    assert actual[1].scores.shape == (own,)


def scores_are_independent_of_the_batch(case: Case) -> None:
    together = case.attribution
    for index in range(2):
        alone = case.run(of(case.kind, case.modality, (index,)))
        actual, wanted = together.scores[index], alone.scores[0]
        assert not actual[len(wanted) :].any(), "padding has scores"
        # a hundred-thousandth of the largest score, or the rounding of a difference of two cosines
        assert (actual[: len(wanted)] - wanted).abs().max() <= max(1e-5 * float(wanted.abs().max()), 5e-7)
        if together.special_token_share[index] * together.scores[index].abs().sum() > 1e-5:
            torch.testing.assert_close(
                together.special_token_share[index], alone.special_token_share[0], atol=1e-3, rtol=0
            )


def constants_added_to_the_score_are_ignored(case: Case) -> None:
    first = case.attribution.scores
    actual = case.run(of(case.kind, case.modality, change=lambda score: score + 0.5)).scores
    if case.name in FELT:
        assert not torch.allclose(actual, first)
    else:
        torch.testing.assert_close(actual, first, atol=max(1e-5 * float(first.abs().max()), 5e-7), rtol=0)


def scores_depend_on_the_other_side(case: Case) -> None:
    """With the other side of another item, the map differs, unless the method uses this side only."""
    first = case.attribution.scores
    trace, opposite = traces(case.kind, case.modality, (0, 1))
    other = Side(tiny.model(case.kind), trace, lambda embedding: cosine(embedding, opposite.flip(0)))
    actual = case.run(other).scores
    if first.any() or actual.any():
        assert torch.equal(actual, first) != METHODS[case.name].reads_score
    else:
        assert not METHODS[case.name].signed, "only methods that clip at zero may leave nothing"


def scores_are_repeatable_and_leave_no_trace(case: Case) -> None:
    """Also after an error, and nothing of the state that callers share is changed."""
    side, first = of(case.kind, case.modality), case.attribution
    before, around = module_state(tiny.model(case.kind).module), world()
    again = case.run(side)
    assert torch.equal(first.scores, again.scores)
    assert torch.equal(first.special_token_share, again.special_token_share)
    assert module_state(tiny.model(case.kind).module) == before
    assert world() == around

    def broken(score: Tensor) -> Tensor:
        raise Broken

    try:
        case.run(of(case.kind, case.modality, change=broken))
        assert not METHODS[case.name].reads_score, "the method does not depend on the score"
    except Broken:
        assert METHODS[case.name].reads_score
    assert module_state(tiny.model(case.kind).module) == before
    assert world() == around
    assert side.tower.lock.acquire(blocking=False)
    side.tower.lock.release()


def unsigned_scores_are_not_negative(case: Case) -> None:
    if not METHODS[case.name].signed and case.name != "rise":  # rise multiplies by the score, which may be negative
        assert (case.attribution.scores >= 0).all()


@pytest.mark.parametrize(
    ("name", "kind", "modality"), few(SUPPORTED, [case for case in SUPPORTED if case[1] in VARIED])
)
def test_method_keeps_the_contract(name: str, kind: str, modality: Modality) -> None:
    case = Case(name, kind, modality)
    scores_have_the_shape_of_the_units(case)
    scores_are_independent_of_the_batch(case)
    constants_added_to_the_score_are_ignored(case)
    scores_depend_on_the_other_side(case)
    scores_are_repeatable_and_leave_no_trace(case)
    unsigned_scores_are_not_negative(case)


@pytest.mark.parametrize("kind", few(KINDS, ["clip"]))
def test_methods_leave_the_weights_unchanged(kind: str) -> None:
    model = tiny.fresh(kind)
    before = model.renewed(anew=True).weights_hash
    for name in METHODS:
        with suppress(Unsupported):
            nibt.explain(model, tiny.image(), tiny.CAPTIONS[0], name, **CHEAP.get(name, {}))
    assert model.renewed(anew=True).weights_hash == before


@pytest.mark.parametrize(
    ("name", "kind", "modality"),
    few(
        [case for case in SUPPORTED if case[1] in ("clip", "convnext")],
        [case for case in SUPPORTED if case[1] == "clip"],
    ),
)
def test_method_works_with_gradients_switched_off(name: str, kind: str, modality: Modality) -> None:
    case = Case(name, kind, modality)
    first = case.attribution.scores
    with torch.no_grad():
        assert torch.equal(case.run(of(kind, modality)).scores, first)


@pytest.mark.parametrize(("name", "kind", "modality"), REFUSED)
def test_method_rejects_a_tower_without_attention(name: str, kind: str, modality: Modality) -> None:
    tower = tiny.model(kind).tower(modality)
    needs = r"needs attention, which this image tower.*lacks; methods for this image tower: .*\bnib\b"
    with pytest.raises(Unsupported, match=needs) as refused:
        method(name, tower)
    offered = str(refused.value).rpartition(": ")[2].split(", ")
    assert all("attention" not in METHODS[other].needs for other in offered)
    with pytest.raises(Unsupported, match="needs attention"):
        method(name, tiny.model("clip").image)(of(kind, modality))


@pytest.mark.parametrize("name", METHODS)
def test_method_describes_itself(name: str) -> None:
    kind = METHODS[name]
    assert kind.paper, "the source of the method"
    assert kind.cost, "the cost of the method"
    assert (kind.category == "control") == (kind.cost == "0")
    assert "default" in kind.variants
    assert set(kind.needs) <= {"states", "attention", "stem"}
    for variant, sides in kind.variants.items():
        assert set(sides) == {"image", "text"}
        for modality in ("image", "text"):
            built = kind.configured(tiny.model("clip").tower(modality), variant, {}, {})
            assert built.options().keys() == vars(built).keys()
            assert hash(built) == hash(kind.configured(tiny.model("clip").tower(modality), variant, {}, {}))


@pytest.mark.parametrize(
    ("name", "options", "forwards"),
    [
        ("nib", {"layer": 1, "steps": 5}, 3 * (1 + 2 * 5 * 0.5 + 10 * 0.5 / 25)),
        ("nib", {"layer": (0, 1), "steps": 5, "views": 1, "distribute": False}, 2 + 2 * 5 * 1.5),
        ("nib", {"layer": 2}, 3 * (1 + 9 / 25)),
        ("nib", {"layer": 1, "distribute": False}, 3 * (1 + 2 * 4 * 0.5)),
        ("grad_cam", {"layer": 2}, 1),
        ("gae", {"blocks": 1}, 2.5),
        ("gae", {}, 4),
        ("clip_surgery", {"blocks": 1}, 1.5),
        ("legrad", {"blocks": 1}, 2.5),
        ("legrad", {}, 4),
        ("maskclip", {}, 1.5),
        ("naclip", {}, 1.5),
        ("saliency_map", {}, 2.5),
        ("saliency_map", {"at": "input"}, 5),
        ("occlusion", {}, 10),
        ("rise", {"masks": 7}, 8),
        ("shapley", {"budget": 6}, 9),
        ("banzhaf", {"budget": 6}, 7),
        ("m2ib", {"layer": 1, "steps": 2, "samples": 3, "seeds": 2}, 1 + 3 * 12 * 0.5),
        ("center", {}, 0),
    ],
)
def test_method_computes_its_cost(name: str, options: dict[str, Any], forwards: float) -> None:
    tower = tiny.model("clip").image
    assert METHODS[name].configured(tower, "default", options, {}).forwards(depth=2, units=9) == pytest.approx(forwards)


def test_costs_of_all_methods_are_formulas() -> None:
    for name, kind in METHODS.items():
        for modality in kind.sides:
            for variant in kind.variants:
                cost = kind.configured(tiny.model("clip").tower(modality), variant, {}, {}).forwards(12, 50)
                assert 0 <= cost < 1e5, name
    with pytest.raises(ValueError, match="is not a formula"):
        evaluate("2 ** steps", {"steps": 3.0})
    with pytest.raises(ValueError, match="is not a formula of steps"):
        evaluate("1 + masks", {"steps": 3.0})


def test_recommended_options_apply_to_methods_that_take_them() -> None:
    """Recommendations are for NIB: a default of another method that is the paper's stays as it is."""
    tower, recommended = tiny.model("clip").image, {"image_layer": 0, "image_steps": 32, "image_baseline": "mean"}
    for name, kind in METHODS.items():
        built, plain = (kind.configured(tower, "default", {}, options).options() for options in (recommended, {}))
        assert (built != plain) == kind.takes_recommended, name
    nib = METHODS["nib"].configured(tower, "default", {}, recommended).options()
    assert {"layer": [0], "steps": 32, "baseline": "mean"}.items() <= nib.items()


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.signed])
def test_signed_scores_have_both_signs(name: str) -> None:
    pairs = tuple(range(len(tiny.CAPTIONS)))
    scores = [Case(name, "clip", side).run(of("clip", side, pairs)).scores for side in SIDES]
    assert all((score < 0).any() and (score > 0).any() for score in scores)
