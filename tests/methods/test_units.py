"""Words of several tokens in games: each word is one player, and its tokens share its score."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nibt
from nibt.core.perturbation import generator
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods.base import Method
from nibt.methods.coalition_values import Banzhaf, Shapley
from nibt.methods.fixlip import FIxLIP
from nibt.methods.masks import RISE, Occlusion
from tests import tiny
from tests.helpers import METHODS, at_end
from tests.suites import few

CAPTION, OTHER = "a zebra cat on mat", "two zebras"
KINDS = pytest.mark.parametrize("kind", ["bert", "siglip", "mt5"])
GAMES = {"banzhaf": Banzhaf(), "fixlip": FIxLIP(), "occlusion": Occlusion(), "shapley": Shapley()}


def side(kind: str, *captions: str) -> Side:
    """Return the side of captions whose score is the cosine with one image."""
    model = tiny.model(kind)
    opposite = model.image.encode(model.image.prepare([tiny.image()])).detach()
    text = model.text.trace(model.text.prepare(list(captions)))
    return Side(model, text, lambda embedding: F.cosine_similarity(embedding, opposite, dim=-1))


def replaced(of: Side, removed: list[int], item: int = 0) -> float:
    """Return the score of a caption whose rows are replaced by the padding token's embedding, by the model's blocks."""
    stem = of.stem()
    padding = of.tower.embedder(torch.tensor(of.tower.pad[0])).detach()
    hidden = stem.hidden.clone()
    hidden[item, removed] = padding
    with torch.no_grad():
        return float(of.score(stem.rest(hidden[None])[0])[item])


def game(of: Side) -> tuple[list[tuple[int, ...]], dict[tuple[int, ...], float]]:
    """Return the rows of each word of the first caption, and the score of each set of its words."""
    assert of.inputs.words is not None
    rows = [word.tokens for word in of.inputs.words.words[0]]
    places = range(len(rows))
    sets = itertools.chain.from_iterable(itertools.combinations(places, size) for size in range(len(rows) + 1))
    return rows, {
        kept: replaced(of, [row for word in places if word not in kept for row in rows[word]]) for kept in sets
    }


def word_values(of: Side, method: Method, item: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Return the score of each word of a caption, and those of the tokens of each word."""
    assert of.inputs.words is not None
    parts = [method(of).scores[item, list(word.tokens)] for word in of.inputs.words.words[item]]
    return torch.stack([part.sum() for part in parts]), parts


@KINDS
def test_occlusion_replaces_all_tokens_of_a_word(kind: str) -> None:
    of = side(kind, CAPTION)
    zebra = next(word for word in of.inputs.words.words[0] if word.text == "zebra")
    assert len(zebra.tokens) >= 5
    actual = word_values(of, Occlusion())[0][1]
    wanted = float(of.value()[0]) - replaced(of, list(zebra.tokens))
    assert float(actual) == pytest.approx(wanted, abs=2e-6)
    one_by_one = sum(float(of.value()[0]) - replaced(of, [row]) for row in zebra.tokens)
    assert abs(wanted - one_by_one) > 1e-4, "removing the tokens one by one gives another score"
    by_token = Occlusion(units="tower")(of).scores[0, list(zebra.tokens)]
    assert float(by_token.sum()) == pytest.approx(one_by_one, abs=1e-5)


@KINDS
@pytest.mark.parametrize("name", few(["shapley", "banzhaf", "fixlip"], ["shapley", "fixlip"]))
def test_values_of_words_are_those_of_the_game_of_words(kind: str, name: str) -> None:
    """Over all orders of the words, or all sets of the other words."""
    of = side(kind, CAPTION)
    rows, scores = game(of)
    wanted = torch.zeros(len(rows))
    if name == "shapley":
        for order in itertools.permutations(range(len(rows))):
            for turn, word in enumerate(order):
                before = tuple(sorted(order[:turn]))
                gain = scores[tuple(sorted((*before, word)))] - scores[before]
                wanted[word] += gain / math.factorial(len(rows))
    else:
        for word in range(len(rows)):
            with_word = [kept for kept in scores if word in kept]
            gains = [scores[kept] - scores[tuple(one for one in kept if one != word)] for kept in with_word]
            wanted[word] = float(np.mean(gains))
    torch.testing.assert_close(word_values(of, GAMES[name])[0], wanted, atol=3e-6, rtol=1e-3)


