"""Tests of ``nibt.evaluation.audit.against``: what moved between two models."""

import copy
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.data.images import Region
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.errors import BadInput, CannotLoad, NibtError
from nibt.evaluation.audit.against import _difference, compared, same_cells, too_few
from nibt.evaluation.audit.evidence import Evidence
from nibt.evaluation.audit.exchange import NAMES
from nibt.evaluation.audit.runner import AuditRunner
from nibt.evaluation.maps import Map, spearman
from nibt.evaluation.statistics import holm, paired_test
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.registry import MethodSpec
from nibt.report.certificate import certificate
from nibt.report.html.audit import page
from nibt.results.audit import Audit, ModelDifference
from tests import tiny
from tests.helpers import check_page, noise_pairs

pytest.importorskip("scipy", reason="an audit has intervals")

MANY, METHOD = 12, "gae"
MASK = np.zeros((48, 64), bool)
MASK[8:30, 10:40] = True


def pairs_of(data: str) -> list[Pair]:
    pairs = noise_pairs(MANY)
    if data == "masks":
        return [replace(pair, objects=(Object("object", None, MASK, ((0, 3),)),)) for pair in pairs]
    if data == "labels":
        return [replace(pair, labels=("a", "b"), label=place % 2) for place, pair in enumerate(pairs)]
    return pairs


def changed(kind: str = "clip") -> Model:
    """Return a tiny model of which one weight of each tower is another."""
    model = tiny.fresh(kind)
    with torch.no_grad():
        for name, parameter in model.module.named_parameters():
            if name.endswith("layers.0.mlp.fc1.weight"):
                parameter[0] += 20
    return model


def ran(model: Model, data: str = "") -> AuditRunner:
    """Return a runner with what a comparison needs."""
    runner = AuditRunner(model, pairs_of(data), [MethodSpec(METHOD)], 0, 16)
    list(runner.wording(1))
    return runner


@cache
def runs(data: str = "") -> tuple[AuditRunner, AuditRunner]:
    return ran(tiny.model("clip"), data), ran(changed(), data)


def by_name(first: AuditRunner, second: AuditRunner) -> dict[tuple[str, str], ModelDifference]:
    return {(row.name, row.side): row for row in compared((first, second))[0]}


@pytest.mark.parametrize("data", ["", "masks", "labels"])
def test_equal_models_have_differences_of_0(data: str) -> None:
    rows, examples = compared((ran(tiny.fresh("clip"), data), runs(data)[0]))
    assert {(row.difference, row.p_holm, row.verdict) for row in rows} == {(0.0, 1.0, "no evidence")}
    assert all(row.low < 0 <= row.high for row in rows), "equal values of a few pairs are no proof for others"
    names = [row.name for row in rows]
    in_images = ["inside", "border", "fixed_place"] if data == "masks" else ["border", "fixed_place"]
    assert [name for name in names if name not in NAMES.values()] == ["similarity", "maps", *in_images, "maps", "words"]
    assert examples == []


@pytest.mark.parametrize("data", ["", "masks", "labels"])
def test_exchange_of_the_models_changes_the_sign(data: str) -> None:
    first, second = runs(data)
    forth, back = by_name(first, second), by_name(second, first)
    assert forth.keys() == back.keys()
    for key, row in forth.items():
        other = back[key]
        assert (row.p_holm, row.count, row.about) == (other.p_holm, other.count, other.about)
        if row.name == "maps":
            assert row == other
            assert row.value < 1 == row.against
        else:
            assert (row.value, row.against) == (other.against, other.value)
            assert row.difference == pytest.approx(row.value - row.against)
            assert (row.difference, row.low, row.high) == pytest.approx((-other.difference, -other.high, -other.low))


def test_a_weight_that_maps_do_not_depend_on_moves_nothing() -> None:
    model = tiny.fresh("clip")
    with torch.no_grad():
        model.module.logit_scale.add_(1)  # pyright: ignore
    assert model.renewed(anew=True).weights_hash != tiny.model("clip").weights_hash
    rows, _ = compared((ran(model), runs()[0]))
    assert {row.difference for row in rows} == {0.0}


