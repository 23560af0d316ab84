"""Tests of ``nibt.methods._shifts``."""

from dataclasses import dataclass, replace

import pytest
import torch
from typer.testing import CliRunner

import nibt
from nibt.cli.main import app
from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.units import Grid
from nibt.datasets.scenes import Scenes
from nibt.errors import BadOption, Unsupported
from nibt.methods._shifts import Shifted, interleave, parts_of_patch, triangle
from nibt.methods.base import Method
from nibt.methods.nib import NIB
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import make_side

KINDS = ("clip", "siglip", "own vit", "own vit oblong", "convnext")


@dataclass(frozen=True)
class Brightness(Method):
    """The mean of the pixels of a patch, which shows where a cell looks."""

    def __call__(self, side: Side) -> Attribution:
        grid = side.units
        assert isinstance(grid, Grid)
        scores = torch.nn.functional.adaptive_avg_pool2d(side.inputs.values.mean(1), (grid.rows, grid.columns))
        return Attribution(scores.flatten(1), Grid(grid.rows, grid.columns), torch.zeros(len(scores)))


def _lit(of: Side, row: int, column: int) -> Side:
    """Return the side with one bright pixel on black."""
    values = torch.zeros_like(of.inputs.values)
    values[..., row, column] = 1
    return replace(of, trace=of.tower.trace(replace(of.inputs, values=values)))


@pytest.mark.parametrize("shifts", [2, 4])
@pytest.mark.parametrize(("row", "column"), [(13, 9), (18, 22), (16, 16)])
def test_shifted_map_has_its_cells_in_place(shifts: int, row: int, column: int) -> None:
    """The center of the map is at the bright pixel, up to a part of a patch."""
    of = _lit(make_side(tiny.model("clip"), "image"), row, column)
    actual = Shifted(Brightness(), shifts)(of).grid[0]
    assert actual.shape == (4 * shifts, 4 * shifts)
    share = actual / actual.sum()
    places = (torch.arange(4 * shifts) + 0.5) * 8 / shifts
    middle = float(share.sum(1) @ places), float(share.sum(0) @ places)
    assert middle == pytest.approx((row + 0.5, column + 0.5), abs=8 / shifts / 2)


@pytest.mark.parametrize("reach", [2, 3, 5])
def test_triangle_keeps_every_sum(reach: int) -> None:
    matrix = triangle(4 * reach, reach)
    for axis in (0, 1):
        torch.testing.assert_close(matrix.sum(axis), torch.ones(4 * reach, dtype=torch.float64))
    assert torch.equal(matrix, matrix.T)
    middle = matrix[2 * reach, reach + 1 : 3 * reach]
    wanted = torch.tensor([1 - abs(away) / reach for away in range(1 - reach, reach)], dtype=torch.float64) / reach
    torch.testing.assert_close(middle, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_shifted_map_sums_to_the_mean_of_the_shifts(kind: str) -> None:
    """Compared with each shift, computed from the pixels."""
    of = make_side(tiny.model(kind), "image")
    method = NIB((1,), "blank", "gauss", 4)
    actual = Shifted(method, 2)(of)
    grid = of.cut(1).units
    height, width = of.inputs.values.shape[-2:]
    one, other = height / grid.rows / 4, width / grid.columns / 4
    sums, changes = [], []
    for down in (round(-one), round(one)):
        for across in (round(-other), round(other)):
            rows, columns = torch.arange(height) + down, torch.arange(width) + across
            values = of.inputs.values[..., rows.clamp(0, height - 1), :][..., columns.clamp(0, width - 1)]
            moved = method(replace(of, trace=of.tower.trace(replace(of.inputs, values=values))))
            sums.append(moved.scores.sum(-1))
            changes.append(moved.path.at_input - moved.path.at_baseline)
    torch.testing.assert_close(actual.scores.sum(-1), torch.stack(sums).mean(0), rtol=1e-5, atol=1e-7)
    path = actual.path
    torch.testing.assert_close(path.gap, torch.stack(changes).mean(0) - path.sum, rtol=1e-4, atol=1e-7)
    assert (actual.units.rows, actual.units.columns) == (2 * grid.rows, 2 * grid.columns)


def test_shifted_map_is_independent_of_the_batch() -> None:
    model = tiny.model("clip")
    images = [tiny.image(seed=seed) for seed in range(3)]
    together = nibt.explain(model, images, "a cat", shifts=2)
    for image, answer in zip(images, together, strict=True):
        alone = nibt.explain(model, image, "a cat", shifts=2)
        scale = float(alone.grid.abs().max())
        torch.testing.assert_close(alone.grid, answer.grid, rtol=0, atol=1e-5 * scale)


def test_shifted_map_is_more_precise() -> None:
    """Average precision on scenes, paired over the scenes."""
    pairs = list(Scenes(count=24, seed=31, fewest=2, most=3, named="one"))
    plain, fine = (
        [row.value for row in nibt.measure("scenes", pairs, ["average_precision"], only="image", **options)]
        for options in ({"steps": 2}, {"steps": 2, "shifts": 2})
    )
    better = torch.tensor(fine) - torch.tensor(plain)
    assert better.mean() > 0.05
    assert (better > 0).double().mean() > 0.75


def test_shifts_are_recorded() -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", shifts=3)
    assert answer.method["image"]["shifts"] == 3
    assert "shifts" not in answer.method["text"]
    assert answer.grid.shape == (12, 12)
    assert nibt.draw(answer).width > 0
    plain = nibt.explain(tiny.model("clip"), tiny.image(), "a cat")
    assert "shifts" not in plain.method["image"]
    assert torch.equal(plain.grid, nibt.explain(tiny.model("clip"), tiny.image(), "a cat", shifts=1).grid)


def test_shifts_apply_to_both_images() -> None:
    model = tiny.model("clip")
    first, second = (ImageInput(tiny.image(seed=seed).pil_image, f"{seed}") for seed in range(2))
    answer = nibt.explain(model, first, second, shifts=2)
    assert answer.first.grid.shape == answer.second.grid.shape == (8, 8)


@pytest.mark.parametrize("shifts", [0, 9, -1, 1.5, "two"])
def test_shifts_reject_a_bad_number(shifts: object) -> None:
    with pytest.raises(BadOption, match="shifts must be a whole number from 1"):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", shifts=shifts)


def test_shifts_reject_inputs_without_an_image() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadOption, match="shifts can only be used with images"):
        nibt.explain(model, nibt.Caption("a cat"), "a dog", shifts=2)
    with pytest.raises(BadOption, match="have a grid of their own"):
        nibt.explain(model, tiny.image(), "a cat", "rise", shifts=2, image_masks=8, text_masks=8)
    with pytest.raises(Unsupported, match="patches instead of an image"):
        nibt.explain(tiny.model("siglip naflex"), tiny.image(), "a cat", shifts=2)
    for verb in (nibt.explain_interactions, lambda *inputs, **more: nibt.contributions(*inputs[:2], **more)):
        with pytest.raises(BadOption, match="leave shifts out"):
            verb(model, tiny.image(), "a cat", shifts=2)


