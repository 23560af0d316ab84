"""Why an answer is more probable with one image than with another: ``explain_answer(..., against_image=...)``."""

from pathlib import Path
from typing import Any

import pytest
import torch

import nibt
from nibt.errors import BadInput, BadOption
from nibt.progress import Progress
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import generator

FIRST, SECOND = tiny.image(64, 64, seed=0), tiny.image(64, 64, seed=1)
PROMPT, ANSWER = "a photo of a cat", "two red cars"
KINDS = ("llava", "paligemma", "qwen2_vl", "internvl", "blip_caption", "florence_2")


def explained(kind: str, first: Any, second: Any = None, **options: Any) -> nibt.AnswerExplanation:
    prompt = "" if kind in ("blip_caption",) else "<CAPTION>" if kind == "florence_2" else PROMPT
    return nibt.explain_answer(generator(kind), first, prompt, ANSWER, against_image=second, **options)


@pytest.mark.parametrize("kind", few(KINDS, ["blip_caption"]))
def test_all_numbers_are_those_of_the_first_image_minus_those_of_the_second(kind: str) -> None:
    answer = explained(kind, FIRST, SECOND)
    first, second = (explained(kind, image, other_images=[]) for image in (FIRST, SECOND))
    assert answer.target["name"] == "difference"
    assert [image.source for image in answer.images] == [FIRST.source, SECOND.source]
    for word, one, other in zip(answer.words, first.words, second.words, strict=True):
        assert word.value == pytest.approx(one.log_probability - other.log_probability, abs=1e-5)
        assert word.image_gain == pytest.approx(word.value, abs=1e-5)
        mine, its = word.grid.chunk(2, 1)
        torch.testing.assert_close(mine, one.grid, atol=1e-6, rtol=0)
        torch.testing.assert_close(its, -other.grid, atol=1e-6, rtol=0)
        total = word.at_blank + sum(word.shares.values()) + word.gap
        assert total == pytest.approx(word.value, abs=1e-4)
        # both images start from the same blank image, so that what it leaves is the same
        assert word.without["image"] == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_exchanged_images_change_the_sign() -> None:
    answer, swapped = explained("llava", FIRST, SECOND), explained("llava", SECOND, FIRST)
    for word, other in zip(answer.words, swapped.words, strict=True):
        mine, its = word.grid.chunk(2, 1)
        torch.testing.assert_close(torch.cat([its, mine], 1), -other.grid)
        assert word.value == pytest.approx(-other.value, abs=1e-6)


@pytest.mark.slow
def test_the_answer_is_written_for_the_first_image_and_progress_covers_both() -> None:
    seen: list[Progress] = []
    answer = nibt.explain_answer(
        "scenes_generator",
        "sample:scene",
        "what is left of the house ?",
        against_image="sample:collage",
        on_progress=seen.append,
    )
    assert answer.written
    assert answer.answer == "hamburger"
    assert [(each.done, each.total) for each in seen] == [(1, 2), (2, 2)]
    assert answer.words[0].value > 2
    assert "image 1 + image 2" in answer.equation


def test_results_are_written_drawn_and_read(tmp_path: Path) -> None:
    answer = explained("llava", FIRST, SECOND)
    for ending in ("png", "html", "json"):
        answer.save(tmp_path / f"answer.{ending}")
    again = nibt.AnswerExplanation.load(tmp_path / "answer.json")
    assert again.columns == answer.columns
    assert "likely answer to" in (tmp_path / "answer.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"second": FIRST}, BadInput, "is compared with itself"),
        ({"second": SECOND, "against": "dog"}, BadOption, "against and against_image cannot both be set"),
        ({"second": SECOND, "other_images": [FIRST]}, BadOption, "other_images and against_image cannot both"),
        ({"first": [FIRST, SECOND], "second": SECOND}, BadOption, "against_image is for one image"),
        ({"second": "no such file.png"}, BadInput, "no such file.png"),
    ],
)
def test_contradicting_questions_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explained("llava", **{"first": FIRST, **options})


@pytest.mark.slow
def test_images_with_other_patches_are_refused() -> None:
    with pytest.raises(BadInput, match=r"same rows and columns of patches .* resize one to the size of the other"):
        explained("qwen2_vl", FIRST, tiny.image(64, 128, seed=1))
