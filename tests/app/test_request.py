"""Tests of ``nibt.app.request``."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageFile

import nibt
from nibt.app.limits import Deadline, Replaced
from nibt.app.request import Mode, as_sentence, explain_steps
from nibt.data.images import sample_file
from nibt.errors import BadInput, UnknownName
from nibt.models.base import Model
from nibt.report.html.view import Failure, Panel
from tests.app.requests import make_request
from tests.helpers import count_hooks
from tests.suites import few


def test_request_recognizes_a_sample_by_its_bytes() -> None:
    assert make_request().image.source == "sample:coffee"


def test_request_takes_one_caption_per_line() -> None:
    assert make_request(" a cat \n\n a dog\n").captions == ("a cat", "a dog")


def test_request_takes_a_prompt_and_an_answer() -> None:
    assert make_request(" what is it ? \n\n", "answer").captions == ("what is it ?",)
    assert make_request("what is it ?\na red\n cat", "answer").captions == ("what is it ?", "a red cat")
    assert make_request("\na cat", "answer").captions == ("", "a cat"), "some generators take no prompt"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"captions": " \n "}, "write a caption first"),
        ({"captions": "x" * 100_000}, "100,000 characters"),
        ({"captions": "\n".join("abcdefghijklmno")}, "15 captions"),
        ({"mode": "contrast"}, "at least two captions or labels"),
        ({"mode": "labels"}, "at least two captions or labels"),
        ({"methods": ()}, "at least one method"),
        ({"methods": ("nib",) * 7}, "7 methods"),
        ({"captions": None}, "must be strings"),
        ({"methods": "nib"}, "a list of names"),
        ({"methods": (["nib"],)}, "a list of names"),
        ({"mode": "why"}, "mode must be one of each, contrast, images, labels"),
        ({"mode": "images"}, "give the other image first"),
        ({"mode": "images", "captions": "a\nb"}, "compared for one caption"),
        ({"variant": "../x"}, "variant must be one of default, fast, paper"),
        ({"file": None}, "give an image first"),
        ({"file": "photo.png"}, "give an image first"),  # what a client sends that is not the page
        ({"file": ["photo.png"]}, "give an image first"),
        ({"mode": "images", "against": "photo.png"}, "give the other image first"),
        ({"file": Path("gone.png")}, "no longer here"),
    ],
)
def test_request_rejects_missing_or_excessive_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_request(**fields)


def test_request_rejects_an_unknown_method() -> None:
    with pytest.raises(UnknownName, match="nibb"):
        make_request(methods=("nibb",))


@pytest.mark.parametrize("size", [(20_000, 10_000), (10_000, 6_000)])
def test_request_rejects_too_many_pixels_before_decoding(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", size).save(bomb)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("the file is decoded"))
    with pytest.raises(BadInput, match="pixels"):
        make_request(file=bomb)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_request_rejects_files_that_are_no_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BadInput):
        make_request(file=tmp_path / "x.png")


@pytest.mark.slow
def test_explain_steps_equals_explain(scenes: Model) -> None:
    request = make_request("a cat\na dog", methods=("nib", "grad_cam"))
    first, second, last = explain_steps(request, scenes)
    assert [len(panels) for panels in (first, second, last)] == [2, 4, 4]
    assert request.steps == 3
    for panel, (method, caption) in zip(
        last, [(m, c) for m in ("nib", "grad_cam") for c in ("a cat", "a dog")], strict=True
    ):
        alone = nibt.explain(scenes, "sample:coffee", caption, method)
        assert torch.allclose(panel.answer.grid, alone.grid, atol=1e-5)  # pyright: ignore
        assert (panel.table is not None) == (method == "nib")
    table = nibt.regions(scenes, "sample:coffee", "a cat")
    assert last[0].table is not None
    assert torch.equal(last[0].table.scores, table.scores)


@pytest.mark.slow
def test_explain_steps_takes_two_captions_two_images_or_labels(scenes: Model) -> None:
    (panels,) = explain_steps(make_request("a cup\na cat", "contrast"), scenes)
    alone = nibt.explain(scenes, "sample:coffee", "a cup", target="difference", against=["a cat"])
    assert panels[0].answer.target["value"] == pytest.approx(alone.target["value"], abs=1e-6)  # pyright: ignore
    (panels,) = explain_steps(make_request("a cup", "images", against=sample_file("scene")), scenes)
    against = nibt.explain(scenes, "sample:coffee", "a cup", against_images="sample:scene")
    assert panels[0].answer.target["value"] == pytest.approx(against.target["value"], abs=1e-6)  # pyright: ignore
    assert torch.equal(panels[0].answer.against.grid, against.against.grid)  # pyright: ignore
    (panels,) = explain_steps(make_request("a cup\na cat\na dog", "labels"), scenes)
    ranking = panels[0].answer.ranking  # pyright: ignore
    best = nibt.rank(scenes, "sample:coffee", ["a cup", "a cat", "a dog"])
    assert [label.label for label in ranking] == [label.label for label in best]


@pytest.mark.parametrize("after", few([3, 60, 300], [60]))
def test_explain_steps_leaves_no_trace_after_the_time_limit(scenes: Model, after: int) -> None:
    before = nibt.explain(scenes, "sample:coffee", "a cat").grid
    ticks = itertools.count()
    (outcome,) = list(
        explain_steps(make_request(), scenes, lambda step: Deadline(float(after), lambda: float(next(ticks))))
    )[-1]
    text = outcome.message if isinstance(outcome, Failure) else outcome.problem
    assert "takes longer" in text
    assert count_hooks(scenes.module) == 0
    assert torch.equal(nibt.explain(scenes, "sample:coffee", "a cat").grid, before)


@pytest.mark.slow
def test_explain_steps_within_the_time_limit_gives_the_same_bits(scenes: Model) -> None:
    with Deadline(time.monotonic() + 600):
        *_, watched = explain_steps(make_request(), scenes)
    *_, free = explain_steps(make_request(), scenes)
    assert torch.equal(watched[0].answer.grid, free[0].answer.grid)  # pyright: ignore
    assert torch.equal(watched[0].table.scores, free[0].table.scores)  # pyright: ignore


def late(*steps: int) -> Any:
    """Return a time limit that is exceeded in these steps."""
    return lambda step: Deadline(-1.0 if step in steps else float("inf"), clock=lambda: 0.0)


def test_explain_steps_gives_each_method_its_own_outcome(scenes: Model) -> None:
    request = make_request(methods=("nib", "occlusion", "grad_cam"))
    stages = list(explain_steps(request, scenes, late(1)))
    assert [len(stage) for stage in stages] == [1, 2, 3, 3]
    for earlier, later in itertools.pairwise(stages[:-1]):
        assert later[: len(earlier)] == earlier, "finished outcomes do not change"
    nib, occlusion, grad_cam = stages[-1]
    assert isinstance(nib, Panel)
    assert isinstance(grad_cam, Panel)
    assert nib.table is not None
    assert isinstance(occlusion, Failure)
    assert occlusion.title == "occlusion"
    assert "takes longer" in occlusion.message


@pytest.mark.parametrize("step", [0, 1])
def test_explain_steps_end_when_the_result_is_not_wanted(scenes: Model, step: int) -> None:
    """No further method starts, and no result takes the place of the replaced one."""
    checks = itertools.count()
    steps = explain_steps(
        make_request(methods=("nib", "grad_cam")),
        scenes,
        lambda number: Deadline(float("inf"), is_wanted=lambda: number < step or next(checks) < 50),
    )
    assert len(list(itertools.islice(steps, step))) == step
    with pytest.raises(Replaced):
        next(steps)
    assert list(steps) == []
    assert count_hooks(scenes.module) == 0


def test_explain_steps_keeps_an_answer_if_its_table_fails(scenes: Model) -> None:
    first, last = explain_steps(make_request(), scenes, late(1))
    assert isinstance(last[0], Panel)
    assert last[0].answer is first[0].answer  # pyright: ignore
    assert last[0].table is None
    assert "takes longer" in last[0].problem


def test_messages_are_sentences() -> None:
    assert as_sentence(BadInput("give it (really)")) == "Give it (really)"
    assert as_sentence(BadInput("give it")) == "Give it."


def test_modes_are_those_of_the_page() -> None:
    assert [mode.value for mode in Mode] == ["each", "contrast", "images", "labels", "answer"]
