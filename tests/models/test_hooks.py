"""What a user computes with the same module in another thread: nibt does not change it, and is not changed by it.

No test depends on time: a hook of the test runs the user's thread at a known point of nibt's, or stops it by events.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nibt
from nibt.errors import CannotLoad
from nibt.models.base import Model
from nibt.results.explanation import Explanation
from tests import tiny, tiny_vision_language
from tests.helpers import CHEAP, assert_same_bits, count_hooks
from tests.models.test_vision_language import IMAGES
from tests.suites import COVER, few

METHODS = ("nib", "occlusion", "gae")


def embeddings(model: Model) -> list[Tensor]:
    """Return what the model's own forward pass gives for an image and two captions, computed by one thread."""
    torch.set_num_threads(1)
    with torch.no_grad():
        towers = [(model.image, [tiny.image(seed=5)]), (model.text, list(tiny.CAPTIONS[1:3]))]
        return [tower.run(tower.prepare(items)) for tower, items in towers]


def in_thread(work: Callable[[], Any]) -> Any:
    """Return what a function returns in another thread, after that thread has ended."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def explained(model: Model, method: str) -> Explanation:
    answer = nibt.explain(model, tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {}))
    assert isinstance(answer, Explanation)
    return answer


@pytest.mark.parametrize(
    ("kind", "method"),
    few([*((kind, "mfaba") for kind in COVER), *(("clip", name) for name in METHODS)], [("clip", "mfaba")]),
)
def test_forward_in_another_thread_while_hooks_are_set(kind: str, method: str) -> None:
    model = tiny.fresh(kind)
    expected, main = embeddings(model), threading.get_ident()
    outcomes: list[Any] = []
    shared = False

    def meanwhile(*_: Any) -> None:
        if shared and threading.get_ident() == main:
            outcomes.append(in_thread(lambda: embeddings(model)))

    parts = [*model.image.blocks[1:], *model.text.blocks[1:]]
    handles = [part.register_forward_pre_hook(meanwhile) for part in parts]
    alone = explained(model, method)  # with the hooks, since blocks with hooks are not computed for one row
    shared = True
    together = explained(model, method)
    for handle in handles:
        handle.remove()
    assert outcomes
    for outcome in outcomes:
        assert isinstance(outcome, list), outcome
        assert all(torch.equal(one, other) for one, other in zip(outcome, expected, strict=True))
    assert_same_bits(together, alone)


@pytest.mark.slow
@pytest.mark.parametrize("kind", few(COVER, ["clip", "own vit"]))
@pytest.mark.parametrize("modality", ["image", "text"])
def test_hooks_are_removed_while_another_thread_is_inside(kind: str, modality: str) -> None:
    """PyTorch lists the hooks of a module when it is called, and calls those that were removed since then."""
    model = tiny.fresh(kind)
    tower = model.tower(modality)  # pyright: ignore
    expected, main = embeddings(model), threading.get_ident()
    inside, done, outcomes = threading.Event(), threading.Event(), []

    def use() -> None:
        outcomes.append(in_thread(lambda: embeddings(model)))
        inside.set()  # also after an error

    user = threading.Thread(target=use)

    def stop(*_: Any) -> None:
        if threading.get_ident() == main and user.ident is None:
            user.start()  # the hooks of nibt are set
            inside.wait()
        elif threading.get_ident() != main:
            inside.set()
            done.wait()

    handle = tower.blocks[1].register_forward_pre_hook(stop)
    together = explained(model, "nib")
    done.set()
    user.join()
    alone = explained(model, "nib")
    handle.remove()
    (outcome,) = outcomes
    assert isinstance(outcome, list), outcome
    assert all(torch.equal(one, other) for one, other in zip(outcome, expected, strict=True))
    assert_same_bits(together, alone)
    assert count_hooks(model.module) == 0


@pytest.mark.parametrize("kind", few(["qwen2_vl", "qwen3_vl", "colqwen2"], ["qwen2_vl"]))
def test_offset_of_positions_is_not_changed_meanwhile(kind: str) -> None:
    """Qwen-VL keeps it from its last prompt, and a user's generation in another thread needs it at any time."""
    plain = tiny_vision_language.built(kind)
    model = nibt.load_model(plain.module, processor=plain.processor, **tiny_vision_language.loading(kind))
    base = model.image.network.base  # pyright: ignore
    base.rope_deltas = mark = torch.tensor([[7]])
    seen: list[Any] = []
    handle = model.image.blocks[0].register_forward_pre_hook(lambda *_: seen.append(base.rope_deltas))
    model.image.encode(model.image.prepare(IMAGES[:1]))
    handle.remove()
    assert [one is mark for one in seen] == [True]
    assert base.rope_deltas is mark


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_backward_hooks_are_noted(register: str) -> None:
    """They change scores, since nibt takes gradients of the model as it is."""
    model = tiny.fresh("clip")
    plain = explained(model, "gae")
    block = dict(model.module.named_modules())["vision_model.encoder.layers.1"]

    def flipped(_: Any, gradients: Any, *more: Any) -> Any:
        return tuple(gradient if gradient is None else -gradient for gradient in gradients)

    with getattr(block, register)(flipped):
        hooked = explained(model, "gae")
        regions = nibt.regions(model, tiny.image(), tiny.CAPTIONS[0], steps=2)
        assert count_hooks(model.module) == 1
    note = "there are backward hooks on vision_model.encoder.layers.1: they may change gradients"
    assert not torch.equal(hooked.image.scores, plain.image.scores)
    assert [warning.startswith(note) for warning in hooked.warnings].count(True) == 1
    assert any(warning.startswith(note) for warning in regions.warnings)
    assert_same_bits(explained(model, "gae"), plain)
    assert not any("backward hooks" in warning for warning in plain.warnings)


