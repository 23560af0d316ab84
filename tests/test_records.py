"""Tests of ``nibt.records``."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from nibt.errors import BadInput, BadOption
from nibt.records import read_record


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str = ""
    sizes: list[int] = Field([1], min_length=1)


class _Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat"]
    lives: int = 9


class _Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = Field(ge=1)
    entries: list[_Inner] = []
    pets: dict[str, Annotated[_Cat | _Dog, Field(discriminator="kind")]] = {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "count is missing"),
        ({"count": 0}, "count must be greater than or equal to 1 (got 0)"),
        ({"count": 1, "entriez": []}, "entriez is unknown: did you mean 'entries'?"),
        ({"count": 1, "zzz": []}, "zzz is unknown"),
        ({"count": 1, "entries": [{}, {"labell": ""}]}, "entries[1].labell is unknown: did you mean 'label'?"),
        ({"count": 1, "pets": {"Tom": {"kind": "cat", "live": 1}}}, "pets.Tom.live is unknown: did you mean 'lives'?"),
        ({"count": 1, "pets": {"Tom": {"kind": "fox"}}}, "pets.Tom.kind must be one of 'cat', 'dog' (got 'fox')"),
        ({"count": 1, "pets": {"Tom": {"lives": 1}}}, "pets.Tom.kind is missing"),
        ({"count": 1, "entries": {}}, "entries must be a list (got {})"),
        ({"count": 1, "entries": [{"sizes": []}]}, "entries[0].sizes must have at least 1 entry (got [])"),
        ({"count": "x" * 99}, f"(got '{'x' * 59}...)"),
        ([], "must be a valid dictionary"),
    ],
)
def test_read_record_names_the_place_and_the_value(data: Any, message: str) -> None:
    with pytest.raises(BadInput) as raised:
        read_record(_Outer, data, "file.json")
    text = str(raised.value)
    assert text.startswith("file.json: ")
    assert message in text


def test_read_record_counts_the_mistakes_that_it_does_not_name() -> None:
    data = {"count": 1, "entries": [{"sizes": ["a", "b", "c", "d", "e"]}]}
    with pytest.raises(BadOption, match=r"and 2 more$") as raised:
        read_record(_Outer, data, "", BadOption)
    assert str(raised.value).startswith("entries[0].sizes[0] must be a valid integer")


def test_a_list_is_not_called_too_short_for_a_wrong_entry() -> None:
    class Filled(BaseModel):
        sizes: Annotated[tuple[_Inner, ...], Field(min_length=1)]

    for entry, place in ((3, "sizes[0]"), ({"sizes": 3}, "sizes[0].sizes")):
        with pytest.raises(BadInput) as raised:
            read_record(Filled, {"sizes": [entry]}, "")
        assert str(raised.value).startswith(f"{place} must be")
        assert ";" not in str(raised.value)


def test_read_record_returns_the_record() -> None:
    assert read_record(_Outer, {"count": 2, "entries": [{"label": "a"}]}, "x") == _Outer(
        count=2, entries=[_Inner(label="a")]
    )
