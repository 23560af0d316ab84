"""Tests of ``nibt.evaluation.bench.summary``."""

import pytest

from nibt.evaluation.bench.headline import published, published_gains


def test_published_headline_is_reproduced() -> None:
    assert len(published()) == 3 * 8 * 5
    assert published_gains() == pytest.approx({"image": 0.09, "text": 0.5883, "speed": 0.6395}, abs=5e-5)
    assert published_gains(relative_to_m2ib=True) == pytest.approx(
        {"image": 0.0919, "text": 0.7397, "speed": 1.808}, abs=5e-4
    )
