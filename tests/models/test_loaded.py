"""Tests of ``nibt.models._loaded``: what is kept with a model is dropped when its weights or its modules change."""

import functools
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

import nibt
from nibt.errors import CannotLoad, Unsupported
from nibt.models._loaded import fingerprint
from nibt.models._loading import load_model
from tests import tiny, tiny_vision_language
from tests.helpers import assert_close
from tests.suites import few

AB = ["a cat", "two cars"]


def net() -> nn.Module:
    """A net with a shared part, a buffer, and a part that is None."""
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    module = nn.Sequential(shared, nn.Sequential(nn.BatchNorm1d(3), shared), nn.Linear(3, 2, bias=False))
    module.add_module("nothing", None)
    return module.eval()


@pytest.mark.parametrize("name", ["0.weight", "1.0.running_mean", "1.0.num_batches_tracked", "2.weight"])
def test_fingerprint_changes_with_any_tensor(name: str) -> None:
    module = net()
    before = fingerprint(module)
    assert fingerprint(module) == before
    with torch.no_grad():
        module.state_dict()[name].add_(1)
    assert fingerprint(module) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_fingerprint_changes_with_one_value_of_any_dtype(dtype: torch.dtype) -> None:
    module = nn.Module()
    module.register_buffer("b", torch.zeros(101).to(dtype))
    before = fingerprint(module)
    module.b.data[77] = 1
    assert fingerprint(module) != before


@pytest.mark.parametrize("size", [64, 128, 768])
@pytest.mark.parametrize("axis", [0, 1])
def test_fingerprint_changes_if_heads_change_places(size: int, axis: int) -> None:
    module = nn.Linear(size, size, bias=False)
    before = fingerprint(module)
    first, second, *rest = module.weight.data.chunk(4, axis)
    module.weight.data = torch.cat([second, first, *rest], axis)
    assert fingerprint(module) != before


def test_fingerprint_changes_if_modules_are_replaced_or_swapped() -> None:
    module = net()
    before, kept = fingerprint(module), module[2]
    module[2] = deepcopy(kept)  # with equal weights
    assert fingerprint(module) != before
    module[2] = kept
    assert fingerprint(module) == before
    module[0], module[2] = module[2], module[0]
    assert fingerprint(module) != before


def test_a_change_of_one_value_is_noticed_by_the_next_call() -> None:
    """Neither the address nor the version of the tensor changes."""
    model = tiny.fresh("clip")
    before, explanation = model.weights_hash, nibt.explain(model, tiny.image(), "a cat")
    model.module.text_model.encoder.layers[1].mlp.fc1.weight.data[3, 5] += 5
    now = nibt.explain(model, tiny.image(), "a cat")
    assert now.model["weights_hash"] == model.weights_hash != before
    expected = nibt.explain(load_model(model.module, processor=model.request.processor), tiny.image(), "a cat")
    assert torch.equal(now.text.scores, expected.text.scores), "no state of the blank input is from before"
    assert not torch.equal(now.text.scores, explanation.text.scores)


def assert_explained_as_anew(model: nibt.Model, **loading: Any) -> nibt.Explanation:
    """The explanation equals that of a model that is loaded from the same module now."""
    explanation = nibt.explain(model, tiny.image(), "a cat", steps=2)
    request = model.request
    anew = load_model(model.module, processor=request.processor, tokenizer=request.tokenizer, **loading)
    expected = nibt.explain(anew, tiny.image(), "a cat", steps=2)
    assert explanation.similarity == expected.similarity
    assert torch.equal(explanation.image.grid, expected.image.grid)
    assert torch.equal(explanation.text.scores, expected.text.scores)
    assert explanation.model == expected.model | {"id": model.id}
    return explanation


