"""The view of explanations: of an image with a caption, of two images, or of two captions."""

from collections.abc import Mapping, Sequence

from PIL import Image

from nibt.data.pair import NOUNS
from nibt.records import JsonObject
from nibt.report.colors import PAPER, Appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, below, centered, resized, stacked, tile
from nibt.report.image.parts import boxed, caption, header, notes, part_scale, photograph
from nibt.report.ranked import contrast_of, ranked_labels, ranked_noun, ranked_subjects, side_title
from nibt.report.request import is_signed, shared_word_scale, side_look
from nibt.report.view import (
    MapView,
    fixed,
    names_of,
    other_image,
    probability_text,
    quoted,
    similarity_name,
    similarity_noun,
)
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import Explanation

_LISTED = 3  # captions or images that a target line names; the others are counted
_PANEL = 460
_LINE = 760
_NEAR = 14


class ExplanationView(MapView[Explanation], name="explanation"):
    """Both inputs with their scores."""

    shows = Explanation
    place = 1

    def draw(self, result: Explanation, look: Appearance) -> Image.Image:
        return _comparison(result, look) if result.is_comparison else _page(result, look)

    def question(self, result: Explanation) -> str:
        if result.is_comparison:
            return f"Where does the similarity of these two {NOUNS[result.first.modality]}s come from?"

        target = result.target["name"]
        value = result.target["value"]
        caption = quoted(result.caption)
        others = contrast_of(result)

        if target == "difference" and "captions" in others:
            return _question_of_captions(result, quoted(others["captions"][0]))
        if target == "difference" and "images" in others:
            return _question_of_images(result, others["images"][0])

        if target == "softmax" and "captions" in others:
            count = len(others["captions"]) + 1
            if value <= 0.5:  # another caption may be more probable
                return f"What makes {caption} more or less probable among {count} captions?"
            return f"Why {caption} among {count} captions?"

        if target == "centered":
            return f"Why {caption} {'more' if value >= 0 else 'less'} than the average caption?"
        if similarity_name(result) == "logit":
            return (
                f"Where does the {'probability' if target == 'softmax' else 'logit'} of the class {caption} come from?"
            )
        return f"Where does the {similarity_noun(result)} of this image and {caption} come from?"

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
        return super().strong(result) + probability_text(result) + difference

    def score(self, result: Explanation) -> tuple[str, float]:
        return similarity_noun(result), result.similarity

    def facts(self, result: Explanation) -> JsonObject:
        return {"target": dict(result.target)}

    def target_line(self, result: Explanation) -> str:
        if all(result.target[name]["name"] in ("cosine", "score", similarity_name(result)) for name in result.sides):
            return f"target {similarity_name(result)}"
        return "target " + "; ".join(
            f"{side_title(result, name)}: {_target_of_side(result, name)}" for name in result.sides
        )


def _question_of_captions(explanation: Explanation, other: str) -> str:
    caption = quoted(explanation.caption)
    if explanation.is_noise("image"):
        return f"Does {caption} or {other} match better?"
    if explanation.target["value"] < 0:
        return f"Why does {caption} match worse than {other}?"
    return f"Why {caption} rather than {other}?"


def _question_of_images(explanation: Explanation, source: str) -> str:
    caption = quoted(explanation.caption)
    image, second = names_of([explanation.source, source])
    other = other_image(image, second)
    if explanation.is_noise("text"):
        return f"Does {image} or {other} match {caption} better?"

    better = "better" if explanation.target["value"] >= 0 else "worse"
    return f"Why does {image} match {caption} {better} than {other}?"


def _target_of_side(explanation: Explanation, name: str) -> str:
    """Return the target of a side, its value and what it compares with."""
    target = explanation.target[name]["name"]
    value = f"{explanation.target[name]['value']:.3f}"
    if target in ("cosine", "score", similarity_name(explanation)):
        return f"{similarity_name(explanation)} {value}"
    if target == "ensemble":
        templates = explanation.target.get("options", {}).get("templates", ())
        return f"ensemble {value}, the mean of {len(templates)} wordings"

    # an image is compared by captions, and a caption by images
    kinds = {"image": ("captions",), "text": ("images",)}.get(name, ("captions", "images"))
    others = contrast_of(explanation)
    against = "".join(_against(explanation, plural, others[plural]) for plural in kinds if plural in others)
    if target == "centered" and not against:
        against = ", against the mean that the model brings"
    return f"{target} {value}{against}"


def _against(explanation: Explanation, plural: str, items: Sequence[str]) -> str:
    """Return the captions or images that a target compares with; all but a few are counted."""
    if plural == "images":
        # a name has its folder where it would be that of the explained image
        explained = [] if explanation.is_comparison else [explanation.source]
        items = names_of([*explained, *items])[len(explained) :]

    noun = plural if len(items) > 1 else plural.removesuffix("s")
    text = f", against the {noun} {', '.join(map(quoted, items[:_LISTED]))}"
    more = len(items) - _LISTED
    return f"{text} and {more} more" if more > 0 else text


