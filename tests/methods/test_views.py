"""Tests of ``nibt.methods._views``, and of views in all that computes maps."""

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import nibt
from nibt.core.side import Side
from nibt.data.images import ImageInput, read_image
from nibt.data.units import Grid
from nibt.datasets.scenes import Scenes
from nibt.engine.encode import encode
from nibt.errors import BadOption
from nibt.methods._views import FINEST, Views, overlaps, shifts, smoothing
from nibt.methods.base import Method
from nibt.methods.masks import RISE
from nibt.methods.nib import NIB
from nibt.models._tower import Trace
from nibt.models.base import ImageTower, Model
from nibt.preprocessing.images import Surroundings
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import METHODS, Run, assert_close, make_side
from tests.suites import few

KINDS = ("clip", "siglip", "own vit", "own vit oblong", "convnext")


@dataclass(frozen=True)
class Brightness(Method):
    """The mean of the pixels of a patch, which shows where a cell looks."""

    def attribute(self, side: Side) -> Attribution:
        grid = side.units
        assert isinstance(grid, Grid)
        scores = F.adaptive_avg_pool2d(side.inputs.values.mean(1), (grid.rows, grid.columns))
        return Attribution(scores.flatten(1), grid.bare(), torch.zeros(len(scores)))


def _with_pixels(of: Side, values: torch.Tensor) -> Side:
    inputs = replace(of.inputs, values=values, around=())
    return replace(of, trace=of.tower.trace(inputs))


@pytest.mark.parametrize("count", range(1, 16 + 1))
def test_shifts_are_symmetric_and_differ(count: int) -> None:
    places = shifts(count)
    assert len(set(places)) == count
    assert {(down, -right) for down, right in places} == set(places)
    assert all(-0.5 < step <= 0.5 for place in places for step in place)
    assert places[0] == (0.0, 0.0), "the image itself"
    heights = sorted({down for down, right in places if right} | {0.0})
    assert np.allclose(np.diff(heights), 1 / len(heights)), "evenly spaced"


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.0, 1 / 3, 0.5])
@pytest.mark.parametrize(("units", "cells"), [(2, 3), (7, 2), (16, 1)])
def test_overlaps_are_lengths_in_their_places(units: int, cells: int, shift: float) -> None:
    matrix = overlaps(units, cells, shift)
    assert matrix.shape == (units * cells, units)
    assert float(matrix.sum()) == pytest.approx(units - abs(shift)), "less what lies outside"
    middles = (torch.arange(units * cells, dtype=torch.float64) + 0.5) / cells
    inner = matrix[:, 1:-1]
    torch.testing.assert_close(inner.sum(0), torch.ones(units - 2, dtype=torch.float64))
    torch.testing.assert_close(inner.T @ middles, torch.arange(1, units - 1, dtype=torch.float64) + 0.5 + shift)


def test_overlaps_without_a_shift_repeat_units() -> None:
    expected = torch.eye(3, dtype=torch.float64).repeat_interleave(2, 0) / 2
    assert torch.equal(overlaps(3, 2, 0.0), expected)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 16])
@pytest.mark.parametrize("kind", ["clip", "convnext"])
def test_a_flat_map_stays_flat(count: int, kind: str) -> None:
    views = Views.of(make_side(tiny.model(kind), "image"), count)
    assert views is not None
    fine, grid = views.blend(torch.full((count, 1, views.grid.count), 1.5), views.grid)
    assert grid.count == views.grid.count * min(count, FINEST) ** 2
    torch.testing.assert_close(fine, torch.full((1, grid.count), 1.5 / min(count, FINEST) ** 2))


def _symmetric() -> Model:
    """A CLIP that treats left and right alike: its patches have even weights, and so have its positions."""
    built = tiny.clip()
    vision = built.module.vision_model.embeddings
    rows = columns = vision.image_size // vision.patch_size
    with torch.no_grad():
        weight = vision.patch_embedding.weight
        weight.add_(weight.flip(-1).clone())
        places = vision.position_embedding.weight[1:].unflatten(0, (rows, columns))
        places.add_(places.flip(1).clone())
    return nibt.load_model(built.module, processor=built.processor)


