"""Tests of ``nibt.methods.replaced_attention``."""

from math import exp

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nibt
from nibt.data.units import Grid
from nibt.errors import Unsupported
from nibt.methods.replaced_attention import NACLIP, ClearCLIP, _neighborhood
from nibt.models._attention import AttentionRecord, with_attention
from nibt.models._tower import Trace
from tests import tiny
from tests.helpers import assert_close, both_sides, make_side
from tests.methods.last_block import KINDS, queries_as_keys, scores_by_hand, sides, softmax


def gaussian(rows: int, columns: int, spread: float) -> Tensor:
    """Return the prior of tokens after a class token, entry by entry."""
    prior = torch.zeros(1 + rows * columns, 1 + rows * columns)
    for one in range(rows * columns):
        for another in range(rows * columns):
            down, across = one // columns - another // columns, one % columns - another % columns
            prior[1 + one, 1 + another] = exp(-(down**2 + across**2) / (2 * spread**2))
    return prior


@both_sides
@KINDS
@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_naclip_equals_a_model_with_another_last_block(kind: str, modality: str, spread: float) -> None:
    """The tiny images have 4 x 4 patches; captions have no places, so nothing is added."""
    of = make_side(tiny.model(kind), modality)
    prior = gaussian(4, 4, spread) if modality == "image" else 0.0

    def near(_: Tensor, key: Tensor, hidden: Tensor) -> Tensor:
        return softmax(key, key, hidden, prior)

    assert_close(NACLIP(spread=spread)(of).scores, scores_by_hand(of, kind, modality, near, alone=True))


def test_spread_of_the_authors_is_the_default() -> None:
    of = make_side(tiny.model("clip"), "image")
    assert torch.equal(NACLIP()(of).scores, NACLIP(spread=5.0)(of).scores)
    assert not torch.allclose(NACLIP()(of).scores, NACLIP(spread=0.5)(of).scores, rtol=1e-3)


def test_neighborhood_is_the_convolution_of_the_authors() -> None:
    """A window of twice the grid, moved to each patch by a convolution; the grid is not square."""
    rows, columns, spread = 3, 5, 1.7
    down, across = (torch.arange(1 - count, count) ** 2 for count in (rows, columns))
    window = torch.exp(-(down[:, None] + across) / (2 * spread**2))
    single = torch.eye(rows * columns).view(-1, 1, rows, columns)
    moved = F.conv2d(single, window[None, None], padding=(rows - 1, columns - 1)).view(rows * columns, -1)
    torch.testing.assert_close(_neighborhood(Grid(rows, columns), spread), moved)


def test_wide_neighborhood_changes_nothing() -> None:
    """Where all tokens are patches, a constant is added; with queries as keys, ClearCLIP is left."""
    image, _ = sides(queries_as_keys("siglip"))
    assert_close(NACLIP(spread=1e6)(image).scores, ClearCLIP()(image).scores)


def test_attention_in_windows_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    of = make_side(tiny.model("clip"), "image")
    whole = with_attention

    def in_windows(trace: Trace, number: int, attend: object) -> object:
        def windowed(record: AttentionRecord) -> Tensor:
            rows = {name: value[:, :, :8] for name, value in vars(record).items()}
            return attend(AttentionRecord(**{**rows, "weights": rows["weights"][..., :8]}))  # type: ignore[operator]

        return whole(trace, number, windowed)

    monkeypatch.setattr("nibt.methods.replaced_attention.with_attention", in_windows)
    with pytest.raises(Unsupported, match=r"naclip needs an attention among all 17 tokens .*\(got one among 8\): use"):
        NACLIP()(of)


@pytest.mark.parametrize("method", ["naclip", "clearclip", "sclip"])
def test_views_refine_the_map(method: str) -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "two cats", method, views=2)
    assert answer.image.grid.shape == (8, 8)
