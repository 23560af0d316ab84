"""Tests of the option ``distribute`` of NIB: what special tokens have comes from the units, block by block."""

from itertools import product

import pytest
import torch
from torch import Tensor

import nibt
from nibt.core.side import Side
from nibt.data.units import special_tokens
from nibt.errors import BadOption
from nibt.methods._path import _between_units
from nibt.methods.nib import NIB
from nibt.models._tower import Trace
from nibt.results.attribution import allowed
from tests import tiny
from tests.helpers import all_tokens, assert_close, both_sides, captum, make_side
from tests.suites import few

KINDS = ("clip", "own vit", "timm eva", "coca", "bert", "openai", "siglip", "timm vit average")
STEPS = 5


def block_by_hand(of: Side, number: int, states: Tensor) -> Tensor:
    """Run a block as the model does, one state after the other."""
    tower, (args, kwargs) = of.tower, of.trace.calls[number]
    outputs = []
    for state in states:
        out = tower.blocks[number](tower.to_stream(state[None], of.trace.streams[number]), *args, **kwargs)
        outputs.append(tower.to_tokens(out[0] if isinstance(out, tuple | list) else out)[0])
    return torch.stack(outputs)


def by_hand(of: Side, layer: int) -> Tensor:
    """Return the scores of all rows of one item: captum's integrated gradients of the rest, then of each block."""
    special = special_tokens(of.cut(layer).units, of.cut(layer).hidden.shape[1])[0][0]
    total, weights = torch.zeros(len(special)), torch.zeros(0)
    for number in range(layer, -1, -1):
        cut = of.cut(number)
        start = of.baseline("blank", number, cut.hidden)

        def tail(states: Tensor, number: int = number, weights: Tensor = weights) -> Tensor:
            if number == layer:
                return torch.cat([of.score(of.cut(layer).rest(state[None, None]))[0] for state in states])
            return (block_by_hand(of, number, states)[:, special] * weights).sum((-2, -1))

        shares = captum("attr.IntegratedGradients")(tail).attribute(
            cut.hidden, start, n_steps=STEPS, method="riemann_middle", internal_batch_size=1
        )
        positions = (torch.arange(STEPS) + 0.5) / STEPS
        path = (start + positions[:, None, None] * (cut.hidden - start)).detach().requires_grad_()
        (gradients,) = torch.autograd.grad(tail(path).sum(), path)
        total = total * ~special + shares[0].sum(-1).float()
        weights = gradients.mean(0)[special]
    return total


