"""Tests of the interactive view in a browser."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.data.images import ImageInput
from nibt.report.colors import Appearance
from nibt.report.html.document import TABLE_SCRIPT, TABLE_STYLE, data_table, document
from nibt.report.html.view import Panel, fragment
from nibt.report.html.view_text import signed_row
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import resized
from nibt.results.explanation import Explanation, Ranked, change_image
from nibt.results.notes import NOISE, Note, note_fields
from nibt.results.regions import Regions
from tests import tiny
from tests.answers import PEAK, WHOLE, answer, with_errors, with_scores

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install -e '.[dev]'").Axe


CAPTION, SIZE = "a photo of a cat and a dog", (360, 240)


STATE = "nibtView(document.body).state()"


def same(actual: Any, expected: Any) -> None:
    """Compare to the four digits that a page has of each summed number."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=5e-4, atol=1e-3 * np.abs(expected).max())


class Opened:
    """A page with its requests, messages and errors."""

    def __init__(self, context: BrowserContext, file: Path) -> None:
        self.page: Page = context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector(".nibt-view[data-ready]")
        self.file = file

    @property
    def state(self) -> dict[str, Any]:
        return self.page.evaluate(STATE)

    @property
    def readout(self) -> str:
        return self.page.text_content(".nibt-readout") or ""

    @property
    def sums(self) -> str:
        return self.page.text_content(".nibt-sums") or ""

    @property
    def title(self) -> str:
        return self.page.text_content(".nibt-map-title") or ""

    def close(self) -> None:
        self.page.context.close()
        assert self.messages == []
        assert [one for one in self.requests if not one.startswith("data:")] == [self.file.as_uri()]


def image(seed: int = 0) -> ImageInput:
    return ImageInput(tiny.image(seed=seed).pil_image.resize(SIZE), "noise")


@pytest.fixture(scope="module")
def pair() -> tuple[Explanation, Regions]:
    """An image whose left and right edges a CLIP does not see, with its table."""
    model = tiny.model("clip")
    explanation = nibt.explain(model, image(), CAPTION, views=1, steps=4)
    table = nibt.regions(model, image(), CAPTION, views=1)
    assert isinstance(explanation, Explanation)
    assert isinstance(table, Regions)
    return explanation, table


@pytest.fixture
def opened(browser: Browser, pair: tuple[Explanation, Regions], tmp_path: Path) -> Iterator[Opened]:
    nibt.save(Panel(*pair), tmp_path / "x.html")
    view = Opened(browser.new_context(), tmp_path / "x.html")
    yield view
    view.close()


def word(page: Page, number: int) -> Any:
    return page.locator("button.nibt-word").nth(number)


def at(page: Page, x: float, y: float) -> dict[str, float]:
    """Return the position on the screen of a position in pixels of the image."""
    edge = page.locator(".nibt-stage").first.bounding_box()
    assert edge is not None
    return {"x": x * edge["width"] / SIZE[0], "y": y * edge["height"] / SIZE[1]}


def test_view_shows_the_region_of_a_word(opened: Opened, pair: tuple[Explanation, Regions]) -> None:
    explanation, table = pair
    page = opened.page
    same(opened.state["panels"][0]["maps"][0], explanation.grid.flatten())
    assert opened.title == "The whole caption"
    word(page, 4).hover()  # hovered, not selected
    same(opened.state["panels"][0]["maps"][0], table.for_words(4).flatten())
    assert opened.state["words"] == []
    part = float(table.for_words(4).abs().sum() / table.table.abs().sum())
    assert opened.title == "Map of “cat”"
    highest, lowest = float(table.for_words(4).max()), float(table.for_words(4).min())
    raises = float(table.for_words(4).sum()) > 0
    assert ("The model sees “cat” mostly " in opened.readout) == raises
    assert ("The image lowers the score of “cat”" in opened.readout) == (not raises)
    assert ("Other parts speak against it more strongly" in opened.readout) == (raises and -lowest > highest)
    assert "Map of “cat”: total" in opened.sums
    assert "The map is from the word-region table" in opened.sums
    assert f"{part:.0%}".replace("%", "\xa0%") in opened.sums
    scale = opened.page.locator(".nibt-scale").first.locator("span").all_text_contents()
    assert float(scale[2].split()[1]) == pytest.approx(float(table.for_words(4).abs().max()), rel=0.01), "its own scale"
    word(page, 4).click()
    word(page, 7).click()
    page.hover(".nibt-details")
    assert [word(page, number).get_attribute("aria-pressed") for number in (4, 7, 1)] == ["true", "true", "false"]
    assert [one["text"] for one in opened.state["words"]] == ["cat", "dog"]
    same(opened.state["panels"][0]["maps"][0], table.for_words("cat", "dog").flatten())
    page.get_by_role("button", name="Clear selection").click()
    assert opened.state["words"] == []
    assert page.get_by_role("button", name="Clear selection").is_disabled()


