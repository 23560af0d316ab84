"""Tests of ``nibt.results.regions``."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.errors import BadInput, CannotWrite
from nibt.results.regions import Regions, word_indices
from tests.engine.cuts import table


def test_words_and_regions_are_sums_of_the_table() -> None:
    actual = table(steps=2)
    texts = [word.text for word in actual.words]
    torch.testing.assert_close(actual.for_words(0), actual.table[0])
    assert texts == ["a", "photo", "of", "a", "cat", "and", "a", "dog"]
    torch.testing.assert_close(actual.for_words("a", 1), actual.table[[0, 1, 3, 6]].sum(0))  # every "a"
    torch.testing.assert_close(actual.for_words(f"{texts[1].upper()} {texts[2]}"), actual.table[1] + actual.table[2])
    width, height = actual.size
    whole = [score for _, score in actual.for_region((0, 0, width, height))]
    seen = actual.table.flatten(1).sum(1)
    if actual.region.width <= width:  # nothing was cropped
        torch.testing.assert_close(torch.tensor(whole), seen, atol=1e-6, rtol=1e-4)
    with pytest.raises(BadInput, match="is not in the caption"):
        actual.for_words("zebra")
    with pytest.raises(BadInput, match="must be between 0 and 7"):
        actual.for_words(99)
    with pytest.raises(BadInput, match="at least one"):
        actual.for_words()
    with pytest.raises(BadInput, match="must overlap the region"):
        actual.for_region((10 * width, 0, 5, 5))


def test_for_region_counts_a_patch_by_its_covered_share() -> None:
    actual = table(steps=1)
    rows_, columns = actual.grid.rows, actual.grid.columns
    cell = actual.region.width / columns, actual.region.height / rows_
    flat = replace(actual, table=torch.ones_like(actual.table))
    left, top = actual.region.left, actual.region.top
    half = flat.for_region((round(left), round(top), round(1.5 * cell[0]), round(2 * cell[1])))
    expected = round(1.5 * cell[0]) / cell[0] * round(2 * cell[1]) / cell[1]
    assert half[0][1] == pytest.approx(expected, rel=0.15)


def test_interaction_is_saved_and_loaded(tmp_path: Path) -> None:
    actual = table(steps=2)
    actual.save(tmp_path / "x.json")
    again = Regions.load(tmp_path / "x.json")
    torch.testing.assert_close(again.scores, actual.scores, atol=1e-7, rtol=1e-6)
    assert (again.caption, again.words, again.region) == (actual.caption, actual.words, actual.region)
    assert again.gap == pytest.approx(actual.gap, abs=1e-6)
    nibt.save([actual, actual], tmp_path / "two.json")
    assert len(json.loads((tmp_path / "two.json").read_text())) == 2
    with pytest.raises(BadInput, match="not a file of kind 'regions'"):
        Regions.load(tmp_path / "two.json")
    with pytest.raises(CannotWrite):
        actual.save(tmp_path / "missing" / "x.json")


def test_positions_of_words_may_be_numbers_of_numpy() -> None:
    assert word_indices(table().words, [np.int64(1)]) == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["special"].pop(), "special must have an entry for each token"),
        (lambda data: data["rest"]["image"].pop(), "table and rest.image must have an entry for each word"),
        (lambda data: data["rest"]["text"].pop(), "rest.text must have the rows and columns of a map"),
        (lambda data: data["words"][0].update(tokens=[-1]), "the tokens of a word must be positions"),
        (lambda data: data.update(region=[0, 0, 9, 0]), "region must have a width and a height above 0"),
    ],
)
def test_damaged_data_are_refused(change: Callable[[Any], object], message: str) -> None:
    data = table().to_json()
    change(data)
    with pytest.raises(BadInput, match=message):
        Regions.from_json(data)