def _page(explanation: Explanation, look: Appearance) -> Image.Image:
    """Draw an image with its map and a caption; the image or caption that they are compared with has a map, too."""
    images = _image_sides(explanation)
    strongest = max(images.values(), key=_most)
    panels = _panels(explanation, images, _most(strongest), look)

    # wide images stand below each other: beside each other, they would be a strip
    panels_width = sum(panel.width for panel in panels)
    is_beside = panels_width <= 1.6 * sum(panel.height for panel in panels)
    if is_beside:
        width = max(panels_width + MARGIN, SIDE) + 2 * MARGIN
        panel_rows = [centered(panels, width)]
    else:
        width = max(SIDE, *(panel.width for panel in panels)) + 2 * MARGIN
        panel_rows = [centered([panel], width) for panel in panels]

    signed = is_signed(explanation)
    image_look = look.pale if all(explanation.is_noise(name) for name in images) else look
    image_label = "images" if len(images) > 1 else "image"
    rows = [
        *header(explanation, width, look),
        *panel_rows,
        part_scale(strongest, width, image_look, signed, image_label),
    ]

    most_of_words = shared_word_scale(explanation)
    for name, side in explanation.sides.items():
        if isinstance(side, TextAttribution):
            label = "other words" if name == "against" else "words"
            words_look = side_look(explanation, name, look)
            rows.append(caption(side, width, words_look, most=most_of_words))
            rows.append(part_scale(side, width, words_look, signed, label, most_of_words))

    if explanation.ranking:
        from nibt.report.image.ranking import ranking  # which maps without a ranking do not need

        heading = ranked_noun(explanation), similarity_name(explanation)
        rows.append(ranking(ranked_labels(explanation), width, heading, ranked_subjects(explanation)))
    if explanation.parts:
        from nibt.report.image.known_parts import known_parts  # which maps without known parts do not need

        rows.append(known_parts(explanation, width))

    rows.append(notes(explanation, width))
    return stacked(rows, width)


def _panels(
    explanation: Explanation, images: Mapping[str, ImageAttribution], most: float, look: Appearance
) -> list[Image.Image]:
    """Draw a photograph and its map, or of each of two images a panel with its name and its similarity.

    A photograph in its own colors stands above its map in such a panel, since images may differ in their colors.
    """
    if len(images) == 1:
        original = resized(photograph(explanation.image.input, explanation.source))
        mapped = overlay(explanation, original, side_look(explanation, "image", look))
        return [boxed(panel, explanation.size, explanation.box) for panel in (original, mapped)]

    panels = []
    titles = names_of([side.source for side in images.values()])
    for (name, side), title in zip(images.items(), titles, strict=True):
        mapped = explanation if name == "image" else side  # of which the explanation knows what decides
        original = resized(photograph(side.input, side.source), _PANEL)
        picture = overlay(mapped, original, side_look(explanation, name, look), most)
        if look.style != "outline":  # which has the colors of the photograph
            picture = below(original, picture, _NEAR)
        panels.append(tile(picture, title, f"{explanation.target[name]['value']:z.3f}"))

    return panels


def _comparison(explanation: Explanation, look: Appearance) -> Image.Image:
    """Draw both inputs, each with its color bar, and the notes."""
    images = _image_sides(explanation)
    # two images or two captions share one scale
    most = max(map(_most, images.values()), default=shared_word_scale(explanation))
    photographs = {name: resized(photograph(side.input, side.source), _PANEL) for name, side in images.items()}
    column = max((original.width for original in photographs.values()), default=0)
    width = (max(2 * column + MARGIN, SIDE) if images else _LINE) + 2 * MARGIN

    rows = list(header(explanation, width, look))
    for name, side in explanation.sides.items():
        own_look = side_look(explanation, name, look)
        if isinstance(side, ImageAttribution):
            original = photographs[name]
            row = _in_columns([original, overlay(side, original, own_look, most)], column, width)
        else:
            row = caption(side, width, own_look, most=most)

        bar = part_scale(side, width, own_look, is_signed(explanation), name, most)
        rows.append(below(row, bar, _NEAR))

    rows.append(notes(explanation, width))
    return stacked(rows, width)


def _in_columns(panels: Sequence[Image.Image], column: int, width: int) -> Image.Image:
    """Draw a photograph and its map, each centered in a column that all rows share."""
    row = Image.new("RGB", (width, panels[0].height), PAPER)
    left = (width - 2 * column - MARGIN) // 2
    for panel in panels:
        row.paste(panel, (left + (column - panel.width) // 2, 0))
        left += column + MARGIN
    return row


def _image_sides(explanation: Explanation) -> dict[str, ImageAttribution]:
    return {name: side for name, side in explanation.sides.items() if isinstance(side, ImageAttribution)}


def _most(side: ImageAttribution) -> float:
    """Return the largest absolute score of the map of an image, at which its colors end."""
    return float(side.grid.abs().max())
