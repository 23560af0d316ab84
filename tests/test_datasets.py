"""Data sets in local folders: each is made here in its published layout, with images of a few pixels."""

import csv
import json
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from helpers import ROOT
from nibt.data.pair import Pair
from nibt.datasets import _records
from nibt.datasets._local import LocalDataset
from nibt.datasets._names import named_spans
from nibt.datasets._records import shuffled, whole_box
from nibt.datasets.base import Dataset
from nibt.datasets.coco import COCO
from nibt.datasets.coco.masks import decoded, inside
from nibt.datasets.conceptual_captions import ConceptualCaptions
from nibt.datasets.flickr8k import Flickr8k
from nibt.datasets.folder import Folder
from nibt.datasets.hugging_face import HuggingFace
from nibt.datasets.imagenet import ImageNet
from nibt.datasets.phrases import Phrases
from nibt.datasets.rsicd import RSICD
from nibt.datasets.scenes import Scenes
from nibt.datasets.tiny_imagenet import TinyImageNet
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.registry import available, find, summary

SIDES = 8, 6  # width and height of the images made here
CLIPPED = [2, 1, 6, 1, 6, 4, 2, 4]  # a polygon: columns 2 to 5, rows 1 to 3


def image(path: Path, shade: int = 0, sides: tuple[int, int] = SIDES, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", sides, (shade, 10, 20)).save(path, "JPEG" if path.suffix.lower() != ".png" else "PNG", **options)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, told: Any) -> None:
    write(path, json.dumps(told))


def names(data: Sequence[Pair] | Dataset) -> list[str]:
    return [Path(pair.image.source).name for pair in data]


def captions(data: Sequence[Pair] | Dataset) -> list[str]:
    return [pair.caption for pair in data]


def conceptual_captions(folder: Path) -> None:
    write(folder / "val.csv", 'caption,file_path\n"a dog, running",b.jpg\na cat,a.jpg\n')
    for name in ("a.jpg", "b.jpg"):
        image(folder / "images" / name)


def imagenet(folder: Path) -> None:
    write(folder / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn02123045 tabby, tabby cat\n")
    rows = ["10,n01440764 0 0 7 5 ", "02,n02123045 1 2 3 4 n02123045 5 5 6 5", "01,n01440764 2 1 2 1"]
    write(folder / "LOC_val_solution.csv", "\nILSVRC2012_val_000000".join(["ImageId,PredictionString", *rows]))
    for number in (10, 2, 1):
        image(folder / f"ILSVRC2012_val_{number:08d}.JPEG")


def tiny_imagenet(folder: Path) -> None:
    """Two synsets with six images each, named as they are there: val_0 to val_11."""
    write(folder / "wnids.txt", "n02124075\nn01443537\n")
    write(folder / "words.txt", "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n")
    rows = [f"val_{i}.JPEG\t{('n02124075', 'n01443537')[i % 2]}\t{i % 3}\t1\t6\t5\n" for i in range(12)]
    write(folder / "val/val_annotations.txt", "".join(rows))
    for i in range(12):
        image(folder / f"val/images/val_{i}.JPEG")
    for synset in ("n02124075", "n01443537"):
        write(folder / f"train/{synset}/{synset}_boxes.txt", f"{synset}_0.JPEG\t0\t0\t7\t5\n")
        image(folder / f"train/{synset}/images/{synset}_0.JPEG")


def flickr8k(folder: Path) -> None:
    write(
        folder / "captions.txt",
        'image,caption\nb.jpg,A dog .\nb.jpg,"A dog , on grass ."\na.jpg,A cat .\na.jpg,Cats .\n',
    )
    for name in ("a.jpg", "b.jpg"):
        image(folder / "Images" / name)


def coco(folder: Path) -> None:
    images = [
        {"id": 9, "file_name": "000000000009.jpg", "width": 8, "height": 6},
        {"id": 2, "file_name": "000000000002.jpg", "width": 8, "height": 6},
        {"id": 5, "file_name": "000000000005.jpg", "width": 8, "height": 6},
    ]
    write_json(
        folder / "annotations/captions_val2017.json",
        {
            "images": images,
            "annotations": [
                {"image_id": 9, "id": 3, "caption": "Two people eat a hot dog."},
                {"image_id": 2, "id": 2, "caption": "A dog runs.\n"},
                {"image_id": 2, "id": 1, "caption": "A man and his dogs"},
            ],
        },
    )
    runs = {"size": [6, 8], "counts": [6, 3, 39]}  # the second column's upper half
    write_json(
        folder / "annotations/instances_val2017.json",
        {
            "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 58, "name": "hot dog"}],
            "annotations": [
                {"id": 12, "image_id": 9, "category_id": 18, "bbox": [0, 0, 1, 1], "segmentation": []},
                {"id": 11, "image_id": 9, "category_id": 1, "bbox": [0.6, 0, 1, 3], "segmentation": runs, "iscrowd": 1},
                {"id": 10, "image_id": 2, "category_id": 18, "bbox": [2.2, 0.6, 3.9, 3], "segmentation": [CLIPPED]},
            ],
        },
    )
    for entry in images:
        image(folder / "val2017" / entry["file_name"])


def rsicd(folder: Path) -> None:
    told = [
        {"filename": name, "split": split, "imgid": i, "sentences": [{"raw": f"{name} {word}"} for word in "xy"]}
        for i, (name, split) in enumerate([("b.jpg", "train"), ("a.jpg", "test")])
    ]
    write_json(folder / "dataset_rsicd.json", {"images": told, "dataset": "rsicd"})
    for name in ("a.jpg", "b.jpg"):
        image(folder / "RSICD_images" / name)


def phrases(folder: Path) -> None:
    write(
        folder / "MS_CXR_Local_Alignment_v1.1.0.csv",
        "category_name,label_text,path,x,y,w,h,image_width,image_height,split\n"
        "Edema,left edema,files/p1.jpg,1,2,3,4,8,6,train\n"
        "Edema,cyst,files/p1.jpg,0,0,2,2,8,6,test\n"
        "Edema,left edema,files/p1.jpg,5,0,3,1,8,6,train\n",
    )
    image(folder / "files/p1.jpg")


def folder(folder: Path) -> None:
    whole = [0, 0, 8, 6]
    told = [
        {
            "image": "b.png",
            "caption": "two cats",
            "boxes": [{"name": "cat", "box": [0, 1, 2, 3]}, {"name": "cup", "box": [1, 1, 1, 1]}],
        },
        {"image": "a.png", "caption": "a mug", "boxes": [{"name": "cup", "box": whole, "spans": [[2, 5]]}]},
        {"image": "a.png", "caption": "a cat", "boxes": [{"name": "cat", "box": whole, "spans": []}]},
    ]
    write(folder / "pairs.jsonl", "\n".join(map(json.dumps, told)) + "\n\n")
    for name in ("a.png", "b.png"):
        image(folder / name)


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


# What holds for all


def test_all_are_found_and_say_what_they_are() -> None:
    kinds = {find("datasets", name) for name in available("datasets")}
    assert kinds >= {*MADE, HuggingFace, Scenes}
    for kind in kinds:
        assert issubclass(kind, Dataset)
        assert 20 < len(summary("datasets", kind.name)) <= 100
        assert summary("datasets", kind.name).isascii()


@EACH
def test_a_data_set_reads_and_is_itself_again(kind: type[LocalDataset], made: Path) -> None:
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
def test_pictures_are_read_when_their_item_is_asked_for(
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
def test_the_order_does_not_depend_on_the_file_system(
    kind: type[LocalDataset], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [(pair.image.source, pair.caption) for pair in kind(made)]
    glob, iterdir = Path.glob, Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(sorted(glob(path, pattern), reverse=True)))
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(iterdir(path), reverse=True)))
    assert [(pair.image.source, pair.caption) for pair in kind(made)] == before


@EACH
def test_count_and_seed(kind: type[LocalDataset], made: Path) -> None:
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


def test_a_shuffle_is_the_same_everywhere() -> None:
    assert shuffled([*"abcdefgh"], 0) == [*"hedcgafb"]


@EACH
def test_options_are_recorded(kind: type[LocalDataset], made: Path) -> None:
    told = kind(made, seed=4, count=1).record()
    assert find("datasets", told["dataset"]) is kind
    assert (told["folder"], told["seed"], told["count"], told["pairs"]) == (str(made), 4, 1, 1)
    assert {field.name for field in fields(kind) if field.init and field.repr} <= told.keys()
    json.dumps(told)


@EACH
def test_what_is_lacking_is_said_and_where_it_is(kind: type[LocalDataset], tmp_path: Path) -> None:
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
def test_missing_and_broken_pictures_are_named_with_their_row(kind: type[LocalDataset], made: Path) -> None:
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
def test_what_is_no_folder_is_refused(kind: type[LocalDataset], tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(BadInput, match="lacks a folder of that name"):
        kind(tmp_path / "file")


def test_scenes_need_nothing() -> None:
    assert Scenes.check(count=3) == ""
    told = Scenes(count=3).record()
    assert (told["dataset"], told["count"], told["pairs"]) == ("scenes", 3, 3)


def test_pairs_are_measured(tmp_path: Path) -> None:
    folder(tmp_path)
    rows = nibt.measure("scenes", Folder(tmp_path), ["energy"], "random")  # pyright: ignore[reportArgumentType]
    assert [row.item for row in rows] == [0, 1, 2]
    assert [0 < row.value < 1 for row in rows] == [True, False, False], "a box, the whole image, nothing named"
    assert rows[1].value == pytest.approx(1)
    assert np.isnan(rows[2].value)


# Tables


def test_a_table_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    wrong = {
        "caption,path\na,a.jpg\n": r"no column file_path: its first line must name caption, file_path \(got c",
        "caption,file_path\na cat, grey,a.jpg\n": r"t\.csv, line 2: expected 2 fields \(got 3\)",
        "caption,file_path\na,a.jpg\n ,a.jpg\n": r"t\.csv, line 3: the caption is blank",
        'caption,file_path\n"a"b,a.jpg\n': "broken table",
        "caption,file_path\n": "there is none",
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
def test_a_closed_file_is_said(tmp_path: Path) -> None:
    conceptual_captions(tmp_path)
    (tmp_path / "val.csv").chmod(0)
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        ConceptualCaptions(tmp_path)


# Conceptual Captions


def test_conceptual_captions_keep_the_tables_order(tmp_path: Path) -> None:
    conceptual_captions(tmp_path)
    data = ConceptualCaptions(tmp_path)
    assert captions(data) == ["a dog, running", "a cat"]
    assert names(data) == ["b.jpg", "a.jpg"]
    write(tmp_path / "other.tsv", f"file_path\tcaption\textra\n{tmp_path / 'images/a.jpg'}\ta \u00fcnt, here\t1\n")
    assert captions(ConceptualCaptions(tmp_path, table="other.tsv")) == ["a \u00fcnt, here"]
    assert names(ConceptualCaptions(tmp_path, table="other.tsv")) == ["a.jpg"]
    write(tmp_path / "more.csv", "caption,file_path\n")
    with pytest.raises(BadInput, match=r"several tables \(more.csv, val.csv\): choose by table="):
        ConceptualCaptions(tmp_path)
    with pytest.raises(BadInput, match=r"lacks none\.csv"):
        ConceptualCaptions(tmp_path, table="none.csv")


def test_the_official_list_of_addresses_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "Validation_GCC-1.1.0-Validation.tsv", 'author : a "life\thttp://example.org/a.jpg\n')
    with pytest.raises(BadInput, match="official list of captions and web addresses"):
        ConceptualCaptions(tmp_path)


# ImageNet


def test_imagenet_in_one_folder_with_boxes(tmp_path: Path) -> None:
    imagenet(tmp_path)
    data = ImageNet(tmp_path)
    assert names(data) == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 10, 2)]
    assert captions(data) == ["a photo of a tench, Tinca tinca"] * 2 + ["a photo of a tabby, tabby cat"]
    assert [[thing.box for thing in pair.objects] for pair in data] == [
        [(2, 1, 1, 1)],
        [(0, 0, 8, 6)],
        [(1, 2, 3, 3), (5, 5, 2, 1)],
    ]
    (thing,) = data[0].objects
    assert data[0].caption[slice(*thing.spans[0])] == thing.name == "tench, Tinca tinca"
    assert names(ImageNet(tmp_path, each=1)) == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2)]
    with pytest.raises(BadInput, match="each must be at most 1"):
        ImageNet(tmp_path, each=2)
    with pytest.raises(BadOption, match="each must be at least 1"):
        ImageNet(tmp_path, each=0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val.txt", "ILSVRC2012_val_00000002.JPEG 1\nILSVRC2012_val_00000001.JPEG 0\n"),
        ("labels.txt", "val/ILSVRC2012_val_00000002.JPEG n02123045\nILSVRC2012_val_00000001.JPEG n01440764\n"),
        ("imagenet_2012_validation_synset_labels.txt", "n01440764\nn02123045\n"),
    ],
)
def test_imagenets_other_labels(tmp_path: Path, name: str, text: str) -> None:
    imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").unlink()
    with pytest.raises(BadInput, match="lacks the labels of its images"):
        ImageNet(tmp_path)
    write(tmp_path / name, text)
    data = ImageNet(tmp_path)
    assert list(zip(names(data), captions(data), strict=True)) == [
        ("ILSVRC2012_val_00000001.JPEG", "a photo of a tench, Tinca tinca"),
        ("ILSVRC2012_val_00000002.JPEG", "a photo of a tabby, tabby cat"),
    ]
    assert not data[0].objects


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("490\n361\n", "line 1: a line that is only a number is a label of the development kit"),
        ("a.JPEG 2\n", r"its place in 0\.\.1 \(got '2'\)"),
        ("a.JPEG n09999999\n", "line 1: the list of names does not know the synset 'n09999999'"),
    ],
)
def test_imagenets_wrong_labels(tmp_path: Path, text: str, message: str) -> None:
    imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").unlink()
    write(tmp_path / "val.txt", text)
    with pytest.raises(BadInput, match=message):
        ImageNet(tmp_path)


