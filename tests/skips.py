"""Where NIBT_CI is set, a test that is skipped has failed: a suite that ought to run, and silently does not, is found.

``.ci/run`` and ``.ci/slow`` set it, since they install all that tests need. Allowed are skips for what a machine cannot
be made to have. Elsewhere tests may be skipped as they like.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest

ALLOWED = ("no GPU", "root may write anywhere", "root may read anything", "the test forks")
"""What the reason of an allowed skip begins with."""


def _reason(report: Any) -> str:
    """Why it was skipped: the reports of pytest have a file, a line and ``Skipped: why``."""
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def _strict(report: Any) -> None:
    if not os.environ.get("NIBT_CI") or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    if not _reason(report).startswith(ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"skipped where NIBT_CI is set, and so it failed: {_reason(report)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    _strict(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _strict(report)
    return report
