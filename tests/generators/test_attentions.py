"""Tests of ``nibt.attentions``."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import nibt
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.generators.answers import ForcedWord, Prompted
from nibt.generators.loading import load_generator
from nibt.models._attention import attention_rows
from nibt.models._tower import Trace
from tests import tiny
from tests.helpers import assert_close
from tests.suites import few
from tests.tiny_vision_language import ENCODER_DECODERS, WRITERS, generator

IMAGE, PROMPT, ANSWER = tiny.image(64, 48), "Describe the image .", "a red cat on a mat"
SCENE = "sample:scene", "what is left of the house ?"
LINEAR = ("qwen3_5", "qwen3_5_moe", "lfm2_vl", "lfm2_vl_whole")
WHOLE = ("gemma4_per_layer", "gemma3n")
writers = pytest.mark.parametrize(
    "kind", few([kind for kind in WRITERS if kind not in (*LINEAR, *WHOLE)], ("llava", "qwen2_vl", "gemma3"))
)


def of_kind(kind: str) -> nibt.AnswerAttentions:
    return nibt.attentions(generator(kind), IMAGE, PROMPT, ANSWER)


def eager_weights(kind: str) -> Tensor:
    """Return the weights that the class itself returns, (layer, head, query, key)."""
    tower = generator(kind).answers
    inputs = tower.prepare([ForcedWord(Prompted(IMAGE, PROMPT), tower.read(Prompted(IMAGE, PROMPT), ANSWER))])
    module = copy.deepcopy(generator(kind).module)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        out = module(**tower.arguments(inputs), output_attentions=True)  # pyright: ignore
    return torch.stack([weights[0] for weights in out.attentions])


@writers
def test_weights_are_those_of_the_eager_class(kind: str) -> None:
    attended, eager = of_kind(kind), eager_weights(kind)
    tower = generator(kind).answers
    words = tower.read(Prompted(IMAGE, PROMPT), ANSWER).words
    before = eager.shape[-1] - sum(len(word.tokens) for word in words) - 1
    wanted = torch.stack([eager[:, :, [before + token for token in word.tokens]].mean(2) for word in words], 2)
    assert_close(attended.weights, wanted.float(), 5e-5)  # the fused kernel rounds the states otherwise
    mean, rollout = eager.float().mean(1), torch.eye(eager.shape[-1])
    for of_layer in mean:
        rollout = (rollout + of_layer @ rollout) / 2
    rows = [rollout[[before + token for token in word.tokens]].mean(0) for word in words]
    assert_close(attended.rollout, torch.stack(rows), 5e-5)


@writers
def test_parts_add_up_and_have_their_axes(kind: str) -> None:
    attended = of_kind(kind)
    layers, heads, words, _ = attended.weights.shape
    assert attended.words == tuple(ANSWER.split())
    parts = attended.split()
    assert parts["image"].shape[:3] == (layers, heads, words)
    assert parts["image"].ndim == 5
    assert parts["prompt"].shape == (layers, heads, words, len(attended.prompt_words))
    assert parts["answer"].shape == (layers, heads, words, words)
    total = parts["image"].sum((-1, -2)) + parts["prompt"].sum(-1) + parts["answer"].sum(-1) + parts["other"]
    assert_close(total, torch.ones(layers, heads, words), 1e-5)
    assert all(bool((part >= -1e-6).all()) for part in parts.values())
    later = torch.ones(words, words).triu(1).bool()
    assert not parts["answer"][..., later].any(), "no word reads one that comes later"
    assert_close(attended.rollout.sum(-1), torch.ones(words), 1e-5)
    assert attended.split(attended.rollout)["image"].shape == (words, *parts["image"].shape[-2:])


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is computed."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.most = max(self.most, out.numel())
        return out


def test_nothing_has_the_size_of_all_tokens_times_all_tokens() -> None:
    model, long = generator("llava"), " ".join(["cat"] * 220)
    nibt.attentions(model, IMAGE, long, ANSWER)
    with Largest() as largest:
        attended = nibt.attentions(model, IMAGE, long, ANSWER)
    heads, _, tokens = attended.weights.shape[1:]
    assert tokens > 220
    assert largest.most < heads * tokens**2 / 2


def test_the_model_writes_without_an_answer_and_is_left_as_it_was() -> None:
    model = load_generator("scenes_generator")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    implementation = model.module.config._attn_implementation
    hooks = [len(module._forward_hooks) for module in model.module.modules()]
    attended = nibt.attentions(model, *SCENE)
    assert attended.words == ("hamburger",)
    assert torch.equal(attended.weights, nibt.attentions(model, *SCENE, "hamburger").weights)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert model.module.config._attn_implementation == implementation
    assert hooks == [len(module._forward_hooks) for module in model.module.modules()]
    picture = attended.picture()
    assert picture.width > 600
    with pytest.raises(BadOption, match=r"word must be between 0 and 0 \(got 1\)"):
        attended.picture(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_has_no_effect(dtype: torch.dtype) -> None:
    wanted, before = nibt.attentions("scenes_generator", *SCENE, "hamburger"), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        attended = nibt.attentions("scenes_generator", *SCENE, "hamburger")
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(attended.weights, wanted.weights)
    assert torch.equal(attended.rollout, wanted.rollout)


def test_sinks_that_are_no_tokens_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of gpt-oss, whose softmax has one more column than there are tokens."""
    wanted, rows = of_kind("llava"), attention_rows

    def with_sinks(trace: Trace) -> Any:
        for rows_of in rows(trace):
            yield lambda numbers, rows_of=rows_of: torch.nn.functional.pad(rows_of(numbers) / 2, (0, 1), value=0.5)

    monkeypatch.setattr("nibt.generators.attentions.attention_rows", with_sinks)
    attended = of_kind("llava")
    assert_close(attended.weights, wanted.weights / 2, 1e-6)
    assert attended.split()["other"].shape == wanted.split()["other"].shape


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("weights", [torch.zeros(3), torch.ones(2, 900), [0.0], "a", torch.tensor(1.0)])
def test_other_weights_are_not_split(weights: Any) -> None:
    with pytest.raises(BadInput, match="weights must be a tensor of floats whose last axis has"):
        of_kind("llava").split(weights)


