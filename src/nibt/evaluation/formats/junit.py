"""Reports of audits in JUnit's XML, which services for continuous integration show as tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.io import one_line
from nibt.results.audit_questions import CheckTexts
from nibt.results.check import Check
from nibt.results.outputs import unsigned

_WITHOUT_VERDICT = ("no verdict", "cannot tell")


class JUnit(Format, name="junit"):
    """The checks of an audit as test cases of JUnit: failed, skipped (no verdict, cannot tell) or passed."""

    endings = (".junit.xml",)
    holds = ("audit",)
    media_type = "application/xml; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        audit: Any = bare(results[0])
        suites = ElementTree.Element("testsuites", name=f"nibt audit of {one_line(Path(audit.model['id']).name)}")
        for number, question in audit.questionnaire.questions.items():
            checks = [check for check in audit.checks if check.question == number]
            if checks:
                seconds = audit.question_seconds[number - 1] if audit.question_seconds else 0.0
                suites.append(_suite(f"{number}. {question.heading}", checks, seconds, audit.questionnaire.checks))

        properties = ElementTree.Element("properties")  # not a comment, which must not have two hyphens in XML
        ElementTree.SubElement(properties, "property", name="nibt", value=unsigned(request))
        suites[0].insert(0, properties)
        ElementTree.indent(suites)
        return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def _suite(
    heading: str, checks: Sequence[Check], seconds: float, texts: Mapping[str, CheckTexts]
) -> ElementTree.Element:
    """Return the checks of a question."""
    verdicts = [check.verdict for check in checks]
    counts = {
        "tests": str(len(checks)),
        "failures": str(verdicts.count("fail")),
        "errors": "0",
        "skipped": str(sum(verdict in _WITHOUT_VERDICT for verdict in verdicts)),
    }
    suite = ElementTree.Element("testsuite", {"name": heading, "time": f"{seconds:.1f}", **counts})
    for check in checks:
        suite.append(_case(check, texts))
    return suite


def _case(check: Check, texts: Mapping[str, CheckTexts]) -> ElementTree.Element:
    """Return a check as a test case."""
    place = ".".join(part for part in ("nibt", check.method, check.side) if part)
    case = ElementTree.Element("testcase", classname=one_line(place), name=one_line(check.about))
    measured = (
        f"{check.verdict}: {check.value:.3f} [{check.low:.3f}, {check.high:.3f}], n {check.count}, passes at "
        f"{check.passes:g}, fails at {check.fails:g}"
    )
    if check.verdict == "fail":
        failure = ElementTree.SubElement(case, "failure", message=measured)
        failure.text = texts[check.name].bad if check.name in texts else ""
    elif check.verdict in _WITHOUT_VERDICT:
        ElementTree.SubElement(case, "skipped", message=f"{measured}. {check.unclear}".rstrip(". "))
    else:
        ElementTree.SubElement(case, "system-out").text = measured
    return case
