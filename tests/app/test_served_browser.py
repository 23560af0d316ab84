"""Tests of the page of ``nibt serve --server`` in a browser."""

from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import open_page
from tests.app.test_browser import SCENES, answered, expect, page, watched
from tests.bridges.test_answer_servers import PROMPT, serving

__all__ = ["page"]  # a fixture


@pytest.mark.slow
def test_a_visitor_explains_an_answer_of_a_served_generator(page: object, tmp_path: Path) -> None:
    browser: Any = page
    options = ["-m", "toy", "--load", "image_size=32", "--load", "cells=2"]
    with serving() as served, open_page(tmp_path, "--server", f"{served.address}/v1", *options) as address:
        requests, wrong = watched(browser)
        browser.goto(address + SCENES)
        answered(browser)
        expect(browser.locator("#known")).to_contain_text("toy: on another server, which gets your image")
        browser.locator("#mode label", has_text="an answer").click()
        browser.locator("#setting button").first.click()
        expect(browser.locator("#model input")).to_have_value("toy")
        expect(browser.locator(".nibt-chosen")).to_have_text("occlusion")
        browser.fill("#captions textarea", PROMPT)
        browser.click("#explain")
        answered(browser)
        expect(browser.locator("table.nibt-answer tbody tr")).to_have_count(4)
        host = served.address.partition("//")[2]
        assert host not in browser.content()
        assert served.requests
        assert wrong == []
        assert not [url for url in requests if host in url]
