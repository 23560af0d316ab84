"""Answers about the frames of a video: by the forward of the model on the video, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nibt
from nibt.errors import BadInput, BadOption, Unsupported
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import generator

FRAMES = [tiny.image(64, 64, seed=number) for number in range(4)]
PROMPT: Any = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "a photo of a cat"}]}]
ANSWER = "two red cars"
MERGED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "glm4v")
SINGLE = ("llava_next_video", "llava_onevision")
KINDS = (*MERGED, *SINGLE)


def explained(kind: str, frames: Any = FRAMES, prompt: Any = PROMPT, **options: Any) -> nibt.AnswerExplanation:
    return nibt.explain_answer(generator(kind), frames, prompt, ANSWER, narrow=["image"], **options)


def own_inputs(kind: str, frames: Any) -> dict[str, Tensor]:
    """Return what the processor makes of the conversation with the video, and the answer after it."""
    tower: Any = generator(kind).answers
    text = tower.processor.apply_chat_template(PROMPT, add_generation_prompt=True, tokenize=False)
    pictures = [frame.pil_image for frame in frames]
    values = dict(tower.processor(text=[text], videos=[pictures], do_sample_frames=False, return_tensors="pt"))
    ids = tower.tokenizer(ANSWER, add_special_tokens=False).input_ids
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in values:
            values[name] = torch.cat([values[name], torch.zeros(1, len(ids), dtype=torch.long)], 1)
    sequence = torch.cat([values["input_ids"], torch.tensor([ids])], 1)
    return {**values, "input_ids": sequence, "attention_mask": torch.ones_like(sequence)}


def own_log_probability(kind: str, values: dict[str, Tensor]) -> float:
    """Return the log-probability of the answer by the forward of the model."""
    root: Any = generator(kind).module
    ids = generator(kind).answers.tokenizer(ANSWER, add_special_tokens=False).input_ids
    with torch.no_grad():
        logs = root(**values).logits[0].float().log_softmax(-1)[-len(ids) - 1 : -1]
    return float(logs[torch.arange(len(ids)), ids].sum())


@pytest.mark.parametrize("count", few([4, 3, 2], [3]))
@pytest.mark.parametrize("kind", few(KINDS, ["qwen2_vl", "llava_onevision"]))
def test_log_probabilities_are_those_of_the_model_on_the_video(kind: str, count: int) -> None:
    answer = explained(kind, FRAMES[:count], layer=2)
    total = sum(word.log_probability for word in answer.words)
    assert total == pytest.approx(own_log_probability(kind, own_inputs(kind, FRAMES[:count])), abs=1e-3)


@pytest.mark.parametrize("kind", few(KINDS, ["qwen2_vl", "llava_onevision"]))
def test_frames_have_maps_and_sums(kind: str) -> None:
    answer = explained(kind)
    merged = 2 if kind in MERGED else 1
    assert answer.frames == merged
    assert [image.source for image in answer.images] == [frame.source for frame in FRAMES[::merged]]
    names = ("frame 1-2", "frame 3-4") if merged == 2 else ("frame 1", "frame 2", "frame 3", "frame 4")
    assert answer.image_names == names
    for word, sums in zip(answer.words, answer.image_sums, strict=True):
        assert float(sums.sum()) == pytest.approx(word.shares["image"], abs=1e-5)
    assert any("merges each 2 frames" in note for note in answer.warnings) == (merged == 2)
    assert not any("without the chat template" in note for note in answer.warnings)


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava_onevision"])
def test_one_frame_is_a_video(kind: str) -> None:
    answer = explained(kind, FRAMES[:1])
    assert len(answer.images) == 1
    assert answer.words[0].with_other_images is None
    assert sum(word.log_probability for word in answer.words) == pytest.approx(
        own_log_probability(kind, own_inputs(kind, FRAMES[:1])), abs=1e-3
    )


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava_next_video"])
def test_occlusion_of_a_cell_is_what_the_model_loses_without_it(kind: str) -> None:
    answer, values = explained(kind, method="occlusion"), own_inputs(kind, FRAMES)
    whole, (rows, columns) = own_log_probability(kind, values), answer.images[0].shape
    for place, cell in ((0, 0), (1, rows * columns - 1)):
        pixels = values["pixel_values_videos"].clone()
        if kind == "qwen2_vl":  # the four patches of a cell follow each other
            pixels[4 * (place * rows * columns + cell) :][:4] = 0.0
        else:
            side, (row, column) = pixels.shape[-1] // columns, divmod(cell, columns)
            pixels[0, place, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = 0.0
        without = own_log_probability(kind, {**values, "pixel_values_videos": pixels})
        scores = answer.image_tables[place][:, cell // columns, cell % columns]
        assert float(scores.sum()) == pytest.approx(whole - without, abs=1e-4)


def test_a_text_with_the_token_of_a_video_makes_frames() -> None:
    tower: Any = generator("qwen2_vl").answers
    text = tower.processor.apply_chat_template(PROMPT, add_generation_prompt=True, tokenize=False)
    as_text, as_messages = (explained("qwen2_vl", prompt=prompt, steps=2) for prompt in (text, PROMPT))
    assert as_text.image_names == as_messages.image_names
    assert as_text.words[0].log_probability == pytest.approx(as_messages.words[0].log_probability, abs=1e-6)


def test_videos_are_stored_and_attended_to(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(len(FRAMES))]
    for path, frame in zip(paths, FRAMES, strict=True):
        frame.pil_image.save(path)
    answer = explained("qwen2_vl", paths, steps=2)
    for name in ("answer.json", "answer.html"):
        nibt.save(answer, tmp_path / name)
    read = nibt.AnswerExplanation.load(tmp_path / "answer.json")
    assert read.image_names == answer.image_names
    assert nibt.draw(read).tobytes() == nibt.draw(answer).tobytes()
    attended = nibt.attentions(generator("qwen2_vl"), paths, PROMPT, ANSWER)
    assert attended.split()["image"].shape[-2:] == answer.grid.shape


@pytest.mark.parametrize(
    "kind", few(("internvl", "smolvlm", "gemma4", "llava", "git", "blip_caption"), ["llava", "git"])
)
def test_models_without_videos_say_so(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"this model takes no video|reads no conversation"):
        explained(kind)


@pytest.mark.parametrize(
    ("frames", "options", "error", "message"),
    [
        ([], {}, BadInput, "there is no image"),
        (
            FRAMES[:1],
            {"kind": "qwen3_vl"},
            BadInput,
            "cannot prepare the video of 1 frames .*: give more or larger frames",
        ),
        (
            [FRAMES[0], tiny.image(32, 64)],
            {},
            BadInput,
            "must have one size .got 64 x 64, 32 x 64 pixels.: resize them",
        ),
        (FRAMES[:1], {"other_images": FRAMES[1:2]}, BadOption, "other_images takes the place of one image"),
        (FRAMES, {"against_image": FRAMES[0]}, BadOption, "against_image is for one image"),
        (FRAMES, {"views": 3}, BadOption, "views must be 1 for several images"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(frames: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        explained(**{"kind": "qwen2_vl", "frames": frames, **options})
    assert "\n" not in str(caught.value)
