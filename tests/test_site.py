"""The site of the documents is built without a warning, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_LOADS = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the site's tools: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}  # no network
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        urls = [url for url in _LOADS.findall(page.read_text(encoding="utf-8")) if "canonical" not in url]
        assert not urls, f"{page.name} loads {urls}"
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), (
            sheet.name
        )


def test_site_has_the_outputs_of_notebooks(site: Path) -> None:
    for name in ("first_steps", "ask_a_generator", "compare_methods", "audit_your_model"):
        text = (site / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert "data:image/jpeg;base64," in text
    assert '<table border="1" class="dataframe">' in text


def test_site_has_formulas_as_mathml(site: Path) -> None:
    formulas = 0
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        formulas += text.count("<math")
        prose = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
        assert not re.findall(r"\$\$|arithmatex|\\[a-zA-Z]+", prose), page.name
    assert formulas > 100
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in (
        site / "reference" / "methods" / "nib.html"
    ).read_text(encoding="utf-8")


def test_site_has_every_command_and_public_name(site: Path) -> None:
    import nibt
    from nibt.cli.main import app

    text = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # pyright: ignore
        assert f"nibt {name}" in text
    table = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(nibt.__all__)
    files = {path.name.lower(): path for path in (site / "reference" / "python").iterdir()}
    assert len(files) == len(nibt.__all__), "their names differ in more than capitals"
    for name in nibt.__all__:
        kind = "class_" if isinstance(getattr(nibt, name), type) else ""
        page = files[f"{kind}{name}.html".lower()].read_text(encoding="utf-8")
        assert re.search(rf'<h1 id="[^"]*">nibt\.{name}<', page)


def test_site_navigation_has_every_page() -> None:
    """mkdocs checks links, but it only mentions pages that the navigation lacks."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w/]+\.md)$", "\n".join(line for line in text.splitlines() if "#" not in line), re.M))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {path.with_suffix(".md").name for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")}
    assert listed == pages | {"changelog.md"} | {f"tutorials/{name}" for name in notebooks}
    assert yaml.safe_load(text)["theme"]["font"] is False


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The site on a server of this machine, which search needs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


def test_site_in_a_browser_requests_nothing_from_elsewhere(served: str, browser: Browser) -> None:
    requests: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.on("request", lambda request: requests.append(request.url))
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    names = (
        "explanation/theory",
        "tutorials/first_steps",
        "reference/commands",
        "reference/python",
        "reference/methods/nib",
    )
    for name in ("index", *names):
        page.goto(f"{served}/{name}.html")
        assert page.locator("h1").first.is_visible()
        for navigation in (".md-tabs", ".md-sidebar--primary"):
            box = page.locator(navigation).bounding_box()
            assert 0 <= (box or {"x": -1})["x"] < 1200, f"{name}: {navigation} is hidden"
    page.locator("input.md-search__input").click()
    ready = page.locator(".md-search-result__meta", has_text="Type to start searching")
    ready.wait_for(timeout=120_000)  # the index is loaded, and typing has an effect
    page.locator("input.md-search__input").press_sequentially("completeness")
    page.locator("a.md-search-result__link").first.wait_for(timeout=120_000)
    narrow = browser.new_page(viewport={"width": 380, "height": 800})
    narrow.on("request", lambda request: requests.append(request.url))
    narrow.goto(f"{served}/reference/metrics/index.html")
    wide = narrow.evaluate("document.documentElement.scrollWidth")
    narrow.goto(f"{served}/reference/methods/m2ib.html")  # with long formulas
    wide = max(wide, narrow.evaluate("document.documentElement.scrollWidth"))
    assert requests
    assert all(url.startswith((served, "data:", "blob:")) for url in requests), requests
    assert wide <= 380, "a narrow screen scrolls horizontally"
    assert not wrong
