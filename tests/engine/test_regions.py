"""Tests of ``nibt.engine.regions``."""

import pytest
import torch

import nibt
from nibt.core.path_derivatives import jvp_at
from nibt.core.quadrature import nodes
from nibt.errors import BadInput, BadOption
from nibt.results.regions import Regions
from tests import tiny
from tests.engine.cuts import CAPTION, change, cut_of, shares, table
from tests.suites import few


@pytest.mark.parametrize(
    "kind", few(["clip", "siglip", "own vit attention", "coca", "bert", "convnext"], ["clip", "bert"])
)
def test_interactions_equal_the_full_product(kind: str) -> None:
    model, layer = tiny.model(kind), 3 if kind == "convnext" else 1  # the first maps of this model have many cells
    actual = table(kind, image_layer=layer, text_layer=1, steps=3, baseline="blank", views=1, distribute=False)
    path = nodes("midpoint", 3)
    image, image_start = cut_of(model, "image", layer)
    text, text_start = cut_of(model, "text", 1)
    patches = image.units.keep(
        path.integral(jvp_at(image, image_start, path.positions, shares(image, image_start)))[:, 0].T
    ).T
    tokens = path.integral(jvp_at(text, text_start, path.positions, shares(text, text_start)))[:, 0]
    expected = torch.stack([tokens[list(word.tokens)].sum(0) @ patches.T for word in actual.words])
    torch.testing.assert_close(actual.table.flatten(1), expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("kind", ["clip", "own vit"])
def test_interactions_sum_over_words_and_in_total(kind: str) -> None:
    """Over all words: the map of NIB for the change of the caption's embedding. In total: the product minus a gap."""
    model = tiny.model(kind)
    actual = table(kind, image_layer=1, text_layer=1, steps=24)
    text, start = cut_of(model, "text")
    moved = change(text, start)[0]
    contributed = nibt.contributions(model, tiny.image(), layer=1, steps=24)
    expected = contributed.vectors[:-1] @ moved
    torch.testing.assert_close(actual.scores.sum(0)[:-1], expected, atol=2e-3 * float(expected.abs().max()), rtol=0)
    assert actual.gap == pytest.approx(actual.product - float(actual.scores.sum()))
    assert abs(actual.gap) < 0.02 * abs(actual.product) + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("sample", "caption"), [("coffee", "a cup"), ("chelsea", "a cat"), ("collage", CAPTION)])
def test_interactions_of_a_trained_model_are_accurate_by_default(sample: str, caption: str) -> None:
    """For a trained model, whose paths are curved, a few steps give sums with the wrong sign."""
    model = nibt.load_model("scenes")
    actual = nibt.regions(model, f"sample:{sample}", caption)
    few = nibt.regions(model, f"sample:{sample}", caption, tolerance=None)
    exact = nibt.regions(model, f"sample:{sample}", caption, steps=128)
    near = float(exact.table.abs().max())
    torch.testing.assert_close(actual.table, exact.table, atol=0.05 * near, rtol=0)
    assert (few.table - exact.table).abs().max() > 2 * (actual.table - exact.table).abs().max()
    assert abs(actual.gap) < 0.05 * float(exact.scores.sum(1).abs().sum())
    assert actual.method["steps"]["text"] > few.method["steps"]["text"] == 6
    assert exact.method["steps"] == {"image": 128, "text": 128}
    assert "tolerance" not in str(actual.warnings)


@pytest.mark.slow
def test_interactions_warn_if_the_tolerance_is_not_met() -> None:
    strict = table(image_layer=1, text_layer=1, steps=1, tolerance=1e-9)
    assert strict.method["steps"] == {"image": 64, "text": 64}
    assert str(strict.warnings).count("side of the table is above the tolerance after 64 steps") == 2
    assert "tolerance" not in str(table(image_layer=1, text_layer=1, steps=1, tolerance=0.5).warnings)


def test_a_table_that_does_not_add_up_has_a_note() -> None:
    coarse, usual = (nibt.regions("scenes", "sample:scene", "a cat", steps=steps) for steps in (2, None))
    assert abs(coarse.gap) > 0.5 * coarse.product
    (note,) = [note for note in coarse.warnings if "adds up to" in note]
    assert note == (
        f"the table adds up to {float(coarse.scores.sum()):.3g}, {coarse.gap:.2g} less than {coarse.product:.3g}: "
        "compare its scores with each other"
    )
    assert "adds up to" not in str(usual.warnings)


@pytest.mark.slow
def test_interactions_with_more_steps_have_a_smaller_gap() -> None:
    gaps = [abs(table(image_layer=1, text_layer=1, steps=steps).gap) for steps in (1, 4, 16)]
    assert gaps[2] < gaps[1] < gaps[0]


@pytest.mark.slow
def test_interactions_average_layers() -> None:
    both, one, other = (table(layer=layer, steps=2) for layer in ("1,2", "1", "2"))
    text_fixed = [table(image_layer=layer, text_layer=1, steps=2) for layer in ("1,2", "1", "2")]
    mean = (text_fixed[1].scores + text_fixed[2].scores) / 2
    torch.testing.assert_close(text_fixed[0].scores, mean, atol=1e-6, rtol=0)
    assert not torch.allclose(
        both.scores, (one.scores + other.scores) / 2
    )  # a product of means is not a mean of products


def test_interactions_pair_up_lists_and_are_repeatable() -> None:
    model = tiny.model("clip")
    several = nibt.regions(model, tiny.image(), tiny.CAPTIONS[:2], steps=2)
    assert isinstance(several, list)
    assert [one.caption for one in several] == list(tiny.CAPTIONS[:2])
    again = nibt.regions(model, tiny.image(), tiny.CAPTIONS[0], steps=2)
    assert isinstance(again, Regions)
    assert torch.equal(several[0].scores, again.scores)


def test_interactions_reject_bad_options() -> None:
    with pytest.raises(BadOption):
        table(layer=99)
    with pytest.raises(BadInput):
        nibt.regions(tiny.model("clip"), tiny.image(), " ")