PARTS = {
    "clip": ("vision_model.encoder.layers.1", "vision_model.post_layernorm", "visual_projection", "text_projection"),
    "own vit": ("visual.transformer.resblocks.1", "visual.ln_post", "transformer.resblocks.0", "ln_final", "visual"),
    "siglip": ("vision_model.encoder.layers.0", "vision_model.head", "text_model.final_layer_norm", "vision_model"),
    "own resnet": ("visual.attnpool", "visual.layer1", "visual"),
    "convnext": ("visual.trunk.head", "visual"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    few(
        [(kind, name) for kind, names in PARTS.items() for name in names],
        [("clip", "vision_model.encoder.layers.1")],
    ),
)
def test_a_module_that_is_replaced_after_loading_is_noticed(kind: str, name: str) -> None:
    model = tiny.fresh(kind)
    before = nibt.explain(model, tiny.image(), "a cat", steps=2)
    replace_module(model.module, name)
    assert assert_explained_as_anew(model).similarity != before.similarity


def replace_module(module: nn.Module, name: str) -> None:
    """Put a copy with other weights in the place of a module."""
    holder, _, last = name.rpartition(".")
    replaced = deepcopy(module.get_submodule(name))
    for parameter in replaced.parameters():
        parameter.data = parameter.data * 1.3 + 0.05
    setattr(module.get_submodule(holder), last, replaced)


@pytest.mark.slow
def test_a_module_of_a_vision_language_model_that_is_replaced_is_noticed() -> None:
    built = tiny_vision_language.built("qwen2_vl")
    loading = tiny_vision_language.loading("qwen2_vl")
    model = load_model(built.module, processor=built.processor, **loading)
    before = nibt.explain(model, tiny.image(), "a cat", steps=2)
    replace_module(built.module, "model")
    assert assert_explained_as_anew(model, **loading).similarity != before.similarity


@pytest.mark.slow
def test_permuted_weights_are_noticed() -> None:
    """Also if neither the sum of the bits nor the version of the tensor changes."""
    model = tiny.fresh("clip")
    before = nibt.explain(model, tiny.image(), "a cat", steps=2)
    words, patches = model.text.embedder.weight, model.module.vision_model.embeddings.patch_embedding.weight
    words.data = words.data.flip(0).contiguous()
    after = assert_explained_as_anew(model)
    assert after.similarity != before.similarity
    patches.data.copy_(patches.data.flip(-1))
    assert assert_explained_as_anew(model).similarity != after.similarity


def test_numbers_functions_and_hooks_of_modules_are_noticed() -> None:
    model = tiny.fresh("clip")
    vision = model.module.vision_model
    before = nibt.explain(model, tiny.image(), "a cat", steps=2)
    handle = vision.encoder.layers[0].register_forward_hook(lambda *arguments: arguments[-1] * 1.5)
    hooked = assert_explained_as_anew(model)
    handle.remove()
    assert_close(assert_explained_as_anew(model).image.grid, before.image.grid)
    assert hooked.similarity != before.similarity
    vision.pre_layrnorm.eps = 0.5
    assert assert_explained_as_anew(model).similarity != before.similarity
    vision.encoder.layers[1].mlp.forward = torch.zeros_like
    assert_explained_as_anew(model)


def test_the_scale_of_logits_is_that_of_now() -> None:
    model = tiny.fresh("clip")
    nibt.rank(model, tiny.image(), ["a cat", "two cars"])
    with torch.no_grad():
        model.module.logit_scale.fill_(0.0)
    anew = load_model(model.module, processor=model.request.processor)
    labels = ["a cat", "two cars"]
    assert nibt.rank(model, tiny.image(), labels) == nibt.rank(anew, tiny.image(), labels)


def test_a_scale_that_is_broken_after_loading_is_refused() -> None:
    model = tiny.fresh("clip")
    with torch.no_grad():
        model.module.logit_scale.fill_(torch.nan)
    with pytest.raises(
        CannotLoad, match=r"the scale and the bias of a CLIPModel must be finite numbers .got nan and 0\.0."
    ):
        nibt.rank(model, tiny.image(), AB)


@pytest.mark.parametrize("loaded", few([True, False], [True]))
@pytest.mark.parametrize("path", few(["", "vision_model", "text_model", "text_model.encoder"], ["", "text_model"]))
def test_a_hook_around_the_blocks_that_changes_outputs_is_refused(path: str, loaded: bool) -> None:
    """Replayed blocks do not run it, and nothing runs those of the whole model."""
    model = tiny.fresh("clip")

    def flip(_: nn.Module, __: Any, out: Any) -> Any:
        changed = {name: value.flip(-1) if torch.is_tensor(value) else value for name, value in out.items()}
        return type(out)(**changed)

    before = nibt.explain(model, tiny.image(), "a cat", "grad_cam").similarity
    handle = model.module.get_submodule(path).register_forward_hook(flip)
    for _ in range(2):
        with pytest.raises(
            CannotLoad,
            match=r"has a forward hook or another forward on its CLIPModel|gives another embedding than the un",
        ):
            nibt.rank(
                model if loaded else load_model(model.module, processor=model.request.processor), tiny.image(), AB
            )
    handle.remove()
    assert nibt.explain(model, tiny.image(), "a cat", "grad_cam").similarity == before


def _doubled(module: Any) -> Any:
    forward = module.forward
    return functools.wraps(forward)(lambda *args, **kwargs: forward(*args, **kwargs))


REPLACED: dict[str, Callable[[Any], Any]] = {
    "a function": _doubled,
    "a bound method": lambda module: _doubled(module).__get__(module),
    "that of another model": lambda _: tiny.fresh("clip").module.forward,
    "a function without gradients": lambda module: torch.no_grad()(_doubled(module)),
    "a function of torch": lambda _: torch.zeros_like,
}
SAME: dict[str, Callable[[Any], Any]] = {
    "itself": lambda module: module.forward,
    "in half precision": lambda module: torch.autocast("cpu", torch.bfloat16)(module.forward),
    "compiled": lambda module: torch.compile(module.forward, backend="eager"),
    "of accelerate": lambda module: add_hook_to_module(module, ModelHook()).forward,
    "of accelerate, compiled": lambda module: torch.compile(SAME["of accelerate"](module), backend="eager"),
}


@pytest.mark.parametrize("loaded", few([True, False], [True]))
@pytest.mark.parametrize("name", few([*REPLACED, *SAME], [*REPLACED][:2]))
def test_a_forward_of_the_whole_model_that_nothing_runs_is_refused(name: str, loaded: bool) -> None:
    model = tiny.fresh("clip")
    before = nibt.rank(model, tiny.image(), AB)
    model.module.forward = {**REPLACED, **SAME}[name](model.module)

    def ranked() -> Any:
        return nibt.rank(
            model if loaded else load_model(model.module, processor=model.request.processor), tiny.image(), AB
        )

    if name in SAME:
        assert ranked() == before
        return
    with pytest.raises(CannotLoad, match="has a forward hook or another forward on its CLIPModel"):
        ranked()
    del model.module.forward
    assert ranked() == before


def _shorten(module: Any) -> None:
    module.vision_model.encoder.layers = module.vision_model.encoder.layers[:0].eval()


BROKEN: dict[str, Callable[[Any], Any]] = {
    "no layers": _shorten,
    "no list of layers": lambda module: delattr(module.vision_model.encoder, "layers"),
    "no tower": lambda module: delattr(module, "text_model"),
    "no weights": lambda module: module.to("meta"),
    "no weights of a tower": lambda module: module.vision_model.to("meta"),
    "another width": lambda module: setattr(module, "visual_projection", nn.Linear(24, 7).eval()),
}


@pytest.mark.parametrize("after_a_call", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_was_broken_after_loading_is_refused_in_one_line(name: str, after_a_call: bool) -> None:
    model = tiny.fresh("clip")
    if after_a_call:
        nibt.rank(model, tiny.image(), AB)
    BROKEN[name](model.module)
    for _ in range(2):
        with pytest.raises((CannotLoad, Unsupported)) as error:
            nibt.rank(model, tiny.image(), AB)
        assert "\n" not in str(error.value)


def test_a_model_in_training_mode_is_refused() -> None:
    model = tiny.fresh("clip")
    before = nibt.explain(model, tiny.image(), "a cat", steps=2)
    model.module.train()
    for _ in range(2):
        with pytest.raises(CannotLoad, match="training mode"):
            nibt.explain(model, tiny.image(), "a cat", steps=2)
    model.module.eval()
    assert torch.equal(nibt.explain(model, tiny.image(), "a cat", steps=2).image.grid, before.image.grid)


def test_copies_keep_their_own() -> None:
    model = tiny.fresh("clip")
    nibt.explain(model, tiny.image(), "a cat")
    again = deepcopy(model)
    assert again.image.blocks[0] is again.module.vision_model.encoder.layers[0]
    assert copy(model.image).blocks == model.image.blocks
    changed = replace(model, id="another")
    assert nibt.explain(changed, tiny.image(), "a cat").model["id"] == "another"
    assert nibt.explain(model, tiny.image(), "a cat").model["id"] == model.id


def test_a_model_has_the_towers_of_its_module() -> None:
    model, other = tiny.fresh("clip"), tiny.fresh("clip")
    assert replace(model, id="renamed").id == "renamed"
    with pytest.raises(CannotLoad, match="load another module with load_model"):
        replace(model, module=other.module)


def test_hooks_by_which_transformers_records_outputs_change_nothing() -> None:
    model = tiny.fresh("clip")
    before = nibt.explain(model, tiny.image(), "a cat")
    model.module.vision_model(model.image.prepare([tiny.image()]).values, output_hidden_states=True)
    assert any(module._forward_hooks for module in model.module.modules()), "this version records in another way"
    assert nibt.explain(model, tiny.image(), "a cat").to_json() == before.to_json()


def test_hooks_of_others_are_part_of_the_configuration() -> None:
    """So a job is not resumed with them; those of nibt are none."""
    model = tiny.fresh("clip")
    before = model.configuration_hash
    nibt.explain(model, tiny.image(), "a cat")
    hook = model.module.vision_model.register_forward_hook(lambda module, args, out: None)
    assert model.renewed().configuration_hash != before
    hook.remove()
    assert model.renewed().configuration_hash == before
