"""Tests of ``nibt.methods._tables``: word-region tables of methods that are not linear in the target."""

import itertools
import math

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.errors import Unsupported
from nibt.methods._tables import EXACT, ORDERS, word_game
from nibt.progress import Progress, listening
from nibt.registry import find
from tests import tiny
from tests.helpers import QUICK, assert_close, cosine
from tests.suites import few

CAPTION = "red cat small mat"
METHODS = ["gae", "grad_eclip", "legrad", "chefer", "grad_cam", "saliency_map"]


def _maps(kind: str, method: str) -> dict[frozenset[int], torch.Tensor]:
    """Return the map of the image for each set of words, where words are replaced by padding by hand."""
    model = tiny.model(kind)
    inputs = model.text.prepare([CAPTION])
    image = model.image.trace(model.image.prepare([tiny.image()]))
    ready = find("methods", method).configured(model.image, "default", QUICK.get(method, {}), {})
    words = inputs.words.words[0]
    maps = {}
    for size in range(len(words) + 1):
        for chosen in itertools.combinations(range(len(words)), size):
            keep = torch.ones(1, inputs.words.explained.shape[1])
            for place, word in enumerate(words):
                keep[0, list(word.tokens)] = float(place in chosen)
            with model.text.blend_to_padding(keep):
                caption = model.text.encode(inputs)
            side = Side(model, image, lambda embedding, caption=caption: cosine(embedding, caption))
            maps[frozenset(chosen)] = ready(side).scores[0].double()
    return maps


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", few(["clip", "own vit"], ["clip"]))
def test_entries_are_shapley_values_over_all_orders(kind: str, method: str) -> None:
    maps = _maps(kind, method)
    count = len(tiny.model(kind).text.prepare([CAPTION]).words.words[0])
    wanted = torch.zeros(count, len(maps[frozenset()]), dtype=torch.float64)
    for order in itertools.permutations(range(count)):
        for turn, word in enumerate(order):
            wanted[word] += maps[frozenset(order[: turn + 1])] - maps[frozenset(order[:turn])]
    wanted /= math.factorial(count)
    actual = nibt.regions(tiny.model(kind), tiny.image(), CAPTION, method=method, **QUICK.get(method, {}))
    size = float(torch.stack(list(maps.values())).abs().max())
    torch.testing.assert_close(actual.table.flatten(1).double(), wanted, atol=1e-5 * size, rtol=0)
    assert wanted.abs().max() > 1e-3 * size, "no word matters"


@pytest.mark.parametrize("method", METHODS)
def test_rows_add_up_to_the_map_of_the_caption(method: str) -> None:
    model, options = tiny.model("clip"), QUICK.get(method, {})
    table = nibt.regions(model, tiny.image(), CAPTION, method=method, **options)
    whole = nibt.explain(model, tiny.image(), CAPTION, method, **options).image
    assert_close(table.scores.sum(0)[:-1], whole.scores, 1e-5, 1e-7)
    assert table.gap == pytest.approx(0, abs=1e-5)


def test_long_captions_are_sampled_by_orders() -> None:
    """The values add up for any sample, are exact for an additive game, and near for others."""
    count = EXACT + 2
    shown, shares = word_game(count)
    assert len(shown) <= ORDERS * (count - 1) + 2
    assert not shown[0].any()
    assert shown[-1].all()
    weights = np.random.default_rng(0).normal(size=count)
    np.testing.assert_allclose(shares @ (shown @ weights), weights, atol=1e-12)
    pairs = np.random.default_rng(1).normal(size=(count, count))
    game = np.einsum("ci,ij,cj->c", shown, pairs, shown)  # exact values: half of each pair, which reversed orders give
    np.testing.assert_allclose(shares @ game, (pairs + pairs.T).sum(1) / 2, atol=1e-12)
    curved = np.tanh(shown @ weights)
    assert (shares @ curved).sum() == pytest.approx(float(curved[-1] - curved[0]))


def test_exact_games_have_the_weights_of_shapley() -> None:
    shown, shares = word_game(3)
    assert len(shown) == 8
    game = np.array([0.0, 1.0, 0.0, 0.0, 4.0, 2.0, 0.0, 6.0])  # by size, then by position
    place = {tuple(np.flatnonzero(row).tolist()): value for row, value in zip(shown, game, strict=True)}
    wanted = np.zeros(3)
    for order in itertools.permutations(range(3)):
        for turn, word in enumerate(order):
            wanted[word] += place[tuple(sorted(order[: turn + 1]))] - place[tuple(sorted(order[:turn]))]
    np.testing.assert_allclose(shares @ game, wanted / 6, atol=1e-12)


def test_controls_do_not_depend_on_words() -> None:
    table = nibt.regions(tiny.model("clip"), tiny.image(), CAPTION, method="random")
    assert table.table.abs().max() < 1e-12
    assert table.scores[-1, :-1].any()


def test_methods_that_the_model_lacks_are_refused() -> None:
    with pytest.raises(Unsupported, match="gae needs attention"):
        nibt.regions(tiny.model("convnext"), tiny.image(), CAPTION, method="gae")
    with pytest.raises(Unsupported, match="similarity_map needs vectors"):
        nibt.regions(tiny.model("clip"), tiny.image(), CAPTION, method="similarity_map")


@pytest.mark.parametrize("method", ["rollout", "random"])
def test_entries_that_are_rounding_are_zero(method: str) -> None:
    """Maps that do not depend on the caption differ in their last bits, which depend on the batch."""
    table = nibt.regions(tiny.model("clip"), tiny.image(), CAPTION, method=method)
    assert isinstance(table, nibt.Regions)
    assert not table.table.any()
    assert f"maps of {method} do not depend on the words" in table.warnings


@pytest.mark.parametrize("method", ["gae", "occlusion"])
def test_progress_reports_the_image_first(method: str) -> None:
    """The command derives the remaining time from the longest loop."""
    reports: list[Progress] = []
    with listening(reports.append):
        nibt.regions(tiny.model("clip"), tiny.image(), CAPTION, method=method)
    longest = max(report.total or 0 for report in reports)
    assert reports[0].total == longest
