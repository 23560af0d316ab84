"""Results as pandas DataFrames. pandas is imported when the first table is made."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from nibt.errors import BadOption, import_optional
from nibt.records import JsonObject
from nibt.results.attribution import SideAttribution
from nibt.results.explanation import Explanation, explanations_of, mismatch

DataFrame: TypeAlias = Any
"""A ``pandas.DataFrame``; the types of its columns are not known to a type checker."""
Column: TypeAlias = Any
"""A ``pandas.Series``."""
_ROWS = ("pairs", "words")


def pandas() -> Any:
    """Return the module ``pandas``."""
    return import_optional("pandas", "tables of results need pandas", "data")


def to_frame(explanations: Explanation | Sequence[Explanation], rows: str = "pairs") -> DataFrame:
    """Return explanations as a pandas DataFrame.

    Args:
        explanations: One explanation, or several.
        rows: What a row is.

            * ``pairs``: an image with a caption: ``image``, ``caption``, ``method``, ``variant``, ``model``,
              ``similarity``, ``mismatch`` (whether the model rates the pair as no match), and for each side, ``image``
              and ``text``, the explained ``target``, its ``value``, the ``sum`` of the scores, the
              ``special_token_share`` (the share of the absolute score on special tokens) and the ``completeness_gap``
              (NaN without a path).
            * ``words``: a word of a caption: ``image``, ``caption``, ``method``, ``variant``, ``model``, ``position``
              (from 0), ``word`` and its signed ``score``.

            The column ``pair`` numbers the explanations from 0.

    Returns:
        A DataFrame with these columns, and one row per pair or word.

    Raises:
        BadOption: ``rows`` has another value.
        BadInput: A value is not an ``Explanation``.
        Unsupported: pandas is not installed.

    Examples:
        >>> import nibt
        >>> explanations = nibt.explain(nibt.load_model("scenes"), "sample:scene", ["a house", "a cat"])
        >>> nibt.to_frame(explanations, rows="words")["word"].tolist()
        ['a', 'house', 'a', 'cat']

    """
    if rows not in _ROWS:
        raise BadOption(f"rows must be one of {', '.join(_ROWS)} (got {rows!r})")
    listed = explanations_of(explanations, "to_frame")
    described = [(_description(number, explanation), explanation) for number, explanation in enumerate(listed)]
    if rows == "words":
        data = [
            {**description, "position": position, "word": word.text, "score": word.score}
            for description, explanation in described
            for position, word in enumerate(explanation.words)
        ]
    else:
        data = [{**description, **_values(explanation)} for description, explanation in described]
    return pandas().DataFrame(data)


def _description(number: int, explanation: Explanation) -> JsonObject:
    return {
        "pair": number,
        "image": explanation.source,
        "caption": explanation.caption,
        "method": explanation.method["name"],
        "variant": explanation.method["variant"],
        "model": explanation.model["id"],
    }


def _values(explanation: Explanation) -> JsonObject:
    values: JsonObject = {
        "similarity": explanation.similarity,
        "mismatch": bool(mismatch(explanation.warnings)),
    }
    for name, side in explanation.sides.items():
        target = explanation.target[name]
        values |= {f"{name}_target": target["name"], f"{name}_value": target["value"], f"{name}_sum": _sum(side)}
        values[f"{name}_special_token_share"] = float(side.special_token_share)
        values[f"{name}_completeness_gap"] = float("nan") if side.path is None else float(side.path.gap)
    return values


def _sum(side: SideAttribution) -> float:
    """Return the sum of the scores of the patches or words."""
    return float(side.scores.sum())
