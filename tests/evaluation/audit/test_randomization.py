"""Tests of ``nibt.evaluation.audit.randomization``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nibt.evaluation.audit.randomization import cascade, copied, stages
from nibt.evaluation.maps import maps
from nibt.registry import MethodSpec
from tests import tiny
from tests.helpers import noise_pairs
from tests.suites import few

MANY = 8


def test_cascade_leaves_the_model_unchanged() -> None:
    model = tiny.fresh("clip")
    module = model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [one.requires_grad for one in module.parameters()]
    weights_hash = replace(model).weights_hash
    for side in ("image", "text"):
        assert len(list(cascade(model, noise_pairs(MANY)[:2], [MethodSpec("nib")], side, 0, 2, 8))) == 5
    assert replace(model).weights_hash == weights_hash
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [one.requires_grad for one in module.parameters()] == flags
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(one.grad is None for one in module.parameters())


@pytest.mark.parametrize(
    "kind", few(["clip", "siglip", "own resnet", "coca", "bert", "timm vit"], ["siglip", "own resnet", "bert"])
)
def test_stages_have_each_parameter_of_a_tower_once(kind: str) -> None:
    model = copied(tiny.model(kind))
    assert model.module is not tiny.model(kind).module
    for side, item in (("image", tiny.image()), ("text", "a red cat")):
        tower = model.tower(side)
        actual = stages(tower, tower.prepare([item]), 2)
        assert (actual[0].name, actual[-1].name, len(actual)) == ("head", "stem", 4)
        every = [id(one) for stage in actual for one in stage.parameters]
        assert actual[0].parameters
        assert actual[-1].parameters
        assert set(every) <= {id(one) for one in model.module.parameters()}
        assert len(set(every)) == len(every) or kind == "bert", "blocks may share weights"


@pytest.mark.slow
def test_cascade_randomizes_from_the_top_down() -> None:
    model = tiny.model("clip")
    actual = list(cascade(model, noise_pairs(MANY), [MethodSpec("nib")], "image", 0, 12, 8))
    assert [name for name, _ in actual] == ["nothing", "head", "block 2", "block 1", "block 0", "stem"]
    plain = maps(model, noise_pairs(MANY), MethodSpec("nib"), "image", 0)
    for one, other in zip(plain, actual[0][1]["nib"], strict=True):
        assert np.array_equal(one.scores, other.scores), "without randomization it is the model itself"
    assert not np.array_equal(plain[0].scores, actual[1][1]["nib"][0].scores)


@pytest.mark.slow
def test_cascade_takes_known_maps_for_the_original_weights_only() -> None:
    model, pairs, method = tiny.model("clip"), noise_pairs(MANY)[:2], MethodSpec("nib")
    plain = maps(model, pairs, method, "image", 0)
    computed, taken = (
        list(cascade(model, pairs, [method], "image", 0, 2, 8, known)) for known in (None, {"nib": plain})
    )
    assert taken[0][1]["nib"] is plain
    for (stage, one), (_, other) in zip(computed, taken, strict=True):
        for before, after in zip(one["nib"], other["nib"], strict=True):
            assert np.array_equal(before.scores, after.scores), stage


def test_random_weights_do_not_depend_on_the_number_of_groups() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(MANY)[:2]
    few, many = (list(cascade(model, pairs, [MethodSpec("nib")], "image", 0, most, 8)) for most in (1, 12))
    assert [name for name, _ in few] == ["nothing", "head", "blocks 0-2", "stem"]
    for one, other in zip(few[-1][1]["nib"], many[-1][1]["nib"], strict=True):
        assert np.array_equal(one.scores, other.scores)


@pytest.mark.slow
def test_cascade_depends_on_the_seed() -> None:
    runs = [
        list(cascade(tiny.model("clip"), noise_pairs(MANY)[:2], [MethodSpec("nib")], "image", seed, 2, 8))
        for seed in (1, 1, 2)
    ]
    scores = [[actual["nib"][0].scores for _, actual in run] for run in runs]
    assert all(np.array_equal(one, same) for one, same in zip(scores[0], scores[1], strict=True))
    assert np.array_equal(scores[0][0], scores[2][0])
    assert not np.array_equal(scores[0][-1], scores[2][-1])
