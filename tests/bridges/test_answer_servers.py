"""Tests of answers behind a server, against one on this machine that answers field by field as servers document it.

The model behind it is a table: the log-probability of a token depends on the mean colors of the quarters of the image
and on the token before, so that the map of each word is known by enumeration.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations, compress, product
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import nibt
from nibt.bridges import connection
from nibt.bridges.answer_servers import WAYS, ImageEffect, ServedAnswer, Token
from nibt.bridges.served_answers import METHODS
from nibt.errors import BadInput, BadOption, CannotLoad, NibtError, ServerFailed, UnknownName, Unsupported
from nibt.generators.answers import Generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.models._names import is_address
from nibt.results.notes import ESTIMATE
from nibt.types import SOURCES
from tests.bridges.loopback import Refusal, Served, image_of, listening
from tests.models.test_functions import embed_images, picture

PROMPT, ANSWER = "what is it ?", "a red cat."
PIECES = ("", "a", " red", " c", "at", ".", " an", " hat", *(f" word{number}" for number in range(32)))
END = 0
ADDRESS = "http://127.0.0.1:9/v1"
KEY = "a-key-that-nobody-sees"
_DRAWS = np.random.default_rng(5)
IMAGE_WEIGHTS = 4.0 * _DRAWS.standard_normal((len(PIECES), 12))
BEFORE = _DRAWS.standard_normal((len(PIECES) + 1, len(PIECES)))
"""The logits after each token; the last row is that of the start."""
for _before, _after in ((-1, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, END)):
    BEFORE[_before, _after] += 16
EARLIER = _DRAWS.standard_normal((len(PIECES), len(PIECES)))
"""The logits that each token before the last one adds."""
OF_PROMPT = dict(zip(PROMPT.split(), _DRAWS.standard_normal((4, len(PIECES))), strict=True))
"""The logits that each word of the prompt takes away if it is not there."""


def ids_of(text: str) -> list[int]:
    """Return the tokens of a text, always the longest that fits; that of a first word may lack its blank."""
    ids: list[int] = []
    while text:
        pieces = [piece if ids else piece.lstrip() for piece in PIECES]
        fitting = [number for number, piece in enumerate(pieces) if piece and text.startswith(piece)]
        if not fitting:
            raise Refusal(f"no token for {text!r}")
        ids.append(max(fitting, key=lambda number: len(pieces[number])))
        text = text[len(pieces[ids[-1]]) :]
    return ids


def log_probabilities(image: Image.Image | None, before: list[int], prompt: str = PROMPT) -> NDArray[np.float64]:
    """Return the log-probabilities of the next token."""
    colors = embed_images([image or Image.new("RGB", (8, 8), (99, 99, 99))])[0]
    logits = BEFORE[before[-1] if before else -1] + IMAGE_WEIGHTS @ (colors - 0.45) + EARLIER[before[:-1]].sum(0)
    if set(prompt.split()) <= set(OF_PROMPT):
        logits = logits - sum(logits for word, logits in OF_PROMPT.items() if word not in prompt.split())
    return logits - np.logaddexp.reduce(logits)


def beside(*images: Image.Image) -> Image.Image:
    """Return images side by side, as the model sees several."""
    sheet = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)))
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width
    return sheet


def word_values(image: Image.Image) -> list[float]:
    """Return the log-probabilities of the words of the answer: ``a``, ``red``, ``cat`` (two tokens) and the period."""
    ids = ids_of(ANSWER)
    values = [float(log_probabilities(image, ids[:place])[number]) for place, number in enumerate(ids)]
    return [values[0], values[1], values[2] + values[3], values[4]]


@dataclass
class Answers(Served):
    """A server of answers.

    Attributes:
        kind: ``llama.cpp`` shows ids, takes grammars and ignores what it does not know. ``vllm`` shows bytes, and what
            it has read. ``ollama`` shows bytes, and ignores the rest. ``openai`` refuses what it does not know, and
            starts a new answer after that of an assistant.
        noise: The size of a number that is added to log-probabilities, another one each time.
        sampled: Whether log-probabilities are those after the temperature.
        shows: Whether log-probabilities are shown.
        counts_images: Whether images are counted among the tokens that are read.
        shifted: What is subtracted from log-probabilities after the start of an answer.
        same: The number of requests after which another model answers.
        needs_text: Whether prompts of an image alone are refused.
    """

    kind: str = "llama.cpp"
    noise: float = 0.0
    sampled: bool = False
    shows: bool = True
    counts_images: bool = True
    shifted: float = 0.0
    same: int = 1_000_000
    needs_text: bool = False

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        assert body["model"] == "toy"
        if path == "/tokenize":
            if self.kind != "llama.cpp":
                raise Refusal("no such path")
            return {"tokens": [{"id": number, "piece": PIECES[number]} for number in ids_of(body["content"])]}

        assert path == "/v1/chat/completions"
        if self.kind == "openai" and body.keys() & {"grammar", "prompt_logprobs", "continue_final_message"}:
            raise Refusal("unknown parameter")
        if body["top_logprobs"] > 20 and self.kind != "llama.cpp":
            raise Refusal("top_logprobs must be at most 20")
        messages = body["messages"]
        before_end = len(messages) - (messages[-1]["role"] == "assistant")
        rest = messages[before_end:]
        contents = [message["content"] for message in messages[:before_end]]
        parts = [part for content in contents for part in (content if isinstance(content, list) else [])]
        images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        texts = [content for content in contents if isinstance(content, str)]
        text = " ".join([*texts, *(part["text"] for part in parts if part["type"] == "text")])
        if not text and self.needs_text:
            raise Refusal("a prompt must not be empty")
        if "refuse" in text:
            raise Refusal("this is refused")
        sent = [image_of(address) for address in images]
        assert all(each.mode == "RGB" and not (each.width % 16 or each.height % 16) for each in sent)
        image = beside(*sent) if sent and self.reads_images else None
        read = 3 + len(text.split()) + (16 * len(sent) if image and self.counts_images else 0)

        before: list[int] = []
        if rest:
            ((role, content),) = ((message["role"], message["content"]) for message in rest)
            assert role == "assistant"
            assert content
            if self.kind == "vllm" and not (body["continue_final_message"] and not body["add_generation_prompt"]):
                raise Refusal("continue_final_message needs add_generation_prompt false")
            before = ids_of(content)
            read += len(before) + (4 if self.kind == "openai" else 0)
        prompt_logprobs = None
        if self.kind == "vllm" and body.get("prompt_logprobs") is not None:
            prompt_logprobs = [
                None,
                *[{"7": {"logprob": -1.0, "rank": 1, "decoded_token": "x"}}] * (read - len(before) - 1),
            ]
            for place, number in enumerate(before):
                values = self.changed(log_probabilities(image, before[:place], text), body)
                shown = [number, *map(int, np.argsort(-values)[: body["prompt_logprobs"]])]
                prompt_logprobs.append(
                    {
                        str(each): {"logprob": float(values[each]), "rank": 1, "decoded_token": PIECES[each] or "</s>"}
                        for each in shown
                    }
                )

        if self.kind == "openai":
            before = []
        forced = []
        if self.kind == "llama.cpp" and "grammar" in body:
            assert body["grammar"].startswith("root ::= ")
            forced = [int(rule[2:-2]) for rule in body["grammar"].removeprefix("root ::= ").split()]
        steps: list[dict[str, Any]] = []
        written: list[str] = []
        while len(steps) < body["max_tokens"] and (not steps or before[-1] != END):
            plain = log_probabilities(image, before, text)
            number = forced[len(steps)] if len(steps) < len(forced) else int(plain.argmax())
            steps.append(self.entry(number, self.changed(plain, body), body["top_logprobs"]))
            before = [*before, number]
            written.append(PIECES[number])
        start = content if rest and self.kind == "llama.cpp" else ""
        message = {"role": "assistant", "content": start + "".join(written)}
        logs = {"content": steps} if self.shows else None
        return {
            "choices": [{"index": 0, "message": message, "logprobs": logs, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": read, "completion_tokens": len(steps)},
            "prompt_logprobs": prompt_logprobs,
        }

    def changed(self, logs: NDArray[np.float64], body: dict[str, Any]) -> NDArray[np.float64]:
        """Return log-probabilities as this server shows them."""
        logs = (
            logs
            - self.noise * (len(self.requests) % 5) / 4
            - (self.shifted if body["messages"][-1]["role"] == "assistant" else 0)
        )
        logs = logs - float(len(self.requests) > self.same)
        return logs / max(0.1, body["temperature"]) if self.sampled else logs

    def entry(self, number: int, logs: NDArray[np.float64], top: int) -> dict[str, Any]:
        """Return the entry of a token, with the most probable ones."""

        def one(token: int) -> dict[str, Any]:
            piece = PIECES[token] or ("" if self.kind == "llama.cpp" else "</s>")
            entry = {"token": piece, "logprob": min(0.0, float(logs[token])), "bytes": list(piece.encode())}
            return {"id": token, **entry} if self.kind == "llama.cpp" else entry

        return {**one(number), "top_logprobs": [one(int(token)) for token in np.argsort(-logs)[:top]]}


@dataclass
class Edited(Answers):
    """A server whose answers are edited before they are sent."""

    edit: Callable[[Any], None] = print

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        data = super().respond(path, body)
        self.edit(data)
        return data


def serving(**options: Any) -> AbstractContextManager[Answers]:
    return listening(Answers(**options))


def generator_of(served: Served, **options: Any) -> Generator:
    return nibt.load_generator(served.address + "/v1", name="toy", **{"image_size": 32, "cells": 2, **options})


def explained(generator: Generator, method: str | None = None, answer: str | None = None, **options: Any) -> Any:
    return nibt.explain_answer(generator, picture(), PROMPT, answer, method, **{"narrow": "image", **options})


def coalitions(cells: int = 2) -> dict[tuple[bool, ...], list[float]]:
    """Return the log-probabilities of the words for all sets of cells."""
    values = {}
    sent = picture().resize((32, 32), Image.Resampling.BICUBIC)
    side = 32 // cells
    mean = tuple(round(255 * value) for value in (0.48, 0.46, 0.41))
    for kept in product((False, True), repeat=cells * cells):
        image = sent.copy()
        for cell, is_kept in enumerate(kept):
            if not is_kept:
                top, left = side * (cell // cells), side * (cell % cells)
                image.paste(mean, (left, top, left + side, top + side))
        values[kept] = word_values(image)
    return values


def exact(method: str) -> NDArray[np.float64]:
    """Return the map of each word by its definition, over all sets of the four cells."""
    values = {kept: np.array(words) for kept, words in coalitions().items()}
    maps = np.zeros((4, 4))
    for cell in range(4):
        for kept in values:
            if not kept[cell]:
                continue
            without = tuple(is_kept and place != cell for place, is_kept in enumerate(kept))
            size = sum(without)
            weight = {
                "occlusion": float(all(kept)),
                "banzhaf": 1 / 8,
                "shapley": 1 / (4 * comb(3, size)),
            }[method]
            maps[:, cell] += weight * (values[kept] - values[without])
    return maps.reshape(4, 2, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "way"), [("llama.cpp", "grammar"), ("vllm", "prompt_logprobs"), ("ollama", "prefill")]
)
def test_maps_are_those_of_enumeration(kind: str, way: str, method: str) -> None:
    with serving(kind=kind) as served:
        explanation = explained(generator_of(served), method)
    assert isinstance(explanation, AnswerExplanation)
    assert explanation.server is not None
    assert (explanation.server["way"], explanation.written, explanation.answer) == (way, True, ANSWER)
    assert [word.text for word in explanation.words] == ["a", "red", "cat", "."]
    assert [word.tokens for word in explanation.words] == [(0,), (1,), (2, 3), (4,)]
    assert explanation.server["bounds"] == 0
    assert explanation.server["requests"] == len(served.requests)
    values = coalitions()
    for number, word in enumerate(explanation.words):
        assert word.log_probability == pytest.approx(values[True, True, True, True][number], abs=1e-4)
        assert word.with_blank_image == pytest.approx(values[False, False, False, False][number], abs=1e-4)
    assert np.abs(explanation.table.numpy() - exact(method)).max() < 1e-4
    if method == "shapley":
        assert max(abs(word.gap) for word in explanation.words) < 1e-4
        assert explanation.adds_up


def without_words(method: str, value: Callable[[tuple[int, ...]], float], count: int) -> list[float]:
    """Return the score of each of ``count`` words by its definition, from the value with any of them."""
    sets = [tuple(compress(range(count), kept)) for kept in product((False, True), repeat=count)]
    scores = []
    for word in range(count):
        score = 0.0
        for kept in sets:
            if word not in kept:
                continue
            left = tuple(number for number in kept if number != word)
            weight = {
                "occlusion": float(len(kept) == count),
                "banzhaf": 2.0 ** (1 - count),
                "shapley": 1 / (count * comb(count - 1, len(left))),
            }[method]
            score += weight * (value(kept) - value(left))
        scores.append(score)
    return scores


SPANS = ((0,), (1,), (2, 3), (4,))
"""The tokens of each word of the answer."""


def value_of(word: int, earlier: tuple[int, ...], image: Image.Image, prompt: str = PROMPT) -> float:
    """Return the log-probability of a word after some of the words before it."""
    ids = ids_of(ANSWER)
    before = [ids[token] for kept in earlier for token in SPANS[kept]]
    value = 0.0
    for token in SPANS[word]:
        value += float(log_probabilities(image, before, prompt)[ids[token]])
        before = [*before, ids[token]]
    return value


def some_of(text: str, kept: tuple[int, ...]) -> str:
    return " ".join(text.split()[number] for number in kept)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "way"), [("llama.cpp", "grammar"), ("vllm", None), ("llama.cpp", "prefill")])
def test_scores_of_words_are_those_of_enumeration(kind: str, way: str | None, method: str) -> None:
    sent = picture().resize((32, 32), Image.Resampling.BICUBIC)
    gray = Image.new("RGB", (32, 32), (122, 117, 105))
    top = len(PIECES) if way == "prefill" else 20
    with serving(kind=kind) as served:
        both = explained(generator_of(served, way=way, top=top), method, narrow=SOURCES)
        requests = len(served.requests)
        words = explained(generator_of(served, way=way, top=top), method, narrow="earlier")
    assert both.server["requests"] == requests
    assert both.prompt_words == ("what", "is", "it", "?")
    assert np.abs(both.table.numpy() - exact(method)).max() < 1e-4
    for number, word in enumerate(both.words):
        before = tuple(range(number))
        of_prompt = without_words(method, lambda kept: value_of(number, before, sent, some_of(PROMPT, kept)), 4)  # noqa: B023
        of_earlier = without_words(method, lambda kept: value_of(number, kept, sent), number)  # noqa: B023
        assert word.prompt.tolist() == pytest.approx(of_prompt, abs=1e-4)
        assert word.earlier.tolist() == pytest.approx(of_earlier, abs=1e-4)
        assert word.without == pytest.approx(
            {
                "image": value_of(number, before, gray),
                "prompt": value_of(number, before, sent, ""),
                "earlier": value_of(number, (), sent),
            },
            abs=1e-4,
        )
        assert word.at_blank == pytest.approx(value_of(number, (), gray, ""), abs=1e-4)
        assert sum(word.shares.values()) + word.gap == pytest.approx(word.value - word.at_blank, abs=1e-4)
        if method == "shapley":
            assert abs(word.gap) < 1e-3
        alone = words.words[number]
        assert torch.allclose(alone.earlier, word.earlier, atol=1e-6)
        assert not alone.grid.any()
        assert not alone.prompt.any()
        assert alone.at_blank == pytest.approx(alone.without["earlier"], abs=1e-5)


def test_words_after_a_word_that_is_left_out_come_with_one_request() -> None:
    requests = {}
    for kind in ("llama.cpp", "vllm", "ollama"):
        with serving(kind=kind) as served:
            image = explained(generator_of(served)).server["requests"]
            generator = generator_of(served)
            requests[kind] = explained(generator, narrow=SOURCES).server["requests"] - image
            limit = len(served.requests) - image
            assert explained(generator_of(served, requests=limit), narrow=SOURCES).server["requests"] == limit
            before = len(served.requests)
            with pytest.raises(ServerFailed, match="set requests higher"):
                explained(generator_of(served, requests=limit - 1), narrow=SOURCES)
            assert len(served.requests) - before == image - (6 if kind != "ollama" else 30), "no change is sent"
    # four words of the prompt and none; one word left out of the answer (3), or all before a word (2 more); and
    # without image and prompt each word alone
    assert requests == {
        "llama.cpp": 5 + 5 + 4,
        "vllm": 5 + 5 + 4,
        "ollama": 5 * 5 + (1 + 3 * 2 + 4 * 1) + (5 + 1 + 2 + 1),
    }


@pytest.mark.parametrize(("way", "against"), [("grammar", "runner-up"), ("prefill", "word7")])
def test_comparisons_with_another_word_have_scores_of_words(way: str, against: str) -> None:
    sent = picture().resize((32, 32), Image.Resampling.BICUBIC)
    ids = ids_of(ANSWER)
    with serving() as served:
        both = explained(generator_of(served, way=way, top=len(PIECES)), against=against, narrow=SOURCES)
    assert not both.server["bounds"]
    for number, word in enumerate(both.words):
        before = [ids[token] for earlier in range(number) for token in SPANS[earlier]]
        first = ids[SPANS[number][0]]
        order = np.argsort(-log_probabilities(sent, before))
        other = int(order[1]) if against == "runner-up" else PIECES.index(f" {against}")

        def value(kept: list[int], prompt: str, first: int = first, other: int = other) -> float:
            logs = log_probabilities(sent, kept, prompt)
            return float(logs[first] - logs[other])

        of_prompt = [value(before, PROMPT) - value(before, " ".join(left)) for left in combinations(PROMPT.split(), 3)]
        of_earlier = [
            value(before, PROMPT)
            - value([ids[token] for kept in range(number) if kept != out for token in SPANS[kept]], PROMPT)
            for out in range(number)
        ]
        assert word.prompt.tolist() == pytest.approx(of_prompt[::-1], abs=1e-4)
        assert word.earlier.tolist() == pytest.approx(of_earlier, abs=1e-4)


def test_a_conversation_is_sent_as_its_messages() -> None:
    messages = [
        {"role": "system", "content": "is"},
        {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image"}]},
        {"role": "assistant", "content": "it"},
        {"role": "user", "content": "?"},
    ]
    with serving() as served:
        talk = nibt.explain_answer(generator_of(served), picture(), messages)
        asked = served.requests[0]["messages"]
        sent = [[message["content"] for message in body["messages"]] for body in served.requests]
    text = {"type": "text", "text": "what"}
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in asked[::2]] == ["is", "it"]
    assert asked[1]["content"][0] == text
    assert asked[1]["content"][1]["type"] == "image_url"
    assert asked[3]["content"] == "?"
    assert talk.prompt == "is\nwhat\nit\n?"
    assert talk.prompt_words == ("is", "what", "it", "?")
    assert any(contents[0] == contents[2] == contents[3] == "" for contents in sent), "a prompt without words"

    of_words = dict(zip(talk.prompt_words, range(4), strict=True))
    with serving() as served:
        plain = explained(generator_of(served), narrow=SOURCES)
    for word, same in zip(talk.words, plain.words, strict=True):
        in_order = torch.stack([word.prompt[of_words[text]] for text in PROMPT.split()])
        assert torch.allclose(in_order, same.prompt, atol=1e-4)
        assert torch.allclose(word.grid, same.grid, atol=1e-4)
        assert torch.allclose(word.earlier, same.earlier, atol=1e-4)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what"}]}], Unsupported, "no video"),
        ([{"role": "assistant", "content": "it"}], BadInput, "the last message must be the user's"),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}], BadInput, "a place for each of 1 im"),
        (" ", BadInput, "the prompt must not be empty"),
    ],
)
def test_other_prompts_are_refused(prompt: Any, error: type[NibtError], message: str) -> None:
    with serving() as served:
        with pytest.raises(error, match=message):
            nibt.explain_answer(generator_of(served), picture(), prompt)
        assert not served.requests


def test_a_server_that_takes_no_empty_prompt() -> None:
    with serving(needs_text=True) as served:
        with pytest.raises(Unsupported, match=r"takes no prompt without words .*sources=image as a loading option"):
            explained(generator_of(served), narrow=SOURCES)
        assert explained(generator_of(served), narrow=("image", "earlier")).answer == ANSWER
        alone = nibt.explain_answer(generator_of(served, sources="image"), picture(), PROMPT)
        assert alone.target["options"]["narrow"] == ["image"]
        with pytest.raises(Unsupported, match=r"can narrow only the image \(got prompt\)"):
            explained(generator_of(served, sources="image"), narrow="prompt")


def test_prompts_without_words_and_answers_of_one_word() -> None:
    with serving() as served:
        marks = nibt.explain_answer(generator_of(served), picture(), "<<>>")
        one = nibt.explain_answer(generator_of(served), picture(), PROMPT, "a", "shapley")
    assert [len(word.prompt) for word in marks.words] == [len(marks.prompt_words)] * len(marks.words)
    assert one.words[0].without["earlier"] == one.words[0].value
    assert not len(one.words[0].earlier)


@pytest.mark.parametrize("method", METHODS)
def test_a_conversation_of_an_image_alone_has_no_words_of_the_prompt(method: str) -> None:
    messages = [{"role": "user", "content": [{"type": "image"}]}]
    with serving() as served:
        alone = nibt.explain_answer(generator_of(served), picture(), messages, ANSWER, method)
        image = nibt.explain_answer(generator_of(served), picture(), messages, ANSWER, method, narrow="image")
    for word, same in zip(alone.words, image.words, strict=True):
        assert not len(word.prompt)
        assert word.without["prompt"] == word.value
        assert torch.equal(word.grid, same.grid)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["banzhaf", "shapley"])
def test_scores_from_draws_have_errors_that_contain_the_exact_ones(method: str) -> None:
    with serving() as served:
        exact_map = explained(generator_of(served, image_size=48, cells=3), method, budget=512)
        maps = [
            explained(generator_of(served, image_size=48, cells=3), method, budget=64, seed=seed) for seed in range(20)
        ]
    assert all(word.error is not None and not word.error.grid.any() for word in exact_map.words)
    inside = []
    for explanation in maps:
        for word, same in zip(explanation.words, exact_map.words, strict=True):
            assert word.error is not None
            assert not word.error.prompt.any()
            assert 0 < word.error.grid.max() < 2 * same.grid.abs().max()
            inside.append(((word.grid - same.grid).abs() <= word.error.grid + 1e-4).float().mean())
        assert any(note.code == ESTIMATE for note in explanation.notes)
    assert np.mean(inside) > 0.9


def test_the_whole_answer_takes_one_request_where_the_server_offers_it() -> None:
    requests = {}
    for kind in ("llama.cpp", "vllm", "ollama"):
        with serving(kind=kind) as served:
            requests[kind] = explained(generator_of(served)).server["requests"]
    # to write, to check images and temperature, a grammar or what was read, the answer as it was written; then the
    # image as it is, four changed ones and none, and the first again
    assert requests == {"llama.cpp": 1 + 4 + 1 + 1 + 7, "vllm": 1 + 4 + 1 + 7, "ollama": 1 + 4 + 1 + 5 * (1 + 7)}


@pytest.mark.parametrize("way", WAYS)
def test_a_way_can_be_chosen_and_is_tried(way: str) -> None:
    with serving() as served:
        if way == "prompt_logprobs":  # which llama.cpp ignores
            with pytest.raises(Unsupported, match=r"prompt_logprobs: .*it has no prompt_logprobs"):
                explained(generator_of(served, way=way))
        else:
            assert explained(generator_of(served, way=way)).server["way"] == way


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_a_given_answer_is_scored(kind: str) -> None:
    with serving(kind=kind) as served:
        explanation = explained(generator_of(served), answer="a hat.")
    ids = ids_of("a hat.")
    sent = picture().resize((32, 32), Image.Resampling.BICUBIC)
    expected = [log_probabilities(sent, ids[:place])[number] for place, number in enumerate(ids)]
    assert [word.text for word in explanation.words] == ["a", "hat", "."]
    assert [word.log_probability for word in explanation.words] == pytest.approx(expected, abs=1e-4)
    assert not explanation.written


def test_a_given_answer_needs_a_server_that_shows_its_tokens() -> None:
    with serving(kind="ollama") as served:
        with pytest.raises(Unsupported, match=r"does not show the tokens of a given answer.*let it write the answer"):
            explained(generator_of(served), answer="a hat.")


def test_values_below_those_shown_are_bounds_and_their_share_is_said() -> None:
    with serving() as served:
        full = explained(generator_of(served, way="prefill", top=len(PIECES)), answer="a an hat.")
        assert full.server["bounds"] == 0
        few = explained(generator_of(served, way="prefill", top=2), answer="a an hat.")
    assert 0 < few.server["bounds"] < 1
    assert any("of the log-probabilities are bounds: the token was not among the 2" in each for each in few.warnings)
    for bound, word in zip(few.words, full.words, strict=True):
        assert bound.log_probability >= word.log_probability - 1e-6


def test_no_empty_prefill_is_sent_and_images_have_one_size() -> None:
    """The server refuses an empty message of the assistant, and images of another size or mode (see ``Answers``)."""
    with serving(kind="vllm") as served:
        explained(generator_of(served, way="prefill"))
        starts = [body["messages"][1]["content"] for body in served.requests if len(body["messages"]) > 1]
    assert set(starts) == {"a", "a red", "a red c", "a red cat"}
    transparent = picture().convert("RGBA")
    transparent.putalpha(100)
    with serving() as served:
        explanation = nibt.explain_answer(generator_of(served), transparent, PROMPT)
    assert any("transparen" in each for each in explanation.warnings)


def test_an_image_that_is_dropped_is_refused() -> None:
    with serving(reads_images=False) as served:
        with pytest.raises(Unsupported, match="does not see the image, since another one changes no log-probability"):
            explained(generator_of(served))
    with serving(reads_images=False, noise=0.05) as served:
        with pytest.raises(Unsupported, match=r"by at most 0\.0\d+ nats, and no more tokens are read"):
            explained(generator_of(served, at_once=1))
    with serving(counts_images=False) as served:
        warnings = explained(generator_of(served)).warnings
    assert (
        "the server does not count the image among the tokens that it reads, although the image has effects" in warnings
    )


def test_an_effect_that_is_noise_says_so() -> None:
    effect = ImageEffect(change=0.3, noise=0.4, has_same_tokens=True, read=30, read_without=3)
    assert not effect.is_seen
    assert effect.about == "changes log-probabilities by at most 0.3 nats, and equal requests differ by 0.4"


def test_log_probabilities_after_the_temperature_are_refused() -> None:
    with serving(sampled=True) as served:
        with pytest.raises(Unsupported, match="depend on the temperature"):
            explained(generator_of(served))


def test_a_server_that_starts_a_new_answer_explains_one_token() -> None:
    with serving(kind="openai") as served:
        with pytest.raises(Unsupported, match=r"prefill: .*status 400.*explain an answer of one token \(max_words=1\)"):
            explained(generator_of(served))
        one = explained(generator_of(served), max_words=1)
    assert [word.text for word in one.words] == ["a"]
    assert any(text.startswith("the model writes more than this word: ") for text in one.warnings)
    assert np.abs(one.table.numpy() - exact("occlusion")[:1]).max() < 1e-4


def test_a_prefill_that_gives_other_numbers_is_refused() -> None:
    with serving(kind="ollama", shifted=0.5) as served:
        with pytest.raises(Unsupported, match=r"prefill: the log-probability of .* is .* when it is written and"):
            explained(generator_of(served))


def test_noise_is_said_beside_the_map() -> None:
    with serving() as served:
        assert any("that should be equal are equal" in each for each in explained(generator_of(served)).warnings)
    with serving(noise=0.05) as served:
        explanation = explained(generator_of(served, at_once=1))
    assert 0.01 < explanation.server["noise"] <= 0.1
    assert any("differ by up to 0.0" in each and "smaller scores are noise" in each for each in explanation.warnings)
    assert not explanation.is_noise()
    with serving(noise=0.15) as served:
        gray = Image.new("RGB", (32, 32), (122, 117, 105))  # almost the color that hides cells
        assert nibt.explain_answer(generator_of(served, at_once=1), gray, PROMPT, ANSWER).is_noise()


def test_another_model_in_the_middle_is_noise() -> None:
    with serving(same=11) as served:
        explanation = explained(generator_of(served, at_once=1))
    assert explanation.server["noise"] == pytest.approx(1.0)
    assert any("differ by up to 1 nats" in each for each in explanation.warnings)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((401, {}, "no"), ServerFailed, r"refuses access \(status 401\): name the variable"),
        (
            (404, {}, '{"error": "no model toy"}'),
            ServerFailed,
            r"status 404: .*no model toy.*check the name of the model",
        ),
        ((200, {}, "<html>a page</html>"), ServerFailed, "something else than an answer with log-probabilities"),
        ((200, {}, '{"choices": [{"message"'), ServerFailed, "something else than an answer with log-probabilities"),
        ((200, {}, '{"choices": []}'), ServerFailed, "something else than an answer with log-probabilities"),
    ],
)
def test_other_answers_are_refused(answer: Any, error: type[NibtError], message: str) -> None:
    with serving(answers=[answer]) as served:
        with pytest.raises(error, match=message):
            explained(generator_of(served))
        assert len(served.requests) == 1


@pytest.mark.parametrize("way", [None, "samples"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<html>a page</html>", "it begins with '<html>a page</html>', and is no JSON"),
        (" ", "it is empty"),
        ("[1]", "it has no choices with a message"),
        ("null", "it has no choices with a message"),
        ('{"choices": []}', "it has no choices with a message"),
        ('{"choices": {"0": 1}}', "it has no choices with a message"),
        ('{"choices": ["a"]}', "it has no choices with a message"),
        ('{"choices": [{"index": 0}]}', "it has no choices with a message"),
        ('{"choices": [{"message": null}]}', "it has no choices with a message"),
        ('{"choices": [{"message": {"content": 5}}]}', r"message.content must be a text \(got int\)"),
    ],
)
def test_what_is_no_answer_is_said_in_words(way: str | None, text: str, problem: str) -> None:
    with serving(answers=[(200, {}, text)]) as served:
        with pytest.raises(ServerFailed, match=rf"something else than an answer.* \({problem}.*check the name"):
            explained(generator_of(served, way=way))


def test_a_log_probability_is_a_number() -> None:
    def edit(data: Any) -> None:
        data["choices"][0]["logprobs"]["content"][0]["logprob"] = "-0.1"

    with listening(Edited(edit=edit)) as served:
        with pytest.raises(ServerFailed, match=r"a log-probability must be a number \(got '-0.1'\)"):
            explained(generator_of(served))


@pytest.mark.parametrize("count", ["19", -3, True, 1.5, float("nan"), 10**400, [19], None])
def test_a_number_of_tokens_that_is_none_is_not_known(count: Any) -> None:
    def edit(data: Any) -> None:
        data["usage"] = {"prompt_tokens": count, "completion_tokens": 1}

    with listening(Edited(kind="ollama", edit=edit)) as served:
        explanation = explained(generator_of(served))
        with pytest.raises(ServerFailed, match=r"does not say how many tokens it reads and writes \(usage\)"):
            explained(generator_of(served, tokens=1_000_000))
    assert explanation.answer == ANSWER
    assert explanation.server["tokens"] is None
    assert any("counts the image among the tokens that it reads is not known" in note for note in explanation.warnings)


@pytest.mark.parametrize("content", [[{"type": "text", "text": ANSWER}], 5, {"text": ANSWER}])
def test_content_that_is_no_text_is_refused(content: Any) -> None:
    def edit(data: Any) -> None:
        data["choices"][0]["message"]["content"] = content

    with listening(Edited(edit=edit)) as served:
        with pytest.raises(ServerFailed, match=r"message.content must be a text \(got (list|int|dict)\)"):
            explained(generator_of(served))


@pytest.mark.parametrize(("kind", "way"), [("llama.cpp", "grammar"), ("vllm", "prompt_logprobs"), ("ollama", None)])
def test_numbers_that_are_no_log_probabilities_are_refused(kind: str, way: str | None) -> None:
    """With ``--logprobs-mode raw_logits``, vLLM shows logits, which must not become probabilities of 1."""

    def edit(data: Any) -> None:
        for entry in data["choices"][0]["logprobs"]["content"]:
            for each in (entry, *entry["top_logprobs"]):
                each["logprob"] += 12.5
        for entry in data["prompt_logprobs"] or []:
            for facts in (entry or {}).values():
                facts["logprob"] += 12.5

    message = r"must be finite and at most 0 \(got [\d.]+\): let the server show log-probabilities, and no logits"
    with listening(Edited(kind=kind, edit=edit)) as served:
        with pytest.raises(ServerFailed, match=message):
            explained(generator_of(served, way=way))


@pytest.mark.parametrize("value", [12.5, float("nan"), float("inf"), -float("inf")])
def test_what_was_read_has_log_probabilities(value: float) -> None:
    def edit(data: Any) -> None:
        for entry in data["prompt_logprobs"] or []:
            for facts in (entry or {}).values():
                facts["logprob"] = value

    with listening(Edited(kind="vllm", edit=edit)) as served:
        with pytest.raises(
            Unsupported, match=r"prompt_logprobs: .*must be finite and at most 0 \(got (12.5|nan|-?inf)\)"
        ):
            explained(generator_of(served, way="prompt_logprobs"))


def test_rounding_above_0_is_a_probability_of_1() -> None:
    def edit(data: Any) -> None:
        for entry in data["choices"][0]["logprobs"]["content"]:
            for each in (entry, *entry["top_logprobs"]):
                each["logprob"] += 1e-4

    with listening(Edited(edit=edit)) as served:
        assert explained(generator_of(served)).answer == ANSWER


@dataclass
class Drawn(Answers):
    """A server that draws the end of an answer, at which it shows nothing, ``ends`` times at temperatures above 0."""

    ends: int = 0

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        data = super().respond(path, body)
        if body.get("temperature") and self.ends:
            self.ends -= 1
            data["choices"][0] |= {"message": {"role": "assistant", "content": ""}, "logprobs": {"content": []}}
        return data


def test_the_end_that_is_drawn_at_another_temperature_is_drawn_again() -> None:
    with listening(Drawn(kind="ollama", ends=3)) as served:
        explanation = explained(generator_of(served))
        assert explanation.server["requests"] == len(served.requests)
    with listening(Drawn(kind="ollama", ends=3, sampled=True)) as served:
        with pytest.raises(Unsupported, match="depend on the temperature"):
            explained(generator_of(served))
    with listening(Drawn(kind="ollama", ends=1_000)) as served:
        with pytest.raises(Unsupported, match="wrote nothing"):
            explained(generator_of(served))
        assert len(served.requests) < 30


@pytest.mark.parametrize("logs", [None, {"content": []}, {"content": None}])
@pytest.mark.parametrize("written", [0, 9])
def test_the_end_of_an_answer_may_have_no_log_probabilities(logs: Any, written: int) -> None:
    """The token that ends an answer is not shown by some servers: at once, or if a part of the image is hidden."""

    def edit(data: Any) -> None:
        if len(served.requests) > written:
            data["choices"][0] |= {"message": {"role": "assistant", "content": ""}, "logprobs": logs}

    with listening(Edited(kind="ollama", edit=edit)) as served:
        with pytest.raises(
            Unsupported, match=r"wrote nothing, .* another prompt, or explain fewer words \(max_words\)"
        ):
            explained(generator_of(served, at_once=1))


def test_a_server_that_is_busy_slow_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "paused", lambda stopped, seconds: False)
    with serving(answers=[(429, {"Retry-After": "3"}, ""), (503, {}, "")]) as served:
        assert explained(generator_of(served)).answer == ANSWER
    with serving(answers=[(500, {}, "")] * 4) as served:
        with pytest.raises(ServerFailed, match="answers with the status 500, 4 times"):
            explained(generator_of(served))
    with serving(delay=0.5) as served:
        with pytest.raises(ServerFailed, match=r"cannot be reached, .*timed out\), 2 times"):
            explained(generator_of(served, timeout=0.05, tries=2))


def test_a_server_without_log_probabilities_is_refused() -> None:
    with serving(shows=False) as served:
        with pytest.raises(Unsupported, match="answers without the log-probabilities of tokens"):
            explained(generator_of(served))


def test_the_limit_is_checked_before_changed_images_are_sent() -> None:
    with serving() as served:
        with pytest.raises(
            ServerFailed, match=r"prompts and answers take about 6 more requests, and the limit of 10 leaves 2"
        ):
            explained(generator_of(served, requests=10))
        assert len(served.requests) == 8
        assert explained(generator_of(served, requests=14)).server["requests"] == 14


@pytest.mark.parametrize("method", ["nib", "gae", "rise"])
def test_methods_that_need_weights_are_refused_by_name(method: str) -> None:
    server = nibt.load_generator(ADDRESS, name="toy")
    with pytest.raises(
        Unsupported, match=f"{method} needs the weights .*explain an answer with occlusion, banzhaf or shapley"
    ):
        explained(server, method)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (ADDRESS, {}, BadOption, r"the name of the model on the server is missing: .*name='my-llava'"),
        (ADDRESS, {"name": ""}, BadOption, "the name of the model on the server is missing"),
        (ADDRESS, {"name": 3}, BadOption, "name must be text"),
        (ADDRESS, {"name": "toy", "devise": "cpu"}, UnknownName, r"unknown loading option 'devise'"),
        (ADDRESS, {"name": "toy", "device": "cuda"}, BadOption, "device cannot be set for a model behind a server"),
        (ADDRESS, {"name": "toy", "generation": "model"}, BadOption, "generation cannot be set for a model behind"),
        (ADDRESS, {"name": "toy", "cells": 1}, BadOption, "cells must be between 2 and 32"),
        (ADDRESS, {"name": "toy", "image_size": 3}, BadOption, "image_size must be between 16"),
        (ADDRESS + "?key=1", {"name": "toy"}, BadOption, "url must have nothing after"),
        ("localhost:9/v1", {"name": "toy"}, BadOption, "name is for a model behind a server, whose address begins"),
        (
            ADDRESS,
            {"name": "toy", "key_env": " "},
            BadOption,
            r"key_env must be the name of an environment variable \(",
        ),
        ("scenes_generator", {"requests": 9}, BadOption, "requests is for a model behind a server"),
        ("no", {"name": "toy", "cells": 4, "top": 5}, BadOption, "^name, cells, top are for a model behind a server"),
        (
            "scenes_generator",
            {"request": 9},
            UnknownName,
            r"unknown loading option 'request'\. Did you mean 'requests'",
        ),
        (ADDRESS.replace("http", "ftp"), {}, CannotLoad, "there is no model|is not a page"),
    ],
)
def test_wrong_options_of_loading_are_refused(source: str, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        nibt.load_generator(source, **options)


def test_a_page_of_the_hub_is_no_address() -> None:
    assert not is_address("https://huggingface.co/org/name")
    assert not is_address("org/name")
    assert is_address("HTTPS://example.org:8000/v1")


def test_an_address_alone_is_no_generator() -> None:
    with pytest.raises(BadOption, match="the name of the model on the server is missing"):
        nibt.explain_answer(ADDRESS, picture(), PROMPT)


def test_what_runs_the_model_itself_is_refused() -> None:
    generator = nibt.load_generator(ADDRESS, name="toy")
    with pytest.raises(Unsupported, match="attentions needs the weights of the model, which a server does not give"):
        nibt.attentions(generator, picture(), PROMPT)
    assert "toy" in repr(generator)
    assert generator.record()["device"] == "server"


def test_words_are_compared_with_other_images() -> None:
    other = Image.new("RGB", (32, 32), (200, 30, 30))
    with serving() as served:
        explanation = explained(generator_of(served), other_images=[other, picture()])
        assert explained(generator_of(served)).words[0].with_other_images is None
    elsewhere = [word.with_other_images for word in explanation.words]
    assert elsewhere == pytest.approx(word_values(other), abs=1e-4), "the image itself is left out"
    assert len(explanation.target["options"]["other_images"]) == 1


def differences(image: Image.Image, others: list[int]) -> list[float]:
    """Return the log-probability of the first token of each word minus that of another token."""
    ids = ids_of(ANSWER)
    logs = [log_probabilities(image, ids[:place]) for place in (0, 1, 2, 4)]
    firsts = [ids[place] for place in (0, 1, 2, 4)]
    return [float(row[first] - row[other]) for row, first, other in zip(logs, firsts, others, strict=True)]


@pytest.mark.parametrize(
    ("kind", "against"),
    [
        ("llama.cpp", "runner-up"),
        ("vllm", "runner-up"),
        ("ollama", "runner-up"),
        ("llama.cpp", "word7"),
        ("vllm", "word7"),
    ],
)
def test_words_are_compared_with_another_word(kind: str, against: str) -> None:
    sent = picture().resize((32, 32), Image.Resampling.BICUBIC)
    ids = ids_of(ANSWER)
    rows = [log_probabilities(sent, ids[:place]) for place in (0, 1, 2, 4)]
    others = [int(np.argsort(-row)[1]) for row in rows]
    if against != "runner-up":
        others = [PIECES.index(f" {against}")] * 4
    with serving(kind=kind) as served:
        top = 20 if against == "runner-up" or kind == "vllm" else len(PIECES)
        explanation = explained(generator_of(served, top=top), against=against)
        plain = explained(generator_of(served, top=top))
    assert explanation.target["name"] == "logit_difference"
    assert explanation.target["options"]["against"] == against
    assert list(explanation.alternatives) == [PIECES[other] or "</s>" for other in others] or kind == "llama.cpp"
    if explanation.server["bounds"]:
        return  # the other word is not among the 20 that are shown

    values = differences(sent, others)
    hidden = sent.copy()
    hidden.paste((122, 117, 105), (0, 0, 16, 16))
    drops = np.array(values) - differences(hidden, others)
    for number, (word, same) in enumerate(zip(explanation.words, plain.words, strict=True)):
        assert word.value == pytest.approx(values[number], abs=1e-4)
        assert word.log_probability == pytest.approx(same.log_probability, abs=1e-5)
        assert word.with_blank_image == pytest.approx(same.with_blank_image, abs=1e-5)
        assert float(word.grid[0, 0]) == pytest.approx(drops[number], abs=1e-4)


def test_several_images_have_maps_side_by_side(tmp_path: Path) -> None:
    first = picture().resize((32, 32), Image.Resampling.BICUBIC)
    second = Image.effect_noise((48, 16), 90).convert("RGB")
    values = np.array(word_values(beside(first, second)))
    drops = np.zeros((4, 2, 5))
    for row, column in product(range(2), range(5)):
        images = [first.copy(), second.copy()]
        place = column if column < 2 else column - 2
        images[column >= 2].paste((122, 117, 105), (16 * place, 16 * row, 16 * place + 16, 16 * row + 16))
        drops[:, row, column] = values - word_values(beside(*images))

    with serving() as served:
        both = nibt.explain_answer(generator_of(served), [first, second], PROMPT, narrow="image")
        assert both.server is not None
        assert both.server["requests"] == len(served.requests) == 1 + 4 + 1 + 1 + 1 + 7 + 1 + 1, "seven cells are sent"
        blanks = [Image.new("RGB", image.size, (122, 117, 105)) for image in (first, second)]
        assert [image.shape for image in both.images] == [(2, 2), (1, 3)]
        assert both.table.shape == (4, 2, 5)
        assert np.abs(both.table.numpy() - drops).max() < 1e-4
        assert [tuple(table.shape) for table in both.image_tables] == [(4, 2, 2), (4, 1, 3)]
        assert [word.with_blank_image for word in both.words] == pytest.approx(word_values(beside(*blanks)), abs=1e-4)
        for ending in ("png", "html", "json"):
            both.save(tmp_path / f"map.{ending}")
        assert torch.equal(AnswerExplanation.load(tmp_path / "map.json").table, both.table)
        shapley = nibt.explain_answer(generator_of(served), [first, second], PROMPT, method="shapley budget=200")
        assert max(abs(word.gap) for word in shapley.words) < 1e-3
        with pytest.raises(BadOption, match=r"units must be words for several images \(got segments\)"):
            nibt.explain_answer(generator_of(served), [first, second], PROMPT, units="segments")


def test_words_that_cannot_be_compared_are_refused() -> None:
    with serving(kind="ollama") as served:
        with pytest.raises(Unsupported, match="does not show the tokens of the word 'word7': compare with runner-up"):
            explained(generator_of(served), against="word7")
    with serving() as served:
        with pytest.raises(BadInput, match=r"against must be one word \(got 'two words'\), or runner-up"):
            explained(generator_of(served), against="two words")
        with pytest.raises(BadInput, match="'a' is compared with itself"):
            explained(generator_of(served), answer="a", against="a")
        with pytest.raises(Unsupported, match="shows no other token than that of 'a': set top to at least 2"):
            explained(generator_of(served, top=1, way="prefill"), against="runner-up", max_words=1)
        both = explained(generator_of(served), answer="a an", against="an")
    assert any("'an' has scores of 0, since its first token is compared with itself" in note for note in both.warnings)


def test_two_images_are_compared() -> None:
    other = picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    with serving() as served:
        both = explained(generator_of(served), answer=ANSWER, against_image=other)
        assert both.server["requests"] == len(served.requests)
        first, second = (
            nibt.explain_answer(generator_of(served), image, PROMPT, ANSWER) for image in (picture(), other)
        )
    assert both.target["name"] == "difference"
    assert torch.allclose(both.table, torch.cat([first.table, -second.table], 2), atol=1e-6)


def test_two_images_are_compared_by_a_server_that_shows_no_tokens_of_given_answers() -> None:
    """It has written the answer itself, so that its tokens are known."""
    other = picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    with serving() as served:
        expected = explained(generator_of(served), against_image=other)
    with serving(kind="ollama") as served:
        generator = generator_of(served)
        both = explained(generator, against_image=other)
        with pytest.raises(Unsupported, match="does not show the tokens of a given answer"):
            explained(generator, answer="a red hat.")
    assert both.answer == ANSWER
    assert torch.allclose(both.table, expected.table, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"views": 3}, BadOption, "views must be 1"),
        ({"narrow": "answer"}, UnknownName, "unknown source 'answer'"),
        ({"answer": " "}, BadInput, "the answer must not be empty"),
        ({"amounts": "removal"}, BadOption, "amounts must be method for answers"),
    ],
)
def test_wrong_options_are_refused_before_a_request(options: Any, error: type[NibtError], message: str) -> None:
    with serving() as served:
        with pytest.raises(error, match=message):
            explained(generator_of(served), **options)
        assert not served.requests


def test_results_are_saved_as_those_of_local_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TOY_KEY", KEY)
    with serving() as served:
        explanation = explained(generator_of(served, key_env="TOY_KEY"), "banzhaf", units="segments", segments=5)
        assert served.headers[0]["Authorization"] == f"Bearer {KEY}"
        for ending in ("png", "html", "json"):
            explanation.save(tmp_path / f"map.{ending}")
        again = AnswerExplanation.load(tmp_path / "map.json")
        for file in tmp_path.iterdir():
            assert KEY.encode() not in file.read_bytes()
            assert served.address.encode() not in file.read_bytes()
    page = (tmp_path / "map.html").read_text()
    assert "Log-probabilities in nats: with this image, and with a blank image." in page
    assert again.server == explanation.server
    assert torch.equal(again.table, explanation.table)
    assert KEY not in caplog.text


def test_tokens_spell_words() -> None:
    pieces = ["na", "\u00ef".encode()[:1], "\u00ef".encode()[1:], "ve", " hat", "</s>"]
    tokens = [Token(piece if isinstance(piece, bytes) else piece.encode()) for piece in pieces]
    answer = ServedAnswer.of("na\u00efve hat", tokens)
    assert [(word.text, word.tokens) for word in answer.words] == [("na\u00efve", (0, 1, 2, 3)), ("hat", (4,))]
    assert [answer.before(number) for number in (0, 1, 3, 5)] == ["", "na", "na\u00ef", "na\u00efve hat"]
    with pytest.raises(Unsupported, match="in the middle of a character"):
        answer.before(2)
    assert ServedAnswer.of(" a hat", [Token(b"a"), Token(b" hat")]).first(1).tokens == (Token(b"a"),)
    with pytest.raises(ValueError, match="do not spell"):
        ServedAnswer.of("a cat", [Token(b"a"), Token(b" hat")])
