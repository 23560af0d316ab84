"""Tests of ``nibt.bridges.fiftyone``, whose package is not part of the tools of developers: it brings a web server."""

import sys
from pathlib import Path

import numpy as np
import pytest

import nibt
from nibt.bridges.fiftyone import heatmap, sample
from nibt.errors import BadInput, Unsupported
from tests import tiny


@pytest.fixture
def explanation(tmp_path: Path) -> nibt.Explanation:
    tiny.image(80, 40).pil_image.save(tmp_path / "wide.png")
    return nibt.explain(tiny.model("clip"), tmp_path / "wide.png", "a cat")


def test_samples_have_the_signed_map_of_the_image(explanation: nibt.Explanation) -> None:
    fiftyone = pytest.importorskip("fiftyone", reason="fiftyone is not part of the tools of developers")
    record = sample(explanation, "nib")
    assert isinstance(record, fiftyone.Sample)
    scores = record["nib"].map
    assert scores.shape == (40, 80)
    assert explanation.image is not None
    seen = explanation.image.heatmap()
    assert np.array_equal(scores, np.where(np.isnan(seen), 0, seen))
    assert record["nib"].range == [-np.abs(scores).max(), np.abs(scores).max()]
    assert Path(record.filepath).name == "wide.png"
    assert record["nib_caption"] == "a cat"
    assert record["nib_similarity"] == pytest.approx(float(explanation.similarity))
    again = fiftyone.Sample.from_dict(record.to_dict())
    assert np.array_equal(again["nib"].map, scores)


def test_what_cannot_be_shown_is_refused(
    explanation: nibt.Explanation, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    drawn = nibt.explain(tiny.model("clip"), tiny.image(), "a cat")
    with pytest.raises(BadInput, match="FiftyOne shows images in files: explain the path of an image"):
        sample(drawn)
    texts = nibt.compare(tiny.model("clip"), "a cat", "a dog")
    with pytest.raises(BadInput, match="a comparison has the sides first and second, without image"):
        heatmap(texts)
    with pytest.raises(BadInput, match=r"must be an Explanation of nibt \(got str\)"):
        heatmap("map.json")  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(Unsupported, match="need the package fiftyone: pip install fiftyone"):
        heatmap(explanation)
