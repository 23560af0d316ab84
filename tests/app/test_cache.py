"""Tests of ``nibt.app.cache``."""

import json
from io import BytesIO

import pytest
from PIL import Image

from nibt.app.cache import ResultCache
from nibt.app.request import explain_steps
from nibt.models.base import Model
from tests.app.requests import make_request


@pytest.mark.slow
def test_result_cache_keeps_files_for_a_while(scenes: Model) -> None:
    now = [0.0]
    results = ResultCache(lifetime=10.0, max_size=2, clock=lambda: now[0])
    *_, panels = explain_steps(make_request(), scenes)
    token = results.store(panels)
    explanation, table = json.loads(results.export(token, "json") or b"")
    assert explanation["sides"]["text"]["caption"] == table["caption"] == "a cat"
    assert Image.open(BytesIO(results.export(token, "png") or b"")).width > 200
    assert b"Content-Security-Policy" in (results.export(token, "html") or b"")
    assert results.export(token, "exe") is None
    assert results.export("x", "png") is None
    results.store(panels), results.store(panels)
    assert results.export(token, "png") is None, "the oldest entry is removed"
    last = results.store(panels)
    now[0] = 11
    assert results.export(last, "png") is None, "the entry is too old"
