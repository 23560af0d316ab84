"""Tests of ``tests.suites``."""

import pytest

from nibt.models._attention import pools_by_attention
from nibt.models.base import Tower
from tests import tiny
from tests.helpers import make_inputs
from tests.suites import COVER, few


def differences(tower: Tower) -> tuple[str, str, bool, bool]:
    """Return in what the code of a tower may differ from that of another: its class, and how it pools."""
    trace = tower.trace(make_inputs(tower))
    args, kwargs = trace.calls[-1]
    one_row = tower.last(trace.streams[-2], tower.head_inputs(trace.inputs), args, kwargs) is not None
    return tower.modality, type(tower).__name__, one_row, pools_by_attention(trace)


@pytest.mark.slow
def test_cover_has_all_that_differs_between_towers() -> None:
    models = {kind: tiny.model(kind) for kind in tiny.ALL}
    by_kind = {kind: {differences(model.image), differences(model.text)} for kind, model in models.items()}
    covered = set().union(*(by_kind[kind] for kind in COVER))
    assert {kind: sorted(by_kind[kind] - covered) for kind in by_kind if by_kind[kind] - covered} == {}


def test_few_marks_the_other_values_as_slow() -> None:
    first, second = few(["a", "b"], ["a"])
    assert first == "a"
    assert second.values == ("b",)
    assert [mark.name for mark in second.marks] == ["slow"]
    with pytest.raises(AssertionError, match="none of them"):
        few(["a", "b"], ["c"])
