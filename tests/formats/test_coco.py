"""Tests of ``nibt.formats.json``."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nibt
from nibt.data.images import Region
from nibt.errors import WouldOverwrite
from nibt.results.notes import NO_MATCH, NOISE
from tests.answers import PEAK, WHOLE, answer

COCO = pytest.importorskip("pycocotools.coco", reason="needs pycocotools: pip install '.[data]'").COCO

RING = [[1.0, 1.0, 1.0], [1.0, -9.0, 1.0], [1.0, 1.0, 1.0]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in the code of pycocotools
def test_coco_file_has_the_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explanations = [
        answer(PEAK, (90, 90), WHOLE, "a cat"),
        answer(RING, (90, 90), WHOLE, "a cup"),
        answer(PEAK, (120, 60), Region(30.0, 0.0, 60.0, 60.0), "a cat"),
        answer([[-1.0]], (90, 90), WHOLE, "a dog"),
    ]
    nibt.save(explanations, tmp_path / "a.coco.json")
    data = COCO(str(tmp_path / "a.coco.json"))
    capsys.readouterr()  # pycocotools prints
    assert [one["name"] for one in data.loadCats(data.getCatIds())] == ["a cat", "a cup", "a dog"]
    assert [(one["width"], one["height"]) for one in data.loadImgs(data.getImgIds())] == [(90, 90), (120, 60)]
    for explanation in explanations:
        category = data.getCatIds(catNms=[explanation.caption])
        image = 1 if explanation.size == (90, 90) else 2
        annotations = data.loadAnns(data.getAnnIds(imgIds=[image], catIds=category))
        regions = explanation.regions()
        assert len(annotations) == len(regions)
        for annotation, region in zip(annotations, regions, strict=True):
            np.testing.assert_array_equal(data.annToMask(annotation).astype(bool), region.mask)
            assert annotation["area"] == region.mask.sum()
            assert annotation["bbox"] == list(region.box)
            assert annotation["score"] == region.score
    assert len(explanations[1].regions()[0].outlines) == 2, "the ring has a hole"


def test_coco_of_one_explanation_is_plain_data() -> None:
    data = nibt.to_coco(answer([[1.0]], (30, 20), Region(5.0, 0.0, 20.0, 20.0)))
    assert json.loads(json.dumps(data)) == data
    (annotation,) = data["annotations"]
    assert annotation["segmentation"] == [[5, 0, 25, 0, 25, 20, 5, 20]]
    assert annotation["bbox"] == [5, 0, 20, 20]
    assert annotation["area"] == 400


def test_coco_has_no_regions_of_noise() -> None:
    shown, other, flat = (answer(PEAK, (90, 90), WHOLE, caption) for caption in ("a cat", "a dog", "a cup"))
    no_match = replace(other, warnings=("the model does not rate these as a match",), codes=(NO_MATCH,))
    noise = replace(flat, warnings=("the map is noise",), codes=(f"{NOISE}:image",))
    data = nibt.to_coco([shown, no_match, noise])
    assert {one["category_id"] for one in data["annotations"]} == {1, 2}
    assert data["info"]["notes"] == [
        {"image_id": 1, "category_id": 2, "text": "the model does not rate these as a match"},
        {"image_id": 1, "category_id": 3, "text": "the map is noise"},
    ]


def test_coco_file_of_somebody_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.coco.json"
    explanations = [answer(PEAK, (90, 90), WHOLE)]
    nibt.save(explanations, path)
    nibt.save(explanations, path, threshold=0.8)  # a file of nibt is replaced
    path.write_text(path.read_text().replace("a red cat", "a cat"))
    with pytest.raises(WouldOverwrite, match="edited"):
        nibt.save(explanations, path)
