"""The view of slides: the slide, the map of its tiles, and the target on each tile."""

from collections.abc import Iterator

import numpy as np
import torch.nn.functional as F
from PIL import Image

from nibt.data.images import Region
from nibt.report.colors import INK, PAPER, Appearance, strength, tint
from nibt.report.image.heatmap import STRIPED, STRIPES, GridMap, overlay
from nibt.report.image.layout import MARGIN, banner, below, centered, resized, stacked, text_rows, tile
from nibt.report.image.parts import scale
from nibt.report.request import note_lines, sentence
from nibt.report.view import View, names_of, quoted
from nibt.results.attribution import percent
from nibt.results.explanation import method_text
from nibt.slides.explanation import SlideExplanation

_PANEL = 560
_TITLE = 20
_LEAST_CHANGE = 0.01  # smaller changes count as this, as in the tolerance of gaps
_SMALL_GAP = 0.15  # above it, explanations have a note on it
_WIDE = 2.0  # the ratio of width to height from which panels are below each other


class SlideView(View[SlideExplanation], name="slide"):
    """The slide, the map of its tiles, and the target on each tile."""

    shows = SlideExplanation
    place = 5

    def draw(self, result: SlideExplanation, look: Appearance) -> Image.Image:
        look = look.pale if result.is_noise("image") else look
        panels = [tile(picture, name, number) for name, number, picture in slide_panels(result, look, _PANEL)]
        is_beside = panels[0].width < _WIDE * panels[0].height
        across = sum(panel.width for panel in panels) + 4 * MARGIN if is_beside else panels[0].width + 2 * MARGIN
        width = max(across, 640)
        rows = [centered(panels, width)] if is_beside else [centered([panel], width) for panel in panels]
        most = float(result.maps.abs().max())
        signed = bool(result.method.get("signed", True))
        one_sided = look.is_one_sided(signed, float(result.maps.min()))
        bar = scale(most, width, look, one_sided, signed, name="map")
        title = below(
            text_rows([slide_question(result)], width, _TITLE, INK), text_rows([slide_legend(result, look)], width)
        )
        before = [banner(sentence(result.mismatch), width)] if result.mismatch else []
        return stacked([title, *before, *rows, bar, text_rows([*slide_facts(result)], width)], width)


def slide_question(result: SlideExplanation) -> str:
    """Return the question of a result as a sentence."""
    against = result.target["options"].get("against", ())
    rather = f" rather than {quoted(against[0])}" if len(against) == 1 else ""
    return f"Where on {names_of([result.source])[0]} is what the model takes for {quoted(result.caption)}{rather}?"


def slide_legend(result: SlideExplanation, look: Appearance) -> str:
    """Return the legend of the colors."""
    positive, negative = look.palette.names
    if not result.method.get("signed", True):
        return "The stronger the color, the more it matters; this method does not say in which direction."
    hidden = "what lowers it is not shown" if look.positive_only else f"{negative} lowers it"
    return sentence(f"{positive} raises the {result.target['name']} of a tile, {hidden}")


def slide_facts(result: SlideExplanation) -> Iterator[str]:
    """Yield what is said below the maps."""
    rows, columns = result.content.shape
    others = ""
    if len(result.tiles) < rows * columns:
        others = f"; in the others (striped), less than {result.least_content:.0%} of the pixels are not blank"
    yield (
        f"{len(result.tiles):,} of {rows:,} x {columns:,} tiles of {result.resolution} were explained, each on its "
        f"own{others}"
    )
    yield f"{_sums(result)}; no number is computed for the whole slide"
    yield f"method {method_text(result.method)}, model {result.model['id']}"
    yield from note_lines(result)


def _sums(result: SlideExplanation) -> str:
    """Return what the scores of a tile add up to."""
    name = result.target["name"]
    shares = [
        abs(tile.gap) / max(abs(tile.value - tile.baseline), _LEAST_CHANGE)
        for tile in result.tiles
        if tile.gap is not None and tile.baseline is not None
    ]
    if len(shares) < len(result.tiles):
        return f"with this method, the scores of a tile do not add up to its {name}: compare them within a tile"

    remedy = "" if max(shares) <= _SMALL_GAP else "; with tolerance=0.01, scores of different tiles can be compared"
    return (
        f"the scores of a tile add up to the change of its {name} from the baseline, with a gap of "
        f"{percent(float(np.median(shares)))} (median; at most {percent(max(shares))}){remedy}"
    )


def slide_panels(result: SlideExplanation, look: Appearance, side: int) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield the name, a number and the picture of each panel; their longer side has ``side`` pixels."""
    slide = resized(result.thumbnail(), side)
    yield "the slide", "", slide
    yield "scores of the patches", "", _striped(result, _map(result, slide, look))

    values = result.values.numpy()
    low = float(np.nanmin(values))
    high = float(np.nanmax(values))
    shares = strength(values, max(abs(low), abs(high)))
    if low >= 0 or high <= 0:  # else the sign has a meaning, and 0 has no color
        shares = (values - low) / ((high - low) or 1.0)
    colored = Image.fromarray(np.nan_to_num(shares).astype(np.float32)).resize(slide.size, Image.Resampling.NEAREST)
    tinted = Image.fromarray(tint(np.asarray(slide.convert("L")), np.asarray(colored), look.palette))
    yield (
        f"{result.target['name']} of each tile",
        f"{low:.3f} to {high:.3f}",
        _striped(result, _without_outside(result, tinted)),
    )


def _map(result: SlideExplanation, slide: Image.Image, look: Appearance) -> Image.Image:
    """Draw the map over the slide; cells that are smaller than a pixel are drawn as means."""
    grid = result.grid.nan_to_num()
    down = max(1, min(grid.shape[0] // slide.height, result.maps.shape[1]))
    across = max(1, min(grid.shape[1] // slide.width, result.maps.shape[2]))
    drawn = F.avg_pool2d(grid[None, None], (down, across), ceil_mode=True, count_include_pad=False)[0, 0]
    mapped = GridMap(drawn, Region(0, 0, *slide.size), slide.size)
    drawn = overlay(mapped, slide, look, float(result.maps.abs().max()))
    return _without_outside(result, drawn)


def _without_outside(result: SlideExplanation, picture: Image.Image) -> Image.Image:
    """Return a picture of all tiles that is white where the last ones extend past the slide."""
    rows, columns = result.content.shape
    extent = result.tile * result.downsample
    width = round(picture.width * result.size[0] / (columns * extent))
    height = round(picture.height * result.size[1] / (rows * extent))
    within = Image.new("RGB", picture.size, PAPER)
    within.paste(picture.crop((0, 0, width, height)))
    return within


def _striped(result: SlideExplanation, picture: Image.Image) -> Image.Image:
    """Draw stripes on the tiles that were left out."""
    left_out = np.isnan(result.values.numpy())
    if not left_out.any():
        return picture
    mask = Image.fromarray((left_out * round(255 * STRIPED)).astype(np.uint8))
    row, column = np.indices((picture.height, picture.width))
    stripes = np.where((row + column) // 6 % 2, *reversed(STRIPES)).astype(np.uint8)
    hidden = Image.fromarray(stripes).convert("RGB")
    return Image.composite(hidden, picture, mask.resize(picture.size, Image.Resampling.NEAREST))