def test_places_need_a_list_of_the_synsets_alone(tmp_path: Path) -> None:
    image(tmp_path / "val/ILSVRC2012_val_00000001.JPEG")
    write(tmp_path / "words.txt", "n01440764\ttench, Tinca tinca\n")
    write(tmp_path / "val.txt", "ILSVRC2012_val_00000001.JPEG 0\n")
    with pytest.raises(BadInput, match=r"need LOC_synset_mapping\.txt or synset_words\.txt"):
        ImageNet(tmp_path)
    write(tmp_path / "synset_words.txt", "n01440764 tench, Tinca tinca\n")
    assert captions(ImageNet(tmp_path)) == ["a photo of a tench, Tinca tinca"]
    write(tmp_path / "LOC_synset_mapping.txt", "tench\n")
    with pytest.raises(BadInput, match="line 1: expected the number of a synset and its names"):
        ImageNet(tmp_path)


@pytest.mark.parametrize("place", ["val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_imagenet_in_a_folder_for_each_synset(tmp_path: Path, place: str) -> None:
    write(tmp_path / "words.txt", "n01440764\ttench, Tinca tinca\nn02123045\ttabby, tabby cat\n")
    for synset, number in (("n02123045", 3), ("n01440764", 20), ("n01440764", 4)):
        image(tmp_path / place / synset / f"x_{number}.JPEG")
    data = ImageNet(tmp_path)
    assert names(data) == ["x_4.JPEG", "x_20.JPEG", "x_3.JPEG"]
    assert captions(data)[2] == "a photo of a tabby, tabby cat"
    if place != ".":
        assert "lacks images of the split train" in ImageNet.check(tmp_path, split="train")
    with pytest.raises(BadOption, match="split must be val or train"):
        ImageNet(tmp_path, split="test")


# Tiny ImageNet


def test_the_papers_subset_of_tiny_imagenet(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    data = TinyImageNet(tmp_path)
    assert names(data) == [f"val_{i}.JPEG" for i in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)]
    assert captions(data) == ["a photo of a goldfish, Carassius auratus"] * 5 + ["a photo of a Egyptian cat"] * 5
    assert [pair.objects[0].box for pair in data][:3] == [(1, 1, 6, 5), (0, 1, 7, 5), (2, 1, 5, 5)]
    assert data[9].caption[slice(*data[9].objects[0].spans[0])] == data[9].objects[0].name == "Egyptian cat"
    assert len(TinyImageNet(tmp_path, each=None)) == 12
    train = TinyImageNet(tmp_path, split="train", each=1)
    assert names(train) == ["n01443537_0.JPEG", "n02124075_0.JPEG"]
    assert train[0].objects[0].box == (0, 0, 8, 6)
    with pytest.raises(BadOption, match="test has no labels"):
        TinyImageNet(tmp_path, split="test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("val_0.JPEG\tn02124075\t0\t0\t7", "line 1: expected 6 fields"),
        ("val_0.JPEG\tn02124075\t5\t0\t3\t4", "line 1: a box is its left, top, right and bottom"),
        ("val_0.JPEG\tn02124075\t5\tx\t3\t4", "line 1: a box is its left"),
        ("val_0.JPEG\tn00001740\t0\t0\t3\t4", "does not know the synset 'n00001740'"),
    ],
)
def test_wrong_rows_of_tiny_imagenet(tmp_path: Path, row: str, message: str) -> None:
    tiny_imagenet(tmp_path)
    write(tmp_path / "val/val_annotations.txt", row)
    with pytest.raises(BadInput, match=message):
        TinyImageNet(tmp_path)


# Flickr8k


def test_flickr8ks_choices(tmp_path: Path) -> None:
    flickr8k(tmp_path)
    assert captions(Flickr8k(tmp_path)) == ["A cat .", "A dog ."]
    every = Flickr8k(tmp_path, choice="all")
    assert captions(every) == ["A cat .", "Cats .", "A dog .", "A dog , on grass ."]
    assert names(every) == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    assert len(Flickr8k(tmp_path, choice="all", count=3)) == 3


def test_the_best_caption_is_that_of_its_own_picture(tmp_path: Path) -> None:
    flickr8k(tmp_path)
    image(tmp_path / "Images/b.jpg", shade=250)
    asked: list[str] = []

    def scorer(image: nibt.data.images.ImageInput, texts: Sequence[str]) -> list[float]:
        """The longer the text the better, in a bright image; the shorter, in a dark one."""
        asked.append(Path(image.source).name)
        bright = image.pil_image.getpixel((0, 0))[0] > 100  # pyright: ignore
        return [len(text) * (1 if bright else -1) for text in texts]

    data = Flickr8k(tmp_path, choice="best", scorer=scorer)
    assert not asked
    assert captions(data) == captions(data) == ["Cats .", "A dog , on grass ."]
    assert asked == ["a.jpg", "b.jpg"]
    assert captions(Flickr8k(tmp_path, choice="best", scorer=lambda _, texts: [0.0] * len(texts))) == [
        "A cat .",
        "A dog .",
    ]


def test_the_best_caption_by_a_model(tmp_path: Path) -> None:
    """As docs/datasets.md has it."""
    from nibt.engine.encode import encode

    model = nibt.load_model("scenes")
    scene = Scenes(count=1, seed=1, most=1, named="all")[0]
    (tmp_path / "Images").mkdir()
    scene.image.pil_image.save(tmp_path / "Images/a.png")
    others = [noun for noun in ("rocket", "hammer", "banana") if noun != scene.objects[0].name]
    with (tmp_path / "captions.txt").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "caption"), *(("a.png", noun) for noun in (*others, scene.caption))])

    def scorer(image: Any, texts: Any) -> Any:
        return encode(model.image, [image]) @ encode(model.text, texts).T

    assert captions(Flickr8k(tmp_path, choice="best", scorer=scorer)) == [scene.caption]


