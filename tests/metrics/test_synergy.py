"""Tests of the metric ``synergy``."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.metrics.base import RegionsInput
from nibt.metrics.coalitions import Synergy, dividends_of
from nibt.results.regions import Rest
from tests import linear
from tests.helpers import Record, assert_error_below
from tests.metrics.known_tables import embeddings_by_hand, input_of, known, number, tiny_table


def subsets(units: Iterable[int]) -> list[frozenset[int]]:
    units = tuple(units)
    return list(map(frozenset, chain.from_iterable(combinations(units, size) for size in range(len(units) + 1))))


def test_dividends_equal_a_moebius_transform_over_all_subsets(record_property: Record) -> None:
    """Two words and three patches, everything else removed: the dividends of all 32 sets add up to the cosine."""
    patches, words = (1, 6, 11), (0, 2)  # unit 16 + i is word i
    sets = subsets((*patches, *(16 + word for word in words)))
    kept = torch.tensor([[float(unit in units) for unit in range(20)] for units in sets])
    image, text = embeddings_by_hand(kept[:, :16], kept[:, 16:])
    game = dict(zip(sets, (image * text).sum(1).double().tolist(), strict=True))
    dividends = {
        units: sum((-1) ** (len(units) - len(inner)) * game[inner] for inner in subsets(units)) for units in sets
    }
    assert sum(dividends.values()) == pytest.approx(game[max(sets, key=len)])
    actual = dividends_of(input_of(known([[]])))
    expected = [[dividends[frozenset((16 + word, patch))] for patch in patches] for word in words]
    assert_error_below(1e-6, actual[list(words)][:, list(patches)], expected, record_property)


class _Planted(nn.Module):
    """A linear head whose unit embedding has a coordinate that takes the rest of its length: the cosine is bilinear."""

    def __init__(self, begin: nn.Module, rows: int, width: int, seed: int, place: int) -> None:
        super().__init__()
        self.begin, self.blocks, self.place = begin, nn.ModuleList([nn.Identity()]), place
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(0.02 * torch.randn(rows, width, 5, generator=generator))

    def parts(self, stream: Tensor) -> Tensor:
        """Return the part of each row in the embedding."""
        return torch.einsum("brw,rwd->brd", stream, self.weights[: stream.shape[1]])

    def end(self, stream: Tensor) -> Tensor:
        embedding = self.parts(stream).sum(1)
        left = 1 - embedding.square().sum(1)
        assert (left > 0).all()
        rest = torch.zeros(len(left), 2)
        rest[:, self.place] = left.sqrt()
        return torch.cat([embedding, rest], 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.end(self.blocks[0](self.begin(values)))


@cache
def planted_sides() -> tuple[Side, Side, Tensor]:
    """Return an image and a caption with the dividends of their words and patches, in closed form."""
    image, text = linear.image_side(1), linear.text_side(((3, 1, 4, 1, 5, 2),))
    sides, parts = [], []
    for place, (side, width) in enumerate(((image, 48), (text, 4))):
        tower: Any = type(side.tower)()
        tower.root = _Planted(tower.root.begin, 7, width, place, place)
        trace = tower.trace(side.inputs)
        sides.append(replace(side, trace=trace, score=lambda embedding: embedding[..., 0]))
        parts.append(tower.root.parts(tower.root.begin(side.inputs.values))[0].detach())
    return sides[0], sides[1], (parts[1][1:] @ parts[0].T).double()


def planted(table: Tensor) -> RegionsInput:
    """Return the input of a table of six words and 2 x 3 patches."""
    image, text, _ = planted_sides()
    assert text.inputs.words is not None
    words = text.inputs.words.words[0]
    rest = Rest(torch.zeros(6), torch.zeros(2, 3), torch.tensor(0.0))
    regions = replace(
        tiny_table("occlusion")[0],
        words=words,
        tokens=text.inputs.words.tokens[0],
        special=~text.inputs.words.explained[0],
        table=table.float().unflatten(1, (2, 3)),
        rest=rest,
    )
    return RegionsInput(regions, image, text)


def test_planted_synergy_is_recovered(record_property: Record) -> None:
    truth = planted_sides()[2]
    assert_error_below(1e-6, dividends_of(planted(truth)), truth, record_property)
    assert number(Synergy(), planted(truth)) == pytest.approx(1, abs=1e-6)
    assert number(Synergy(), planted(3 * truth + 0.5)) == pytest.approx(1, abs=1e-6), "scale and offset do not matter"
    assert number(Synergy(), planted(-truth)) == pytest.approx(-1, abs=1e-6)


@pytest.mark.slow
def test_random_tables_have_no_synergy() -> None:
    """The correlation of 36 pairs has the deviation 1 / sqrt(35), and the mean of 60 tables an eighth of it."""
    generator = torch.Generator().manual_seed(0)
    numbers = [number(Synergy(), planted(torch.randn(6, 6, generator=generator))) for _ in range(60)]
    assert abs(np.mean(numbers)) < 3 / np.sqrt(35 * 60)
    assert np.std(numbers) == pytest.approx(1 / np.sqrt(35), rel=0.25)


def test_synergy_is_the_correlation_of_numpy() -> None:
    table, _, _ = tiny_table(budget=300)
    metric_input = input_of(table)
    wanted = np.corrcoef(table.table.flatten(), dividends_of(metric_input).flatten())[0, 1]
    assert number(Synergy(), metric_input) == pytest.approx(wanted)


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_constant_table_has_no_correlation(level: float) -> None:
    assert np.isnan(number(Synergy(), input_of(known([[level] * 16] * 4))))
