"""Methods compared with shapiq and captum, which enumerate the same games."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.methods._coalitions import subsets
from nibt.methods._tables import word_game
from nibt.methods.coalition_values import Banzhaf, Shapley
from nibt.methods.fixlip import FIxLIP, Game, cross_coefficients
from nibt.methods.masks import Occlusion
from tests import tiny
from tests.helpers import Record, assert_error_below, at_end, captum, make_side, peer
from tests.methods.test_units import CAPTION, game, side, word_values

pytestmark = pytest.mark.slow
PLAYERS = 6


def exact(worth: Callable[[np.ndarray], np.ndarray], players: int, index: str, order: int = 1) -> dict[tuple, float]:
    """Return the index of each coalition up to an order, as shapiq enumerates it."""
    values = peer("shapiq.game_theory.exact.ExactComputer")(worth, players)(index, order)
    return {coalition: float(values.values[place]) for coalition, place in values.interaction_lookup.items()}


def random_game(seed: int, players: int = PLAYERS) -> Callable[[np.ndarray], np.ndarray]:
    """Return a game with interactions of all orders."""
    worths = np.random.default_rng(seed).normal(size=2**players)
    return lambda shown: worths[np.asarray(shown).astype(int) @ 2 ** np.arange(players)]


METHODS: dict[str, tuple[Any, str]] = {
    "shapley": (Shapley(), "SV"),
    "banzhaf": (Banzhaf(), "BV"),
    "banzhaf by means": (Banzhaf(estimate="means"), "BV"),
    "fixlip": (FIxLIP(), "BV"),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", METHODS)
def test_values_of_a_game_equal_shapiq(name: str, seed: int, record_property: Record) -> None:
    method, index = METHODS[name]
    worth = random_game(seed)
    shown, weights = method.coalitions(PLAYERS)
    actual = method.fit(shown, weights, worth(shown), float(worth(np.ones((1, PLAYERS)))[0]))
    wanted = exact(worth, PLAYERS, index)
    assert_error_below(1e-10, actual, [wanted[(player,)] for player in range(PLAYERS)], record_property)


@pytest.mark.parametrize("seed", range(5))
def test_values_of_words_in_tables_equal_shapiq(seed: int, record_property: Record) -> None:
    worth = random_game(seed)
    shown, shares = word_game(PLAYERS)
    wanted = exact(worth, PLAYERS, "SV")
    assert_error_below(1e-10, shares @ worth(shown), [wanted[(player,)] for player in range(PLAYERS)], record_property)


@pytest.mark.parametrize("kind", ["bert", "siglip", "mt5"])
@pytest.mark.parametrize("name", METHODS)
def test_scores_of_words_equal_shapiq(name: str, kind: str, record_property: Record) -> None:
    """The game is the model's own score of the caption with only the words of a coalition."""
    method, index = METHODS[name]
    of = side(kind, CAPTION)
    rows, scores = game(of)
    wanted = exact(lambda shown: np.array([scores[tuple(np.flatnonzero(row))] for row in shown]), len(rows), index)
    actual = word_values(of, method)[0]
    assert_error_below(3e-6, actual, [wanted[(word,)] for word in range(len(rows))], record_property)


@pytest.mark.parametrize("drawn", [False, True])
def test_coefficients_of_pairs_equal_shapiq(drawn: bool, record_property: Record) -> None:
    """A product of embeddings is a game of both sides' units, whose best model of order two has these pairs (FBII)."""
    counts, draw = (3, 4), np.random.default_rng(1)
    tables = [draw.normal(size=(2**count, 5)) for count in counts]
    tables = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in tables]
    places = [2 ** np.arange(count) for count in counts]

    def worth(shown: np.ndarray) -> np.ndarray:
        first, second = (part.astype(int) @ place for part, place in zip(np.split(shown, [3], 1), places, strict=True))
        return (tables[0][first] * tables[1][second]).sum(1)

    games = [
        Game(subsets(count), np.full(2**count, 2.0**-count), table, 0.5)
        for count, table in zip(counts, tables, strict=True)
    ]
    if drawn:  # all pairs of coalitions, in the place of as many that are drawn
        rows, columns = (index.flatten() for index in np.indices((2**3, 2**4)))
        games = [
            Game(one.coalitions[index], np.full(len(index), 1 / len(index)), one.embeddings[index], 0.5)
            for one, index in zip(games, (rows, columns), strict=True)
        ]
    wanted = exact(worth, sum(counts), "FBII", 2)
    pairs = [[wanted[(patch, 3 + word)] for word in range(4)] for patch in range(3)]
    assert_error_below(1e-10, cross_coefficients(games[0], games[1], not drawn), pairs, record_property)


