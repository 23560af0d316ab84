"""Tests of the page of ``nibt serve`` in a browser."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

import nibt
from nibt.data.images import sample_file
from nibt.report.html.view import Panel, fragment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'").expect


Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install -e '.[dev]'").Axe


COLLAGE = "?image=collage&captions=a+cat+and+a+cup+of+coffee&model=lite"


SCENES = "?image=coffee&captions=a+cup&model=scenes"  # the faster model


HOSTILE = "<script>window.hit=1</script> <img src=x onerror=window.hit=1> {{7*7}} ${7*7} </script>"


PATIENCE = 30_000  # milliseconds; Playwright's 5 s are too short for a first click on a busy machine


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An open window."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield opened
    context.close()


def watched(page: Page) -> tuple[list[str], list[str]]:
    """Record the addresses that the browser requests from now on, and all errors."""
    requests: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    return requests, wrong


def answered(page: Page) -> None:
    """Wait until the answer is complete and interactive."""
    page.wait_for_selector(".nibt-saved")
    page.wait_for_selector(".nibt-view[data-ready]")


def explain(page: Page, caption: str) -> None:
    page.fill("#captions textarea", caption)
    page.click("#explain")


@pytest.mark.slow
def test_page_explains_a_sample_without_other_requests(page: Page, address: str) -> None:
    requests, wrong = watched(page)
    page.goto(address)
    page.wait_for_selector(
        ".nibt-view[data-ready]", timeout=10 * PATIENCE
    )  # it opens with a sample, computed at the start
    page.wait_for_selector(".nibt-saved", timeout=10 * PATIENCE)
    word = page.locator("#answer button.nibt-word").nth(1)
    word.click()
    expect(word).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("scrollY") == 0
    page.get_by_role("button", name="sample: a cat and").click()
    expect(page.locator("#captions textarea")).to_have_value("a cat and a cup of coffee")
    page.click("#explain")
    expect(word).to_have_attribute("aria-pressed", "false")
    answered(page)
    expect(page.locator("#answer button.nibt-word")).to_have_count(7)
    assert wrong == []
    assert len(requests) > 10
    assert {url for url in requests if not url.startswith((address, "data:", "blob:" + address))} == set()


@pytest.mark.slow
def test_page_explains_right_after_a_sample_is_chosen(browser: Browser, address: str) -> None:
    """The answers of the queue share a stream that closes with the last one; nothing else may end at that moment."""
    for _ in range(4):
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.get_by_role("button", name="sample: a cup of coffee").click(timeout=PATIENCE)
        page.wait_for_function("document.querySelector('#captions textarea').value !== ''")
        page.click("#explain")
        page.wait_for_selector(".nibt-view[data-ready]")
        context.close()


@pytest.mark.slow
@pytest.mark.parametrize("status", ["nib", "regions of words"])
def test_page_replaces_a_question_that_is_being_answered(page: Page, address: str, status: str) -> None:
    page.goto(address + f"?image=collage&captions=a+cat+with+{status.split()[0]}&model=lite")
    page.locator(".nibt-status", has_text=status).wait_for()
    explain(page, "a dog")
    heading = page.locator(".nibt-panel h2")
    page.wait_for_function("!document.querySelector('.nibt-panel h2')?.textContent.includes('cat')")
    expect(heading).to_have_text("a dog")
    answered(page)
    expect(heading).to_have_text("a dog")
    expect(page.locator("#answer button.nibt-word")).to_have_count(2)


@pytest.mark.slow
def test_page_answers_again_after_stop(page: Page, address: str) -> None:
    page.goto(address + "?image=collage&captions=a+cat+that+stops&model=lite")
    page.locator(".nibt-status", has_text="nib").wait_for()
    page.click("#stop")
    expect(page.locator("#message")).to_be_hidden()
    expect(page.locator(".nibt-pending")).to_be_hidden()
    page.click("#explain")
    answered(page)


@pytest.mark.slow
def test_page_explains_an_answer_of_a_generator(page: Page, address: str) -> None:
    requests, wrong = watched(page)
    page.goto(address + "?image=scene&mode=answer&model=scenes_generator&captions=what+is+left+of+the+house+%3F")
    answered(page)
    word = page.locator("#answer button.nibt-word")
    expect(word).to_have_count(1)
    word.click()
    expect(word).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".nibt-map-title")).to_contain_text("hamburger")
    expect(page.locator("table.nibt-answer tbody tr")).to_have_count(1)
    page.goto(address + str(page.locator(".nibt-link").get_attribute("href")))
    answered(page)
    expect(word).to_have_attribute("aria-pressed", "true")
    page.locator("#setting button").first.click()
    page.locator("#mode label", has_text="each caption").click()
    expect(page.locator("#model input")).to_have_value("lite")
    page.locator("#mode label", has_text="an answer").click()
    expect(page.locator("#model input")).to_have_value("scenes_generator")
    assert wrong == []
    assert {url for url in requests if not url.startswith((address, "data:", "blob:" + address))} == set()


@pytest.mark.slow
def test_an_upload_before_the_page_has_its_opening_stays(page: Page, address: str, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "mine.png")
    held: list[Any] = []
    waiting = [True]

    def hold(route: Any) -> None:
        held.append(route) if waiting else route.continue_()

    page.route("**/gradio_api/run/**", hold)
    page.goto(address)
    page.set_input_files("#image input[type=file]", tmp_path / "mine.png")
    shown = page.locator("#image img[src*='mine']")
    expect(shown).to_be_visible()
    assert held
    waiting.clear()
    for route in held:
        route.continue_()
    expect(page.locator("#known")).not_to_be_empty()
    page.wait_for_timeout(3000)
    expect(shown).to_be_visible()
    expect(page.locator("#captions textarea")).to_have_value("")


@pytest.mark.slow
def test_modes_keep_what_the_visitor_gave_and_say_which_model_is_used(page: Page, address: str, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "mine.png")
    page.goto(address)
    page.wait_for_selector(".nibt-view[data-ready]", timeout=10 * PATIENCE)  # what the page opens with is there
    page.set_input_files("#image input[type=file]", tmp_path / "mine.png")
    shown = page.locator("#image img[src*='mine']")
    expect(shown).to_be_visible()
    page.locator("#setting button").first.click()
    for mode, model in (("an answer", "scenes_generator"), ("Rank labels", "lite"), ("an answer", "scenes_generator")):
        page.locator("#mode label", has_text=mode).click()
        expect(page.locator("#model input")).to_have_value(model)
        expect(page.locator("#message")).to_contain_text(f"The model is now {model}")
        expect(shown).to_be_visible()
        expect(page.locator("#captions textarea")).to_have_value("a cat and a cup of coffee")
    expect(page.locator("#known")).to_contain_text("lite knows ImageNet's classes")


@pytest.mark.slow
def test_page_rejects_computations_outside_of_the_queue(address: str) -> None:
    functions = {one["api_name"]: one["id"] for one in httpx.get(address + "config").json()["dependencies"]}
    run = {"session_hash": "s", "data": [0, None, "a cup", "each", ["nib"], "scenes", "default", None]}
    path = address + "gradio_api/run/predict"
    assert httpx.post(path, json={**run, "fn_index": functions["explain"]}).status_code == 404
    for name in ("../../etc/passwd", None, 3, ["coffee"]):
        click = {"session_hash": "s", "data": [], "fn_index": functions["load_sample"], "event_data": {"name": name}}
        answer = httpx.post(path, json=click)
        assert answer.status_code == 200
        assert [one.get("__type__") for one in answer.json()["data"]] == ["update", "update"], "nothing is updated"


@pytest.mark.slow
def test_page_shows_the_numbers_of_explain(page: Page, address: str) -> None:
    page.goto(address + SCENES)
    answered(page)
    actual = json.loads(page.locator(".nibt-data").inner_text() or page.locator(".nibt-data").text_content() or "")
    model = nibt.load_model("scenes")
    panel = Panel(nibt.explain(model, "sample:coffee", "a cup"), nibt.regions(model, "sample:coffee", "a cup"))
    expected = json.loads(re.search(r'nibt-data">(.*?)</script>', fragment([panel]), re.DOTALL)[1])  # pyright: ignore
    ours, theirs = actual["panels"][0], expected["panels"][0]
    assert ours["sides"][0]["scores"] == pytest.approx(theirs["sides"][0]["scores"], abs=1e-5)
    for row, right in zip(ours["table"]["rows"], theirs["table"]["rows"], strict=True):
        assert row == pytest.approx(right, abs=1e-5)


@pytest.mark.slow
def test_page_shows_regions_and_words_and_links_to_them(page: Page, address: str) -> None:
    page.goto(address + COLLAGE)
    answered(page)
    word = page.locator("button.nibt-word").nth(1)
    word.click()
    expect(word).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".nibt-map-title")).to_have_text("Map of “cat”")
    link = page.locator(".nibt-link").get_attribute("href") or ""
    assert "words=0.1" in link
    page.locator(".nibt-clear").click()
    place = page.locator(".nibt-stage").bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + 0.6 * place["width"], place["y"] + 0.2 * place["height"])
    page.mouse.click(place["x"] + 0.9 * place["width"], place["y"] + 0.8 * place["height"])
    page.mouse.move(5, 5)
    expect(page.locator(".nibt-readout")).to_contain_text("In the box: ")
    expect(page.locator(".nibt-readout")).to_contain_text("cup ")
    page.goto(address + link)
    answered(page)
    expect(page.locator("button.nibt-word").nth(1)).to_have_attribute("aria-pressed", "true")


@pytest.mark.slow
def test_page_compares_methods_and_saves_answers(page: Page, address: str) -> None:
    page.goto(address + SCENES)
    answered(page)
    page.get_by_text("Methods:").click()
    page.get_by_role("checkbox", name="grad_cam", exact=True).check()
    page.click("#explain")
    expect(page.locator(".nibt-panel h2")).to_have_text(["nib: a cup", "grad_cam: a cup"])
    answered(page)
    for kind, start in (("png", b"\x89PNG"), ("json", b"["), ("html", b"<!doctype html>")):
        link = page.locator(f".nibt-saved a[download$={kind}]").get_attribute("href") or ""
        saved = httpx.get(address + link)
        assert saved.content.startswith(start)
        assert f"nibt.{kind}" in saved.headers["content-disposition"]


@pytest.mark.slow
def test_page_groups_methods_and_disables_those_that_the_model_cannot_run(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_text("Methods:").click()
    gae, nib = (page.get_by_role("checkbox", name=name, exact=True) for name in ("gae", "nib"))
    listed = page.locator("#methods fieldset:visible input")
    expect(gae).to_have_count(0)  # as soon as the list of the model has come; how many are left depends on their times
    expect(listed.nth(3)).to_be_visible()
    disabled = "inputs => inputs.filter(input => input.disabled).length"  # at once: the list may change meanwhile
    assert listed.evaluate_all(disabled) == 0, "those that work come first"
    page.get_by_text("methods are not available with this model").click()
    expect(gae).to_be_disabled()  # lite, the first model, is a convolutional net
    expect(gae).to_have_accessible_description(re.compile("needs attention"))
    expect(nib).to_be_enabled()
    expect(nib).to_be_checked()
    expect(nib).to_have_accessible_description(re.compile(r"about [\d.]+ (s|min)"))
    expect(page.locator(".nibt-chosen")).to_contain_text("nib, about")
    path = page.locator("#methods fieldset").filter(has_text="Path: ")
    expect(path.locator("input").first).to_have_value("nib")
    page.get_by_text("Model and setting").click()
    page.locator("#model input").click()
    page.get_by_role("option", name="scenes", exact=True).click()
    expect(gae).to_be_enabled()
    gae.check()
    expect(page.locator(".nibt-chosen")).to_have_text("nib, gae")
    page.locator("#model input").click()
    page.get_by_role("option", name="lite", exact=True).click()
    expect(gae).to_be_disabled()
    expect(gae).not_to_be_checked()


@pytest.mark.slow
def test_page_shows_errors_beside_the_button(page: Page, address: str) -> None:
    page.goto(address)
    answered(page)
    explain(page, "")
    expect(page.locator("#message").get_by_role("alert")).to_contain_text("Write a caption first")
    expect(page.locator("#message")).to_be_in_viewport()
    page.goto(address + SCENES)
    answered(page)
    expect(page.locator("#message")).to_be_hidden()
    page.locator("#mode").get_by_text("Rank labels").click()
    expect(page.locator("#captions")).to_contain_text("Labels, one per line")
    page.click("#explain")
    expect(page.locator("#message").get_by_role("alert")).to_contain_text("at least two captions or labels")
    expect(page.locator(".nibt-view")).to_have_count(1)  # the last answer stays


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answer_is_above_the_fold(browser: Browser, address: str, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address + COLLAGE)
    answered(page)
    parts = "#image img", "#captions textarea", "#explain", ".nibt-stage", ".nibt-words", ".nibt-readout", ".nibt-saved"
    for part in parts:
        expect(page.locator(part).first).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0
    context.close()


@pytest.mark.slow
def test_map_comes_into_view_on_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    answered(page)
    assert page.evaluate("scrollY") == 0, "the page does not scroll before the visitor asks"
    page.get_by_role("button", name="sample: a cup of").tap()
    expect(page.locator("#captions textarea")).to_have_value("a cup of coffee on a wooden table")
    page.locator("#explain").tap()
    expect(page.locator(".nibt-panel h2")).to_have_text("a cup of coffee on a wooden table")
    answered(page)
    expect(page.locator(".nibt-stage")).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    assert page.evaluate("scrollY") == 0, "the page scrolls once per request"
    context.close()


@pytest.mark.slow
def test_page_warns_before_the_map(page: Page, address: str) -> None:
    page.goto(address + "?image=coffee&captions=a+rocket&model=lite")
    answered(page)
    expect(page.locator(".nibt-mismatch")).to_contain_text("Noise.")
    notice, stage = (page.locator(part).bounding_box() for part in (".nibt-mismatch", ".nibt-stage"))
    assert notice is not None
    assert stage is not None
    assert notice["y"] + notice["height"] <= stage["y"]


@pytest.mark.slow
def test_page_links_to_its_help(page: Page, address: str) -> None:
    page.goto(address + SCENES)
    answered(page)
    links = page.locator(".nibt-panel a")
    expect(links).to_have_text(["nib", "How to read this"])
    requests, wrong = watched(page)
    for number in range(2):
        page.goto(address + (links.nth(number).get_attribute("href") or ""))
        target = page.evaluate("location.hash.slice(1)")
        expect(page.locator(f"#{target}")).to_be_in_viewport()
        page.go_back()
        answered(page)
    # a page that is left aborts the requests of gradio that are still open, which takes longer on a busy machine
    assert [text for text in wrong if "AbortError" not in text and "Connection errored out" not in text] == []
    assert all(url.startswith((address, "data:")) for url in requests)


@pytest.mark.slow
def test_page_works_with_the_keyboard(page: Page, address: str) -> None:
    page.goto(address + SCENES)
    answered(page)
    page.locator("button.nibt-word").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("button.nibt-word").first).to_have_attribute("aria-pressed", "true")
    page.locator(".nibt-stage").focus()
    for key in ("ArrowLeft", "Enter", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".nibt-readout")).to_contain_text("In the box: ")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible(browser: Browser, address: str, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address + SCENES)
    answered(page)
    page.get_by_text("Methods:").click()
    page.locator(".nibt-details summary").click()
    violations = Axe().run(page).response["violations"]
    context.close()
    grave = [
        (one["id"], one["nodes"][0]["html"][:200]) for one in violations if one["impact"] in ("serious", "critical")
    ]
    assert grave == []


@pytest.mark.slow
def test_page_fits_a_narrow_screen(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address + COLLAGE)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("button.nibt-word").nth(1).tap()
    expect(page.locator(".nibt-map-title")).to_have_text("Map of “cat”")
    context.close()


@pytest.mark.slow
def test_page_follows_the_dark_color_scheme(browser: Browser, address: str) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#explain")
    colours = [
        int(part) for part in re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    ]
    context.close()
    assert max(colours[:3]) < 60


@pytest.mark.slow
def test_page_shows_a_script_in_a_caption_as_text(page: Page, address: str) -> None:
    page.goto(address + SCENES)
    answered(page)
    explain(page, HOSTILE)
    expect(page.locator(".nibt-panel h2")).to_have_text(HOSTILE)
    answered(page)
    assert page.evaluate("window.hit") is None


@pytest.mark.slow
def test_page_rejects_too_much_text(page: Page, address: str) -> None:
    page.goto(address + SCENES)
    answered(page)
    explain(page, "x" * 100_000)
    expect(page.get_by_role("alert")).to_contain_text("100,000 characters")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bomb.png", "pixels"),
        ("text.png", "not an image"),
        ("half.png", "broken"),
        ("<img src=x onerror=hit>.png", ""),
    ],
)
def test_page_rejects_a_bad_image(page: Page, address: str, tmp_path: Path, name: str, message: str) -> None:
    file = tmp_path / name
    if name == "bomb.png":
        Image.new("1", (20_000, 10_000)).save(file)  # 200 megapixels in 25 kB
    elif message == "not an image":
        file.write_text("<script>alert(1)</script>")
    else:
        buffer = BytesIO()
        Image.effect_noise((200, 120), 80).save(buffer, "PNG")
        file.write_bytes(buffer.getvalue()[: 2000 if message else None])
    page.goto(address)
    answered(page)
    page.locator("#image").get_by_label("Remove Image").click()
    page.set_input_files("#image input[type=file]", file)
    page.wait_for_selector("#image img")
    explain(page, "a cat")
    if message:
        expect(page.get_by_role("alert")).to_contain_text(message)
    else:
        expect(page.locator(".nibt-panel h2")).to_have_text("a cat")
        answered(page)
        assert page.evaluate("window.hit") is None


@pytest.mark.slow
def test_page_answers_or_rejects_fifty_requests_at_once(page: Page, address: str) -> None:
    functions = httpx.get(address + "config").json()["dependencies"]
    number = next(one["id"] for one in functions if one["api_name"] == "explain")
    file = sample_file("coffee")
    path = httpx.post(address + "gradio_api/upload", files={"files": (file.name, file.read_bytes())}).json()[0]
    image = {"path": path, "meta": {"_type": "gradio.FileData"}}

    def resolve(session: int) -> str:
        body = {
            "data": [0, image, "a cup", "each", ["nib"], "scenes", "default", None],
            "fn_index": number,
            "session_hash": f"session{session}",
        }
        joined = httpx.post(address + "gradio_api/queue/join", json=body, timeout=60)
        if joined.status_code == 503:
            assert "try again" in joined.json()["detail"]
            return "rejected"
        with httpx.stream(
            "GET", address + "gradio_api/queue/data", params={"session_hash": body["session_hash"]}, timeout=120
        ) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    return "answered" if "nibt-saved" in message["output"]["data"][0] else "wrong"
        return "broke off"

    with ThreadPoolExecutor(50) as pool:
        came = Counter(pool.map(resolve, range(50)))
    assert set(came) == {"answered", "rejected"}
    assert came["answered"] >= 10
    page.goto(address + SCENES)
    answered(page)