def test_sinks_are_named() -> None:
    attended = [of_kind(kind) for kind in ("llava", "qwen2_vl")]
    for each in attended:
        content = {row for rows in each._rows.values() for tokens in rows for row in tokens} | {*each._grid.tokens}
        shares = each.weights.mean((0, 1, 2))
        sinks = [row for row, share in enumerate(shares.tolist()) if share >= 0.2 and row not in content]
        assert [note for note in each.notes if "attention sink" in note] == [
            f"{each.tokens[row]!r} (token {row}) has {shares[row]:.0%} of the attention, mean over layers, heads and "
            "words, and no content: it is an attention sink"
            for row in sinks
        ]


@pytest.mark.parametrize("kind", few(ENCODER_DECODERS, ["blip_caption"]))
def test_models_that_attend_to_an_image_encoder_are_refused(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"attends to an image encoder.*use explain_answer"):
        nibt.attentions(generator(kind), IMAGE, "", ANSWER)


@pytest.mark.parametrize("kind", few(WHOLE, ["gemma3n"]))
def test_decoders_that_cannot_be_cut_are_refused(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"bypass the layers before them: use explain_answer"):
        of_kind(kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LINEAR)
def test_models_with_layers_without_weights_are_refused(kind: str) -> None:
    with pytest.raises(Unsupported, match="convolutions and linear attention have no weights"):
        of_kind(kind)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((IMAGE, PROMPT, " "), {}, "the answer must not be empty"),
        ((IMAGE, PROMPT, ANSWER), {"max_words": 2}, "max_words is for answers that the model writes"),
        (("missing.png", PROMPT, ANSWER), {}, "there is no image 'missing.png'"),
    ],
)
def test_bad_inputs_are_refused(arguments: Any, options: dict[str, Any], error: str) -> None:
    with pytest.raises((BadInput, BadOption), match=error):
        nibt.attentions(generator("llava"), *arguments, **options)
