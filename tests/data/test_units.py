"""Tests of ``nibt.data.units``."""

from dataclasses import replace

import pytest
import torch

from nibt.data.units import Grid, Word, Words, WordScore, special_token_share
from nibt.results.attribution import Attribution

GRID = Grid(2, 3, prefix=1)
WORDS = Words(
    (("<s>", "ca", "t", "</s>"), ("<s>", "dog", "</s>", "<pad>")),
    ((Word("cat", (1, 2)),), (Word("dog", (1,)),)),
    torch.tensor([[False, True, True, False], [False, True, False, False]]),
)


def test_grid_keeps_the_rows_of_its_cells() -> None:
    rows = torch.arange(18.0).reshape(2, 9)  # a class token, six cells, two rows of padding
    assert GRID.count == 6
    assert GRID.keep(rows).tolist() == [[1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15]]
    assert GRID.unfold(GRID.keep(rows)).tolist() == [[[1, 2, 3], [4, 5, 6]], [[10, 11, 12], [13, 14, 15]]]
    assert Grid(2, 3).keep(rows)[:, 0].tolist() == [0, 9], "a grid has no prefix by default"
    assert GRID.bare() == Grid(2, 3) != GRID
    assert GRID[1] is GRID


def test_words_keep_the_rows_of_words() -> None:
    rows = torch.arange(1.0, 9).reshape(2, 4)
    assert WORDS.keep(rows).tolist() == [[0, 2, 3, 0], [0, 6, 0, 0]]
    second = WORDS[1]
    assert (second.tokens, second.words) == ((WORDS.tokens[1],), (WORDS.words[1],))
    assert second.explained.tolist() == [False, True, False, False]


def test_words_are_equal_by_value() -> None:
    same = Words(WORDS.tokens, WORDS.words, WORDS.explained.clone())
    assert same == WORDS
    assert hash(same) == hash(WORDS)
    assert replace(same, explained=~WORDS.explained) != WORDS


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_special_token_share_is_independent_of_the_scale(size: float) -> None:
    rows = size * torch.tensor(
        [[2.0, 1, -1, 1, -1, 1, -1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0]]
    )
    torch.testing.assert_close(special_token_share(rows, GRID), torch.tensor([0.4, 0.0, 1.0]))
    words = size * torch.tensor([[3.0, -1, 1, 3], [0, -2, 0, 0]])
    torch.testing.assert_close(special_token_share(words, WORDS), torch.tensor([0.75, 0.0]))


def test_special_token_share_of_a_map_of_zeros_is_zero() -> None:
    assert special_token_share(torch.zeros(2, 9), GRID).tolist() == [0, 0]


def test_special_token_share_is_never_negative() -> None:
    """Both sums are rounded, and that of the explained rows may be the larger one."""
    rows = torch.rand(2000, 50, generator=torch.Generator().manual_seed(0))
    rows[:, 0] = 0.0
    units = Grid(7, 7, prefix=1)
    assert (rows.sum(-1) < units.keep(rows).sum(-1)).any()
    assert (special_token_share(rows, units) >= 0).all()


def test_word_scores_are_sums_over_tokens() -> None:
    for row, scores, word in ((0, (9, 1, 2, 9), ("cat", 3.0, (1, 2))), (1, (9, -1, 2, 9), ("dog", -1.0, (1,)))):
        attribution = Attribution(torch.tensor(scores, dtype=torch.float32), WORDS[row], torch.tensor(0.0))
        assert attribution.words == (WordScore(*word),)


def test_overview_is_divided_by_area() -> None:
    grid = Grid(3, 2, places=(4, 5, 6, 7, 8, 9), overview=Grid(2, 2, places=(0, 1, 2, 3)))
    scores = torch.zeros(1, 10)
    scores[0, :4] = torch.tensor([3.0, 6.0, 12.0, 24.0])
    assert grid.unfold(grid.keep(scores))[0].tolist() == [[2.0, 4.0], [5.0, 10.0], [8.0, 16.0]]
