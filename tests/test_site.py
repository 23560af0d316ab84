"""The site of the documents is built without a warning, and loads nothing from elsewhere."""

from __future__ import annotations

import json
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
    from playwright.sync_api import Browser, Page

_LOADS = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
)


WORDS = {
    "vLLM": "guides/server",
    "Ollama": "guides/server",
    "GGUF": "guides/server",
    "Slurm": "guides/jobs",
    "DuckDB": "guides/jobs",
    "Lightning": "guides/training",
    "fine-tuned": "guides/explain",
    "LoRA": "guides/load",
    "OpenCLIP": "guides/load",
    "Trainer": "guides/load",
    "axioms": "explanation/axioms",
    "multilingual": "guides/answers",
    "Chinese": "guides/answers",
    "Docker": "guides/answers",
    "privacy": "guides/answers",
    "security": "guides/answers",
    "untrusted": "guides/answers",
    "duplicates": "guides/contrast",
    "license": "guides/answers",
    "fp16": "guides/answers",
    "deterministic": "guides/answers",
    "pseudo-labels": "guides/explain",
    "NumPy": "guides/explain",
    "retrieval": "guides/contrast",
    "ColPali": "guides/pages",
    "typography": "guides/audit",
    "inseq": "guides/coming_from",
    "captum": "guides/coming_from",
    "SHAP": "guides/coming_from",
    "grad-cam": "guides/coming_from",
    "uncertainty": "guides/report",
    "error bars": "guides/report",
    "confidence interval": "guides/report",
    "cite": "guides/report",
    "BibTeX": "guides/report",
    "reviewer": "guides/report",
    "heatmap": "guides/answers",
    "saliency": "guides/answers",
    "hallucination": "guides/answers",
    "LLaVA": "guides/generators",
    "medical": "guides/medical",
    "shortcut": "guides/shortcut",
    "watermark": "guides/shortcut",
    "classifier": "guides/contrast",
}
"""What newcomers type into the search, with the page that answers it."""


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


def test_search_finds_the_page_of_each_word(site: Path) -> None:
    """As the search of the site does: it knows no synonyms, and finds tokens that start with what was typed."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    separator = re.compile(index["config"]["separator"])
    found: dict[str, set[str]] = {}
    for entry in index["docs"]:
        page = entry["location"].partition(".html")[0]
        text = re.sub(r"<[^>]+>", " ", f"{entry['title']} {entry['text']}").lower()
        found.setdefault(page, set()).update(separator.split(text))
    for word, page in WORDS.items():
        for part in separator.split(word.lower()):
            assert any(token.startswith(part) for token in found[page]), f"the page {page} does not have {word!r}"


def test_each_row_of_the_start_page_has_one_link_or_says_why_not(site: Path) -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    table = page.partition("## What do you want to do?")[2]
    rows = re.findall(r"^\| (?!you want to)(\w.*) \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) > 12
    for want, answer in rows:
        links = re.findall(r"\]\(([^)#]+)\.md(?:#([^)]+))?\)", answer)
        if answer.startswith("*not possible, because*"):
            assert not links, want
            continue
        assert len(links) == 1, f"{want}: {answer}"
        ((target, heading),) = links
        text = (site / f"{target}.html").read_text(encoding="utf-8")
        assert not heading or f'id="{heading}"' in text, f"{target} has no heading {heading}"


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
        page = (site / "reference" / "commands" / f"{name}.html").read_text(encoding="utf-8")
        assert "--help" in page, name
    table = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(nibt.__all__)
    files = {path.name.lower(): path for path in (site / "reference" / "python").iterdir()}
    assert len(files) == len(nibt.__all__), "their names differ in more than capitals"
    for name in nibt.__all__:
        kind = "class_" if isinstance(getattr(nibt, name), type) else ""
        page = files[f"{kind}{name}.html".lower()].read_text(encoding="utf-8")
        assert re.search(rf'<h1 id="[^"]*">nibt\.{name}<', page)


def test_page_of_explain_has_one_signature_with_named_options(site: Path) -> None:
    page = (site / "reference" / "python" / "explain.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    signatures = re.findall(r"^explain\(.*?\) -", text, re.MULTILINE | re.DOTALL)
    assert len(signatures) == 1
    for name in ("views", "layer", "steps", "quadrature", "baseline", "tolerance", "amounts"):
        assert re.search(rf"\b{name}: ", signatures[0]), name


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


def search_for(page: Page, words: str) -> None:
    page.locator("input.md-search__input").fill(words)
    page.locator("input.md-search__input").dispatch_event("keyup")


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
    search_for(page, "")
    for word, name in WORDS.items():
        search_for(page, word)
        page.locator(f"a.md-search-result__link[href*='{name}.html']").first.wait_for(state="attached", timeout=60_000)
        search_for(page, "")
        ready.wait_for(timeout=60_000)  # the results of one word are gone before the next
    assert requests
    assert all(url.startswith((served, "data:", "blob:")) for url in requests), requests
    assert not wrong


CUT = """() => [...document.querySelectorAll(".md-typeset__scrollwrap")].filter(
    wrap => wrap.scrollWidth > wrap.clientWidth + 1).map(wrap => wrap.innerText.slice(0, 60))"""


def test_no_table_is_cut_on_a_desktop_and_no_page_scrolls_sideways_on_a_phone(site: Path, browser: Browser) -> None:
    desktop = browser.new_page(viewport={"width": 1280, "height": 900})
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    wrong = []
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if name.startswith(("reference/python/", "reference/metrics/")) and path.stem not in ("explain", "index"):
            continue  # pages of one shape
        for page in (desktop, phone):
            page.goto(path.as_uri())
        wrong += [f"{name}: {table}" for table in desktop.evaluate(CUT)]
        if phone.evaluate("document.documentElement.scrollWidth") > 390:
            wrong.append(f"{name} scrolls sideways")
    assert not wrong, "\n".join(wrong)