@pytest.mark.parametrize("method", ["nib", "gae", "occlusion"])
@pytest.mark.parametrize("views", few([2, 3, 4, 5, 7, 16], [3]))
@pytest.mark.parametrize("size", [(32, 32), (70, 40)])
def test_the_map_of_a_mirrored_image_is_mirrored(method: str, views: int, size: tuple[int, int]) -> None:
    """Also where views show what the crop leaves out."""
    model, image = _symmetric(), tiny.image(*size).pil_image
    plain, mirrored = (
        nibt.explain(model, each, "a cat", method, views=views).grid
        for each in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    assert_close(mirrored.flip(-1), plain)
    assert not torch.allclose(mirrored, plain, rtol=0.1), "the image itself is not symmetric"


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize(("row", "column"), [(13, 9), (18, 22), (16, 16)])
def test_fine_map_has_its_cells_in_place(views: int, row: int, column: int) -> None:
    """The map of one bright pixel peaks in its unit, and in the cells of the mean over the views."""
    of = make_side(tiny.model("clip"), "image")
    values = torch.zeros_like(of.inputs.values)
    values[..., row, column] = 1
    actual = Brightness(views=views)(_with_pixels(of, values)).grid[0]
    cells = min(views, FINEST)
    assert actual.shape == (4 * cells, 4 * cells)
    peak = (actual == actual.max()).nonzero().float().mean(0)
    for axis, pixel in enumerate((row, column)):
        assert abs((float(peak[axis]) + 0.5) * 8 / cells - pixel - 0.5) <= 8 / cells


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_blended_from_maps_of_shifted_pixels(kind: str) -> None:
    """Compared with each view, computed from the pixels one by one."""
    of = make_side(tiny.model(kind), "image")
    of = replace(of, trace=of.tower.trace(replace(of.inputs, around=())))
    method = NIB((1,), "blank", "gauss", 4, views=3)
    actual, single = method(of), replace(method, views=1)
    grid = of.cut(1).units
    height, width = of.inputs.values.shape[-2:]
    total, covered, plain = 0, 0, single(of)
    for down, right in shifts(3):
        down, right = round(down * height / grid.rows), round(right * width / grid.columns)
        wide = F.pad(of.inputs.values, (16,) * 4)
        moved = single(_with_pixels(of, wide[..., 16 + down : 16 + down + height, 16 + right : 16 + right + width]))
        rows = overlaps(grid.rows, 3, down * grid.rows / height).float()
        columns = overlaps(grid.columns, 3, right * grid.columns / width).float()
        total = total + rows @ moved.grid @ columns.T
        covered = covered + rows.sum(1)[:, None] * columns.sum(1)
    mean = total / covered / 9
    lacking = plain.grid - mean.unflatten(-1, (-1, 3)).unflatten(-3, (-1, 3)).sum((-3, -1))
    rows, columns = (smoothing(count, 3, 3 * ImageTower.blend_width).float() for count in (grid.rows, grid.columns))
    assert_close(actual.grid, mean + rows @ lacking @ columns.T)
    assert_close(actual.grid.sum((-2, -1)), plain.grid.sum((-2, -1)))
    assert actual.path == plain.path
    assert torch.equal(actual.special_token_share, plain.special_token_share)


@pytest.mark.parametrize(("units", "cells", "width"), [(4, 3, 3.0), (7, 2, 2.0), (5, 1, 1.0), (9, 1, 2.5)])
def test_smoothing_keeps_sums(units: int, cells: int, width: float) -> None:
    matrix = smoothing(units, cells, width)
    torch.testing.assert_close(matrix.sum(0), torch.ones(units, dtype=torch.float64))
    middles = (torch.arange(units * cells, dtype=torch.float64) + 0.5) / cells
    inner = slice(2, -2)
    centers = torch.arange(units, dtype=torch.float64) + 0.5
    torch.testing.assert_close((matrix.T @ middles)[inner], centers[inner])


def test_views_do_not_hide_what_only_the_image_itself_shows() -> None:
    """A score that every shifted view lacks stays in its place, with its sum."""
    of = make_side(tiny.model("clip"), "image")
    views, grid = Views.of(of, 3), Grid(4, 4)
    maps = torch.zeros(3, 1, 16)
    maps[0, 0, 5] = 1.0
    fine, fine_grid = views.blend(maps, grid)
    actual = fine_grid.unfold(fine)[0]
    assert float(actual.sum()) == pytest.approx(1, abs=1e-6)
    assert actual.argmax() in [3 * 12 + 3, 4 * 12 + 4, 4 * 12 + 5, 5 * 12 + 4] or float(actual[3:6, 3:6].sum()) > 0.6


def test_path_of_views_is_that_of_the_image_itself() -> None:
    of = make_side(tiny.model("clip"), "image")
    method = NIB((1,), "blank", "gauss", 1, tolerance=0.02, views=4)
    views = Views.of(of, 4, (1,))
    steps = [replace(method, views=1).attribute(side).path.steps for side in views.sides(1)]
    assert torch.equal(method(of).path.steps, steps[0])
    assert Brightness(views=2)(of).path is None


def test_vectors_give_the_maps_of_views_with_a_tolerance() -> None:
    model, image = tiny.model("clip"), tiny.image()
    captions = ["a cat", "a red mat"]
    embeddings = model.text.encode(model.text.prepare(captions))
    vectors = nibt.explain_embeddings(model, image, embeddings, "nib tolerance=0.01")
    for row, caption in enumerate(captions):
        explanation = nibt.explain(model, image, caption, "nib tolerance=0.01")
        assert_close(vectors.scores[row], explanation.image.scores, share=0.01)


@pytest.mark.parametrize("method", few(METHODS, ["nib", "gae", "occlusion", "rise", "shapley"]))
def test_map_of_views_is_independent_of_the_batch(method: str) -> None:
    model = tiny.model("clip")
    images = [tiny.image(seed=seed) for seed in range(3)]
    options = {"rise": {"masks": 8}, "shapley": {"budget": 16}, "m2ib": {"steps": 2}}.get(method, {})
    together = nibt.explain(model, images, "a cat", method, views=3, **options)
    for image, answer in zip(images, together, strict=True):
        alone = nibt.explain(model, image, "a cat", method, views=3, **options)
        assert_close(alone.grid, answer.grid)
        assert alone.method["image"]["views"] == 3
        assert alone.method["text"]["views"] == 1


def test_views_of_large_batches_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    of = make_side(tiny.model("clip"), "image")
    method = NIB((1,), views=5)
    whole = method(of)
    monkeypatch.setattr("nibt.methods._views.AT_ONCE", 1)
    assert [len(side.inputs) for side in Views.of(of, 5, (1,)).sides()] == [len(of.inputs)] * 5
    assert_close(method(of).scores, whole.scores)


def test_views_of_large_models_go_through_one_by_one_and_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nibt.methods._views.BUDGET", 1)
    earlier: list[weakref.ref[Trace]] = []
    shifted = Side.shifted

    def watched(side: Side, moves: Sequence[tuple[int, int]], lowest: int) -> Side:
        assert all(trace() is None for trace in earlier), "the states of an earlier view are still held"
        view = shifted(side, moves, lowest)
        earlier.append(weakref.ref(view.trace))
        return view

    monkeypatch.setattr(Side, "shifted", watched)
    nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "nib", image_views=5)
    assert len(earlier) == 4


