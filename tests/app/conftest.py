"""Fixtures of the tests of this folder."""

import pytest

import nibt
from nibt.models.base import Model


@pytest.fixture(scope="module")
def scenes() -> Model:
    return nibt.load_model("scenes")
