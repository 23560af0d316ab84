"""POPE: questions whether an object is in an image; and RePOPE, with corrected answers."""

from dataclasses import dataclass

from nibt.datasets._questions import PollingDataset


@dataclass(frozen=True, kw_only=True)
class POPE(PollingDataset, name="pope"):
    """POPE: 3,000 questions per split whether an object is in one of 500 images of COCO, for a generator.

    The questions of POPE, such as "Is there a snowboard in the image?", in the order of the file.

    The key of a row is the ``question_id``, and its reference is "yes" or "no".

    Source:
        Li et al., EMNLP 2023
    """

    title = "POPE"
    layout = "coco_pope_SPLIT.json, in the folder or in output/coco/, and the images of COCO in val2014/ or images/"
    home = "github.com/RUCAIBox/POPE, the authors' repository; the images are those of COCO, val2014"
    prefix = "coco_pope_"
    places = ("output/coco", "annotations")


@dataclass(frozen=True, kw_only=True)
class RePOPE(PollingDataset, name="repope"):
    """RePOPE: the questions of POPE with corrected answers, without the ambiguous ones, for a generator.

    The questions of RePOPE, such as "Is there a snowboard in the image?", in the order of the file.

    The key of a row is the ``question_id`` of POPE, and its reference is "yes" or "no".

    Source:
        Neuhaus and Hein, arXiv 2504.15707
    """

    title = "RePOPE"
    layout = "coco_repope_SPLIT.json, in the folder or in annotations/, and the images of COCO in val2014/ or images/"
    home = "github.com/YanNeu/RePOPE, the authors' repository; the images are those of COCO, val2014"
    prefix = "coco_repope_"
    places = ("annotations",)
