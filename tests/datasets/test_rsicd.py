"""Tests of ``nibt.datasets.captioned``."""

from pathlib import Path

import pytest

from nibt.datasets.captioned import RSICD
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, rsicd, write_json


def test_rsicd_reads_splits_and_sentences(tmp_path: Path) -> None:
    rsicd(tmp_path)
    assert captions(RSICD(tmp_path)) == ["b.jpg x", "a.jpg x"]
    assert captions(RSICD(tmp_path, split="test", choice="all")) == ["a.jpg x", "a.jpg y"]
    with pytest.raises(BadOption, match="split must be one of test, train"):
        RSICD(tmp_path, split="val")
    for text in (
        {"images": [{"filename": "a.jpg", "split": "test", "sentences": []}]},
        {"images": [{"filename": "a.jpg", "split": "test"}]},
        {"images": 3},
        [],
    ):
        write_json(tmp_path / "dataset_rsicd.json", text)
        with pytest.raises(BadInput, match=r"dataset_rsicd\.json does not have the expected layout"):
            RSICD(tmp_path)
