"""Tests of ``nibt.jobs.gallery``: the page of all rows of a job."""

from __future__ import annotations

import csv
import re
import shutil
import time
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.errors import BadInput, BadOption, UnknownName, WouldOverwrite
from nibt.jobs.gallery import MOST
from nibt.models.base import Model
from nibt.report.html.view_text import scored_words
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import resized
from tests import tiny
from tests.helpers import Run, check_page
from tests.job_pairs import CAPTIONS, COUNT, OPTIONS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=alert(1)></li></ol><script>alert(2)</script> قطة 🦄"


def cards(path: Path, links: tuple[str, ...] = ()) -> dict[int, Element]:
    """Return the cards of a page by their rows."""
    import html5lib

    tree = html5lib.parse(check_page(path.read_text(encoding="utf-8"), links), namespaceHTMLElements=False)
    return {int(item.attrib["data-row"]): item for item in tree.iter("li") if "data-row" in item.attrib}


def text(card: Element) -> str:
    """Return the text of a card, with single spaces."""
    return " ".join("".join(card.itertext()).split())


def picture(card: Element) -> np.ndarray:
    """Return the picture of a card as numbers."""
    image = card.find("img")
    assert image is not None
    return np.asarray(Image.open(BytesIO(b64decode(image.attrib["src"].partition(",")[2]))), np.float32)


def write_pairs(folder: Path, rows: list[list[str]]) -> Path:
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["image", "caption"], *rows])
    return folder / "pairs.csv"


@pytest.fixture
def job(model: Model, tmp_path: Path) -> nibt.Job:
    """A job of three rows; the image of the second one is missing."""
    for seed in range(2):
        tiny.image(90, 60, seed).pil_image.save(tmp_path / f"{seed}.png")
    table = write_pairs(tmp_path, [["0.png", "a cat"], ["gone.png", "a dog"], ["1.png", "two cars"]])
    return nibt.batch(model, table, tmp_path / "job", "grad_cam")


def test_page_has_the_map_the_words_and_the_number_of_each_row(whole_job: nibt.Job, tmp_path: Path) -> None:
    assert whole_job.save_gallery(tmp_path / "all.html") == f"{COUNT} rows, 0 failed"
    found = cards(tmp_path / "all.html")
    assert list(found) == list(range(COUNT))
    for row, card in found.items():
        explanation = whole_job.explanation(row)
        assert isinstance(explanation, nibt.Explanation)
        assert explanation.image.input is not None
        assert (card.findtext("h2"), f"row {row}" in text(card)) == (CAPTIONS[row], True)
        assert float(card.attrib["data-score"]) == pytest.approx(explanation.similarity, rel=1e-6)
        spans = [span for span in card.iter("span") if len(span) == 2]
        assert [(span[0].text, span[1].text) for span in spans] == scored_words(explanation.text)

        look_pale = explanation.is_noise("image")
        if not look_pale:
            expected = overlay(explanation, resized(explanation.image.input.pil_image, 300))
            assert np.abs(picture(card) - np.asarray(expected, np.float32)).mean() < 12, "WebP loses a little"


def test_failed_rows_and_their_errors_are_shown(job: nibt.Job, tmp_path: Path) -> None:
    assert job.save_gallery(tmp_path / "all.html") == "3 rows, 1 failed"
    found = cards(tmp_path / "all.html")
    assert "failed" in found[1].attrib["class"]
    assert "Failed. " in text(found[1])
    assert "gone.png" in text(found[1])
    assert found[1].find("img") is None
    assert "data-score" not in found[1].attrib
    assert "3 rows, 1 failed." in (tmp_path / "all.html").read_text()
    assert "not finished" not in (tmp_path / "all.html").read_text()


def test_a_job_that_is_not_finished_has_a_page_that_says_so(whole_job: nibt.Job, run: Run, tmp_path: Path) -> None:
    shutil.copytree(whole_job.folder, "job")
    nibt.Job.open("job").update(rows=None)
    sorted(Path("job/parts").iterdir())[-1].unlink()
    stored = len(list(nibt.Job.open("job").rows(["row"])))
    code, out, err = run("show", "job", "-o", "all.html")
    assert (code, f"wrote all.html: {stored} rows, 0 failed" in out) == (0, True), err
    assert "the job is not finished: the page has the rows that it has so far" in err
    assert "The job is not finished." in Path("all.html").read_text()
    assert len(cards(Path("all.html"))) == stored < COUNT


