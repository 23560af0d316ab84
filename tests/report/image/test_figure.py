"""Tests of ``nibt.report.image.figure``: figures of single results as wide as a column."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.font_manager import findfont

import nibt
from nibt.errors import BadOption
from nibt.report.image.figure import FONTS, find_font
from nibt.results.outputs import read_signature
from tests.helpers import Run, explain_with_table
from tests.suites import few


@pytest.fixture(scope="module")
def explained() -> nibt.Explanation:
    return explain_with_table()[0]


def size_of(pdf: Path) -> tuple[float, float]:
    """Return the width and the height of a page in inches."""
    found = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf.read_bytes())
    assert found is not None
    return float(found[1]) / 72, float(found[2]) / 72


RESULTS: dict[str, Callable[[], nibt.Explanation | nibt.Regions | nibt.AnswerExplanation]] = {
    "explanation": lambda: explain_with_table()[0],
    "regions": lambda: explain_with_table()[1],
    "answer": lambda: nibt.explain_answer("scenes_generator", "sample:scene", "what is left of the house ?"),
}


@pytest.mark.parametrize("kind", few(RESULTS, ["explanation"]))
def test_figure_has_the_width_and_the_font(kind: str, tmp_path: Path) -> None:
    result = RESULTS[kind]()
    for width in (3.25, 6.75):
        path = tmp_path / f"{width}.pdf"
        result.save(path, width=width, font="serif")
        assert size_of(path)[0] == pytest.approx(width, abs=0.01)
        assert b"STIXGeneral" in path.read_bytes()
        assert b"/Type3" not in path.read_bytes()
        assert read_signature(path) is not None
    first = (tmp_path / "3.25.pdf").read_bytes()
    result.save(tmp_path / "3.25.pdf", width=3.25, font="serif")
    assert (tmp_path / "3.25.pdf").read_bytes() == first


def test_all_vector_formats_and_fonts(explained: nibt.Explanation, tmp_path: Path) -> None:
    explained.save(tmp_path / "x.svg", width=3.25)
    assert re.search(r'width="234pt"', (tmp_path / "x.svg").read_text())
    explained.save(tmp_path / "x.eps", width=3.25, font="serif")
    assert "STIXGeneral" in (tmp_path / "x.eps").read_text("latin-1")
    assert find_font("serif") == find_font(FONTS["serif"]) == findfont("STIXGeneral")


@pytest.mark.slow
def test_words_that_the_font_lacks_and_long_captions(tmp_path: Path) -> None:
    caption = "a cat \u732b " + "and a very long caption of many words " * 8 + "Donaudampfschifffahrtsgesellschaft" * 4
    explained = nibt.explain("lite", "sample:chelsea", caption, "nib:fast")
    explained.save(tmp_path / "long.pdf", width=2.0, font="serif")
    width, height = size_of(tmp_path / "long.pdf")
    assert width == pytest.approx(2, abs=0.01)
    nibt.explain("lite", "sample:chelsea", "a cat", "nib:fast").save(tmp_path / "short.pdf", width=2.0)
    assert height > size_of(tmp_path / "short.pdf")[1]


def test_captions_alone_have_a_figure(tmp_path: Path) -> None:
    nibt.compare("lite", "a red cat", "a red car", "nib:fast").save(tmp_path / "x.pdf", width=3.25)
    assert size_of(tmp_path / "x.pdf")[1] < 2


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({"width": 0.5}, "x.pdf", "width must be between 1 and 40"),
        ({"width": "wide"}, "x.pdf", "width must be a number"),
        ({"width": 3.25, "font": "No Such Font"}, "x.pdf", "font must be sans, serif or the name of a font"),
        ({"font": "serif"}, "x.pdf", "set width, too"),
        ({"width": 3.25}, "x.png", r"width is for \.pdf, \.svg, \.eps"),
        ({"width": 3.25}, "x.overlay.png", "width has no effect"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_options(
    explained: nibt.Explanation, options: dict[str, object], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadOption, match=message):
        explained.save(tmp_path / name, **options)
    assert not (tmp_path / name).exists()


def test_several_results_have_no_figure(explained: nibt.Explanation, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="width is for a single result"):
        nibt.save([explained, explained], tmp_path / "x.pdf", width=3.25)


@pytest.mark.slow
def test_command(run: Run) -> None:
    arguments = ["sample:scene", "a cat", "-m", "scenes", "--method", "nib:fast", "-o", "x.pdf"]
    code, _, err = run("explain", *arguments, "--draw", "width=3.25", "--draw", "font=serif")
    assert code == 0, err
    assert size_of(Path("x.pdf"))[0] == pytest.approx(3.25, abs=0.01)
