"""Answers about several images: by the forward of the model, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nibt
from nibt.data.images import ImageInput
from nibt.data.units import cells_of
from nibt.errors import BadInput, BadOption, NibtError, Unsupported
from nibt.generators.answers import ForcedWord, Prompted
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import generator

FIRST, SECOND = tiny.image(64, 64, seed=0), tiny.image(96, 64, seed=1)
PROMPT, ANSWER = "a photo of a cat", "two red cars"
WHOLE = ("llava", "vipllava", "gemma3", "paligemma", "gemma3n", "deepseek_vl", "janus", "fast_vlm", "llava_gemma2")
GRIDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "glm4v", "mistral3", "pixtral", "gemma4")
GRIDS = (*GRIDS, "qwen3_5_moe", "qwen2_5_omni", "qwen3_omni", "glm4v_moe", "glm46v", "glm_ocr", "paddleocr_vl")
GRIDS = (*GRIDS, "lighton_ocr", "gemma4_per_layer")
TILES = ("llava_next", "llava_next_video", "llava_onevision", "internvl", "idefics3", "smolvlm", "aya_vision")
TILES = (*TILES, "cohere2_vision", "lfm2_vl", "lfm2_vl_whole", "ovis2")
KINDS = (*WHOLE, *GRIDS, *TILES)
FAST = ["qwen2_vl"]
ALONE = ("git", "blip_caption", "florence_2", "got_ocr2", "molmo2", "mllama", "donut")


def explained(kind: str, *images: Any, **options: Any) -> nibt.AnswerExplanation:
    return nibt.explain_answer(generator(kind), list(images), PROMPT, ANSWER, other_images=[], **options)


def own_inputs(kind: str, *images: ImageInput, answer: str = ANSWER) -> dict[str, Tensor]:
    """Return what the processor makes of the prompt with the images, and the answer after it."""
    tower: Any = generator(kind).answers
    if getattr(tower.processor, "chat_template", None):
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": PROMPT}]
        messages = [{"role": "user", "content": content}]
        text = tower.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    else:
        text = len(images) * tower.processor.image_token + PROMPT
    special = {"add_special_tokens": False} if tower.tokenizer.bos_token and text.startswith("<bos>") else {}
    pictures = [[image.pil_image for image in images]]
    values = dict(tower.processor(text=[text], images=pictures, return_tensors="pt", **special))
    several, image = tower.composed(images)
    tokens = several.read(Prompted(image, PROMPT), answer)
    for name in ("labels", "num_crops"):
        values.pop(name, None)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in values:
            tail = torch.full((1, len(tokens.ids)), int(name == "token_type_ids" and kind == "paligemma"))
            values[name] = torch.cat([values[name], tail], 1)
    ids = torch.cat([values["input_ids"], torch.tensor([tokens.ids])], 1)
    return {**values, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def own_log_probabilities(kind: str, values: dict[str, Tensor], answer: nibt.AnswerExplanation) -> list[float]:
    """Return the log-probability of each word of an answer by the forward of the model."""
    root: Any = generator(kind).module
    count = 1 + max(token for word in answer.words for token in word.tokens)
    with torch.no_grad():
        logs = root(**values).logits[0].float().log_softmax(-1)[-count - 1 : -1]
    of_tokens = logs[torch.arange(count), values["input_ids"][0, -count:]]
    return [float(of_tokens[list(word.tokens)].sum()) for word in answer.words]


@pytest.mark.parametrize("kind", few(KINDS, FAST))
def test_log_probabilities_are_those_of_the_model(kind: str) -> None:
    """The model reads both images in its own call, in their order."""
    layer = min(2, generator(kind).answers.depth - 1)
    answer = explained(kind, FIRST, SECOND, layer=layer, narrow=["image"])
    expected = own_log_probabilities(kind, own_inputs(kind, FIRST, SECOND), answer)
    assert [word.log_probability for word in answer.words] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", few(KINDS, FAST))
def test_cells_are_those_of_the_images_in_their_order(kind: str) -> None:
    """Each image has the rows and columns that the model divides it into, and its tokens follow those before."""
    tower: Any
    tower, image = generator(kind).answers.composed([FIRST, SECOND])
    inputs = tower.prepare([ForcedWord(Prompted(image, PROMPT), tower.read(Prompted(image, PROMPT), ANSWER))])
    cells: Any = cells_of(tower.units(inputs, tower.trace(inputs).cut(0).hidden))
    tokens = [{token for layer in part.layers for token in layer.tokens} for part in cells.parts]
    assert max(tokens[0]) < min(tokens[1])
    assert set.union(*tokens) <= set(tower.places(inputs))
    assert image.parts[0].shape == cells.parts[0].shape
    if kind in GRIDS:
        assert set.union(*tokens) == set(tower.places(inputs))
        assert cells.parts[0].shape != cells.parts[1].shape


@pytest.mark.parametrize("kind", few(["llava", "gemma3", "mistral3"], ["llava"]))
def test_occlusion_of_a_cell_is_what_the_model_loses_without_it(kind: str) -> None:
    answer = explained(kind, FIRST, SECOND, method="occlusion", narrow=["image"])
    values = own_inputs(kind, FIRST, SECOND)
    whole = own_log_probabilities(kind, values, answer)[0]
    for number, row, column in ((0, 0, 0), (0, 1, 3), (1, 2, 0), (1, 2, 3)):
        pixels = values["pixel_values"].clone()
        side = pixels.shape[-2] // answer.grid.rows
        pixels[number, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = 0.0
        without = own_log_probabilities(kind, {**values, "pixel_values": pixels}, answer)[0]
        assert float(answer.image_tables[number][0, row, column]) == pytest.approx(whole - without, abs=1e-4)


@pytest.mark.parametrize("kind", few(KINDS, FAST))
def test_sums_of_images_add_up(kind: str) -> None:
    answer = explained(kind, FIRST, SECOND, narrow=["image"])
    assert [image.source for image in answer.images] == [FIRST.source, SECOND.source]
    for word, sums in zip(answer.words, answer.image_sums, strict=True):
        assert float(sums.sum()) == pytest.approx(word.shares["image"], abs=1e-5)
    for table, image in zip(answer.image_tables, answer.images, strict=True):
        assert tuple(table.shape) == (len(answer.words), *image.shape)
    assert not answer.adds_up or "image 1 + image 2" in answer.equation


@pytest.mark.parametrize(
    "method", few(["rise masks=16", "occlusion", "shapley budget=40", "rollout", "gae"], ["occlusion"])
)
def test_cells_below_a_lower_image_have_no_score(method: str) -> None:
    answer = explained("internvl", FIRST, tiny.image(40, 64, seed=3), method=method, narrow=["image"])
    (rows, columns), (more, _) = (image.shape for image in answer.images)
    assert rows < more
    assert not answer.table[:, rows:, :columns].any()
    assert answer.table.any()


@pytest.mark.parametrize("kind", few([kind for kind in KINDS if kind != "qwen3_vl"], ["internvl"]))
def test_answers_are_written(kind: str) -> None:
    answer = nibt.explain_answer(generator(kind), [FIRST, SECOND], PROMPT, max_words=2, narrow=["image"])
    assert len(answer.images) == 2
    assert answer.written


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
    options = {"narrow": ["image"], "steps": 2, **options, **second}
    answer = nibt.explain_answer(generator("llava"), paths, PROMPT, ANSWER, **options)
    nibt.save(answer, tmp_path / "answer.json")
    return answer, nibt.AnswerExplanation.load(tmp_path / "answer.json")


@pytest.mark.parametrize("options", few([{}, {"against_image": True, "views": 1}], [{}]))
def test_stored_answers_are_drawn_again(tmp_path: Path, options: dict[str, Any]) -> None:
    answer, read = stored(tmp_path, **options)
    assert read == answer
    assert torch.equal(read.image_sums, answer.image_sums)
    assert nibt.draw(read).tobytes() == nibt.draw(answer).tobytes()
    for name in ("answer.png", "answer.html"):
        nibt.save(read, tmp_path / name)
        assert (tmp_path / name).stat().st_size


@pytest.mark.parametrize("change", few(["removed", "changed"], ["changed"]))
def test_stored_answers_say_that_an_image_is_missing(tmp_path: Path, change: str) -> None:
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
    one = explained("llava", FIRST, method="occlusion", narrow=["image"])
    assert one.images == ()
    assert one.image_sums.shape == (len(one.words), 1)


def test_images_of_a_file_must_have_the_cells_of_its_maps(tmp_path: Path) -> None:
    data = stored(tmp_path)[0].to_json()
    data["images"][1]["shape"] = [1, 1]
    with pytest.raises(BadInput, match=r"the maps of 2 images must have .* cells side by side"):
        nibt.AnswerExplanation.from_json(data)


@pytest.mark.parametrize("kind", few(ALONE, ["blip_caption"]))
def test_models_that_take_one_image_say_so(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"this model takes one image \(got 2\): explain each alone"):
        explained(kind, FIRST, SECOND)


def test_what_cannot_be_read_together_is_refused() -> None:
    with pytest.raises(BadInput, match="there is no image"):
        explained("llava")
    with pytest.raises(BadOption, match="other_images takes the place of one image"):
        nibt.explain_answer(generator("llava"), [FIRST, SECOND], PROMPT, ANSWER, other_images=[FIRST])
    with pytest.raises(
        BadInput, match=r"cannot prepare the images .* together .*: give images of one size, or explain"
    ):
        explained("perception_lm", FIRST, SECOND)
    for option in ("units=segments", "amounts=removal"):
        with pytest.raises(NibtError, match=r"whose input is not the pixels of one image|for several images"):
            explained("llava", FIRST, SECOND, method=f"occlusion {option}")
    with pytest.raises(BadOption, match="views must be 1 for several images: leave views out"):
        explained("llava", FIRST, SECOND, views=3)
    token = generator("llava").answers.processor.image_token  # pyright: ignore
    with pytest.raises(BadInput, match="once for each image, and there is 2"):
        nibt.explain_answer(generator("llava"), [FIRST, SECOND], f"{token} a cat", ANSWER)
