"""The view of explanations: of an image with a caption, of two images, or of two captions."""

from PIL import Image

from nibt.data.pair import NOUNS
from nibt.report.colors import PAPER, Appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, below, centered, resized, stacked, tile
from nibt.report.image.parts import caption, header, notes, part_scale, photograph, ranking
from nibt.report.ranked import contrast_of, ranked_labels, ranked_noun, ranked_subjects, side_title
from nibt.report.request import is_signed, shared_word_scale, side_look
from nibt.report.view import MapView, fixed, names_of, other_image, quoted, similarity_name
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import Explanation

_LISTED = 3  # captions or images that a target line names; the others are counted
_PANEL, _LINE, _NEAR = 460, 760, 14


class ExplanationView(MapView, name="explanation"):
    """Both inputs with their scores."""

    shows = Explanation
    place = 1

    def draw(self, result: Explanation, look: Appearance) -> Image.Image:
        return _comparison(result, look) if result.is_comparison else _page(result, look)

    def question(self, result: Explanation) -> str:
        if result.is_comparison:
            noun = NOUNS[result.first.modality]
            return f"Where does the similarity of these two {noun}s come from?"
        target, others = result.target["name"], contrast_of(result).get("captions", ())
        images = contrast_of(result).get("images", ())
        value, caption = result.target["value"], quoted(result.caption)
        if target == "difference" and not others and images:
            first, second = names_of([result.source, images[0]])
            if result.is_noise("text"):
                return f"Does {first} or {other_image(first, second)} match {caption} better?"
            better = "better" if value >= 0 else "worse"
            return f"Why does {first} match {caption} {better} than {other_image(first, second)}?"
        if target == "difference" and others:
            if result.is_noise("image"):
                return f"Does {caption} or {quoted(others[0])} match better?"
            if value < 0:
                return f"Why does {caption} match worse than {quoted(others[0])}?"
            return f"Why {caption} rather than {quoted(others[0])}?"
        if target == "softmax" and others:
            if value <= 0.5:  # another caption may be more probable
                return f"What makes {caption} more or less probable among {len(others) + 1} captions?"
            return f"Why {caption} among {len(others) + 1} captions?"
        if target == "centered":
            return f"Why {caption} {'more' if value >= 0 else 'less'} than the average caption?"
        return f"Where does the similarity of this image and {caption} come from?"

    def raised(self, result: Explanation) -> str:
        if result.target["name"] == "difference":
            return "similarity of its image" if ranked_noun(result) == "image" else "difference"
        return "score"

    def outline(self, result: Explanation) -> str:
        return f"Outline: {result.decisive.about}" if result.decisive else "The outline is at half of the maximum"

    def heading(self, result: Explanation) -> str:
        if not result.is_comparison:
            return result.caption

        sources = [side.source for side in result.sides.values()]
        return " with ".join(names_of(sources) if result.first.modality == "image" else sources)

    def strong(self, result: Explanation) -> str:
        difference = f", difference {fixed(result.target['value'])}" if "against" in result.sides else ""
        return super().strong(result) + difference

    def target_line(self, result: Explanation) -> str:
        sides = {name: _side(result, name) for name in result.sides}
        targets = {result.target[name]["name"] for name in sides}
        if targets == {"cosine"}:
            return f"target {similarity_name(result)}"
        return "target " + "; ".join(f"{side_title(result, name)}: {text}" for name, text in sides.items())


def _side(explanation: Explanation, name: str) -> str:
    target, contrast = explanation.target[name], contrast_of(explanation)
    named = similarity_name(explanation) if target["name"] == "cosine" else target["name"]
    text = f"{named} {target['value']:.3f}"
    if target["name"] == "cosine":
        return text
    templates = explanation.target.get("options", {}).get("templates", ())
    if target["name"] == "ensemble":
        return f"{text}, the mean of {len(templates)} wordings"
    kinds = {"image": ("captions",), "text": ("images",)}.get(name, ("captions", "images"))
    items = [(plural, contrast[plural]) for plural in kinds if plural in contrast]
    if items:
        for plural, listed in items:
            if plural == "images":
                explained = [] if explanation.is_comparison else [explanation.source]
                listed = names_of([*explained, *listed])[len(explained) :]
            noun, more = plural if len(listed) > 1 else plural.removesuffix("s"), len(listed) - _LISTED
            text += f", against the {noun} {', '.join(map(quoted, listed[:_LISTED]))}"
            text += f" and {more} more" if more > 0 else ""
        return text
    return f"{text}, against the mean that the model brings" if target["name"] == "centered" else text


