"""A skipped test fails the gate, unless its reason is allowed."""

import pytest

SUITE = """
import pytest

def test_that_runs(): pass

@pytest.mark.skipif(True, reason="no GPU here")
def test_that_may_be_skipped(): pass

@pytest.mark.skipif(True, reason="chromium is not installed")
def test_by_a_mark(): pass

def test_from_within(): pytest.skip("the photographs are not there")

@pytest.fixture
def ray(): pytest.importorskip("a_package_that_nobody_has", reason="needs Ray")

def test_by_a_fixture(ray): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_that_is_known_to_fail(): assert False
"""


MODULE = """
import pytest
pytest.importorskip("a_package_that_nobody_has", reason="needs gradio")
def test_nothing(): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_suite=SUITE, test_module=MODULE)
    return pytester


def test_skips_are_allowed_outside_of_the_gate(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIBT_CI", raising=False)
    suite.runpytest_inprocess("-p", "tests.skips").assert_outcomes(passed=1, skipped=5, xfailed=1)


def test_skips_fail_in_the_gate_unless_allowed(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBT_CI", "1")
    actual = suite.runpytest_inprocess("-p", "tests.skips", "test_suite.py")
    actual.assert_outcomes(passed=1, skipped=1, failed=1, errors=2, xfailed=1)
    actual.stdout.fnmatch_lines(["*skipped where NIBT_CI is set, and so it failed: chromium is not installed*"])
    whole = suite.runpytest_inprocess("-p", "tests.skips", "test_module.py")
    assert whole.ret != 0
    whole.stdout.fnmatch_lines(["*skipped where NIBT_CI is set, and so it failed: needs gradio*"])
