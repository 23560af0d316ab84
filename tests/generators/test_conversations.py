"""Prompts of several turns: by the chat template and the forward of the model, and what is refused."""

import copy
from typing import Any

import pytest
import torch

import nibt
from nibt.errors import BadInput, Unsupported
from nibt.generators.loading import load_generator
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import built, generator

FIRST, SECOND = tiny.image(64, 64, seed=0), tiny.image(64, 64, seed=1)
ANSWER = "two red cars"
TURNS = [
    {"role": "user", "content": "a photo of a cat"},
    {"role": "assistant", "content": "a red bird"},
    {"role": "user", "content": [{"type": "text", "text": "two cars"}]},
]
KINDS = ("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "idefics3", "internvl", "llava_next")


def explained(kind: str, prompt: Any = TURNS, image: Any = FIRST, **options: Any) -> nibt.AnswerExplanation:
    return nibt.explain_answer(generator(kind), image, prompt, ANSWER, other_images=[], **options)


def messages(*images: Any) -> list[dict[str, Any]]:
    """Return the messages as a stranger gives them to the processor: images come first."""
    content = [
        *({"type": "image", "image": image.pil_image} for image in images),
        {"type": "text", "text": "a photo of a cat"},
    ]
    return [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "a red bird"}]},
        {"role": "user", "content": [{"type": "text", "text": "two cars"}]},
    ]


@pytest.mark.parametrize("kind", few(KINDS, KINDS[:2]))
def test_log_probabilities_are_those_of_the_model_with_its_own_template(kind: str) -> None:
    tower: Any = generator(kind).answers
    explanation = explained(kind, layer=2)
    values = dict(
        tower.processor.apply_chat_template(
            messages(FIRST), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )
    ids = tower.tokenizer(" " + ANSWER, add_special_tokens=False).input_ids
    total = sum(word.log_probability for word in explanation.words)
    sequence = torch.cat([values["input_ids"], torch.tensor([ids])], 1)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in values:
            values[name] = torch.cat([values[name], torch.zeros(1, len(ids), dtype=torch.long)], 1)
    with torch.no_grad():
        inputs = {**values, "input_ids": sequence, "attention_mask": torch.ones_like(sequence)}
        logs = tower.root(**inputs).logits[0].float().log_softmax(-1)[-len(ids) - 1 : -1]
    assert total == pytest.approx(float(logs[torch.arange(len(ids)), ids].sum()), abs=1e-3)


@pytest.mark.parametrize("kind", few(KINDS, KINDS[:2]))
def test_words_of_the_prompt_are_those_of_all_turns_without_the_template(kind: str) -> None:
    explanation = explained(kind)
    assert explanation.prompt_words == ("a", "photo", "of", "a", "cat", "a", "red", "bird", "two", "cars")
    for word in explanation.words:
        assert word.at_blank + sum(word.shares.values()) + word.gap == pytest.approx(word.value, abs=1e-4)


def test_one_turn_is_the_plain_prompt() -> None:
    kind = KINDS[0]
    turn, plain = explained(kind, [{"role": "user", "content": "a cat"}]), explained(kind, "a cat")
    for word, other in zip(turn.words, plain.words, strict=True):
        torch.testing.assert_close(word.grid, other.grid)
        torch.testing.assert_close(word.prompt, other.prompt)
        assert word.value == pytest.approx(other.value, abs=1e-6)


@pytest.mark.parametrize("kind", ["llava"])
def test_several_images_have_their_places(kind: str) -> None:
    places = [{"role": "user", "content": [{"type": "text", "text": "a cat"}, {"type": "image"}, {"type": "image"}]}]
    after = explained(kind, places, [FIRST, SECOND])
    before = explained(kind, [{"role": "user", "content": "a cat"}], [FIRST, SECOND])
    assert after.images == before.images
    assert after.words[0].value != before.words[0].value
    attended = nibt.attentions(generator(kind), [FIRST, SECOND], places, ANSWER)
    assert attended.split()["image"].shape[-1] == after.words[0].grid.shape[-1]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "a text, or a list of messages"),
        (["a cat"], "message 0 must be"),
        ([{"role": "user"}], "message 0 must be"),
        ([{"role": "bot", "content": "a"}], "the role of message 0 must be system, user or assistant"),
        ([*TURNS, {"role": "assistant", "content": "a"}], "the last message must be the user's .* as the answer"),
        ([{"role": "user", "content": "  "}], "a text of message 0 must not be empty"),
        ([{"role": "user", "content": []}], "the content of message 0"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "a part of message 0"),
        (
            [{"role": "user", "content": [{"type": "video", "video": "x.mp4"}]}],
            "the images or frames themselves in image",
        ),
        (
            [{"role": "user", "content": [{"type": "video"}, {"type": "image"}]}],
            "one video, .* and no image .got 2 places",
        ),
        (
            [{"role": "user", "content": [{"type": "video"}, {"type": "video"}]}],
            "one video, .* and no image .got 2 places",
        ),
        (
            [{"role": "user", "content": [{"type": "image", "url": "x.png"}]}],
            "give the images or frames themselves in image",
        ),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}], "each of 1 images .got 2"),
        ([{"role": "user", "content": "a", "name": "Ann"}], r"a role and a content only \(got also name\)"),
        ([{"role": "user", "content": "\u200b"}], "a text of message 0 must not be empty"),
        ([{"role": "user", "content": "a <image> of"}], "must not contain '<image>'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_messages_are_refused_in_one_line(prompt: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        explained("llava", prompt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["git", "paligemma"])
def test_models_without_a_template_read_no_conversation(kind: str) -> None:
    with pytest.raises(Unsupported, match="this model reads no conversation: give the prompt as one text"):
        explained(kind, [{"role": "user", "content": "a cat"}])


def test_a_text_that_the_chat_template_leaves_out_is_an_error() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "what is left of the house ?"}]
    with pytest.raises(Unsupported, match="the model's chat template leaves out 'be brief'"):
        nibt.explain_answer("scenes_generator", "sample:scene", messages, "hamburger")


