"""How results are drawn: the colors, the style of maps over a photograph, and whether negative scores are shown."""

from dataclasses import dataclass, replace

from nibt.errors import BadOption
from nibt.report.colors import PALETTES, Palette, find_palette

STYLES = ("overlay", "colors", "outline", "heatmap")
OUTLINED = 0.5
"""The share of the largest positive score at which the outline is drawn."""


@dataclass(frozen=True)
class Appearance:
    """How results are drawn: the colors, one of ``STYLES``, and whether negative scores are hidden."""

    positive_only: bool = False
    style: str = "overlay"
    palette: Palette = PALETTES["red_blue"]

    @property
    def outlined(self) -> bool:
        return self.style in ("overlay", "outline")

    @property
    def pale(self) -> "Appearance":
        """The same with pale colors and without outlines, for maps that are noise."""
        style = "heatmap" if self.style == "heatmap" else "colors"
        return replace(self, style=style, palette=self.palette.pale)


DEFAULT = Appearance()


def appearance(positive_only: bool = False, style: str = "overlay", cmap: str = "red_blue") -> Appearance:
    """Return how results are drawn, by names."""
    if style not in STYLES:
        raise BadOption(f"style must be {', '.join(STYLES[:-1])} or {STYLES[-1]} (got {style!r})")
    return Appearance(positive_only, style, find_palette(cmap))