def test_shards_alone_and_joined_have_pages(model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path) -> None:
    options = {**OPTIONS, "chunk_size": 4}
    shard = nibt.batch(model, job_table, tmp_path / "job", shard="2/2", **options)
    assert shard.save_gallery(tmp_path / "shard.html") == "4 rows, 0 failed"
    assert list(cards(tmp_path / "shard.html")) == [4, 5, 6, 7]
    assert "shard 2 of 2" in (tmp_path / "shard.html").read_text()
    nibt.batch(model, job_table, tmp_path / "job", shard="1/2", **options)
    joined = nibt.batch(model, job_table, tmp_path / "job", **options)
    joined.save_gallery(tmp_path / "joined.html", title="t")
    whole_job.save_gallery(tmp_path / "whole.html", title="t")
    one, other = (
        re.sub("<head>.*?</head>", "", (tmp_path / name).read_text(), flags=re.DOTALL)
        for name in ("joined.html", "whole.html")
    )
    assert one == other, "but for the request of the job, which has its own chunks"


@pytest.mark.parametrize("column", ["against_image", "against"])
def test_rows_that_are_compared_show_both_sides(model: Model, tmp_path: Path, column: str) -> None:
    for seed in range(2):
        tiny.image(64, 64, seed).pil_image.save(tmp_path / f"{seed}.png")
    other = "1.png" if column == "against_image" else "a dog"
    (tmp_path / "pairs.csv").write_text(f"image,caption,{column}\n0.png,a cat,{other}\n")
    job = nibt.batch(model, tmp_path / "pairs.csv", tmp_path / "job", "nib", steps=2)
    job.save_gallery(tmp_path / "all.html")
    (card,) = cards(tmp_path / "all.html").values()
    assert len(list(card.iter("img"))) == (2 if column == "against_image" else 1)
    assert ("dog" in text(card)) == (column == "against")
    assert "difference" in text(card)


def test_rows_of_answers_have_the_prompt_and_the_words_of_the_answer(tmp_path: Path) -> None:
    from tests.generators.test_answers import generator

    tiny.image(48, 48).pil_image.save(tmp_path / "0.png")
    (tmp_path / "rows.csv").write_text("image,prompt,answer\n0.png,the red cat,a small cat\ngone.png,hello,a dog\n")
    job = nibt.batch(generator("qwen2_vl"), tmp_path / "rows.csv", tmp_path / "job", steps=1, views=1)
    assert job.save_gallery(tmp_path / "all.html") == "2 rows, 1 failed"
    found = cards(tmp_path / "all.html")
    answer: Any = job.explanation(0)
    assert found[0].findtext("h2") == "the red cat"
    assert found[1].findtext("h2") == "hello"
    assert [span[0].text for span in found[0].iter("span") if len(span) == 2] == [word.text for word in answer.words]
    value = sum(word.log_probability for word in answer.words)
    assert float(found[0].attrib["data-score"]) == pytest.approx(value, rel=1e-6)
    assert "highest log-probability first" in (tmp_path / "all.html").read_text()


def test_a_row_has_a_link_to_its_own_page_in_the_same_folder(job: nibt.Job, tmp_path: Path) -> None:
    name = "java script:%23 ü.html"
    nibt.save(job.explanation(2), tmp_path / name)
    nibt.save(job.explanation(0), tmp_path / "edited.html")
    (tmp_path / "edited.html").write_text((tmp_path / "edited.html").read_text() + "mine")
    (tmp_path / "other.html").write_text("a page of another program")
    link = "./java%20script%3A%2523%20%C3%BC.html"
    for _ in range(2):  # with the gallery itself in the folder, too
        job.save_gallery(tmp_path / "all.html")
        found = cards(tmp_path / "all.html", (link,))
        assert [anchor.attrib["href"] for card in found.values() for anchor in card.iter("a")] == [link]
        assert next(found[2].iter("a")).text == "Page of row 2"


def test_a_page_that_the_gallery_replaces_is_no_page_of_a_row(job: nibt.Job, tmp_path: Path) -> None:
    nibt.save(job.explanation(2), tmp_path / "all.html")
    job.save_gallery(tmp_path / "all.html", overwrite=True)
    assert not [anchor for card in cards(tmp_path / "all.html").values() for anchor in card.iter("a")]


