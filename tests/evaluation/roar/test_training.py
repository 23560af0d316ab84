"""Tests of ``nibt.evaluation.roar.training``."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.errors import BadOption
from nibt.evaluation.roar.settings import Settings
from nibt.evaluation.roar.training import TRAINERS, fitting, losses, split, trained
from nibt.methods.base import SIDES
from tests import tiny
from tests.evaluation.roar.tower_inputs import materials
from tests.helpers import noise_pairs


def test_fitting_captions_are_no_negatives() -> None:
    one, two = tiny.image(seed=1), tiny.image(seed=2)
    cat, dog = Object("cat", (0, 0, 4, 4), spans=((2, 5),)), Object("dog", (0, 0, 4, 4))
    pairs = [
        Pair(one, "a cat", (cat, dog)),
        Pair(two, "A  cat", (replace(cat),)),
        Pair(one, "a dog"),
        Pair(tiny.image(seed=3), "a dog", (replace(dog, spans=((2, 5),)),)),
        Pair(tiny.image(seed=4), "a cow", (dog,), absent=((2, 5),)),
    ]
    fits = fitting(pairs)
    assert fits.tolist() == [
        [False, True, True, True, False],  # the same words, the same image, a dog that it shows
        [True, False, False, False, False],
        [True, False, False, True, False],
        [False, False, True, False, False],
        [False, False, False, True, False],
    ]


def test_loss_is_that_of_clip_without_fitting_pairs() -> None:
    draws = torch.Generator().manual_seed(0)
    image, text = (torch.randn(4, 6, generator=draws) for _ in range(2))
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    logits = 20 * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    own = torch.arange(4)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(losses(image, text, 20.0, nothing).mean(), expected)
    fits = nothing.clone()
    fits[0, 1] = True
    row, column = logits[0, [0, 2, 3]], logits[[1, 2, 3], 1]
    actual = losses(image, text, 20.0, fits)
    plain = losses(image, text, 20.0, nothing)
    torch.testing.assert_close(actual[0] - plain[0], (torch.logsumexp(row, 0) - torch.logsumexp(logits[0], 0)) / 2)
    expected = (torch.logsumexp(column, 0) - torch.logsumexp(logits[:, 1], 0)) / 2
    torch.testing.assert_close(actual[1] - plain[1], expected)
    assert torch.equal(actual[2:], plain[2:])


def test_splits_are_disjoint_and_differ_between_repeats() -> None:
    settings = Settings()
    train, check = split(50, settings, 0)
    assert (len(train), len(check)) == (40, 10)
    assert sorted([*train, *check]) == list(range(50))
    assert split(50, settings, 1)[1].tolist() != check.tolist()


def test_training_that_diverges_is_reported() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(12)
    trainer = TRAINERS["features"](model, materials(model, pairs), None, 5)
    untouched = {side: trainer.source(side, materials(model, pairs)[side]) for side in SIDES}
    fed = {side: source * torch.nan for side, source in untouched.items()}
    with pytest.raises(BadOption, match=r"smaller learning rate than 0\.0001"):
        trained(trainer, fed, untouched, np.zeros((12, 12), bool), Settings(), 0)
