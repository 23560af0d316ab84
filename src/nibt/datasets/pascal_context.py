"""PASCAL Context: the images of VOC 2010 with a label for each pixel, of 59 kinds or the background.

R. Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation in the Wild, CVPR 2014.
"""

from dataclasses import dataclass

from nibt.datasets._pascal import PascalMaps


@dataclass(frozen=True, kw_only=True)
class PascalContext(PascalMaps):
    """A pair for each image of PASCAL Context, with its label map.

    The caption is "a photo of a sky", for the kind with most pixels. Each kind in the image is an object, with its
    mask. The label images are those that mmsegmentation's converter writes: 0 is the background, and the 59 kinds
    follow in alphabetical order.

    Attributes:
        split: The split: "val" or "train" (or another list of ``ImageSets/SegmentationContext``).
        background: Whether the background is a label (60 labels). Otherwise its pixels are ignored (59 labels).

    """

    title = "PASCAL Context"
    layout = (
        "VOCdevkit/VOC2010/ (or VOC2010/, or its content) with JPEGImages/*.jpg and, of mmsegmentation's converter "
        "pascal_context.py, SegmentationClassContext/*.png and ImageSets/SegmentationContext/SPLIT.txt"
    )
    home = "host.robots.ox.ac.uk/pascal/VOC/voc2010 (images), cs.stanford.edu/~roozbeh/pascal-context"
    year = "2010"
    maps = "SegmentationClassContext"
    lists = "SegmentationContext"
    kinds = (
        *("aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building"),
        *("bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog"),
        *("door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike"),
        *("mountain", "mouse", "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves"),
        *("sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall"),
        *("water", "window", "wood"),
    )


PLUGIN = PascalContext
