"""ImageNet's validation images, and Tiny ImageNet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nibt.datasets._files import lines, natural, table
from nibt.datasets._synsets import SplitSynsets, SynsetImage, from_corners, is_synset, synset_names
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.options import Range

_ORDERED = ("LOC_synset_mapping.txt", "synset_words.txt")  # these have only the 1,000 synsets, whose index is a label
_LABELS = ("LOC_val_solution.csv", "val.txt", "labels.txt", "imagenet_2012_validation_synset_labels.txt")


@dataclass(frozen=True, kw_only=True)
class ImageNet(SplitSynsets, name="imagenet"):
    """ImageNet's validation images (ILSVRC 2012): 50,000 photographs of 1,000 synsets.

    The images of ImageNet's synsets. The split "train" must be in sub-folders.

    Labels are the names of sub-folders (``n01440764``), or in a file: ``LOC_val_solution.csv``, which also has boxes;
    ``val.txt`` or ``labels.txt``, with an image and its synset, or the index of the synset from 0, per line; or a file
    with a synset per line in the order of the images.

    O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115(3), 2015.
    """

    title = "ImageNet (ILSVRC 2012)"
    layout = (
        "LOC_synset_mapping.txt, synset_words.txt or words.txt; and in the folder, in val/ or in "
        "ILSVRC/Data/CLS-LOC/val/ either a sub-folder per synset, or ILSVRC2012_val_*.JPEG with labels in "
        "LOC_val_solution.csv, val.txt, labels.txt or imagenet_2012_validation_synset_labels.txt"
    )
    home = "image-net.org, after registration"

    def read_records(self) -> list[Record]:
        words = self.inside(*_ORDERED, "words.txt")
        names = synset_names(words)
        for folder in (self.root / self.split, self.root / "ILSVRC/Data/CLS-LOC" / self.split, self.root):
            synsets = sorted(path for path in folder.glob("n*") if is_synset(path.name) and path.is_dir())
            if synsets:
                return self.captioned(_of_folders(synsets), names)
            if self.split == "val" and next(folder.glob("ILSVRC2012_val_*.JPEG"), None):
                labels = self.inside(*_LABELS, what="the labels of its images")
                order = sorted(names) if words.name in _ORDERED else []
                return self.captioned(_of_labels(labels, folder, order), names)

        raise self.lacking(f"images of the split {self.split}")


def _of_folders(synsets: Iterable[Path]) -> Iterator[SynsetImage]:
    """Yield the images of folders, each of which has the name of a synset."""
    for synset in synsets:
        for path in sorted(synset.iterdir(), key=lambda path: natural(path.name)):
            if path.suffix.lower() in (".jpeg", ".jpg", ".png"):
                yield SynsetImage(synset.name, path, f"{synset.name}/{path.name}")


def _of_labels(labels: Path, folder: Path, order: list[str]) -> Iterator[SynsetImage]:
    if labels.suffix == ".csv":
        for row, where in table(labels, ("ImageId", "PredictionString")):
            fields = row["PredictionString"].split()  # a synset and four corners for each box
            if not fields or len(fields) % 5 or len(set(fields[::5])) > 1:
                raise BadInput(f"{where}: expected a synset and four corners for each box (got {' '.join(fields)!r})")

            boxes = [from_corners(fields[first + 1 : first + 5], where) for first in range(0, len(fields), 5)]
            yield SynsetImage(fields[0], folder / f"{row['ImageId']}.JPEG", where, tuple(boxes))
        return
    for number, (line, where) in enumerate(lines(labels), 1):
        *name, label = line.split()
        if not name and not is_synset(label):
            raise BadInput(
                f"{where}: a line with only a number is a label of the development kit, which has another order of "
                "synsets: use LOC_val_solution.csv, or a file with a synset (n01440764) per line"
            )

        image = Path(name[0]).name if name else f"ILSVRC2012_val_{number:08d}.JPEG"
        yield SynsetImage(_label(label, order, where), folder / image, where)


def _label(label: str, order: list[str], where: str) -> str:
    """Return the synset of a label: an id, or an index among the 1,000 sorted ids, as in Caffe and torchvision."""
    if is_synset(label):
        return label
    if not order:
        raise BadInput(f"{where}: labels that are indices (got {label!r}) need {' or '.join(_ORDERED)}: add the file")
    if not label.isdecimal() or int(label) >= len(order):
        raise BadInput(f"{where}: a label must be a synset or an index from 0 to {len(order) - 1} (got {label!r})")
    return order[int(label)]


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(SplitSynsets, name="tiny_imagenet"):
    """Tiny ImageNet: images of 64 x 64 pixels of 200 of ImageNet's synsets, with a box each.

    The first images of the 200 synsets. The default of five images per synset is the paper's subset, 1,000 pairs.

    Synsets are in the order of their ids, and images in natural order of their names (val_2 before val_10).

    Y. Le, X. Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015.
    """

    title = "Tiny ImageNet"
    layout = (
        "wnids.txt, words.txt, val/val_annotations.txt and val/images/, or train/SYNSET/SYNSET_boxes.txt and "
        "train/SYNSET/images/"
    )
    home = "cs231n.stanford.edu, the file tiny-imagenet-200.zip"
    each: Annotated[int, Range(1, 10**9)] | None = 5

    def read_records(self) -> list[Record]:
        synsets = {line.strip() for line, _ in lines(self.inside("wnids.txt"))}
        names = {synset: name for synset, name in synset_names(self.inside("words.txt")).items() if synset in synsets}
        return self.captioned(self._images(synsets), names)

    def _images(self, synsets: set[str]) -> Iterator[SynsetImage]:
        """Yield the images of the split; the table of "val" names their synsets, and "train" has a table per synset."""
        tables = {"": "val/val_annotations.txt"}
        if self.split == "train":
            tables = {synset: f"train/{synset}/{synset}_boxes.txt" for synset in sorted(synsets)}
        for of_table, path in tables.items():
            folder = self.inside(f"train/{of_table}/images" if of_table else "val/images")
            for line, where in lines(self.inside(path)):
                fields = line.split()
                count = 5 if of_table else 6
                if len(fields) != count:
                    raise BadInput(f"{where}: expected {count} fields (got {len(fields)})")

                synset = of_table or fields[1]
                yield SynsetImage(synset, folder / fields[0], where, (from_corners(fields[-4:], where),))