def _page(explanation: Explanation, look: Appearance) -> Image.Image:
    """Draw an image with its map and a caption; the image or caption that they are compared with has a map, too."""
    images = {name: side for name, side in explanation.sides.items() if isinstance(side, ImageAttribution)}
    strongest = max(images.values(), key=lambda side: float(side.grid.abs().max()))
    if len(images) > 1:
        panels = [_compared(explanation, *side, float(strongest.grid.abs().max()), look) for side in images.items()]
    else:
        original = resized(photograph(explanation.image.input, explanation.source))
        panels = [original, overlay(explanation, original, side_look(explanation, "image", look))]
    beside = sum(panel.width for panel in panels) <= 1.6 * sum(panel.height for panel in panels)
    panel_width = sum(panel.width for panel in panels) + MARGIN if beside else max(panel.width for panel in panels)
    width = max(panel_width, SIDE) + 2 * MARGIN
    signed = is_signed(explanation)
    image_look = look.pale if all(explanation.is_noise(name) for name in images) else look
    rows = [
        *header(explanation, width, look),
        *([centered(panels, width)] if beside else (centered([panel], width) for panel in panels)),
        part_scale(strongest, width, image_look, signed, "images" if len(images) > 1 else "image"),
    ]
    most_of_words = shared_word_scale(explanation)
    for name, side in explanation.sides.items():
        if isinstance(side, TextAttribution):
            label = "other words" if name == "against" else "words"
            words_look = side_look(explanation, name, look)
            rows += [
                caption(side, width, words_look, most=most_of_words),
                part_scale(side, width, words_look, signed, label, most_of_words),
            ]
    if explanation.ranking:
        rows.append(ranking(ranked_labels(explanation), width, ranked_noun(explanation), ranked_subjects(explanation)))
    return stacked([*rows, notes(explanation, width)], width)


def _compared(
    explanation: Explanation, name: str, side: ImageAttribution, most: float, look: Appearance
) -> Image.Image:
    """Draw one of two images that are compared for a caption, with its name and its similarity above it.

    The photograph in its own colors stands above the map, since images may differ in their colors.
    """
    mapped = explanation if name == "image" else side  # of which the explanation knows what decides
    original = resized(photograph(side.input, side.source), _PANEL)
    laid = overlay(mapped, original, side_look(explanation, name, look), most)
    if look.style != "outline":  # which has the colors of the photograph
        laid = below(original, laid, _NEAR)
    names = {key: side.source for key, side in explanation.sides.items() if isinstance(side, ImageAttribution)}
    title = dict(zip(names, names_of([*names.values()]), strict=True))[name]
    return tile(laid, title, f"{explanation.target[name]['value']:z.3f}")


def _comparison(explanation: Explanation, look: Appearance) -> Image.Image:
    """Draw both inputs, each with its color bar, and the notes."""
    looks = {name: side_look(explanation, name, look) for name in explanation.sides}
    images = {name: side for name, side in explanation.sides.items() if isinstance(side, ImageAttribution)}
    # two images or two captions share one scale
    most = max((float(side.grid.abs().max()) for side in images.values()), default=shared_word_scale(explanation))
    panels = []
    for name, side in images.items():
        original = resized(photograph(side.input, side.source), _PANEL)
        panels.append((original, overlay(side, original, looks[name], most)))
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [
        caption(side, width, looks[name], most=most)
        for name, side in explanation.sides.items()
        if isinstance(side, TextAttribution)
    ]
    for pair in panels:  # a photograph and its map, centered in columns that all rows share
        row = Image.new("RGB", (width, pair[0].height), PAPER)
        left = (width - 2 * column - MARGIN) // 2
        for place, panel in enumerate(pair):
            row.paste(panel, (left + place * (column + MARGIN) + (column - panel.width) // 2, 0))
        rows.append(row)
    bars = [
        part_scale(side, width, looks[name], is_signed(explanation), name, most)
        for name, side in explanation.sides.items()
    ]
    rows = [below(row, bar, _NEAR) for row, bar in zip(rows, bars, strict=True)]
    return stacked([*header(explanation, width, look), *rows, notes(explanation, width)], width)
