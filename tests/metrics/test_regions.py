"""Tests of the metrics of regions, on tables that are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.engine.batches import BatchCache
from nibt.errors import BadOption, UnknownName
from nibt.evaluation.measure import metrics_of
from nibt.metrics._numbers import rank_correlation
from nibt.metrics._perturbation import embeddings_of_patches, embeddings_of_words
from nibt.metrics.base import Noun, RegionsInput
from nibt.metrics.coalitions import AdditiveShare, TableFaithfulness
from nibt.metrics.localization import NounEnergy, NounMass, NounPointing
from nibt.metrics.region_curves import PairDeletion, PairInsertion
from nibt.registry import find
from nibt.results.regions import Regions, Rest
from tests import tiny
from tests.answers import with_scores
from tests.metrics.known_tables import CAPTION, embeddings_by_hand, input_of, known, number, quarter, tiny_table


def grid_row(table: Regions, values: dict[tuple[int, int], float]) -> list[float]:
    """Return a row of a table with values in the corners of the grid, by their places."""
    row = torch.zeros(table.grid.rows, table.grid.columns)
    half = table.grid.rows // 2, table.grid.columns // 2
    for (down, right), value in values.items():
        row[down * half[0] : (down + 1) * half[0], right * half[1] : (right + 1) * half[1]] = value
    return row.flatten().tolist()


def test_noun_metrics_of_known_tables() -> None:
    """The first noun's row is positive on its own quarter and negative on the other's; so is the second's."""
    like = tiny_table("occlusion")[0]
    right = grid_row(like, {(0, 0): 1.0, (1, 1): -1.0})
    wrong = grid_row(like, {(0, 0): 1.0, (1, 1): -1.0})
    first, second = quarter(0, 0), quarter(1, 1)
    nouns = Noun((0,), first, (second,)), Noun((1,), second, (first,))
    metric_input = input_of(known([right, wrong]), *nouns)
    assert number(NounPointing(0.0), metric_input) == 0.5
    assert number(NounEnergy(), metric_input) == pytest.approx(0.5, abs=0.12)  # bilinear edges lie outside
    assert number(NounEnergy("others"), metric_input) == pytest.approx(0.5, abs=0.12)
    assert (NounEnergy().better, NounEnergy("others").better) == ("higher", "lower")
    only = input_of(known([right]), nouns[0])
    assert number(NounPointing(), only) == 1.0
    assert number(NounEnergy(), only) > 0.75
    assert number(NounEnergy("others"), only) == 0.0
    assert number(NounMass(), only) > 0.85
    assert number(NounMass(), input_of(known([wrong]), Noun((0,), second, (first,)))) < 0.15


def test_noun_metrics_need_nouns_and_other_objects() -> None:
    table = known([[1.0]])
    for metric in (NounPointing(), NounEnergy(), NounMass()):
        assert np.isnan(number(metric, input_of(table)))
    alone = input_of(table, Noun((0,), quarter(0, 0), ()))
    assert np.isnan(number(NounEnergy("others"), alone))
    assert number(NounEnergy(), alone) > 0
    empty = input_of(known([[]]), Noun((0,), quarter(0, 0), ()))
    assert number(NounEnergy(), empty) == 0
    assert number(NounMass(), empty) == 0


def test_a_noun_of_several_words_has_the_sum_of_their_rows() -> None:
    like = tiny_table("occlusion")[0]
    one, other = grid_row(like, {(0, 0): 1.0}), grid_row(like, {(1, 1): 2.0})
    table = known([one, other])
    assert number(NounPointing(0.0), input_of(table, Noun((0, 1), quarter(1, 1), ()))) == 1.0
    assert number(NounPointing(0.0), input_of(table, Noun((0,), quarter(1, 1), ()))) == 0.0


def _pairs_by_hand(share: float, seed: int = 0, count: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return held-out coalitions, drawn by the metric's generator, and the cosines from the modules of the model."""
    table, image, _ = tiny_table("occlusion")
    draws = np.random.default_rng((seed, 104729))
    patches = torch.from_numpy(draws.random((count, image.units.count)) < share).float()
    words = torch.from_numpy(draws.random((count, len(table.words))) < share).float()
    seen, read = embeddings_by_hand(patches, words)
    return patches, words, seen @ read.T


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_faithfulness_and_additive_share_equal_an_analysis_of_variance(share: float) -> None:
    patches, words, actual = _pairs_by_hand(share)
    table, image, text = tiny_table(budget=300)
    metric_input = RegionsInput(table, image, text)
    summed = (patches @ table.table.flatten(1).T) @ words.T

    def residuals(scores: torch.Tensor) -> np.ndarray:
        """Return what least squares on an indicator of each row and each column leaves."""
        count = len(scores)
        rows, columns = np.divmod(np.arange(count * count), count)
        design = np.concatenate([np.eye(count)[rows], np.eye(count)[columns]], 1)
        flat = scores.double().numpy().flatten()
        return flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]

    crossed, predicted = residuals(actual), residuals(summed)
    wanted = 1 - ((crossed - predicted) ** 2).sum() / (crossed**2).sum()
    assert number(TableFaithfulness(24, share), metric_input) == pytest.approx(wanted, abs=2e-3)
    flat = actual.double().numpy().flatten()
    additive = 1 - (crossed**2).sum() / ((flat - flat.mean()) ** 2).sum()
    assert number(AdditiveShare(24, share), metric_input) == pytest.approx(additive, abs=1e-3)
    ranks = [values.argsort().argsort() for values in (crossed, predicted)]
    rank = np.corrcoef(*ranks)[0, 1]
    assert number(TableFaithfulness(24, share, measure="spearman"), metric_input) == pytest.approx(rank, abs=5e-3)


