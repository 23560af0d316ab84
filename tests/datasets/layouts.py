"""Small data sets in their published layouts, with images of a few pixels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.data.pair import Pair
from nibt.datasets.base import Dataset

SIDES = 8, 6  # width and height of the images


CLIPPED = [2, 1, 6, 1, 6, 4, 2, 4]  # a polygon: columns 2 to 5, rows 1 to 3


def image(path: Path, shade: int = 0, sides: tuple[int, int] = SIDES, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", sides, (shade, 10, 20)).save(path, "JPEG" if path.suffix.lower() != ".png" else "PNG", **options)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    write(path, json.dumps(data))


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
    """Two synsets with six images each, named val_0 to val_11 as in the original."""
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
    runs = {"size": [6, 8], "counts": [6, 3, 39]}  # the upper half of the second column
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
    data = [
        {"filename": name, "split": split, "imgid": i, "sentences": [{"raw": f"{name} {word}"} for word in "xy"]}
        for i, (name, split) in enumerate([("b.jpg", "train"), ("a.jpg", "test")])
    ]
    write_json(folder / "dataset_rsicd.json", {"images": data, "dataset": "rsicd"})
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
    data = [
        {
            "image": "b.png",
            "caption": "two cats",
            "boxes": [{"name": "cat", "box": [0, 1, 2, 3]}, {"name": "cup", "box": [1, 1, 1, 1]}],
        },
        {"image": "a.png", "caption": "a mug", "boxes": [{"name": "cup", "box": whole, "spans": [[2, 5]]}]},
        {"image": "a.png", "caption": "a cat", "boxes": [{"name": "cat", "box": whole, "spans": []}]},
    ]
    write(folder / "pairs.jsonl", "\n".join(map(json.dumps, data)) + "\n\n")
    for name in ("a.png", "b.png"):
        image(folder / name)
