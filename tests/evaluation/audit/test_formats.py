"""Tests of the files of audits for continuous integration: reports of JUnit, and badges."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nibt
from nibt.errors import NibtError
from nibt.results.audit import Audit
from nibt.results.check import VERDICTS, Check, Verdict
from tests import tiny
from tests.helpers import noise_pairs

STATES: dict[Verdict, str | None] = {
    "pass": None,
    "no verdict": "skipped",
    "warn": None,
    "cannot tell": "skipped",
    "fail": "failure",
}


@pytest.fixture(scope="module")
def audit() -> Audit:
    """An audit whose checks have all verdicts."""
    audited = nibt.audit(tiny.model("clip"), noise_pairs(40), "ones", quick=True)
    base = replace(audited.checks[0], passes=0.5, fails=1.0, better="lower", is_count=False, unclear="", least_pairs=1)
    values = {"pass": (0.1, 0.0, 0.2, 40, ""), "no verdict": (0.1, 0.0, 0.2, 3, ""), "warn": (0.7, 0.6, 0.8, 40, "")}
    values |= {"cannot tell": (1.5, 1.4, 1.6, 40, "x < y & z"), "fail": (1.5, 1.4, 1.6, 40, "")}
    checks = [
        replace(base, value=value, low=low, high=high, count=count, unclear=unclear, least_pairs=24)
        for value, low, high, count, unclear in values.values()
    ]
    assert [check.verdict for check in checks] == list(values) == list(VERDICTS)
    return replace(audited, checks=(*audited.checks, *checks))


def cases(path: Path) -> Iterator[ElementTree.Element]:
    yield from ElementTree.parse(path).getroot().iter("testcase")


def test_each_check_is_a_test_case_with_its_verdict(audit: Audit, tmp_path: Path) -> None:
    audit.save(tmp_path / "audit.junit.xml")
    found = list(cases(tmp_path / "audit.junit.xml"))
    by_question: list[Check] = sorted(audit.checks, key=lambda check: check.question)
    assert len(found) == len(by_question)
    for case, check in zip(found, by_question, strict=True):
        assert case.get("name") == check.about
        assert case.get("classname") == ".".join(part for part in ("nibt", check.method, check.side) if part)
        state = next((child for child in case if child.tag in ("failure", "skipped")), None)
        assert (None if state is None else state.tag) == STATES[check.verdict]
        text = (case.findtext("system-out") or "") if state is None else str(state.get("message"))
        assert text.startswith(f"{check.verdict}: {check.value:.3f} [{check.low:.3f}, {check.high:.3f}]")


def test_the_counts_of_suites_are_those_of_their_cases(audit: Audit, tmp_path: Path) -> None:
    audit.save(tmp_path / "audit.junit.xml")
    suites = list(ElementTree.parse(tmp_path / "audit.junit.xml").getroot())
    assert sum(int(suite.get("tests", "")) for suite in suites) == len(audit.checks)
    for suite in suites:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))
    assert sum(int(suite.get("failures", "")) for suite in suites) == audit.count("fail")


def test_a_badge_has_the_number_of_checks_of_each_verdict(audit: Audit, tmp_path: Path) -> None:
    audit.save(tmp_path / "audit.badge.svg")
    root = ElementTree.parse(tmp_path / "audit.badge.svg").getroot()
    label, text = (element.text for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert label == "nibt audit"
    assert text == ", ".join(f"{audit.count(verdict)} {verdict}" for verdict in reversed(VERDICTS))
    assert root.get("aria-label") == f"nibt audit: {text}"


@pytest.mark.parametrize("ending", ["junit.xml", "badge.svg"])
def test_the_same_audit_has_the_same_file_and_other_files_are_kept(audit: Audit, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"audit.{ending}"
    audit.save(path)
    before = path.read_bytes()
    audit.save(path)
    assert path.read_bytes() == before

    path.write_text("mine")
    with pytest.raises(NibtError, match=r"was edited|not write it|overwrite"):
        audit.save(path)
    assert path.read_text() == "mine"

    with pytest.raises(NibtError, match="audit"):
        nibt.explain("scenes", "sample:scene", "a cat", "ones").save(tmp_path / f"x.{ending}")
