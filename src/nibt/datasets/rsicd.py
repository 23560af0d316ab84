"""RSICD: 10,921 aerial images, with five captions each.

X. Lu, B. Wang, X. Zheng, X. Li, Exploring Models and Data for Remote Sensing Image Caption Generation, IEEE
Transactions on Geoscience and Remote Sensing 56(4), 2018.
"""

from dataclasses import dataclass

from nibt.datasets._files import format_errors, read_json
from nibt.datasets._local import CaptionedDataset
from nibt.datasets.base import Record
from nibt.errors import BadOption
from nibt.records import JsonObject


@dataclass(frozen=True, kw_only=True)
class RSICD(CaptionedDataset):
    """The images of RSICD with their captions, in the order of the JSON file.

    UCM-Captions and Sydney-Captions have the same layout: set ``table`` to their file.

    Attributes:
        table: The name of the JSON file.
        split: The split: "train", "val" or "test"; None means all images.
    """

    title = "RSICD"
    layout = "dataset_rsicd.json, and the images in RSICD_images/, images/ or in the same folder"
    home = "github.com/201528014227051/RSICD_optimal, the authors' repository"
    table: str = "dataset_rsicd.json"
    split: str | None = None

    def read_records(self) -> list[Record]:
        path = self.inside(self.table)
        with format_errors(str(path)):
            listed: list[tuple[int, JsonObject]] = list(enumerate(read_json(path)["images"]))
            splits = sorted({str(image.get("split")) for _, image in listed})
            if self.split is not None and self.split not in splits:
                raise BadOption(f"split must be one of {', '.join(splits)} (got {self.split!r})")
            named = next((name for name in ("RSICD_images", "images", "imgs") if (self.root / name).is_dir()), ".")
            return [
                Record(
                    tuple(_captions(image)), str(self.root / named / image["filename"]), f"{path.name}, image {place}"
                )
                for place, image in listed
                if self.split in (None, image["split"])
            ]


def _captions(image: JsonObject) -> list[str]:
    captions = [sentence["raw"].strip() for sentence in image["sentences"]]
    if not captions:
        raise ValueError(f"{image['filename']} has no sentences")
    return captions
