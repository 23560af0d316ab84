"""Tests of ``nibt.results.interaction``."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nibt.errors import BadInput, CannotWrite
from nibt.results.interaction import Interaction
from nibt.results.saving import save
from tests.engine.cuts import table


def test_words_and_regions_are_sums_of_the_table() -> None:
    found = table(steps=2)
    texts = [word.text for word in found.words]
    torch.testing.assert_close(found.for_words(0), found.table[0])
    assert texts == ["a", "photo", "of", "a", "cat", "and", "a", "dog"]
    torch.testing.assert_close(found.for_words("a", 1), found.table[[0, 1, 3, 6]].sum(0))  # every "a"
    torch.testing.assert_close(found.for_words(f"{texts[1].upper()} {texts[2]}"), found.table[1] + found.table[2])
    width, height = found.size
    whole = [score for _, score in found.for_region((0, 0, width, height))]
    seen = found.table.flatten(1).sum(1)
    if found.region.width <= width:  # nothing was cut off
        torch.testing.assert_close(torch.tensor(whole), seen, atol=1e-6, rtol=1e-4)
    with pytest.raises(BadInput, match="does not stand in the caption"):
        found.for_words("zebra")
    with pytest.raises(BadInput, match="have the numbers"):
        found.for_words(99)
    with pytest.raises(BadInput, match="at least one"):
        found.for_words()
    with pytest.raises(BadInput, match="outside"):
        found.for_region((10 * width, 0, 5, 5))


def test_for_region_counts_a_patch_by_its_covered_share() -> None:
    found = table(steps=1)
    rows_, columns = found.grid.rows, found.grid.columns
    cell = found.region.width / columns, found.region.height / rows_
    flat = replace(found, scores=torch.ones_like(found.scores))
    left, top = found.region.left, found.region.top
    half = flat.for_region((round(left), round(top), round(1.5 * cell[0]), round(2 * cell[1])))
    expected = round(1.5 * cell[0]) / cell[0] * round(2 * cell[1]) / cell[1]
    assert half[0][1] == pytest.approx(expected, rel=0.15)


def test_interaction_is_saved_and_loaded(tmp_path: Path) -> None:
    found = table(steps=2)
    found.save(tmp_path / "x.json")
    again = Interaction.load(tmp_path / "x.json")
    torch.testing.assert_close(again.scores, found.scores, atol=1e-7, rtol=1e-6)
    assert (again.caption, again.words, again.region) == (found.caption, found.words, found.region)
    assert again.gap == pytest.approx(found.gap, abs=1e-6)
    save([found, found], tmp_path / "two.json")
    assert len(json.loads((tmp_path / "two.json").read_text())) == 2
    with pytest.raises(BadInput, match="no word-region table"):
        Interaction.load(tmp_path / "two.json")
    with pytest.raises(CannotWrite):
        found.save(tmp_path / "missing" / "x.json")
