"""Tests of units that are refined by requests to a server: which images are sent, and how many."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nibt.errors import BadOption, ServerFailed
from nibt.generators.results.answer import AnswerExplanation
from tests.bridges.loopback import Served
from tests.bridges.test_answer_servers import explained, generator_of, serving, word_values
from tests.models.test_functions import picture

MEAN = tuple(round(255 * value) for value in (0.48, 0.46, 0.41))
SIZE = {"image_size": 128, "cells": 8}


def images_of(served: Served) -> Counter[str]:
    """Return how often each image was sent in the requests with the whole answer."""
    bodies = [body for body in served.requests if "grammar" in body]
    return Counter(json.dumps(body["messages"][0]) for body in bodies)


@pytest.mark.parametrize("method", ["occlusion", "banzhaf budget=40", "shapley budget=40"])
def test_no_image_is_sent_twice(method: str) -> None:
    with serving() as served:
        refined = explained(generator_of(served, **SIZE), f"{method} units=refined:15")
    sent = images_of(served)
    often = [count for count in sent.values() if count > 1]
    assert len(often) == 1, "only the image as it is, which is sent again to check the server and to find its noise"
    assert refined.table.shape == (4, 8, 8)


def test_scores_are_drops_of_painted_blocks() -> None:
    with serving() as served:
        refined = explained(generator_of(served, **SIZE), "occlusion", units="refined:18")
    sent = picture().resize((128, 128), Image.Resampling.BICUBIC)
    whole = np.array(word_values(sent))
    table = refined.table.numpy()
    blocks: dict[Any, list[tuple[int, int]]] = {}
    for row in range(8):
        for column in range(8):
            blocks.setdefault(tuple(table[:, row, column].round(6)), []).append((row, column))
    assert 9 <= len(blocks) <= 18
    for cells in blocks.values():
        image = sent.copy()
        for row, column in cells:
            image.paste(MEAN, (16 * column, 16 * row, 16 * column + 16, 16 * row + 16))
        drop = whole - np.array(word_values(image))
        assert np.abs(table[:, cells[0][0], cells[0][1]] * len(cells) - drop).max() < 1e-3


def test_the_limit_counts_the_refinement() -> None:
    with serving() as served:
        with pytest.raises(ServerFailed, match="take about 22 more requests, and the limit of 20"):
            explained(generator_of(served, requests=20, **SIZE), "occlusion", units="refined:18")
        before = len(served.requests)
        assert before == 8
        found = explained(generator_of(served, requests=60, **SIZE), "occlusion", units="refined:18")
    assert isinstance(found, AnswerExplanation)
    assert found.server is not None
    assert len(served.requests) - before == found.server["requests"] <= 8 + 22 + 2


def test_finished_requests_are_reused(tmp_path: Any) -> None:
    with serving() as served:
        options = {**SIZE, "folder": str(tmp_path / "work")}
        first = explained(generator_of(served, **options), "occlusion", units="refined:15")
        sent = len(served.requests)
        second = explained(generator_of(served, **options), "banzhaf budget=20", units="refined:15")
        again = explained(generator_of(served, **options), "occlusion", units="refined:15")
    assert np.array_equal(first.table.numpy(), again.table.numpy())
    assert again.server is not None
    assert second.server is not None
    assert again.server["requests"] < second.server["requests"] < sent


def test_several_images_have_no_refined_units() -> None:
    import nibt

    with serving() as served, pytest.raises(BadOption, match=r"units must be words for several images \(got refined"):
        nibt.explain_answer(
            generator_of(served), [picture(), picture().rotate(90)], "what ?", method="occlusion", units="refined:9"
        )
