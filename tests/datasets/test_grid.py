"""Tests of ``nibt.datasets.grid``."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.cli.commands.evaluation import DataOptions, open_data
from nibt.data.ground_truth import GroundTruth, ground_truth
from nibt.data.images import Region
from nibt.data.pair import Pair
from nibt.datasets._opening import open_pairs
from nibt.datasets.folder import Folder
from nibt.datasets.grid import ImageGrid
from nibt.datasets.imagenet import TinyImageNet
from nibt.datasets.open_images import OpenImages
from nibt.datasets.scenes import Scenes
from nibt.datasets.segmentation import PascalVOC
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation.bench.run import Benchmark
from nibt.jobs.run import _absolute_name
from tests import tiny
from tests.datasets.layouts import captions, open_images, pascal_voc, tiny_imagenet, write

COLORS = {"cat": (250, 0, 0), "dog": (0, 250, 0), "owl": (0, 0, 250), "ape": (250, 250, 0), "eel": (0, 250, 250)}


def animals(folder: Path) -> Path:
    """Images of 30 x 20 pixels, each in the color of its animal, with a box at the right side."""
    rows = []
    for name, color in COLORS.items():
        for number in range(2):
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 20), color).save(folder / f"{name}{number}.png")
            box = {"name": name, "box": [20, 0, 10, 10]}
            rows.append({"image": f"{name}{number}.png", "caption": f"one {name}", "boxes": [box]})
    write(folder / "pairs.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    return folder


def color_of(pair: Pair, place: int, cell: int) -> tuple[int, ...]:
    """Return the color in the middle of a cell."""
    left, top = place % 2 * cell + cell // 2, place // 2 * cell + cell // 2
    pixel = pair.image.pil_image.getpixel((left, top))
    assert isinstance(pixel, tuple)
    return pixel


def test_grid_has_four_labels_and_the_words_of_its_cells(tmp_path: Path) -> None:
    data = ImageGrid(Folder(animals(tmp_path)), count=40, cell=40)
    counts = set()
    for pair in data:
        assert pair.image.size == (80, 80)
        assert len({obj.name for obj in pair.objects}) == len(pair.objects) == 4
        named = [obj for obj in pair.objects if obj.spans]
        counts.add(len(named))
        for place, obj in enumerate(pair.objects):
            assert color_of(pair, place, 40) == COLORS[obj.name]
            # a crop of 20 x 20 at the right side; its right half is the box, with twice the pixels
            assert obj.box == (place % 2 * 40 + 20, place // 2 * 40, 20, 20)
        words = [pair.caption[slice(*span)] for obj in named for span in obj.spans]
        assert words == [obj.name for obj in named]
        others = {obj.name for obj in pair.objects} - set(words)
        assert not others & set(pair.caption.replace(",", "").split())
    assert counts == {1, 2, 3, 4}


@pytest.mark.parametrize(("named", "count"), [("one", 1), ("two", 2), ("three", 3), ("all", 4)])
def test_grid_names_a_number_of_cells(tmp_path: Path, named: str, count: int) -> None:
    animals(tmp_path)
    data = ImageGrid(str(tmp_path), count=8, named=named)
    assert {sum(bool(obj.spans) for obj in pair.objects) for pair in data} == {count}
    if named == "all":
        assert data[0].caption.count(",") == 2
        assert data[0].caption.startswith("a photo of a")
        orders = {pair.caption.split()[4].strip(",") == pair.objects[0].name for pair in data}
        assert orders == {True, False}, "words are not in the order of the cells"


def test_grid_is_drawn_item_by_item(tmp_path: Path) -> None:
    source = f"folder:{animals(tmp_path)}"
    data, more = ImageGrid(source, count=3, seed=5), ImageGrid(source, count=30, seed=5)
    assert captions(data) == captions(more)[:3]
    assert [pair.image.digest for pair in data] == [more[item].image.digest for item in range(3)]
    assert more[20].image.digest == pickle.loads(pickle.dumps(more))[20].image.digest
    assert captions(ImageGrid(source, count=30, seed=6)) != captions(more)
    assert more.fingerprint() == ImageGrid(source, count=30, seed=5).fingerprint()
    assert more.fingerprint() != ImageGrid(source, count=30, seed=6).fingerprint()
    before = data.fingerprint()
    for path in tmp_path.glob("*.png"):
        Image.new("RGB", (30, 20), (1, 2, 3)).save(path)
    assert ImageGrid(source, count=3, seed=5).fingerprint() != before
    with pytest.raises(IndexError, match=r"item must be between 0 and 2 \(got 3\)"):
        data[3]
    json.dumps(data.record())
    assert (data.record()["dataset"], data.record()["folder"], data.record()["pairs"]) == ("grid", source, 3)


def test_grid_keeps_masks_of_scenes() -> None:
    scenes = Scenes(count=60, seed=3, fewest=1, most=1)
    data = ImageGrid(scenes, count=6, cell=128)  # the size of a scene, so that nothing is resized
    for item, pair in enumerate(data):
        for place, (picture, obj) in enumerate(zip(data.pictures(item), pair.objects, strict=True)):
            original = scenes[picture.item]
            assert obj.name == original.objects[0].name == picture.label
            left, top = place % 2 * 128, place // 2 * 128
            expected = np.zeros((256, 256), bool)
            expected[top : top + 128, left : left + 128] = original.objects[0].mask
            np.testing.assert_array_equal(obj.mask, expected)  # pyright: ignore
            part = np.array(pair.image.pil_image)[top : top + 128, left : left + 128]
            np.testing.assert_array_equal(part, np.array(original.image.pil_image))


@pytest.mark.slow
def test_no_cell_has_an_object_of_another_label() -> None:
    scenes = Scenes(count=200, seed=4, fewest=2, most=4, named="one")
    data = ImageGrid(scenes, count=40)
    for item in range(len(data)):
        pictures = data.pictures(item)
        for one in pictures:
            names = {obj.name for obj in scenes[one.item].objects}
            assert names & {other.label for other in pictures} == {one.label}


def test_grid_takes_cells_as_the_truth(tmp_path: Path) -> None:
    pair = ImageGrid(Folder(animals(tmp_path)), count=1, cell=30, truth="cells")[0]
    assert [obj.box for obj in pair.objects] == [(0, 0, 30, 30), (30, 0, 30, 30), (0, 30, 30, 30), (30, 30, 30, 30)]
    assert all(obj.mask is None for obj in pair.objects)


def test_grid_moves_points(tmp_path: Path) -> None:
    open_images(tmp_path)
    names = ["Tree", "Sky", "Car", "Dog"]
    write(
        tmp_path / "oidv7-class-descriptions.csv", "LabelName,DisplayName\n" + "".join(f"/m/{n},{n}\n" for n in names)
    )
    rows = [
        f"{image},{x},0.5,/m/{name},{answer}"
        for image, name in zip("abcd", names, strict=True)
        for x, answer in ((0.5, "yes"), (0.0, "no"), (0.4, "no"))
    ]
    write(
        tmp_path / "oidv7-val-annotations-point-labels.csv",
        "ImageId,X,Y,Label,EstimatedYesNo\n" + "\n".join(rows) + "\n",
    )
    for name in "abcd":
        Image.new("RGB", (8, 6)).save(tmp_path / f"validation/{name}.jpg")
    pair = ImageGrid(OpenImages(tmp_path), count=1, cell=60, named="all")[0]
    for place, obj in enumerate(pair.objects):
        # the crop has the columns 1 to 6, of 10 pixels each in the grid; the point at column 0 is outside
        assert obj.box is None
        left, top = place % 2 * 60, place // 2 * 60
        assert obj.points == ((left + 35, top + 35, True), (left + 25, top + 35, False))


def test_labels_of_synsets_are_their_first_names(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    with pytest.raises(BadInput, match=r"tiny_imagenet has 2: Egyptian cat, goldfish\): use another one"):
        ImageGrid(TinyImageNet(tmp_path))
    words = [f"n{number:08d}\tword{number}, other{number}\n" for number in range(4)]
    write(tmp_path / "words.txt", "".join(words))
    for number in range(4):
        Image.new("RGB", (20, 30)).save(tmp_path / f"n{number:08d}_1.JPEG")
        (tmp_path / f"val/n{number:08d}").mkdir(parents=True)
        Image.new("RGB", (20, 30)).save(tmp_path / f"val/n{number:08d}/a.JPEG")
    pair = ImageGrid(f"imagenet:{tmp_path}", count=1, cell=20)[0]
    assert {obj.name for obj in pair.objects} == {f"word{number}" for number in range(4)}
    assert {obj.box for obj in pair.objects} == {(0, 0, 20, 20), (20, 0, 20, 20), (0, 20, 20, 20), (20, 20, 20, 20)}, (
        "these images have no boxes, so their cells are the objects"
    )


def truth_of(pair: Pair) -> GroundTruth:
    """Return the truth of a pair whose whole image is visible."""
    model = tiny.model("clip")
    words = model.text.prepare([pair.caption]).words
    assert words is not None
    return ground_truth(pair, Region(0.0, 0.0, *map(float, pair.image.size)), words[0])


def test_truth_of_a_grid_has_the_named_cells_and_the_others(tmp_path: Path) -> None:
    data = ImageGrid(Folder(animals(tmp_path)), count=8, cell=40, truth="cells")
    for pair in data:
        truth = truth_of(pair)
        named = [obj for obj in pair.objects if obj.spans]
        assert truth.mask is not None
        assert truth.mask.sum() == len(named) * 40 * 40
        assert [int(mask.sum()) for mask in truth.others] == [40 * 40] * (4 - len(named))
        assert not any((truth.mask & mask).any() for mask in truth.others)
        assert truth.named is not None
        assert truth.named.any()


@pytest.mark.slow
def test_grid_is_taken_by_measure_batch_audit_and_bench(tmp_path: Path) -> None:
    folder = animals(tmp_path / "animals")
    name = f"grid:folder:{folder}"
    data = open_pairs(name)
    assert (len(data), data.name) == (1000, "grid")
    few = ImageGrid(f"folder:{folder}", count=4, truth="cells")
    rows = nibt.measure(tiny.model("clip"), few, ["pointing_game", "own_object"], "random", side="image")
    assert {row.value for row in rows if not np.isnan(row.value)} <= {0.0, 1.0}
    assert len(rows) == 8
    opened = open_data(DataOptions(data=name, seed=3, data_option=["named=all"]), 5)
    assert captions(opened)[:2] == captions(ImageGrid(f"folder:{folder}", count=2, seed=3, named="all"))
    one = open_data(DataOptions(data="grid:scenes", data_option=["fewest=1", "most=1", "cell=64"]), 5)
    assert isinstance(one, ImageGrid)
    assert (one.options, one.cell, one.seed) == ({"fewest": 1, "most": 1}, 64, 0)
    with pytest.raises(BadOption, match="-D cannot set options"):
        open_data(DataOptions(data="grid:scenes", data_option=["options=1"]), 5)
    with pytest.raises(UnknownName, match="unknown option 'colour'"):
        open_data(DataOptions(data="grid:scenes", data_option=["colour=red"]), 5)
    job = nibt.batch("scenes", few, tmp_path / "job", method="center", target="cosine")
    assert [row["caption"] for row in job.rows(("row", "caption"))] == captions(few)
    plan: dict[str, Any] = {
        "models": ["scenes"],
        "methods": ["center"],
        "metrics": ["pointing_game"],
        "sides": ["image"],
        "data": [
            {"name": "grid:folder", "options": {"folder": str(folder), "count": 3}, "label": "a"},
            {"name": "grid", "options": {"folder": f"folder:{folder}", "count": 3}, "label": "b"},
            {"name": name, "options": {"count": 3}, "label": "c"},
            {"name": "grid:scenes", "options": {"count": 3, "options": {"count": 30}}, "label": "d"},
        ],
    }
    run = nibt.benchmark(plan, tmp_path / "run")
    assert isinstance(run, Benchmark)
    assert run.request["lengths"] == dict.fromkeys("abcd", 3)
    frame = run.frame()
    for label in "bc":
        assert frame[frame.data == label].value.tolist() == frame[frame.data == "a"].value.tolist()
    audit = nibt.audit("scenes", list(replace(few, count=8)), "center", quick=True)
    assert audit.verdict


@pytest.mark.usefixtures("unchecked")
def test_grid_rejects_wrong_options(tmp_path: Path) -> None:
    source = Folder(animals(tmp_path / "animals"))
    for options, message in (
        ({"named": "five"}, r"named must be one of one, two, three, some, all \(got 'five'\)"),
        ({"truth": "boxes"}, r"truth must be one of objects, cells \(got 'boxes'\)"),
        ({"cell": 7}, r"cell must be between 8 and 4,096 \(got 7\)"),
        ({"seed": -1}, "must be between 0 and"),
        ({"count": -1}, "must be between 0 and"),
        ({"options": "split=val"}, "options must be a mapping"),
    ):
        with pytest.raises(BadOption, match=message):
            ImageGrid(source, **options)  # pyright: ignore
    for name, error, message in (
        ("coco", BadOption, "coco needs its folder: give coco:FOLDER"),
        ("scenes:x", BadOption, "the data set scenes takes no folder"),
        (
            "cocoa:x",
            UnknownName,
            "unknown dataset 'cocoa'. Did you mean 'coco'[?] There is no file or folder of that name",
        ),
        (f"coco:{tmp_path}/none", BadInput, "COCO cannot be read from"),
    ):
        with pytest.raises(error, match=message):
            ImageGrid(name)
    with pytest.raises(UnknownName, match="unknown option 'splits'"):
        ImageGrid(f"coco:{tmp_path}", options={"splits": "val"})


def test_grid_rejects_data_sets_with_too_few_labels(tmp_path: Path) -> None:
    pascal_voc(tmp_path / "voc")
    with pytest.raises(BadInput, match=r"at least 4 labels.*\(pascal_voc has 3: airplane, dog, potted plant\)"):
        ImageGrid(PascalVOC(tmp_path / "voc"))
    write(tmp_path / "pairs.csv", "image,caption\na.png,a cat\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"at least 4 labels.*pairs\.csv' has none\)"):
        ImageGrid(str(tmp_path / "pairs.csv"))
    everywhere = [
        {"image": "a.png", "caption": f"a {name}", "boxes": [{"name": other, "box": [0, 0, 4, 4]} for other in COLORS]}
        for name in COLORS
    ]
    write(tmp_path / "all/pairs.jsonl", "\n".join(map(json.dumps, everywhere)))
    Image.new("RGB", (8, 8)).save(tmp_path / "all/a.png")
    with pytest.raises(BadInput, match=r"has no four pictures for the grid 0 in which no other picture's label occurs"):
        ImageGrid(Folder(tmp_path / "all"))[0]


def test_grid_reports_a_broken_picture(tmp_path: Path) -> None:
    data = ImageGrid(Folder(animals(tmp_path)), count=1)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadInput, match=r"pairs\.jsonl, line \d+: .*\.png"):
        data[0]


def test_jobs_keep_absolute_names_of_grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["grid:coco:here", "grid:scenes", "scenes", "coco:here", "here", "grid:here"]
    here = str(tmp_path / "here")
    assert [_absolute_name(name) for name in names] == [
        f"grid:coco:{here}",
        "grid:scenes",
        "scenes",
        f"coco:{here}",
        here,
        f"grid:{here}",
    ]


@pytest.mark.slow
def test_the_middle_of_a_grid_hits_every_cell_but_has_no_more_energy(tmp_path: Path) -> None:
    """As the documents say of ``truth="cells"``: the control ``center`` is even over the cells."""
    data = ImageGrid(Folder(animals(tmp_path)), count=6, cell=64, named="one", truth="cells")
    rows = nibt.measure("scenes", data, ["pointing_game", "energy"], "center", side="image")
    assert {row.value for row in rows if row.metric == "pointing_game"} == {1.0}
    assert [row.value for row in rows if row.metric == "energy"] == pytest.approx([0.25] * 6, abs=1e-3)
