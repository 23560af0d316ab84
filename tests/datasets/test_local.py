"""What holds for every data set in a local folder."""

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import nibt
from nibt.datasets import _records
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Dataset
from nibt.datasets.captioned import COCO, RSICD, ConceptualCaptions, Flickr8k
from nibt.datasets.counter_animal import CounterAnimal
from nibt.datasets.folder import Folder
from nibt.datasets.imagenet import ImageNet, TinyImageNet
from nibt.datasets.imagenet_masks import ImageNetS, PartImageNet
from nibt.datasets.mmvp import MMVP
from nibt.datasets.mmvp_vlm import MMVPVLM
from nibt.datasets.open_images import OpenImages
from nibt.datasets.phrases import Phrases, RefCOCO
from nibt.datasets.pope import POPE, RePOPE
from nibt.datasets.scenes import Scenes
from nibt.datasets.segmentation import ADE20K, COCOStuff, PascalContext, PascalVOC, PascalVOCSegmentation
from nibt.datasets.shards import HuggingFace
from nibt.datasets.waterbirds import Waterbirds
from nibt.errors import BadInput, BadOption
from nibt.registry import available, find, summary
from tests.datasets.layouts import (
    ade20k,
    captions,
    coco,
    coco_stuff,
    conceptual_captions,
    counter_animal,
    flickr8k,
    folder,
    imagenet,
    imagenet_s,
    mmvp,
    mmvp_vlm,
    open_images,
    part_imagenet,
    pascal_context,
    pascal_voc,
    pascal_voc_segmentation,
    phrases,
    pope,
    refcoco,
    repope,
    rsicd,
    tiny_imagenet,
    waterbirds,
    write,
)
from tests.helpers import ROOT

LAYOUTS: dict[type[LocalDataset], Callable[[Path], None]] = {
    ConceptualCaptions: conceptual_captions,
    ImageNet: imagenet,
    TinyImageNet: tiny_imagenet,
    Flickr8k: flickr8k,
    COCO: coco,
    RSICD: rsicd,
    RefCOCO: refcoco,
    ImageNetS: imagenet_s,
    PascalVOC: pascal_voc,
    PascalVOCSegmentation: pascal_voc_segmentation,
    PascalContext: pascal_context,
    COCOStuff: coco_stuff,
    ADE20K: ade20k,
    PartImageNet: part_imagenet,
    OpenImages: open_images,
    Phrases: phrases,
    Folder: folder,
    Waterbirds: waterbirds,
    CounterAnimal: counter_animal,
    POPE: pope,
    RePOPE: repope,
    MMVP: mmvp,
    MMVPVLM: mmvp_vlm,
}


EACH = pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.__name__)


@pytest.fixture
def root(kind: type[LocalDataset], tmp_path: Path) -> Path:
    LAYOUTS[kind](tmp_path)
    return tmp_path


def test_data_sets_describe_themselves() -> None:
    kinds = {find("datasets", name) for name in available("datasets")}
    assert kinds >= {*LAYOUTS, HuggingFace, Scenes}
    for kind in kinds:
        assert issubclass(kind, Dataset)
        assert 20 < len(summary("datasets", kind.name)) <= 100
        assert summary("datasets", kind.name).isascii()


@EACH
def test_data_set_reads_its_pairs_and_pickles(kind: type[LocalDataset], root: Path) -> None:
    assert kind.check(root) == ""
    data = kind(root)
    assert isinstance(data, Sequence)
    pairs = list(data)
    assert len(pairs) == len(data) > 1
    for pair, entry in zip(pairs, data.entries, strict=True):
        assert Path(entry.image).is_file()
        assert pair.image.digest == entry.digest()
        assert pair.caption
    assert data == kind(root)
    assert captions(pickle.loads(pickle.dumps(data))) == captions(data)
    with pytest.raises(IndexError, match=r"item must be between 0 and "):
        data[len(data)]
    with pytest.raises(IndexError):
        data[-1]


