"""Tests of ``nibt.evaluation.roar.training``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nibt.data.pair import Pair
from nibt.evaluation.maps import raw_scores
from nibt.evaluation.roar.inputs import TowerInputs
from nibt.evaluation.roar.settings import Settings
from nibt.evaluation.roar.training import TRAINERS, Last, Trainer, Whole, losses, split, trained
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.registry import MethodSpec
from nibt.types import Modality
from tests import tiny
from tests.evaluation.roar.tower_inputs import materials
from tests.helpers import noise_pairs
from tests.suites import VARIED, few


def without(model: Model, pairs: list[Pair], whole: dict[Modality, TowerInputs]) -> dict[Modality, TowerInputs]:
    scores = raw_scores(model, pairs, MethodSpec("random"), 0, 5)
    return {side: whole[side].without(model.tower(side), scores[side], 75, 0) for side in SIDES}


TRAINED = [*VARIED, "siglip", "own vit", "own resnet", "bert", "m2m", "timm vit"]


@pytest.mark.parametrize("kind", few(TRAINED, ["clip", "mt5"]))
def test_trainers_start_with_the_embeddings_of_the_model(kind: str) -> None:
    model, pairs = tiny.model(kind), noise_pairs(5)
    weights_hash = replace(model).weights_hash
    whole = materials(model, pairs)
    removed = without(model, pairs, whole)
    order = [3, 0, 4]
    actual: dict[str, dict[Modality, torch.Tensor]] = {}
    for name, trainer_class in TRAINERS.items():
        trainer = trainer_class(model, whole, None, 2)
        for side in SIDES:
            for state, material in (("whole", whole[side]), ("removed", removed[side])):
                embedding = trainer.embed(side, trainer.source(side, material), order)
                actual.setdefault(f"{side} {state}", {})[name] = embedding  # pyright: ignore
                grads = torch.autograd.grad(embedding.square().sum(), trainer.parameters, allow_unused=True)
                assert any(one is not None and one.abs().max() > 0 for one in grads), (name, side)
    for where, by_trainer in actual.items():
        side, state = where.split()
        tower = model.tower(side)  # pyright: ignore
        items = [(pairs[n].image if side == "image" else pairs[n].caption) for n in order]
        if state == "whole":
            own = torch.cat([tower.encode(tower.prepare([item])) for item in items])
            torch.testing.assert_close(by_trainer["features"].detach(), own, atol=2e-4, rtol=2e-4)  # pyright: ignore
        for embedding in by_trainer.values():
            torch.testing.assert_close(embedding, by_trainer["features"], atol=2e-4, rtol=2e-4)  # pyright: ignore
    assert replace(model).weights_hash == weights_hash
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())
    assert all(one.grad is None for one in model.module.parameters())


def trained_by(
    trainer: Trainer, whole: dict[Modality, TowerInputs], removed: dict[Modality, TowerInputs], count: int
) -> list[float]:
    settings = Settings(learning_rates={"last": 1e-3, "whole": 1e-3}, epochs=2, batch_size=4)
    fed = {side: trainer.source(side, removed[side]) for side in SIDES}
    untouched = {side: trainer.source(side, whole[side]) for side in SIDES}
    return trained(trainer, fed, untouched, np.zeros((count, count), bool), settings, 0)


class Through(Whole):
    """The same parameters as ``last``, trained through the whole forward pass."""

    name = "last"


@pytest.mark.parametrize(
    ("kind", "blocks"), few([("clip", 1), ("clip", 3), ("siglip naflex", 2), ("own resnet", 1)], [("clip", 1)])
)
def test_trainer_on_cached_streams_equals_the_whole_forward_pass(kind: str, blocks: int) -> None:
    model, pairs = tiny.model(kind), noise_pairs(12)
    whole = materials(model, pairs)
    removed = without(model, pairs, whole)
    one, other = Last(model, whole, blocks, 5), Through(model, whole, blocks, 5)
    assert one.count == other.count
    actual = [trained_by(trainer, whole, removed, len(pairs)) for trainer in (one, other)]
    np.testing.assert_allclose(*actual, atol=2e-3)
    start = (
        losses(
            *(model.tower(side).encode(whole[side].groups[0].inputs) for side in SIDES),
            model.scale,
            torch.zeros(len(pairs), len(pairs), dtype=torch.bool),
        )
        if kind == "clip"
        else None
    )
    if start is not None:
        check = split(len(pairs), Settings(), 0)[1]
        assert np.abs(np.array(actual[0]) - start[check].numpy()).max() > 0.01, "training changed something"


def test_trainer_of_all_blocks_leaves_out_the_stem() -> None:
    model = tiny.model("clip")
    whole = materials(model, noise_pairs(4))
    last, every = Last(model, whole, 3, 4), Whole(model, whole, None, 4)
    assert last.copy is not None
    assert every.copy is not None
    names = [
        {name for name, one in trainer.copy.module.named_parameters() if one.requires_grad}  # pyright: ignore
        for trainer in (last, every)
    ]
    known = ("embedding", "pre_layrnorm", "text_model.encoder.layers.0.")  # of four blocks of text three are trained
    assert names[1] - names[0] == {name for name in names[1] if any(part in name for part in known)}
    assert names[0] < names[1]
    assert "logit_scale" not in names[1], "the scale is held still"


def test_fresh_start_is_repeatable() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(12)
    whole = materials(model, pairs)
    for trainer_class in TRAINERS.values():
        trainer = trainer_class(model, whole, None, 5)
        sources = {side: trainer.source(side, whole[side]) for side in SIDES}
        nothing, fresh = np.zeros((12, 12), bool), Settings(init="fresh")
        seen = []
        for repeat in (0, 1, 0):
            before = trained(trainer, sources, sources, nothing, replace(fresh, epochs=0), repeat)
            seen.append((before, trained(trainer, sources, sources, nothing, fresh, repeat)))
        assert seen[0] == seen[2]
        assert seen[0] != seen[1]
        plain = trained(trainer, sources, sources, nothing, Settings(epochs=0), 0)
        assert np.abs(np.subtract(seen[0][0], plain)).max() > 0.1