def test_a_wrong_choice_is_refused(tmp_path: Path) -> None:
    flickr8k(tmp_path)
    with pytest.raises(BadOption, match="choice must be one of first, best, all"):
        Flickr8k(tmp_path, choice="worst")
    with pytest.raises(BadOption, match="scorer is a function"):
        Flickr8k(tmp_path, choice="best")
    with pytest.raises(BadOption, match="scorer is a function"):
        Flickr8k(tmp_path, scorer=lambda *_: [1])
    for scores in ([1.0], [1.0, float("nan")]):
        with pytest.raises(BadInput, match="line 4: scorer must give a number for each of 2 captions"):
            Flickr8k(tmp_path, choice="best", scorer=lambda *_, scores=scores: scores)[0]


@pytest.mark.parametrize("place", ["", "Flickr8k_text/"])
def test_flickr8ks_own_files(tmp_path: Path, place: str) -> None:
    write(
        tmp_path / f"{place}Flickr8k.token.txt",
        "b.jpg#1\tsecond\nb.jpg#0\tfirst\n10_c.jpg#0\tthird\n"
        "9_c.jpg#0\tfourth\n2258277193_586949ec62.jpg.1#0\tpeople\n",
    )
    write(tmp_path / f"{place}Flickr_8k.testImages.txt", "b.jpg\n9_c.jpg\n")
    for name in ("b.jpg", "10_c.jpg", "9_c.jpg"):
        image(tmp_path / "Flicker8k_Dataset" / name)
    assert captions(Flickr8k(tmp_path, choice="all")) == ["fourth", "third", "first", "second"]
    assert captions(Flickr8k(tmp_path, split="test")) == ["fourth", "first"]
    assert Flickr8k.check(tmp_path) == ""
    assert "lacks Flickr_8k.devImages.txt" in Flickr8k.check(tmp_path, split="dev")
    with pytest.raises(BadOption, match="split must be one of train, dev, test"):
        Flickr8k(tmp_path, split="val")
    write(tmp_path / f"{place}Flickr_8k.testImages.txt", "z.jpg\n")
    with pytest.raises(BadInput, match=r"no caption of z\.jpg"):
        Flickr8k(tmp_path, split="test")
    write(tmp_path / f"{place}Flickr8k.token.txt", "b.jpg#0 first\n")
    with pytest.raises(BadInput, match=r"line 1: expected image\.jpg#0, a tab and a caption"):
        Flickr8k(tmp_path)


