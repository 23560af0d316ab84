"""Tests of ``nibt.progress``."""

import pytest

import nibt
from nibt.progress import Progress, listening, report, tracked
from tests import tiny

COSTLY = {
    "occlusion": {},
    "rise": {"masks": 70},
    "shapley": {"budget": 70},
    "m2ib": {"steps": 4},
    "integrated_gradients": {"steps": 40},
    "nib": {"steps": 40},
}


@pytest.mark.parametrize("method", sorted(COSTLY))
def test_methods_report_their_forward_passes(method: str) -> None:
    seen: list[Progress] = []
    model = tiny.model("clip")  # loading reports stages, too
    with listening(seen.append):
        nibt.explain(model, tiny.image(40, 40), "a red cat", method, **COSTLY[method])
    assert seen
    assert all(0 < one.done <= one.total for one in seen)
    longest = max(one.total for one in seen)
    assert Progress(longest, longest) in seen, "the longest loop is reported to its end"


def test_listening_is_limited_to_its_context() -> None:
    seen: list[Progress] = []
    with listening(seen.append):
        for _ in tracked([1, 2]):
            report(5, 9)  # of an inner loop
    report(1, 1)
    assert seen == [Progress(1, 2), Progress(2, 2)]


def test_regions_report_progress() -> None:
    seen: list[Progress] = []
    with listening(seen.append):
        nibt.regions(tiny.model("clip"), tiny.image(40, 40), "a red cat", steps=2)
    assert seen
