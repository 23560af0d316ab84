"""Tests of ``nibt.options``: one place reads the numbers of all options, and a bad one is an error in a sentence."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibt.cli.groups import OptionGroup
from nibt.errors import BadOption
from nibt.options import OneOf, Range, field_types, parsed
from nibt.registry import KINDS, available, find
from tests.helpers import Run, is_number

NUMBERS = [
    (kind, name, option)
    for kind in KINDS
    for name in available(kind)
    if dataclasses.is_dataclass(find(kind, name))
    for option, type_ in field_types(find(kind, name)).items()
    if is_number(type_)
]
"""Every option of every plugin that is a number."""
ANYTHING = st.one_of(
    st.integers(),
    st.integers(10**6, 10**400),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=6),
    st.sampled_from(["nan", "inf", "-1", "1e9", "10000000", "1_0", "\u0663", " 3 ", "0x10"]),
    st.lists(st.integers(), max_size=2),
    st.complex_numbers(),
)


def test_ranges_have_words_and_members() -> None:
    known = {
        Range(1, 1000): ("between 1 and 1,000", [1, 1000], [0, 1001, math.nan, math.inf]),
        Range(0): ("at least 0", [0, 1e300], [-1e-9, math.nan, math.inf]),
        Range(0, above=True): ("above 0", [1e-9], [0.0, math.nan, math.inf]),
        Range(0, 1, above=True): ("above 0 and at most 1", [1.0], [0.0, 1.1]),
        Range(0, 1, above=True, below=True): ("above 0 and below 1", [0.5], [0.0, 1.0]),
    }
    for limits, (words, inside, outside) in known.items():
        assert str(limits) == words
        for value in inside:
            assert parsed("x", value, Annotated[float, limits]) == value
        for value in outside:
            with pytest.raises(BadOption, match="x must be"):
                parsed("x", value, Annotated[float, limits])


@pytest.mark.parametrize(("limits", "words"), [(Range(0, above=True), "above 0"), (Range(0), "at least 0")])
def test_infinite_numbers_are_refused_in_words_that_hold(limits: Range, words: str) -> None:
    with pytest.raises(BadOption, match=rf"x must be a finite number {words} \(got inf\)"):
        parsed("x", "inf", Annotated[float, limits])


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, "3", 3),
        (int, 3.0, 3),
        (int | None, None, None),
        (float, "1e-3", 1e-3),
        (bool, "True", True),
        (Annotated[int, Range(1, 5)] | None, "5", 5),
        (dict, "as it is", "as it is"),
        (tuple[int, ...], 6, (6,)),
    ],
)
def test_values_get_the_type_of_their_option(kind: Any, value: Any, expected: Any) -> None:
    actual = parsed("x", value, kind)
    assert (actual, type(actual)) == (expected, type(expected))


def test_every_number_has_a_range() -> None:
    for kind, name, option in NUMBERS:
        if (name, option) != ("imagenet_s", "classes"):  # one of three numbers
            with pytest.raises(BadOption, match=rf"^{option} must be "):
                parsed(option, -(10**30), field_types(find(kind, name))[option])


def read(number: tuple[str, str, str], value: Any) -> Any:
    """Return what is read, or the message of the error."""
    kind, name, option = number
    try:
        return parsed(option, value, field_types(find(kind, name))[option])
    except BadOption as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NUMBERS), ANYTHING)
def test_any_value_of_any_number_is_read_or_refused(number: tuple[str, str, str], value: Any) -> None:
    actual = read(number, value)
    if isinstance(actual, str):
        assert actual.startswith(f"{number[2]} must be ")
        assert len(actual) < 200
    else:
        assert actual is None or (type(actual) in (int, float) and math.isfinite(actual))


def groups(kind: type[OptionGroup] = OptionGroup) -> Iterator[type[OptionGroup]]:
    """Return the groups of the commands; tests of groups define others."""
    for part in kind.__subclasses__():
        if part.__module__.startswith("nibt."):
            yield part
        yield from groups(part)


@pytest.mark.needs("lab")
def test_every_number_of_a_command_has_a_range() -> None:
    """Click reads the text; the group of the option checks the number, before anything is read."""
    numbers = [(kind, name) for kind in groups() for name, type_ in field_types(kind).items() if is_number(type_)]
    assert len(numbers) >= 8
    for kind, name in numbers:
        with pytest.raises(BadOption, match=rf"^{name} must be "):
            parsed(name, -7, field_types(kind)[name])


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "nib steps=10000000"),
        ("--batch-size", "0"),
        ("--method", "rise masks=1e9"),
        ("--method", "nib floor=-1"),
        ("--method", "nib layer=1,1"),
        pytest.param(("--device", "cpu:5"), marks=pytest.mark.slow),
        ("--method", f"nib seed={'1' * 400}"),
        ("--draw", "threshold=nan"),
    ],
)
def test_a_bad_number_of_a_command_is_one_line_at_once(run: Run, photo: Path, clip_folder: Path, words: Any) -> None:
    code, out, err = run("explain", photo, "a cat", "-m", clip_folder, "-q", *words)
    assert (code, out) == (2, "")
    assert err.strip().count("\n") == 0, err
    assert "must be" in err or "must name" in err or "is not available" in err


@pytest.mark.parametrize(("value", "shown"), [(5, "5"), (None, "None"), (["x"], r"\['x'\]")])
def test_an_option_of_text_shows_what_it_got(value: Any, shown: str) -> None:
    with pytest.raises(BadOption, match=rf"dtype must be one of a, b \(got {shown}\)"):
        parsed("dtype", value, Annotated[str, OneOf(("a", "b"))])
    with pytest.raises(BadOption, match=rf"prompt must be text \(got {shown}\)"):
        parsed("prompt", value, str)
