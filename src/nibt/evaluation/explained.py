"""Explanations whose model is at hand, for what is found out about their maps."""

from nibt.core.hidden_cells import check_model
from nibt.data.images import ImageInput
from nibt.errors import BadInput
from nibt.models.base import Model
from nibt.report.image.parts import present
from nibt.results.base import require_result
from nibt.results.explanation import Explanation


def explained_image(explanation: Explanation, model: Model, caller: str) -> ImageInput:
    """Return the image of an explanation of an image with a caption.

    Raises:
        BadInput: The explanation is of another model or compares two images or two captions, or its image is missing.
    """
    require_result(explanation, caller, Explanation)
    check_explained(explanation, model, caller)
    return present(explanation.image.input, explanation.source)


def check_explained(explanation: Explanation, model: Model, caller: str) -> None:
    """Check that an explanation is of a model, and of an image with a caption."""
    if explanation.is_comparison:
        raise BadInput(f"{caller} takes explanations of an image with a caption (got a comparison)")

    check_model(explanation, model)
