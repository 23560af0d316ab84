"""Metrics on maps whose answer is known by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
import tiny
from helpers import make_side
from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth, ground_truth
from nibt.data.images import ImageInput, Region
from nibt.data.pair import Object, Pair
from nibt.data.units import Grid, Word, Words
from nibt.errors import BadInput, UnknownName
from nibt.metrics.base import Metric, MetricInput
from nibt.registry import available, find
from nibt.results.attribution import Attribution, PathSummary

GRID = Grid(4, 4)
QUARTER = torch.zeros(8, 8, dtype=torch.bool)
QUARTER[:4, :4] = True


def on(scores: torch.Tensor, mask: torch.Tensor | None = QUARTER, **given: object) -> MetricInput:
    """A trial of one map of 4 x 4 cells on 8 x 8 pixels; the side is any, where only the map is looked at."""
    answer = Attribution(scores.reshape(1, 16), GRID, torch.zeros(1), **given)  # pyright: ignore
    return MetricInput(make_side(tiny.model("clip"), "image"), answer, (GroundTruth(mask),))


def of(name: str, trial: MetricInput, **options: object) -> float:
    (value,) = find("metrics", name)(**options)(trial).tolist()
    return value


def block(rows: slice, columns: slice) -> torch.Tensor:
    scores = torch.zeros(4, 4)
    scores[rows, columns] = 1.0
    return scores


FIRST, LAST = block(slice(0, 2), slice(0, 2)), block(slice(2, 4), slice(2, 4))


def test_pointing_game() -> None:
    assert of("pointing_game", on(FIRST), tolerance=0.0) == 1
    assert of("pointing_game", on(LAST), tolerance=0.0) == 0
    corner = block(slice(3, 4), slice(3, 4))  # the pixel (7, 7), 5.66 pixels from the mask's nearest one, (3, 3)
    assert of("pointing_game", on(corner), tolerance=5.7 / 8) == 1
    assert of("pointing_game", on(corner), tolerance=5.6 / 8) == 0
    assert of("pointing_game", on(torch.ones(4, 4)), tolerance=0.0) == 1  # the mean place is (3.5, 3.5), at its edge
    ends = torch.zeros(4, 4)
    ends[0, 0] = ends[3, 3] = 1
    assert of("pointing_game", on(-ends - FIRST), tolerance=0.0) == 0


def test_energy() -> None:
    assert of("energy", on(FIRST)) > 0.8
    assert of("energy", on(torch.ones(4, 4))) == pytest.approx(0.25)
    assert of("energy", on(-torch.ones(4, 4))) == 0
    assert of("energy", on(FIRST - 5 * LAST)) == pytest.approx(1, abs=0.1)  # what is negative has no mass


def test_intersection_over_union_is_the_best_of_all_thresholds() -> None:
    scores = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(scores[None, None], (8, 8), mode="bilinear")[0, 0]
    best = max(
        float(((pixels >= level) & QUARTER).sum() / ((pixels >= level) | QUARTER).sum()) for level in pixels.flatten()
    )
    assert of("intersection_over_union", on(scores)) == pytest.approx(best)
    assert of("intersection_over_union", on(torch.ones(4, 4))) == pytest.approx(0.25)


def test_own_object() -> None:
    def against(scores: torch.Tensor, *others: torch.Tensor) -> float:
        trial = on(scores)
        return of("own_object", replace(trial, truths=(GroundTruth(QUARTER, others),)))

    other, third = QUARTER.flip(0), QUARTER.flip(1)
    assert against(FIRST, other, third) == 1
    assert against(FIRST + 2 * LAST.flip(1), other, third) == 0  # more of it lies on the lower left
    assert against(-LAST.flip(1), other) == 1
    assert against(-LAST.flip(1), other, third) == 0  # as much on the third as on its own
    assert np.isnan(against(FIRST))


def test_average_precision() -> None:
    ramp = torch.arange(16.0).flip(0).reshape(4, 4)
    assert of("average_precision", on(torch.ones(4, 4))) == pytest.approx(0.25)
    assert of("average_precision", on(FIRST)) > 0.95
    assert of("average_precision", on(3 * ramp + 7)) == pytest.approx(of("average_precision", on(ramp)))
    assert np.isnan(of("average_precision", on(ramp, torch.zeros(8, 8, dtype=torch.bool))))


@pytest.mark.parametrize("name", ["pointing_game", "energy", "intersection_over_union", "average_precision"])
def test_without_a_mask_nothing_is_measured(name: str) -> None:
    assert np.isnan(of(name, on(FIRST, None)))


def test_corner_share() -> None:
    assert of("corner_share", on(torch.ones(4, 4))) == pytest.approx(4 / 16)
    assert of("corner_share", on(-block(slice(0, 4, 3), slice(0, 4, 3)))) == 1
    assert of("corner_share", on(torch.zeros(4, 4))) == 0


def test_completeness_gap_is_a_share_of_the_change() -> None:
    one = torch.ones(1)
    told = PathSummary("zero", "riemann", (1,), one, 0.5 * one, 0.1 * one, 0.3 * one)
    assert of("completeness_gap", on(FIRST, path=told)) == pytest.approx(0.25)
    still = replace(told, at_baseline=0.499 * one, sum=0.101 * one)
    assert of("completeness_gap", on(FIRST, path=still)) == pytest.approx(10)  # of 0.01, no smaller change
    assert np.isnan(of("completeness_gap", on(FIRST)))


def said(scores: list[float], named: list[bool], absent: list[bool] | None = None) -> MetricInput:
    """A caption of words, the first of which has two tokens, between a start and an end."""
    count = len(named)
    words = Words(
        (("start", *["token"] * (count + 1), "end"),),
        (tuple(Word("word", (1, 2) if place == 0 else (place + 2,)) for place in range(count)),),
        torch.tensor([[False, *[True] * (count + 1), False]]),
    )
    rows = torch.tensor([[9.0, scores[0] - 1, 1, *scores[1:], 9]])
    known = GroundTruth(None, (), torch.tensor(named), None if absent is None else torch.tensor(absent))
    return MetricInput(make_side(tiny.model("clip"), "text"), Attribution(rows, words, torch.zeros(1)), (known,))


def test_word_auc() -> None:
    assert of("word_auc", said([3, 1, 2], [True, False, False])) == 1
    assert of("word_auc", said([1.5, 1, 2], [True, False, False])) == 0.5
    assert of("word_auc", said([2, 1, 2], [True, False, False])) == 0.75
    assert np.isnan(of("word_auc", said([2, 1, 2], [True, True, True])))


def test_absent_words() -> None:
    assert of("absent_words", said([2, -1, 3], [True, False, False], [False, True, False])) == 1
    assert of("absent_words", said([2, -1, 3], [True, False, False], [False, True, True])) == 0.5
    assert np.isnan(of("absent_words", said([2, -1, 3], [True, False, False])))


def flat(of_side: Side, value: float) -> Attribution:
    cut = of_side.cut(0)
    rows = torch.full(cut.hidden.shape[:2], value)
    return Attribution(cut.units.keep(rows), cut.units, torch.zeros(2))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_flat_map_keeps_nothing(modality: str) -> None:
    """A flat map reads as 0, so what is kept is the image, or the caption, that says nothing."""
    here = make_side(tiny.model("clip"), modality)
    nothing = here.at_end("zero", None, here.cut(0), here.tower.blank(here.inputs, 0))
    drop = find("metrics", "confidence_drop")()(MetricInput(here, flat(here, 1.0)))
    rise = find("metrics", "confidence_increase")()(MetricInput(here, flat(here, 1.0)))
    torch.testing.assert_close(drop, 100 * (here.value() - nothing).clamp_min(0), atol=1e-4, rtol=1e-4)
    assert rise.tolist() == (100 * (nothing > here.value()).float()).tolist()


def test_a_map_that_keeps_the_words_it_likes_drops_nothing_where_it_likes_all_but_one() -> None:
    here = make_side(tiny.model("clip"), "text")
    answer = flat(here, 1.0)
    scores = answer.scores.clone()
    scores[:, 1] = 0  # the first word goes, all others stay whole
    kept = torch.ones_like(scores)
    kept[:, 1] = 0
    with here.tower.blend_to_padding(kept):  # pyright: ignore
        expected = here.score(here.tower.encode(here.inputs))
    drop = find("metrics", "confidence_drop")()(MetricInput(here, replace(answer, scores=scores)))
    torch.testing.assert_close(drop, 100 * (here.value() - expected).clamp_min(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_deletion_and_insertion_mirror_each_other(modality: str) -> None:
    """Removing the best first is putting in the worst first, backwards."""
    here = make_side(tiny.model("clip"), modality)
    cut = here.cut(0)
    rows = torch.rand(cut.hidden.shape[:2], generator=torch.Generator().manual_seed(1))
    up = Attribution(cut.units.keep(rows), cut.units, torch.zeros(2))
    down = replace(up, scores=cut.units.keep(1 - rows))
    count = 16 if modality == "image" else 2 * 3 * 5
    removed = find("metrics", "deletion")(levels=count)(MetricInput(here, up))
    put_in = find("metrics", "insertion")(levels=count)(MetricInput(here, down))
    torch.testing.assert_close(removed, put_in, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", available("metrics"))
def test_every_metric_says_its_sides_and_which_way_is_better(name: str) -> None:
    kind: type[Metric] = find("metrics", name)
    assert kind.better in ("higher", "lower", "neither")
    assert set(kind.sides) <= {"image", "text"}
    model = tiny.model("clip")
    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), "a cat", (Object("cat", (2, 2, 9, 9), None, ((2, 5),)),))
    rows = nibt.measure(model, [pair, pair], [name], batch_size=2)
    assert [(row.item, row.side) for row in rows] == [(item, side) for item in (0, 1) for side in kind.sides]
    assert rows[0].value == pytest.approx(rows[len(kind.sides)].value, abs=1e-3, nan_ok=True)  # rows of one batch


def test_measure_does_not_depend_on_the_batch() -> None:
    model = tiny.model("clip")
    thing = Object("cat", (2, 2, 9, 9), None, ((0, 3),))
    pairs = [
        Pair(ImageInput(tiny.image(seed=seed).pil_image, "drawn"), text, (thing,))
        for seed, text in enumerate(tiny.CAPTIONS[:3])
    ]
    together = nibt.measure(model, pairs, batch_size=3)
    alone = nibt.measure(model, pairs, batch_size=1)
    assert [(row.item, row.side, row.metric) for row in together] == [(r.item, r.side, r.metric) for r in alone]
    np.testing.assert_allclose([r.value for r in together], [r.value for r in alone], atol=1e-4, rtol=1e-3)


def test_measure_takes_metrics_with_options_one_side_and_refuses_what_is_not_there() -> None:
    model = tiny.model("clip")
    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), "a cat")
    strict = find("metrics", "deletion")(levels=2)
    rows = nibt.measure(model, [pair], [strict, "special_share"], only="text")
    assert {(row.side, row.metric) for row in rows} == {("text", "deletion"), ("text", "special_share")}
    with pytest.raises(BadInput, match="nothing to measure"):
        nibt.measure(model, [])
    with pytest.raises(UnknownName):
        nibt.measure(model, [pair], ["beauty"])


def told(caption: str, words: list[str], spans: tuple, absent: tuple = ()) -> GroundTruth:
    pair = Pair(
        ImageInput(Image.new("RGB", (10, 8)), "drawn"), caption, (Object("x", (2, 1, 4, 3), None, spans),), absent
    )
    units = Words(
        (("t",) * len(words),),
        (tuple(Word(word, (i,)) for i, word in enumerate(words)),),
        torch.ones(1, len(words), dtype=torch.bool),
    )
    return ground_truth(pair, Region(0.0, 0.0, 10.0, 8.0), units)


def test_words_are_found_in_the_caption_one_behind_the_other() -> None:
    known = told("a Cat and a cat", ["a", "cat", "and", "a", "cat"], ((12, 15),))
    assert known.named is not None
    assert known.named.tolist() == [False, False, False, False, True]
    lost = told("a cafe\u0301 cat", ["a", "caf\u00e9", "cat"], ((8, 11),), ((0, 1),))  # spelt otherwise: passed over
    assert lost.named is not None
    assert lost.named.tolist() == [False, False, True]
    assert lost.absent is not None
    assert lost.absent.tolist() == [True, False, False]
    assert told("a cat", ["a", "cat"], ()) == GroundTruth()


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Region(0.0, 0.0, 10.0, 8.0), [slice(1, 4), slice(2, 6)]),
        (Region(3.0, 2.0, 5.0, 4.0), [slice(0, 2), slice(0, 3)]),
        (Region(-2.0, -3.0, 14.0, 14.0), [slice(4, 7), slice(4, 8)]),
    ],
)
def test_the_mask_is_cut_to_what_the_model_sees(region: Region, expected: list[slice]) -> None:
    thing = Object("x", (2, 1, 4, 3), None, ((0, 1),))
    pair = Pair(ImageInput(Image.new("RGB", (10, 8)), "drawn"), "x", (thing,))
    units = Words((("x",),), ((Word("x", (0,)),),), torch.ones(1, 1, dtype=torch.bool))
    mask = ground_truth(pair, region, units).mask
    assert mask is not None
    whole = torch.zeros(round(region.height), round(region.width), dtype=torch.bool)
    whole[expected[0], expected[1]] = True
    assert torch.equal(mask, whole)
