"""The page of nibt serve, photographed in each state; how soon the first explanation comes; whom the browser asks.

python benchmarks/page.py [--out FOLDER]

Needs Debian's chromium. The images in docs/page come from here.
"""

import argparse
import re
import shutil
import statistics
import time
from collections import Counter
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from load import served
from PIL import Image
from playwright.sync_api import sync_playwright

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
STATES = {
    "word": COLLAGE + "&words=0.4,0.6",
    "methods": COLLAGE + "&methods=nib,grad_cam",
    "contrast": "?image=coffee&captions=a+cup+of+coffee%0Aa+bowl+of+soup&mode=contrast",
    "labels": "?image=rocket&captions=a+missile%0Aa+lighthouse%0Aa+castle&mode=labels",
}


def photographed(page, path):
    """The whole page in 255 colors, which is enough to see it."""
    Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB").quantize(255).save(path, optimize=True)


def recorded(requests, address, path):
    """How often the browser asked whom for what; of data that stand in the page only that they do."""
    lines = Counter()
    for method, url in requests:
        parts = urlsplit(url)
        whom = "the server" if url.startswith(address) else parts.netloc or "the page itself"
        what = parts.path if parts.scheme.startswith("http") else f"{parts.scheme}:"
        what = re.sub(r"(file=|heartbeat/).*", r"\1...", what)
        lines[f"{method} {whom} {what}"] += 1
    path.write_text("".join(f"{count:4} {line}\n" for line, count in sorted(lines.items())))


def whole(page):
    """Wait for the whole answer."""
    page.wait_for_selector(".nibt-saved", timeout=120_000)
    page.wait_for_selector(".nibt-view[data-ready]")
    page.wait_for_timeout(500)


def first(page, address):
    """Seconds from the click to the first explanation, five times."""
    took = []
    for _ in range(5):
        page.goto(address)
        page.get_by_role("button", name=f"sample: {CAPTION}").click()
        page.wait_for_function(f"document.querySelector('#captions textarea').value === '{CAPTION}'")
        began = time.monotonic()
        page.click("#explain")
        page.wait_for_selector(".nibt-view[data-ready]", timeout=120_000)
        took.append(time.monotonic() - began)
        whole(page)
    return took


def states(browser, address, folder):
    """An image of each state."""
    views = {"": {}, "-dark": {"color_scheme": "dark"}, "-narrow": {"viewport": {"width": 380, "height": 760}}}
    for ending, options in views.items():
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 760}, **options}).new_page()
        page.goto(address)
        page.wait_for_selector("#explain")
        page.wait_for_timeout(4000)
        photographed(page, folder / f"start{ending}.png")
        for name, query in STATES.items() if not ending else [("word", STATES["word"])]:
            page.goto(address + query)
            whole(page)
            photographed(page, folder / f"{name}{ending}.png")
        if not ending:
            box(page, address, folder)
            wrong(page, address, folder)
        page.context.close()


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


def wrong(page, address, folder):
    """A message."""
    page.goto(address)
    page.wait_for_selector("#explain")
    page.wait_for_timeout(4000)
    page.click("#explain")
    page.get_by_role("alert").wait_for()
    photographed(page, folder / "message.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/page"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with served() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        requests = []
        page.on("request", lambda request: requests.append((request.method, request.url)))
        took = first(page, address + "/")
        states(browser, address + "/", options.out)
        browser.close()
    elsewhere = [
        url for _, url in requests if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(address)
    ]
    recorded(requests, address, options.out / "requests.txt")
    print(
        f"seconds from the click to the first explanation: {took[0]:.1f} at once, median {statistics.median(took):.1f}"
    )
    print(f"requests of the browser: {len(requests)}, to others than the server: {len(elsewhere)}")
    print(f"{time.strftime('%-d %B %Y')}, gradio {version('gradio')}, torch {version('torch')}")


if __name__ == "__main__":
    main()
