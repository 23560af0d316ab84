"""The certificate of an audit: plain words, and a command that repeats it."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import nibt
from nibt.evaluation.audit.checks import BOUNDS
from nibt.report.certificate import certificate
from nibt.results.audit import Audit
from nibt.results.audit_questions import QUESTIONNAIRES
from tests import tiny
from tests.helpers import Run, noise_pairs

CHECKS = QUESTIONNAIRES["pairs"].checks


def audited(run: Run, *arguments: object) -> Audit:
    code, _, err = run("audit", *arguments, "--quick", "-o", "audit.json", "--overwrite")
    assert code == 0, err
    return Audit.load("audit.json")


@pytest.mark.slow
def test_certificate_says_what_passed_and_what_did_not() -> None:
    audit = nibt.audit(tiny.model("clip"), noise_pairs(40), ["ones", "random"], quick=True)
    actual = certificate(audit)
    assert f"{len(audit.checks)} checks of ones, random" in actual.checked
    assert actual.command == "", "the pairs were given in Python"
    first, *_ = actual.sections
    assert first == "What was not checked"
    missing = actual.sections[first]
    assert any(text.startswith("inside: It is not known") and "masks or boxes" in text for text in missing)
    doubt = actual.sections["What not to trust"]
    assert any(text.startswith("ones: Another caption gives much the same map") for text in doubt)

    passing = tuple(
        replace(check, value=check.passes, low=check.passes, high=check.passes, count=99) for check in audit.checks
    )
    assert {check.verdict for check in passing} == {"pass"}
    assert list(certificate(replace(audit, checks=passing)).sections) == [first, "What held"]
    few = tuple(replace(check, count=5, least_pairs=24) for check in audit.checks)
    assert list(certificate(replace(audit, checks=few)).sections) == [first, "Too few data for a verdict"]
    doubtful = tuple(replace(check, low=-1e9, high=1e9) for check in passing)
    assert {check.verdict for check in doubtful} == {"warn"}
    unproven = certificate(replace(audit, checks=doubtful)).sections["What the checks do not show"]
    assert all("Not shown, since" in text for text in unproven)


@pytest.mark.slow
def test_each_sentence_of_a_certificate_names_its_check_and_the_pairs() -> None:
    audit = nibt.audit(tiny.model("clip"), noise_pairs(40), "gae", quick=True)
    sections = certificate(audit).sections
    names = {check.name for check in audit.checks}
    for heading, sentences in sections.items():
        for sentence in sentences:
            assert any(f"{name}:" in sentence for name in (*CHECKS, "quick")), sentence
            if heading != "What was not checked":
                assert re.search(r"\d pairs|1000 nouns", sentence), sentence
    named = {name for name in CHECKS for text in sections["What was not checked"] if text.startswith(f"{name}:")}
    assert named == set(CHECKS) - names


def test_a_quick_audit_says_first_what_it_leaves_out() -> None:
    audit = nibt.audit(tiny.model("clip"), noise_pairs(40), "ones", quick=True)
    first, *_ = certificate(audit).sections["What was not checked"]
    assert first.startswith("quick: ")
    assert "without --quick" in first
    sections = certificate(replace(audit, quick=False)).sections["What was not checked"]
    assert not any(sentence.startswith("quick") for sentence in sections)


def test_every_check_has_its_texts() -> None:
    metrics = {"deletion", "insertion", "pointing_game", "average_precision", "word_auc"}
    assert set(CHECKS) == (set(BOUNDS) - {"faithful", "located", "top_region", "noun_places"}) | metrics | {"parts"}


@pytest.mark.slow
def test_command_of_a_certificate_repeats_the_audit(run: Run) -> None:
    options = ("scenes", "-m", "scenes", "--method", "ones", "--count", "8", "--seed", "3", "-D", "most=2")
    audit = audited(run, *options)
    command = shlex.split(certificate(audit).command)
    assert command[:2] == ["nibt", "audit"]
    assert "most=2" in command
    code, _, err = run(*command[1:], "-o", "again.json")
    assert code == 0, err
    again = Audit.load("again.json")
    assert [check.value for check in again.checks] == [check.value for check in audit.checks]
    assert again.data == audit.data


@pytest.mark.slow
def test_card_is_a_section_in_markdown(run: Run, tmp_path: Path) -> None:
    options = ("scenes", "-m", "scenes", "--method", "ones", "--count", "8", "--quick")
    code, out, err = run("audit", *options, "-o", "audit.card.md", "-o", "audit.html")
    assert code == 0, err
    assert "Too few data for a verdict" in out
    text = Path("audit.card.md").read_text()
    assert text.startswith("## Explanations of this model")
    assert "nibt audit scenes -m scenes --count 8 --method ones --quick" in text
    page = Path("audit.html").read_text()
    assert '<section class="certificate">' in page
    code, _, err = run("explain", "sample:scene", "a cat", "-m", "scenes", "-o", "x.card.md")
    assert (code, "is for audits (got explanations)" in err) == (2, True), err
