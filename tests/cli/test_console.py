"""Tests of ``nibt.cli.console``."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len
from rich.table import Table

import nibt
from nibt.cli.console import ranking, show, summary, words
from nibt.registry import available
from nibt.report.colors import DEFAULT
from nibt.results.explanation import MISMATCH
from nibt.results.notes import NO_MATCH, Note, note_fields
from tests import tiny
from tests.answers import PEAK, WHOLE, answer, with_errors

CONTRASTS: dict[str, dict[str, Any]] = {
    "softmax": {"against": tiny.CAPTIONS[1:3], "against_images": [tiny.image(seed=1)]},
    "difference": {"against": tiny.CAPTIONS[1], "against_images": tiny.image(seed=1)},
    "centered": {"against": tiny.CAPTIONS[1:3], "against_images": [tiny.image(seed=1)]},
}


def explained(target: str = "cosine", method: str = "nib", **options: Any) -> nibt.Explanation:
    contrast = {**CONTRASTS.get(target, {}), **options}
    return nibt.explain(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[0], method, target, **contrast)


def cells(table: Table) -> list[dict[str, str]]:
    """Return the rows of a table, each by its headings."""
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    return [{name: column[row] for name, column in columns.items()} for row in range(table.row_count)]


@pytest.mark.parametrize("options", [{"steps": 1}, {"tolerance": 0.001}])
@pytest.mark.parametrize("target", [name for name in available("targets") if name != "score"])  # of other models
def test_summary_numbers_add_up(target: str, options: dict[str, Any]) -> None:
    answer = explained(target, **options)
    rows = cells(summary(answer))
    assert [row["side"] for row in rows] == ["image", "text"]
    for row in rows:
        path, score = answer.sides[row["side"]].path, answer.target[row["side"]]
        assert row["target"] == score["name"]
        assert float(row["score"]) == pytest.approx(float(path.at_input), abs=5.1e-5)
        assert float(row["baseline"]) == pytest.approx(float(path.at_baseline), abs=5.1e-5)
        assert float(row["attributed"]) == pytest.approx(float(path.sum), abs=5.1e-5)
        assert row["gap"] == path.gap_share, "as pictures and pages show it"
        gap = float(row["score"]) - float(row["baseline"]) - float(row["attributed"])
        assert gap == pytest.approx(float(path.gap), abs=1.6e-4)


@pytest.mark.parametrize("options", [{"views": 3}, {"views": 1}, {"method": "occlusion", "views": 2}])
def test_rows_have_the_score_of_the_image_itself(options: dict[str, Any]) -> None:
    """Also with views, whose maps only add details."""
    answer = explained(**options)
    assert cells(summary(answer))[0]["score"] == f"{answer.similarity:.4f}"


def test_summary_of_a_difference_has_a_baseline() -> None:
    """Without the baseline, the numbers of a difference do not add up."""
    answer = explained("difference", steps=16)
    for row in cells(summary(answer)):
        assert Decimal(row["baseline"]) != 0
        gap = abs(float(answer.sides[row["side"]].path.gap))
        assert abs(Decimal(row["attributed"]) - Decimal(row["score"])) > gap


@pytest.mark.parametrize("against", ["label", "image"])
def test_texts_are_left_and_numbers_right(against: str) -> None:
    request = (
        (tiny.image(), tiny.CAPTIONS[:2])
        if against == "label"
        else (tiny.CAPTIONS[0], [tiny.image(), tiny.image(seed=1)])
    )
    answer = nibt.explain_ranking(tiny.model("clip"), *request)
    for column in [*ranking(answer).columns, *summary(answer).columns]:
        is_number = all(str(cell).strip("+-.%<\u00a0").replace(".", "").isdigit() for cell in column.cells)
        assert column.justify == ("right" if is_number else "left"), column.header


def test_summary_without_a_path_has_no_baseline() -> None:
    answer = explained(method="occlusion")
    for row in cells(summary(answer)):
        assert [row[name] for name in ("baseline", "attributed", "gap")] == ["-"] * 3


def test_summary_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show([explained()], DEFAULT)
    printed = capsys.readouterr().out
    assert "attributed" in printed
    assert "\u2026" not in printed, "nothing is truncated in a window of 80 columns"


@pytest.mark.parametrize("width", [20, 31, 80])
def test_no_line_parts_a_word_from_its_score(width: int, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "a small gray bird with 3.14 日本", "ones")
    show([answer], DEFAULT)
    lines = capsys.readouterr().out.split("\n")
    for word in answer.words:
        assert any(f"{word.text} {word.score:+.4f}" in line for line in lines)
    shown = words(answer, width).split("\n")
    assert "  ".join(shown) == words(answer, 10_000)
    assert all(cell_len(line) <= width for line in shown)


def test_show_prints_a_mismatch_before_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    answer = explained("difference")
    warned = replace(answer, **note_fields([Note(NO_MATCH, f"{MISMATCH} [bold]"), "another note"]))
    show([warned], DEFAULT)
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("does not rate these as a match") == 1
    assert out.index("does not rate these as a match") < out.index("photo ")
    assert out.index("[bold].") < out.index("attributed") < out.index("note: another note")
    assert f"against the caption \u201c{tiny.CAPTIONS[1]}\u201d" in out


def test_names_of_images_with_spaces_are_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a photo of the harbor, " * 6 + "1.png"
    answer = explained(steps=1)
    show([replace(answer, sides={**answer.sides, "image": replace(answer.sides["image"], source=name)})], DEFAULT)
    assert capsys.readouterr().out.startswith(f"{name}  similarity")


def test_titles_are_names_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    """As in pictures; folders are named only where names are the same, and captions with a slash stay as they are."""
    answer = explained(steps=1)
    paths = ["photos/new/cat.jpg", "photos/new/dog.jpg", "photos/old/dog.jpg"]
    show(
        [replace(answer, sides={**answer.sides, "image": replace(answer.image, source=path)}) for path in paths],
        DEFAULT,
    )
    titles = [line.partition("  ")[0] for line in capsys.readouterr().out.splitlines() if "  similarity" in line]
    assert titles == ["new/cat.jpg", "new/dog.jpg", "old/dog.jpg"]

    show([replace(answer, sides={**answer.sides, "image": replace(answer.image, source=paths[0])})], DEFAULT)
    assert capsys.readouterr().out.startswith("cat.jpg  similarity")

    compared = nibt.compare(tiny.model("clip"), "a cat/dog", "a dog", steps=1)
    show([compared], DEFAULT)
    assert capsys.readouterr().out.startswith("a cat/dog with a dog  similarity")


def test_estimated_words_have_their_errors() -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    assert words(explanation.text) == "a -1.0000  red +0.5000  cat +2.0000"
    estimated = with_errors(explanation, [[0.0] * 3] * 3, [0.1, 0.25, 0.0])
    assert words(estimated.text) == "a -1.0000 \u00b1 0.1000  red +0.5000 \u00b1 0.2500  cat +2.0000"
