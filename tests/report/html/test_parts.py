"""Tests of ``nibt.report.html.parts`` in a browser: marks of parts, and the file that the page downloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import nibt
from nibt.bridges.repair import part_cells
from nibt.results.parts import Parts
from tests import tiny
from tests.helpers import noise_pairs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAIRS = noise_pairs(8)


@pytest.fixture(scope="module")
def parts() -> Parts:
    return nibt.parts(tiny.model("clip"), PAIRS, "gae", count=3, texts=["cat </script>", "dog"])


@pytest.fixture
def page(browser: Browser, parts: Parts, tmp_path: Path) -> Iterator[Page]:
    """The page of parts, of which the third has a mark."""
    parts.marked({3: "may"}).save(tmp_path / "parts.html")
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.goto((tmp_path / "parts.html").as_uri())
    yield opened
    context.close()


@pytest.mark.slow
def test_marks_are_saved_as_a_file_of_parts(page: Page, parts: Parts, tmp_path: Path) -> None:
    wrong: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))

    page.locator("#part-1").get_by_label("must not").check()
    page.locator("#part-2").get_by_label("must not").check()
    page.locator("#part-2").get_by_label("no mark").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the marks").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)

    assert path.name == "marked-parts.json"
    assert not wrong
    assert all(url.startswith("blob:") for url in requests), "it is the page's own"
    loaded = Parts.load(path)
    small = replace(parts, parts=tuple(replace(part, gallery=()) for part in parts.parts))
    assert loaded == small.marked({1: "must not", 3: "may"})
    assert path.stat().st_size < 100_000

    model = tiny.model("clip")
    images = [pair.image for pair in PAIRS]
    assert torch.equal(part_cells(model, images, path).masks, part_cells(model, images, parts, 1).masks)
    assert nibt.used_share(model, PAIRS, path).value == nibt.used_share(model, PAIRS, parts, 1).value
    explanation = nibt.part_scores(model, nibt.explain(model, PAIRS[0].image, "a cat", "gae"), path)
    assert explanation.parts is not None
    assert {part.number: part.mark for part in explanation.parts.parts}.get(1, "must not") == "must not"


def test_the_marks_of_a_file_are_checked_on_its_page(page: Page) -> None:
    checked = page.locator("fieldset.marks input:checked")
    assert [checked.nth(place).input_value() for place in range(checked.count())] == ["", "", "may"]


def test_without_scripts_there_is_nothing_to_mark(browser: Browser, parts: Parts, tmp_path: Path) -> None:
    parts.save(tmp_path / "parts.html")
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((tmp_path / "parts.html").as_uri())
    assert opened.locator("#part-1 h2").is_visible()
    assert not opened.get_by_role("button", name="Save the marks").is_visible()
    assert not opened.locator("fieldset.marks").first.is_visible()
    context.close()
