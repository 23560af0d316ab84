"""Tests of ``nibt.evaluation.audit.parts``: question 10 of an audit."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import nibt
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.evaluation.audit.parts import MOST_UNDECIDED, PASSING_PAIRS, parts_check
from nibt.progress import Progress
from nibt.report.certificate import certificate
from nibt.report.html.audit import page
from nibt.results.audit import Audit, Check
from nibt.results.parts import Effect, Part, Parts
from tests import tiny
from tests.helpers import check_page, noise_pairs

COUNT = 24


def with_masks(pairs: list[Pair], rows: slice, columns: slice) -> list[Pair]:
    """Return pairs whose named objects have their masks elsewhere: what the model reads is then beside them."""
    moved = []
    for pair in pairs:
        width, height = pair.image.size
        mask = np.zeros((height, width), bool)
        mask[rows, columns] = True
        moved.append(replace(pair, objects=tuple(replace(obj, mask=mask, box=None) for obj in pair.objects)))
    return moved


def question(audit: Audit) -> list[Check]:
    return [check for check in audit.checks if check.question == 10]


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    """Shorten the other questions of an audit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nibt.evaluation.audit.STAGES", 1)
        patch.setattr("nibt.evaluation.audit._TEMPLATES", 1)
        patch.setattr("nibt.evaluation.audit.LEVELS", 2)
        yield


SCENES = list(Scenes(count=COUNT, seed=3, fewest=2, most=3, named="one"))
WRONG = with_masks(SCENES, np.s_[:16], np.s_[:16])


@pytest.fixture(scope="module")
def planted() -> Audit:
    """An audit in which the model reads what is beside the named objects."""
    return nibt.audit("scenes", WRONG, "nib:fast")


@pytest.fixture(scope="module")
def small() -> Audit:
    """An audit of pairs without masks."""
    return nibt.audit(tiny.model("clip"), noise_pairs(8), "gae")


# Verdicts


@pytest.mark.slow
def test_what_is_needed_beside_the_named_objects_fails(planted: Audit) -> None:
    (check,) = question(planted)
    assert (check.verdict, check.method, check.side) == ("fail", "nib:fast", "image")
    (parts,) = planted.parts
    assert check.value == len(parts.shortcuts) >= 1
    assert planted.verdict == "fail"
    sentences = certificate(planted).sections["What not to trust"]
    assert any("parts: image 1; 24 pairs" in sentence and "docs/guides/mend.md" in sentence for sentence in sentences)


@pytest.mark.slow
def test_the_parts_of_an_audit_are_those_of_the_command(planted: Audit) -> None:
    """So both never disagree. Their parts also say how far they decide."""
    (parts,) = planted.parts
    expected = nibt.parts("scenes", WRONG, "nib:fast")
    assert replace(expected, seconds=0.0) == parts
    assert nibt.used_share("scenes", WRONG, parts).low > 0.1


@pytest.mark.slow
def test_objects_are_no_shortcuts_and_few_pairs_do_not_pass() -> None:
    (check,) = question(nibt.audit("scenes", SCENES, "nib:fast"))
    assert (check.value, check.verdict) == (0, "no verdict")
    assert check.least_pairs > COUNT


def test_pairs_without_masks_have_a_gallery_and_no_verdict(small: Audit) -> None:
    assert not question(small)
    (parts,) = small.parts
    assert parts.method == "gae"
    assert {part.verdict for part in parts.parts} == {"no verdict"}
    assert all(part.gallery for part in parts.parts)
    missing = certificate(small).sections["What was not checked"]
    assert any(text.startswith("parts: It is not known") and "masks or boxes" in text for text in missing)
    assert any(note.startswith("parts of gae: no masks or boxes") for note in small.notes)


@pytest.mark.slow
def test_maps_that_are_shared_give_the_parts_of_the_pairs(small: Audit) -> None:
    parts = nibt.parts(tiny.model("clip"), noise_pairs(8), "gae")
    assert replace(parts, seconds=0.0) == small.parts[0]


def parts_with(parts: Parts, *changes: dict[str, Any], pairs: int) -> Parts:
    """Return parts of which each is beside the objects, and differs by some changes."""
    needed = Effect(0.05, 0.0, 0.09, 0.0, -0.1, 0.1, 20)
    plain: Part = replace(parts.parts[0], on_objects=0.0, images=20, needed=needed, share=0.5)
    rows = [replace(plain, number=number, **change) for number, change in enumerate(changes, 1)]
    return replace(parts, parts=tuple(rows), data={**parts.data, "pairs": pairs})


NEEDED: dict[str, Any] = {"needed": Effect(0.3, 0.2, 0.4, 0.2, 0.1, 0.3, 20)}
UNCLEAR: dict[str, Any] = {"needed": Effect(0.15, 0.08, 0.2, 0.1, 0.05, 0.15, 20)}
ON: dict[str, Any] = {"on_objects": 1.0}
FEW_IMAGES: dict[str, Any] = {"images": 7}