def test_the_better_table_is_more_faithful() -> None:
    table, image, text = tiny_table(budget=600)
    whole = number(TableFaithfulness(), RegionsInput(table, image, text))
    noisy = with_scores(table, table.scores.flip(1))
    assert whole > 0.3
    assert whole > number(TableFaithfulness(), RegionsInput(noisy, image, text))
    nothing = with_scores(table, 0 * table.scores)
    assert number(TableFaithfulness(), RegionsInput(nothing, image, text)) == pytest.approx(0, abs=1e-9)
    assert np.isnan(number(TableFaithfulness(measure="spearman"), RegionsInput(nothing, image, text)))


def test_finer_tables_are_summed_over_the_patches() -> None:
    table, image, text = tiny_table(budget=300)
    wide = table.table.repeat_interleave(3, 1).repeat_interleave(3, 2) / 9
    zero = torch.zeros(wide.shape[1:])
    finer = replace(table, table=wide, rest=Rest(torch.zeros(len(wide)), zero, torch.tensor(0.0)))
    for metric in (TableFaithfulness(), PairInsertion(), PairDeletion()):
        expected = number(metric, RegionsInput(table, image, text))
        assert number(metric, RegionsInput(finer, image, text)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("inserted", [True, False])
def test_curves_of_pairs_bring_in_the_words_and_patches_of_the_strongest_pairs(inserted: bool) -> None:
    """Two levels: nothing, half and all units. The first pairs are those of word 2 with the first patches."""
    _, image, text = tiny_table("occlusion")
    count = image.units.count
    row = [float(count - place) for place in range(count)]
    table = known([[], [], row])
    half = round((count + 4) / 2)
    chosen = {2}, set(range(half - 1))
    actual = number(PairInsertion(levels=2) if inserted else PairDeletion(levels=2), RegionsInput(table, image, text))

    def cosine(words: set[int], patches: set[int]) -> float:
        kept_words = torch.tensor([[float(place in words) for place in range(4)]])
        kept_patches = torch.tensor([[float(place in patches) for place in range(count)]])
        ends = embeddings_of_words(text, table, kept_words), embeddings_of_patches(image, kept_patches)
        return float((ends[0] * ends[1]).sum())

    every, nothing = cosine(set(range(4)), set(range(count))), cosine(set(), set())
    first = cosine(*chosen) if inserted else cosine(set(range(4)) - chosen[0], set(range(count)) - chosen[1])
    ends = (nothing, every) if inserted else (every, nothing)
    assert actual == pytest.approx((ends[0] / 2 + first + ends[1] / 2) / 2, abs=1e-5)


def test_rank_correlation_of_known_values() -> None:
    one = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(rank_correlation(one, torch.ones(4)))


def named_pair() -> Pair:
    """Return a pair whose nouns, cat and mat, are two quarters of the image."""
    image = tiny.image()
    width, height = nibt.data.images.read_image(image).size
    boxes = (0, 0, width // 2, height // 2), (width // 2, height // 2, width // 2, height // 2)
    objects = tuple(
        Object(name, box, spans=((CAPTION.index(name), CAPTION.index(name) + 3),))
        for name, box in zip(("cat", "mat"), boxes, strict=True)
    )
    return Pair(image, CAPTION, objects=objects)


@pytest.mark.parametrize("method", ["nib", "banzhaf", "gae", "occlusion"])
def test_all_metrics_measure_the_tables_of_a_method(method: str) -> None:
    options = {"banzhaf": {"budget": 64}, "nib": {"steps": 2}}.get(method, {})
    rows = nibt.measure(tiny.model("clip"), [named_pair()] * 2, None, method, side="regions", **options)
    assert [(row.item, row.metric) for row in rows] == [
        (item, name) for item in (0, 1) for name in metrics_of(["regions"])
    ]
    assert all(np.isfinite(row.value) for row in rows)
    assert rows[0].seconds > 0
    half = len(rows) // 2
    assert [row.value for row in rows[:half]] == [row.value for row in rows[half:]], "the same pair, the same numbers"


def test_metrics_have_labels_with_their_options() -> None:
    rows = nibt.measure(
        tiny.model("clip"),
        [named_pair()],
        [TableFaithfulness(share=0.3, coalitions=8), "noun_energy", NounEnergy("others")],
        "occlusion",
    )
    assert [row.label for row in rows] == [
        "table_faithfulness coalitions=8 share=0.3",
        "noun_energy",
        "noun_energy on=others",
    ]
    labeled = nibt.measure(tiny.model("clip"), [named_pair()], {"mine": "noun_mass"}, "occlusion")
    assert labeled[0].label == "mine"


def test_measurement_equals_the_metric_of_the_table() -> None:
    pair = named_pair()
    (row,) = nibt.measure(tiny.model("clip"), [pair], ["noun_energy"], "occlusion")
    table = nibt.regions(tiny.model("clip"), pair.image, CAPTION, method="occlusion")
    words = [word.text for word in table.words]
    shape = round(table.region.height), round(table.region.width)
    values = []
    for obj in pair.objects:
        pixels = F.interpolate(table.for_words(words.index(obj.name))[None, None], shape, mode="bilinear")[0, 0]
        left, top, width, height = obj.box
        mask = torch.zeros(shape, dtype=torch.bool)
        left, top = round(left) - round(table.region.left), round(top) - round(table.region.top)
        mask[max(0, top) : top + round(height), max(0, left) : left + round(width)] = True
        positive = pixels.clamp_min(0)
        values.append(float(positive[mask].sum() / positive.sum()))
    assert row.value == pytest.approx(np.mean(values), abs=1e-4)


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("noun_energy", {"on": "all"}, r"on must be one of own, others \(got 'all'\)"),
        ("table_faithfulness", {"measure": "kendall"}, r"measure must be one of r2, spearman \(got 'kendall'\)"),
    ],
)
def test_bad_options_are_refused(metric: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        find("metrics", metric)(**options)


def test_bad_requests_are_refused() -> None:
    model = tiny.model("clip")
    with pytest.raises(UnknownName, match="noun_mass"):
        nibt.measure(model, [named_pair()], ["noun_mas"])
    with pytest.raises(UnknownName, match="Did you mean 'banzhaf'"):
        nibt.measure(model, [named_pair()], ["noun_mass"], "banzaf")
    wrong: Any = "tables"
    with pytest.raises(BadOption, match="side must be image, text or regions"):
        nibt.measure(model, [named_pair()], side=wrong)
    for options in ({"target": "logit"}, {"measured": "softmax"}):
        with pytest.raises(BadOption, match="metrics of regions need the target cosine"):
            nibt.measure(model, [named_pair()], ["noun_mass", "energy"], "occlusion", **options)


def test_maps_and_regions_are_measured_in_one_call() -> None:
    model, pairs, metrics = tiny.model("clip"), [named_pair()] * 2, ["noun_mass", "energy", "special_token_share"]
    counts: list[tuple[int, int]] = []
    rows = nibt.measure(
        model, pairs, metrics, "occlusion", on_progress=lambda progress: counts.append((progress.done, progress.total))
    )
    assert [(row.item, row.side, row.metric) for row in rows] == [
        (item, side, metric)
        for item in (0, 1)
        for side, metric in [
            ("image", "energy"),
            ("image", "special_token_share"),
            ("text", "special_token_share"),
            ("regions", "noun_mass"),
        ]
    ]
    assert counts == [(2, 4), (3, 4), (4, 4)]
    alone = [nibt.measure(model, pairs, metrics, "occlusion", side=side) for side in ("image", "text", "regions")]
    assert sorted((row.item, row.metric, row.value) for row in rows) == sorted(
        (row.item, row.metric, row.value) for part in alone for row in part
    )


def test_metrics_of_regions_are_measured_only_if_they_are_named() -> None:
    rows = nibt.measure(tiny.model("clip"), [named_pair()], method="ones")
    assert {row.metric for row in rows} == set(metrics_of(["image", "text"]))
    assert not set(metrics_of(["image", "text"])) & set(metrics_of(["regions"]))


def test_a_cache_shares_the_embeddings_of_coalitions(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = tiny.model("clip"), []
    original = nibt.metrics.coalitions.embeddings_of_patches
    monkeypatch.setattr(
        "nibt.metrics.coalitions.embeddings_of_patches", lambda *values: (calls.append(1), original(*values))[1]
    )
    cache, pairs, metrics = BatchCache(model), [named_pair()], ["table_faithfulness", "additive_share"]
    shared = [nibt.measure(model, pairs, metrics, method, cache=cache) for method in ("occlusion", "ones")]
    assert len(calls) == 1
    assert shared == [nibt.measure(model, pairs, metrics, method) for method in ("occlusion", "ones")]


def test_curves_of_pairs_are_returned() -> None:
    (row,) = nibt.measure(tiny.model("clip"), [named_pair()], [PairDeletion(levels=4)], "occlusion")
    assert len(row.curve) == 5
    assert float(torch.trapezoid(torch.tensor(row.curve))) / 4 == pytest.approx(row.value, abs=1e-6)


def test_one_metric_may_be_a_name() -> None:
    rows = nibt.measure(tiny.model("clip"), [Pair(tiny.image(), "red cat")], "additive_share", method="occlusion")
    assert [row.metric for row in rows] == ["additive_share"]
