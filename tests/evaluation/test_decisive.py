"""Tests of ``nibt.decisive_region``: by the model's own forward, and by enumeration of all parts of a map."""

from dataclasses import replace
from itertools import permutations, product
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.engine.replace import explain_replacement
from nibt.errors import BadInput, BadOption
from nibt.metrics.decisive_area import DecisiveArea
from nibt.models._tower import Tower
from nibt.models.base import Model
from nibt.results.explanation import Explanation
from tests import tiny
from tests.suites import few

CAPTION, OTHERS = "a red cat", ["two cars", "a blue dog on a table", "cat"]
REGIONS = ("keep", "change")


def of(kind: str = "clip", seed: int = 0, caption: str = CAPTION, **options: Any) -> tuple[Model, Explanation]:
    model = tiny.model(kind)
    return model, nibt.explain(model, tiny.image(64, 64, seed), caption, "occlusion", **options)


def similarities(model: Model, explanation: Explanation, cells: Any, captions: list[str]) -> Any:
    """Return the similarities of the image with the mean color in all other cells, for each set of cells."""
    assert explanation.image.input is not None
    inputs = model.image.prepare([explanation.image.input])
    keep = F.interpolate(cells[:, None].float(), inputs.values.shape[-2:], mode="nearest")
    seen = model.image.encode(replace(inputs, values=inputs.values * keep))
    return model.similarity.to_each(seen, model.text.encode(model.text.prepare(captions)))


def margins(model: Model, explanation: Explanation, cells: Any, others: list[str]) -> Any:
    """Return the similarities, less the largest of others."""
    values = similarities(model, explanation, cells, [explanation.caption, *others])
    return values[:, 0] - (values[:, 1:].amax(1) if others else 0)


def limits(model: Model, explanation: Explanation, others: list[str]) -> tuple[float, float]:
    """Return the margins of no cell and of all cells."""
    cells = torch.tensor([False, True])[:, None, None].expand(2, *explanation.grid.shape)
    nothing, everything = margins(model, explanation, cells, others).tolist()
    return nothing, everything


def deciding(others: list[str], region: Any) -> list[tuple[Model, Explanation, list[str]]]:
    """Return explanations for which a part is decisive, of images with captions, or with one of two captions."""
    kept = []
    for seed, captions in product(range(4), permutations([CAPTION, *OTHERS], 2)):
        against = list(captions[1:]) if others else []
        options: dict[str, Any] = {"against": against} if against else {}
        model, explanation = of(seed=seed, caption=captions[0], **options)
        explanation = nibt.decisive_region(model, explanation, region, hide="mean")
        if explanation.decisive:
            kept.append((model, explanation, against))
        if len(kept) == 4:
            break
    assert kept, "no image decides"
    return kept


@pytest.mark.parametrize("others", few([[], OTHERS], [OTHERS]))
@pytest.mark.parametrize("region", REGIONS)
def test_the_part_decides_by_the_forward_of_the_model(region: str, others: list[str]) -> None:
    for model, explanation, captions in deciding(others, region):
        decisive = explanation.decisive
        assert decisive is not None
        assert decisive.region == region
        nothing, everything = limits(model, explanation, captions)
        is_first = bool(captions) and nothing <= 0 < everything
        assert decisive.decision == ("first" if is_first else "difference" if captions else "similarity")
        limit = 0.0 if is_first else (nothing + everything) / 2
        cells = decisive.cells if region == "keep" else ~decisive.cells
        value = float(margins(model, explanation, cells[None], captions))
        assert value > limit - 1e-6 if region == "keep" else value <= limit + 1e-6
        assert decisive.share == pytest.approx(float(decisive.cells.float().mean()))
        assert (decisive.instead == captions[0]) if is_first and region == "change" else decisive.instead == ""


@pytest.mark.parametrize("others", few([[], OTHERS], [[]]))
@pytest.mark.parametrize("region", REGIONS)
def test_no_single_cell_can_be_left_out(region: str, others: list[str]) -> None:
    for model, explanation, captions in deciding(others, region):
        decisive = explanation.decisive
        assert decisive is not None
        limit = 0.0 if decisive.decision == "first" else sum(limits(model, explanation, captions)) / 2
        without = decisive.cells & ~torch.eye(decisive.cells.numel()).bool().view(-1, *decisive.cells.shape)
        without = without[decisive.cells.flatten()]
        values = margins(model, explanation, without if region == "keep" else ~without, captions)
        assert (values <= limit + 1e-6 if region == "keep" else values > limit - 1e-6).all()


