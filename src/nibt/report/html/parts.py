"""The page of parts: one HTML file that loads nothing, with a gallery of each part."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from nibt.io import read_text
from nibt.report.colors import FAINT, INK, PALETTES, RGB, css, on_paper
from nibt.report.html.document import document, macros, rendered
from nibt.report.html.view import as_json
from nibt.results.parts import FEWEST_IMAGES, LEAST_EFFECT, ON_OBJECTS, WIDEST, Effect, Part, Parts

VERDICT_COLORS: dict[str, RGB] = {
    "shortcut": PALETTES["red_blue"].positive,
    "cannot tell": FAINT,
    "object": PALETTES["red_blue"].negative,
    "not needed": FAINT,
    "no verdict": FAINT,
}
FILE = "marked-parts.json"
"""The name of the file that the page downloads."""
_SCRIPT = read_text(files("nibt.report.html") / "parts.js")
_CELL = 10  # the side of a cell of a place, in pixels


def page(parts: Parts, sign: bool = False) -> str:
    """Return the page; with ``sign`` it has the signature of a file that nibt writes."""
    name = Path(parts.model["id"]).name
    data = [f"{key} {value}" for key, value in parts.data.items() if key in ("dataset", "folder", "pairs")]
    limits = {"fewest_images": FEWEST_IMAGES, "least_effect": LEAST_EFFECT, "on_objects": ON_OBJECTS, "widest": WIDEST}
    body = rendered(
        "parts.html",
        parts=parts,
        model_name=name,
        data=", ".join(data),
        place=_place,
        cell=_CELL,
        effect=effect_text,
        gallery=macros("part_gallery.html"),
        file=FILE,
        data_of_parts=Markup(as_json(_without_pictures(parts).to_json())),
        **limits,
    )
    style = rendered("parts.css", css=css, ink=INK, faint=FAINT, verdicts=VERDICT_COLORS)
    return document(f"Parts of {name}", body, str(style), [_SCRIPT], parts.request() if sign else None)


def _without_pictures(parts: Parts) -> Parts:
    """Return parts whose file is small."""
    return replace(parts, parts=tuple(replace(part, gallery=()) for part in parts.parts))


def effect_text(effect: Effect | None, units: str = "cells") -> str:
    """Return an effect with its interval, and what it has beyond as many random units."""
    if effect is None:
        return "unknown"
    beyond = f"{effect.beyond_random:.2f} [{effect.beyond_random_low:.2f}, {effect.beyond_random_high:.2f}]"
    return f"{effect.value:.2f} [{effect.low:.2f}, {effect.high:.2f}]; beyond random {units} {beyond}"


def _place(part: Part) -> list[tuple[int, int, str]]:
    """Return the left and upper edges of the cells of a place, and their colors."""
    grid = part.place / part.place.max().clamp(min=1e-9)
    cells = []
    for row, values in enumerate(grid.tolist()):
        for column, value in enumerate(values):
            red, green, blue = on_paper(value, PALETTES["red_blue"]).tolist()
            cells.append((_CELL * column, _CELL * row, css((red, green, blue))))

    return cells