def with_maps(runner: AuditRunner, place: Any) -> AuditRunner:
    """Return a copy of a runner whose image maps are 1 at a place, with noise, and whose captions have one scores."""
    new, draws = copy.copy(runner), np.random.default_rng(0)
    scores = -draws.uniform(1, 2, (MANY, 8, 8))
    scores[:, *place] *= -1
    region = runner.unchanged[METHOD, "image"][0].region
    images = [Map(grid, region=region) for grid in scores]
    new.reworded = {key: np.ones(MANY) for key in runner.reworded}
    new.unchanged = {**runner.unchanged, (METHOD, "image"): images}
    new.evidence = {METHOD: Evidence.of(runner.model, runner.pairs, *(new.unchanged[METHOD, side] for side in SIDES))}
    return new


def test_maps_that_go_to_a_corner_move() -> None:
    center, corner = (with_maps(runs("masks")[0], place) for place in ((np.s_[3:5], np.s_[3:5]), (0, np.s_[:2])))
    rows = by_name(corner, center)
    assert {key for key, row in rows.items() if row.verdict == "moved"} == {
        (name, "image") for name in ("maps", "inside", "border", "fixed_place")
    }
    assert rows["inside", "image"].difference < 0 < rows["border", "image"].difference
    assert rows["fixed_place", "image"].difference > 0
    examples = compared((corner, center))[1]
    assert len(examples) == 10
    assert [example.value for example in examples] == sorted(example.value for example in examples)  # pyright: ignore
    assert all(example.maps.keys() == example.words.keys() == {"model", "against"} for example in examples)


def test_maps_are_compared_with_other_wordings() -> None:
    """Maps that move as little as those of one model for another wording show no evidence."""
    first, second = runs()
    plain = by_name(first, second)["maps", "image"]
    first, second = copy.copy(first), copy.copy(second)
    for value, expected in ((1.0, "moved"), (-1.0, "no evidence"), (math.nan, "no evidence")):
        for runner in (first, second):
            runner.reworded = {key: np.full(MANY, value) for key in runner.reworded}
        row = by_name(first, second)["maps", "image"]
        assert (row.verdict, row.value, row.low, row.high) == (expected, plain.value, plain.low, plain.high)


@pytest.mark.parametrize("kind", ["larger", "siglip"])
def test_models_with_other_cells_are_compared_on_the_image(kind: str) -> None:
    """A larger model sees the same part in smaller cells, and SigLIP sees the whole image."""
    built = tiny.clip(image=48)
    other = tiny.model(kind) if kind == "siglip" else nibt.load_model(built.module, processor=built.processor)
    first, second = runs()[0], ran(other)
    row, example = by_name(first, second)["maps", "image"], compared((first, second))[1][0]
    assert row == by_name(second, first)["maps", "image"]
    assert row.count == MANY
    assert -1 < row.value < 0.9
    shapes = [np.shape(grid) for grid in example.maps.values()]
    if kind == "siglip":
        assert (example.region, shapes) == ((0, 0, 1, 1), [(24, 32)] * 2)
    else:
        assert (example.region, shapes) == ((1 / 8, 0, 3 / 4, 1), [(4, 4), (6, 6)])


@pytest.mark.parametrize("sides", [(4, 4), (4, 8), (3, 7)])
def test_maps_on_the_same_cells(sides: tuple[int, int]) -> None:
    """Of a slope, seen as a whole and in part; cells that only one map has are unknown."""
    regions = Region(0, 0, 100, 50), Region(25, 0, 50, 50)
    slopes = [
        Map(np.add.outer(np.zeros(side), region.left + region.width * (np.arange(side) + 0.5) / side), region=region)
        for side, region in zip(sides, regions, strict=True)
    ]
    one, two = same_cells(*slopes, (100, 50))
    assert one.shape == two.shape == (16, 32)
    seen = np.isfinite(one + two)
    assert seen[:, 8:24].all()
    assert not seen[:, :8].any()
    assert not seen[:, 24:].any()
    inner = np.s_[:, 12:20]  # the outermost cells go on at the edges
    assert spearman(one[inner].mean(0), two[inner].mean(0)) == pytest.approx(1)
    assert same_cells(slopes[0], slopes[0], (100, 50)) == [slopes[0].scores] * 2


