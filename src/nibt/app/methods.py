"""The methods of the page: their kinds, their times on this machine, why a model cannot run them, and its help page."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from nibt.data.images import SAMPLE, read_image, sample_captions, samples
from nibt.errors import Unsupported
from nibt.io import read_text
from nibt.methods.base import SIDES, Method
from nibt.models.base import Model
from nibt.registry import available, documentation, find, summary
from nibt.report.html.document import document, macros, template
from nibt.types import Modality

DEFAULT = "nib"
CATEGORIES = {
    "path": "Path: gradients on the way from a blank input",
    "gradient": "Gradient: one gradient of the score",
    "attention": "Attention: the model's attention weights",
    "perturbation": "Perturbation: the score of changed inputs",
    "control": "Control: does not use the model",
    "other": "Other: none of these",
}
"""The kinds of methods, in the order of the page, with their headings."""


@dataclass(frozen=True)
class ForwardTime:
    """The time of one forward pass of a tower, and the number of units of its input."""

    seconds: float
    units: int


ForwardTimes = Mapping[Modality, ForwardTime]


@dataclass(frozen=True)
class MethodFacts:
    """The estimated seconds per caption, if they are known, and why the model cannot run the method, if it cannot.

    The default method of a model is selected if none of the selected ones is available.
    """

    seconds: float | None = None
    reason: str = ""
    is_default: bool = False

    def is_available(self, timeout: float) -> bool:
        """Whether the model can run the method within a time limit in seconds, as far as is known."""
        return not self.reason and (self.seconds is None or self.seconds <= timeout)


def variant_of(method: str, variant: str) -> str:
    """Return the variant, or ``default`` if the method does not have it."""
    return variant if variant in find("methods", method).variants else "default"


def measure_forwards(model: Model, clock: Callable[[], float] = time.perf_counter) -> ForwardTimes:
    """Measure one forward pass of each tower on a sample: the shortest of three."""
    name = samples()[0]
    items: dict[Modality, Any] = {"image": read_image(SAMPLE + name), "text": sample_captions()[name]}
    times: dict[Modality, ForwardTime] = {}
    for side, item in items.items():
        tower = model.tower(side)
        seconds = []
        inputs = tower.prepare([item])
        for _ in range(3):
            start = clock()
            trace = tower.trace(inputs, lowest=tower.depth)
            seconds.append(clock() - start)

        units = trace.cut(tower.depth).units
        times[side] = ForwardTime(min(seconds), units[0].count)

    return times


def method_facts(
    model: Model,
    times: ForwardTimes | None,
    variant: str = "default",
    measured: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, MethodFacts]:
    """Return the facts of all methods; methods that have run correct the estimated times of the others."""
    facts = {name: _estimated_facts(name, model, times, variant) for name in available("methods")}
    estimates = {name: fact.seconds for name, fact in facts.items() if fact.seconds}
    ran = [(seconds, estimates[name]) for name, seconds in measured.items() if name in estimates]

    # passes in batches may be faster; what comes on top of the passes, such as drawing, does not grow with their number
    ratio = min([1.0, *(seconds / estimate for seconds, estimate in ran)])
    fixed = max(0.0, min((seconds - estimate for seconds, estimate in ran), default=0.0))
    corrected = {name: MethodFacts(measured.get(name, ratio * seconds + fixed)) for name, seconds in estimates.items()}
    return facts | corrected


def _estimated_facts(name: str, model: Model, times: ForwardTimes | None, variant: str) -> MethodFacts:
    """Return the facts of a method, with its time as estimated by its number of forward passes."""
    method_class = find("methods", name)
    try:
        sides: dict[Modality, Method] = {
            side: method_class.configured(model.tower(side), variant_of(name, variant), {}, model.defaults)
            for side in SIDES
        }
        if times is None:
            return MethodFacts()

        counts = {side: method.forwards(model.tower(side).depth, times[side].units) for side, method in sides.items()}
        return MethodFacts(sum(times[side].seconds * max(1.0, counts[side]) for side in SIDES))
    except Unsupported as error:
        return MethodFacts(reason=reason_of(name, error))
    except ValueError:  # a method of another package, whose cost is not a formula
        return MethodFacts()


def reason_of(name: str, error: Exception) -> str:
    """Return why a model cannot run a method, without the class of the tower and what to do."""
    return re.sub(r" \(\w+\)", "", re.split("[;:] ", str(error))[0].removeprefix(f"{name} "))


def by_category() -> dict[str, list[str]]:
    """Return the names of all methods by category, in the order of ``CATEGORIES``; the default method is first."""
    names = sorted(available("methods"), key=lambda name: (name != DEFAULT, name))
    categories = {name: find("methods", name).category for name in names}
    groups = {category: [name for name in names if categories[name] == category] for category in CATEGORIES}
    return {category: listed for category, listed in groups.items() if listed}


def method_fields() -> Markup:
    """Return the checkboxes of all methods, grouped by category. ``methods.js`` adds times and reasons."""
    categories = [(CATEGORIES[category], names) for category, names in by_category().items()]
    return macros("methods.html", "nibt.app").fields(categories, summary, DEFAULT)


def facts_list(facts: Mapping[str, MethodFacts], timeout: float) -> Markup:
    """Return the facts as a list for ``methods.js``; ``timeout`` is the time limit of the page in seconds."""
    listed = []
    for name, fact in facts.items():
        about = fact.reason
        if not about and fact.seconds is not None:
            limit = f", and this page allows {timeout:g} s: choose a faster model" if fact.seconds > timeout else ""
            about = f"about {duration(fact.seconds)}{limit}"
        listed.append((name, str(fact.is_available(timeout)).lower(), fact.is_default, about))

    return macros("methods.html", "nibt.app").facts(listed)


def duration(seconds: float) -> str:
    """Return a rough duration in words.

    >>> duration(0.004), duration(0.32), duration(4.26), duration(47.3), duration(400.0)
    ('0.1 s', '0.3 s', '4 s', '50 s', '7 min')
    """
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    if seconds >= 10:
        return f"{10 * round(seconds / 10)} s"
    return f"{max(seconds, 0.1):.1f} s" if seconds < 1 else f"{seconds:.0f} s"


def help_page() -> str:
    """Return the help page as an HTML document that loads nothing."""
    categories = [
        (CATEGORIES[category], [find("methods", name) for name in names]) for category, names in by_category().items()
    ]
    body = template("guide.html", "nibt.app").render(categories=categories, paragraphs=_paragraphs, formula=_formula)
    return document("nibt: how to read a map", body, read_text(files("nibt.app") / "guide.css"))


def _formula(text: str, display: str = "inline") -> Markup:
    from latex2mathml.converter import convert  # of the extra "app", which the times of methods do not need

    return Markup(convert(text, display=display))


def _paragraphs(name: str) -> Iterator[str | list[str]]:
    """Yield the paragraphs of a docstring: a formula between ``$$``, or texts with the formulas between them."""
    for text in documentation("methods", name).partition("\n\nArgs:")[0].split("\n\n"):
        yield text.strip("$") if text.startswith("$$") else re.split(r"\$(.+?)\$", text.replace("``", ""), flags=re.S)
