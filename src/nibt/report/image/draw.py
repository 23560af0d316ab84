"""Pictures of results: of explanations, of the words of a caption or an answer, and of the heads of a decomposition."""

from PIL import Image

from nibt.registry import find
from nibt.report.colors import appearance
from nibt.report.view import require_view
from nibt.results.base import Result
from nibt.torch_modes import plain_torch


@plain_torch()
def draw(
    answer: Result,
    positive_only: bool = False,
    style: str = "overlay",
    cmap: str = "red_blue",
) -> Image.Image:
    """Draw a result: the photograph, the map over it, and the caption below.

    A comparison is drawn with both inputs below each other, regions and answers with a small map per word, and a
    decomposition with a table of heads and the maps of the strongest heads.

    Args:
        answer: The result.
        positive_only: Whether negative scores are hidden.
        style: How maps are drawn: ``overlay``, colors over the grayed photograph with an outline where the score is at
            least half of the largest positive one; ``colors``, without the outline; ``outline``, over the photograph in
            its own colors; ``heatmap``, colors alone.
        cmap: ``red_blue``, ``orange_purple``, ``pink_green``, or a color map of matplotlib (its two ends).

    Raises:
        BadOption: There is no such style or color map.
        BadInput: An image of a loaded result is missing, or there is no such picture of the result.
    """
    require_view(answer, "draw")
    return find("views", answer.kind)().draw(answer, appearance(positive_only, style, cmap))