def test_of_large_parts_the_share_is_called_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    model, explanation, _ = deciding([], "keep")[0]
    assert explanation.decisive
    count = int(explanation.decisive.cells.sum())
    monkeypatch.setattr("nibt.evaluation.decisive._MOST_SINGLE", 0)
    again = nibt.decisive_region(model, replace(explanation, decisive=None), "keep", hide="mean")
    assert again.decisive
    assert int(again.decisive.cells.sum()) >= count
    assert "its share is an upper bound" in again.warnings[-1]
    assert not any("upper bound" in warning for warning in explanation.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("region", REGIONS)
def test_a_part_decides_with_every_draw_of_noise(region: Any) -> None:
    model = nibt.load_model("scenes")
    explanation = nibt.explain(model, "sample:scene", "a cat", "gae")
    assert explanation.image.input is not None
    decisive = nibt.decisive_region(model, explanation, region, hide="noise").decisive
    assert decisive is not None
    side = Side(model, model.image.trace(model.image.prepare([explanation.image.input]), 0), lambda rows: rows)
    text = model.text.encode(model.text.prepare(["a cat"]))
    cells = decisive.cells.flatten() if region == "keep" else ~decisive.cells.flatten()
    masks = torch.stack([torch.zeros_like(cells), torch.ones_like(cells), cells]).float()[:, None]
    grid = Grid(*explanation.grid.shape)
    embedded = [masker(side, grid, hide="noise", seed=draw)(masks)[:, 0] for draw in range(5)]
    values = torch.stack([model.similarity.to_each(rows, text)[:, 0] for rows in embedded])
    limit = (values[:, 0].max() + values[0, 1]) / 2
    assert (values[:, 2] > limit - 1e-6 if region == "keep" else values[:, 2] <= limit + 1e-6).all()


@pytest.mark.slow
def test_without_others_that_are_first_one_of_them_is_named() -> None:
    model, images = tiny.model("clip"), [tiny.image(64, 64, seed) for seed in range(12)]
    explanations = [nibt.explain_ranking(model, image, [CAPTION, *OTHERS], "occlusion") for image in images]
    decided = [nibt.decisive_region(model, explanation, "change") for explanation in explanations]
    named = [explanation for explanation in decided if explanation.decisive and explanation.decisive.instead]
    for explanation in named:
        decisive, labels = explanation.decisive, [ranked.label for ranked in explanation.ranking]
        assert decisive is not None
        scores = similarities(model, explanation, ~decisive.cells[None], labels)[0]
        assert labels[int(scores.argmax())] == decisive.instead
    assert named, "no image has a first label that its blank has not"


@pytest.mark.parametrize("region", few(REGIONS, ["keep"]))
def test_enumeration_finds_no_much_smaller_part(region: Any) -> None:
    """Of all 512 parts of a map of 3 x 3 cells, the smallest has at most one cell less."""
    lacking = []
    for seed in range(4):
        model, explanation = of(seed=seed)
        coarse = F.adaptive_avg_pool2d(explanation.grid[None], 3)[0]
        image = replace(explanation.image, grid=coarse)
        explanation = replace(explanation, sides={**explanation.sides, "image": image})
        decisive = nibt.decisive_region(model, explanation, region, hide="mean").decisive
        if decisive is None:
            continue
        limit = sum(limits(model, explanation, [])) / 2
        every = torch.tensor(list(product([False, True], repeat=9)))
        cells = every if region == "keep" else ~every
        decides = (margins(model, explanation, cells.view(-1, 3, 3), []) > limit) == (region == "keep")
        lacking.append(int(decisive.cells.sum()) - int(every[decides].sum(1).min()))
    assert lacking
    assert min(lacking) >= 0
    assert np.mean(lacking) <= 1


def test_images_are_compared_by_the_similarity_of_the_other_one() -> None:
    model = tiny.model("clip")
    pairs = [(tiny.image(64, 64, seed), tiny.image(64, 64, seed + 10)) for seed in range(6)]
    for (first, second), caption in product(pairs, [CAPTION, *OTHERS]):
        explanation = nibt.explain(model, first, caption, "occlusion", against_images=second)
        decisive = nibt.decisive_region(model, explanation, "keep", hide="mean").decisive
        if decisive is not None and decisive.decision == "first":
            other = explanation.similarity - explanation.target["value"]
            assert float(margins(model, explanation, decisive.cells[None], [])) > other - 1e-6
            return
    pytest.fail("no image is first only with its parts")


def test_forward_passes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    model, explanation = of(views=3)
    passes, encode = [], Tower.encode
    monkeypatch.setattr(
        Tower, "encode", lambda tower, inputs: passes.append((tower.modality, len(inputs))) or encode(tower, inputs)
    )
    nibt.decisive_region(model, explanation, "change")
    images = sum(count for modality, count in passes if modality == "image")
    cells = explanation.grid.numel()
    assert 2 < images <= 2 * log2(cells) + 20 + 2 * cells
    assert images < 2**9


@pytest.mark.slow
def test_an_image_that_adds_nothing_decides_nothing() -> None:
    warned = []
    for seed in range(8):
        model, explanation = of(seed=seed)
        nothing, everything = limits(model, explanation, [])
        decided = nibt.decisive_region(model, explanation, hide="mean")
        warning = "no region is decisive: the image adds nothing to the similarity"
        assert (warning in decided.warnings) == (decided.decisive is None) == (everything <= nothing)
        warned.append(decided.decisive is None)
    assert any(warned)


@pytest.mark.slow
def test_results_are_the_same_when_they_are_read_again(tmp_path: Any) -> None:
    _, explanation, _ = deciding([], "keep")[0]
    explanation.save(tmp_path / "x.json")
    again = Explanation.load(tmp_path / "x.json")
    assert again.decisive == explanation.decisive
    assert explanation.decisive
    assert explanation.decisive.about in repr(explanation)
    data = explanation.to_json()
    data["decisive"]["cells"] = [[True]]
    with pytest.raises(BadInput, match="decisive must have the cells of the map"):
        Explanation.from_json(data)


@pytest.mark.usefixtures("unchecked")
def test_other_inputs_are_refused_by_name() -> None:
    model, explanation = of()
    with pytest.raises(BadOption, match="region must be one of keep, change"):
        nibt.decisive_region(model, explanation, "half")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="got a comparison"):
        nibt.decisive_region(model, nibt.compare(model, "a cat", "a dog"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="results of class AnswerExplanation or Explanation"):
        nibt.decisive_region(model, nibt.regions(model, tiny.image(), CAPTION))  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match=r"with another (family|weights_hash) than the model"):
        nibt.decisive_region(tiny.model("siglip"), explanation)


