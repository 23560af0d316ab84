"""Tests of ``nibt.datasets.captioned``."""

import os
from pathlib import Path

import pytest

from nibt.datasets.captioned import ConceptualCaptions
from nibt.errors import BadInput
from tests.datasets.layouts import captions, conceptual_captions, image, names, write


def test_conceptual_captions_reports_bad_tables(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    wrong = {
        "caption,path\na,a.jpg\n": r"no column file_path: its first line must name caption, file_path \(got c",
        "caption,file_path\na cat, gray,a.jpg\n": r"t\.csv, line 2: expected 2 fields \(got 3\)",
        "caption,file_path\na,a.jpg\n ,a.jpg\n": r"t\.csv, line 3: the caption is blank",
        'caption,file_path\n"a"b,a.jpg\n': "damaged table",
        "caption,file_path\n": "lacks pairs",
        "": "got nothing",
    }
    for text, message in wrong.items():
        write(tmp_path / "t.csv", text)
        with pytest.raises(BadInput, match=message):
            ConceptualCaptions(tmp_path)
    (tmp_path / "t.csv").write_bytes(b"caption,file_path\n\xff\xfe,a.jpg\n")
    with pytest.raises(BadInput, match="not text in UTF-8"):
        ConceptualCaptions(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
def test_conceptual_captions_reports_a_file_without_read_access(tmp_path: Path) -> None:
    conceptual_captions(tmp_path)
    (tmp_path / "val.csv").chmod(0)
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        ConceptualCaptions(tmp_path)


def test_conceptual_captions_keeps_the_order_of_the_table(tmp_path: Path) -> None:
    conceptual_captions(tmp_path)
    data = ConceptualCaptions(tmp_path)
    assert captions(data) == ["a dog, running", "a cat"]
    assert names(data) == ["b.jpg", "a.jpg"]
    write(tmp_path / "other.tsv", f"file_path\tcaption\textra\n{tmp_path / 'images/a.jpg'}\ta \u00fcnt, here\t1\n")
    assert captions(ConceptualCaptions(tmp_path, table="other.tsv")) == ["a \u00fcnt, here"]
    assert names(ConceptualCaptions(tmp_path, table="other.tsv")) == ["a.jpg"]
    write(tmp_path / "more.csv", "caption,file_path\n")
    with pytest.raises(BadInput, match=r"several tables \(more.csv, val.csv\): choose one with table="):
        ConceptualCaptions(tmp_path)
    with pytest.raises(BadInput, match=r"lacks none\.csv"):
        ConceptualCaptions(tmp_path, table="none.csv")


def test_conceptual_captions_rejects_the_official_list_of_addresses(tmp_path: Path) -> None:
    write(tmp_path / "Validation_GCC-1.1.0-Validation.tsv", 'author : a "life\thttp://example.org/a.jpg\n')
    with pytest.raises(BadInput, match="official list of captions and URLs"):
        ConceptualCaptions(tmp_path)
