"""The questions of an audit, and its certificate: what was checked, what to trust and what not, in plain words."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from pathlib import Path

from nibt.io import load_toml
from nibt.registry import available, find
from nibt.results.audit import VERDICTS, Audit, Check, MetricMean, ModelDifference

_FEW = 24  # pairs, the default
_OF_PAIRS = ("dataset", "folder", "path", "count", "seed", "options", "pairs", "pairs_hash")  # not options of the data


HEADINGS = {"pass": "What to trust", "warn": "What the checks do not show", "fail": "What not to trust"}


@dataclass(frozen=True)
class Question:
    """A question of an audit: its heading, what is checked, what it means if all checks pass, and if one does not."""

    heading: str
    about: str
    good: str
    bad: str


_TEXTS = load_toml(files("nibt.report") / "questions.toml")
QUESTIONS = {number: Question(**entry) for number, entry in enumerate(_TEXTS["questions"], 1)}
"""The questions of an audit in the order of the page, by their numbers in ``Check.question``."""
ADVICE: Mapping[str, str] = _TEXTS["advice"]
"""What to do with the pairs that are shown for a check that does not pass, by its name."""


@dataclass(frozen=True)
class Certificate:
    """What an audit says in plain words, by heading, and the command that repeats it; empty for pairs from Python."""

    checked: str
    sections: Mapping[str, Sequence[str]]
    command: str


def certificate(audit: Audit) -> Certificate:
    """Return the certificate of an audit."""
    sections: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for method in (*audit.methods, ""):
        for number, question in QUESTIONS.items():
            checks = [check for check in audit.checks if (check.method, check.question) == (method, number)]
            if not checks:
                continue
            worst = max((check.verdict for check in checks), key=VERDICTS.index)
            reasons = [
                f"{', '.join(filter(None, (check.about, check.side)))}: {check.value:.2g}"
                for check in checks
                if check.verdict == worst
            ]
            because = "" if worst == "pass" else f" ({worst}: {'; '.join(dict.fromkeys(reasons))})"
            prefix = f"{method}: " if method and len(audit.methods) > 1 else ""
            good = question.good
            sentence = {"pass": good, "warn": f"Not shown: {good[0].lower()}{good[1:]}", "fail": question.bad}[worst]
            sections[worst].append(prefix + sentence + because)
    data, model = audit.data.get("dataset", "your own pairs"), Path(audit.model["id"]).name
    pairs = int(audit.data.get("pairs") or 0)
    checked = (
        f"{len(audit.checks)} checks of {', '.join(audit.methods)} with the model {model}, weights "
        f"{audit.model['weights_hash']}, on {pairs} pairs of {data}, seed {audit.seed}. They hold "
        "for such data only: audit yours."
        + (f" With fewer than {_FEW} pairs, the intervals below are wide." if pairs < _FEW else "")
    )
    named = {HEADINGS[verdict]: sentences for verdict, sentences in sections.items() if sentences}
    named |= _compared(audit, Path(audit.against["id"]).name) if audit.against else {}
    return Certificate(checked, named, _command(audit))


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
    sections = {f"What moved against {against}": moved or ["No evidence of a difference."]}
    return sections | ({f"Other verdicts than those of {against}": verdicts} if verdicts else {})


def _of(row: Check | ModelDifference) -> str:
    return f"{row.about} ({row.method}, {row.side})" if row.method else row.about


def moved_by(row: ModelDifference) -> str:
    """Return a difference with its interval and p value."""
    p = "p < 0.001" if row.p_holm < 0.001 else f"p {row.p_holm:.2g}"
    return f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}], {p}"


def span(check: Check | MetricMean) -> str:
    """Return a mean with its interval.

    >>> span(MetricMean("nib", "image", "deletion", 0.2, 0.1, 0.3, 24, "lower"))
    '0.200 [0.100, 0.300]'
    """
    return f"{check.value:.3f} [{check.low:.3f}, {check.high:.3f}]"


def threshold(check: Check) -> str:
    """Return the thresholds of a check as short text."""
    signs = ("≥", "≤") if check.better == "higher" else ("≤", "≥")
    return f"pass {signs[0]} {check.passes:.2g}, fail {signs[1]} {check.fails:.2g}"


def _command(audit: Audit) -> str:
    """Return the command that repeats an audit; empty without a data set that the command can open."""
    name, place = audit.data.get("dataset"), audit.data.get("folder") or audit.data.get("path")
    if name not in available("datasets"):
        return ""
    defaults = {field.name: field.default for field in fields(find("datasets", name)) if field.default is not MISSING}
    changed = {
        option: value
        for option, value in audit.data.items()
        if option in defaults
        and option not in _OF_PAIRS
        and value is not None
        and json.dumps(value) != json.dumps(defaults[option], default=str)  # a tuple equals a list
    }
    words = ["nibt", "audit", f"{name}:{place}" if place else name, "-m", audit.model["id"]]
    words += ["--count", str(audit.data.get("pairs"))]
    words += ["--seed", str(audit.seed)] if audit.seed else []
    words += [word for method in audit.methods if audit.methods != ("nib",) for word in ("--method", method)]
    words += ["--quick"] if audit.quick else []
    words += ["--against", audit.against["id"]] if audit.against else []
    for option, value in changed.items():
        words += ["-D", f"{option}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"]
    for option in ("dtype", "device"):
        words += [f"--{option}", audit.model[option]] if audit.model[option] not in ("float32", "cpu") else []
    return shlex.join(words)