@pytest.mark.slow
def test_views_are_more_precise() -> None:
    """Average precision on scenes, paired over the scenes."""
    pairs = list(Scenes(count=24, seed=31, fewest=2, most=3, named="one"))
    plain, fine = (
        nibt.measure("scenes", pairs, ["average_precision"], side="image", quadrature="late", views=views)
        for views in (1, 3)
    )
    better = torch.tensor([row.value for row in fine]) - torch.tensor([row.value for row in plain])
    assert better.mean() > 0.05
    assert (better > 0).double().mean() >= 0.75


# What views show


def _stripes(width: int, height: int) -> ImageInput:
    """Return an image whose columns and rows all differ."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256], -1)
    return read_image(Image.fromarray(pixels.astype(np.uint8)))


@pytest.mark.parametrize("kind", ["clip", "own vit"])
def test_views_show_what_the_crop_leaves_out(kind: str) -> None:
    """The image has the size of the input on one axis, so its own pixels are known."""
    tower = tiny.model(kind).image
    height, width = tower.prepare([tiny.image()]).values.shape[-2:]
    image = _stripes(2 * width, height)
    whole = tower.preparation.normalize(image.pil_image)
    inputs = tower.prepare([image])
    left = width // 2
    torch.testing.assert_close(inputs.values[0], whole[..., left : left + width])
    views = tower.shifted(inputs, [(0, 5), (0, -4), (3, 0)]).values
    torch.testing.assert_close(views[0], whole[..., left + 5 : left + 5 + width])
    torch.testing.assert_close(views[1], whole[..., left - 4 : left - 4 + width])
    torch.testing.assert_close(views[2, :, :-3], inputs.values[0, :, 3:])
    assert not views[2, :, -3:].any(), "the mean color below the image"


@pytest.mark.parametrize("size", [(33, 49), (50, 33), (400, 20), (20, 400), (31, 31)])
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "convnext"])
def test_a_shift_of_nothing_shows_the_input(kind: str, size: tuple[int, int]) -> None:
    """Also where the margin is not as the crop was: the image is resized once more, with its surroundings."""
    tower = tiny.model(kind).image
    image = _stripes(*size)
    inputs = tower.prepare([image])
    assert torch.equal(tower.shifted(inputs, [(0, 0)]).values, inputs.values)
    around = Surroundings(tower.preparation, image)
    cropped = tower.preparation.resize.way == "shortest" and size != (31, 31)
    assert (around.uncropped_pixels is not None) == cropped
    if cropped:
        torch.testing.assert_close(
            around.pixels(5)[..., 5:-5, 5:-5].to(inputs.values), inputs.values[0], atol=0.1, rtol=0
        )


def test_views_keep_changed_pixels() -> None:
    tower = tiny.model("clip").image
    inputs = tower.prepare([_stripes(64, 32)])
    masked = tower.mask_pixels(inputs, torch.zeros(1, 32, 32))
    (view,) = tower.shifted(masked, [(0, 6)]).values
    assert not view[..., :26].any(), "within the crop: what was masked"
    assert view[..., 26:].any(), "beyond the crop: the image"


# What takes the option


def _views_of(answer: nibt.Explanation) -> tuple[int, int]:
    return answer.method["image"]["views"], answer.method["text"]["views"]


def test_views_are_recorded_and_drawn() -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", views=2)
    assert _views_of(answer) == (2, 1)
    assert answer.grid.shape == (8, 8)
    assert nibt.draw(answer).width > 0
    assert _views_of(nibt.explain(tiny.model("clip"), tiny.image(), "a cat")) == (3, 1)
    assert _views_of(nibt.explain(tiny.model("clip"), tiny.image(), "a cat", variant="paper")) == (1, 1)
    assert _views_of(nibt.explain(tiny.model("clip"), tiny.image(), "a cat", image_views=5)) == (5, 1)


def test_views_apply_to_both_images() -> None:
    first, second = (ImageInput(tiny.image(seed=seed).pil_image, f"{seed}") for seed in range(2))
    answer = nibt.compare(tiny.model("clip"), first, second, views=2)
    assert answer.first.grid.shape == answer.second.grid.shape == (8, 8)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (0, r"views must be between 1 and 16 \(got 0\)"),
        (17, r"views must be between 1 and 16 \(got 17\)"),
        (-1, r"views must be between 1 and 16 \(got -1\)"),
        (1.5, r"views must be a whole number \(got 1.5\)"),
        ("two", r"views must be a whole number \(got 'two'\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_views_reject_a_bad_number(views: object, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", views=views)


def test_views_reject_what_cannot_be_shifted() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadOption, match="views can only be used with images"):
        nibt.compare(model, nibt.Caption("a cat"), "a dog", views=2)
    with pytest.raises(BadOption, match="captions: leave views out"):
        nibt.explain(model, tiny.image(), "a cat", text_views=2)
    naflex = tiny.model("siglip naflex")
    for options in ({"views": 2}, {"image_views": 2}):
        with pytest.raises(BadOption, match="patches instead of an image: leave views out"):
            nibt.explain(naflex, tiny.image(), "a cat", **options)
    assert _views_of(nibt.explain(naflex, tiny.image(), "a cat")) == (1, 1)
    assert _views_of(nibt.explain(naflex, tiny.image(), "a cat", views=1)) == (1, 1)


def test_methods_with_a_finer_grid_keep_it() -> None:
    of = make_side(tiny.model("clip"), "image")
    one, several = (RISE(16, views=views)(of) for views in (1, 3))
    assert several.units == one.units == Grid(32, 32)
    assert not torch.equal(one.scores, several.scores)
    assert_close(several.scores.sum(-1), one.scores.sum(-1))


def test_path_of_maps_without_signs_has_the_sum_that_is_shown() -> None:
    answer = nibt.explain("scenes", "sample:scene", "a cat", "grad_cam", along_path=True, views=3)
    assert float(answer.image.path.sum) == pytest.approx(float(answer.grid.sum()), abs=1e-5)


def test_cost_is_that_of_each_view() -> None:
    for name in METHODS:
        one, several = (
            nibt.registry.find("methods", name).configured(tiny.model("clip").image, "default", {"views": views}, {})
            for views in (1, 4)
        )
        assert several.forwards(12, 49) == pytest.approx(4 * one.forwards(12, 49))
        assert [field.name for field in dataclasses.fields(several)].count("views") == 1


# The other verbs


@pytest.mark.parametrize("options", [{}, {"views": 2, "quadrature": "gauss", "steps": 3}, {"views": 4, "layer": "1,2"}])
def test_contributions_and_embeddings_give_the_maps_of_views(options: dict) -> None:
    model, image = tiny.model("clip"), tiny.image()
    expected = nibt.explain(model, image, "a cat", **options).image
    several = nibt.contributions(model, image, **options).explain("a cat")
    (embedded,) = [nibt.explain_embeddings(model, image, encode(model.text, ["a cat"]), **options)[0]]
    for actual in (several, embedded):
        assert actual.units == expected.units
        assert_close(actual.scores, expected.scores)
        for name in ("at_input", "at_baseline", "sum"):
            assert_close(getattr(actual.path, name), getattr(expected.path, name), least=1e-6)
    assert_close(embedded.special_token_share, expected.special_token_share, least=1e-6)


def _model_and_pair() -> tuple[Model, ImageInput, str]:
    return tiny.model("clip"), tiny.image(), "a cat on a mat"


def test_table_of_views_adds_up_to_the_change() -> None:
    model, image, caption = _model_and_pair()
    table = nibt.regions(model, image, caption, views=2, tolerance=1e-4)
    assert table.table.shape[1:] == (8, 8)
    assert abs(table.gap) < 1e-3 * abs(table.sum)
    single = nibt.regions(model, image, caption, views=1, tolerance=1e-4)
    assert single.table.shape[1:] == (4, 4)


@pytest.mark.slow
def test_commands_take_views(run: Run) -> None:
    for command in ("explain", "regions"):
        code, out, error = run(command, "sample:chelsea", "a cat", "-m", "scenes", "--method", "nib views=2", "-o", "-")
        assert code == 0, error
        assert '"views": 2' in out
