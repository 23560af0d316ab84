"""Results as pandas DataFrames. pandas is imported when the first table is made."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

from nibt.data.units import WordScore
from nibt.errors import BadInput, BadOption, import_optional
from nibt.records import JsonObject
from nibt.registry import Plugin, find, kinds
from nibt.results.base import Result, require_result
from nibt.results.explanation import Explanation


class Frame(Plugin, ABC):
    """Base class of the rows of a kind of explanations, each of which is a word."""

    shows: ClassVar[type[Result]]
    """The class of the explanations."""
    texts: ClassVar[tuple[str, ...]]
    """The attributes of an explanation that all its rows have."""

    @abstractmethod
    def values(self, word: Any) -> JsonObject:
        """Return the numbers of a word."""


DataFrame: TypeAlias = Any
"""A ``pandas.DataFrame``; the types of its columns are not known to a type checker."""
Column: TypeAlias = Any
"""A ``pandas.Series``."""
_ROWS = ("pairs", "words")


def pandas() -> Any:
    """Return the module ``pandas``."""
    return import_optional("pandas", "tables of results need pandas", "data")


def to_frame(explanations: Result | Sequence[Result], rows: str = "pairs") -> DataFrame:
    """Return explanations as a pandas DataFrame.

    Args:
        explanations: One explanation, or several: of pairs, or of answers.
        rows: What a row is. That of answers is always a word.

            * ``pairs``: an image with a caption: ``image``, ``caption``, ``method``, ``variant``, ``model``,
              ``similarity``, ``mismatch`` (whether the model rates the pair as no match), and for each side, ``image``
              and ``text``, the explained ``target``, its ``value``, the ``sum`` of the scores, the
              ``special_token_share`` (the share of the absolute score on special tokens) and the ``completeness_gap``
              (NaN without a path).
            * ``words``: a word of a caption: ``image``, ``caption``, ``method``, ``variant``, ``model``, ``position``
              (from 0), ``word``, its signed ``score``, and the ``error`` of an estimated score (else NaN).
            * Answers: a word of an answer: ``image``, ``prompt``, ``answer``, ``method``, ``variant``, ``model``,
              ``position``, ``word``, ``log_probability``, ``with_blank_image``, ``with_other_images`` (NaN without
              other images), ``image_gain``, ``image_hardly_matters``, ``judgment``, the explained ``value``,
              ``at_blank``, ``special``, ``gap``, and the shares ``image_share``, ``prompt_share``, ``earlier_share``
              and ``joint_share``, as ``AnswerWord`` describes them.

            The column ``pair`` numbers the explanations from 0.

    Returns:
        A DataFrame with these columns, and one row per pair or word.

    Raises:
        BadOption: ``rows`` has another value.
        BadInput: A value is no explanation, or pairs are mixed with answers.
        Unsupported: pandas is not installed.

    Examples:
        >>> import nibt
        >>> explanations = nibt.explain(nibt.load_model("scenes"), "sample:scene", ["a house", "a cat"])
        >>> nibt.to_frame(explanations, rows="words")["word"].tolist()
        ['a', 'house', 'a', 'cat']
    """
    if rows not in _ROWS:
        raise BadOption(f"rows must be one of {', '.join(_ROWS)} (got {rows!r})")

    listed: list[Any] = list(explanations) if isinstance(explanations, Iterable) else [explanations]
    frames: dict[str, Frame] = {kind: find("frames", kind)() for kind in kinds("frames")}
    for explanation in listed:
        require_result(explanation, "to_frame", Explanation, *(frame.shows for frame in frames.values()))
    of_answers = [explanation.kind in frames for explanation in listed]
    if any(of_answers) and not all(of_answers):
        raise BadInput("to_frame takes explanations of pairs, or of answers (got both): make a table of each")

    data: list[JsonObject] = []
    for number, explanation in enumerate(listed):
        for row in _rows(explanation, frames.get(explanation.kind), of_words=rows == "words"):
            data.append({"pair": number, **row})

    return pandas().DataFrame(data)


def _rows(explanation: Any, frame: Frame | None, of_words: bool) -> Iterator[JsonObject]:
    """Yield the rows of an explanation: of an answer, whose class has a frame, always its words."""
    common: JsonObject = {"image": explanation.source}
    for name in frame.texts if frame else ("caption",):
        common[name] = getattr(explanation, name)
    common["method"] = explanation.method["name"]
    common["variant"] = explanation.method["variant"]
    common["model"] = explanation.model["id"]

    if not frame and not of_words:
        yield {**common, **_values(explanation)}
        return

    for position, word in enumerate(explanation.words):
        values = frame.values(word) if frame else _of_word(word)
        yield {**common, "position": position, **values}


def _of_word(word: WordScore) -> JsonObject:
    error = float("nan") if word.error is None else word.error
    return {"word": word.text, "score": word.score, "error": error}


def _values(explanation: Explanation) -> JsonObject:
    values: JsonObject = {"similarity": explanation.similarity, "mismatch": bool(explanation.mismatch)}
    for name, side in explanation.sides.items():
        target = explanation.target[name]
        values |= {
            f"{name}_target": target["name"],
            f"{name}_value": target["value"],
            f"{name}_sum": float(side.scores.sum()),
        }
        values[f"{name}_special_token_share"] = float(side.special_token_share)
        values[f"{name}_completeness_gap"] = float("nan") if side.path is None else float(side.path.gap)
    return values
