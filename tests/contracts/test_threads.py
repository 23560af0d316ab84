"""Explanations in several threads and processes have the bits of a single one.

Each has one thread of torch: sums over several threads round differently.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import nibt
from nibt.data.images import ImageInput
from tests import tiny
from tests.processes import PROCESSES, scores, sent
from tests.suites import few

METHODS = ("nib", "m2ib", "gae", "grad_cam", "legrad", "occlusion", "rise")  # hooks, graphs, masks, seeds


KINDS = ("clip", "siglip", "own vit", "timm vit")


Pairs = list[tuple[ImageInput, str]]


PARTS: tuple[Pairs, Pairs] = (
    [(tiny.image(64, 48, 0), tiny.CAPTIONS[0]), (tiny.image(30, 90, 2), tiny.CAPTIONS[3])],
    [(tiny.image(90, 30, 1), tiny.CAPTIONS[1]), (tiny.image(64, 48, 3), tiny.CAPTIONS[2])],
)


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Return the results of several functions that start at the same moment, in threads."""
    actual, start = [None] * len(works), threading.Barrier(len(works))

    def go(place: int) -> None:
        torch.set_num_threads(1)
        start.wait()
        try:
            actual[place] = works[place]()
        except Exception as error:
            actual[place] = error

    threads = [threading.Thread(target=go, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in actual:
        if isinstance(one, Exception):
            raise one
    return actual


def same(actual: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(actual, wanted, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", few(KINDS, ["clip"]))
def test_explain_in_threads_gives_the_same_bits(kind: str) -> None:
    """Threads share one model object, or have one each."""
    methods = METHODS if kind == "clip" else ("nib", "grad_cam")
    shared, own = tiny.model(kind), tiny.fresh(kind)
    wanted = [scores(shared, pairs, methods) for pairs in PARTS]
    for models in ((shared, shared), (shared, own)):
        works = [
            lambda model=model, pairs=pairs: scores(model, pairs, methods)
            for model, pairs in zip(models, PARTS, strict=True)
        ]
        for actual, expected in zip(at_once(works), wanted, strict=True):
            assert same(actual, expected)


def table(model: Any) -> torch.Tensor:
    """Return a table of regions by NIB, which differentiates embeddings along directions."""
    return nibt.regions(model, tiny.image(), tiny.CAPTIONS[0], steps=2, views=1).scores


@pytest.mark.parametrize("kind", few(["clip", "siglip", "bert", "coca"], ["clip"]))
def test_regions_in_threads_give_the_same_bits(kind: str) -> None:
    model = tiny.fresh(kind)
    wanted = at_once([lambda: table(model)])[0]
    for actual in at_once([lambda: table(model)] * 8):
        assert torch.equal(actual, wanted)


def test_regions_beside_derivatives_of_the_user() -> None:
    """Levels of the forward mode of PyTorch belong to the process, and there is only one at a time."""
    model, inside, done = tiny.fresh("clip"), threading.Event(), threading.Event()
    wanted = at_once([lambda: table(model)])[0]

    def differentiate() -> torch.Tensor:
        with forward_ad.dual_level():
            number = forward_ad.make_dual(torch.ones(3), torch.ones(3))
            inside.set()
            done.wait(60)
            return forward_ad.unpack_dual(number.square()).tangent

    def explain() -> torch.Tensor:
        inside.wait(60)
        try:
            return table(model)
        finally:
            done.set()

    derivative, actual = at_once([differentiate, explain])
    assert torch.equal(derivative, torch.full((3,), 2.0))
    assert torch.equal(actual, wanted)


@pytest.mark.parametrize("kind", few(["clip", "siglip", "bert"], ["bert"]))
def test_tokens_in_threads_are_the_same(kind: str) -> None:
    """A tokenizer stores how to pad as state, which each call sets; short and long captions reveal a mix-up."""
    tower = tiny.model(kind).text
    long = " ".join(tiny.WORDS)  # more words than the context has
    wanted = {caption: tower.tokens(caption) for caption in (*tiny.CAPTIONS, long)}

    def right() -> bool:
        return all(tower.tokens(caption) == tokens for _ in range(60) for caption, tokens in wanted.items())

    assert at_once([right] * 4) == [True] * 4


@pytest.mark.slow
def test_explain_in_processes_gives_the_same_bits() -> None:
    """Both processes are sent the same model object, of which each has its own copy. Sending moves its weights."""
    model, pipes, processes = tiny.fresh("clip"), [], []
    for pairs in PARTS:
        here, opposite = PROCESSES.Pipe()
        processes.append(PROCESSES.Process(target=sent, args=(model, pairs, METHODS, opposite)))
        processes[-1].start()
        pipes.append(here)
    for pairs, pipe, process in zip(PARTS, pipes, processes, strict=True):
        wanted = [tensor.numpy().tobytes() for tensor in scores(model, pairs, METHODS)]
        assert pipe.recv() == wanted
        process.join()
