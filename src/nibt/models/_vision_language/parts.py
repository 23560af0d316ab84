"""Parts of vision-language models by what their processors and configurations say."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nibt.errors import BadOption
from nibt.models._request import Request
from nibt.models._vision_language.pixels import Layout, PatchLayout, SquareLayout, TileLayout
from nibt.models._vision_language.tiles import AnyResolutionLayout, CanvasLayout

_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


def check_sizes(request: Request) -> None:
    """Check that nothing asks for another size of images than that of the processor."""
    for name in ("resize", "image_size"):
        value = getattr(request, name)
        if value not in (None, "model"):
            raise BadOption(
                f"{name} must not be set for this model, whose processor resizes images (got {value!r}): leave it out, "
                "or pass processor=... with other limits"
            )


def image_token_id(module: Any) -> int:
    """Return the id of the tokens that stand for parts of an image; -1 if there are none."""
    return getattr(getattr(module.config, "vlm_config", module.config), "image_token_id", -1)


def layout_of(processor: Any, nested: bool = False) -> Layout:
    """Return the layout of a processor's pixels."""
    images = processor.image_processor
    if hasattr(images, "image_grid_pinpoints"):
        return AnyResolutionLayout(processor)
    if hasattr(images, "crop_to_patches"):
        return CanvasLayout(images)
    if hasattr(images, "merge_size"):
        return PatchLayout(images, nested)
    return TileLayout(images) if hasattr(images, "do_image_splitting") else SquareLayout(images)


def encoded(processor: Any, output: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the output of a processor, with the number of tiles in rows and columns if it divides images."""
    values = dict(output)
    if "pixel_attention_mask" in values:
        places = _TILE.findall(processor.tokenizer.decode(values["input_ids"][0]))
        rows, columns = (max((int(place[axis]) for place in places), default=0) for axis in (0, 1))
        values["tiles"] = torch.tensor([rows, columns], device="cpu")
    return values
