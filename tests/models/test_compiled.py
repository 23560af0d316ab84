"""Tests of ``nibt.models._compiled``."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from nibt.engine.explain import explain
from nibt.engine.regions import regions
from nibt.errors import Unsupported
from nibt.models._compiled import is_compiled, uncompiled
from nibt.models._loading import load_model
from tests import tiny
from tests.helpers import CHEAP, METHODS, assert_same_bits, cheap_explanation
from tests.suites import few

KINDS = ("clip", "siglip", "own vit", "timm vit", "bert", "convnext")


def blocks(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield the modules in module lists: the list, the name in it, and the module."""
    for part in list(module.modules()):
        if isinstance(part, nn.ModuleList):
            yield from ((part, name, child) for name, child in part.named_children())


def wrapped_blocks(module: nn.Module) -> nn.Module:
    for parent, name, block in blocks(module):
        setattr(parent, name, torch.compile(block, backend="aot_eager"))
    return module


def marked_blocks(module: nn.Module) -> nn.Module:
    for _, _, block in blocks(module):
        block.compile(backend="aot_eager")
    return module


def marked_whole(module: nn.Module) -> nn.Module:
    module.compile(backend="aot_eager")
    return module


def wrapped_whole(module: nn.Module) -> Any:
    return torch.compile(module, backend="aot_eager")


WAYS: dict[str, Callable[[nn.Module], Any]] = {
    "blocks by torch.compile": wrapped_blocks,
    "blocks by Module.compile": marked_blocks,
    "the whole by torch.compile": wrapped_whole,
    "the whole by Module.compile": marked_whole,
}


@pytest.mark.parametrize("way", few(WAYS, list(WAYS)[:1]))
@pytest.mark.parametrize("kind", few(KINDS, ["clip"]))
def test_compiled_model_gives_the_same_maps(kind: str, way: str) -> None:
    built = tiny.KINDS[kind]()
    compiled = WAYS[way](built.module)
    model = load_model(compiled, processor=built.processor, tokenizer=built.tokenizer)
    assert is_compiled(compiled)
    assert not is_compiled(model.module)
    assert model.weights_hash == tiny.model(kind).weights_hash
    for method in ("nib", "gae", "grad_eclip", "occlusion", "m2ib"):
        wanted = cheap_explanation(kind, method)
        if wanted is not None:
            actual = explain(model, tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {}))
            for side in ("image", "text"):
                assert torch.equal(getattr(actual, side).scores, getattr(wanted, side).scores), (method, side)
    tables = [regions(one, tiny.image(), "two cats", steps=2) for one in (model, tiny.model(kind))]
    assert torch.equal(tables[0].scores, tables[1].scores)
    assert is_compiled(compiled), "the model of the caller is unchanged"


@pytest.mark.slow
@pytest.mark.parametrize("method", few(METHODS, ["nib"]))
def test_compiled_model_supports_every_method(method: str) -> None:
    built = tiny.KINDS["own vit"]()
    model = load_model(wrapped_blocks(built.module), tokenizer=built.tokenizer)
    actual = explain(model, tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {}))
    assert_same_bits(actual, cheap_explanation("own vit", method))


def test_compiled_model_shares_weights_but_no_hooks() -> None:
    built = tiny.KINDS["clip"]()
    model = load_model(marked_blocks(built.module), processor=built.processor)
    assert [id(weight) for weight in model.module.parameters()] == [id(weight) for weight in built.module.parameters()]
    assert model.image.blocks[0] is not built.module.vision_model.encoder.layers[0]
    model.image.blocks[0].register_forward_hook(lambda *_: None)
    assert not built.module.vision_model.encoder.layers[0]._forward_hooks
    first = explain(model, tiny.image(), "a cat").image.scores
    with torch.no_grad():
        next(built.module.vision_model.parameters()).mul_(2)
    assert not torch.equal(explain(model, tiny.image(), "a cat").image.scores, first)


def test_uncompiled_returns_a_plain_model_itself() -> None:
    module = tiny.KINDS["clip"]().module
    assert uncompiled(module) is module


def test_uncompiled_keeps_shared_parts_shared() -> None:
    part = nn.Linear(2, 2)
    whole = nn.Sequential(part, nn.Sequential(part, nn.Tanh()))
    whole.compile(backend="aot_eager")
    copy: Any = uncompiled(whole)
    assert copy is not whole
    assert copy[0] is copy[1][0]
    assert copy[0].weight is part.weight
    torch.testing.assert_close(copy(torch.ones(1, 2)), nn.Sequential(part, part, nn.Tanh())(torch.ones(1, 2)))


@pytest.mark.slow
def test_explain_rejects_a_model_compiled_after_loading() -> None:
    model = tiny.fresh("clip")
    marked_blocks(model.module)
    with pytest.raises(Unsupported, match=r"compiled by torch\.compile after it was loaded.*load_model again"):
        explain(model, tiny.image(), "a cat", "gae")
    again = load_model(model.module, processor=model.request.processor)
    assert explain(again, tiny.image(), "a cat", "gae").image.scores.isfinite().all()