# COCO


def test_cocos_objects_and_the_words_that_name_them(tmp_path: Path) -> None:
    coco(tmp_path)
    first, second = COCO(tmp_path)
    assert (first.caption, second.caption) == ("A man and his dogs", "Two people eat a hot dog.")
    (dog,) = first.objects
    assert (dog.name, dog.box, dog.spans) == ("dog", (2, 1, 4, 3), ((14, 18),))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(dog.mask, expected)  # pyright: ignore
    person, other = second.objects
    assert (person.name, person.box, person.spans) == ("person", (1, 0, 1, 3), ((4, 10),))
    expected = np.zeros((6, 8), bool)
    expected[:3, 1] = True
    np.testing.assert_array_equal(person.mask, expected)  # pyright: ignore
    assert (other.name, other.mask, other.spans) == ("dog", None, ()), "a hot dog is no dog"
    assert captions(COCO(tmp_path, choice="all"))[:2] == ["A man and his dogs", "A dog runs."]
    assert COCO(tmp_path, choice="all")[1].objects[0].spans == ((2, 5),)
    assert not COCO(tmp_path, objects=False)[0].objects
    assert "lacks annotations/captions_train2017.json" in COCO.check(tmp_path, split="train2017")
    (tmp_path / "annotations/instances_val2017.json").unlink()
    assert "lacks annotations/instances_val2017.json" in COCO.check(tmp_path)
    assert COCO.check(tmp_path, objects=False) == ""


