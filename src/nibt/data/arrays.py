"""Arrays and tensors of users as the bytes of images."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nibt.errors import BadInput

_NORMALIZED = 8.0  # normalized values of common models are between -2.8 and 2.8


def _gray(values: np.ndarray, mode: str, file_format: str | None) -> Image.Image:
    """Convert a gray image of 16 bits, 32 bits or floats to RGB; those of 32 bits and floats above 1 are 0 to 255."""
    if mode.startswith("I;16") or (mode == "I" and file_format == "PNG"):  # which has at most 16 bits
        values = values.astype(np.float64) / 65535
    top = 255 if mode == "F" and values.max(initial=0) > 1 else None
    return Image.fromarray(_as_bytes(values, f"image of mode {mode}", top)).convert("RGB")


def _as_bytes(values: np.ndarray, source: str, top: int | None = None) -> np.ndarray:
    """Return the bytes of an image: of whole numbers of any width from 0 to 255, or of floats from 0 to 1.

    What wider numbers span is not in the array, and their maximum differs between the frames of a film.
    """
    if values.dtype.kind not in "buif":
        raise BadInput(f"the {source} must have whole numbers or floats (got {values.dtype})")

    top = top or (255 if values.dtype.kind in "ui" else 1)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(f"the {source} holds NaN or infinite values")
    if values.min() < 0 or values.max() > top:
        noun = "floats" if values.dtype.kind == "f" else "whole numbers"
        if values.dtype.kind == "f" and -_NORMALIZED < values.min() < 0 and values.max() < _NORMALIZED:
            raise BadInput(
                f"an image of floats must be in [0, {top}] (got {values.min():.5g} to {values.max():.5g}, as after "
                "a mean and a standard deviation were applied): give the image before it is normalized"
            )
        raise BadInput(
            f"an image of {noun} must be in [0, {top}] (got {values.min():.5g} to {values.max():.5g}): scale the values"
        )
    return np.round(values * 255 if top == 1 else values).astype(np.uint8)


def _check_plain(tensor: Tensor) -> None:
    kinds = {"nested": tensor.is_nested, "quantized": tensor.is_quantized, "meta": tensor.is_meta}
    layout = next((name for name, has in kinds.items() if has), "" if tensor.layout == torch.strided else "sparse")
    if layout:
        raise BadInput(f"an image must be a plain tensor with numbers (got a {layout} tensor)")


def _channels_last(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    array = plain.float().numpy() if plain.is_floating_point() else plain.numpy()  # NumPy has no bfloat16
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array
