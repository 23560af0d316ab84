"""Small data sets in their published layouts, with images of a few pixels."""

import json
import pickle
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
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


REFERENCES = [
    {
        "ref_id": 7,
        "ann_id": 11,
        "image_id": 9,
        "category_id": 18,
        "split": "val",
        "file_name": "COCO_train2014_000000000009_11.jpg",
        "sent_ids": [1, 2],
        "sentences": [
            {"tokens": ["left", "dog"], "raw": "Left dog.", "sent_id": 1, "sent": "left dog"},
            {"tokens": ["the", "dog"], "raw": "the dog", "sent_id": 2, "sent": "the dog"},
        ],
    },
    {
        "ref_id": 8,
        "ann_id": 12,
        "image_id": 9,
        "category_id": 1,
        "split": "val",
        "sentences": [{"sent_id": 3, "sent": "woman on the right"}],
    },
    {"ref_id": 9, "ann_id": 13, "image_id": 4, "split": "test", "sentences": [{"sent_id": 4, "sent": "a dog"}]},
]


def refcoco(folder: Path) -> None:
    """The files of the authors, in a pickle as Python 2 writes it: with protocol 2."""
    instances = {
        "images": [
            {"id": number, "file_name": f"COCO_train2014_{number:012d}.jpg", "width": 8, "height": 6}
            for number in (9, 4)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 11, "image_id": 9, "category_id": 18, "bbox": [2, 1, 4, 3], "segmentation": [CLIPPED]},
            {"id": 12, "image_id": 9, "category_id": 1, "bbox": [6, 0, 2, 6], "segmentation": [[6, 0, 8, 0, 8, 6]]},
            {"id": 13, "image_id": 4, "category_id": 18, "bbox": [0, 0, 1, 1], "segmentation": []},
        ],
    }
    write_json(folder / "refcocog/instances.json", instances)
    (folder / "refcocog/refs(umd).p").write_bytes(pickle.dumps(REFERENCES, protocol=2))
    for number in (9, 4):
        image(folder / f"images/mscoco/images/train2014/COCO_train2014_{number:012d}.jpg")


def lmms_lab_rows() -> list[dict[str, Any]]:
    """Two rows of a table of lmms-lab, with the bytes of their images."""
    stream = BytesIO()
    Image.new("RGB", SIDES, (0, 10, 20)).save(stream, "PNG")
    rows = [(["a dog", "left dog"], CLIPPED, [2, 1, 4, 3], 0), (["people"], [1, 2, 3], [6, 0, 2, 6], 1)]
    return [
        {
            "question_id": str(place),
            "image": {"bytes": stream.getvalue(), "path": None},
            "question": "Please describe the area.",
            "answer": answer,
            "segmentation": [float(number) for number in outline],
            "bbox": [float(number) for number in box],
            "iscrowd": crowd,
            "file_name": f"COCO_train2014_{place:012d}.jpg",
        }
        for place, (answer, outline, box, crowd) in enumerate(rows)
    ]


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


def ms_cxr_json(folder: Path) -> dict[str, Any]:
    """Write what ``phrases`` writes as the JSON file of MS-CXR, and return its content."""
    boxes = [("left edema", [1, 2, 3, 4]), ("cyst", [0, 0, 2, 2]), ("left edema", [5, 0, 3, 1])]
    data = {
        "categories": [{"id": 4, "name": "Edema"}],
        "images": [
            {"id": 3, "file_name": "p1.jpg", "path": "files/p1.jpg", "width": 8, "height": 6, "num_annotations": 3}
        ],
        "annotations": [
            {"id": place, "image_id": 3, "category_id": 4, "label_text": text, "bbox": box, "width": 8, "height": 6}
            for place, (text, box) in enumerate(boxes, 1)
        ],
    }
    write_json(folder / "MS_CXR_Local_Alignment_v1.0.0.json", data)
    image(folder / "files/p1.jpg")
    return data


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


