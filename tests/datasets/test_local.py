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
from nibt.datasets.coco import COCO
from nibt.datasets.conceptual_captions import ConceptualCaptions
from nibt.datasets.flickr8k import Flickr8k
from nibt.datasets.folder import Folder
from nibt.datasets.hugging_face import HuggingFace
from nibt.datasets.imagenet import ImageNet
from nibt.datasets.phrases import Phrases
from nibt.datasets.rsicd import RSICD
from nibt.datasets.scenes import Scenes
from nibt.datasets.tiny_imagenet import TinyImageNet
from nibt.errors import BadInput, BadOption
from nibt.registry import available, find, summary
from tests.datasets.layouts import (
    captions,
    coco,
    conceptual_captions,
    flickr8k,
    folder,
    imagenet,
    phrases,
    rsicd,
    tiny_imagenet,
    write,
)
from tests.helpers import ROOT

MADE: dict[type[LocalDataset], Callable[[Path], None]] = {
    ConceptualCaptions: conceptual_captions,
    ImageNet: imagenet,
    TinyImageNet: tiny_imagenet,
    Flickr8k: flickr8k,
    COCO: coco,
    RSICD: rsicd,
    Phrases: phrases,
    Folder: folder,
}


EACH = pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)


@pytest.fixture
def made(kind: type[LocalDataset], tmp_path: Path) -> Path:
    MADE[kind](tmp_path)
    return tmp_path


def test_data_sets_describe_themselves() -> None:
    kinds = {find("datasets", name) for name in available("datasets")}
    assert kinds >= {*MADE, HuggingFace, Scenes}
    for kind in kinds:
        assert issubclass(kind, Dataset)
        assert 20 < len(summary("datasets", kind.name)) <= 100
        assert summary("datasets", kind.name).isascii()


@EACH
def test_data_set_reads_its_pairs_and_pickles(kind: type[LocalDataset], made: Path) -> None:
    assert kind.check(made) == ""
    data = kind(made)
    assert isinstance(data, Sequence)
    pairs = list(data)
    assert len(pairs) == len(data) > 1
    for pair, entry in zip(pairs, data.entries, strict=True):
        assert Path(entry.image).is_file()
        assert pair.image.digest == entry.digest()
        assert pair.caption
    assert data == kind(made)
    assert captions(pickle.loads(pickle.dumps(data))) == captions(data)
    with pytest.raises(IndexError, match=r"item must lie in 0\.\."):
        data[len(data)]
    with pytest.raises(IndexError):
        data[-1]


@EACH
def test_data_set_reads_an_image_with_its_item(
    kind: type[LocalDataset], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(_records, "read_image", lambda path: read.append(path) or base_read(path))
    base_read = nibt.data.images.read_image
    data = kind(made)
    assert not read
    data[1]
    assert len(read) == 1


@EACH
def test_data_set_order_is_independent_of_the_file_system(
    kind: type[LocalDataset], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [(pair.image.source, pair.caption) for pair in kind(made)]
    glob, iterdir = Path.glob, Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(sorted(glob(path, pattern), reverse=True)))
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(iterdir(path), reverse=True)))
    assert [(pair.image.source, pair.caption) for pair in kind(made)] == before


@EACH
def test_data_set_takes_count_and_seed(kind: type[LocalDataset], made: Path) -> None:
    data = kind(made)
    assert captions(kind(made, count=1)) == captions(data)[:1]
    mixed = [kind(made, seed=seed) for seed in range(8)]
    assert {tuple(sorted(captions(one))) for one in mixed} == {tuple(sorted(captions(data)))}
    assert len({tuple(captions(one)) for one in mixed}) > 1
    assert captions(kind(made, seed=3, count=1)) == captions(mixed[3])[:1]
    with pytest.raises(BadOption, match=rf"count must lie in 0\.\.{len(data)}"):
        kind(made, count=len(data) + 1)
    for option in ("count", "seed"):
        with pytest.raises(BadOption, match=f"{option} must not be negative"):
            kind(made, **{option: -1})


@EACH
def test_data_set_records_its_options(kind: type[LocalDataset], made: Path) -> None:
    told = kind(made, seed=4, count=1).record()
    assert find("datasets", told["dataset"]) is kind
    assert (told["folder"], told["seed"], told["count"], told["pairs"]) == (str(made), 4, 1, 1)
    assert {field.name for field in fields(kind) if field.init and field.repr} <= told.keys()
    json.dumps(told)


@EACH
def test_data_set_says_what_is_missing_and_where_to_get_it(kind: type[LocalDataset], tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        told = kind.check(place)
        assert told.startswith(f"{kind.title} cannot be read from")
        assert "lacks" in told
        assert kind.layout in told
        assert kind.home in told
        with pytest.raises(BadInput) as error:
            kind(place)
        assert str(error.value) == told


@EACH
def test_data_set_names_the_row_of_a_broken_image(kind: type[LocalDataset], made: Path) -> None:
    data = kind(made)
    path = Path(data.entries[0].image)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(BadInput, match=path.name) as error:
        data[0]
    assert any(word in str(error.value) for word in (", line ", ", image "))
    path.unlink()
    with pytest.raises(BadInput, match="no such file"):
        kind(made)[0]
    told = kind.check(made)
    assert " images, first " in told
    assert path.name in told
    assert kind.home in told


@EACH
def test_data_set_rejects_a_file_instead_of_a_folder(kind: type[LocalDataset], tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(BadInput, match="lacks a folder of that name"):
        kind(tmp_path / "file")


def test_scenes_need_no_files() -> None:
    assert Scenes.check(count=3) == ""
    told = Scenes(count=3).record()
    assert (told["dataset"], told["count"], told["pairs"]) == ("scenes", 3, 3)


def test_measure_takes_a_data_set(tmp_path: Path) -> None:
    folder(tmp_path)
    rows = nibt.measure("scenes", Folder(tmp_path), ["energy"], "random")  # pyright: ignore[reportArgumentType]
    assert [row.item for row in rows] == [0, 1, 2]
    assert [0 < row.value < 1 for row in rows] == [True, False, False], "a box, the whole image, nothing named"
    assert rows[1].value == pytest.approx(1)
    assert np.isnan(rows[2].value)


def test_data_sets_are_documented() -> None:
    told = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    for name in available("datasets"):
        assert f"`{name}`" in told
        for field in fields(find("datasets", name)):
            if field.init and name != "scenes":
                assert f"`{field.name}`" in told, f"{name}: {field.name}"
