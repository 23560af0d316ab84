"""Tests of screenshots of the page of ``nibt serve``: what a visitor sees in the states of ``benchmarks/page.py``."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.app.test_browser import PATIENCE, answered

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
WIDE, NARROW = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
COLLAGE = "?image=collage&model=lite&captions="
STATES = {
    "start": "",
    "word": COLLAGE + "a+cat+and+a+cup+of+coffee&words=0.4",
    "four": COLLAGE + "a+cat%0Aa+cup+of+coffee%0Aa+dog%0Aa+rocket",
    "methods": COLLAGE + "a+cat+and+a+cup+of+coffee&methods=nib,grad_cam",
    "contrast": "?image=coffee&captions=a+cup+of+coffee%0Aa+bowl+of+soup&mode=contrast",
    "images": "?image=chelsea&captions=a+cat&mode=images&against=coffee&model=lite",
    "labels": "?image=rocket&captions=a+rocket%0Aa+lighthouse%0Aa+castle&mode=labels",
    "no-match": "?image=coffee&captions=a+rocket&model=lite",
}


def opened(browser: Browser, url: str, window: dict[str, int]) -> Page:
    """Return a page with the whole answer, without motion."""
    narrow = window == NARROW
    context = browser.new_context(viewport=window, has_touch=narrow, is_mobile=narrow, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(10 * PATIENCE)
    page.goto(url)
    answered(page)
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(5, 5)
    return page


def pixels(page: Page, selector: str = "") -> np.ndarray:
    """Return the pixels of the window or of the first element, (height, width, 3), from 0 to 255."""
    shot = page.locator(selector).first.screenshot(animations="disabled") if selector else page.screenshot()
    return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(float)


def colors(image: np.ndarray) -> np.ndarray:
    """Return how far the red of each pixel is from its blue: positive scores are red, and the photograph is gray."""
    return image[..., 0] - image[..., 2]


@pytest.mark.parametrize("state", STATES)
def test_map_is_a_colored_photograph(browser: Browser, address: str, state: str) -> None:
    page = opened(browser, address + STATES[state], WIDE)
    image = pixels(page, ".nibt-stage")
    page.context.close()
    assert image.mean(axis=2).std() > 10, "the photograph is there"
    assert colors(image).max() > 30, "and the map on it"


@pytest.mark.parametrize("state", ["start", "word", "four"])
def test_page_looks_the_same_twice_and_fits_a_phone(browser: Browser, address: str, state: str) -> None:
    shots = []
    for _ in range(2):
        page = opened(browser, address + STATES[state], NARROW)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        for part in ("#fields", ".nibt-panel", ".nibt-stage"):  # a column may cut what is too wide
            place = page.locator(part).first.bounding_box()
            assert place is not None
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= NARROW["width"]
        shots.append(pixels(page, ".nibt-panel"))
        page.context.close()
    assert shots[0].shape == shots[1].shape
    assert np.abs(shots[0] - shots[1]).mean() < 1


def test_region_of_a_word_is_at_its_object(browser: Browser, address: str) -> None:
    page = opened(browser, address + STATES["word"], WIDE)
    cup = colors(pixels(page, ".nibt-stage"))
    page.locator(".nibt-clear").click()
    page.locator("button.nibt-word").nth(1).click()
    page.mouse.move(5, 5)
    cat = colors(pixels(page, ".nibt-stage"))
    page.context.close()
    half = cup.shape[1] // 2  # the cat is on the left, and the cup on the right
    assert cup[:, half:].mean() > cup[:, :half].mean() + 5
    assert cat[:, :half].mean() > cat[:, half:].mean() + 5


def test_map_that_is_noise_is_paler(browser: Browser, address: str) -> None:
    """``lite`` does not know kettles. A rocket, which it knows and does not see, has a map of what lowers its score."""
    strengths = []
    for captions in ("a+kettle", "a+cup+of+coffee"):
        page = opened(browser, address + f"?image=coffee&model=lite&captions={captions}", WIDE)
        strengths.append(np.percentile(np.abs(colors(pixels(page, ".nibt-stage"))), 99))
        page.context.close()
    assert strengths[0] < 0.6 * strengths[1]


def test_long_caption_is_shown_whole(browser: Browser, address: str) -> None:
    caption = "a+cup+of+coffee+on+a+saucer+with+a+small+spoon+" * 6 + "at+the+end"
    page = opened(browser, address + f"?image=coffee&model=scenes&captions={caption}", NARROW)
    title = page.locator(".nibt-panel h2")
    assert (title.text_content() or "").endswith("at the end")
    assert title.evaluate("element => element.scrollWidth <= element.clientWidth")
    assert title.evaluate("element => element.scrollHeight <= element.clientHeight + 1"), "nothing is cut"
    page.context.close()
