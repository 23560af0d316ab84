"""Adapters of transforms of torchvision, as those of its weights and of timm, which callers pass in."""

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import Compose, InterpolationMode, v2
from torchvision.transforms.v2 import functional as transforms

from nibt.errors import BadOption, Unsupported
from nibt.preprocessing import hugging_face
from nibt.preprocessing.images import ImageProcessor, Preparation, Resize, height_and_width

_RESAMPLE = {
    InterpolationMode.NEAREST: Image.Resampling.NEAREST,
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
}
_EXPECTED = (
    "processor must be a transform of torchvision that resizes, crops and normalizes, as weights.transforms() or "
    "timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
)


def image_preparation(
    transform: ImageProcessor, resize: str | None, size: int | None, multiple: int | None
) -> Preparation:
    """Return the preparation of a transform, or that of whole images."""
    fit, mean, std, interpolation = _read(transform)
    hugging_face.check_sides(fit)
    hugging_face.check_resizing(resize, size, fit.height, multiple if resize == "whole" else None)

    normalize = v2.Compose([_pixels, v2.Normalize(mean, std)])
    resample = _RESAMPLE.get(interpolation, Image.Resampling.BICUBIC)
    if resize == "whole":
        whole = Resize("whole", size or fit.height, size or fit.width, multiple=multiple or 1)
        return Preparation(whole, normalize, normalize, resample)

    uncropped = None
    if fit.edge:
        edge = fit.edge if fit.way == "shortest" else [fit.edge, fit.edge]
        uncropped = v2.Compose([v2.Resize(edge, interpolation), normalize])
    return Preparation(fit, transform, normalize, resample, uncropped)


def _pixels(image: Any) -> torch.Tensor:
    """Return the pixels in [0, 1]."""
    return transforms.pil_to_tensor(image).to(torch.float32) / 255


def _read(transform: Any) -> tuple[Resize, list[float], list[float], InterpolationMode]:
    """Return how a transform resizes and crops images, its means and deviations, and its interpolation."""
    if hasattr(transform, "resize_size") and hasattr(transform, "crop_size"):  # of the weights of torchvision
        edge = transform.resize_size[0]
        side = transform.crop_size[0]
        return Resize("shortest", side, side, edge=edge), transform.mean, transform.std, transform.interpolation

    steps = {type(step).__name__: step for step in _steps(transform)}
    if not steps.keys() >= {"Resize", "Normalize"}:
        raise BadOption(f"{_EXPECTED} (got {str(transform)!r:.200})")

    resized = steps["Resize"]
    sides = [resized.size] if isinstance(resized.size, int) else [*resized.size]
    crop = height_and_width(steps["CenterCrop"].size) if "CenterCrop" in steps else None
    mean, std = ([float(number) for number in values] for values in (steps["Normalize"].mean, steps["Normalize"].std))
    return _resize(sides, crop), mean, std, resized.interpolation


def _steps(transform: Any) -> Iterator[Any]:
    """Yield the steps of a sequence of transforms."""
    if isinstance(transform, Compose | v2.Compose):
        for step in transform.transforms:
            yield from _steps(step)
    elif isinstance(transform, nn.Sequential):
        for step in transform:
            yield from _steps(step)
    else:
        yield transform


def _resize(sides: list[int], crop: tuple[int, int] | None) -> Resize:
    """Return the resizing to one side or two, and the crop after it."""
    if len(sides) == 1 and crop is not None:
        return Resize("shortest", *crop, edge=sides[0])
    if len(sides) == 2 and crop in (None, tuple(sides)):
        return Resize("squash", *sides)
    if len(sides) == 2 and crop is not None and sides[0] == sides[1]:
        return Resize("squash", *crop, edge=sides[0])
    raise Unsupported(
        f"the transform must crop or resize to a fixed size (got Resize to {sides} and the crop {crop}): add a "
        "CenterCrop, or resize both sides"
    )
