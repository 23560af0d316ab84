"""Tests of ``tests.runtime_types``."""

import importlib
import sys
from collections.abc import Callable

import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError, install_import_hook, jaxtyped
from torch import Tensor, zeros

from nibt import methods
from nibt.methods import _views
from tests.runtime_types import checked


def outer(wide: bool) -> Callable[..., Tensor]:
    if wide:

        @jaxtyped(typechecker=checked)
        def inner(first: Float[Tensor, "row column"], second: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
            return first.sum(-1) + second
    else:

        @jaxtyped(typechecker=checked)
        def inner(first: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
            return first[None] if len(first) > 2 else first

    return inner


@pytest.mark.parametrize("again", range(2))
def test_functions_inside_functions_are_checked(again: int) -> None:
    assert outer(True)(zeros(2, 3), zeros(2)).shape == (2,)
    assert outer(False)(zeros(2)).shape == (2,)
    with pytest.raises(TypeCheckError):
        outer(True)(zeros(2), zeros(2))
    with pytest.raises(TypeCheckError):
        outer(True)(zeros(2, 3), zeros(3))
    with pytest.raises(TypeCheckError):
        outer(False)(zeros(3))


def test_functions_inside_functions_are_generated_once() -> None:
    def make() -> Callable[[int], int]:
        def inner(number: int) -> int:
            return number

        return checked(inner)

    assert make() is make()
    with pytest.raises(BeartypeCallHintViolation):
        make()("one")  # pyright: ignore


def test_functions_of_the_package_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the full suite, which imports the whole package in this way."""
    monkeypatch.delitem(sys.modules, _views.__name__)
    monkeypatch.setattr(methods, "_views", _views)  # so that the import below is undone
    with install_import_hook(_views.__name__, "tests.checked"):
        views = importlib.import_module(_views.__name__)
    assert views is not _views
    assert views.overlaps(2, 3, 0.5).shape == (6, 2)
    with pytest.raises(TypeCheckError):
        views.overlaps("two", 2, 0.5)