@EACH
def test_data_set_reads_an_image_with_its_item(
    kind: type[LocalDataset], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(_records, "read_image", lambda path: read.append(path) or base_read(path))
    base_read = nibt.data.images.read_image
    data = kind(root)
    assert not read
    data[1]
    assert len(read) == 1


@EACH
def test_data_set_order_is_independent_of_the_file_system(
    kind: type[LocalDataset], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [(pair.image.source, pair.caption) for pair in kind(root)]
    glob, iterdir = Path.glob, Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(sorted(glob(path, pattern), reverse=True)))
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(iterdir(path), reverse=True)))
    assert [(pair.image.source, pair.caption) for pair in kind(root)] == before


@EACH
def test_data_set_takes_count_and_seed(kind: type[LocalDataset], root: Path) -> None:
    data = kind(root)
    assert captions(kind(root, count=1)) == captions(data)[:1]
    mixed = [kind(root, seed=seed) for seed in range(8)]
    assert {tuple(sorted(captions(one))) for one in mixed} == {tuple(sorted(captions(data)))}
    assert len({tuple(captions(one)) for one in mixed}) > 1
    assert captions(kind(root, seed=3, count=1)) == captions(mixed[3])[:1]
    with pytest.raises(BadOption, match=rf"count must be between 0 and {len(data)}"):
        kind(root, count=len(data) + 1)
    for option in ("count", "seed"):
        with pytest.raises(BadOption, match=f"{option} must be between 0 and"):
            kind(root, **{option: -1})


@EACH
def test_data_set_records_its_options(kind: type[LocalDataset], root: Path) -> None:
    record = kind(root, seed=4, count=1).record()
    assert find("datasets", record["dataset"]) is kind
    assert (record["folder"], record["seed"], record["count"], record["pairs"]) == (str(root), 4, 1, 1)
    assert {field.name for field in fields(kind) if field.init and field.repr} <= record.keys()
    json.dumps(record)


@EACH
def test_data_set_says_what_is_missing_and_where_to_get_it(kind: type[LocalDataset], tmp_path: Path) -> None:
    for place, problem in ((tmp_path / "nowhere", "which does not exist"), (tmp_path, "which lacks")):
        text = kind.check(place)
        assert text.startswith(f"{kind.title} cannot be read from")
        assert problem in text
        assert kind.layout in text
        assert kind.home in text
        with pytest.raises(BadInput) as error:
            kind(place)
        assert str(error.value) == text


@EACH
def test_data_set_names_the_row_of_a_broken_image(kind: type[LocalDataset], root: Path) -> None:
    data = kind(root)
    path = Path(data.entries[0].image)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(BadInput, match=path.name) as error:
        data[0]
    assert any(word in str(error.value) for word in (", line ", ", image "))
    path.unlink()
    if kind is CounterAnimal:
        assert len(kind(root)) == len(data) - 1, "its folders have no list of their images"
        return

    with pytest.raises(BadInput, match="no such file"):
        kind(root)[0]
    text = kind.check(root)
    assert " images, such as " in text
    assert path.name in text
    assert kind.home in text


@EACH
def test_data_set_rejects_a_file_instead_of_a_folder(kind: type[LocalDataset], tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(BadInput, match="which is no folder"):
        kind(tmp_path / "file")


def test_scenes_need_no_files() -> None:
    assert Scenes.check(count=3) == ""
    record = Scenes(count=3).record()
    assert (record["dataset"], record["count"], record["pairs"]) == ("scenes", 3, 3)


def test_measure_takes_a_data_set(tmp_path: Path) -> None:
    LAYOUTS[Folder](tmp_path)
    rows = nibt.measure("scenes", Folder(tmp_path), ["energy"], "random")  # pyright: ignore[reportArgumentType]
    assert [row.item for row in rows] == [0, 1, 2]
    assert [0 < row.value < 1 for row in rows] == [True, False, False], "a box, the whole image, no named object"
    assert rows[1].value == pytest.approx(1)
    assert np.isnan(rows[2].value)


def test_data_sets_are_documented() -> None:
    text = (ROOT / "docs/reference/datasets.md").read_text(encoding="utf-8")
    for name in available("datasets"):
        assert f"`{name}`" in text
        for field in fields(find("datasets", name)):
            if field.init and name != "scenes":
                assert f"`{field.name}`" in text, f"{name}: {field.name}"