def test_wrong_files_of_coco(tmp_path: Path) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations/captions_val2017.json"
    for told, message in (
        ("{", "this is not JSON"),
        ("{}", "not laid out as expected: 'annotations' is lacking"),
        ("[]", "not laid out as expected"),
        ('{"annotations": [], "images": []}', "there is none"),
    ):
        write(path, told)
        with pytest.raises(BadInput, match=message):
            COCO(tmp_path)
    coco(tmp_path)
    image(tmp_path / "val2017/000000000002.jpg", sides=(4, 3))
    with pytest.raises(BadInput, match=r"the boxes are of an image of 8 x 6 pixels, and .*0002\.jpg has 4 x 3"):
        COCO(tmp_path)[0]


def test_a_polygon_holds_the_pixels_whose_centres_it_holds() -> None:
    triangle = inside(np.array([[0.0, 0], [4, 0], [0, 4]]), (5, 5))
    # centres (x + 0.5, y + 0.5) below the line x + y = 4; one on the slanted line itself is outside
    np.testing.assert_array_equal(triangle, [[x + y + 1 < 4 for x in range(5)] for y in range(5)])
    np.testing.assert_array_equal(triangle, inside(np.array([[0.0, 4], [4, 0], [0, 0]]), (5, 5)))
    assert inside(np.array([[-3.0, -3], [9, -3], [9, 9], [-3, 9]]), (4, 5)).all()
    assert not inside(np.array([[9.0, 0], [12, 0], [12, 4]]), (4, 5)).any()
    ring = inside(np.array([[0.0, 0], [5, 0], [5, 5], [0, 5], [0, 0], [1, 1], [4, 1], [4, 4], [1, 4], [1, 1]]), (5, 5))
    assert ring.sum() == 16
    two = decoded([[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]], (4, 4), "x")
    assert two.sum() == 7, "polygons of one object are joined"


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[0, 0, 1, 1]], "three points or more"),
        ([[0, 0, 1, 1, 2, float("nan")]], "three points or more"),
        ({"size": [3, 3], "counts": [9]}, r"the mask is of an image of \[3, 3\]"),
        ({"size": [6, 8], "counts": [9]}, r"must add up to its 48 pixels \(got 9\)"),
        ({"size": [6, 8], "counts": [50, -2]}, "must add up"),
        ({"size": [6, 8], "counts": []}, "must add up"),
    ],
)
def test_wrong_masks(outline: Any, message: str) -> None:
    with pytest.raises(BadInput, match=f"image 9: .*{message}"):
        decoded(outline, SIDES, "image 9")


