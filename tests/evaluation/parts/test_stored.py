"""Tests of ``nibt.parts`` with maps that were computed before, and with a folder of finished work."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.errors import BadInput, BadOption, OtherRequest
from nibt.evaluation.finished import WorkFolder
from nibt.progress import Progress
from nibt.results.explanation import Explanation, change_image
from nibt.results.parts import Parts
from tests import tiny
from tests.helpers import noise_pairs

PAIRS = noise_pairs(8)


def found(**options: Any) -> Parts:
    parts = nibt.parts(tiny.model("clip"), PAIRS, **{"method": "gae", "count": 3, "texts": [], **options})
    return replace(parts, seconds=0.0)


def explained(method: str = "gae", **options: Any) -> list[Explanation]:
    images, captions = [pair.image for pair in PAIRS], [pair.caption for pair in PAIRS]
    return nibt.explain(tiny.model("clip"), images, captions, method, **options)


def never(*arguments: Any) -> Any:
    raise AssertionError("it is computed again")


# Maps of explanations


def test_stored_maps_give_the_same_parts_and_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, explanations = found(), explained()
    monkeypatch.setattr("nibt.evaluation.parts.asked.maps", never)
    assert found(method="nib:fast", explanations=explanations) == expected


def test_blocks_of_finer_cells_are_the_cells_of_the_parts() -> None:
    coarse = explained()
    fine = [change_image(one, grid=torch.kron(one.grid, torch.tensor([[0.5, -0.5], [0.75, 0.25]]))) for one in coarse]
    assert tuple(fine[0].grid.shape) == tuple(2 * count for count in coarse[0].grid.shape)
    expected, actual = found(explanations=coarse), found(explanations=fine)
    assert actual.grid == expected.grid
    for part, other in zip(actual.parts, expected.parts, strict=True):
        assert part.share == pytest.approx(other.share, rel=1e-5)
        assert torch.equal(part.place, other.place)


@pytest.mark.parametrize(
    ("explanations", "message"),
    [
        pytest.param(lambda: explained()[:3], r"one explanation for each of the 8 pairs \(got 3\)", id="too few"),
        pytest.param(
            lambda: explained()[::-1], r"explanations\[0\] is of another image or caption than pairs\[0\]", id="order"
        ),
        pytest.param(
            lambda: explained(against=["a dog"]), r"maps of the cosine \(got the target difference\)", id="target"
        ),
        pytest.param(
            lambda: [*explained()[:7], explained("nib:fast")[7]], r"of one method.*explanations\[7\]", id="methods"
        ),
        pytest.param(lambda: [*PAIRS], "parts takes results of class Explanation", id="pairs"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_explanations_that_cannot_be_used_are_refused(explanations: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        found(explanations=explanations())


def test_explanations_of_another_model_are_refused() -> None:
    with pytest.raises(BadInput, match=r"the explanation is of .* with another .* than the model"):
        nibt.parts(tiny.model("siglip"), PAIRS, explanations=explained(), texts=[])


# Finished work


@pytest.mark.parametrize("stop", [1, 5])
def test_parts_that_were_stopped_go_on(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = found(), tmp_path / "work"
    computed: list[str] = []
    for module, name in (
        ("nibt.evaluation.parts.asked", "maps"),
        ("nibt.evaluation.parts.effects", "losses_of_choices"),
    ):
        own = getattr(import_module(module), name)
        monkeypatch.setattr(f"{module}.{name}", lambda *given, own=own, name=name: computed.append(name) or own(*given))

    def interrupt(progress: Progress) -> None:
        if progress.done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(folder=folder, on_progress=interrupt)
    assert computed.count("maps") == 1
    assert found(folder=folder) == whole
    assert sorted(computed) == ["losses_of_choices"] * 3 + ["maps"], "nothing was computed twice"
    assert found(folder=folder) == whole
    assert len(computed) == 4


@pytest.mark.slow
def test_masks_are_not_taken_for_finished_work_without_them(tmp_path: Path) -> None:
    from tests.evaluation.parts.test_parts import PAIRS as SCENES

    plain = [replace(pair, objects=()) for pair in SCENES[:8]]
    options: dict[str, Any] = {"count": 2, "texts": [], "folder": tmp_path / "work"}
    nibt.parts("scenes", plain, **options)
    expected = nibt.parts("scenes", SCENES[:8], count=2, texts=[])
    assert replace(nibt.parts("scenes", SCENES[:8], **options), seconds=expected.seconds) == expected


def test_work_on_another_request_is_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    found(folder=folder)
    before = sorted(path.name for path in folder.rglob("*"))
    for options in ({"seed": 1}, {"count": 2}, {"layer": 1}, {"method": "nib:fast"}):
        with pytest.raises(OtherRequest, match="another request"):
            found(folder=folder, **options)
    assert sorted(path.name for path in folder.rglob("*")) == before
    WorkFolder(folder).discard()
    assert not folder.exists()


def test_a_grid_that_no_blocks_of_a_map_have_is_refused() -> None:
    odd = [change_image(one, grid=torch.from_numpy(np.ones((5, 6), np.float32))) for one in explained()]
    with pytest.raises(BadOption, match=r"the maps of 'gae' have 5 x 6 cells, and layer \d+ of this model has"):
        found(explanations=odd)
