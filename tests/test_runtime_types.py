"""Tests of ``tests.runtime_types``."""

from collections.abc import Callable

import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor, zeros

from nibt.methods._views import spread
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


def test_functions_of_the_package_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        spread("two", 2, 0.5)  # pyright: ignore
