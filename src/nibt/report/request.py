"""What images, pages and the terminal share: the request behind a result in words, and captions with their colors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nibt.data.pair import NOUNS
from nibt.io import one_line
from nibt.report.colors import DEFAULT, RGB, Appearance, on_paper, strength
from nibt.results.answer import ANSWER_TARGETS, AnswerExplanation
from nibt.results.attribution import TextAttribution
from nibt.results.explanation import Explanation, Ranked
from nibt.results.regions import Regions
from nibt.types import RUNNER_UP

_LISTED = 3  # captions or images that a target line names; the others are counted
WordMaps: TypeAlias = Regions | AnswerExplanation
"""Results with a map for each word: of a caption, or of an answer."""
Shown = Explanation | WordMaps


def question(result: Shown) -> str:
    """Return the question of a result as a sentence."""
    if isinstance(result, AnswerExplanation):
        if result.target["name"] == "difference":
            more = "more" if sum(word.value for word in result.words) >= 0 else "less"
            named = f"{_quoted(result.answer)} a {more} likely answer to {_quoted(result.prompt)}"
            first, second = names_of([image.source for image in result.images])
            return f"Why is {named} with {first} than with {_other_image(first, second)}?"
        if not result.written:
            answered = f"{_quoted(result.answer)} more or less likely as an answer to {_quoted(result.prompt)}"
            return f"What makes {answered}{_rather(result)}?"
        return f"Why did the model answer {_quoted(result.answer)} to {_quoted(result.prompt)}{_rather(result)}?"
    if isinstance(result, Regions):
        return f"Which words of {_quoted(result.caption)} go with which parts of the image?"
    if result.is_comparison:
        noun = NOUNS[result.first.modality]
        return f"Where does the similarity of these two {noun}s come from?"
    target, others = result.target["name"], _contrast(result).get("captions", ())
    images = _contrast(result).get("images", ())
    value, caption = result.target["value"], _quoted(result.caption)
    if target == "difference" and not others and images:
        first, second = names_of([result.source, images[0]])
        if result.is_noise("text"):
            return f"Does {first} or {_other_image(first, second)} match {caption} better?"
        better = "better" if value >= 0 else "worse"
        return f"Why does {first} match {caption} {better} than {_other_image(first, second)}?"
    if target == "difference" and others:
        if result.is_noise("image"):
            return f"Does {caption} or {_quoted(others[0])} match better?"
        if value < 0:
            return f"Why does {caption} match worse than {_quoted(others[0])}?"
        return f"Why {caption} rather than {_quoted(others[0])}?"
    if target == "softmax" and others:
        if value <= 0.5:  # another caption may be more probable
            return f"What makes {caption} more or less probable among {len(others) + 1} captions?"
        return f"Why {caption} among {len(others) + 1} captions?"
    if target == "centered":
        return f"Why {caption} {'more' if value >= 0 else 'less'} than the average caption?"
    return f"Where does the similarity of this image and {caption} come from?"


def names_of(sources: Sequence[str]) -> list[str]:
    """Return the names of images without their folders, as far as they still differ.

    >>> names_of(["photos/cat.jpg", "photos/dog.jpg"]), names_of(["a/1.jpg", "b/1.jpg"])
    (['cat.jpg', 'dog.jpg'], ['a/1.jpg', 'b/1.jpg'])
    """
    parts = [re.split(r"[/\\]", source) for source in sources]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) or source for part, source in zip(parts, sources, strict=True)]
        if len(set(names)) == len(set(sources)):
            return names
    return list(sources)


def _other_image(first: str, second: str) -> str:
    """Return how a question names the second of two images, whose names may be the same."""
    return "the other image" if first == second else second


def _rather(result: AnswerExplanation) -> str:
    """Return the alternative that each word is compared with."""
    against = result.target["options"].get("against")
    if against is None:
        return ""
    return (
        ", rather than with the second best words" if against == RUNNER_UP else f", rather than with {_quoted(against)}"
    )


def legend(result: Shown, look: Appearance = DEFAULT) -> str:
    """Return the legend of the colors."""
    if not is_signed(result):
        text = "The stronger the color, the more it matters; this method does not say in which direction."
        return text + (f" In the image, {look.palette.names[1]} lowers the score." if _by_removal(result) else "")
    name = "similarity" if isinstance(result, Regions) else "score"
    if isinstance(result, Explanation) and result.target["name"] == "difference":
        name = "similarity of its image" if ranked_noun(result) == "image" else "difference"
    if isinstance(result, AnswerExplanation):
        name = f"{ANSWER_TARGETS[result.target['name']]} of the word"
    if not result.method.get("signed", True):  # a table of words, whose entries have signs with any method
        name = "method's score of a part"
    positive, negative = look.palette.names
    hidden = "what lowers it is not shown" if look.positive_only else f"{negative} lowers it"
    legend_text = sentence(f"{positive} raises the {name}, {hidden}")
    if not isinstance(result, Explanation) or not look.outlined:
        return legend_text
    outline = f"Outline: {result.decisive.about}" if result.decisive else "The outline is at half of the maximum"
    return f"{legend_text} {sentence(outline)}"


def is_signed(result: Shown) -> bool:
    """Return whether the sign of a score is the direction in which a unit moves the target."""
    return isinstance(result, Regions) or bool(result.method.get("signed", True))


def side_look(result: Shown, name: str, look: Appearance) -> Appearance:
    """Return how the map of a side is drawn: pale if it is noise."""
    return look.pale if result.is_noise(name) else look


def words_matter(result: WordMaps) -> list[bool]:
    """Return whether each word's map is evidence: not if the image hardly matters for a word of an answer."""
    if isinstance(result, AnswerExplanation):
        return [not word.image_hardly_matters for word in result.words]
    return [True] * len(result.words)


