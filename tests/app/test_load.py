"""Tests of the page of ``nibt serve`` under load."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.slow
def test_fifty_visitors_get_correct_answers() -> None:
    command = [sys.executable, "tests/app/load.py", "--users", "50", "--duration", "120"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert "differ from those without a page: 0; the page lives" in ran.stdout
