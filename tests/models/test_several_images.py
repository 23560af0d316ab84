"""Answers about several images: by the forward of the model, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import nibt
from nibt.data.units import cells_of
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.models._answers import ForcedWord, Prompted
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import generator

FIRST, SECOND = tiny.image(64, 64, seed=0), tiny.image(64, 64, seed=1)
PROMPT, ANSWER = "a photo of a cat", "two red cars"
KINDS = ("llava", "gemma3", "paligemma", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
ALONE = ("internvl", "idefics3", "git", "blip_caption", "florence_2", "llava_next")


def explained(kind: str, *images: Any, **options: Any) -> nibt.AnswerExplanation:
    return nibt.explain_answer(generator(kind), list(images), PROMPT, ANSWER, other_images=[], **options)


@pytest.mark.parametrize("kind", few(KINDS, ["llava", "qwen2_vl"]))
def test_log_probabilities_are_those_of_the_model(kind: str) -> None:
    """The model reads both images in its own call, in their order."""
    tower: Any = generator(kind).answers
    if getattr(tower.processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": PROMPT}]
        messages = [{"role": "user", "content": content}]
        text = tower.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    else:
        text = 2 * tower.processor.image_token + PROMPT
    images = [[FIRST.pil_image, SECOND.pil_image]]
    explanation = explained(kind, FIRST, SECOND, layer=2)
    special = {"add_special_tokens": False} if tower.tokenizer.bos_token and text.startswith("<bos>") else {}
    values = dict(tower.processor(text=[text], images=images, return_tensors="pt", **special))
    several, image = tower.composed([FIRST, SECOND])
    answer = several.read(Prompted(image, PROMPT), ANSWER)
    values.pop("labels", None)
    ids = torch.cat([values["input_ids"], torch.tensor([answer.ids])], 1)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in values:
            tail = torch.full((1, len(answer.ids)), int(name == "token_type_ids" and kind == "paligemma"))
            values[name] = torch.cat([values[name], tail], 1)
    with torch.no_grad():
        logits = tower.root(**{**values, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[0]
    logs = logits.float().log_softmax(-1)[len(ids[0]) - len(answer.ids) - 1 : -1]
    of_tokens = logs[torch.arange(len(answer.ids)), list(answer.ids)]
    for word, expected in zip(explanation.words, answer.words, strict=True):
        assert word.log_probability == pytest.approx(float(of_tokens[list(expected.tokens)].sum()), abs=1e-3)


@pytest.mark.parametrize("kind", few(KINDS, ["llava", "qwen2_vl"]))
def test_cells_are_those_of_the_images_in_their_order(kind: str) -> None:
    """The left half of the grid has the rows of the first image; pixels are those of the processor."""
    tower: Any
    tower, image = generator(kind).answers.composed([FIRST, SECOND])
    inputs = tower.prepare([ForcedWord(Prompted(image, PROMPT), tower.read(Prompted(image, PROMPT), ANSWER))])
    cells: Any = cells_of(tower.units(inputs, tower.trace(inputs).cut(0).hidden))
    rows = torch.tensor(cells.tokens).view(cells.rows, cells.columns)
    first, second = rows.chunk(2, 1)
    assert first.max() < second.min()
    assert (first.flatten().diff() > 0).all()
    own: Any = tower.processor.image_processor([FIRST.pil_image, SECOND.pil_image], return_tensors="pt")
    torch.testing.assert_close(tower.arguments(inputs)["pixel_values"].flatten(), own["pixel_values"].flatten())


@pytest.mark.parametrize("kind", ["llava", "gemma3"])
def test_occlusion_of_a_cell_is_what_the_model_loses_without_it(kind: str) -> None:
    answer = explained(kind, FIRST, SECOND, method="occlusion", narrow=["image"])
    tower, image = generator(kind).answers.composed([FIRST, SECOND])
    words = [ForcedWord(Prompted(image, PROMPT), tower.read(Prompted(image, PROMPT), ANSWER), 0)]
    inputs = tower.prepare(words)
    side = inputs.values.shape[-2] // answer.grid.rows
    for row, column in ((0, 0), (1, 3), (2, 4), (3, 7)):
        values = inputs.values.clone()
        values[..., row * side : (row + 1) * side, column * side : (column + 1) * side] = 0.0
        ids = words[0].answer.ids[: len(words[0].tokens)]
        logs = [
            tower.own_logits(each)[0].log_softmax(-1)[range(len(ids)), ids].sum()
            for each in (inputs, replace(inputs, values=values))
        ]
        assert float(answer.words[0].grid[row, column]) == pytest.approx(float(logs[0] - logs[1]), abs=1e-4)


@pytest.mark.parametrize("kind", few([*KINDS], ["llava", "qwen2_vl"]))
def test_sums_of_images_add_up(kind: str) -> None:
    answer = explained(kind, FIRST, SECOND, narrow=["image"])
    assert [image.source for image in answer.images] == [FIRST.source, SECOND.source]
    for word, sums in zip(answer.words, answer.image_sums, strict=True):
        assert float(sums.sum()) == pytest.approx(word.shares["image"], abs=1e-5)
        halves = word.grid.chunk(2, 1)
        assert sums.tolist() == pytest.approx([float(half.sum()) for half in halves], abs=1e-5)
    assert not answer.adds_up or "image 1 + image 2" in answer.equation


def test_attentions_are_of_both_images() -> None:
    attended = nibt.attentions(generator("llava"), [FIRST, SECOND], PROMPT, ANSWER)
    alone = nibt.attentions(generator("llava"), FIRST, PROMPT, ANSWER)
    both, one = (each.split()["image"] for each in (attended, alone))
    assert both.shape[-1] == 2 * one.shape[-1]
    assert attended.picture().size[0] > 0


def stored(tmp_path: Path, **options: Any) -> tuple[nibt.AnswerExplanation, nibt.AnswerExplanation]:
    """Return an answer about images in files, and what its JSON file is read as."""
    paths = [tmp_path / f"{name}.png" for name in ("first", "second")]
    for path, image in zip(paths, (FIRST, SECOND), strict=True):
        image.pil_image.save(path)
    second = {"against_image": paths.pop()} if "against_image" in options else {}
    answer = nibt.explain_answer(generator("llava"), paths, PROMPT, ANSWER, **{**options, **second})
    nibt.save(answer, tmp_path / "answer.json")
    return answer, nibt.AnswerExplanation.load(tmp_path / "answer.json")


@pytest.mark.parametrize("options", [{}, {"against_image": True, "views": 1}], ids=["several", "difference"])
def test_stored_answers_are_drawn_again(tmp_path: Path, options: dict[str, Any]) -> None:
    answer, read = stored(tmp_path, **options)
    assert read == answer
    assert torch.equal(read.image_sums, answer.image_sums)
    assert nibt.draw(read).tobytes() == nibt.draw(answer).tobytes()
    for name in ("answer.png", "answer.html"):
        nibt.save(read, tmp_path / name)
        assert (tmp_path / name).stat().st_size


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_stored_answers_say_that_an_image_is_no_longer_there(tmp_path: Path, change: str) -> None:
    _, read = stored(tmp_path)
    if change == "removed":
        (tmp_path / "second.png").unlink()
    else:
        FIRST.pil_image.save(tmp_path / "second.png")
    again = nibt.AnswerExplanation.load(tmp_path / "answer.json")
    assert torch.equal(read.image_sums, again.image_sums)
    with pytest.raises(BadInput, match="some are no longer there or were changed since they were explained"):
        nibt.draw(again)


def test_one_image_has_one_sum() -> None:
    one = explained("llava", FIRST)
    assert one.images == ()
    assert one.image_sums.shape == (len(one.words), 1)


def test_images_of_a_file_must_have_the_cells_of_its_maps(tmp_path: Path) -> None:
    data = stored(tmp_path)[0].to_json()
    data["images"][1]["shape"] = [1, 1]
    with pytest.raises(BadInput, match=r"the maps of 2 images must have .* cells side by side"):
        nibt.AnswerExplanation.from_json(data)


@pytest.mark.parametrize("kind", few(ALONE, ["internvl", "blip_caption"]))
def test_models_that_take_one_image_say_so(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"this model takes one image \(got 2\): explain each alone"):
        explained(kind, FIRST, SECOND)


def test_what_cannot_be_read_together_is_refused() -> None:
    with pytest.raises(BadInput, match="there is no image"):
        explained("llava")
    with pytest.raises(BadOption, match="other_images takes the place of one image"):
        nibt.explain_answer(generator("llava"), [FIRST, SECOND], PROMPT, ANSWER, other_images=[FIRST])
    with pytest.raises(Unsupported, match="grids of different sizes"):
        explained("qwen2_vl", FIRST, tiny.image(128, 64))
    with pytest.raises(BadOption, match="views must be 1 for several images: leave views out"):
        explained("llava", FIRST, SECOND, views=3)
    token = generator("llava").answers.processor.image_token  # pyright: ignore
    with pytest.raises(BadInput, match="once for each image, and there is 2"):
        nibt.explain_answer(generator("llava"), [FIRST, SECOND], f"{token} a cat", ANSWER)
