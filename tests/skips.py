"""A skipped test fails if NIBT_CI is set: otherwise a suite that silently does not run would pass.

``.ci/run`` and ``.ci/slow.py`` set it, since they install all that tests need. Skips for what a machine cannot have are
allowed. Elsewhere, tests may be skipped freely.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest

ALLOWED = (
    "no GPU",
    "root may write anywhere",
    "root may read anything",
    "the test forks",
    "fiftyone is not part of the tools of developers",
    "Label Studio is not part of the tools of developers",
    "label-studio-sdk is not part of the tools of developers",
    "lmms-eval is not part of the tools of developers",
    "pdflatex is not part of the tools of developers",
    "torchao is not part of the tools of developers",
)
"""The beginnings of allowed reasons."""


def _reason(report: Any) -> str:
    """Return the reason of a skip: reports of pytest have a file, a line and ``Skipped: reason``."""
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
