"""Tests of ``nibt.methods.base``."""

from dataclasses import replace

import pytest
import torch

from nibt.data.units import Words, special_token_share
from nibt.errors import BadOption, Unsupported
from nibt.methods.base import average_layers
from nibt.methods.nib import NIB
from nibt.results.attribution import PathSummary
from tests import tiny
from tests.helpers import all_tokens, both_sides, make_side


@pytest.mark.parametrize("baseline", ["zero", "blank", "mean", "mean:states.safetensors", "mean:a:b"])
def test_a_path_takes_every_baseline(baseline: str) -> None:
    for quadrature in ("riemann", "gauss", "midpoint"):
        NIB((0,), baseline=baseline, quadrature=quadrature, steps=1)
    if baseline != "zero":
        with pytest.raises(BadOption, match=rf"geometric needs the baseline zero \(got '{baseline}'\)"):
            NIB((0,), baseline=baseline, quadrature="geometric", steps=1)
    else:
        NIB((0,), baseline=baseline, quadrature="geometric", steps=1)


@pytest.mark.parametrize("baseline", ["", "black", "means", "Zero"])
def test_a_path_rejects_other_baselines(baseline: str) -> None:
    with pytest.raises(
        BadOption, match=rf"baseline must be zero, blank, mean, mean:FILE or against \(got '{baseline}'\)"
    ):
        NIB((0,), baseline=baseline, steps=1)


def summary(layer: int, steps: float, numbers: tuple[float, float, float]) -> PathSummary:
    """Return the summary of a path of two items; the second has ten times the numbers of the first."""
    at_input, at_baseline, total = (torch.tensor([number, 10 * number]) for number in numbers)
    return PathSummary(
        "zero", "gauss", (layer,), torch.tensor([steps, 9.0]), at_input, at_baseline, total, 0 * total, 0.25
    )


@both_sides
def test_average_layers_takes_means_of_maps_and_of_paths(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    shape = of.cut(0).hidden.shape[:2]
    maps = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    paths = [summary(layer, 3.0 + layer, (0.5, 0.1 * layer, 0.2 * layer)) for layer in (0, 1, 2)]
    actual = average_layers(of, (0, 1, 2), maps, paths)
    mean = (maps[0] + maps[1] + maps[2]) / 3
    units = of.cut(0).units
    if isinstance(units, Words):
        mean = units.without_padding(mean)
    torch.testing.assert_close(actual.scores, of.cut(0).units.keep(mean))
    torch.testing.assert_close(actual.special_token_share, special_token_share(mean, of.cut(0).units))
    path = actual.path
    assert path is not None
    assert (path.baseline, path.quadrature, path.layers, path.tolerance) == ("zero", "gauss", (0, 1, 2), 0.25)
    assert path.steps.tolist() == [5, 9], "the largest number of steps"
    for name, number in (("at_input", 0.5), ("at_baseline", 0.1)):
        torch.testing.assert_close(getattr(path, name), torch.tensor([number, 10 * number]))
    torch.testing.assert_close(path.sum, actual.scores.sum(-1))
    torch.testing.assert_close(all_tokens(path), mean.sum(-1))


def test_average_layers_of_one_layer_changes_nothing() -> None:
    of = make_side(tiny.model("clip"), "image")
    maps, path = torch.randn(of.cut(1).hidden.shape[:2]), summary(1, 3.0, (0.5, 0.1, 0.2))
    actual = average_layers(of, (1,), [maps], [path])
    assert torch.equal(actual.scores, of.units.keep(maps))
    total = maps.sum(-1)
    assert actual.path == replace(path, sum=actual.scores.sum(-1), special_tokens=total - actual.scores.sum(-1))
    assert average_layers(of, (1,), [maps]).path is None


def test_average_layers_rejects_different_grids() -> None:
    of = make_side(tiny.model("convnext"), "image")
    maps = [torch.zeros(of.cut(layer).hidden.shape[:2]) for layer in (0, 3)]
    with pytest.raises(Unsupported, match=r"layers \(0, 3\) have different grids, so their maps cannot be averaged"):
        average_layers(of, (0, 3), maps)