def numbers_image(path: Path, numbers: Any, channels: int) -> None:
    """Write a label image: with two channels as in ImageNet-S (R + 256 G), with one as in VOC (a palette)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(numbers)
    if channels == 1:
        label = Image.fromarray(values.astype(np.uint8)).convert("P")
        label.putpalette([shade for number in range(256) for shade in (number, 255 - number, 7)])
    else:
        pixels = np.stack([values % 256, values // 256, np.zeros_like(values)], -1)
        label = Image.fromarray(pixels.astype(np.uint8))
    label.save(path)


def imagenet_s(folder: Path) -> None:
    """Two images of the 919th class, whose id needs both channels, and one of the first."""
    synsets = [f"n{10000000 + number}" for number in range(919)]
    write(folder / "words.txt", "".join(f"{synset}\tword {place}, other\n" for place, synset in enumerate(synsets)))
    write(folder / "ImageNetS_categories_im919.txt", "".join(f"{synset}\n" for synset in reversed(synsets)))
    for place, name in ((918, "val_10"), (918, "val_2"), (0, "val_1")):
        home = folder / "ImageNetS919"
        image(home / "validation" / synsets[place] / f"{name}.JPEG")
        numbers = np.zeros((6, 8), int)
        numbers[1:4, 2:6], numbers[4, 2:6], numbers[0] = place + 1, 1000, 7
        numbers_image(home / "validation-segmentation" / synsets[place] / f"{name}.png", numbers, 2)


def voc_xml(name: str, objects: Sequence[tuple[str, tuple[int, int, int, int]]]) -> str:
    texts = [
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for kind, box in objects
    ]
    size = "<size><width>8</width><height>6</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}{''.join(texts)}</annotation>\n"


def pascal_voc(folder: Path) -> None:
    home = folder / "VOCdevkit/VOC2012"
    objects = [("dog", (3, 2, 6, 4)), ("aeroplane", (1, 1, 2, 6)), ("dog", (7, 5, 8, 6))]
    for name, kinds in (("2007_000033", objects), ("2008_000001", [("pottedplant", (1, 1, 8, 6))])):
        write(home / f"Annotations/{name}.xml", voc_xml(name, kinds))
        image(home / f"JPEGImages/{name}.jpg")
        numbers = np.zeros((6, 8), int)
        numbers[1:4, 2:6], numbers[:, :2], numbers[5, 6:] = (1, 2, 3) if len(kinds) == 3 else (0, 0, 1)
        numbers[3, 2:6] = 255
        numbers_image(home / f"SegmentationObject/{name}.png", numbers, 1)
    write(home / "ImageSets/Segmentation/val.txt", "2007_000033\n2008_000001\n")
    write(home / "ImageSets/Main/val.txt", "2008_000001\n2007_000033\n")


def part_imagenet(folder: Path) -> None:
    parts = [("Quadruped Head", "Quadruped"), ("Quadruped Body", "Quadruped"), ("Car Tier", "Car")]
    annotations = [
        {"id": 5, "image_id": 2, "category_id": 0, "bbox": [2, 1, 4, 3], "segmentation": [CLIPPED], "area": 12},
        {"id": 4, "image_id": 2, "category_id": 1, "bbox": [0, 0, 2, 6], "segmentation": [[0, 0, 2, 0, 2, 6, 0, 6]]},
        {"id": 6, "image_id": 2, "category_id": 0, "bbox": [6, 4, 2, 2], "segmentation": [[6, 4, 8, 4, 8, 6, 6, 6]]},
        {"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 4, 2, 2], "segmentation": [[0, 4, 2, 4, 2, 6, 0, 6]]},
    ]
    data = {
        "images": [
            {"id": 2, "file_name": "n02085620_7.JPEG", "width": 8, "height": 6},
            {"id": 1, "file_name": "n02814533_1.JPEG", "width": 8, "height": 6},
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": whole} for number, (name, whole) in enumerate(parts)
        ],
        "annotations": annotations,
    }
    write_json(folder / "annotations/val/val.json", data)
    for one in data["images"]:
        image(folder / "images/val" / str(one["file_name"]))


POINT_COLUMNS = "ImageId,X,Y,Label,EstimatedYesNo,Source,YesVotes,NoVotes,UnsureVotes,TextLabel\n"


def open_images(folder: Path) -> None:
    rows = [
        "00ab,0.25,0.5,/m/07j7r,yes,pr,2,0,0,",
        "00ab,0.999,0.999,/m/07j7r,no,pr,0,2,0,",
        "00ab,0.5,0.5,/m/07j7r,unsure,pr,1,1,1,",
        "00ab,0.5,0.5,/m/01bqvp,yes,pr,1,0,0,",
        "0cd1,0,0,,yes,ft,1,0,0,Wet sand",
        "0cd1,1,1,,no,ft,0,1,0,Wet sand",
        "0cd1,1,1,/m/07j7r,no,ft,0,1,0,",
    ]
    write(folder / "oidv7-val-annotations-point-labels.csv", POINT_COLUMNS + "\n".join(rows) + "\n")
    write(folder / "oidv7-class-descriptions.csv", "LabelName,DisplayName\n/m/07j7r,Tree\n/m/01bqvp,Sky\n")
    for name in ("00ab", "0cd1"):
        image(folder / f"validation/{name}.jpg")


WATERBIRDS = [
    "1,001.Black_footed_Albatross/a.jpg,1,0,1,/o/ocean/1.jpg",
    "2,001.Black_footed_Albatross/b.jpg,1,2,0,/b/bamboo_forest/2.jpg",
    "3,009.Brewer_Blackbird/c.jpg,0,2,0,/b/bamboo_forest/3.jpg",
    "4,009.Brewer_Blackbird/d.jpg,0,1,1,/o/ocean/4.jpg",
]


def waterbirds(folder: Path, rows: Sequence[str] = WATERBIRDS) -> None:
    home = folder / "waterbird_complete95_forest2water2"
    columns = "img_id,img_filename,y,split,place,place_filename\n"
    write(home / "metadata.csv", columns + "\n".join(rows) + "\n")
    for place, row in enumerate(WATERBIRDS):
        image(home / row.split(",")[1], shade=40 * place)


def counter_animal(folder: Path) -> None:
    """Two classes with the numbers of ImageNet, the second of which sorts first as a text."""
    for place in ("9 ostrich/common-grass/2", "9 ostrich/counter-water/1", "102 echidna/common-grass/10"):
        image(folder / f"LAION-final/{place}.jpg")
    image(folder / "LAION-final/102 echidna/counter-snow/7.jpeg")
    image(folder / "LAION-final/102 echidna/common-grass/9.jpg")
    write(folder / "LAION-final/imagenet_names.txt", "0\ttench\n")


def polling(folder: Path, file: str) -> None:
    questions = [
        ("COCO_val2014_000000310196.jpg", "Is there a snowboard in the image?", "yes"),
        ("COCO_val2014_000000310196.jpg", "Is there a car in the image?", "no"),
        ("COCO_val2014_000000210789.jpg", "Is there an apple in the image?", "no"),
    ]
    rows = [
        json.dumps({"question_id": number, "image": name, "text": text, "label": label})
        for number, (name, text, label) in enumerate(questions, 1)
    ]
    write(folder / file, "\n".join(rows) + "\n")
    for name, _, _ in questions:
        image(folder / "val2014" / name)


def pope(folder: Path) -> None:
    polling(folder, "output/coco/coco_pope_random.json")


def repope(folder: Path) -> None:
    polling(folder, "annotations/coco_repope_random.json")


def mmvp(folder: Path) -> None:
    rows = [
        "1,Are the butterfly's wings closer to being open or closed?,(a) Open (b) Closed,(a)",
        "2,Are the butterfly's wings closer to being open or closed?,(a) Open (b) Closed,(b)",
        '3,"Is the dog facing left, or right?",(a) Left (b) Right,(b)',
        '4,"Is the dog facing left, or right?",(a) Left (b) Right,(a)',
    ]
    write(folder / "Questions.csv", "Index,Question,Options,Correct Answer\n" + "\n".join(rows) + "\n")
    for number in range(1, 5):
        image(folder / f"MMVP Images/{number}.jpg")


def mmvp_vlm(folder: Path) -> None:
    rows = ["1,Orientation,a dog facing left", "2,Orientation,a dog facing right", "31,Text,A B", "32,Text,B A"]
    write(folder / "Questions.csv", "Question ID,Type,Statement\n" + "\n".join(rows) + "\n")
    for place, row in enumerate(rows):
        number, pattern, _ = row.split(",")
        image(folder / f"MLLM_VLM Images/{pattern}/{number}.jpg", shade=50 * place)


ADE20K_NAMES = ["wall", "building, edifice", "sky", *(f"thing {number}" for number in range(4, 151))]


def label_map(path: Path, numbers: Any) -> None:
    """Write a label image of one channel without a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(numbers, np.uint8)).save(path)