@pytest.mark.slow
def test_a_model_loaded_with_other_options_is_refused(tmp_path: Path) -> None:
    """The grid of such an explanation lies elsewhere on the image."""
    photo = "sample:collage"
    nibt.explain("scenes", photo, "a cat", "occlusion").save(tmp_path / "x.json")
    explanation = Explanation.load(tmp_path / "x.json")
    for name, value in {"resize": "whole", "image_size": 64}.items():
        with pytest.raises(BadInput, match=f"of scenes with another {name} than the model: .*the same options"):
            nibt.decisive_region(nibt.load_model("scenes", **{name: value}), explanation)
    assert nibt.decisive_region("scenes", explanation).decisive


def test_images_that_are_gone_or_changed_are_refused(tmp_path: Path) -> None:
    model, path = tiny.model("clip"), tmp_path / "x.png"
    tiny.image(64, 64).pil_image.save(path)
    nibt.explain(model, path, CAPTION, "occlusion").save(tmp_path / "x.json")
    tiny.image(64, 64, 1).pil_image.save(path)
    with pytest.raises(BadInput, match="was changed"):
        nibt.decisive_region(model, Explanation.load(tmp_path / "x.json"))
    path.unlink()
    with pytest.raises(BadInput, match="no longer there"):
        nibt.decisive_region(model, Explanation.load(tmp_path / "x.json"))


def test_a_replaced_caption_is_compared_with_one_replacement_as_with_against() -> None:
    model = tiny.model("clip")
    for seed in range(3):
        image = tiny.image(64, 64, seed)
        answer = explain_replacement(model, image, CAPTION, ["dog", "fox"], method="occlusion")
        again = nibt.explain(model, image, CAPTION, "occlusion", against=answer.target["options"]["against"])
        replaced, compared = (nibt.decisive_region(model, each).decisive for each in (answer, again))
        assert replaced == compared


def test_a_probability_is_halved() -> None:
    model = tiny.model("clip")
    for seed, caption in product(range(4), [CAPTION, *OTHERS]):
        others = [other for other in (CAPTION, *OTHERS) if other != caption]
        explanation = nibt.explain(model, tiny.image(64, 64, seed), caption, "occlusion", "softmax", against=others)
        decisive = nibt.decisive_region(model, explanation, "change").decisive
        if decisive is not None and decisive.decision == "probability":
            cells = torch.stack([~decisive.cells, torch.zeros_like(decisive.cells), torch.ones_like(decisive.cells)])
            values = model.scale * similarities(model, explanation, cells, [caption, *others])
            part, nothing, everything = values.softmax(1)[:, 0].tolist()
            assert part <= (nothing + everything) / 2 + 1e-6
            return
    pytest.fail("no probability is halved")


