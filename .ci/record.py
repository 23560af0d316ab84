"""A pytest plugin (``-p record``): it writes outcome and seconds of each test to the JSON file RECORD_TESTS."""

import json
import os
from pathlib import Path

import pytest

_OUTCOMES: dict[str, list] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome, seconds = _OUTCOMES.get(report.nodeid, ["passed", 0.0])
    worse = report.outcome if outcome == "passed" else outcome
    _OUTCOMES[report.nodeid] = [worse, seconds + report.duration]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # workers of pytest-xdist report to the controller
        Path(os.environ["RECORD_TESTS"]).write_text(json.dumps(_OUTCOMES), encoding="utf-8")
