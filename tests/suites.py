"""What the fast suite leaves to the full suite.

The fast suite is ``python -m pytest``. It deselects the tests marked ``slow``. The full suite, ``.ci/full``, runs all
tests, and checks the types and shapes of all calls on the way.
"""

from collections.abc import Iterable
from typing import Any

import pytest

COVER = (
    *("clip", "siglip", "siglip naflex"),
    *("own vit", "own vit average", "own vit attention", "own resnet", "bert"),
    *("timm vit", "timm vit average", "timm siglip", "swin", "convnext"),
    *("metaclip 2", "tipsv2", "aimv2", "clipseg", "chinese clip", "altclip", "align", "blip", "blip 2", "flava"),
    *("groupvit", "owlvit", "vit bert", "clip vision bert", "clip pair", "openai"),
)
"""Kinds of models with every class of tower, and every way in which it pools; ``test_suites.py`` checks it."""

VARIED = ("clip", "siglip naflex", "mt5", "convnext")
"""Kinds for what is tested above the towers: of each library, padding in both towers, heads that read one row, pool by
attention or average, and a trunk without attention.
"""


def few(values: Iterable[Any], fast: Iterable[Any]) -> list[Any]:
    """Mark the values of a parameter as slow, except those of the fast suite."""
    values, fast = list(values), list(fast)
    assert any(value in fast for value in values), "the fast suite would run none of them"
    return [
        value
        if value in fast
        else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for value in values
    ]
