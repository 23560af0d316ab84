"""Tests of servers that show texts alone, against one on this machine whose answers are drawn from a known table."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.bridges.sampled_answers import sampled_values, words_of
from nibt.errors import BadInput, BadOption, NibtError, ServerFailed, Unsupported
from nibt.types import SOURCES
from tests.bridges.loopback import Refusal, Served, image_of, listening
from tests.bridges.test_answer_servers import serving

PROMPT = "what is it ?"
RED = Image.new("RGB", (32, 32), (250, 10, 10))


@dataclass
class Texts(Served):
    """A server without log-probabilities: ``red`` is in its answer as often as the upper left quarter is red.

    Attributes:
        several: Whether one request may give several answers; otherwise it is refused, or gives one (None).
        reads: Whether it says how many tokens it has read.
        drawn: The generator of answers at temperatures above 0.
    """

    several: bool | None = True
    reads: bool = True
    drawn: Any = field(default_factory=lambda: np.random.default_rng(3))

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        assert not body.keys() & {"logprobs", "top_logprobs", "grammar"}
        (message,) = body["messages"]
        images = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
        asked = [part["text"] for part in message["content"] if part["type"] == "text"]
        if body.get("n", 1) > 1 and self.several is False:
            raise Refusal("n must be 1")

        red = 0.0
        if images and self.reads_images:
            quarter = np.asarray(image_of(images[0]).crop((0, 0, 16, 16)), float)
            red = float((quarter[..., 0] - quarter[..., 1]).mean() / 240)
        if not any("what" in text for text in asked):
            red /= 2
        likely = max(0.02, min(0.98, red))
        texts = []
        for _ in range(body.get("n", 1) if self.several else 1):
            is_red = self.drawn.random() < likely if body["temperature"] else likely > 0.5
            texts.append("a red cat" if is_red else "a cat")
        choices = [{"message": {"role": "assistant", "content": text}} for text in texts]
        read = 4 + 16 * bool(images and self.reads_images)
        return {"choices": choices, "usage": {"prompt_tokens": read, "completion_tokens": 3} if self.reads else None}


def explained(served: Served, **options: Any) -> Any:
    loading = {"image_size": 32, "cells": 2, "way": "samples", **options.pop("loading", {})}
    generator = nibt.load_generator(served.address + "/v1", name="toy", **loading)
    return nibt.explain_answer(generator, RED, PROMPT, **options)


@pytest.mark.parametrize(("several", "way"), [(True, "samples"), (None, "sample"), (False, "sample")])
def test_a_word_is_on_the_cell_without_which_it_leaves_the_answer(several: bool | None, way: str) -> None:
    with listening(Texts(several=several)) as served:
        result = explained(served, loading={"draws": 16})
        asked = len(served.requests)
    assert result.answer == "a red cat"
    assert result.server["way"] == way
    assert result.server["requests"] == asked
    assert [word.text for word in result.words] == ["a", "red", "cat"]
    red = result.word("red")
    assert red.log_probability > math.log(0.8)
    assert red.with_blank_image < math.log(0.2)
    assert red.grid.argmax() == 0
    assert red.grid[0, 0] > 1
    assert red.grid.flatten()[1:].abs().max() < 0.6
    assert not result.word("a").grid.any(), "it is in all answers"
    assert red.prompt.argmax() == 0, "the prompt without 'what'"
    assert not red.earlier.any()
    assert result.target["options"]["narrow"] == ["image", "prompt"]
    assert any("texts alone" in note and "16 answers" in note for note in result.warnings)


@dataclass
class Capped(Texts):
    """A server that gives at most ``cap`` answers to one request, after ``before`` requests."""

    cap: int = 4
    before: int = 0

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        data = super().respond(path, body)
        count = self.cap if len(self.requests) > self.before else None
        return data | {"choices": data["choices"][:count]}


def test_a_server_that_gives_fewer_answers_than_asked_for() -> None:
    with listening(Capped()) as served:
        assert explained(served).server["way"] == "sample"
    with listening(Capped(before=4)) as served:
        with pytest.raises(
            ServerFailed, match=r"must give 8 answers to one question \(got 4\).*: try again, or choose"
        ):
            explained(served)


def test_shares_of_words_are_estimated() -> None:
    answer = words_of("a cat and a dog.")
    assert [word.text for word in answer.words] == ["a", "cat", "and", "a", "dog", "."]
    texts = ["A cat.", "a cat and a dog", "nothing", "a dog and a dog"]
    values = [math.exp(value.value) * 5 - 0.5 for value in sampled_values(answer, texts)]
    assert values == pytest.approx([3, 2, 2, 2, 2, 1])


def test_requests_are_limited_and_counted() -> None:
    with listening(Texts(several=None)) as served:
        used = explained(served, loading={"sources": "image"}).server["requests"]
        assert used == 1 + 2 + 1 + 8 * 7, "the answer, two images, two answers; and each question eight times"
        before = len(served.requests)
        with pytest.raises(ServerFailed, match="take about 48 more requests"):
            explained(served, loading={"sources": "image", "requests": used - 1})
        assert len(served.requests) - before < 20
    with listening(Texts()) as served:
        assert explained(served, loading={"sources": "image"}).server["requests"] == 1 + 2 + 1 + 7


def test_an_image_that_is_dropped_is_refused() -> None:
    with listening(Texts(reads_images=False)) as served:
        with pytest.raises(Unsupported, match="does not see the image, since its answer to another one is the same"):
            explained(served)
    with listening(Texts(reads=False)) as served:
        assert any("counts the image" in note for note in explained(served).warnings)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"against": "blue"}, Unsupported, "asked for texts alone"),
        ({"narrow": "earlier"}, Unsupported, r"can narrow only the image and the prompt \(got earlier\)"),
        ({"answer": " "}, BadInput, "the answer must not be empty"),
    ],
)
def test_what_texts_do_not_show_is_refused(options: Any, error: type[NibtError], message: str) -> None:
    with listening(Texts()) as served:
        with pytest.raises(error, match=message):
            explained(served, **options)


def test_draws_are_for_samples() -> None:
    with pytest.raises(BadOption, match="draws has no effect with way=None"):
        nibt.load_generator("http://127.0.0.1:9/v1", name="toy", draws=4)
    with serving(shows=False) as served:
        with pytest.raises(Unsupported, match=r"or draw answers \(way=samples as a loading option\)"):
            nibt.explain_answer(nibt.load_generator(served.address + "/v1", name="toy", image_size=32), RED, PROMPT)


@pytest.mark.parametrize("several", [True, None])
def test_the_check_says_how_many_requests_a_map_takes(several: bool | None) -> None:
    with listening(Texts(several=several)) as served:
        generator = nibt.load_generator(served.address + "/v1", name="toy", image_size=32, cells=2, way="samples")
        reading = nibt.check_server(generator, PROMPT, [RED])
        taken = explained(served, loading={"sources": "image"}).server["requests"]
    assert reading.lines["explained"].endswith(f"occlusion of the image takes {taken} requests")


def test_the_check_of_a_server_of_texts() -> None:
    with listening(Texts(several=None)) as served:
        generator = nibt.load_generator(served.address + "/v1", name="toy", image_size=32, cells=2, way="samples")
        reading = nibt.check_server(generator, PROMPT)
    assert reading.passes
    assert reading.lines["samples"] == "8 answers by 8 requests"
    assert reading.lines["explained"] == "yes, by sample: occlusion of the image takes 60 requests"
    with listening(Texts(reads_images=False)) as served:
        generator = nibt.load_generator(served.address + "/v1", name="toy", image_size=32, cells=2, way="samples")
        assert not nibt.check_server(generator, PROMPT).passes


def test_given_answers_and_all_sources() -> None:
    with listening(Texts()) as served:
        given = explained(served, answer="a red dog", narrow=SOURCES)
    assert not given.written
    assert given.word("dog").log_probability == pytest.approx(math.log(0.5 / 9))
    assert not given.word("dog").grid.any()
