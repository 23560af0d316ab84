"""Tests of ``nibt.evaluation.parts.names``."""

import numpy as np
import pytest

from nibt.evaluation.parts.names import directions, name_of
from tests import tiny

TEXTS = ["cat", "dog", "car", "bird"]
VECTORS = np.eye(4)


def changes(*nearest: int) -> np.ndarray:
    return np.eye(4)[list(nearest)] + 0.1 * np.eye(4)[(np.array(nearest) + 1) % 4]


@pytest.mark.parametrize(
    ("nearest", "name"),
    [
        pytest.param([1] * 14, "dog", id="one text in all images"),
        pytest.param([0, 1, 2, 3] * 4, "", id="another text in each image, as by a mark"),
        pytest.param([1] * 10, "", id="too few images"),
        pytest.param([1, 2] * 10, "", id="the other images do not confirm it"),
    ],
)
def test_a_name_must_be_nearest_in_most_images(nearest: list[int], name: str) -> None:
    actual, two = name_of(changes(*nearest), TEXTS, VECTORS)
    assert actual == name
    assert len(two) == 2
    assert two[0][1] >= two[1][1]


@pytest.mark.parametrize(("captions", "name"), [(["a dog"] * 14, ""), (["a cat"] * 14, "dog"), ([], "dog")])
def test_captions_with_the_name_do_not_confirm_it(captions: list[str], name: str) -> None:
    assert name_of(changes(*[1] * 14), TEXTS, VECTORS, captions)[0] == name


def test_no_texts_give_no_name() -> None:
    assert name_of(changes(1, 1), [], np.empty((0, 4))) == ("", ())


def test_directions_are_relative_to_the_mean_text() -> None:
    vectors = directions(tiny.model("clip"), ["cat", "dog", "car"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.sum(0) @ vectors.sum(0) < 1
