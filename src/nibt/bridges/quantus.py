"""nibt's methods as explanations of Quantus."""

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from nibt.bridges.classifier import Targets, ZeroShotClassifier
from nibt.errors import BadInput
from nibt.registry import MethodSpec


def explain_func(
    model: nn.Module,
    inputs: np.ndarray,
    targets: Targets,
    method: str | MethodSpec = "nib",
    device: object = None,
    **options: object,
) -> Float[np.ndarray, "batch 1 height width"]:
    """Compute maps for the metrics of Quantus, which take this function as ``explain_func``.

    Args:
        model: A ``ZeroShotClassifier``.
        inputs: Prepared pixels, (batch, channel, height, width).
        targets: The number of a caption for each image.
        method: The method, as in ``explain``; an entry of ``explain_func_kwargs``.
        device: Ignored: the maps are computed where the model is.
        **options: Options of the method.

    Returns:
        The score of each patch, divided equally among its pixels.

    Raises:
        BadInput: The model is no ``ZeroShotClassifier``, or a target is not the number of a caption.
    """
    if not isinstance(model, ZeroShotClassifier):
        raise BadInput(f"model must be a ZeroShotClassifier of nibt.bridges.classifier (got {type(model).__name__})")

    pixels = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).to(model.embeddings.device)
    return model.spread(model.explain(pixels, targets, method, options), pixels).cpu().numpy()