@pytest.mark.parametrize("method", ["banzhaf", "fixlip"])
def test_tables_equal_shapiq(method: str, record_property: Record) -> None:
    """Three stripes of the image and five words: the table of a model equals the pairs of the best model (FBII)."""
    model = tiny.model("bert")
    table = nibt.regions(model, tiny.image(), "a zebra cat", method=method, image_units="segments", image_segments=4)
    assert isinstance(table, nibt.Regions)
    of_image = make_side(model, "image")
    image = Side(model, model.image.trace(model.image.prepare([tiny.image()])), of_image.score).embedded()
    units = Occlusion(units="segments", segments=4).units_of(image)
    patches = units.counts[0]
    text = side("bert", "a zebra cat").embedded()
    words = [word.tokens for word in text.inputs.words.words[0]]
    assert 2 <= patches <= 6
    keep_image = torch.from_numpy(subsets(patches)).float()[:, None]
    keep_text = torch.ones(2 ** len(words), 1, text.units.count)
    for place, rows in enumerate(words):
        keep_text[:, 0, list(rows)] = torch.from_numpy(subsets(len(words))).float()[:, [place]]
    first, second = masker(image, units)(keep_image)[:, 0].double(), masker(text, text.units)(keep_text)[:, 0].double()

    def worth(shown: np.ndarray) -> np.ndarray:
        one, other = np.split(shown.astype(int), [patches], 1)
        return (first[one @ 2 ** np.arange(patches)] * second[other @ 2 ** np.arange(len(words))]).sum(1).numpy()

    wanted = exact(worth, patches + len(words), "FBII", 2)
    pairs = torch.tensor([[wanted[(patch, patches + word)] for patch in range(patches)] for word in range(len(words))])
    spread = units.on_grid(pairs.T[None].float())[0].T
    actual = torch.stack([table.scores[word].flatten()[: spread.shape[1]] for word in range(len(words))])
    assert_error_below(1e-9, actual, spread, record_property)


def players_of_captum(of: Side) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the first tokens of a caption, what replaces them, and the feature of each of their channels."""
    stem = of.stem()
    padding = of.tower.embedder(torch.tensor(of.tower.pad[0])).detach().expand_as(stem.hidden)
    words = of.inputs.words.words[0]
    features = torch.full(stem.hidden.shape, len(words))  # special tokens are one feature, which is never removed
    for place, word in enumerate(words):
        features[0, list(word.tokens)] = place
    special = features == len(words)
    return stem.hidden, torch.where(special, stem.hidden, padding), features


@pytest.mark.parametrize("kind", ["bert", "siglip", "mt5"])
@pytest.mark.parametrize("name", ["occlusion", "shapley"])
def test_scores_of_words_equal_captum(name: str, kind: str, record_property: Record) -> None:
    """Feature ablation, and Shapley values over all orders of the words."""
    of = side(kind, "a zebra cat on")
    hidden, baseline, features = players_of_captum(of)
    stem = of.stem()

    def forward(states: torch.Tensor) -> torch.Tensor:
        return at_end(of, "zero", None, stem, states)

    explainer = captum({"occlusion": "attr.FeatureAblation", "shapley": "attr.ShapleyValues"}[name])(forward)
    theirs = explainer.attribute(hidden, baseline, feature_mask=features)
    rows = [word.tokens[0] for word in of.inputs.words.words[0]]
    actual = word_values(of, {"occlusion": Occlusion(), "shapley": Shapley()}[name])[0]
    assert_error_below(3e-6, actual, theirs[0, rows, 0], record_property)


@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit"])
def test_occlusion_equals_the_sliding_window_of_captum(kind: str, record_property: Record) -> None:
    of = make_side(tiny.model(kind), "image")
    pixels, units = of.inputs.values, of.units
    size = pixels.shape[-2] // units.rows, pixels.shape[-1] // units.columns
    assert (size[0] * units.rows, size[1] * units.columns) == tuple(pixels.shape[-2:])

    def forward(values: torch.Tensor) -> torch.Tensor:
        return of.score(of.tower.encode(type(of.inputs)(values)))

    theirs = captum("attr.Occlusion")(forward).attribute(pixels, (3, *size), strides=(3, *size), baselines=0.0)
    wanted = F.avg_pool2d(theirs[:, :1], size).flatten(1)
    assert_error_below(1e-6, Occlusion()(of).scores, wanted, record_property)


def test_shapley_values_of_an_image_equal_captum(record_property: Record) -> None:
    """Of four segments, over all 24 orders."""
    model = tiny.model("clip")
    whole = side("clip", "a cat")
    caption = whole.trace.embedding.detach()
    image = model.image.trace(model.image.prepare([tiny.image()]))
    of = Side(model, image, lambda embedding: F.cosine_similarity(embedding, caption, dim=-1))
    method = Shapley(units="segments", segments=4)
    units = method.units_of(of)
    features = units.labels[:, None].repeat(1, 3, 1, 1)

    def forward(values: torch.Tensor) -> torch.Tensor:
        return of.score(of.tower.encode(type(of.inputs)(values)))

    theirs = captum("attr.ShapleyValues")(forward).attribute(image.inputs.values, 0.0, feature_mask=features)
    first = [int((features[0, 0] == segment).flatten().int().argmax()) for segment in range(units.counts[0])]
    assert len(list(itertools.permutations(first))) <= 720
    assert_error_below(2e-6, method.scores(of, units)[0], theirs[0, 0].flatten()[first], record_property)