def test_explain_takes_shifts(clip_folder: object, tmp_path: object) -> None:
    run = CliRunner().invoke(
        app, ["explain", "sample:chelsea", "a cat", "-m", str(clip_folder), "--shifts", "2", "--json", "-"]
    )
    assert run.exit_code == 0, run.output
    assert '"shifts": 2' in run.output


@pytest.mark.parametrize("shifts", [2, 8])
def test_shifted_takes_up_to_the_largest_number(shifts: int) -> None:
    method = Shifted(NIB((1,), steps=3), shifts)
    assert method.options() == {**NIB((1,), steps=3).options(), "shifts": shifts}
    assert method.layer == (1,)
    assert Shifted(Brightness(), shifts).layer == (0,)
    for rejected in (1, 9):
        with pytest.raises(BadOption, match=rf"shifts must be 1 \(none\) to 8 \(got {rejected}\)"):
            Shifted(NIB((1,)), rejected)


@pytest.mark.parametrize("shifts", [2, 3, 8])
def test_parts_of_patch_are_the_centers_of_finer_cells(shifts: int) -> None:
    parts = torch.tensor(parts_of_patch(shifts), dtype=torch.float64)
    cells = (torch.arange(shifts, dtype=torch.float64) + 0.5) / shifts  # from the upper left corner of the patch
    torch.testing.assert_close(parts + 0.5, cells)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_triangle_mirrors_what_lies_outside(size: int) -> None:
    """The same as the middle of three copies of the line, of which the outer ones are mirrored."""
    for reach in range(1, size + 1):
        line = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(reach))
        long = torch.cat([line.flip(0), line, line.flip(0)])
        weights = torch.tensor([(1 - abs(away) / reach) / reach for away in range(1 - reach, reach)])
        wanted = torch.nn.functional.conv1d(long[None, None], weights[None, None].double(), padding=reach - 1)
        torch.testing.assert_close(triangle(size, reach) @ line, wanted[0, 0, size : 2 * size])


def test_interleave_puts_each_map_at_its_shift() -> None:
    """One bright cell of one map becomes a triangle around its place in the fine grid."""
    for number in range(4):
        maps = [torch.zeros(2, 3, 4) for _ in range(4)]
        maps[number][1, 1, 2] = 4.0
        fine = interleave(maps, 2)
        assert fine.shape == (2, 6, 8)
        assert not fine[0].any()
        row, column = 2 * 1 + number // 2, 2 * 2 + number % 2
        peak = torch.zeros(6, 8)
        peak[row - 1 : row + 2, column - 1 : column + 2] = torch.tensor(
            [[0.0625, 0.125, 0.0625], [0.125, 0.25, 0.125], [0.0625, 0.125, 0.0625]]
        )
        torch.testing.assert_close(fine[1], peak)


def test_shifted_map_summarizes_the_paths_of_the_shifts() -> None:
    of = make_side(tiny.model("clip"), "image")
    method = NIB((1,), "blank", "gauss", 1, tolerance=0.02)
    actual = Shifted(method, 2)(of)
    single = []
    for down in (-2, 2):
        for across in (-2, 2):
            rows, columns = ((torch.arange(32) + step).clamp(0, 31) for step in (down, across))
            values = of.inputs.values[..., rows, :][..., columns]
            single.append(method(replace(of, trace=of.tower.trace(replace(of.inputs, values=values)))))
    for name in ("at_input", "at_baseline", "sum"):
        wanted = torch.stack([getattr(one.path, name) for one in single]).mean(0)
        torch.testing.assert_close(getattr(actual.path, name), wanted)
    steps = torch.stack([one.path.steps for one in single])
    assert torch.equal(actual.path.steps, steps.amax(0))
    assert (steps != steps[0]).any(), "the shifts take different numbers of steps"
    torch.testing.assert_close(actual.special_share, torch.stack([one.special_share for one in single]).mean(0))
    assert Shifted(Brightness(), 2)(of).path is None
