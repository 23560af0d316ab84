"""Tests of decisive regions of answers behind a server: by painted images, and with the limits of requests."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nibt
from nibt.errors import BadInput, ServerFailed
from tests.bridges.test_answer_servers import (
    ANSWER,
    PIECES,
    PROMPT,
    explained,
    generator_of,
    ids_of,
    log_probabilities,
    serving,
    word_values,
)
from tests.models.test_functions import picture
from tests.suites import few

MEAN = (122, 117, 105)
SIZE = {"image_size": 64, "cells": 4}
REGIONS = ("keep", "change")


def painted(shown: Any) -> Image.Image:
    """Return the image as it is sent, with the mean color in all other cells."""
    image = picture().resize((64, 64), Image.Resampling.BICUBIC)
    for row, column in (~shown).nonzero().tolist():
        image.paste(MEAN, (16 * column, 16 * row, 16 * column + 16, 16 * row + 16))
    return image


def value(shown: Any, word: int | None) -> float:
    values = word_values(painted(shown))
    return sum(values) if word is None else values[word]


@pytest.mark.parametrize("region", few(REGIONS, ["change"]))
@pytest.mark.parametrize("kind", few(["llama.cpp", "vllm", "ollama"], ["llama.cpp"]))
def test_the_part_decides_and_needs_each_cell(kind: str, region: Any) -> None:
    whole = torch.ones(4, 4, dtype=torch.bool)
    found = 0
    with serving(kind=kind) as served:
        generator = generator_of(served, **SIZE)
        explanation = explained(generator)
        for word in (None, 0, 1, 2, 3):
            result = nibt.decisive_region(generator, explanation, region, word=word, hide="mean")
            nothing, everything = value(~whole, word), value(whole, word)
            decisive = result.decisive
            assert (decisive is None) == (everything <= nothing)
            if decisive is None:
                continue

            found += 1
            assert (decisive.decision, decisive.word) == ("log_probability", word)
            limit = (nothing + everything) / 2

            def decides(cells: Any, word: Any = word, limit: float = limit) -> bool:
                return (value(cells if region == "keep" else ~cells, word) > limit) == (region == "keep")

            assert decides(decisive.cells)
            for place in decisive.cells.nonzero().tolist():
                fewer = decisive.cells.clone()
                fewer[tuple(place)] = False
                assert not decides(fewer)
    assert found


@pytest.mark.parametrize("against", few(["hat", "runner-up"], ["hat"]))
def test_a_word_is_compared_with_another_one(against: str) -> None:
    whole = torch.ones(4, 4, dtype=torch.bool)
    decided = []
    with serving() as served:
        generator = generator_of(served, top=40, **SIZE)
        explanation = explained(generator, against=against, answer="a hat." if against == "runner-up" else None)
        for word in range(len(explanation.words)):
            decisive = nibt.decisive_region(generator, explanation, "change", word=word).decisive
            ids = ids_of(explanation.answer)
            place = explanation.words[word].tokens[0]
            other = PIECES.index(explanation.alternatives[word])

            def difference(shown: Any, place: int = place, other: int = other, ids: Any = ids) -> float:
                logs = log_probabilities(painted(shown), ids[:place])
                return float(logs[ids[place]] - logs[other])

            nothing, everything = difference(~whole), difference(whole)
            if decisive is None:
                assert everything <= nothing + 1e-4
                continue
            is_first = nothing <= 0 < everything
            assert decisive.decision == ("first" if is_first else "difference")
            assert difference(~decisive.cells) <= (0.0 if is_first else (nothing + everything) / 2) + 1e-4
            decided.append(decisive.decision)
    assert decided or against == "runner-up", "the image makes no word less probable than its runner-up"


def test_changed_images_are_sent_once_and_finished_ones_are_reused(tmp_path: Path) -> None:
    with serving() as served:
        generator = generator_of(served, folder=str(tmp_path / "work"), **SIZE)
        explanation = explained(generator, answer=ANSWER)
        before = len(served.requests)
        first = nibt.decisive_region(generator, explanation, "change", word="red")
        bodies = [body for body in served.requests[before:] if "grammar" in body]
        often = Counter(json.dumps(body["messages"][0]) for body in bodies)
        assert max(often.values()) == 1
        seen = {json.dumps(body["messages"][0]) for body in served.requests[:before] if "messages" in body}
        assert not seen & set(often), "single cells and the image itself were scored for the map"
        sent = len(served.requests) - before

        middle = len(served.requests)
        again = nibt.decisive_region(generator, explanation, "change", word="red")
        assert again.decisive == first.decisive
        assert len(served.requests) - middle < min(sent, 5), "to open the folder, and to read the answer"


@pytest.mark.slow
@pytest.mark.parametrize("hide", ["blur", "noise"])
def test_blur_and_noise_are_sent_as_images(hide: Any) -> None:
    with serving() as served:
        generator = generator_of(served, **SIZE)
        explanation = explained(generator, answer="a hat.")
        before = len(served.requests)
        decided = [
            nibt.decisive_region(generator, explanation, "change", word=word, hide=hide) for word in (None, 0, 1, 2)
        ]
        assert len(served.requests) > before
    parts = [result.decisive for result in decided if result.decisive is not None]
    assert parts
    assert all(part.hide == hide for part in parts)


@pytest.mark.slow
def test_a_probability_has_a_bound() -> None:
    with serving() as served:
        generator = generator_of(served, **SIZE)
        explanation = explained(generator, answer="a hat.")
        results = [nibt.decisive_region(generator, explanation, word=word, probability=0.8) for word in (None, 0, 1, 2)]
    parts = [result.decisive for result in results if result.decisive is not None]
    assert parts
    assert all(part.probability is not None and part.draws >= 100 for part in parts)


def test_the_limit_holds() -> None:
    """What is certain to be needed is checked before it is sent, and the rest when it is."""
    with serving() as served:
        explanation = explained(generator_of(served, **SIZE), answer="a hat.")
        free = generator_of(served, **SIZE)
        words = [
            word
            for word in range(3)
            if nibt.decisive_region(free, explanation, "change", word=word, hide="noise").decisive
        ]
        start = len(served.requests)
        generator = generator_of(served, requests=14, **SIZE)
        with pytest.raises(ServerFailed, match="take about 9 more requests, and the limit of 14 leaves"):
            nibt.decisive_region(generator, explanation, "change")
        asked = len(served.requests) - start
        assert asked <= 9

        generator = generator_of(served, requests=asked + 13, **SIZE)
        middle = len(served.requests)
        with pytest.raises(ServerFailed, match=f"the limit of {asked + 13} requests is reached"):
            nibt.decisive_region(generator, explanation, "change", word=words[0], hide="noise")
        assert len(served.requests) - middle == asked + 13

        generator = generator_of(served, requests=80, **SIZE)
        with pytest.raises(ServerFailed, match="take about 113 more requests"):
            nibt.decisive_region(generator, explanation, probability=0.9)


def test_several_images_have_a_part_on_their_sheet() -> None:
    second = Image.effect_noise((48, 16), 90).convert("RGB")
    with serving() as served:
        generator = generator_of(served)
        explanation = nibt.explain_answer(generator, [picture(), second], PROMPT)
        results = [nibt.decisive_region(generator, explanation, "change", word=word) for word in range(4)]
    parts = [result.decisive for result in results if result.decisive is not None]
    assert parts
    assert all(part.cells.shape == explanation.table.shape[1:] for part in parts)
    assert not any(part.cells[1, 2:].any() for part in parts), "below the lower image nothing is needed"


def test_another_model_or_answer_is_refused() -> None:
    with serving() as served:
        explanation = explained(generator_of(served, **SIZE))
        with pytest.raises(BadInput, match="with another image_size than the model"):
            nibt.decisive_region(generator_of(served), explanation)
        given = replace(explained(generator_of(served, **SIZE), answer="a hat."), answer="a hat hat.")
        with pytest.raises(
            BadInput, match=r"the model now reads another answer than 'a hat hat.' .*explain the answer again"
        ):
            nibt.decisive_region(generator_of(served, **SIZE), given)


def test_a_conversation_is_asked_again_as_it_was() -> None:
    messages = [{"role": "system", "content": "is"}, {"role": "user", "content": "what it ?"}]
    with serving() as served:
        generator = generator_of(served, **SIZE)
        explanation = nibt.explain_answer(generator, picture(), messages, "a hat.", narrow="image")
        loaded = type(explanation).from_json(json.loads(json.dumps(explanation.to_json())))
        loaded = replace(loaded, input=explanation.input)
        start = len(served.requests)
        regions = [nibt.decisive_region(generator, loaded, word=word, hide="mean").decisive for word in range(3)]
        roles = {tuple(message["role"] for message in body.get("messages", [])) for body in served.requests[start:]}
    assert any(regions)
    assert ("system", "user") in roles
    assert not any(each[:1] == ("user",) for each in roles)
