"""Tests of ``nibt.cli.main``."""

from nibt import __version__
from tests.helpers import Run


def test_version_is_printed(run: Run) -> None:
    assert run("--version")[:2] == (0, f"nibt {__version__}\n")
