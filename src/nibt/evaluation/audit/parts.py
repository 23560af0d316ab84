"""Question 10: the parts of images that carry the positive scores of maps, and whether the model needs them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nibt.engine.spec import Request, resolve
from nibt.errors import BadInput, BadOption
from nibt.evaluation.audit.runner import AuditRunner
from nibt.evaluation.parts.effects import donors_of
from nibt.evaluation.parts.found import DEPTH, default_count, found_parts
from nibt.evaluation.parts.names import known_nouns
from nibt.registry import MethodSpec
from nibt.results.audit import Check
from nibt.results.audit_questions import QUESTION_OF_PARTS
from nibt.results.parts import Parts

PASSING_PAIRS = 120
"""With fewer pairs, weak cues were missed (``docs/explanation/study_audit.md``)."""
MOST_UNDECIDED = 0.1
"""The largest share of the score on parts that may be shortcuts, or have no verdict, with which the check can pass."""


def audited_parts(runner: AuditRunner, unknown: Sequence[str], data: Mapping[str, Any]) -> Iterator[Parts]:
    """Yield the parts of the maps of each method, as ``nibt.parts`` finds; a note says why a method has none.

    Args:
        runner: Has the maps.
        unknown: The everyday nouns that the model does not know.
        data: The origin of the pairs.
    """
    for method in runner.methods:
        try:
            parts = _parts_of(runner, method, unknown, data)
        except (BadInput, BadOption) as error:
            runner.notes.append(f"question {QUESTION_OF_PARTS} was not answered for {method}: {error}")
            continue

        runner.notes += [f"parts of {method}: {note}" for note in parts.notes if note not in runner.notes]
        yield parts


def _parts_of(runner: AuditRunner, method: MethodSpec, unknown: Sequence[str], data: Mapping[str, Any]) -> Parts:
    donors_of(runner.pairs)
    model = runner.model
    layer = model.image.relative(DEPTH)
    model.image.check_layer(layer)
    found = found_parts(
        model,
        runner.pairs,
        runner.unchanged[str(method), "image"],
        str(method),
        layer=layer,
        count=default_count(len(runner.pairs)),
        texts=known_nouns(unknown),
        seed=runner.seed,
        batch_size=runner.batch_size,
        data=dict(data),
        versions=resolve(model, Request(method, seed=runner.seed)).provenance["versions"],
        finished=runner.finished,
    )
    return replace(found, seconds=0.0)  # an audit states the time of all questions


def parts_check(parts: Parts) -> Check | None:
    """Return the check of parts: the number of shortcuts; None if it is not known which parts are on named objects.

    It fails if ``nibt.parts`` calls a part a shortcut. That none is called so shows something only from a number of
    pairs on with which planted cues are found, and if most parts beside the objects have a verdict.
    """
    if all(part.on_objects is None for part in parts.parts):
        return None

    count = len(parts.shortcuts)
    return Check(
        name="parts",
        question=QUESTION_OF_PARTS,
        method=parts.method,
        side="image",
        value=float(count),
        low=float(count),
        high=float(count),
        count=parts.data["pairs"],
        better="lower",
        passes=0.0,
        fails=1.0,
        about="parts beside the named objects that the model needs (shortcuts)",
        least_pairs=PASSING_PAIRS,
        unclear="" if count else _unclear(parts),
        is_count=True,
    )


def _unclear(parts: Parts) -> str:
    """Return why it is not known whether a part is a shortcut; empty if it is."""
    undecided = [
        part for part in parts.parts if part.verdict in ("no verdict", "cannot tell") and not part.is_on_objects
    ]
    share = sum(part.share for part in undecided)
    if share <= MOST_UNDECIDED:
        return ""
    return (
        f"of {len(undecided)} of {len(parts.parts)} parts, with {share:.0%} of the score, it is not known whether the "
        "model needs them, since they are in too few images, their intervals are too wide, or no masks of their images "
        "are known: give more pairs"
    )
