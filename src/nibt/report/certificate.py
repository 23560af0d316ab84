"""The certificate of an audit: what was checked, on what, what to trust and what not, in plain words."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from nibt.registry import available, find
from nibt.results.audit import VERDICTS, Audit

_SAYS = {
    1: (
        "The maps depend on what the model has learned.",
        "The maps look much like those of a model with random weights: they show the image more than the model.",
    ),
    2: (
        "The maps depend on the caption.",
        "Another caption gives much the same map: do not read from it where a word is.",
    ),
    3: (
        "Other wordings of a caption give similar maps.",
        "Other wordings of a caption change the maps: compare several before you rely on one.",
    ),
    4: ("The same call gives the same map.", "Another seed changes the maps: average several."),
    5: (
        "What the maps mark matters more to the model than random parts do.",
        "What the maps mark matters hardly more to the model than random parts: do not act on where they point.",
    ),
    6: (
        "Most of the score is on the map.",
        "Much of the score is on special tokens or in corners, where it tells nothing about objects.",
    ),
    7: (
        "The model ranks right captions above wrong ones on such images.",
        "The model confuses right and wrong captions of such images: its maps explain a model that does not know them.",
    ),
    8: (
        "The model knows most everyday nouns.",
        "The model does not know many everyday nouns: the map of a caption with unknown nouns is noise.",
    ),
}
"""For each question of an audit, what it means if all checks pass, and if one does not."""
_FEW = 24  # pairs, the default
_OF_PAIRS = ("dataset", "folder", "path", "count", "seed", "options", "pairs", "pairs_hash")  # not options of the data


HEADINGS = {"pass": "What to trust", "warn": "What the checks do not show", "fail": "What not to trust"}


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
        for question, (good, bad) in _SAYS.items():
            checks = [check for check in audit.checks if (check.method, check.question) == (method, question)]
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
            sentence = {"pass": good, "warn": f"Not shown: {good[0].lower()}{good[1:]}", "fail": bad}[worst]
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
    return Certificate(checked, named, _command(audit))


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
    for option, value in changed.items():
        words += ["-D", f"{option}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"]
    for option in ("dtype", "device"):
        words += [f"--{option}", audit.model[option]] if audit.model[option] not in ("float32", "cpu") else []
    return shlex.join(words)