def test_the_caption_itself_among_those_it_is_compared_with_counts_once() -> None:
    model = tiny.model("clip")
    captions = [CAPTION, *OTHERS]
    for caption in captions:  # one of them ranks first
        others = [other for other in captions if other != caption]
        listed, left_out = (
            nibt.explain(model, tiny.image(64, 64, 3), caption, "occlusion", "softmax", against=labels)
            for labels in ([caption.upper(), *others], others)
        )
        assert nibt.decisive_region(model, listed).decisive == nibt.decisive_region(model, left_out).decisive


def test_pictures_outline_the_part() -> None:
    _, explanation, _ = deciding([], "keep")[0]
    assert nibt.draw(explanation).tobytes() != nibt.draw(replace(explanation, decisive=None)).tobytes()
    plain = nibt.draw(explanation, style="colors")
    assert plain.tobytes() == nibt.draw(replace(explanation, decisive=None), style="colors").tobytes()


def test_blur_hides_cells(tmp_path: Path) -> None:
    """The metric is the oracle: its share is that of the cells in the order of the map, before some are left out."""
    shares = []
    for seed in range(3):
        model, explanation = of(seed=seed)
        decisive = nibt.decisive_region(model, explanation, hide="blur").decisive
        if decisive is None:
            continue
        assert decisive.hide == "blur"
        assert "hidden by blur" in decisive.about
        (measured,) = nibt.measure(
            model,
            [nibt.Pair(explanation.image.input, explanation.caption)],  # pyright: ignore
            [DecisiveArea(hide="blur")],
            "occlusion",
            side="image",
        )
        assert decisive.share <= measured.value + 1e-6
        shares.append(decisive.share)
        nibt.save(replace(explanation, decisive=decisive), tmp_path / f"{seed}.json")
        read = nibt.Explanation.load(tmp_path / f"{seed}.json")
        assert read.decisive is not None
        assert read.decisive.hide == "blur"
    assert shares


@pytest.mark.usefixtures("unchecked")
def test_unknown_fills_are_refused() -> None:
    with pytest.raises(BadOption, match="hide must be one of mean, blur, noise"):
        nibt.decisive_region(*of(), hide="black")  # pyright: ignore


@pytest.mark.slow
@pytest.mark.parametrize("region", REGIONS)
def test_a_part_with_a_probability_decides_with_new_draws_of_noise(region: str) -> None:
    model, explanation = of(seed=3)
    found = nibt.decisive_region(model, explanation, region, probability=0.8)
    decisive = found.decisive
    assert decisive is not None
    assert decisive.hide == "noise"
    assert decisive.probability is not None
    if decisive.probability < 0.8:
        assert "below the requested 0.8" in found.warnings[-1]
    plain = nibt.decisive_region(model, explanation, region, hide="noise").decisive
    assert plain is not None
    assert (decisive.cells | plain.cells).equal(decisive.cells), "cells are only added"

    assert explanation.image.input is not None
    inputs = model.image.prepare([explanation.image.input])
    side = Side(model, model.image.trace(inputs, model.image.depth), lambda embeddings: embeddings)
    text = model.text.encode(model.text.prepare([CAPTION]))

    def values(shown: torch.Tensor, draw: int) -> float:
        embedded = masker(side, Grid(*explanation.grid.shape), hide="noise", seed=draw)(shown.float()[None, None])
        return float(model.similarity.to_each(embedded[:, 0], text))

    cells = decisive.cells.flatten()
    nothing = max(values(torch.zeros_like(cells), draw) for draw in range(5))
    limit = (nothing + values(torch.ones_like(cells), 0)) / 2
    shown = cells if region == "keep" else ~cells
    kept = [(values(shown, 10_000 + draw) > limit) == (region == "keep") for draw in range(100)]
    assert np.mean(kept) >= decisive.probability - 0.1
    assert decisive.draws >= 100
    read = Explanation.from_json(found.to_json()).decisive
    assert read is not None
    assert (read.probability, read.draws) == (decisive.probability, decisive.draws)
    assert f"by {decisive.draws} draws" in decisive.about


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.0}, r"probability must be above 0 and below 1 \(got 1.0\)"),
        ({"probability": 0.9, "hide": "mean"}, "hide must be noise with a probability, since mean is not random"),
    ],
)
def test_bad_probabilities_are_refused(options: dict[str, Any], message: str) -> None:
    model, explanation = of()
    with pytest.raises(BadOption, match=message):
        nibt.decisive_region(model, explanation, **options)
