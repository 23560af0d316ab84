"""Tests of ``nibt.datasets.waterbirds``."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import nibt
from nibt.datasets.waterbirds import Waterbirds
from nibt.errors import BadInput, BadOption, UnknownName
from tests.datasets.layouts import WATERBIRDS, captions, names, waterbirds


def test_waterbirds_have_their_kind_and_their_group(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    data = Waterbirds(tmp_path)
    assert captions(data) == ["a photo of a waterbird", "a photo of a landbird"]
    assert names(data) == ["b.jpg", "c.jpg"]
    assert [record.key for record in data.entries] == ["waterbird_on_land", "landbird_on_land"]
    assert data.labels == ("landbird", "waterbird")
    assert [pair.label for pair in data] == [1, 0]
    assert [record.key for record in Waterbirds(tmp_path, split="val").entries] == ["landbird_on_water"]
    assert captions(Waterbirds(tmp_path, split="train")) == ["a photo of a waterbird"]


def test_unknown_options_are_named(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    with pytest.raises(UnknownName, match=r"unknown option 'groups'. Did you mean 'group'"):
        Waterbirds(tmp_path, groups="waterbird_on_land")  # pyright: ignore
    data = Waterbirds(tmp_path)
    assert len(pickle.loads(pickle.dumps(data))) == len(replace(data, count=None)) == len(data)


def test_one_group_is_read_alone_from_the_inner_folder(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    inner = tmp_path / "waterbird_complete95_forest2water2"
    assert names(Waterbirds(inner, group="waterbird_on_land")) == ["b.jpg"]
    message = "lacks birds of the group waterbird_on_water in the split test"
    assert message in Waterbirds.check(inner, group="waterbird_on_water"), "the small copy has none"
    with pytest.raises(BadOption, match="group must be one of landbird_on_land"):
        Waterbirds(inner, group="waterbird")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5,e.jpg,2,2,0,p", r"line 6: y must be one of 0, 1 \(got '2'\)"),
        ("5,e.jpg,1,test,0,p", r"line 6: split must be one of 0, 1, 2 \(got 'test'\)"),
        ("5,e.jpg,1,2,-1,p", r"line 6: place must be one of 0, 1 \(got '-1'\)"),
        ("5,,1,2,0,p", "line 6: img_filename must be the path of an image"),
        ("5,e.jpg,1", r"line 6: expected 6 fields \(got 3\)"),
    ],
)
def test_waterbirds_rejects_wrong_rows(tmp_path: Path, row: str, message: str) -> None:
    waterbirds(tmp_path, [*WATERBIRDS, row])
    with pytest.raises(BadInput, match=message):
        Waterbirds(tmp_path)


def test_waterbirds_rejects_another_table(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    (tmp_path / "waterbird_complete95_forest2water2/metadata.csv").write_text("image,label\na.jpg,1\n")
    with pytest.raises(BadInput, match="has no column img_filename, y, split, place"):
        Waterbirds(tmp_path)


def test_groups_of_a_job_give_the_accuracy_of_each_group(tmp_path: Path) -> None:
    """As the page on data sets shows: the least accuracy over groups of zero-shot classification."""
    waterbirds(tmp_path)
    model = "scenes"
    right: dict[str, list[bool]] = {}
    data = Waterbirds(tmp_path)
    labels = [f"a photo of a {label}" for label in data.labels]
    for pair, record in zip(data, data.entries, strict=True):
        right.setdefault(record.key, []).append(nibt.rank(model, pair.image, labels)[0].label == pair.caption)
    assert {key: len(hits) for key, hits in right.items()} == {"waterbird_on_land": 1, "landbird_on_land": 1}
