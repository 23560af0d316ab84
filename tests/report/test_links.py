"""Tests of ``nibt.report.image.links``."""

import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.errors import BadInput, BadOption, WouldOverwrite
from nibt.formats.base import Drawing
from nibt.report.image.links import MOST_CELLS, draw_links, strongest_links
from nibt.results.outputs import read_signature
from nibt.results.regions import Regions
from tests import tiny
from tests.answers import with_scores


def table(**entries: float) -> Regions:
    """Return a table whose entries are known: ``w1p3=0.5`` is the score of word 1 and patch 3."""
    answer = nibt.regions(tiny.model("clip"), tiny.image(48, 48), "red cat mat", method="occlusion")
    assert isinstance(answer, Regions)
    scores = torch.zeros_like(answer.scores)
    for name, score in entries.items():
        word, patch = map(int, re.findall(r"\d+", name))
        scores[word, patch] = score
    return with_scores(answer, scores)


def test_strongest_links_are_those_with_the_largest_absolute_scores() -> None:
    links, _ = strongest_links(table(w0p0=0.1, w1p5=-0.4, w2p7=0.3), 2)
    assert [(link.word, link.row * 4 + link.column, round(link.score, 3)) for link in links] == [
        (2, 7, 0.3),
        (1, 5, -0.4),
    ]
    assert len(strongest_links(table(w0p0=0.1), 10)[0]) == 1, "scores of zero are no links"


@pytest.mark.slow
def test_links_of_a_word_or_into_a_box() -> None:
    known = table(w0p0=0.1, w1p5=-0.4, w2p7=0.3)
    assert [link.word for link in strongest_links(known, 10, words=["cat"])[0]] == [1]
    assert draw_links(known, words="cat").tobytes() == draw_links(known, words=["cat"]).tobytes()
    assert Drawing(words="cat") == Drawing(words=("cat",))
    region = known.region
    box = (round(region.left), round(region.top), round(region.width / 4), round(region.height / 4))
    assert [(link.row, link.column) for link in strongest_links(known, 10, box=box)[0]] == [(0, 0)]
    with pytest.raises(BadInput, match="the box must have the center of a part"):
        strongest_links(known, 10, box=(1000, 1000, 5, 5))
    with pytest.raises(BadInput, match="is not in the caption"):
        strongest_links(known, 10, words=["dog"])
    with pytest.raises(BadOption, match=r"top must be between 1 and .* \(got 0\)"):
        nibt.draw_links(known, 0)


def test_fine_tables_are_summed_over_blocks() -> None:
    known = table(w0p0=1.0)
    fine = known.table.repeat_interleave(8, 1).repeat_interleave(8, 2) / 64
    scores = torch.zeros(len(fine) + 1, fine[0].numel() + 1)
    scores[:-1, :-1] = fine.flatten(1)
    grid = nibt.data.units.Grid(*fine.shape[1:])
    links, parts = strongest_links(with_scores(known, scores, grid), 50)
    assert max(parts.shape[1:]) <= MOST_CELLS
    assert sum(link.score for link in links) == pytest.approx(1.0)


@pytest.mark.slow
def test_figures_have_lines_from_words_to_parts() -> None:
    known = table(w0p0=1.0, w1p5=-0.5)
    both, positive = nibt.draw_links(known), nibt.draw_links(known, positive_only=True)
    red, blue = (
        lambda image, which=which: int(
            (
                np.abs(np.asarray(image).astype(int) - nibt.report.colors.PALETTES["red_blue"].__dict__[which]).max(-1)
                < 12
            ).sum()
        )
        for which in ("positive", "negative")
    )
    assert red(both) > 300
    assert blue(both) > 100
    assert blue(positive) == 0
    assert np.array_equal(np.asarray(both), np.asarray(nibt.draw_links(known))), "the same bits"
    assert nibt.draw_links(table()).size == both.size, "a table of zeros has no links"


@pytest.mark.slow
def test_pdf_files_have_lines_and_text_and_a_signature(tmp_path: Path) -> None:
    known, path = table(w0p0=1.0, w1p5=-0.5), tmp_path / "a.links.pdf"
    nibt.save(known, path)
    data = path.read_bytes()
    assert data.startswith(b"%PDF")
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    plain = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"x")
    assert plain.count(b" c\n") >= 2, "no curves"
    assert b"Tf" in plain, "no text"
    signature = read_signature(path)
    assert signature is not None
    assert signature["links"] == [10, [], None]
    nibt.save(known, path, top=3)  # its own file may be replaced
    path.write_bytes(data + b"\n% edited")
    with pytest.raises(WouldOverwrite):
        nibt.save(known, path)
    nibt.save(known, path, overwrite=True)
    assert path.read_bytes() == data, "the same bits"


@pytest.mark.slow
def test_figures_are_written_as_images_and_other_names_are_refused(tmp_path: Path) -> None:
    nibt.save(table(w0p0=1.0), tmp_path / "a.links.png")
    with Image.open(tmp_path / "a.links.png") as opened:
        assert opened.size[0] == 1400
    with pytest.raises(BadOption, match="must end in the name of a format"):
        nibt.save(table(w0p0=1.0), tmp_path / "links.docx")
    with pytest.raises(BadInput, match="no longer there"):
        nibt.draw_links(replace(table(w0p0=1.0), input=None))


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_words_of_any_script_and_formulas_are_drawn_as_they_are() -> None:
    """A formula that matplotlib cannot parse would be an error, and a character without a glyph a warning."""
    known = table(w0p0=0.1)
    texts = ("$\\bad{$", "\u65e5\u672c", "\U0010fffd")
    words = tuple(replace(word, text=text) for word, text in zip(known.words, texts, strict=True))
    shown = replace(known, words=words)
    assert draw_links(shown).size == draw_links(known).size