def with_template(template: str) -> Any:
    """Return a generator whose processor has another chat template."""
    plain = built("llava")
    processor = copy.copy(plain.processor)
    processor.chat_template = template
    return load_generator(plain.module, processor=processor)


USERS_ONLY = (
    "{% for message in messages if message.role != 'system' %}{{ message.role }}: {% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}{{ '\\n' }}{% endfor %}assistant:"
)


@pytest.mark.parametrize("lost", ["user", "s", "a cat", "image"])
def test_a_lost_text_that_stands_elsewhere_in_the_prompt_is_an_error(lost: str) -> None:
    prompt = [{"role": "system", "content": lost}, {"role": "user", "content": "a cat"}]
    with pytest.raises(Unsupported, match=f"the model's chat template leaves out '{lost}'"):
        nibt.explain_answer(with_template(USERS_ONLY), FIRST, prompt, ANSWER)


def test_a_template_that_loses_the_prompt_is_named() -> None:
    template = "user: {% for part in messages[0].content if part.type == 'image' %}<image>{% endfor %} assistant:"
    with pytest.raises(Unsupported, match="the model's chat template leaves out"):
        nibt.explain_answer(with_template(template), FIRST, "user", ANSWER)


@pytest.mark.parametrize("text", ["user", "s", "assistant"])
def test_words_of_messages_have_the_rows_of_the_messages(text: str) -> None:
    """A text that is also in the template after it."""
    model = with_template(USERS_ONLY)
    prompt, starts = model.answers.conversation(
        [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a cat"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ]
    )
    assert [prompt[start:].split("\n")[0] for start in starts] == ["a cat", "yes", text]
    assert prompt[starts[-1] - 6 :] == f"user: {text}\nassistant:"


def test_messages_that_the_template_rejects_are_an_error_in_words() -> None:
    with pytest.raises(BadInput, match="the model's chat template rejects the messages: roles must alternate"):
        with_template("{{ raise_exception('roles must alternate') }}")
