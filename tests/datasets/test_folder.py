"""Tests of ``nibt.datasets.folder``."""

from pathlib import Path

import pytest
from PIL import Image

from nibt.datasets.folder import Folder
from nibt.errors import BadInput
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
        ('["a.png", "a cat"]', "does not have the expected layout"),
        ('{"image": "a.png"}', "'caption' is missing"),
        ('{"image": "a.png", "caption": 3}', r"the caption must be a text \(got int\)"),
        ('{"image": "a.png", "caption": "a", "boxes": 3}', "boxes must be a list"),
        ('{"image": "a.png", "caption": "a", "boxes": [{"name": "a"}]}', "'box' is missing"),
        ('{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [1, 2, 3]}]}', "not enough values"),
        ('{"image": "a.png", "caption": "a", "boxes": [{"name": 1, "box": [1, 2, 3, 4]}]}', "must be a text"),
        (
            '{"image": "a.png", "caption": "a", "boxes": [{"name": "a", "box": [0, 0, 1, 1], "spans": [[0, 2]]}]}',
            r"a span must be .* 1 characters \(got 0, 2\)",
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
    assert "boxes are ignored" in pair.notes[0]
