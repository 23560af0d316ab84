"""What an explanation is compared with, and what is ranked beside it, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nibt.data import pair
from nibt.report.view import names_of
from nibt.results.explanation import Explanation, Ranked


def side_title(result: Explanation, name: str) -> str:
    """Return the name of a side for readers."""
    return name if name in ("first", "second") else pair.side_title(name, result.sides[name].modality)


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
    explained += contrast_of(result).get(f"{'caption' if side == 'text' else side}s", ())
    return [ranked.position for ranked in result.ranking if ranked.label in explained]


def contrast_of(explanation: Explanation) -> Mapping[str, Sequence[str]]:
    """Return the captions and images with which the target compares."""
    options: Mapping[str, Any] = explanation.target.get("options", {})
    others = {"captions": options.get("against", ()), "images": options.get("against_images", ())}
    return {plural: listed for plural, listed in others.items() if listed}