def test_global_backward_hooks_are_noted() -> None:
    model = tiny.fresh("clip")
    with torch.nn.modules.module.register_module_full_backward_hook(lambda *_: None):
        assert any("backward hooks on all modules" in note for note in model.notes)
    assert not model.notes


def scaled(_: nn.Module, __: Any, out: Any) -> None:
    """Set a hook on the output of a module that scales its gradient, as gradient reversal or clipping does."""
    state = out[0] if isinstance(out, tuple) else out
    if state.requires_grad:
        state.register_hook(lambda gradient: 3 * gradient)


def test_forward_hooks_that_change_gradients_are_noted() -> None:
    model = tiny.fresh("clip")
    recording = model.image.blocks[0].register_forward_hook(lambda *_: None)
    assert not [note for note in model.renewed().notes if "hook" in note]

    scaling = model.image.blocks[1].mlp.register_forward_hook(scaled)
    (note,) = [note for note in explained(model, "gae").warnings if "hook" in note]
    assert "set hooks on tensors: they may change gradients" in note
    recording.remove()
    scaling.remove()
    assert not [note for note in model.renewed().notes if "hook" in note]


@pytest.mark.slow
def test_forward_hooks_of_generators_that_change_gradients_are_noted() -> None:
    generator = nibt.load_generator("scenes_generator")
    with generator.answers.blocks[1].register_forward_hook(scaled):
        notes = [note for note in generator.renewed().notes if "hook" in note]
    assert notes
    assert not [note for note in generator.renewed().notes if "hook" in note]


def fails(*_: Any) -> None:
    raise KeyError("of the user")


def spoils(module: nn.Module, args: Any, out: Any) -> Any:
    return (out[0] * torch.nan, *out[1:]) if isinstance(out, tuple) else out * torch.nan


def with_hook(model: Any, tower: Any, hook: Callable[..., Any]) -> str:
    """Set a hook on the first block of a tower, and return the name of the block."""
    block = tower.blocks[0]
    block.register_forward_hook(hook)
    return next(name for name, part in model.module.named_modules() if part is block)


NAMED = "; the forward hook on {} may be the cause: correct it, or remove it$"
"""Neither the weights nor the files of the model are to blame alone."""


@pytest.mark.parametrize("hook", [fails, spoils])
def test_a_hook_of_the_user_that_breaks_a_model_is_named(hook: Callable[..., Any]) -> None:
    model = tiny.fresh("clip")
    name = with_hook(model, model.image, hook)
    with pytest.raises(CannotLoad, match=NAMED.format(name)):
        explained(model, "nib")


@pytest.mark.parametrize("hook", [fails, spoils])
def test_a_hook_of_the_user_that_breaks_a_generator_is_named(hook: Callable[..., Any]) -> None:
    generator = nibt.load_generator("scenes_generator")
    name = with_hook(generator, generator.answers, hook)
    with pytest.raises(CannotLoad, match=NAMED.format(name)):
        nibt.explain_answer(generator, "sample:scene", "what is left of the house ?", "hamburger")
