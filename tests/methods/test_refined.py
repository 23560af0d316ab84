"""Tests of units that are refined where scores are large: ``nibt.methods._refined``."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nibt
from nibt.core.side import Side
from nibt.data.units import Segments
from nibt.errors import BadOption, Unsupported
from nibt.methods.coalition_values import Banzhaf, Shapley
from nibt.methods.masks import Occlusion
from nibt.models.base import Model
from tests import tiny
from tests.helpers import assert_close, make_side
from tests.models.test_functions import embed_texts, picture
from tests.suites import few
from tests.tiny_vision_language import generator

CAPTION = "a red cat"
MEAN = tuple(round(255 * value) for value in (0.48, 0.46, 0.41))
WEIGHTS = np.random.default_rng(1).standard_normal((12, 64, 3))
WEIGHTS[:, [18, 19, 45]] *= 12  # the cells that matter: two of the third row, and one of the sixth
METHODS = ("occlusion", "banzhaf", "shapley", "fixlip")
Rectangle = tuple[int, int, int, int]


def embed_images(images: list[Image.Image]) -> NDArray[np.float64]:
    """Return weighted sums of the colors of the 64 cells of each image."""
    cells = [np.array(image.resize((8, 8), Image.Resampling.BOX)).reshape(64, 3) / 255 - 0.45 for image in images]
    return np.einsum("dpc,ipc->id", WEIGHTS, np.array(cells))


def model() -> Model:
    return nibt.load_model(images=embed_images, texts=embed_texts)


def similarity(removed: list[Rectangle], caption: str = CAPTION) -> float:
    """Return the similarity of the picture with painted rectangles of cells."""
    image = picture()
    for top, left, bottom, right in removed:
        image.paste(MEAN, (28 * left, 28 * top, 28 * right, 28 * bottom))
    seen, read = embed_images([image])[0], np.array(embed_texts([caption])[0])
    return float(seen @ read / np.linalg.norm(seen) / np.linalg.norm(read))


def by_hand(count: int) -> dict[Rectangle, float]:
    """Return the units of the picture with their drops: the largest that can be divided is, while there is room."""
    whole = similarity([])
    drops = {
        (top, left, bottom, right): whole - similarity([(top, left, bottom, right)])
        for (top, bottom), (left, right) in product(pairwise((0, 2, 5, 8)), repeat=2)
    }
    while True:
        for rectangle in sorted(drops, key=lambda each: -abs(drops[each])):
            top, left, bottom, right = rectangle
            down, across = (
                {start, (start + end) // 2 if end - start > 1 else end, end}
                for start, end in ((top, bottom), (left, right))
            )
            parts = [
                (first, start, last, end)
                for first, last in pairwise(sorted(down))
                for start, end in pairwise(sorted(across))
            ]
            if len(parts) > 1 and len(drops) - 1 + len(parts) <= count:
                break
        else:
            return drops
        del drops[rectangle]
        drops |= {part: whole - similarity([part]) for part in parts}


@pytest.mark.parametrize("count", [9, 13, 24, 40])
def test_units_are_those_that_are_found_by_painting(count: int) -> None:
    expected = by_hand(count)
    assert count - 2 <= len(expected) <= count
    grid = nibt.explain(model(), picture(), CAPTION, "occlusion", units=f"refined:{count}").grid
    assert grid.shape == (8, 8)
    for (top, left, bottom, right), drop in expected.items():
        cells = grid[top:bottom, left:right]
        assert_close(cells, torch.full_like(cells, drop / cells.numel()), 1e-3, least=1e-6)


def test_cells_that_matter_are_units_of_their_own() -> None:
    drops = by_hand(24)
    for cell in (18, 19, 45):
        row, column = divmod(cell, 8)
        assert (row, column, row + 1, column + 1) in drops
    assert max((bottom - top) * (right - left) for top, left, bottom, right in drops) == 9, "the rest stays coarse"


def test_with_enough_units_each_cell_is_one() -> None:
    plain, refined = (
        nibt.explain(model(), picture(), CAPTION, "occlusion", units=units).grid for units in ("words", "refined:64")
    )
    assert_close(refined, plain, 1e-5)


@pytest.mark.parametrize("kind", few(["clip", "siglip naflex", "convnext", "timm vit"], ["clip"]))
def test_units_are_a_partition_and_do_not_depend_on_the_batch(kind: str) -> None:
    side = make_side(tiny.model(kind), "image")
    method = Occlusion(units="refined:12")
    units = method.units_of(side)
    assert isinstance(units, Segments)
    scores = method.scores(side, units)
    for item in range(len(side.inputs)):
        alone = side.take([item])
        own = method.units_of(alone)
        assert isinstance(own, Segments)
        assert torch.equal(own.labels[0], units.labels[item])
        assert own.counts == (units.counts[item],)
        assert sorted(set(own.labels.flatten().tolist())) == list(range(own.count))
        assert_close(scores[item, : own.count], method.scores(alone, own)[0], 1e-3, least=1e-6)


@pytest.mark.parametrize("method", few(METHODS, ["occlusion"]))
def test_each_method_scores_refined_units(method: str) -> None:
    options = {} if method == "occlusion" else {"budget": 600}
    explanation = nibt.explain(model(), picture(), CAPTION, method, units="refined:9", **options)
    blocks = [explanation.grid[rows, columns] for rows in _thirds() for columns in _thirds()]
    assert all(len(set(block.flatten().tolist())) == 1 for block in blocks)
    assert len({float(block[0, 0]) for block in blocks}) == 9
    if method == "shapley":
        cells = [(0, 0, 8, 8)]
        assert float(explanation.grid.sum()) == pytest.approx(similarity([]) - similarity(cells), abs=1e-5)


def _thirds() -> list[slice]:
    return [slice(0, 2), slice(2, 5), slice(5, 8)]


def test_a_caption_has_its_words_as_units() -> None:
    refined = nibt.explain(model(), picture(), CAPTION, "occlusion", units="refined:12").words
    assert refined == nibt.explain(model(), picture(), CAPTION, "occlusion").words


def test_an_error_limit_takes_the_same_units() -> None:
    method = Banzhaf(units="refined:12", budget=256, error=0.5)
    side = make_side(tiny.model("clip"), "image")
    units = method.units_of(side)
    assert isinstance(units, Segments)
    estimates = method.estimates(side, units)
    assert estimates.error is not None
    assert estimates.scores.shape == (2, units.count)


@pytest.mark.parametrize("count", [9, 24, 40])
def test_the_cost_is_about_what_is_run(count: int) -> None:
    images: list[int] = []

    def counted(listed: list[Image.Image]) -> NDArray[np.float64]:
        images.append(len(listed))
        return embed_images(listed)

    functions = nibt.load_model(images=counted, texts=embed_texts)
    for method in (Occlusion(units=f"refined:{count}"), Shapley(units=f"refined:{count}", budget=64)):
        trace = functions.image.trace(functions.image.prepare([nibt.data.images.read_image(picture())]))
        read = torch.tensor(embed_texts([CAPTION]))
        side = Side(functions, trace, lambda seen, read=read: torch.cosine_similarity(seen, read, dim=-1))
        images.clear()
        method.attribute(side)
        cost = method.forwards(0, 64) - 1  # the image itself was traced before
        assert 0.8 * cost <= sum(images) <= 1.2 * cost


def test_answers_have_refined_units_for_each_word() -> None:
    answered = nibt.explain_answer(
        generator("llava"),
        tiny.image(64, 64),
        "a photo",
        "two red cars",
        "occlusion",
        units="refined:9",
        narrow=["image"],
    )
    plain = nibt.explain_answer(
        generator("llava"), tiny.image(64, 64), "a photo", "two red cars", "occlusion", narrow=["image"]
    )
    assert answered.grid.shape == plain.grid.shape
    for word in answered.words:
        assert len(set(word.grid.flatten().tolist())) == min(9, word.grid.numel())


def test_several_images_have_no_refined_units() -> None:
    with pytest.raises(Unsupported, match=r"units must be words for several images \(got refined:9\)"):
        nibt.explain_answer(
            generator("llava"), [tiny.image(), tiny.image(seed=1)], "a photo", "a cat", "occlusion", units="refined:9"
        )


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("refined", r"the number after refined: must be a whole number \(got ''\)"),
        ("refined:few", r"the number after refined: must be a whole number \(got 'few'\)"),
        ("refined:8", r"the number after refined: must be between 9 and 10,000 \(got 8\)"),
        ("refine:20", r"units must be words, tower, segments, segments:FILE or refined:NUMBER \(got 'refine:20'\)"),
    ],
)
def test_wrong_numbers_are_refused(units: str, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(model(), picture(), CAPTION, "occlusion", units=units)


def test_a_number_may_be_written_as_a_float() -> None:
    assert Occlusion(units="refined:12.0").refined == 12


def test_views_are_refused() -> None:
    with pytest.raises(BadOption, match="views must be 1 with segments or refined units"):
        Occlusion(units="refined:9", views=2)


@pytest.mark.parametrize("method", METHODS)
def test_tables_have_no_refined_units(method: str) -> None:
    call: Any
    for call in (
        lambda: nibt.regions(tiny.model("clip"), tiny.image(), CAPTION, method=method, units="refined:9"),
        lambda: nibt.contributions(tiny.model("clip"), tiny.image(), method=method, units="refined:9"),
    ):
        with pytest.raises(BadOption, match=r"segments for tables and vectors .*refined units depend on the target"):
            call()
