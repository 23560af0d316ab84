"""Screenshots of the page of nibt serve, the times to its start and to explanations, and the requests of the browser.

It feeds docs/guides/serve.md (the images in docs/page).

python benchmarks/page.py [--out FOLDER]

It needs Debian's chromium. The images in docs/page come from here: each shows what a visitor sees without scrolling.
"""

import argparse
import shutil
import statistics
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.app.load import served

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
CAPTION = "a cat and a cup of coffee"
COLLAGE = "?image=collage&captions=a+cat+and+a+cup+of+coffee&model=lite"
WINDOW, NARROW = (1366, 768), (390, 844)
STATES = {
    "word": COLLAGE + "&words=0.4",
    "four": "?image=collage&captions=a+cat%0Aa+cup+of+coffee%0Aa+dog%0Aa+rocket&model=lite",
    "methods": COLLAGE + "&methods=nib,grad_cam",
    "contrast": "?image=coffee&captions=a+cup+of+coffee%0Aa+bowl+of+soup&mode=contrast",
    "labels": "?image=rocket&captions=a+rocket%0Aa+lighthouse%0Aa+castle&mode=labels",
    "no-match": "?image=coffee&captions=a+rocket&model=lite",
}


def photographed(page, path):
    """What is in the window, in all its colors: with fewer, the colors of a map show steps that it does not have."""
    Image.open(BytesIO(page.screenshot())).convert("RGB").save(path, optimize=True)


def whole(page):
    """Wait for the whole answer."""
    page.wait_for_selector(".nibt-saved", timeout=600_000)
    page.wait_for_selector(".nibt-view[data-ready]")
    page.wait_for_timeout(1500)


def cold(browser):
    """Seconds to the start of a new server, and from its page, as soon as it is open, to the map of a typed caption."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto("about:blank")
    began = time.monotonic()
    with served() as (address, _):
        start = time.monotonic() - began
        page.goto(address)
        page.wait_for_function("document.querySelector('#captions textarea')?.value", timeout=600_000)
        began = time.monotonic()
        ask(page, "a caption that nobody asked before")
        page.locator(".nibt-panel h2", has_text="nobody").wait_for(timeout=600_000)
        took = time.monotonic() - began
        page.close()
    return start, took


def first(page, address):
    """Seconds to the map that a new page opens with, and from a click to the map of another caption, five times."""
    began, took = time.monotonic(), []
    page.goto(address)
    page.wait_for_selector(".nibt-view[data-ready]", timeout=600_000)
    opening = time.monotonic() - began
    whole(page)
    for number in range(5):  # each caption is new: the results of samples are remembered
        caption = f"{CAPTION} {number}"
        began = time.monotonic()
        ask(page, caption)
        page.locator(".nibt-panel h2", has_text=caption).wait_for(timeout=600_000)
        took.append(time.monotonic() - began)
        whole(page)
    return opening, took


def states(browser, address, folder):
    """An image of each state that the guide shows; one in dark mode, and one on a narrow screen."""
    with opened(browser, WINDOW) as page:
        for name, state in STATES.items():
            show(page, address + state)
            photographed(page, folder / f"{name}.png")
        box(page, address, folder)
        method_list(page, address, folder)
    for name, (size, scheme) in {"word-dark": (WINDOW, "dark"), "word-narrow": (NARROW, "light")}.items():
        with opened(browser, size, scheme) as page:
            show(page, address + STATES["word"])
            photographed(page, folder / f"{name}.png")


@contextmanager
def opened(browser, size, scheme="light"):
    """A page in a window of its own."""
    width, height = size
    touch = size == NARROW
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=touch, is_mobile=touch
    )
    yield context.new_page()
    context.close()


def show(page, url):
    page.goto(url)
    whole(page)


def started(page, address):
    """Open the page and wait until all of it is there."""
    page.goto(address)
    whole(page)
    page.wait_for_function("document.querySelector('.nibt-chosen').textContent.includes('about')")


def box(page, address, folder):
    """A box on the image and its words."""
    page.goto(address + COLLAGE)
    whole(page)
    place = page.locator(".nibt-stage").bounding_box()
    for share in (0.55, 0.95):
        page.mouse.click(place["x"] + share * place["width"], place["y"] + (share - 0.5) * 2 * place["height"])
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    photographed(page, folder / "box.png")


def method_list(page, address, folder):
    """The methods by kind, in a window that is high enough."""
    page.set_viewport_size({"width": 1366, "height": 1600})
    started(page, address)
    page.get_by_text("Methods:").click()
    page.get_by_text("methods are not available").click()
    page.wait_for_timeout(300)
    page.locator("#fields").screenshot(path=folder / "method-list.png")
    page.set_viewport_size({"width": 1366, "height": 768})


def ask(page, caption):
    """Ask about a caption."""
    page.fill("#captions textarea", caption)
    page.click("#explain")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/page"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        start, typed = cold(browser)
        browser.close()
    print(f"seconds to the start: {start:.1f}; from the open page to the first map of a typed caption: {typed:.1f}")
    with served() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        requests = []
        page.on("request", lambda request: requests.append((request.method, request.url)))
        opening, took = first(page, address + "/")
        states(browser, address + "/", options.out)
        browser.close()
    elsewhere = [
        url for _, url in requests if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(address)
    ]
    print(
        f"seconds to the map of a new page: {opening:.1f}; from a click to a map: median {statistics.median(took):.1f}"
    )
    print(f"requests of the browser: {len(requests)}, to others than the server: {len(elsewhere)}")
    print(f"{time.strftime('%-d %B %Y')}, gradio {version('gradio')}, torch {version('torch')}")


if __name__ == "__main__":
    main()
