"""Tests of ``nibt.report.html.page``."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import html5lib
import numpy as np
import pytest
import torch

import nibt
from nibt.data.units import Grid
from nibt.errors import BadInput, CannotWrite
from nibt.report.html.document import TABLE_SCRIPT, TABLE_STYLE, data_table, document
from nibt.report.html.view import Panel, fragment, page
from nibt.report.html.view_data import coarse
from nibt.results.attribution import PathSummary
from nibt.results.explanation import MISMATCH, Explanation, Ranked, change_image
from nibt.results.notes import NO_MATCH, Note, note_fields
from tests import tiny
from tests.answers import PEAK, WHOLE, answer, two_captions, with_scores
from tests.helpers import check_page, explain_with_table, page_data

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"' onmouseover=alert(1) x='",
    "<!-- <script>",
    "]]>",
    "قطة على أريكة",
    "🦄 e\u0301 \u202e reversed",
    "\u2028\u2029&amp;&lt;",
    "<img src=x onerror=alert(1)>",
)


def test_page_data_equals_the_answer() -> None:
    explanation, table = explain_with_table()
    data = page_data(check_page(page(Panel(explanation, table))))
    (actual,) = data["panels"]
    image, text = actual["sides"]
    assert image["grid"] == [12, 12]
    np.testing.assert_allclose(image["scores"], explanation.image.scores, rtol=5e-4)
    assert [word["text"] for word in text["words"]] == [word.text for word in explanation.words]
    np.testing.assert_allclose(
        [word["score"] for word in text["words"]], [word.score for word in explanation.words], rtol=5e-4
    )
    rows = np.array(actual["table"]["rows"]).reshape(table.table.shape)
    np.testing.assert_allclose(rows, table.table, rtol=5e-4)
    assert [word["row"] for word in text["words"]] == list(range(len(table.words)))
    across = np.array(image["region"]) * [*explanation.size, *explanation.size]
    np.testing.assert_allclose(across, list(explanation.region), rtol=1e-6)


def test_page_shows_a_table_of_chosen_words() -> None:
    explanation, table = explain_with_table(words=["cat", "dog"])
    actual = page_data(check_page(page(Panel(explanation, table))))["panels"][0]
    texts = {word["text"]: word["row"] for word in actual["sides"][1]["words"]}
    assert (texts["cat"], texts["dog"], texts["photo"]) == (0, 1, None)


def test_page_of_a_table_shows_the_sums_of_its_maps() -> None:
    _, table = explain_with_table()
    image, text = page_data(check_page(page(table)))["panels"][0]["sides"]
    np.testing.assert_allclose(image["scores"], table.table.sum(0).flatten(), rtol=5e-4, atol=1e-9)
    np.testing.assert_allclose([w["score"] for w in text["words"]], table.table.sum((1, 2)), rtol=5e-4, atol=1e-9)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_page_escapes_captions_labels_and_names(hostile: str) -> None:
    explanation = answer(PEAK, (90, 90), WHOLE, f"a {hostile}")
    explanation = replace(
        change_image(explanation, source=hostile),
        warnings=(hostile,),
        ranking=(Ranked(hostile, 0.3, 0.9, 1), Ranked("b", 0.1, 0.1, 0)),
        method={**explanation.method, "image": {"option": hostile}},
        model={"id": hostile},
    )
    text = check_page(page(explanation, title=hostile))
    tree = html5lib.parse(text, namespaceHTMLElements=False)
    assert len(list(tree.iter("script"))) == 3  # the data, the view, its start
    assert len(list(tree.iter("img"))) == 1
    words = next(side["words"] for side in page_data(text)["panels"][0]["sides"] if side["kind"] == "text")
    assert [word["text"] for word in words] == f"a {hostile}".split()
    shown = " ".join(tree.itertext())
    assert hostile in shown.replace("\u2028", "\u2028")


def test_page_is_small_without_its_images() -> None:
    """A caption of seven words over the 15 x 38 patches that lite has for the sample image."""
    scores = torch.randn(15, 38, generator=torch.Generator().manual_seed(0)) / 1000
    explanation = answer(
        scores.tolist(), (1000, 400), WHOLE._replace(width=1000.0, height=400.0), "a cat and a cup of coffee"
    )
    numbers = torch.randn(8, 571, generator=torch.Generator().manual_seed(1)) / 1000
    _, table = explain_with_table()
    table = with_scores(
        table,
        numbers,
        Grid(15, 38),
        caption=explanation.caption,
        words=explanation.text.units.words[0],
        tokens=explanation.text.tokens,
        special=explanation.text.special,
        region=explanation.region,
        size=explanation.size,
        input=explanation.image.input,
    )
    text = page(Panel(explanation, table))
    images = sum(map(len, re.findall(r"data:image/[^\"]*", text)))
    assert len(text.encode()) - images < 101_000


def test_page_embeds_an_image_once_and_scaled_down() -> None:
    explanation = answer(PEAK, (3000, 1000), WHOLE._replace(width=3000.0, height=1000.0))
    text = check_page(page([Panel(explanation, title="one"), Panel(explanation, title="two")]))
    assert text.count("data:image/jpeg;base64,") == 1
    assert page_data(text)["images"] == [[3000, 1000]]
    assert [side["image"] for panel in page_data(text)["panels"] for side in panel["sides"][:1]] == [0, 0]


def test_page_coarsens_a_map_of_pixels_and_keeps_its_sum() -> None:
    scores = torch.randn(100, 300, generator=torch.Generator().manual_seed(0))
    text = check_page(page(answer(scores.tolist(), (300, 100), WHOLE._replace(width=300.0, height=100.0))))
    side = page_data(text)["panels"][0]["sides"][0]
    assert side["grid"] == [64, 64]
    shown = np.array(side["scores"]).reshape(64, 64)
    assert shown.sum() == pytest.approx(float(scores.sum()), abs=0.05)
    assert shown[:16, :32].sum() == pytest.approx(float(scores[:25, :150].sum()), abs=0.05)  # a box along both grids
    assert "The map has 100 x 300 cells" in text
    assert len(text) < 150_000
    few = torch.randn(2, 3, 64)
    assert coarse(few).equal(few)


def test_page_of_comparisons_has_both_sides() -> None:
    model = tiny.model("clip")
    two = nibt.compare(model, tiny.image(), tiny.image(seed=1))
    captions_ = nibt.compare(model, nibt.Caption("a cat"), "two cars")
    assert isinstance(two, Explanation)
    assert isinstance(captions_, Explanation)
    images, captions = page_data(check_page(page([two, captions_])))["panels"]
    assert [side["kind"] for side in images["sides"]] == ["image", "image"]
    assert [side["caption"] for side in captions["sides"]] == ["a cat", "two cars"]
    assert images["table"] is captions["table"] is None
    np.testing.assert_allclose(images["sides"][1]["scores"], two.second.scores, rtol=5e-4)


def test_page_says_why_words_cannot_be_selected() -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    assert "was not computed" in page(explanation)
    assert "grad_cam gives each word a score" in page(
        replace(explanation, method={"name": "grad_cam", "variant": "default"})
    )
    assert "not the target softmax" in page(replace(explanation, target={**explanation.target, "name": "softmax"}))
    assert "no image whose regions" in page(two_captions(explanation))
    assert "cannot be selected" not in page(Panel(*explain_with_table()))


def test_page_shows_a_mismatch_before_the_map() -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    warned = replace(explained, **note_fields([Note(NO_MATCH, f"{MISMATCH} (similarity <0.1>)"), "another note"]))
    text = page(warned)
    assert text.count("does not rate these as a match") == 1
    assert text.index('<p class="nibt-mismatch"') < text.index('<div class="nibt-places">')
    assert "similarity &lt;0.1&gt;" in text
    assert "<li>Another note.</li>" in text
    assert '<p class="nibt-mismatch"' not in page(explained)


def test_page_shows_a_negative_similarity_as_a_mismatch() -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    text = page(replace(explained, similarity=-0.02))
    assert "<strong>No match.</strong>" in text
    assert "similarity -0.020, which is negative" in text
    assert 'class="nibt-mismatch"' not in page(replace(explained, similarity=0.0))


def test_fragment_links_only_to_a_help_page() -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    assert "<a " not in fragment([Panel(explained)])
    linked = fragment([Panel(explained)], help_url="help")
    assert 'method <a href="help#nib">nib</a> (default), model x' in linked
    assert '<a href="help#reading">' in linked


def test_page_has_sums_and_gaps_in_the_details() -> None:
    explained, table = explain_with_table()
    before, _, details = page(Panel(explained, table)).partition("<summary>Details</summary>")
    for text in ("word-region table: total", "completeness gap", "target cosine", "method image layer"):
        assert text in details
        assert text not in before.partition("</style>")[2]


def test_page_says_what_is_explained() -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    assert page_data(page(explained))["panels"][0]["signed"] is True
    side = {"name": "difference", "value": 0.25}
    target = {**side, "options": {"against": ["a <b>green</b> dog"]}, "image": side, "text": explained.target["text"]}
    text = page(replace(explained, target=target, method={"name": "gae", "variant": "textbook", "signed": False}))
    assert page_data(text)["panels"][0]["signed"] is False
    visible = unescape(re.sub("<[^>]*>", "", text))
    assert "Why \u201ca red cat\u201d rather than \u201ca <b>green</b> dog\u201d?" in visible
    assert (
        "image side: difference 0.250, against the caption \u201ca <b>green</b> dog\u201d; text side: cosine 0.300"
        in visible
    )
    assert "method gae (textbook), model x" in visible
    assert "does not say in which direction" in visible


def test_page_gives_the_gap_as_a_share_of_the_change() -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    numbers = [torch.tensor(number) for number in (4.0, 0.3, 0.1, 0.21, 0.0)]
    narrowing = PathSummary("zero", "gauss", (1,), *numbers)
    text = page(change_image(explanation, path=narrowing))
    assert "image side: completeness gap 5\xa0%" in text


@pytest.mark.slow
def test_page_rejects_answers_without_an_image(tmp_path: Path) -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    with pytest.raises(BadInput, match="at least one panel"):
        fragment([])
    with pytest.raises(BadInput, match="no longer there"):
        nibt.save(change_image(explanation, input=None), tmp_path / "x.html")
    assert not list(tmp_path.iterdir())
    with pytest.raises(CannotWrite, match="does not exist"):
        nibt.save(explanation, tmp_path / "nowhere" / "x.html")
    with pytest.raises(BadInput, match="same pair"):
        Panel(explanation, explain_with_table()[1])
    with pytest.raises(BadInput, match="a table needs an explanation"):
        Panel(explain_with_table()[1], explain_with_table()[1])


@pytest.mark.parametrize("size", [(1, 1), (300, 3), (3, 300), (640, 480)])
def test_page_takes_images_of_any_size(size: tuple[int, int]) -> None:
    check_page(page(answer(PEAK, size, WHOLE._replace(width=float(size[0]), height=float(size[1])))))


def test_data_table_is_a_valid_page() -> None:
    table = data_table(["method", "a<b"], [["nib", HOSTILE[0]], ["ones", "0.5 [0.4, 0.6]"]])
    check_page(document("x" + HOSTILE[0], f"<h1>t</h1>{table}", TABLE_STYLE, [TABLE_SCRIPT]))
