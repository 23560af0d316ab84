"""The page of parts of captions: one HTML file that loads nothing, with examples of each part."""

from functools import partial
from pathlib import Path

from markupsafe import Markup, escape

from nibt.report.colors import FAINT, INK, css
from nibt.report.html.document import document, rendered
from nibt.report.html.parts import VERDICT_COLORS, effect_text
from nibt.results.parts import FEWEST_IMAGES, LEAST_EFFECT, ON_OBJECTS, WIDEST
from nibt.results.word_parts import CaptionOfPart, WordParts


def page(parts: WordParts, sign: bool = False) -> str:
    """Return the page; with ``sign`` it has the signature of a file that nibt writes."""
    name = Path(parts.model["id"]).name
    data = [f"{key} {value}" for key, value in parts.data.items() if key in ("dataset", "folder", "pairs")]
    body = rendered(
        "word_parts.html",
        parts=parts,
        model_name=name,
        data=", ".join(data),
        effect=partial(effect_text, units="words"),
        marked=_marked,
        fewest_captions=FEWEST_IMAGES,
        least_effect=LEAST_EFFECT,
        on_names=ON_OBJECTS,
        widest=WIDEST,
    )
    style = rendered("parts.css", css=css, ink=INK, faint=FAINT, verdicts=VERDICT_COLORS)
    return document(f"Parts of captions of {name}", body, str(style), [], parts.request() if sign else None)


def _marked(example: CaptionOfPart) -> Markup:
    """Return a caption whose words of the part are marked."""
    text = Markup("")
    place = 0
    for first, last in example.spans:
        text += escape(example.caption[place:first]) + Markup("<mark>{}</mark>").format(example.caption[first:last])
        place = last
    return text + escape(example.caption[place:])