def test_compressed_runs_need_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    outline = {"size": [6, 8], "counts": "63W1"}
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(Unsupported, match=r"pip install 'nibt\[data\]'"):
        decoded(outline, SIDES, "image 9")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_masks_are_those_of_pycocotools() -> None:
    tool = pytest.importorskip("pycocotools.mask", reason="needs pycocotools: pip install 'nibt[data]'")
    runs = {"size": [6, 8], "counts": [6, 3, 39]}
    compressed = tool.frPyObjects(runs, 6, 8)
    np.testing.assert_array_equal(decoded(compressed, SIDES, "x"), decoded(runs, SIDES, "x"))
    random = np.random.default_rng(0)
    for _ in range(20):
        angles, radii = np.sort(random.uniform(0, 2 * np.pi, 12)), random.uniform(20, 45, 12)
        points = np.stack([50 + radii * np.cos(angles), 50 + radii * np.sin(angles)], 1)
        theirs = tool.decode(tool.frPyObjects([points.ravel().tolist()], 100, 100))[..., 0].astype(bool)
        ours = inside(points, (100, 100))
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("A PERSON, people; persons' and a personal man", {"person": ["PERSON", "people", "persons"]}),
        ("hot dogs, a hot\ndog, dogs", {"hot dog": ["hot dogs", "hot\ndog"], "dog": ["dogs"]}),
        (
            "knives on couches by buses with two teddy bears",
            {"knife": ["knives"], "couch": ["couches"], "bus": ["buses"], "teddy bear": ["teddy bears"]},
        ),
        ("a dog-walker underdog", {}),
        ("cherries but no cherry-pie", {"cherry": ["cherries"]}),
        ("", {}),
    ],
)
def test_what_names_a_category(caption: str, found: dict[str, list[str]]) -> None:
    known = ["person", "dog", "hot dog", "knife", "couch", "bus", "bear", "teddy bear", "cherry"]
    spans = named_spans(caption, known)
    assert {name: [caption[slice(*span)] for span in places] for name, places in spans.items()} == found
    assert named_spans(caption, []) == {}


