"""Tests of all file formats: what a file holds, that it is signed, and that no other file is lost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.engine.spec import versions
from nibt.errors import BadInput, BadOption, UnknownName, WouldOverwrite
from nibt.formats.base import Result
from nibt.registry import available, find, format_of
from nibt.report.image.layout import TEXTS, apart
from nibt.report.request import runs
from nibt.results.audit import Audit, Check
from nibt.results.outputs import read_signature
from tests import tiny
from tests.answers import PEAK, WHOLE, answer
from tests.clicks import clicked
from tests.helpers import Run, explain_with_table
from tests.suites import few
from tests.tiny_vision_language import generator


@pytest.fixture(scope="module")
def panel() -> nibt.Panel:
    """An explanation with its word-region table."""
    explained, table = explain_with_table()
    return nibt.Panel(explained, table)


FORMATS = [(name, ending) for name in available("formats") for ending in find("formats", name).endings[:2]]


def result_for(name: str, panel: nibt.Panel) -> Result:
    holds = find("formats", name).holds
    if holds == ("audit",):
        check = Check("seed", 4, "nib", "image", 0.0, 0.0, 0.1, 8, "lower", 0.05, 0.5, "dissimilarity of seeds")
        return Audit(tiny.model("clip").record(), {"pairs": 8}, ("nib",), 0, 1.0, versions(), (check,), (), ())
    if name == "points":
        return clicked()
    if holds == ("answer",):
        images = [tiny.image(64, 64, seed=seed) for seed in (0, 1)]
        options = {"narrow": ["image"], "layer": 2, "steps": 2, "other_images": []}
        return nibt.explain_answer(generator("qwen2_vl"), images, "a red cat", "two", **options)
    if holds == ("slide",):
        return nibt.explain_slide("scenes", "sample:scene", "a cat", "nib:fast", tile=64)
    return panel if "explanation" in holds else nibt.Panel(panel.table)  # pyright: ignore


@pytest.mark.parametrize(
    ("name", "ending"),
    few(FORMATS, [each for each in FORMATS if each[0] != "links"]),
)
def test_every_format_writes_a_signed_file_twice_with_the_same_bits(
    name: str, ending: str, panel: nibt.Panel, tmp_path: Path
) -> None:
    path, result = tmp_path / f"x{ending}", result_for(name, panel)
    nibt.save(result, path)
    first = path.read_bytes()
    assert read_signature(path) is not None
    nibt.save(result, path)  # its own file may be replaced
    assert path.read_bytes() == first


@pytest.mark.parametrize(("name", "ending"), few(FORMATS, FORMATS[::3]))
def test_no_format_replaces_a_file_of_the_user(name: str, ending: str, panel: nibt.Panel, tmp_path: Path) -> None:
    path, result = tmp_path / f"x{ending}", result_for(name, panel)
    path.write_text("mine")
    with pytest.raises(WouldOverwrite):
        nibt.save(result, path)
    assert path.read_text() == "mine"
    nibt.save(result, path, overwrite=True)
    assert read_signature(path) is not None


def test_endings_belong_to_one_format_each_and_the_longest_counts() -> None:
    endings = [ending for name in available("formats") for ending in find("formats", name).endings]
    assert len(endings) == len(set(endings))
    for name, ending in FORMATS:
        assert format_of(f"A Cat{ending.upper()}").name == name
    with pytest.raises(BadOption, match=r"must end in the name of a format, such as .*\.png.*got '\.txt'"):
        format_of("x.txt")
    with pytest.raises(BadOption, match="must end in the name of a format"):
        format_of(".png")
    with pytest.raises(BadOption, match=r"^'\.' must end in the name of a format"):
        format_of(".")


@pytest.mark.parametrize(
    "kind", sorted({kind for name in available("formats") for kind in find("formats", name).holds})
)
def test_the_endings_that_an_error_names_can_hold_the_result(kind: str) -> None:
    with pytest.raises(BadOption, match=r"such as \..*\(got '\.txt'\)") as error:
        format_of("x.txt", kind)
    endings = str(error.value).partition("such as ")[2].partition(" (got")[0].split(", ")
    assert all(kind in format_of(f"x{ending}").holds for ending in endings)


PICTURES = find("formats", "image").endings


@pytest.mark.parametrize("ending", few(PICTURES, [".png"]))
def test_every_ending_of_a_picture_is_written_signed_and_protected(ending: str, tmp_path: Path) -> None:
    """Of several results with any characters, twice with the same bits; its texts are those of the picture."""
    path, results = (
        tmp_path / f"x{ending}",
        [answer(PEAK, (90, 90), WHOLE, text) for text in ("a (cat)", "猫 $x$ \U0001f600")],
    )
    nibt.save(results, path)
    first = path.read_bytes()
    nibt.save(results, path)
    assert path.read_bytes() == first
    path.write_bytes(first + b"mine")
    with pytest.raises(WouldOverwrite):
        nibt.save(results, path)


def test_the_texts_of_a_vector_file_are_no_pixels(tmp_path: Path) -> None:
    """Words lie on their colors."""
    explained = answer(PEAK, (90, 90), WHOLE, "a cat")
    with apart():
        bare = nibt.draw(explained)
    texts = bare.info[TEXTS]
    words = [text for text in texts if text.line in ("a", "cat")]
    for word, run in zip(words, runs(explained.text), strict=True):
        assert bare.getpixel((round(word.left), round(word.baseline) - word.size // 4)) == run.background
    assert TEXTS not in nibt.draw(explained).info
    nibt.save(explained, tmp_path / "x.svg")
    svg = (tmp_path / "x.svg").read_text()
    assert svg.count('<g id="text_') == len(texts)
    assert svg.count("<image ") == 1


@pytest.mark.parametrize("ending", [".blp", ".bufr", ".wmf", ".h5", ".msp", ".xbm", ".ps", ".mpo"])
def test_a_format_that_cannot_be_written_is_refused_before_anything_is_computed(
    ending: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nibt.models._loading.load_model", lambda *arguments, **options: pytest.fail("loaded"))
    assert run("explain", "sample:scene", "a cat", "-o", f"x{ending}")[0] == 2
    Image.init()  # reads all formats, whatever ran before
    monkeypatch.delitem(Image.SAVE, "WEBP")  # as in a build of Pillow without it
    code, _, err = run("explain", "sample:scene", "a cat", "-o", "x.webp")
    assert (code, "Pillow cannot write" in err) == (2, True), err


def test_map_files_have_the_pixels_of_the_image(panel: nibt.Panel, tmp_path: Path) -> None:
    explained = panel.answer
    assert isinstance(explained, nibt.Explanation)
    for ending in (".overlay.png", ".map.png", ".mask.png", ".tif"):
        nibt.save(explained, tmp_path / f"x{ending}", **({"threshold": 0.3} if ending == ".mask.png" else {}))
        with Image.open(tmp_path / f"x{ending}") as picture:
            assert picture.size == explained.size
    scores = np.asarray(Image.open(tmp_path / "x.tif"))
    np.testing.assert_array_equal(scores, explained.heatmap())
    mask = np.asarray(Image.open(tmp_path / "x.mask.png")) == 255
    np.testing.assert_array_equal(mask, explained.mask(0.3))


def test_a_file_of_several_results_has_each(tmp_path: Path) -> None:
    answers = [answer(PEAK, (90, 90), WHOLE, caption) for caption in ("a cat", "a dog")]
    nibt.save(answers, tmp_path / "x.json")
    assert [entry["sides"]["text"]["caption"] for entry in json.loads((tmp_path / "x.json").read_text())] == [
        "a cat",
        "a dog",
    ]
    nibt.save(answers, tmp_path / "x.png")
    nibt.save(answers[0], tmp_path / "y.png")
    with Image.open(tmp_path / "x.png") as stacked, Image.open(tmp_path / "y.png") as single:
        assert stacked.height > 2 * single.height
    nibt.save(answers, tmp_path / "x.html", title="Two animals")
    assert '<h1 dir="auto">Two animals</h1>' in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_what_a_format_cannot_hold_is_refused(panel: nibt.Panel, tmp_path: Path) -> None:
    explained = panel.answer
    for result, name, message in (
        ([explained, explained], "x.mask.png", r"holds a single result \(got 2\)"),
        (explained, "x.links.pdf", r"is for word-region tables \(got explanations\)"),
        (panel.table, "x.tif", r"is for explanations \(got word-region tables\)"),
    ):
        with pytest.raises(BadOption, match=message):
            nibt.save(result, tmp_path / name)  # pyright: ignore
    with pytest.raises(BadInput, match="nothing to write"):
        nibt.save([], tmp_path / "x.json")
    with pytest.raises(UnknownName, match="Did you mean 'cmap'"):
        nibt.save(explained, tmp_path / "x.png", cmaps="red_blue")
    for options in ({"threshold": 0.0}, {"top": 0}, {"style": "dots"}, {"cmap": "no such map"}):
        with pytest.raises(BadOption):
            nibt.save(explained, tmp_path / "x.png", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("results", [None, [None], (None, 1)])
def test_none_is_no_result(results: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="save takes results of nibt, and then the path"):
        nibt.save(results, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", ["/", "/.", "//"])
def test_the_path_of_a_folder_is_no_file(end: str, panel: nibt.Panel, tmp_path: Path) -> None:
    text = f"{tmp_path / 'x.png'}{end}"
    with pytest.raises(BadOption, match="must be that of a file"):
        panel.answer.save(text)
    with pytest.raises(BadOption, match="must be that of a file"):
        nibt.save(panel, text)
    assert not list(tmp_path.iterdir())
