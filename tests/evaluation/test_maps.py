"""Tests of ``nibt.evaluation.maps``."""

import pytest

from nibt.evaluation.maps import without_mean_states
from nibt.models._loading import load_model
from nibt.registry import MethodSpec
from tests import tiny


@pytest.mark.slow
def test_without_mean_states_replaces_mean_baselines_only() -> None:
    lite = load_model("lite")
    own = MethodSpec("nib")
    assert without_mean_states(lite, own, "image") == MethodSpec("nib", options={"image_baseline": "blank"})
    assert without_mean_states(tiny.model("clip"), own, "image") == own
