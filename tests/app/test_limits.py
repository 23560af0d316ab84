"""Tests of ``nibt.app.limits``."""

from dataclasses import replace

import pytest

from tests.app.requests import LIMITS


def test_deadline_leaves_time_for_later_methods() -> None:
    ends = [replace(LIMITS, timeout=60.0).deadline(100.0, later) for later in (3, 2, 1, 0)]
    assert ends == pytest.approx([142, 148, 154, 160])
