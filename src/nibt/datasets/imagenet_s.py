"""ImageNet-S: images of ImageNet with masks of 50, 300 or 919 classes.

S. Gao et al., Large-scale Unsupervised Semantic Segmentation, TPAMI 2022.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nibt.datasets._files import lines, natural
from nibt.datasets._label_maps import LabelImages, LabelMask
from nibt.datasets._synsets import SplitSynsets, SynsetImage, is_synset, synset_names
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.options import OneOf

_FOLDERS = {"val": "validation", "train": "train-semi"}


@dataclass(frozen=True, kw_only=True)
class ImageNetS(LabelImages, SplitSynsets):
    """The images of ImageNet-S, each with the mask of its class. The test set has no public masks.

    The number of a class is its position among the sorted synsets, from 1. Pixels that the annotators ignored, and
    those of other classes, are not on the object.

    Attributes:
        classes: The number of classes: 50, 300 or 919.
    """

    title = "ImageNet-S"
    layout = (
        "ImageNetS50/ (or ImageNetS300/, ImageNetS919/) or its content: validation/SYNSET/*.JPEG and "
        "validation-segmentation/SYNSET/*.png (of the split train: train-semi/ and train-semi-segmentation/); and the "
        "names of the synsets in LOC_synset_mapping.txt, synset_words.txt or words.txt"
    )
    home = "github.com/LUSSeg/ImageNet-S, with ImageNet's images; the names of synsets are a file of ImageNet"
    classes: Annotated[int, OneOf((50, 300, 919))] = 919

    def read_records(self) -> list[Record]:
        names = synset_names(self.inside("LOC_synset_mapping.txt", "synset_words.txt", "words.txt"))
        home = self.root / f"ImageNetS{self.classes}"
        home = home if home.is_dir() else self.root
        images = home / _FOLDERS[self.split]
        masks = home / f"{images.name}-segmentation"
        for folder in (images, masks):
            if not folder.is_dir():
                raise self.lacking(f"the folder {folder.name}")
        synsets = sorted(path.name for path in images.iterdir() if is_synset(path.name) and path.is_dir())
        return self.captioned(self._labeled(images, masks, synsets, self._numbers(synsets)), names)

    @property
    def largest(self) -> int:
        return self.classes

    def _numbers(self, synsets: list[str]) -> dict[str, int]:
        """Return the number of each class, by the list of the authors or, without it, by the folders."""
        name = f"ImageNetS_categories_im{self.classes}.txt"
        path = self.root / name
        classes = sorted(line.split()[0] for line, _ in lines(path)) if path.is_file() else synsets
        if len(set(classes)) != self.classes:
            raise BadInput(
                f"{str(self.folder)!r} must have {self.classes} classes (got {len(set(classes))}): set classes, or add "
                f"{name} of the authors, which has all synsets"
            )
        numbers = {synset: number for number, synset in enumerate(sorted(set(classes)), 1)}
        unknown = [synset for synset in synsets if synset not in numbers]
        if unknown:
            raise BadInput(f"{path} does not have the synset {unknown[0]}, which is a folder of images")
        return numbers

    def _labeled(self, images: Path, masks: Path, synsets: list[str], numbers: dict[str, int]) -> Iterator[SynsetImage]:
        for synset in synsets:
            # an image without a mask, and a mask without an image, are errors of their pair
            paths = [*(images / synset).glob("*.JPEG"), *(masks / synset).glob("*.png")]
            for name in sorted({path.stem for path in paths}, key=natural):
                image, mask = images / synset / f"{name}.JPEG", masks / synset / f"{name}.png"
                outline = LabelMask(mask.relative_to(self.root).as_posix(), numbers[synset])
                yield SynsetImage(synset, image, f"{images.name}, image {synset}/{image.name}", outline=outline)