@KINDS
@pytest.mark.parametrize("budget", [4, 512])
def test_shapley_values_of_words_sum_to_the_change(kind: str, budget: int) -> None:
    of = side(kind, CAPTION, OTHER)
    for item in (0, 1):
        words = [row for word in of.inputs.words.words[item] for row in word.tokens]
        change = float(of.value()[item]) - replaced(of, words, item)
        assert float(word_values(of, Shapley(budget), item)[0].sum()) == pytest.approx(change, abs=3e-6)


@KINDS
def test_rise_keeps_words_whole(kind: str) -> None:
    of = side(kind, CAPTION)
    stem, words = of.stem(), of.inputs.words.words[0]
    total = torch.zeros(len(words))
    draws = [generator(3, word.tokens[0]).random(40) < 0.4 for word in words]
    for kept in np.stack(draws, 1):
        hidden = stem.hidden.clone()
        for word, keeps in zip(words, kept, strict=True):
            hidden[0, list(word.tokens)] *= float(keeps)
        total += float(at_end(of, "zero", None, stem, hidden)[0]) * torch.from_numpy(kept).float()
    actual = word_values(of, RISE(40, share=0.4, seed=3))[0]
    torch.testing.assert_close(actual, total / (40 * 0.4), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [*GAMES.values(), RISE(16, share=0.5)], ids=[*GAMES, "rise"])
def test_tokens_share_the_score_of_their_word_in_any_batch(method: Any) -> None:
    together = side("bert", CAPTION, OTHER)
    for item, caption in enumerate((CAPTION, OTHER)):
        values, parts = word_values(together, method, item)
        assert any(len(part) > 1 for part in parts)
        for part in parts:
            torch.testing.assert_close(part, part[:1].expand_as(part), atol=0, rtol=0)
        torch.testing.assert_close(values, word_values(side("bert", caption), method)[0], atol=1e-5, rtol=1e-4)


def test_every_method_that_removes_units_removes_words() -> None:
    """All that is left is M2IB, which replaces channels of hidden states by noise, and removes no unit."""
    perturbing = {name for name, kind in METHODS.items() if kind.category == "perturbation"}
    assert perturbing == {*GAMES, "rise", "m2ib"}
    for name in perturbing - {"m2ib"}:
        assert METHODS[name].configured(tiny.model("bert").text, "default", {}, {}).options()["units"] == "words"
    for name in ("rise", "fixlip"):  # whose authors remove tokens
        assert METHODS[name].configured(tiny.model("bert").text, "paper", {}, {}).options()["units"] == "tower"


def test_the_table_of_occlusion_has_words_removed_whole() -> None:
    """The sum of a row of the table is the change of the image's embedding times that of the word's removal."""
    model = tiny.model("bert")
    table = nibt.regions(model, tiny.image(), CAPTION, method="occlusion")
    assert isinstance(table, nibt.Regions)
    image = model.image.trace(model.image.prepare([tiny.image()]))
    vectors = Occlusion().scores(Side(model, image, lambda one: one).embedded(), image.cut(model.image.depth).units)[0]
    text = side("bert", CAPTION).embedded()
    zebra = text.inputs.words.words[0][1]
    stem = text.stem()
    hidden = stem.hidden.clone()
    hidden[0, list(zebra.tokens)] = text.tower.embedder(torch.tensor(text.tower.pad[0])).detach()
    with torch.no_grad():
        change = text.value()[0] - text.score(stem.rest(hidden[None])[0])[0]
    torch.testing.assert_close(table.for_words("zebra").flatten(), vectors @ change, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", [*GAMES, "rise"])
def test_units_are_an_option_of_each_game(name: str) -> None:
    model, options = tiny.model("bert"), {} if name == "occlusion" else {"masks" if name == "rise" else "budget": 16}
    by_word = nibt.explain(model, tiny.image(), CAPTION, name, **options)
    by_token = nibt.explain(model, tiny.image(), CAPTION, name, units="tower", **options)
    assert isinstance(by_word, nibt.Explanation)
    assert isinstance(by_token, nibt.Explanation)
    assert torch.equal(by_word.image.scores, by_token.image.scores)
    assert not torch.allclose(by_word.text.scores, by_token.text.scores)
    with pytest.raises(BadOption, match="units must be words"):
        nibt.explain(model, tiny.image(), CAPTION, name, units="letters", **options)
