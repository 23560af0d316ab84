"""Tests of ``nibt.evaluation.audit``, run as a whole."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import nibt
from nibt.cli.console_audit import show_audit
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation.audit import runner
from nibt.evaluation.audit.checks import LEAST_PAIRS
from nibt.evaluation.finished import WorkFolder
from nibt.models.base import Model
from nibt.progress import Progress
from nibt.report.html.audit import page
from nibt.results.audit import Audit
from nibt.results.audit_questions import QUESTIONS
from tests import tiny
from tests.helpers import check_page, noise_pairs
from tests.suites import few

MANY = 24


def verdicts(audit: Audit, method: str = "") -> dict[tuple[str, str], str]:
    return {(check.name, check.side): check.verdict for check in audit.checks if check.method == method}


@pytest.fixture(scope="module")
def scenes() -> Audit:
    """The audit of NIB on scenes, at the smallest size."""
    return nibt.audit("scenes", list(Scenes(count=MANY, seed=5, fewest=2, most=3, named="all")), "nib", quick=True)


@pytest.fixture(scope="module")
def random() -> Audit:
    return nibt.audit(tiny.model("clip"), noise_pairs(2 * MANY), "random", quick=True)


@pytest.mark.slow
def test_audit_passes_nib_on_scenes(scenes: Audit) -> None:
    few = {key: text for key, text in verdicts(scenes, "nib").items() if text != "pass"}
    assert set(few.values()) <= {"no verdict"}, few
    assert {name for name, _ in few} <= {"inside", "exchange_words"}, "they need more than 24 pairs with a value"
    assert verdicts(scenes)["vocabulary", "text"] == "warn", "it knows few words"
    assert {text for key, text in verdicts(scenes).items() if key[0] != "vocabulary"} == {"pass"}
    assert {check.question for check in scenes.checks if check.method == "nib"} == {1, 2, 3, 4, 5, 6, 9}


@pytest.mark.slow
def test_audit_fails_a_random_map(random: Audit) -> None:
    actual = verdicts(random, "random")
    failing = [
        ("weights", "image"),
        ("weights_ssim", "image"),
        ("weights", "text"),
        ("mismatch_image", "image"),
        ("nonsense", "image"),
        ("mismatch_text", "text"),
        ("seed", "image"),
        ("seed", "text"),
    ]
    assert [actual[key] for key in failing] == ["fail"] * len(failing)
    assert not all(actual[metric, side] == "pass" for metric in ("deletion", "insertion") for side in ("image", "text"))
    assert random.verdict == "fail"


@pytest.mark.slow
def test_audit_fails_a_constant_text_tower() -> None:
    """The last norm outputs its bias for every caption."""
    model = tiny.fresh("clip")
    with torch.no_grad():
        model.module.text_model.final_layer_norm.weight.zero_()  # pyright: ignore
    actual = nibt.audit(model, noise_pairs(2 * MANY), "nib", quick=True)
    assert verdicts(actual) == {("auc", ""): "fail", ("recall", ""): "fail", ("vocabulary", "text"): "fail"}
    own = verdicts(actual, "nib")
    for key in (
        ("weights", "text"),
        ("mismatch_image", "image"),
        ("nonsense", "image"),
        ("mismatch_text", "text"),
    ):
        assert own[key] == "fail", key
    assert ("deletion", "text") not in own, "values that are all equal have no interval"


@pytest.mark.slow
def test_audit_with_the_same_seed_is_the_same(random: Audit) -> None:
    assert len(random.unknown_nouns) == 999
    again = nibt.audit(tiny.model("clip"), noise_pairs(2 * MANY), "random", quick=True)
    assert replace(again, seconds=0.0, question_seconds=()) == replace(random, seconds=0.0, question_seconds=())


@pytest.mark.slow
def test_audit_is_saved_and_loaded(scenes: Audit, tmp_path: Path) -> None:
    scenes.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json") == scenes
    data = json.loads((tmp_path / "audit.json").read_text())
    assert (data["schema"], data["kind"], data["verdict"]) == (1, "audit", scenes.verdict)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(BadInput, match="not a file of kind 'audit'"):
        Audit.load(tmp_path / "audit.json")


@pytest.mark.slow
def test_audit_page_is_self_contained(scenes: Audit) -> None:
    actual = check_page(page(scenes))
    assert not re.search(r"https?://|<script|<link|@import", actual)
    assert actual.count("data:image/png;base64,") == 3 * 6, "examples and their tiles"
    assert all(check.about.split(" ")[0] in actual for check in scenes.checks)
    assert "931 unknown nouns" in actual
    assert ", ".join(scenes.unknown_nouns) in actual
    assert actual.count('class="gauge"') == len(scenes.checks)


def test_audit_rejects_few_or_equal_pairs() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match=rf"at least {LEAST_PAIRS} pairs.*\(got 3\)"):
        nibt.audit(model, noise_pairs(MANY)[:3])
    with pytest.raises(BadInput, match=f"all {MANY} captions are the same"):
        nibt.audit(model, [replace(pair, caption="a red cat") for pair in noise_pairs(MANY)])
    with pytest.raises(UnknownName, match="Did you mean 'nib'"):
        nibt.audit(model, noise_pairs(MANY), "nibb")
    with pytest.raises(BadOption, match="seed"):
        nibt.audit(model, noise_pairs(MANY), seed=-1)


@pytest.mark.slow
def test_audit_reports_weights_that_change_meanwhile() -> None:
    model: Model = deepcopy(tiny.fresh("clip"))

    def train(progress: Progress) -> None:
        with torch.no_grad():
            next(model.module.parameters()).add_(1e-3)

    with pytest.raises(nibt.NibtError, match="changed during the audit"):
        nibt.audit(model, noise_pairs(MANY), "ones", quick=True, on_progress=train)


@pytest.mark.slow
def test_audit_page_has_readable_images(scenes: Audit) -> None:
    from base64 import b64decode
    from io import BytesIO

    with Image.open(BytesIO(b64decode(scenes.examples[0].image.partition(",")[2]))) as shown:
        assert shown.size == (128, 128)


@pytest.mark.slow
@pytest.mark.parametrize("longer", [0, 1])
def test_orders_of_one_word_are_not_checked(longer: int) -> None:
    """One caption of several words has a value, but no interval."""
    pairs = [replace(each, caption="cat" if item % 2 else "dog") for item, each in enumerate(noise_pairs(MANY))]
    pairs[:longer] = [replace(each, caption="a red cat on a mat") for each in pairs[:longer]]
    result = nibt.audit(tiny.model("clip"), pairs, "ones", quick=True)
    assert Audit.from_json(result.to_json()) == result
    of_words = [check for check in result.checks if check.side == "text"]
    assert {check.question for check in of_words} <= {6, 8}
    assert any("text side of ones: fewer than two maps have enough units" in note for note in result.notes)


@pytest.mark.parametrize("stop", few([3, 8], [8]))
def test_an_audit_that_was_stopped_goes_on(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs, folder = tiny.model("clip"), noise_pairs(8), tmp_path / "work"
    whole = nibt.audit(model, pairs, "gae", quick=True)
    computed: list[int] = []
    maps = runner.maps
    monkeypatch.setattr(runner, "maps", lambda *arguments: computed.append(1) or maps(*arguments))
    for name in ("exchange_beside_objects", "exchange_of_words"):
        exchange = getattr(runner, name)
        monkeypatch.setattr(runner, name, lambda *arguments, own=exchange: computed.append(1) or own(*arguments))

    def interrupt(progress: Progress) -> None:
        if progress.done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nibt.audit(model, pairs, "gae", quick=True, folder=folder, on_progress=interrupt)
    before = len(computed)
    again = nibt.audit(model, pairs, "gae", quick=True, folder=folder)
    assert replace(again, seconds=0.0, question_seconds=()) == replace(whole, seconds=0.0, question_seconds=())
    assert 0 < before
    total = len(computed)
    computed.clear()
    nibt.audit(model, pairs, "gae", quick=True)
    assert total == len(computed), "nothing was computed twice"


def test_each_step_is_reported_when_it_begins_from_the_maps_on() -> None:
    seen: list[Progress] = []
    nibt.audit(tiny.model("clip"), noise_pairs(8), "ones", quick=True, on_progress=seen.append)
    assert seen[0].stage == "the maps"
    assert [progress.done for progress in seen] == list(range(len(seen)))
    assert {progress.total for progress in seen} == {len(seen)}


def test_work_of_another_audit_is_refused_and_kept(tmp_path: Path) -> None:
    model, pairs, folder = tiny.model("clip"), noise_pairs(8), tmp_path / "work"
    nibt.audit(model, pairs, "ones", quick=True, folder=folder)
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(nibt.NibtError, match="seed"):
        nibt.audit(model, pairs, "ones", quick=True, folder=folder, seed=1)
    with pytest.raises(nibt.NibtError):
        nibt.audit(model, noise_pairs(9), "ones", quick=True, folder=folder)
    assert sorted(path.name for path in folder.rglob("*")) == before
    (folder / "mine.txt").write_text("a note")
    WorkFolder(folder).discard()
    assert [path.name for path in folder.rglob("*")] == ["mine.txt"]


def test_data_of_the_user_are_checked_and_keep_the_number_of_pairs() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(8)
    for value in (object(), float("nan")):
        with pytest.raises(BadOption, match="plain values"):
            nibt.audit(model, pairs, "ones", data={"x": value})
    audit = nibt.audit(model, pairs, "ones", quick=True, data={"dataset": "mine"})
    assert (audit.data["dataset"], audit.data["pairs"]) == ("mine", 8)
    assert "on 8 pairs of mine" in repr(audit)


def test_audit_states_the_time_of_each_question(random: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = random.question_seconds
    assert len(seconds) == len(QUESTIONS)
    assert [number for number, taken in enumerate(seconds, 1) if not taken] == [6, 10], "metrics, and no parts"
    assert 0.9 * random.seconds < sum(seconds) <= random.seconds

    show_audit(random)
    printed = capsys.readouterr().out
    assert all(f"({seconds[number - 1]:.1f} s)" in text for number in (1, 5) for text in (printed, page(random)))

    damaged = {**random.to_json(), "question_seconds": [1.0]}
    with pytest.raises(BadInput, match="question_seconds must have 10 entries"):
        Audit.from_json(damaged)
