"""PASCAL VOC for segmentation: photographs with a label for each pixel, of 20 kinds or the background.

M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88(2), 2010.
"""

from dataclasses import dataclass

from nibt.datasets._pascal import PascalMaps


@dataclass(frozen=True, kw_only=True)
class PascalVOCSegmentation(PascalMaps):
    """A pair for each image of the segmentation challenge of 2012, with its label map.

    The caption is "a photo of a dog", for the kind with most pixels. Each kind in the image is an object, with its
    mask. Pixels at the borders of objects were ignored.

    Attributes:
        split: The split: "val", "train" or "trainval" (or another list of ``ImageSets/Segmentation``).
        background: Whether the background is a label (21 labels). Otherwise its pixels are ignored (20 labels).

    """

    title = "PASCAL VOC for segmentation"
    layout = (
        "VOCdevkit/VOC2012/ (or VOC2012/, or its content) with ImageSets/Segmentation/SPLIT.txt, JPEGImages/*.jpg and "
        "SegmentationClass/*.png"
    )
    home = "host.robots.ox.ac.uk/pascal/VOC"
    year = "2012"
    maps = "SegmentationClass"
    lists = "Segmentation"
    kinds = (
        *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
        *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    )


PLUGIN = PascalVOCSegmentation
