"""Tests of what the maps and checks of an audit share: it saves forward passes, and changes no number."""

from typing import Any

import numpy as np
import pytest
import torch

from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.evaluation.audit.checks import MetricScores
from nibt.evaluation.audit.randomization import cascade
from nibt.evaluation.audit.runner import AuditRunner, other_captions, other_images
from nibt.evaluation.maps import maps
from nibt.evaluation.shared import KeptEmbeddings, SharedWork
from nibt.methods.nib import NIB
from nibt.models._tower import Tower
from nibt.registry import MethodSpec
from tests import tiny
from tests.helpers import noise_pairs

METHOD = MethodSpec("nib")
MANY = 8
BATCH = 4


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return the number of images and captions that went through a whole tower, which grows."""
    counts = {"image": 0, "text": 0}
    for modality in counts:
        tower_class = type(tiny.model("clip").tower(modality))

        def counted(self: Tower, inputs: Any, modality: str = modality, run: Any = tower_class.run) -> Any:
            counts[modality] += len(inputs)
            return run(self, inputs)

        monkeypatch.setattr(tower_class, "run", counted)
    return counts


def taken(passes: dict[str, int], work: Any) -> tuple[int, int]:
    """Return the numbers of images and of captions that went through a whole tower for some work."""
    before = dict(passes)
    list(work)
    return passes["image"] - before["image"], passes["text"] - before["text"]


def test_images_are_traced_once_for_all_captions(passes: dict[str, int]) -> None:
    pairs = noise_pairs(MANY)
    runner = AuditRunner(tiny.model("clip"), pairs, [METHOD], 0, BATCH)
    captions = {pair.caption for pair in pairs}

    images, texts = taken(passes, runner.other_side())
    assert images == 0, "the traces, also of shifted images, and the embeddings are known"
    assert texts <= 2 * MANY, "those of made-up words, and of captions in other batches"
    assert taken(passes, runner.wording(2))[0] == 0
    assert taken(passes, runner.seeds()) == (3 * MANY, MANY), "an honest second run: three views, and the captions"
    assert len(captions) == MANY


def test_metrics_compute_no_map_and_no_whole_input_anew(
    passes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pairs, levels = tiny.model("clip"), noise_pairs(MANY), 5
    runner = AuditRunner(model, pairs, [METHOD], 0, BATCH)
    scores = MetricScores(model, pairs, 0, BATCH, levels, runner.cache, with_confidence=False)
    before = dict(passes)
    scores.add(MethodSpec("random"), control=True)
    assert passes["image"] - before["image"] == (2 * (levels - 1) + 1) * MANY, "two curves, and without any patch"
    assert passes["text"] - before["text"] == (2 * (levels - 1) + 1) * MANY

    before = dict(passes)
    monkeypatch.setattr(NIB, "attribute", lambda *_: pytest.fail("the maps are known"))
    scores.add(METHOD)
    assert passes["image"] - before["image"] == 2 * (levels - 1) * MANY, "the ends are those of the control"
    assert not {"confidence_drop", "confidence_increase"} & {metric for _, metric in scores.by_method["nib"]}


def test_random_weights_of_a_tower_leave_the_other_one_alone(passes: dict[str, int]) -> None:
    model, pairs = tiny.model("clip"), noise_pairs(MANY)
    shared = SharedWork(model, KeptEmbeddings(model), 2**20)
    first = taken(passes, cascade(model, pairs, [METHOD], "text", 0, 1, BATCH, shared=shared))
    second = taken(passes, cascade(model, pairs, [METHOD], "text", 0, 1, BATCH, shared=shared))
    assert first[0] - second[0] == MANY, "the images are encoded once"
    assert second[0] < MANY, "a blank image of each stage"

    of_methods = []
    for methods in ([METHOD], [METHOD, MethodSpec("grad_cam")]):
        shared = SharedWork(model, shared.embeddings, 2**30)
        of_methods.append(taken(passes, cascade(model, pairs, methods, "image", 0, 1, BATCH, shared=shared))[0])
    assert of_methods[1] == of_methods[0], "methods share the traces of a stage"


@pytest.mark.parametrize("most_bytes", [pytest.param(2**30, id="all"), pytest.param(1, id="no memory for traces")])
def test_shared_work_changes_no_map(most_bytes: int) -> None:
    model, pairs = tiny.model("clip"), noise_pairs(MANY)
    shared = SharedWork(model, KeptEmbeddings(model), most_bytes)
    for changed in (pairs, other_captions(pairs), other_images(pairs), pairs):
        for side in ("image", "text"):
            actual = maps(model, changed, METHOD, side, 0, BATCH, shared)
            for one, other in zip(actual, maps(model, changed, METHOD, side, 0, BATCH), strict=True):
                assert one.words == other.words
                assert np.allclose(one.scores, other.scores, rtol=0, atol=1e-6)


def test_traces_are_kept_within_the_memory(passes: dict[str, int]) -> None:
    model, pairs = tiny.model("clip"), noise_pairs(MANY)
    for most_bytes, expected in ((1, MANY), (2**30, 0)):
        shared = SharedWork(model, KeptEmbeddings(model), most_bytes)
        maps(model, pairs, MethodSpec("grad_cam"), "image", 0, MANY, shared)
        before = passes["image"]
        maps(model, other_captions(pairs), MethodSpec("grad_cam"), "image", 0, MANY, shared)
        assert passes["image"] - before == expected


def test_embeddings_are_those_of_encode(passes: dict[str, int]) -> None:
    model, pairs = tiny.model("clip"), noise_pairs(MANY)
    images = [pair.image for pair in pairs]
    kept = KeptEmbeddings(model)
    assert torch.equal(kept.of("image", images), encode(model.image, images))
    assert taken(passes, [kept.of("image", images[::-1]), kept.of("image", images[:2])]) == (0, 0)
    assert torch.equal(kept.of("image", images[::-1]), kept.of("image", images).flip(0))
    assert kept.of("text", [Pair(images[0], "a cat").caption] * 2).shape[0] == 2
