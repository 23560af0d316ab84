"""Tests of ``nibt.datasets.folder``."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.ground_truth import seen_mask
from nibt.datasets._opening import open_pairs
from nibt.datasets.folder import Folder
from nibt.errors import BadInput
from tests import tiny
from tests.datasets.layouts import captions, folder, image, names, write


def test_folder_reads_boxes(tmp_path: Path) -> None:
    folder(tmp_path)
    data = Folder(tmp_path)
    assert names(data) == ["b.png", "a.png", "a.png"]
    assert [[(obj.name, obj.box, obj.spans) for obj in pair.objects] for pair in data] == [
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
        ('["a.png", "a cat"]', r"must be an object with image and caption \(got \['a.png', 'a cat'\]\)"),
        ('{"image": "a.png"}', "'caption' is missing"),
        ('{"image": "a.png", "caption": 3}', r"the caption must be a text \(got int\)"),
        (
            '{"image": "a.png", "caption": "a", "boxes": 3}',
            r"boxes must be a list of objects with name and box \(got 3\)",
        ),
        (
            '{"image": "a.png", "caption": "a", "masks": "m.png"}',
            "unknown key 'masks'. Did you mean 'mask'. Known keys: boxes, caption, image, mask",
        ),
        ('{"image": "a.png", "captoin": "a"}', "unknown key 'captoin'. Did you mean 'caption'"),
        ('{"image": "a.png", "caption": "a", "mask": 3}', r": mask must be the path of an image \(got 3\)"),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "bbox": [1, 2, 3, 4]}]}',
            "unknown key 'bbox'. Did you mean 'box'",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a"}]}',
            r"boxes\[0\].box must be left, .*\(got None\)",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [3]}',
            r"boxes\[0\] must be an object with name and box \(got 3\)",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"box": [1, 2, 3, 4]}]}',
            r"boxes\[0\].name must .* \(got nothing\)",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "mask": 3}]}',
            r"boxes\[0\].mask must be the path",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [1, 2, 3]}]}',
            r"boxes\[0\].box must be left",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [1, 2, 0, 4]}]}',
            r"boxes\[0\].box must have a width and a height above 0 \(got \[1, 2, 0, 4\]\)",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": 1, "box": [1, 2, 3, 4]}]}',
            r"boxes\[0\].name must be a text \(got 1\)",
        ),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [0, 0, 1, 1], "spans": [[0, 2]]}]}',
            r"boxes\[0\].spans must be .* end <= 1, .* \(got \[\[0, 2\]\]\)",
        ),
    ],
)
def test_folder_rejects_wrong_lines(tmp_path: Path, line: str, message: str) -> None:
    image(tmp_path / "a.png")
    write(tmp_path / "pairs.jsonl", '{"image": "a.png", "caption": "a cat"}\n' + line)
    with pytest.raises(BadInput, match=rf"pairs\.jsonl, line 2.*{message}"):
        Folder(tmp_path)


def test_folder_leaves_out_boxes_of_a_rotated_image(tmp_path: Path) -> None:
    folder(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6
    image(tmp_path / "b.png", exif=turned)
    pair = Folder(tmp_path)[0]
    assert pair.image.size == (6, 8)
    assert pair.objects == ()
    assert "boxes and masks are ignored" in pair.notes[0]


def masks(folder: Path) -> np.ndarray:
    """Write an image, and masks of it in several files."""
    image(folder / "a.png")  # 8 x 6
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:7] = 1
    Image.fromarray(mask).save(folder / "one.png")
    Image.fromarray(255 * mask).convert("RGB").save(folder / "color.png")
    Image.fromarray(mask.astype(bool)).save(folder / "bits.png")
    Image.fromarray(255 * mask).save(folder / "loss.jpg")
    Image.fromarray(255 * mask).convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(mask[:, :7]).save(folder / "narrow.png")
    Image.fromarray(0 * mask).save(folder / "empty.png")
    write(folder / "text.png", "no image")
    return mask.astype(bool)


def test_folder_reads_masks(tmp_path: Path) -> None:
    mask = masks(tmp_path)
    write(tmp_path / "pairs.csv", "image,caption,mask\na.png,a cat,one.png\na.png,a cat,\na.png,a cat,color.png\n")
    first, without, color = Folder(tmp_path)
    (obj,) = first.objects
    assert (obj.box, obj.spans, obj.mask.tolist()) == ((2, 1, 5, 2), ((0, 5),), mask.tolist())
    assert without.objects == ()
    assert color.objects[0].mask.tolist() == mask.tolist()
    (tmp_path / "pairs.csv").unlink()
    boxes = (
        '[{"name": "cat", "mask": "bits.png"}, {"name": "cup", "mask": "one.png", "box": [0, 0, 2, 2], "spans": []}]'
    )
    write(tmp_path / "pairs.jsonl", f'{{"image": "a.png", "caption": "a cat", "boxes": {boxes}, "mask": "one.png"}}')
    (pair,) = Folder(tmp_path)
    assert [(obj.name, obj.box, obj.spans) for obj in pair.objects] == [
        ("cat", (2, 1, 5, 2), ((2, 5),)),
        ("cup", (0, 0, 2, 2), ()),
        ("", (2, 1, 5, 2), ((0, 5),)),
    ]
    assert all(obj.mask.tolist() == mask.tolist() for obj in pair.objects)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.png", "the mask cannot be read: there is no image .*no.png"),
        ("text.png", "the mask cannot be read: .*text.png' is not an image"),
        ("loss.jpg", r"must be a PNG, or another image without loss and alpha \(got JPEG of mode L\)"),
        ("alpha.png", r"must be a PNG, or another image without loss and alpha \(got PNG of mode RGBA\)"),
        ("narrow.png", r"must have the size of the image, 8 x 6, .* \(got 7 x 6 with 10\)"),
        ("empty.png", r"pixels that are not 0 \(got 8 x 6 with 0\)"),
    ],
)
def test_folder_rejects_wrong_masks(tmp_path: Path, name: str, message: str) -> None:
    masks(tmp_path)
    write(tmp_path / "pairs.csv", f"image,caption,mask\na.png,a cat,one.png\na.png,a cat,{name}\n")
    data = Folder(tmp_path)
    assert len(data[0].objects) == 1
    with pytest.raises(BadInput, match=rf"pairs\.csv, line 3: .*{message}"):
        data[1]


def test_folder_notices_missing_and_changed_masks(tmp_path: Path) -> None:
    masks(tmp_path)
    write(tmp_path / "pairs.csv", "image,caption,mask\na.png,a cat,one.png\n")
    before = Folder(tmp_path).fingerprint()
    assert Folder.check(tmp_path) == ""
    (tmp_path / "color.png").replace(tmp_path / "one.png")
    assert Folder(tmp_path).fingerprint() != before
    (tmp_path / "one.png").unlink()
    assert "there is no mask" in Folder.check(tmp_path)


@pytest.mark.parametrize("spans", ["3", "[3]", "[[0]]", '[["a", 1]]', "[[0.5, 1]]", "[[1, 1]]", "[[-1, 1]]"])
def test_spans_are_starts_and_ends_in_the_caption(tmp_path: Path, spans: str) -> None:
    box = f'{{"name": "a", "box": [0, 0, 1, 1], "spans": {spans}}}'
    write(tmp_path / "pairs.jsonl", f'{{"image": "a.png", "caption": "a cat", "boxes": [{box}]}}')
    with pytest.raises(BadInput, match=r"pairs\.jsonl, line 1: boxes\[0\]\.spans must be a list of \[start, end\]"):
        Folder(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("pairs.csv", "image,caption\n"), ("pairs.jsonl", "")])
def test_a_table_without_rows_is_named(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / name, text)
    with pytest.raises(BadInput, match=rf"{name} has no pairs: write a row with an image and a caption for each"):
        Folder(tmp_path)


def test_a_table_refuses_objects_that_it_would_not_read(tmp_path: Path) -> None:
    for name, text in (
        ("t.csv", "image,caption,mask,id\na.png,a cat,m.png,7\n"),
        ("t.jsonl", '{"image": "a.png", "caption": "a cat", "boxes": []}'),
        ("u.jsonl", '{"image": "a.png", "caption": "a cat", "objects": []}'),
    ):
        write(tmp_path / name, text)
        with pytest.raises(
            BadInput, match=rf"{name}, line [12]: (mask|boxes|objects) is read only if you give the folder of the table"
        ):
            list(open_pairs(tmp_path / name).records())
    write(tmp_path / "t.csv", "image,caption,id\na.png,a cat,7\n")
    assert len(open_pairs(tmp_path / "t.csv")) == 1, "other columns are ignored"


def test_folder_refuses_unknown_columns(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    write(tmp_path / "pairs.csv", "image,caption,id\na.png,a cat,7\n")
    with pytest.raises(
        BadInput, match=r"pairs\.csv, line 2: unknown key 'id'\. Known keys: boxes, caption, image, mask"
    ):
        Folder(tmp_path)
    assert Folder(tmp_path, key="id").entries[0].key == "7"


def test_metrics_use_masks_of_a_folder(tmp_path: Path) -> None:
    masks(tmp_path)
    write(tmp_path / "pairs.csv", "image,caption,mask\na.png,a cat,one.png\n")
    model, (pair,) = tiny.model("clip"), Folder(tmp_path)
    (row,) = nibt.measure(model, [pair], ["energy"], "ones", side="image")
    region = nibt.explain(model, pair.image, pair.caption, method="ones").image.region
    assert row.value == pytest.approx(float(seen_mask(pair, list(pair.objects), region).float().mean()), abs=1e-4)


def test_check_does_not_open_images(tmp_path: Path) -> None:
    """Data sets are large: a damaged image is an error when its pair is read."""
    write(tmp_path / "pairs.csv", "image,caption\na.png,a cat\n")
    write(tmp_path / "a.png", "no image")
    assert not Folder.check(tmp_path)
    with pytest.raises(BadInput, match=r"a\.png"):
        Folder(tmp_path)[0]


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("image;caption", "are separated by semicolons: separate them by commas"),
        ("photo,text", "has no column image, caption: it has photo, text"),
    ],
)
def test_check_says_what_is_wrong_with_the_columns(tmp_path: Path, heading: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(f"{heading}\n1.png;a cat\n")
    assert message in Folder.check(tmp_path)