def largest_score(result: WordMaps) -> float:
    """Return the largest absolute score of the maps of words that matter, or of all if none does."""
    matters = words_matter(result)
    table = result.table[matters] if any(matters) else result.table
    return float(table.abs().max())


def method_line(result: Shown) -> str:
    """Return the method with its variant, and the model: ``method nib (default), model lite``."""
    table = "word-region table of " if isinstance(result, Regions) else ""
    path = " along NIB's path" if result.method.get("along_path") else ""
    amounts = ", amounts by removal" if _by_removal(result) else ""
    method = f"{table}{result.method['name']} ({result.method['variant']}){path}{amounts}"
    return f"method {method}, model {Path(result.model['id']).name}"


def _by_removal(result: Shown) -> bool:
    """Return whether the amounts of a map are those of removal."""
    return any(isinstance(side, dict) and side.get("amounts") == "removal" for side in result.method.values())


def similarity_name(result: Shown) -> str:
    """Return how the model compares both sides."""
    return "MaxSim" if result.model.get("similarity") == "max_sim" else "cosine"


def target_line(result: Shown) -> str:
    """Return the target of each side, its value and its alternatives; one entry if both sides have ``cosine``."""
    if isinstance(result, AnswerExplanation):
        return f"target {result.target['name']}"
    if isinstance(result, Regions):
        return f"target {similarity_name(result)}"
    sides = {name: _side(result, name) for name in result.sides}
    targets = {result.target[name]["name"] for name in sides}
    if targets == {"cosine"}:
        return f"target {similarity_name(result)}"
    return "target " + "; ".join(f"{side_title(result, name)}: {text}" for name, text in sides.items())


def side_title(result: Explanation, name: str) -> str:
    """Return the name of a side for readers."""
    titles = {"image": "image side", "text": "text side", "against": f"other {NOUNS[result.sides[name].modality]}"}
    return titles.get(name, name)


def ranked_noun(result: Explanation) -> str:
    """Return what is ranked: labels of an image, or images for a caption."""
    return "image" if "against" in result.sides and result.against.modality == "image" else "label"


def ranked_labels(result: Explanation) -> list[Ranked]:
    """Return the ranking, with the names of images without their folders."""
    if not result.ranking or ranked_noun(result) != "image":
        return list(result.ranking)
    names = names_of([ranked.label for ranked in result.ranking])
    return [replace(ranked, label=name) for ranked, name in zip(result.ranking, names, strict=True)]


def ranked_subjects(result: Explanation) -> list[int]:
    """Return the positions of what is explained in what was ranked: the first and what it is compared with."""
    side = "image" if ranked_noun(result) == "image" else "text"
    explained = [attribution.source for name, attribution in result.sides.items() if name in (side, "against")]
    explained += _contrast(result).get(f"{'caption' if side == 'text' else side}s", ())
    return [ranked.position for ranked in result.ranking if ranked.label in explained]


def sentence(text: str, capital: bool = True) -> str:
    """Add a period to a text and, with ``capital``, capitalize its first letter.

    >>> sentence("the caption was cut")
    'The caption was cut.'
    """
    first = text[:1].upper() if capital else text[:1]
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _side(explanation: Explanation, name: str) -> str:
    target, contrast = explanation.target[name], _contrast(explanation)
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
            text += f", against the {noun} {', '.join(map(_quoted, listed[:_LISTED]))}"
            text += f" and {more} more" if more > 0 else ""
        return text
    return f"{text}, against the mean that the model brings" if target["name"] == "centered" else text


def _contrast(explanation: Explanation) -> Mapping[str, Sequence[str]]:
    """Return the captions and images with which the target compares."""
    options: Mapping[str, Any] = explanation.target.get("options", {})
    others = {"captions": options.get("against", ()), "images": options.get("against_images", ())}
    return {plural: listed for plural, listed in others.items() if listed}


def _quoted(text: str) -> str:
    return f"\u201c{text}\u201d"


Worded: TypeAlias = Explanation | TextAttribution
"""Results with words and scores: an explanation, or a caption of a comparison."""


@dataclass(frozen=True)
class ColoredWord:
    """A word, its score, its score relative to the largest absolute one, in [-1, 1], and its background color."""

    text: str
    score: float
    share: float
    background: RGB


def shared_word_scale(explanation: Explanation) -> float | None:
    """Return the largest absolute score of a word of two captions, whose colors have one scale; None for one."""
    captions = [side for side in explanation.sides.values() if isinstance(side, TextAttribution)]
    if len(captions) < 2:
        return None
    return max((abs(word.score) for side in captions for word in side.words), default=0.0)


def runs(worded: Worded, look: Appearance = DEFAULT, most: float | None = None) -> Iterator[ColoredWord]:
    """Yield the words in order; negative words have no color if they are hidden.

    ``most`` is the largest absolute score of a scale that several captions share.
    """
    scores = np.array([word.score for word in worded.words], np.float32)
    if most is None:
        most = float(np.abs(scores).max(initial=0))
    shares = strength(scores.clip(0) if look.positive_only else scores, most)
    backgrounds = on_paper(shares, look.palette).tolist()
    for word, share, background in zip(worded.words, shares.tolist(), backgrounds, strict=True):
        yield ColoredWord(one_line(word.text), word.score, share, tuple(background))
