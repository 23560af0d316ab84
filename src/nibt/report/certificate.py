"""The questions of an audit, and its certificate: what was checked, what to trust and what not, in plain words."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from nibt.registry import available, find
from nibt.results.audit import VERDICTS, Audit, Check, MetricMean, ModelDifference, Verdict
from nibt.results.audit_questions import CheckTexts
from nibt.results.records import ModelRecord

_OF_PAIRS = ("dataset", "folder", "path", "count", "seed", "options", "pairs", "pairs_hash")  # not options of the data

HEADINGS: Mapping[str, str] = {
    "missing": "What was not checked",
    "fail": "What not to trust",
    "cannot tell": "What these data cannot tell",
    "warn": "What the checks do not show",
    "no verdict": "Too few data for a verdict",
    "pass": "What held",
}
"""The headings of a certificate in their order, by the verdict of the checks below it."""


@dataclass(frozen=True)
class Certificate:
    """What an audit says in plain words, by heading, and the command that repeats it; empty for pairs from Python."""

    checked: str
    sections: Mapping[str, Sequence[str]]
    command: str


def certificate(audit: Audit) -> Certificate:
    """Return the certificate of an audit: what did not run comes first, and each sentence names its check."""
    noun = audit.questionnaire.noun
    data = audit.data.get("dataset", f"your own {noun}")
    model = Path(audit.model["id"]).name
    pairs = audit.data.get("pairs") or 0
    checked = (
        f"{len(audit.checks)} checks of {', '.join(audit.methods)} with the model {model}, weights "
        f"{audit.model['weights_hash']}, on {pairs} {noun} of {data}, seed {audit.seed}. They hold "
        "for such data only: audit yours."
    )

    sections: dict[str, list[str]] = {verdict: [] for verdict in HEADINGS}
    sections["missing"] = list(_missing(audit))
    for (method, name), checks in _by_name(audit).items():
        prefix = f"{method}: " if method and len(audit.methods) > 1 else ""
        for verdict in VERDICTS:
            with_verdict = [check for check in checks if check.verdict == verdict]
            if with_verdict:
                texts = audit.questionnaire.checks[name]
                sections[verdict].append(prefix + _sentence(name, verdict, with_verdict, texts, noun))

    named = {heading: sections[verdict] for verdict, heading in HEADINGS.items() if sections[verdict]}
    if audit.against:
        named |= _compared(audit, Path(audit.against["id"]).name)
    return Certificate(checked, named, _command(audit))


def _by_name(audit: Audit) -> dict[tuple[str, str], list[Check]]:
    """Return the checks of each method by their names, in the order of the questions."""
    order = [*audit.methods, ""]
    checks = sorted(audit.checks, key=lambda check: (order.index(check.method), check.question))
    by_name: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        by_name.setdefault((check.method, check.name), []).append(check)
    return by_name


def _missing(audit: Audit) -> Iterator[str]:
    """Yield what a quick audit leaves out, and the checks that did not run, and why this matters."""
    if audit.quick:
        yield f"quick: {audit.questionnaire.quick} Audit without --quick before you rely on the model."

    names = {check.name for check in audit.checks}
    for name, texts in audit.questionnaire.checks.items():
        if name not in names:
            yield f"{name}: {texts.missing}"


def _sentence(name: str, verdict: Verdict, checks: Sequence[Check], texts: CheckTexts, noun: str) -> str:
    """Return what checks of one name with one verdict say."""
    values = "; ".join(f"{check.side} {span(check)}".strip() for check in checks)
    named = f"{name}: {values}; {_counted(checks, noun)}"
    reasons = "; ".join(dict.fromkeys(check.unclear for check in checks if check.unclear))

    if verdict == "pass":
        return f"{texts.good} ({named})"
    if verdict == "no verdict":
        needed = max(check.least_pairs for check in checks)
        return f"{name}: {values}; {_counted(checks, noun)}, of at least {needed} that are needed"
    if verdict == "warn":
        if any(check.is_passing_value for check in checks):
            return f"Not shown, since an interval is too wide: {texts.good[0].lower()}{texts.good[1:]} ({named})"
        return f"Between the thresholds: {checks[0].about} ({named}) {texts.advice}".rstrip()
    if verdict == "cannot tell" and checks[0].is_count:
        return f"None was found, but {reasons}. ({named}) {texts.advice}"
    if verdict == "cannot tell":
        return f"{texts.bad} ({named}) But {reasons}. {texts.advice}".rstrip()
    return f"{texts.bad} ({named}) {texts.other} {texts.advice}".rstrip()


def _counted(checks: Sequence[Check], noun: str) -> str:
    """Return how many pairs, questions or nouns are behind checks."""
    counts = sorted({check.count for check in checks})
    noun = "nouns" if checks[0].name == "vocabulary" else noun
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} {noun}"


def _compared(audit: Audit, against: str) -> dict[str, list[str]]:
    """Return what moved, and which verdicts differ from those of the model ``against``, in plain words by heading."""
    moved = [
        f"{_of(row)}: {row.value:.3g}, {'equal maps' if row.name == 'maps' else against} {row.against:.3g} "
        f"(difference {moved_by(row)})"
        for row in audit.differences
        if row.verdict == "moved"
    ]
    former = {(check.name, check.method, check.side): check.verdict for check in audit.against_checks}
    now = [(check, former.get((check.name, check.method, check.side), check.verdict)) for check in audit.checks]
    verdicts = [f"{_of(check)}: {check.verdict}, {against} {was}" for check, was in now if check.verdict != was]
    if any(row.name == "similarity" and row.verdict == "moved" for row in audit.differences):
        moved.append(
            "Similarities can be compared between versions of one model, such as before and after fine-tuning, not "
            "between models that were trained apart."
        )
    sections = {f"What moved against {against}": moved or ["No evidence of a difference."]}
    if verdicts:
        verdicts.append(
            "A better verdict does not mean that a model is better: a mark on the object counts as the object."
        )
        sections[f"Other verdicts than those of {against}"] = verdicts

    return sections


def _of(row: Check | ModelDifference) -> str:
    return f"{row.about} ({row.method}, {row.side})" if row.method else row.about


def moved_by(row: ModelDifference) -> str:
    """Return a difference with its interval and p value."""
    p = "p < 0.001" if row.p_holm < 0.001 else f"p {row.p_holm:.2g}"
    return f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}], {p}"


def span(check: Check | MetricMean) -> str:
    """Return a mean with its interval, or a number of findings.

    >>> span(MetricMean("nib", "image", "deletion", 0.2, 0.1, 0.3, 24, "lower"))
    '0.200 [0.100, 0.300]'
    """
    if isinstance(check, Check) and check.is_count:
        return f"{check.value:.0f}"
    return f"{check.value:.3f} [{check.low:.3f}, {check.high:.3f}]"


def threshold(check: Check) -> str:
    """Return the thresholds of a check as short text."""
    signs = ("≥", "≤") if check.better == "higher" else ("≤", "≥")
    return f"pass {signs[0]} {check.passes:.2g}, fail {signs[1]} {check.fails:.2g}"


def _command(audit: Audit) -> str:
    """Return the command that repeats an audit; empty without a data set that the command can open."""
    name = str(audit.data.get("dataset"))
    place = audit.data.get("folder") or audit.data.get("path")
    if name not in available("datasets"):
        return ""

    words = ["nibt", "audit", f"{name}:{place}" if place else name, "-m", audit.model["id"]]
    words += ["--count", str(audit.data.get("pairs"))]
    if audit.seed:
        words += ["--seed", str(audit.seed)]
    if audit.methods != ("nib",):
        words += [word for method in audit.methods for word in ("--method", method)]
    if audit.quick:
        words.append("--quick")
    if audit.against:
        words += ["--against", audit.against["id"]]
    return shlex.join([*words, *_data_words(name, audit.data), *_loading_words(audit.model)])


def _data_words(name: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of a data set that are not its defaults, as the command takes them."""
    defaults = {field.name: field.default for field in fields(find("datasets", name)) if field.default is not MISSING}
    for option, value in data.items():
        if option not in defaults or option in _OF_PAIRS or value is None:
            continue
        if json.dumps(value) == json.dumps(defaults[option], default=str):  # a tuple equals a list
            continue
        yield "-D"
        yield f"{option}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _loading_words(model: ModelRecord) -> Iterator[str]:
    """Yield how a model was loaded, as the command takes it."""
    for option, default in (("dtype", "float32"), ("device", "cpu")):
        if model[option] != default:
            yield from (f"--{option}", model[option])

    size = model.get("image_size")
    if size or model.get("resize") == "whole":
        yield from ("--load", f"resize={model.get('resize')}")
    if size:
        yield from ("--load", f"image_size={size}")