# RSICD


def test_rsicds_splits_and_sentences(tmp_path: Path) -> None:
    rsicd(tmp_path)
    assert captions(RSICD(tmp_path)) == ["b.jpg x", "a.jpg x"]
    assert captions(RSICD(tmp_path, split="test", choice="all")) == ["a.jpg x", "a.jpg y"]
    with pytest.raises(BadOption, match="split must be one of test, train"):
        RSICD(tmp_path, split="val")
    for told in (
        {"images": [{"filename": "a.jpg", "split": "test", "sentences": []}]},
        {"images": [{"filename": "a.jpg", "split": "test"}]},
        {"images": 3},
        [],
    ):
        write_json(tmp_path / "dataset_rsicd.json", told)
        with pytest.raises(BadInput, match=r"dataset_rsicd\.json is not laid out as expected"):
            RSICD(tmp_path)


# Phrases


def test_a_phrase_names_all_its_boxes(tmp_path: Path) -> None:
    phrases(tmp_path)
    first, second = Phrases(tmp_path)
    assert (first.caption, second.caption) == ("left edema", "cyst")
    assert [(thing.name, thing.box, thing.spans) for thing in first.objects] == [
        ("left edema", (1, 2, 3, 4), ((0, 10),)),
        ("left edema", (5, 0, 3, 1), ((0, 10),)),
    ]
    assert captions(Phrases(tmp_path, split="test")) == ["cyst"]
    with pytest.raises(BadOption, match="split must be one of test, train"):
        Phrases(tmp_path, split="val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,phrase,x,y,w\n", "no column h"),
        ("file,phrase,x,y,w,h\na.jpg,p,0,0,1,1\n", "no column image, or path as in MS-CXR"),
        ("image,phrase,x,y,w,h\na.jpg,p,0,zero,1,1\n", "line 2: x, y, w and h must be numbers"),
        (
            "image,phrase,x,y,w,h,image_width,image_height\na.jpg,p,0,0,1,1,x,2\n",
            "line 2: image_width and image_height",
        ),
    ],
)
def test_wrong_tables_of_phrases(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "mine.csv", text)
    with pytest.raises(BadInput, match=message):
        Phrases(tmp_path)


def test_boxes_must_lie_in_their_picture(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    write(
        tmp_path / "mine.csv",
        "image,phrase,x,y,w,h\na.jpg,p,0,0,8.9,6\na.jpg,q,4,0,6,1\na.jpg,r,0,0,-1,1\na.jpg,s,0,0,nan,1\n",
    )
    data = Phrases(tmp_path)
    assert data[0].objects[0].box == (0, 0, 8, 6)
    with pytest.raises(BadInput, match=r"mine\.csv, line 3, a\.jpg: the box \[4\.0, .*outside of .* 8 x 6 pixels"):
        data[1]
    for item in (2, 3):
        with pytest.raises(BadInput, match="a box is left, top, width and height"):
            data[item]


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((0.4, 0.6, 3.0, 2.0), (0, 1, 3, 2)),
        ((3.2, 3.2, 0.1, 0.0), (3, 3, 1, 1)),
        ((8.0, 6.0, 0.0, 0.0), (7, 5, 1, 1)),
        ((-1.0, -1.0, 10.0, 8.0), (0, 0, 8, 6)),
    ],
)
def test_boxes_go_to_the_nearest_pixels(box: tuple[float, ...], whole: tuple[int, ...]) -> None:
    assert whole_box(box, SIDES, "x") == whole  # pyright: ignore


# A folder of pairs