def halves(left: int, right: int, ignored: int = 255) -> np.ndarray:
    """Return numbers with 18 pixels on the left, 24 on the right, and a column between that is ignored."""
    numbers = np.full((6, 8), ignored)
    numbers[:, :3], numbers[:, 4:] = left, right
    return numbers


def ade20k(folder: Path) -> None:
    home = folder / "ADEChallengeData2016"
    rows = [f"{number}\t0.1\t{number}\t5\t{name}" for number, name in enumerate(ADE20K_NAMES, 1)]
    write(home / "objectInfo150.txt", "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    for name, (left, right) in (("ADE_val_00000010", (1, 2)), ("ADE_val_00000002", (150, 3))):
        image(home / f"images/validation/{name}.jpg")
        label_map(home / f"annotations/validation/{name}.png", halves(left, right, 0))


def coco_stuff(folder: Path) -> None:
    """The file of labels has the numbers of the label images plus 1."""
    words = {0: "unlabeled", 1: "person", 2: "bicycle", 13: "stop sign", 182: "wood", 157: "sky-other"}
    write(folder / "labels.txt", "".join(f"{number}: {words.get(number, f'x{number}')}\n" for number in range(183)))
    for name, (left, right) in (("000000000139", (0, 181)), ("000000000285", (12, 156))):
        image(folder / f"images/val2017/{name}.jpg")
        label_map(folder / f"stuffthingmaps_trainval2017/val2017/{name}.png", halves(left, right))


def pascal_voc_segmentation(folder: Path) -> None:
    home = folder / "VOCdevkit/VOC2012"
    for name, numbers in (("2007_000033", halves(1, 0)), ("2007_000042", halves(12, 20))):
        image(home / f"JPEGImages/{name}.jpg")
        numbers_image(home / f"SegmentationClass/{name}.png", numbers, 1)
    write(home / "ImageSets/Segmentation/val.txt", "2007_000042\n2007_000033\n")


def pascal_context(folder: Path) -> None:
    home = folder / "VOCdevkit/VOC2010"
    for name, numbers in (("2008_000002", halves(1, 0, 0)), ("2008_000003", halves(59, 39, 0))):
        image(home / f"JPEGImages/{name}.jpg")
        label_map(home / f"SegmentationClassContext/{name}.png", numbers)
    write(home / "ImageSets/SegmentationContext/val.txt", "2008_000002\n2008_000003\n")
