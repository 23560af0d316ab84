"""What an answer is an answer to, in words: the question, how its colors are read, the method, the target, the model.

Images, pages and the terminal share these, so that each says the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nibt.results.explanation import Comparison, Explanation
from nibt.results.interaction import Interaction

_TITLE = 60  # characters of a caption in a title
_LISTED = 3  # captions or images that a target line names before it counts the others
Shown = Explanation | Comparison | Interaction


def question(answer: Shown) -> str:
    """The question that the answer answers, as a sentence."""
    if isinstance(answer, Interaction):
        return f"Which words of {_title(answer.caption)} go with which parts of the image?"
    if isinstance(answer, Comparison):
        noun = "images" if answer.first.modality == "image" else "captions"
        return f"Where does the similarity of these two {noun} come from?"
    target, others = answer.score["target"], _contrast(answer).get("captions", ())
    if target == "difference" and others:
        return f"Why {_title(answer.caption)} rather than {_title(others[0])}?"
    if target == "softmax" and others:
        return f"Why {_title(answer.caption)} among {len(others) + 1} captions?"
    if target == "centred":
        return f"Why {_title(answer.caption)} more than the average caption?"
    return f"Where does the similarity of this image and {_title(answer.caption)} come from?"


def legend(answer: Shown, positive_only: bool = False) -> str:
    """How the colors are read; ``positive_only`` leaves out what lowers the score."""
    if not is_signed(answer):
        return "The stronger the color, the more it matters; this method does not say in which direction."
    name = "similarity" if isinstance(answer, Interaction) else "score"
    hidden = "what lowers it is not shown" if positive_only else "blue lowers it"
    return f"Red raises the {name}, {hidden}."


def is_signed(answer: Shown) -> bool:
    """Whether the scores say in which direction a unit moves the target."""
    return bool(answer.method.get("signed", True))


def method_line(answer: Shown) -> str:
    """The method with its variant, and the model: ``method nib (default), model lite``."""
    return f"method {method_name(answer)}, model {model_name(answer)}"


def method_name(answer: Shown) -> str:
    """The method with its variant, as on the command line: ``nib (default)``."""
    table = "word-region table of " if isinstance(answer, Interaction) else ""
    path = " along NIB's path" if answer.method.get("along_path") else ""
    return f"{table}{answer.method['name']} ({answer.method['variant']}){path}"


def model_name(answer: Shown) -> str:
    """The model without its folder."""
    return Path(answer.model["id"]).name


def target_line(answer: Shown) -> str:
    """The target of each side, with its value, and against what; one entry where both sides are alike."""
    if isinstance(answer, Interaction):
        return "target cosine"
    sides = {name: _side(answer, name) for name in answer.sides}
    targets = {answer.score[name]["target"] for name in sides}
    if targets == {"cosine"}:
        return "target cosine"
    named = {"image": "image side", "text": "text side"}
    return "target " + "; ".join(f"{named.get(name, name)}: {text}" for name, text in sides.items())


def sentence(text: str, capital: bool = True) -> str:
    """A full stop at the end and, with ``capital``, the first letter large.

    >>> sentence("the caption was cut")
    'The caption was cut.'

    """
    first = text[:1].upper() if capital else text[:1]
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _side(answer: Explanation | Comparison, name: str) -> str:
    score, contrast = answer.score[name], _contrast(answer)
    text = f"{score['target']} {score['value']:.3f}"
    if score["target"] == "cosine":
        return text
    templates = answer.score.get("options", {}).get("templates", ())
    if score["target"] == "ensemble":
        return f"{text}, the mean of {len(templates)} wordings"
    kinds = {"image": ("captions",), "text": ("images",)}.get(name, ("captions", "images"))
    items = [(kind, contrast[kind]) for kind in kinds if kind in contrast]
    if items:
        return text + "".join(f", against the {_noun(kind, listed)} {_several(listed)}" for kind, listed in items)
    return f"{text}, against the mean that the model brings" if score["target"] == "centred" else text


def _contrast(answer: Explanation | Comparison) -> Mapping[str, Sequence[str]]:
    """The captions and the images that the target compares with."""
    options: Mapping[str, Any] = answer.score.get("options", {})
    others = {"captions": options.get("against", ()), "images": options.get("against_images", ())}
    return {kind: listed for kind, listed in others.items() if listed}


def _noun(kind: str, listed: Sequence[str]) -> str:
    return kind if len(listed) > 1 else kind.removesuffix("s")


def _several(listed: Sequence[str]) -> str:
    more = len(listed) - _LISTED
    return ", ".join(_names(listed)) + (f" and {more} more" if more > 0 else "")


def _names(listed: Sequence[str]) -> Iterator[str]:
    yield from (_quoted(one) for one in listed[:_LISTED])


def _quoted(text: str) -> str:
    return f"\u201c{text}\u201d"


def _title(text: str) -> str:
    """A quoted caption, cut where it is too long for a title: the whole of it stands with its colors below."""
    return _quoted(text if len(text) <= _TITLE else text[: _TITLE - 1].rstrip() + "\u2026")