@pytest.mark.parametrize(
    ("grid", "place"),
    [
        ([[5, 5, 0, 0], [5, 9, 0, 0], [5, 5, 0, 0], [5, 5, 0, 0]], "on the left"),  # with its peak near the middle
        ([[0, 0, 5, 9], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], "at the top right"),
        ([[0, 0, 0, 0], [0, 5, 9, 0], [0, 9, 5, 0], [0, 0, 0, 0]], "in the middle"),
        ([[9, 0, 0, 9], [0, 0, 0, 0], [0, 0, 0, 0], [9, 0, 0, 9]], "in several places"),
    ],
)
def test_view_says_where_most_of_a_region_is(
    browser: Browser, pair: tuple[Explanation, Regions], tmp_path: Path, grid: list[list[int]], place: str
) -> None:
    explanation, table = pair
    scores = torch.zeros_like(table.scores)
    scores[:-1, :-1] = 1e-3 * torch.tensor(grid).flatten()
    nibt.save(Panel(explanation, with_scores(table, scores)), tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    word(opened.page, 4).hover()
    assert opened.readout == f"The model sees “cat” mostly {place}."
    opened.close()


@pytest.mark.parametrize(
    ("grid", "readout"),
    [
        ([[9, 0], [0, -20]], "The image lowers the score of “cat”, mostly at the bottom right."),
        ([[0.1, 0], [0, 0]], "The image hardly matters for “cat”."),
    ],
)
def test_view_does_not_say_that_the_model_sees_a_word_that_lowers_the_score_or_hardly_matters(
    browser: Browser, pair: tuple[Explanation, Regions], tmp_path: Path, grid: list[list[float]], readout: str
) -> None:
    explanation, table = pair
    scores = torch.zeros_like(table.scores)
    scores[0, 0] = 1e-2
    scores[4, :-1] = 1e-3 * torch.tensor(grid).repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()
    nibt.save(Panel(explanation, with_scores(table, scores)), tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    word(opened.page, 4).hover()
    assert opened.readout == readout
    opened.close()


def test_legend_says_that_negative_scores_are_hidden(browser: Browser, tmp_path: Path) -> None:
    nibt.save(answer(PEAK, (90, 90), WHOLE), tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    lead = opened.page.locator(".nibt-question")
    assert "blue lowers it" in lead.inner_text()
    opened.page.get_by_label("Positive scores only").check()
    assert "what lowers it is not shown" in lead.inner_text()
    assert "blue" not in lead.inner_text()
    opened.close()


SATURATION = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let most = 0;
    for (let i = 0; i < data.length; i += 4)
        most = Math.max(most, Math.max(...data.slice(i, i + 3)) - Math.min(...data.slice(i, i + 3)));
    return most;
}"""


def test_view_draws_a_word_for_which_the_image_hardly_matters_pale(
    browser: Browser, pair: tuple[Explanation, Regions], tmp_path: Path
) -> None:
    explanation, table = pair
    scores = torch.zeros_like(table.scores)
    scores[3, 0] = 1e-2
    scores[4, 0] = 1e-4
    nibt.save(Panel(explanation, with_scores(table, scores)), tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    saturations = []
    for place in (3, 4):
        word(opened.page, place).hover()
        saturations.append(opened.page.locator("canvas").first.evaluate(SATURATION))

    assert saturations[1] < saturations[0] / 2
    opened.page.context.close()


def test_view_draws_noise_pale_beside_a_panel_that_is_none(browser: Browser, tmp_path: Path) -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    noise = replace(explained, **note_fields([Note(NOISE, "the map is noise", "image")]))
    nibt.save([explained, noise], tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    strong, pale = (canvas.evaluate(SATURATION) for canvas in opened.page.locator("canvas").all())
    assert pale < strong / 2
    colors = [
        chip.evaluate("chip => getComputedStyle(chip).backgroundColor")
        for chip in opened.page.locator(".nibt-word").all()
    ]
    assert colors[:3] == colors[3:], "the words of this result are no noise"
    opened.close()


def test_view_shows_words_with_the_same_decimals(
    browser: Browser, pair: tuple[Explanation, Regions], tmp_path: Path
) -> None:
    explanation, table = pair
    scores = torch.zeros_like(table.scores)
    scores[0, 0], scores[1, 0] = 0.1371, -0.00019
    nibt.save(Panel(explanation, with_scores(table, scores)), tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    numbers = opened.page.locator(".nibt-word small")
    assert len({len(text.split(".")[1]) for text in numbers.all_text_contents()}) == 1
    assert numbers.all_text_contents() == signed_row([item.score for item in explanation.words])
    opened.page.locator(".nibt-stage").hover(position=at(opened.page, 65, 5))  # type: ignore[arg-type]
    assert numbers.all_text_contents()[:3] == ["+0.137", "+0.000", "+0.000"]
    opened.close()


def test_view_shows_the_words_of_a_patch(opened: Opened, pair: tuple[Explanation, Regions]) -> None:
    explanation, table = pair
    stage = opened.page.locator(".nibt-stage")
    stage.hover(position=at(opened.page, 60 + 2.5 * 60, 0.5 * 60))  # type: ignore[arg-type]
    same(opened.state["panels"][0]["words"][0], table.table[:, 0, 2])
    assert "row 1, column 3" in opened.sums
    best = table.words[int(table.table[:, 0, 2].abs().argmax())].text
    assert f"Here: {best} " in opened.readout
    stage.hover(position=at(opened.page, 20, 100))  # type: ignore[arg-type]
    assert "did not see" in opened.readout
    opened.page.hover(".nibt-details")
    same(opened.state["panels"][0]["words"][0], [word.score for word in explanation.words])


@pytest.mark.parametrize("way", ["two clicks", "drag"])
def test_view_shows_the_words_of_a_box(opened: Opened, pair: tuple[Explanation, Regions], way: str) -> None:
    """While the pointer stays on the image."""
    page, corners = opened.page, ((101, 33), (211, 155))
    stage = page.locator(".nibt-stage")
    first, second = (at(page, *corner) for corner in corners)
    page.evaluate("addEventListener('nibt-select', (event) => { window.heard = event.detail; })")
    if way == "drag":
        edge = stage.bounding_box()
        assert edge is not None
        page.mouse.move(edge["x"] + first["x"], edge["y"] + first["y"])
        page.mouse.down()
        page.mouse.move(edge["x"] + second["x"], edge["y"] + second["y"], steps=3)
        page.mouse.up()
    else:
        stage.click(position=first)  # type: ignore[arg-type]
        assert "One corner is set" in opened.readout
        stage.click(position=second)  # type: ignore[arg-type]
    box = opened.state["box"]
    assert box == pytest.approx([101, 33, 110, 122], abs=0.01)
    expected = [score for _, score in pair[1].for_region((101, 33, 110, 122))]
    same(opened.state["panels"][0]["words"][0], expected)
    assert page.evaluate("window.heard.box") == box
    assert "Box of 110 \u00d7 122 pixels at (101, 33)" in opened.sums
    assert "In the box: " in opened.readout


def test_view_marks_a_box_with_the_keyboard(opened: Opened, pair: tuple[Explanation, Regions]) -> None:
    page = opened.page
    page.focus(".nibt-stage")
    page.keyboard.press("ArrowUp")  # the cursor moves to the middle
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft", "Enter", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert opened.state["box"] == pytest.approx([60 + 60, 0, 120, 120], abs=0.1)  # two by two patches
    expected = pair[1].table[:, 0:2, 1:3].sum((1, 2))
    same(opened.state["panels"][0]["words"][0], expected)
    page.keyboard.press("Escape")
    assert opened.state["box"] is None
    for _ in range(3):  # words by keyboard as well
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert [one["index"] for one in opened.state["words"]] == [2]


def test_view_state_can_be_read_and_set(opened: Opened, pair: tuple[Explanation, Regions]) -> None:
    page = opened.page
    page.evaluate("nibtView(document.querySelector('.nibt-view')).select(['CAT', 0])")
    assert [one["index"] for one in opened.state["words"]] == [0, 4]
    page.evaluate("nibtView(document.body).select(nibtView(document.body).state().words.slice(1))")
    assert [one["text"] for one in opened.state["words"]] == ["cat"]
    page.evaluate(
        """(html) => {
            const home = document.querySelector('.nibt-view').parentElement;
            home.innerHTML = html;
            return nibtView(home).ready;
        }""",
        fragment([Panel(*pair)]),
    )  # a replaced fragment becomes interactive as well
    assert opened.state["words"] == []


def test_scores_that_may_be_zero_are_pale_on_pages(browser: Browser, tmp_path: Path) -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    estimated = with_errors(explanation, [[0.1] * 3, [0.1, 0.1, 1.5], [0.5] * 3], [1.5, 0.2, 0.2])
    nibt.save(estimated, tmp_path / "estimated.html")
    nibt.save(answer([PEAK[0], [0.0, 0.0, -0.25], PEAK[2]], (90, 90), WHOLE), tmp_path / "quarter.html")

    uris = []
    for name in ("estimated", "quarter"):
        view = Opened(browser.new_context(), tmp_path / f"{name}.html")
        uris.append(view.page.evaluate("document.querySelector('canvas').toDataURL('image/png')"))
        chips = view.page.locator(".nibt-word").all()
        if name == "estimated":
            assert [chip.locator("small").text_content() for chip in chips] == [
                "\u22121.00 \u00b1 1.5",
                "+0.50 \u00b1 0.2",
                "+2.00 \u00b1 0.2",
            ]
            pale = chips[0].evaluate("chip => chip.style.backgroundColor")
        else:
            assert chips[0].evaluate("chip => chip.style.backgroundColor") != pale
        view.close()
    assert uris[0] == uris[1]


def test_view_has_the_colors_of_the_report(opened: Opened, pair: tuple[Explanation, Regions]) -> None:
    """Compared at the centers of cells, where there is no interpolation, and in the stripes, up to JPEG artifacts."""
    page, explanation = opened.page, pair[0]
    assert explanation.image.input is not None
    page.evaluate("nibtView(document.body).clear()")

    def pixels() -> np.ndarray:
        uri = page.evaluate("document.querySelector('canvas').toDataURL('image/png')")
        return np.asarray(Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB"), int)

    def near(positive_only: bool) -> None:
        image, look = resized(explanation.image.input.pil_image, 640), Appearance(positive_only)  # pyright: ignore
        expected = np.asarray(overlay(explanation, image, look), int)
        centres = np.ix_(np.arange(30, 240, 60), np.arange(90, 300, 60))
        difference = np.abs(pixels() - expected)
        assert difference[centres].mean() < 4
        assert difference[centres].max() < 16
        assert difference[:, :55].mean() < 4  # not visible to the model
        assert np.ptp(expected[centres], axis=-1).max() > 40, "the map has colors there"

    near(positive_only=False)
    page.get_by_label("Positive scores only").check()
    near(positive_only=True)
    page.get_by_label("Hide below").fill("0.95")
    assert np.ptp(pixels()[:, 60:300], axis=-1).mean() < 30


def test_view_starts_with_positive_scores_only_if_requested(browser: Browser, pair: Any, tmp_path: Path) -> None:
    nibt.save(Panel(*pair), tmp_path / "x.html", positive_only=True)
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    assert opened.page.get_by_label("Positive scores only").is_checked()
    assert opened.state["controls"]["positiveOnly"] is True
    lowest = opened.page.locator(".nibt-scale span").first
    assert lowest.text_content() == "0"
    opened.page.get_by_label("Positive scores only").uncheck()
    assert (lowest.text_content() or "").endswith(" against")
    opened.close()


def test_view_has_a_bar_for_each_scale(browser: Browser, pair: Any, tmp_path: Path) -> None:
    """One bar for the map and one for the words; a method without signs has one-sided bars."""
    explained, table = pair
    other = nibt.explain(tiny.model("clip"), explained.image.input, CAPTION, method="gae")
    nibt.save(
        [Panel(explained, table, "nib"), Panel(other, title="gae"), Panel(table, title="table")], tmp_path / "x.html"
    )
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    opened.page.evaluate("nibtView(document.body).clear()")

    def bars(panel: int) -> list[list[str]]:
        scales = opened.page.locator(f"[data-panel='{panel}'] .nibt-scale")
        return [scales.nth(bar).locator("span").all_text_contents() for bar in range(scales.count())]

    def paints(panel: int) -> list[str]:
        bar = "one => one.style.getPropertyValue('--nibt-scale')"
        scales = opened.page.locator(f"[data-panel='{panel}'] .nibt-scale")
        return [scales.nth(number).evaluate(bar) for number in range(scales.count())]

    most = [float(explained.grid.abs().max()), max(abs(word.score) for word in explained.words)]
    for (low, zero, high), value in zip(bars(0), most, strict=True):
        assert (low.endswith(" against"), zero, high.split()[0]) == (True, "0", "for")
        assert float(high.split()[1]) == pytest.approx(value, rel=0.01)
        assert float(low.split()[0].replace("\u2212", "-")) == pytest.approx(-value, rel=0.01)
    most = [float(other.grid.abs().max()), max(abs(word.score) for word in other.words)]
    for (low, middle, high), value in zip(bars(1), most, strict=True):
        assert (low, middle, high.split()[0]) == ("0", "", "strength")
        assert float(high.split()[1]) == pytest.approx(value, rel=0.01)
    assert len(bars(2)) == 2
    assert all(paint.count("rgb") == 3 for paint in paints(0))
    assert all(paint.count("rgb") == 2 for paint in paints(1))
    opened.page.get_by_label("Positive scores only").check()
    assert all(paint.count("rgb") == 2 for paint in paints(0))
    opened.close()


def test_view_shares_the_selection_between_methods(browser: Browser, pair: Any, tmp_path: Path) -> None:
    explanation, table = pair
    other = nibt.explain(tiny.model("clip"), explanation.image.input, CAPTION, method="grad_cam")
    nibt.save([Panel(explanation, table, "nib"), Panel(other, title="grad_cam")], tmp_path / "x.html")
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    assert opened.page.locator("canvas").count() == 2
    assert opened.page.locator("[data-panel='1'] button.nibt-word").count() == 0
    opened.page.locator(".nibt-stage").nth(1).click(position=at(opened.page, 100, 40))  # type: ignore[arg-type]
    opened.page.locator(".nibt-stage").nth(0).click(position=at(opened.page, 200, 160))  # type: ignore[arg-type]
    opened.page.hover("h1")
    assert opened.page.locator(".nibt-box:visible").count() == 2
    assert all("Box of" in text for text in opened.page.locator(".nibt-sums").all_text_contents())
    first, second = opened.page.locator(".nibt-readout").all_text_contents()
    assert any(f"{one.text} " in first for one in table.words)
    assert re.fullmatch("In the box: [+\u2212][0-9.]+(e\u2212[0-9])?[.]", second)
    opened.close()


def test_view_shows_two_images_and_two_captions(browser: Browser, tmp_path: Path) -> None:
    model = tiny.model("clip")
    two = nibt.compare(model, image(), image(1))
    captions = nibt.compare(model, nibt.Caption("a cat"), "two cars")
    assert isinstance(two, Explanation)
    nibt.save([two, captions], tmp_path / "x.html")  # type: ignore[list-item]
    opened = Opened(browser.new_context(), tmp_path / "x.html")
    maps = opened.state["panels"][0]["maps"]
    same(maps, torch.stack([two.first.grid.flatten(), two.second.grid.flatten()]))
    assert opened.page.locator("button.nibt-word").count() == 0
    opened.close()


def hostile(folder: Path) -> Path:
    explanation = answer(
        PEAK, (90, 90), WHOLE, "<img src=x onerror=alert(1)> </script><script>alert(2)</script> قطة 🦄"
    )
    ranking = (Ranked("<b>cat</b>", 0.3, 0.9, 1), Ranked("dog", 0.1, 0.1, 0))
    hostile_image = change_image(explanation, source="<svg onload=alert(3)>.png")
    captions = replace(hostile_image, ranking=ranking, warnings=("the caption was cut",))
    nibt.save([captions], folder / "hostile.html", title="</title><script>alert(4)</script>")
    return folder / "hostile.html"


@pytest.mark.parametrize("kind", ["light", "dark", "narrow", "hostile", "comparison"])
def test_view_is_accessible(browser: Browser, pair: Any, tmp_path: Path, kind: str) -> None:
    """No serious finding of axe-core and nothing wider than the window, with words selected and a box marked."""
    if kind == "hostile":
        file = hostile(tmp_path)
    else:
        file = tmp_path / "x.html"
        shown = nibt.compare(tiny.model("clip"), image(), image(1)) if kind == "comparison" else Panel(*pair)
        nibt.save(shown, file)  # type: ignore[arg-type]
    scheme, width = "dark" if kind == "dark" else "light", 360 if kind == "narrow" else 1100
    opened = Opened(
        browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"),
        file,
    )
    page = opened.page
    page.evaluate("nibtView(document.body).select(['cat'])")
    page.focus(".nibt-stage")
    for key in ("ArrowUp", "Enter", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator("details").first.evaluate("(element) => { element.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 25)"
    assert dark == (kind == "dark")
    assert_accessible(page)
    page.emulate_media(media="print")
    assert not page.locator(".nibt-controls").is_visible()
    opened.close()


def assert_accessible(page: Page) -> None:
    """Check a page with axe-core, which runs beside the page's own policy."""
    session = page.context.new_cdp_session(page)
    session.send("Page.setBypassCSP", {"enabled": True})
    violations = Axe().run(page).response["violations"]
    grave = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]
    assert grave == []


def test_tables_are_sorted_by_their_headings(browser: Browser, tmp_path: Path) -> None:
    rows = [
        [f"m{row}", text]
        for row, text in enumerate(["0.5 [0.4, 0.6]", "-", "0.125 [0, 1]", "10.0", "-0.5", "1", "2", "3"])
    ]
    (tmp_path / "x.html").write_text(
        document("t", f"<main><h1>t</h1>{data_table(['name', 'value'], rows)}</main>", TABLE_STYLE, [TABLE_SCRIPT])
    )
    page = browser.new_context().new_page()
    page.goto((tmp_path / "x.html").as_uri())

    def names() -> list[str]:
        return [row.split()[0] for row in page.locator("tbody tr:visible").all_inner_texts()]

    page.get_by_role("button", name="value").click()
    assert names() == ["m4", "m2", "m0", "m5", "m6", "m7", "m3", "m1"]
    page.get_by_role("button", name="value").click()
    assert names()[:3] == ["m1", "m3", "m7"]
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_label("Show rows with").fill("M3")
    assert names() == ["m3"]
    assert_accessible(page)
    page.context.close()
