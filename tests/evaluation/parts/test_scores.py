"""Tests of ``nibt.part_scores``: the identity of the sums, and the cells that ``part_cells`` finds."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.bridges.repair import part_cells
from nibt.data.images import ImageInput
from nibt.errors import BadInput, BadOption
from nibt.results.explanation import Explanation
from nibt.results.parts import Parts
from tests import tiny
from tests.helpers import noise_pairs

PAIRS = noise_pairs(8)


@pytest.fixture(scope="module")
def parts() -> Parts:
    found = nibt.parts(tiny.model("clip"), PAIRS, "gae", count=3, texts=[])
    return replace(found, parts=(replace(found.parts[0], name="wheel"), *found.parts[1:]))


def scored(parts: Parts, method: str = "gae", **options: Any) -> Explanation:
    model = tiny.model("clip")
    pair = PAIRS[0]
    return nibt.part_scores(model, nibt.explain(model, pair.image, pair.caption, method, **options), parts)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        pytest.param("gae", {}, id="cells of the parts"),
        pytest.param("gae views=2", {}, id="finer cells"),
        pytest.param("nib:fast", {"against": ["a dog"]}, id="a difference"),
    ],
)
def test_the_scores_of_parts_and_the_rest_add_up_to_the_sum_of_the_map(
    parts: Parts, method: str, options: dict[str, Any]
) -> None:
    explanation = scored(parts, method, **options)
    found = explanation.parts
    assert found is not None
    assert found.parts, "an image of the data set has parts"
    total = float(explanation.grid.double().sum())
    assert found.rest + sum(part.score for part in found.parts) == pytest.approx(total, abs=1e-9)
    assert found.total == pytest.approx(total, abs=1e-9)
    for part in found.parts:
        of_cells = explanation.grid.double()[found.cells == part.number].sum()
        assert part.score == pytest.approx(float(of_cells), abs=1e-9)
    assert [part.score for part in found.parts] == sorted((part.score for part in found.parts), reverse=True)


def test_the_cells_are_those_that_an_exchange_for_training_exchanges(parts: Parts) -> None:
    found = scored(parts).parts
    assert found is not None
    for part in parts.parts:
        try:
            expected = part_cells(tiny.model("clip"), [PAIRS[0].image], parts, part.number, reach=1.0).masks[0]
        except BadInput:  # this image has none
            expected = torch.zeros(found.cells.shape, dtype=torch.bool)
        assert torch.equal(found.cells == part.number, expected)


def test_a_finer_map_has_the_part_at_the_center_of_each_cell(parts: Parts) -> None:
    coarse, fine = scored(parts).parts, scored(parts, "gae views=2").parts
    assert coarse is not None
    assert fine is not None
    rows, columns = (np.arange(2 * count) // 2 for count in coarse.cells.shape)
    assert tuple(fine.cells.shape) == tuple(2 * count for count in coarse.cells.shape)
    assert torch.equal(fine.cells, coarse.cells[rows][:, columns])


def test_parts_of_an_image_are_in_every_view(parts: Parts, tmp_path: Path) -> None:
    explanation = scored(parts)
    plain = replace(explanation, parts=None)
    found = explanation.parts
    assert found is not None
    explanation.save(tmp_path / "x.json")
    assert Explanation.load(tmp_path / "x.json").parts == found
    assert all(f"{part.title} {part.score:+.4f}" in repr(explanation) for part in found.parts)

    explanation.save(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    for title, verdict, score, share in found.rows:
        assert re.search(rf"{title}</th><td>{verdict}</td><td>{re.escape(score)}</td><td>{share}</td>", page)
    assert nibt.draw(explanation).height > nibt.draw(plain).height + 300


def test_the_picture_has_the_color_of_each_part_on_its_cells(parts: Parts) -> None:
    from nibt.report.image.known_parts import cells_of_parts, colors

    explanation = scored(parts)
    found = explanation.parts
    assert found is not None
    assert explanation.image.input is not None
    gray = ImageInput(Image.new("RGB", explanation.size, (128, 128, 128)), "gray")
    sides = {**explanation.sides, "image": replace(explanation.image, input=gray)}
    drawn = np.asarray(cells_of_parts(replace(explanation, sides=sides)), int)
    scale = drawn.shape[1] / explanation.size[0]

    color_of = dict(zip((part.number for part in found.parts), colors(found), strict=True))
    rows, columns = found.cells.shape
    for row, column in np.ndindex(rows, columns):
        down = scale * (explanation.region.top + explanation.region.height * (row + 0.1) / rows)
        across = scale * (explanation.region.left + explanation.region.width * (column + 0.1) / columns)
        number = int(found.cells[row, column])
        expected = np.array(color_of[number]) * 0.55 + 128 * 0.45 if number else np.full(3, 128)
        corner = drawn[int(down), int(across)]  # beside the number, which is at the center
        assert np.abs(corner - expected).max() <= 2


def test_the_request_has_the_fingerprint_of_the_parts(parts: Parts) -> None:
    explanation = scored(parts)
    assert explanation.request() == {**replace(explanation, parts=None).request(), "parts": parts.fingerprint}


def test_files_whose_parts_do_not_fit_are_refused(parts: Parts) -> None:
    data = scored(parts).to_json()
    with pytest.raises(BadInput, match="parts must be those of cells"):
        Explanation.from_json({**data, "parts": {**data["parts"], "parts": []}})
    cells = [row[:-1] for row in data["parts"]["cells"]]
    numbers = {number for row in cells for number in row}
    kept = [part for part in data["parts"]["parts"] if part["number"] in numbers]
    with pytest.raises(BadInput, match="parts must have the cells of the map"):
        Explanation.from_json({**data, "parts": {**data["parts"], "cells": cells, "parts": kept}})


# Bad input


def test_parts_of_another_model_are_refused_by_their_fingerprint(parts: Parts) -> None:
    other = tiny.model("siglip")
    explanation = nibt.explain(other, PAIRS[0].image, "a cat", "gae")
    message = f"weights {parts.model['weights_hash']}, layer {parts.layer} .*find the parts of this model"
    with pytest.raises(BadInput, match=message):
        nibt.part_scores(other, explanation, parts)
    with pytest.raises(BadInput, match=r"the explanation is of .* with another .* than the model"):
        nibt.part_scores(tiny.model("clip"), explanation, parts)


def test_parts_of_another_layer_or_grid_are_refused(parts: Parts) -> None:
    with pytest.raises(BadOption, match=r"layer must be between 0 and \d+"):
        scored(replace(parts, layer=99))
    with pytest.raises(BadOption, match="the parts have 9 x 9 cells, and layer"):
        scored(replace(parts, grid=(9, 9)))


@pytest.mark.usefixtures("unchecked")
def test_what_has_no_map_of_an_image_with_a_caption_is_refused(parts: Parts, tmp_path: Path) -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match=r"part_scores takes explanations of an image with a caption \(got a comparison"):
        nibt.part_scores(model, nibt.compare(model, "a cat", "a dog"), parts)
    with pytest.raises(BadInput, match="part_scores takes results of class Explanation"):
        nibt.part_scores(model, "x.json", parts)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="part_scores takes results of class Parts"):
        nibt.part_scores(model, scored(parts), [])  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match=r"none\.json"):
        nibt.part_scores(model, scored(parts), tmp_path / "none.json")
    with pytest.raises(BadInput, match="has no part"):
        scored(replace(parts, parts=()))