@pytest.mark.parametrize(
    ("changes", "pairs", "verdict"),
    [
        pytest.param([{}, ON], PASSING_PAIRS, "pass", id="nothing beside the objects is needed"),
        pytest.param([{}, ON], PASSING_PAIRS - 1, "no verdict", id="too few pairs to find a cue"),
        pytest.param([ON], PASSING_PAIRS, "pass", id="nothing beside the objects"),
        pytest.param([NEEDED, ON], PASSING_PAIRS, "fail", id="a shortcut"),
        pytest.param([NEEDED, {}], 8, "fail", id="a shortcut among few pairs, as nibt.parts says"),
        pytest.param([NEEDED, FEW_IMAGES], PASSING_PAIRS, "fail", id="a shortcut, and one without a verdict"),
        pytest.param([FEW_IMAGES, ON], PASSING_PAIRS, "cannot tell", id="too few images"),
        pytest.param([{"on_objects": None}, ON], PASSING_PAIRS, "cannot tell", id="half of the score has no masks"),
        pytest.param([{"needed": None}, ON], PASSING_PAIRS, "cannot tell", id="an unknown effect"),
        pytest.param([UNCLEAR, ON], PASSING_PAIRS, "cannot tell", id="an interval that contains the threshold"),
        pytest.param(
            [{**FEW_IMAGES, "share": MOST_UNDECIDED / 2}, ON], PASSING_PAIRS, "pass", id="little has no verdict"
        ),
    ],
)
def test_verdict_of_parts(small: Audit, changes: list[dict[str, Any]], pairs: int, verdict: str) -> None:
    parts = parts_with(small.parts[0], *changes, pairs=pairs)
    check = parts_check(parts)
    assert check is not None
    assert check.verdict == verdict
    assert (check.value >= 1) == bool(parts.shortcuts) == (verdict == "fail")

    audit = replace(small, checks=(*small.checks, check))
    assert Audit.from_json(audit.to_json()) == audit
    assert f"parts: image {len(parts.shortcuts)}; {pairs} pairs" in str(certificate(audit).sections)


def test_a_doubtful_result_says_why(small: Audit) -> None:
    check = parts_check(parts_with(small.parts[0], FEW_IMAGES, {}, pairs=PASSING_PAIRS))
    assert check is not None
    (sentence,) = certificate(replace(small, checks=(check,))).sections["What these data cannot tell"]
    assert sentence.startswith("None was found, but of 1 of 2 parts, with 50% of the score, it is not known")
    assert f"(parts: image 0; {PASSING_PAIRS} pairs)" in sentence


# What cannot be answered


def test_a_quick_audit_says_that_it_has_no_parts() -> None:
    audit = nibt.audit(tiny.model("clip"), noise_pairs(8), "ones", quick=True)
    assert not audit.parts
    assert not question(audit)
    first, *others = certificate(audit).sections["What was not checked"]
    assert "Question 10, the parts of the images, was left out" in first
    assert any(text.startswith("parts: ") for text in others)


@pytest.mark.slow
def test_a_note_says_why_a_method_has_no_parts() -> None:
    labelled = [replace(pair, labels=("x", "y"), label=1) for pair in noise_pairs(8)]
    audit = nibt.audit(tiny.model("clip"), labelled, "ones")
    assert not audit.parts
    (note,) = [note for note in audit.notes if note.startswith("question 10")]
    assert "was not answered for ones: parts needs images with at least two different labels" in note


# Folder, files and pages


@pytest.mark.slow
def test_an_audit_that_was_stopped_goes_on(small: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs, folder = tiny.model("clip"), noise_pairs(8), tmp_path / "work"
    steps: list[str] = []

    def interrupt(progress: Progress) -> None:
        if steps and "parts" in steps[-1]:
            raise KeyboardInterrupt
        steps.append(progress.stage)

    with pytest.raises(KeyboardInterrupt):
        nibt.audit(model, pairs, "gae", folder=folder, on_progress=interrupt)

    def not_again(*_: Any) -> Any:
        raise AssertionError("the effects of parts are computed again")

    monkeypatch.setattr("nibt.evaluation.parts.effects.losses_of_choices", not_again)
    again = nibt.audit(model, pairs, "gae", folder=folder)
    assert replace(again, seconds=0.0, question_seconds=()) == replace(small, seconds=0.0, question_seconds=())


def test_an_audit_with_parts_is_a_file_of_its_schema(small: Audit, tmp_path: Path) -> None:
    small.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json") == small
    schema = Path(__file__).parents[3] / "docs" / "schemas" / "audit.json"
    jsonschema.validate(small.to_json(), json.loads(schema.read_text()))
    small.parts[0].save(tmp_path / "parts.json")
    assert Parts.load(tmp_path / "parts.json") == small.parts[0]


def test_the_page_has_the_galleries_and_loads_nothing(small: Audit) -> None:
    actual = check_page(page(small))
    assert not re.search(r"https?://|<script|<link|@import", actual)
    pictures = re.findall(r'<img src="data:image/jpeg;base64,', actual)
    assert len(pictures) == 2 * sum(len(part.gallery) for parts in small.parts for part in parts.parts)
    for link in re.findall(r'href="#([^"]+)"', actual):
        assert f'id="{link}"' in actual


def test_the_terminal_has_a_table_of_parts(small: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    from nibt.cli.console_audit import show_audit

    show_audit(small)
    out = capsys.readouterr().out
    assert "10. Parts of the images" in out
    assert len(re.findall(r"^\d+ +no verdict +\d+%", out, re.MULTILINE)) == sum(
        len(parts.parts) for parts in small.parts
    )
