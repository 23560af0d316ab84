"""Tests of ``nibt.app.cache``."""

import json
from io import BytesIO

from PIL import Image

from nibt.app.cache import ResultCache
from nibt.app.request import answered
from nibt.models.base import Model
from tests.app.requests import make_request


def test_result_cache_keeps_files_for_a_while(scenes: Model) -> None:
    now = [0.0]
    recent = ResultCache(kept=10.0, most=2, clock=lambda: now[0])
    *_, panels = answered(make_request(), scenes)
    token = recent.keep(panels)
    explanation, table = json.loads(recent.file(token, "json") or b"")
    assert explanation["text"]["caption"] == table["caption"] == "a cat"
    assert Image.open(BytesIO(recent.file(token, "png") or b"")).width > 200
    assert b"Content-Security-Policy" in (recent.file(token, "html") or b"")
    assert recent.file(token, "exe") is None
    assert recent.file("x", "png") is None
    recent.keep(panels), recent.keep(panels)
    assert recent.file(token, "png") is None, "the oldest entry is removed"
    last = recent.keep(panels)
    now[0] = 11
    assert recent.file(last, "png") is None, "the entry is too old"