def test_images_that_are_gone_leave_their_maps(job: nibt.Job, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    tiny.image(90, 60, 7).pil_image.save(tmp_path / "1.png")
    job.save_gallery(tmp_path / "all.html")
    found = cards(tmp_path / "all.html")
    for row in (0, 2):
        assert "The image is no longer at its source, or was changed: its map is drawn alone." in text(found[row])
        assert picture(found[row]).shape == (200, 300, 3)

    (tmp_path / "pairs.csv").unlink()
    job.save_gallery(tmp_path / "all.html")
    assert len(cards(tmp_path / "all.html")) == 3


def test_hostile_texts_and_names_are_only_text(model: Model, tmp_path: Path) -> None:
    name = "<svg onload=alert(3)>" + "n" * 200 + ".png"
    tiny.image(64, 48).pil_image.save(tmp_path / name)
    (tmp_path / "wide.png").write_bytes(b"no image")
    tiny.image(2000, 2).pil_image.save(tmp_path / "thin.png")
    long = "word " * 5000
    rows = [[name, HOSTILE], ["wide.png", "a\x07b\nc"], ["thin.png", long], ["<b>gone</b>.png", "</h2>"]]
    job = nibt.batch(model, write_pairs(tmp_path, rows), tmp_path / "</title><script>alert(4)</script>", "grad_cam")
    job.save_gallery(tmp_path / "all.html", title="<b>bold</b>")
    found = cards(tmp_path / "all.html")
    assert found[0].findtext("h2") == HOSTILE
    assert name in text(found[0])
    assert found[1].findtext("h2") == r"a\x07b c"
    assert "<b>gone</b>.png" in text(found[3])
    assert "more words" in text(found[2]) or "cut" in text(found[2])
    assert len(text(found[2])) < 3000, "a long caption is shortened"
    assert "<b>" not in (tmp_path / "all.html").read_text()


def test_a_file_of_the_user_is_kept(job: nibt.Job, tmp_path: Path) -> None:
    path = tmp_path / "all.html"
    path.write_text("mine")
    with pytest.raises(WouldOverwrite, match="edited or not written by nibt"):
        job.save_gallery(path)
    assert path.read_text() == "mine"
    job.save_gallery(path, overwrite=True)
    job.save_gallery(path)
    first = path.read_bytes()
    job.save_gallery(path)
    assert path.read_bytes() == first, "the same rows give the same bytes"
    path.write_bytes(first + b"mine")
    with pytest.raises(WouldOverwrite):
        job.save_gallery(path)
    for wrong, message in (("all.png", "ends in .html"), ("{stem}.html", "ends in .html"), ("all", "ends in .html")):
        with pytest.raises(BadOption, match=message):
            job.save_gallery(tmp_path / wrong)
    assert not (tmp_path / "all.png").exists()


def test_chosen_rows_and_the_look_of_maps(job: nibt.Job, tmp_path: Path) -> None:
    assert job.save_gallery(tmp_path / "a.html", [2, 0, 2]) == "2 of 3 rows, 0 failed"
    assert list(cards(tmp_path / "a.html")) == [0, 2]
    assert "at random" not in (tmp_path / "a.html").read_text()
    job.save_gallery(tmp_path / "b.html", [2], style="heatmap", cmap="PuOr", positive_only=True)
    assert not np.array_equal(picture(cards(tmp_path / "b.html")[2]), picture(cards(tmp_path / "a.html")[2]))
    done = []
    job.save_gallery(tmp_path / "a.html", on_progress=done.append)
    assert [(progress.done, progress.total) for progress in done] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(BadOption, match=r"there is no row 3 in .*, which has 3 rows"):
        job.save_gallery(tmp_path / "a.html", [3])
    with pytest.raises(BadOption, match=r"between 1 and 2,000 positions of rows \(got 0\)"):
        job.save_gallery(tmp_path / "a.html", [])
    with pytest.raises(BadOption, match=r"got 2,001"):
        job.save_gallery(tmp_path / "a.html", range(MOST + 1))
    with pytest.raises(UnknownName, match="threshold"):
        job.save_gallery(tmp_path / "a.html", threshold=0.3)
    with pytest.raises(BadOption, match="style must be"):
        job.save_gallery(tmp_path / "a.html", style="blue")


def test_of_many_rows_some_are_drawn(job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nibt.jobs.gallery.MOST", 2)
    assert job.save_gallery(tmp_path / "all.html").startswith("2 of 3 rows")
    assert len(cards(tmp_path / "all.html")) == 2
    assert "the rows of this page are drawn at random" in (tmp_path / "all.html").read_text()


def test_a_job_without_rows_has_no_page(job: nibt.Job, tmp_path: Path) -> None:
    shutil.rmtree(job.folder / "parts")
    with pytest.raises(BadInput, match="has no rows yet"):
        job.save_gallery(tmp_path / "all.html")
    assert not (tmp_path / "all.html").exists()


def test_command_writes_the_page(job: nibt.Job, run: Run) -> None:
    code, out, err = run("show", job.folder, "-o", "all.html", "--draw", "style=outline", "--draw", "title=Mine")
    assert (code, out) == (0, "wrote all.html: 3 rows, 1 failed\n"), err
    assert "<h1>Mine</h1>" in Path("all.html").read_text()
    assert run("show", job.folder, "-o", "all.html", "-q")[:2] == (0, "")
    Path("mine.html").write_text("mine")
    for arguments, message in (
        (("-o", "mine.html"), "not written by nibt"),
        (("-o", "a.html", "-o", "b.html"), "a page of all rows is one file"),
        (("-o", "a.json"), "a page of all rows is one file"),
        (("-o", "a.html", "--verify"), "a page of all rows is one file"),
        (("-o", "nowhere/a.html"), "nowhere does not exist"),
        (("-o", "a.html", "--draw", "top=3"), "top"),
    ):
        code, _, err = run("show", job.folder, *arguments)
        assert (code in (1, 2), message in err) == (True, True), err
    assert Path("mine.html").read_text() == "mine"
    assert not Path("a.html").exists()


class Opened:
    """A page in a browser, with its requests and messages."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.page: Page = browser.new_context(reduced_motion="reduce", **options).new_page()
        self.file = file
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        started = time.perf_counter()
        self.page.goto(file.as_uri())
        self.page.wait_for_function("document.querySelector('#shown').textContent !== ''")
        self.seconds = time.perf_counter() - started

    @property
    def shown(self) -> str:
        return self.page.text_content("#shown") or ""

    @property
    def rows(self) -> list[int]:
        return [
            int(item or "")
            for item in self.page.eval_on_selector_all(
                ".card", "(cards) => cards.filter((card) => !card.hidden).map((card) => card.dataset.row)"
            )
        ]

    def close(self) -> None:
        self.page.context.close()
        assert self.messages == []
        assert [url for url in self.requests if not url.startswith("data:")] == [self.file.as_uri()]


@pytest.fixture(scope="module")
def many(model: Model, tmp_path_factory: pytest.TempPathFactory) -> nibt.Job:
    """A job of 1,000 rows with different images, parts of photographs, of which ten are missing."""
    from nibt.data.images import sample_file, samples

    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(0)
    photographs = [Image.open(sample_file(name)).convert("RGB") for name in samples()]
    rows = []
    for row in range(1000):
        photograph = photographs[row % len(photographs)]
        width, height = (round(side * random.uniform(0.5, 0.9)) for side in photograph.size)
        left, top = (int(random.integers(side)) for side in (photograph.width - width, photograph.height - height))
        photograph.crop((left, top, left + width, top + height)).save(folder / f"{row}.jpg")
        rows.append([f"{row}.jpg" if row % 100 else "gone.jpg", f"{tiny.CAPTIONS[row % 4]} number {row}"])

    return nibt.batch(model, write_pairs(folder, rows), folder / "job", "grad_cam")


@pytest.fixture(scope="module")
def page_of_many(many: nibt.Job) -> Path:
    many.save_gallery(many.folder.parent / "all.html")
    return many.folder.parent / "all.html"


@pytest.mark.slow
def test_a_thousand_rows_open_in_seconds(browser: Browser, page_of_many: Path, record_property: Any) -> None:
    """The measured numbers are in the file that ``--junitxml`` names."""
    megabytes = page_of_many.stat().st_size / 1e6
    opened = Opened(browser, page_of_many, viewport={"width": 1200, "height": 900})
    assert opened.shown == "1,000 of 1,000 rows"
    seconds = opened.page.evaluate(
        """async () => {
          const start = performance.now(), text = document.getElementById("text");
          text.value = "number 99";
          text.dispatchEvent(new Event("input"));
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          return (performance.now() - start) / 1000;
        }"""
    )
    assert opened.rows == [99, *range(990, 1000)]
    for name, value in (("megabytes", megabytes), ("seconds to open", opened.seconds), ("seconds to filter", seconds)):
        record_property(name, value)
    assert megabytes < 20
    assert opened.seconds < 10
    assert seconds < 1
    decoded = "[...document.images].filter((image) => image.complete && image.naturalWidth).length"
    assert opened.page.evaluate(decoded) < 300, "images far below are not decoded"
    opened.close()


@pytest.mark.slow
def test_rows_are_searched_sorted_and_filtered(browser: Browser, many: nibt.Job, page_of_many: Path) -> None:
    scores = {row["row"]: row["similarity"] for row in many.rows(["row", "similarity"])}
    failed = [row for row, score in scores.items() if score is None]
    explained = [row for row, score in scores.items() if score is not None]
    opened = Opened(browser, page_of_many)
    page = opened.page

    page.get_by_label("Sort").select_option("high")
    assert opened.rows == [*sorted(explained, key=lambda row: (-scores[row], row)), *failed]
    page.get_by_label("Sort").select_option("low")
    assert opened.rows == [*sorted(explained, key=lambda row: (scores[row], row)), *failed]
    page.get_by_label("Sort").select_option("row")
    assert opened.rows == list(scores)

    page.get_by_label("Rows").select_option("failed")
    assert opened.rows == failed
    page.get_by_label("Rows").select_option("")
    middle = float(np.median([scores[row] for row in explained]))
    page.get_by_label("from").fill(f"{middle:.6f}")
    assert opened.rows == [row for row in explained if scores[row] >= round(middle, 6)]
    page.get_by_label("to", exact=True).fill(f"{middle - 1:.6f}")
    assert opened.rows == []
    assert page.get_by_text("No row is like this.").is_visible()
    opened.close()


@pytest.mark.slow
def test_the_keyboard_suffices(browser: Browser, page_of_many: Path) -> None:
    opened = Opened(browser, page_of_many)
    page = opened.page
    page.keyboard.press("Tab")
    page.keyboard.type("NUMBER  100")
    assert opened.rows == [100]
    assert opened.shown == "1 of 1,000 rows"
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.locator("#order").input_value() == "high"
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["light", "dark", "narrow", "hostile"])
def test_page_is_accessible(browser: Browser, job: nibt.Job, model: Model, tmp_path: Path, kind: str) -> None:
    """No serious finding of axe-core, and nothing wider than the window."""
    from tests.report.html.test_view import assert_accessible

    if kind == "hostile":
        tiny.image(64, 48).pil_image.save(tmp_path / f"{'n' * 200}.png")
        table = write_pairs(tmp_path, [[f"{'n' * 200}.png", HOSTILE], ["0.png", "x" * 4000], ["gone.png", "y" * 400]])
        job = nibt.batch(model, table, tmp_path / "hostile", "grad_cam")
    nibt.save(job.explanation(0), tmp_path / "row.html")
    job.save_gallery(tmp_path / "all.html")
    width = 1100 if kind in ("light", "dark") else 390
    scheme: Any = "dark" if kind == "dark" else "light"
    opened = Opened(browser, tmp_path / "all.html", color_scheme=scheme, viewport={"width": width, "height": 800})
    page = opened.page
    page.eval_on_selector_all("details", "(all) => all.forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 25)"
    assert dark == (kind == "dark")
    assert_accessible(page)
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    opened.close()


@pytest.mark.slow
def test_links_open_and_without_scripts_all_rows_are_there(browser: Browser, job: nibt.Job, tmp_path: Path) -> None:
    nibt.save(job.explanation(0), tmp_path / "row 0#.html", title="Mine")
    job.save_gallery(tmp_path / "all.html")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "all.html").as_uri())
    assert page.locator(".card:visible").count() == 3
    assert not page.locator(".controls").is_visible()
    page.get_by_role("link", name="Page of row 0").click()
    assert page.text_content("h1") == "Mine"
    context.close()
