"""How results are drawn: the colors, the style of maps over a photograph, and whether negative scores are shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nibt.errors import BadOption
from nibt.report.colors import PALETTES, Palette, find_palette
from nibt.results.explanation import NO_REACTION, mismatch

STYLES = ("overlay", "colors", "outline", "heatmap")
OUTLINED = 0.5
"""The share of the largest positive score at which the outline is drawn."""


@dataclass(frozen=True)
class Appearance:
    """How results are drawn.

    Attributes:
        positive_only: Whether negative scores are hidden.
        style: How a map is drawn: ``overlay``, colors over the grayed photograph with an outline where the score is at
            least half of the largest positive one; ``colors``, without the outline; ``outline``, over the photograph in
            its own colors; ``heatmap``, colors alone.
        palette: The colors of positive and negative scores.

    """

    positive_only: bool = False
    style: str = "overlay"
    palette: Palette = PALETTES["red_blue"]

    @property
    def outlined(self) -> bool:
        """Whether the outline is drawn."""
        return self.style in ("overlay", "outline")

    def suited_to(self, warnings: Iterable[Sequence[str]]) -> "Appearance":
        """Return a pale appearance without outlines if the model reacts to none of the captions, whose maps are noise.

        Args:
            warnings: The warnings of each answer that is drawn.

        """
        if not all(mismatch(each).startswith(NO_REACTION) for each in warnings):
            return self
        style = "heatmap" if self.style == "heatmap" else "colors"
        return replace(self, style=style, palette=self.palette.pale)


DEFAULT = Appearance()


def appearance(positive_only: bool = False, style: str = "overlay", cmap: str = "red_blue") -> Appearance:
    """Return how results are drawn, by names.

    Raises:
        BadOption: There is no such style or color map.

    """
    if style not in STYLES:
        raise BadOption(f"style must be {', '.join(STYLES[:-1])} or {STYLES[-1]} (got {style!r})")
    return Appearance(positive_only, style, find_palette(cmap))