def test_a_folders_boxes(tmp_path: Path) -> None:
    folder(tmp_path)
    data = Folder(tmp_path)
    assert names(data) == ["b.png", "a.png", "a.png"]
    assert [[(thing.name, thing.box, thing.spans) for thing in pair.objects] for pair in data] == [
        [("cat", (0, 1, 2, 3), ((4, 8),)), ("cup", (1, 1, 1, 1), ())],
        [("cup", (0, 0, 8, 6), ((2, 5),))],
        [("cat", (0, 0, 8, 6), ())],
    ]
    write(tmp_path / "pairs.csv", "image,caption\n")
    with pytest.raises(BadInput, match=r"both pairs\.csv and pairs\.jsonl"):
        Folder(tmp_path)
    (tmp_path / "pairs.jsonl").unlink()
    write(tmp_path / "pairs.csv", '\ufeffimage,caption\nb.png,"a cat, a dog"\n')
    assert captions(Folder(tmp_path)) == ["a cat, a dog"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'image'}", "this is not JSON"),
        ('["a.png", "a cat"]', "not laid out as expected"),
        ('{"image": "a.png"}', "'caption' is lacking"),
        ('{"image": "a.png", "caption": 3}', r"the caption must be a text \(got int\)"),
        ('{"image": "a.png", "caption": "a", "boxes": 3}', "boxes must be a list"),
        ('{"image": "a.png", "caption": "a", "boxes": [{"name": "a"}]}', "'box' is lacking"),
        ('{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [1, 2, 3]}]}', "not enough values"),
        ('{"image": "a.png", "caption": "a", "boxes": [{"name": 1, "box": [1, 2, 3, 4]}]}', "must be a text"),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [0, 0, 1, 1], "spans": [[0, 2]]}]}',
            r"a span is .* 1 characters \(got 0, 2\)",
        ),
    ],
)
def test_wrong_lines_of_json(tmp_path: Path, line: str, message: str) -> None:
    image(tmp_path / "a.png")
    write(tmp_path / "pairs.jsonl", '{"image": "a.png", "caption": "a cat"}\n' + line)
    with pytest.raises(BadInput, match=rf"pairs\.jsonl, line 2.*{message}"):
        Folder(tmp_path)


def test_boxes_of_a_picture_that_is_to_be_turned_are_left_out(tmp_path: Path) -> None:
    folder(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6
    image(tmp_path / "b.png", exif=turned)
    pair = Folder(tmp_path)[0]
    assert pair.image.size == (6, 8)
    assert pair.objects == ()
    assert "boxes were left out" in pair.notes[0]


# Hugging Face


def test_hugging_face_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(Unsupported, match=r"needs the package datasets: pip install 'nibt\[data\]'"):
        HuggingFace(tmp_path)
    assert "nibt[data]" in HuggingFace.check(tmp_path)


def test_a_saved_data_set_of_hugging_face(tmp_path: Path) -> None:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'nibt[data]'")
    images = [Image.new("RGB", SIDES, (shade, 0, 0)) for shade in (10, 200, 90)]
    made = package.Dataset.from_dict(
        {"photo": images, "text": ["a cat", "a dog", "a cup"], "several": [["a", "b"], ["c", "d"], ["e", "f"]]},
        features=package.Features(
            {
                "photo": package.Image(),
                "text": package.Value("string"),
                "several": package.Sequence(package.Value("string")),
            }
        ),
    )
    made.save_to_disk(tmp_path / "one")
    package.DatasetDict({"test": made}).save_to_disk(tmp_path / "two")
    data = HuggingFace(tmp_path / "one", image="photo", caption="text")
    assert captions(data) == ["a cat", "a dog", "a cup"]
    assert [pair.image.pil_image.getpixel((0, 0))[0] for pair in data] == [10, 200, 90]  # pyright: ignore
    assert data[1].image.source.endswith("one, row 1")
    assert HuggingFace.check(tmp_path / "one", image="photo", caption="text") == ""
    every = HuggingFace(tmp_path / "two", image="photo", caption="several", choice="all", split="test", seed=1, count=4)
    assert len(every) == 4
    with pytest.raises(BadOption, match=r"split must be one of test \(got None\)"):
        HuggingFace(tmp_path / "two")
    with pytest.raises(BadOption, match="saved without splits"):
        HuggingFace(tmp_path / "one", split="test")
    with pytest.raises(BadOption, match=r"image must be one of photo, text, several \(got 'image'\)"):
        HuggingFace(tmp_path / "one")
    with pytest.raises(BadInput, match="lacks a saved data set"):
        HuggingFace(tmp_path)


def test_broken_rows_of_hugging_face(tmp_path: Path) -> None:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'nibt[data]'")
    made = package.Dataset.from_dict(
        {"image": [{"path": None, "bytes": b"no image"}, None], "caption": ["a cat", "a dog"]},
        features=package.Features({"image": package.Image(), "caption": package.Value("string")}),
    )
    made.save_to_disk(tmp_path / "broken")
    data = HuggingFace(tmp_path / "broken")
    for item in (0, 1):
        with pytest.raises(BadInput, match=f"broken, row {item}: "):
            data[item]


# The command


def test_data_sets_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    from nibt.cli.main import main

    with pytest.raises(SystemExit):
        main(["list", "datasets"])
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == available("datasets")
    assert all(line.endswith(f"   {summary('datasets', line.split()[0])}") for line in told)


def test_every_data_set_is_documented() -> None:
    told = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    for name in available("datasets"):
        assert f"`{name}`" in told
        for field in fields(find("datasets", name)):
            if field.init and name != "scenes":
                assert f"`{field.name}`" in told, f"{name}: {field.name}"
