"""Tests of finished requests to a server: an explanation that was stopped goes on without sending them again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.errors import BadInput, OtherRequest, ServerFailed, WouldOverwrite
from nibt.generators.fingerprints import other_model
from nibt.types import SOURCES
from tests.bridges.test_answer_servers import KEY, explained, generator_of, serving
from tests.helpers import Run
from tests.models.test_functions import picture

FINGERPRINT = 2
BEFORE = FINGERPRINT + 1 + 4 + 1 + 1
"""The requests before the answer is scored: the fingerprint, the answer, the image, a grammar, the answer again."""


@pytest.mark.parametrize(("kind", "each"), [("llama.cpp", 1), ("ollama", 5)])
def test_a_stopped_explanation_goes_on(tmp_path: Path, kind: str, each: int) -> None:
    folder = tmp_path / "work"
    options: dict[str, Any] = {"folder": str(folder), "at_once": 1}
    begun = BEFORE + each - 1  # the answer is tried in the way that works; where ids are not shown, so is another one
    with serving(kind=kind, lasts=begun + 3 * each) as served:
        with pytest.raises(ServerFailed, match="refuses access"):
            explained(generator_of(served, **options))
        served.lasts = 1_000_000
        whole = explained(generator_of(served))
        before = len(served.requests)
        resumed = explained(generator_of(served, **options))
        assert len(served.requests) - before == begun + each * (1 + 5 - 3 + 1)
        before = len(served.requests)
        again = explained(generator_of(served, **options))
        assert len(served.requests) - before == begun + each, "only what is tried is sent again"
    for explanation in (resumed, again):
        assert torch.equal(explanation.table, whole.table)
        assert explanation.server["bounds"] == whole.server["bounds"]


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm", "ollama"])
def test_words_are_not_asked_for_again(tmp_path: Path, kind: str) -> None:
    with serving(kind=kind) as served:
        generator = generator_of(served, folder=str(tmp_path / "work"))
        first = explained(generator, narrow=SOURCES)
        sent = len(served.requests)
        again = explained(generator, narrow=SOURCES)
        assert len(served.requests) - sent == FINGERPRINT + 1 + (2 if kind != "ollama" else 10)
        other = nibt.explain_answer(generator, picture(), "what is that ?", narrow=SOURCES)
    assert first.server["bounds"] == again.server["bounds"]
    for word, same, another in zip(first.words, again.words, other.words, strict=True):
        assert torch.equal(word.prompt, same.prompt)
        assert torch.equal(word.earlier, same.earlier)
        assert word.at_blank == same.at_blank
        assert not torch.equal(word.prompt, another.prompt)


def test_other_answers_and_images_are_other_requests(tmp_path: Path) -> None:
    folder = str(tmp_path / "work")
    with serving() as served:
        explained(generator_of(served, folder=folder))
        given = explained(generator_of(served, folder=folder), answer="a hat.")
        shapley = explained(generator_of(served, folder=folder), "shapley")
        assert np.array_equal(given.table, explained(generator_of(served), answer="a hat.").table)
        assert np.array_equal(shapley.table, explained(generator_of(served), "shapley").table)


def test_the_folder_has_neither_the_key_nor_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with serving() as served:
        explained(generator_of(served, folder=str(tmp_path / "work"), key_env="TOY_KEY"))
        files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
        assert len(files) > 1
        for path in files:
            assert KEY.encode() not in path.read_bytes()
            assert served.address.partition("//")[2].encode() not in path.read_bytes()


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path / "work")
    with serving() as served:
        explained(generator_of(served, folder=folder))
    with serving(same=0) as served:
        with pytest.raises(OtherRequest, match=r"another model under the name 'toy' \(its log-prob.* by 1 nats\)"):
            explained(generator_of(served, folder=folder))
    with serving(noise=0.1) as served:
        explained(generator_of(served, folder=folder, at_once=1))
        with pytest.raises(OtherRequest, match="image_size: 32"):
            explained(generator_of(served, folder=folder, image_size=64))


def test_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with serving() as served:
        with pytest.raises(WouldOverwrite, match="is not empty"):
            explained(generator_of(served, folder=str(tmp_path)))
        with pytest.raises(BadInput, match="folder must be a path"):
            explained(generator_of(served, folder=""))
        assert not served.requests
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def place(token: str, **shown: float) -> dict[str, Any]:
    return {"token": token, "shown": shown}


@pytest.mark.parametrize(
    ("before", "now", "noise", "difference"),
    [
        ([place("a", a=-0.1, b=-3.0)], [place("a", a=-0.2, b=-3.1)], 0.0, ""),
        ([place("a", a=-0.1, b=-3.0)], [place("a", a=-0.4, b=-3.0)], 0.0, "by 0.3 nats"),
        ([place("a", a=-0.1, b=-3.0)], [place("a", a=-0.4, b=-3.0)], 0.1, ""),
        ([place("a", a=-0.1)], [place("b", b=-0.1)], 0.0, "other tokens"),
        # a near tie, after which the texts differ
        ([place("a", a=-0.7, b=-0.7), place("x", x=-1.0)], [place("b", a=-0.7, b=-0.69), place("y", x=-9.0)], 0.0, ""),
        ([place("a", a=-0.1), place("x", x=-1.0)], [place("a", a=-0.1), place("x", x=-2.0)], 0.0, "by 1 nats"),
        # unlikely tokens are noisy
        (
            [place("a", **{c: -i for i, c in enumerate("abcdef")})],
            [place("a", **{c: -i for i, c in enumerate("abcdeg")})],
            0.0,
            "",
        ),
    ],
)
def test_noise_is_no_other_model(before: list[Any], now: list[Any], noise: float, difference: str) -> None:
    found = other_model({"noise": noise, "places": before}, {"noise": 0.0, "places": now})
    assert difference in found
    assert bool(found) == bool(difference)


def test_the_command_goes_on(run: Run) -> None:
    with serving(lasts=BEFORE + 3) as served:
        server = ["--server", f"{served.address}/v1", "-m", "toy", "--load", "image_size=32", "--load", "cells=2"]
        server += ["--load", "sources=image"]
        arguments = ["answer", "sample:chelsea", "what is it ?", *server, "--load", "at_once=1", "--work", "W"]
        code, _, err = run(*arguments)
        assert code == 1
        assert "refuses access" in err
        served.lasts = 1_000_000
        before = len(served.requests)
        code, out, err = run(*arguments)
        assert code == 0, err
        assert "the model is explained as it is served" in out
        assert len(served.requests) - before == BEFORE + 1 + 5 - 3 + 1