@pytest.fixture(scope="module")
def audit() -> Audit:
    pairs = noise_pairs(8)
    return nibt.audit(tiny.model("clip"), pairs, "ones", against=changed(), quick=True)


@pytest.mark.slow
def test_comparison_is_saved_and_shown(audit: Audit, tmp_path: Path) -> None:
    assert Audit.from_json(audit.to_json()) == audit
    assert audit.against is not None
    assert audit.request()["against"] == audit.against
    assert audit.against["weights_hash"] != audit.model["weights_hash"]
    assert [check.name for check in audit.against_checks] == [check.name for check in audit.checks]
    text = check_page(page(audit))
    assert text.count("no evidence") >= len(audit.differences) - 1
    audit.save(tmp_path / "audit.card.md")
    assert "**What moved against CLIPModel in memory**" in (tmp_path / "audit.card.md").read_text()


@pytest.mark.parametrize(("p", "is_said"), [(0.01, True), (0.5, False)])
def test_similarities_of_models_that_were_trained_apart(audit: Audit, p: float, is_said: bool) -> None:
    """The terminal and the card say it, if the similarity moved."""
    rows = [replace(row, p_holm=p) for row in audit.differences if row.name == "similarity"]
    sentences = certificate(replace(audit, differences=tuple(rows))).sections["What moved against CLIPModel in memory"]
    assert any("trained apart" in sentence for sentence in sentences) == is_said


def test_former_files_without_a_comparison_are_read(audit: Audit) -> None:
    data = audit.to_json()
    for name in ("against", "against_checks", "differences"):
        del data[name]
    former = Audit.from_json(data)
    assert former == replace(audit, against=None, against_checks=(), differences=())
    assert "against" not in former.request()


def test_bad_models_are_errors_before_the_audit(clip_folder: Path) -> None:
    pairs = noise_pairs(8)
    with pytest.raises(CannotLoad, match="there is no model 'nowhere'"):
        nibt.audit(tiny.model("clip"), pairs, against="nowhere")
    with pytest.raises(CannotLoad, match="generator"):
        nibt.audit(tiny.model("clip"), pairs, against="scenes_generator")
    with pytest.raises(NibtError, match=r"against must be another model than the audited one \(got .*clip' twice"):
        nibt.audit(clip_folder, pairs, against=f"{clip_folder}/../clip")
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="another model"):
        nibt.audit(model, pairs, against=model)
    with pytest.raises(NibtError, match="gae"):
        nibt.audit(model, pairs, "gae", against=tiny.model("resnet"), on_progress=pytest.fail)


@pytest.mark.slow
def test_the_other_model_must_not_change_meanwhile() -> None:
    other = changed()

    def train(_: object) -> None:
        with torch.no_grad():
            next(other.module.parameters()).add_(1e-3)

    with pytest.raises(NibtError, match="changed during the audit"):
        nibt.audit(tiny.model("clip"), noise_pairs(8), "ones", against=other, quick=True, on_progress=train)


@pytest.mark.parametrize(("rows", "needed"), [(6, None), (7, 9), (13, 10)])
def test_a_note_says_how_many_pairs_the_test_needs(rows: int, needed: int | None) -> None:
    """The least p of eight pairs is 2 / 2 ** 8, and Holm's correction multiplies it."""
    row = ModelDifference("maps", "nib", "image", 0.5, 1.0, -0.5, -0.6, -0.4, 8, 1.0, "")
    smallest = paired_test(np.zeros(8), np.arange(1.0, 9.0))
    assert (holm([smallest] * rows)[0] >= 0.05) == (needed is not None)
    notes = too_few([row] * rows)
    assert notes == [f"8 pairs are too few to show that the model moved: at least {needed} are needed"] * bool(needed)


def test_a_difference_ends_at_its_bounds_and_says_of_how_many_pairs_it_is() -> None:
    values = [np.array([-0.98, 0.6, -0.9, np.nan]), np.ones(4)]
    row = _difference("maps", METHOD, "text", values=values, about="similarity of the maps", reach=2.0)
    assert row is not None
    assert (row.low, row.count) == (-2.0, 3)
    assert row.about == "similarity of the maps, of 3 of 4 pairs"