@both_sides
@pytest.mark.parametrize("kind", few(KINDS, ["clip", "own vit", "bert"]))
def test_each_stage_equals_the_integrated_gradients_of_captum(kind: str, modality: str) -> None:
    """The rest of the tower, and each block as the model runs it; nibt computes fewer rows of most."""
    of = make_side(tiny.model(kind), modality).take([0])
    layer = of.tower.depth
    actual = NIB((layer,), "blank", "midpoint", STEPS, distribute=True)(of)
    expected = by_hand(of, layer)
    assert_close(actual.scores, actual.units.keep(expected[None]), share=1e-5, least=1e-6)
    torch.testing.assert_close(all_tokens(actual.path), expected.sum()[None], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", few(sorted(tiny.KINDS), ["clip", "own vit", "siglip", "convnext", "coca"]))
def test_what_is_shown_adds_up_by_default(kind: str) -> None:
    """Through the public call, with a tolerance: the map and the words, and nothing is left on special tokens."""
    answer = nibt.explain(tiny.model(kind), tiny.image(), "a cat and a dog", tolerance=0.02)
    for side in answer.sides.values():
        path = side.path
        change = path.at_input - path.at_baseline
        shown = side.grid.sum() if side.modality == "image" else sum(word.score for word in side.words)
        assert float(shown) == pytest.approx(float(path.sum), abs=1e-5)
        if path.missed:
            assert "above the tolerance" in str(answer.warnings)
        else:
            assert abs(float(change - shown)) <= float(allowed(change, 0.02)) + float(path.special_tokens.abs()) + 1e-5
        if answer.method[side.modality]["distribute"]:
            assert abs(float(path.special_tokens)) <= 1e-5


def test_layers_before_the_head_hand_down_too() -> None:
    of = make_side(tiny.model("clip"), "image").take([0])
    for layer in (1, 2):
        actual = NIB((layer,), "blank", "midpoint", STEPS, distribute=True)(of)
        assert_close(actual.scores, actual.units.keep(by_hand(of, layer)[None]), share=1e-5, least=1e-6)
        plain = NIB((layer,), "blank", "midpoint", STEPS)(of)
        assert not torch.allclose(actual.scores, plain.scores, rtol=0.1)
        assert plain.path is not None
        assert (plain.path.special_tokens.abs() > 1e-4).all()


@both_sides
def test_items_of_a_batch_are_independent_with_a_tolerance(modality: str) -> None:
    """Each item and each stage has its own steps."""
    of = make_side(tiny.model("clip"), modality)
    method = NIB((of.tower.depth,), "blank", "midpoint", 1, distribute=True, tolerance=0.005)
    together = method(of)
    assert together.path is not None
    for place in range(len(of.inputs)):
        alone = method(of.take([place]))
        assert alone.path is not None
        assert_close(alone.scores[0], together.scores[place], least=1e-6)
        assert float(alone.path.steps) == float(together.path.steps[place])


@pytest.mark.parametrize(
    ("kind", "layer", "distribute"),
    [("clip", "depth", True), ("own vit", "depth", True), ("siglip", 2, False), ("convnext", 3, False)],
)
def test_default_layer_depends_on_what_the_head_reads(kind: str, layer: object, distribute: bool) -> None:
    tower = tiny.model(kind).image
    method = NIB.configured(tower, "default", {}, {})
    assert method.layers == ((tower.depth,) if layer == "depth" else (tower.relative(0.65),))
    assert method.options()["distribute"] is distribute
    fast = NIB.configured(tower, "fast", {}, {})
    of_patches = kind == "siglip"
    assert (method.options()["steps"], fast.options()["steps"]) == ((8, 6) if of_patches else (4, 3))
    assert method.views == (1 if of_patches else 3)
    assert NIB.configured(tower, "default", {"views": 3, "steps": 4}, {}).options()["steps"] == 4
    for off in (False, "false"):
        assert NIB.configured(tower, "default", {"distribute": off}, {}).layers == (tower.relative(0.65),)
    assert NIB.configured(tower, "paper", {}, {}).layers == (min(tower.relative(0.75), tower.depth),)


@pytest.mark.parametrize("options", [{"baseline": "zero"}, {"noise": "unit"}])
def test_distribute_needs_a_blank_baseline_without_noise(options: dict) -> None:
    model, image = tiny.model("clip"), tiny.image()
    with pytest.raises(BadOption, match="distribute must be false unless the path starts at the baseline blank"):
        nibt.explain(model, image, "a cat", distribute=True, **options)
    answer = nibt.explain(model, image, "a cat", **options)
    assert answer.method["image"]["distribute"] is False


@pytest.mark.parametrize(
    ("kind", "part"),
    few(product(["clip", "own vit", "timm vit"], ["", "attention"]), [("clip", "")]),
)
def test_replaced_forward_passes_of_blocks_are_used(kind: str, part: str) -> None:
    """The map equals that of a block with a hook, of which every row is computed."""
    model, image = tiny.fresh(kind), tiny.image()
    block = model.image.blocks[1]
    names = {"clip": "self_attn", "own vit": "attn", "timm vit": "attn"}
    module = block.get_submodule(names[kind] if part else "")
    forward = module.forward

    def scaled(*args: object, **kwargs: object) -> object:
        out = forward(*args, **kwargs)
        return (1.5 * out[0], *out[1:]) if isinstance(out, tuple) else 1.5 * out

    module.forward = scaled
    actual = nibt.explain(model, image, "a cat").grid
    with block.register_forward_hook(lambda module, args, out: None):
        assert_close(actual, nibt.explain(model, image, "a cat").grid)


@pytest.mark.parametrize("tolerance", [None, 0.01])
def test_only_the_end_token_of_captions_is_computed(tolerance: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are those of all special tokens, since the others of a causal tower take up nothing of the words."""
    of = make_side(tiny.model("clip"), "text")
    method = NIB((of.tower.depth,), "blank", "midpoint", STEPS, distribute=True, tolerance=tolerance)
    rows = []
    block = Trace.block
    monkeypatch.setattr(Trace, "block", lambda trace, number, count: rows.append(count) or block(trace, number, count))
    of_end = method(of)
    assert {*rows} == {1}

    rows.clear()
    monkeypatch.setattr(type(of.tower), "end_row", lambda tower, inputs: None)
    of_all = method(of)
    assert min(rows) > 1
    assert_close(of_end.scores, of_all.scores, share=1e-5, least=1e-6)


def test_special_tokens_between_words_are_distributed_too() -> None:
    """What such a token took up of the words before it is not lost, so the scores add up."""
    words = torch.tensor(
        [[False, True, True, False, True, False, False], [False, True, True, True, False, False, False]]
    )
    between = _between_units(~words, torch.tensor([5, 4]))

    assert between.nonzero().tolist() == [[0, 3]]
