"""Tests of all targets in closed form."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.errors import BadOption, UnknownName
from nibt.registry import available, find
from nibt.targets.base import CosineSimilarity, Score, Target
from nibt.targets.similarity import Ensemble
from tests import tiny

COSINE = CosineSimilarity()

HERE, OPPOSITE, OTHERS = (
    torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    for seed, shape in enumerate([(3, 2, 5), (2, 5), (4, 5)])
)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


EXPECTED = {
    "cosine": lambda: F.cosine_similarity(HERE, OPPOSITE[None], dim=-1),
    "logit": lambda: 20 * F.cosine_similarity(HERE, OPPOSITE[None], dim=-1) - 3,
    "difference": lambda: (unit(HERE) * unit(OPPOSITE)).sum(-1) - unit(HERE) @ unit(OTHERS[0]),
    "softmax": lambda: torch.stack(
        [20 * (unit(HERE) * unit(OPPOSITE)).sum(-1), *(20 * unit(HERE) @ unit(other) for other in OTHERS)]
    ).softmax(0)[0],
    "centered": lambda: F.cosine_similarity(HERE, (unit(OPPOSITE) - unit(OTHERS).mean(0))[None], dim=-1),
    "ensemble": lambda: F.cosine_similarity(HERE, OPPOSITE[None], dim=-1),
    "score": lambda: F.cosine_similarity(HERE, OPPOSITE[None], dim=-1),
}


def test_targets_are_all_tested() -> None:
    assert sorted(EXPECTED) == available("targets")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_targets_equal_their_closed_forms(name: str) -> None:
    actual = Score(find("targets", name)(), COSINE, 20.0, -3.0, OTHERS, OPPOSITE)(HERE)
    torch.testing.assert_close(actual, EXPECTED[name]())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_targets_are_independent_of_the_length_of_embeddings(name: str) -> None:
    actual = Score(find("targets", name)(), COSINE, 20.0, -3.0, 5 * OTHERS, 0.2 * OPPOSITE)(3 * HERE)
    torch.testing.assert_close(actual, EXPECTED[name]())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_targets_broadcast_the_other_side(name: str) -> None:
    """The other side may have further dimensions, too."""
    score = Score(find("targets", name)(), COSINE, 20.0, -3.0, OTHERS)
    for opposite in (OPPOSITE[None], OPPOSITE.expand(3, 2, 5)):
        torch.testing.assert_close(replace(score, other=opposite)(HERE), EXPECTED[name]())
    torch.testing.assert_close(replace(score, other=OPPOSITE)(HERE[0]), EXPECTED[name]()[0])


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_targets_are_frozen_and_equal_by_their_options(name: str) -> None:
    target = find("targets", name)()
    assert target == find("targets", name)()
    assert hash(target) == hash(find("targets", name)())
    for attribute in (*vars(target), "another"):
        with pytest.raises(FrozenInstanceError):
            setattr(target, attribute, None)


def test_targets_declare_what_they_compare_with() -> None:
    kinds = {name: find("targets", name) for name in available("targets")}
    assert {name: kind.others for name, kind in kinds.items() if kind.others != "none"} == {
        "centered": "some",
        "difference": "one",
        "softmax": "some",
    }
    assert {name for name, kind in kinds.items() if kind.shipped_default} == {"centered"}
    assert {name for name, kind in kinds.items() if kind().rewords} == {"ensemble"}


def test_logit_without_a_scale_is_the_cosine() -> None:
    logit, cosine = (Score(find("targets", name)(), COSINE, other=OPPOSITE)(HERE) for name in ("logit", "cosine"))
    assert torch.equal(logit, cosine)


def test_centered_takes_a_shipped_mean_as_it_is() -> None:
    """The mean of unit embeddings is shorter than 1."""
    mean = unit(OTHERS).mean(0)
    shipped = Score(find("targets", "centered")(), COSINE, other=OPPOSITE, shipped_mean=mean)(HERE)
    torch.testing.assert_close(shipped, EXPECTED["centered"]())


@pytest.mark.usefixtures("unchecked")
def test_ensemble_puts_the_caption_into_each_template() -> None:
    target = Ensemble(("{}", "a photo of {}"))
    assert target.wordings("a cat") == ["a cat", "a photo of a cat"]
    assert find("targets", "cosine")().wordings("a cat") == ["a cat"]
    for template in ("a photo", "{} and {}", "{0}", "{{}}", "{} of {", "a } {}", "{} {x}", "", None):
        with pytest.raises(BadOption, match=r"contains {} once.*\(got "):
            Ensemble(("{}", template))
    assert Ensemble(("a {}",)).wordings("{cat}") == ["a {cat}"]


@pytest.fixture(scope="module")
def model() -> nibt.Model:
    return tiny.model("siglip")


def explained_by(model: nibt.Model, caption: str = "a cat", **options: object) -> nibt.Explanation:
    answer = nibt.explain(model, tiny.image(), caption, **options)
    assert isinstance(answer, nibt.Explanation)
    return answer


def test_logit_equals_the_logit_of_the_model(model: nibt.Model) -> None:
    answer = explained_by(model, target="logit")
    inputs = model.image.prepare([tiny.image()]), model.text.prepare(["a cat"])
    with torch.no_grad():
        own = model.module(pixel_values=inputs[0].values, input_ids=inputs[1].values).logits_per_image
    assert answer.target["value"] == pytest.approx(float(own), abs=1e-5)
    plain = explained_by(model)
    torch.testing.assert_close(answer.image.scores, model.scale * plain.image.scores, atol=1e-5, rtol=1e-4)


def test_difference_is_explained_by_the_difference_of_maps(model: nibt.Model) -> None:
    answer = explained_by(model, "a cat", target="difference", against="two cars")
    this, that = explained_by(model, "a cat"), explained_by(model, "two cars")
    torch.testing.assert_close(answer.image.scores, this.image.scores - that.image.scores, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("against", [["two cars"], ["two cars", "blue sky"]])
def test_centered_subtracts_the_mean_of_unit_embeddings(model: nibt.Model, against: list[str]) -> None:
    answer = explained_by(model, "a cat", target="centered", against=against)
    texts = model.text.encode(model.text.prepare(["a cat", *against]))
    image = model.image.encode(model.image.prepare([tiny.image()]))
    center = unit(texts[1:]).mean(0)
    expected = F.cosine_similarity(image[0], unit(texts[0]) - center, dim=0)
    assert answer.target["value"] == pytest.approx(float(expected), abs=1e-5)


def test_softmax_takes_captions_and_images(model: nibt.Model) -> None:
    others = [tiny.image(seed=7), tiny.image(seed=8)]
    answer = explained_by(model, target="softmax", against=["two cars", "blue sky"], against_images=others)
    assert answer.target["image"]["name"] == answer.target["text"]["name"] == "softmax"
    ranking = {
        label.label: label.probability for label in nibt.rank(model, tiny.image(), ["a cat", "two cars", "blue sky"])
    }
    assert answer.target["image"]["value"] == pytest.approx(ranking["a cat"], abs=1e-5)
    assert sum(ranking.values()) == pytest.approx(1, abs=1e-5)
    assert all("lowers the score" in warning for warning in answer.warnings)


@pytest.mark.parametrize(
    ("options", "side"),
    [({"against": "two cars"}, "text"), ({"against_images": [tiny.image(seed=4)]}, "image")],
)
def test_side_without_a_contrast_is_explained_with_cosine(model: nibt.Model, options: dict, side: str) -> None:
    answer = explained_by(model, target="difference", **options)
    assert answer.target[side]["name"] == "cosine"
    assert answer.target["against"]["name"] == "cosine"
    assert not any("are explained with cosine" in warning for warning in answer.warnings)
    torch.testing.assert_close(getattr(answer, side).scores, getattr(explained_by(model), side).scores)


def test_ensemble_of_one_wording_equals_the_wording(model: nibt.Model) -> None:
    answer = explained_by(model, "cat", target="ensemble", templates=["a photo of a {}"])
    torch.testing.assert_close(
        answer.image.scores, explained_by(model, "a photo of a cat").image.scores, atol=1e-6, rtol=1e-4
    )
    several = explained_by(model, "cat", target="ensemble", templates=["a photo of a {}", "two {}"])
    inputs = model.text.encode(model.text.prepare(["a photo of a cat", "two cat"]))
    image = model.image.encode(model.image.prepare([tiny.image()]))
    expected = F.cosine_similarity(unit(inputs).mean(0), image[0], dim=0)
    assert several.target["value"] == pytest.approx(float(expected), abs=1e-5)


def test_explain_ranking_ranks_and_explains_the_first_against_the_second(model: nibt.Model) -> None:
    answer = nibt.explain_ranking(model, tiny.image(), ["a cat", "two cars", "blue sky"])
    cosines = [label.similarity for label in answer.ranking]
    assert cosines == sorted(cosines, reverse=True)
    assert answer.caption == answer.ranking[0].label
    assert answer.target["options"]["against"] == [answer.ranking[1].label]
    assert answer.target["value"] == pytest.approx(cosines[0] - cosines[1], abs=1e-5)
    assert [entry["label"] for entry in answer.to_json()["ranking"]] == [label.label for label in answer.ranking]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"target": "cosin"}, UnknownName, "Did you mean 'cosine'"),
        ({"target": "softmax"}, BadOption, "needs something to compare with"),
        ({"target": "cosine", "against": "a dog"}, BadOption, "compares with nothing"),
        ({"target": "difference", "against": ["a dog", "a car"]}, BadOption, "compares with one other caption"),
        ({"target": "ensemble", "templates": ["a photo"]}, BadOption, "contains {} once"),
        ({"against": "sample:coffee"}, BadOption, "against takes captions .* give images in against_images"),
        ({"against": ["a dog", "dog.jpg"]}, BadOption, "against takes captions"),
        ({"target": "cosine", "templates": ["{}"]}, BadOption, "takes no templates"),
        ({"target": "softmax", "against": [" "]}, nibt.NibtError, "blank"),
    ],
)
def test_bad_targets_are_rejected(model: nibt.Model, options: dict, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        explained_by(model, **options)


def test_explain_ranking_rejects_one_label(model: nibt.Model) -> None:
    with pytest.raises(nibt.NibtError, match="at least two texts"):
        nibt.explain_ranking(model, tiny.image(), ["a cat"])


def test_target_without_a_call_cannot_be_built() -> None:
    with pytest.raises(TypeError, match=r"abstract method '?__call__"):
        type("Incomplete", (Target,), {})()
