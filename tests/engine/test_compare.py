"""Tests of ``nibt.engine.explain`` with two images or two captions."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.core.quadrature import nodes
from nibt.data.pair import SameModalityPair
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import Scenes
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption
from nibt.models._mean_states import shipped_mean_states
from nibt.progress import Progress
from nibt.report.image.heatmap import score_map
from nibt.results.attribution import ImageAttribution, SideAttribution
from tests import tiny
from tests.helpers import compare
from tests.suites import few

CAPTIONS = [nibt.Caption(text) for text in tiny.CAPTIONS]


FAMILIES = ("clip", "siglip naflex", "bert", "efficientnet")


every_family = pytest.mark.parametrize("kind", FAMILIES)


both_kinds = pytest.mark.parametrize("items", [tiny.IMAGES, CAPTIONS], ids=["images", "captions"])


def scores(part: SideAttribution) -> torch.Tensor:
    """Return the scores without the padding of a batch."""
    if isinstance(part, ImageAttribution):
        return part.scores
    return torch.tensor([word.score for word in part.words])


def agree(actual: SideAttribution, wanted: SideAttribution) -> None:
    assert actual.source == wanted.source
    wish = scores(wanted)
    assert (scores(actual) - wish).abs().max() <= max(1e-5 * float(wish.abs().max()), 5e-7)


@every_family
def test_compare_explains_each_image_by_the_embedding_of_the_other(kind: str) -> None:
    """The image side of NIB is linear in the unit embedding of the other side, so that of an image serves as well."""
    model = tiny.model(kind)
    answer = compare(kind, tiny.IMAGES[0], tiny.IMAGES[1])
    for part, here, opposite in ((answer.first, *tiny.IMAGES[:2]), (answer.second, *tiny.IMAGES[1::-1])):
        expected = nibt.contributions(model, here).explain(encode(model.image, [opposite])[0])
        torch.testing.assert_close(part.scores, expected.scores, atol=1e-5, rtol=1e-4)
        assert part.path is not None
        assert float(part.path.gap) == pytest.approx(float(expected.path.gap), abs=1e-5)


@every_family
def test_compare_explains_each_caption_by_the_embedding_of_the_other(kind: str) -> None:
    """The formula of NIB, written out with the unit embedding of the other caption."""
    model = tiny.model(kind)
    answer = compare(kind, CAPTIONS[0], tiny.CAPTIONS[1], layer=1, steps=2, distribute=False)
    opposite = F.normalize(encode(model.text, [tiny.CAPTIONS[1]])[0], dim=-1)
    cut = model.text.trace(model.text.prepare([tiny.CAPTIONS[0]])).cut(1)
    blank, path = model.text.blank(model.text.prepare([tiny.CAPTIONS[0]]), 1), nodes("midpoint", 2)
    expected = torch.zeros(cut.hidden.shape[:2])
    for position, weight in zip(path.positions, path.weights, strict=True):
        state = (blank + position * (cut.hidden - blank)).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.normalize(cut.rest(state[None])[0, 0], dim=-1) @ opposite, state)
        expected += weight * ((cut.hidden - blank) * gradient).sum(-1)
    torch.testing.assert_close(answer.first.scores, cut.units.keep(expected)[0], atol=1e-5, rtol=1e-4)
    assert answer.first.path.steps == 2
    assert answer.similarity == pytest.approx(
        float(F.normalize(cut.rest(cut.hidden[None])[0, 0], dim=-1).detach() @ opposite), abs=1e-5
    )


@every_family
@both_kinds
def test_compare_scores_sum_to_the_change(kind: str, items: list) -> None:
    one_view = {} if isinstance(items[0], nibt.Caption) else {"views": 1}
    answer = compare(kind, items[0], items[2], steps=64, **one_view)
    for part in answer.sides.values():
        warning = part.path
        assert float(warning.sum) == pytest.approx(
            float(warning.at_input - warning.at_baseline), abs=abs(float(warning.gap)) + 1e-6
        )
        assert abs(float(warning.gap)) <= 0.02 * max(0.1, abs(float(warning.at_input - warning.at_baseline)))
        assert float(warning.at_input) == pytest.approx(answer.similarity, abs=1e-5)


@pytest.mark.parametrize("method", ["nib", "occlusion"])
@both_kinds
def test_compare_of_swapped_inputs_swaps_the_maps(method: str, items: list) -> None:
    opposite, back = (compare("clip", *pair, method=method) for pair in (items[:2], items[1::-1]))
    assert torch.equal(scores(opposite.first), scores(back.second))
    assert torch.equal(scores(opposite.second), scores(back.first))


@both_kinds
def test_compare_of_an_input_with_itself_gives_equal_maps(items: list) -> None:
    answer = compare("siglip", items[0], items[0])
    assert torch.equal(scores(answer.first), scores(answer.second))
    assert answer.similarity == pytest.approx(1, abs=1e-5)
    assert scores(answer.first).abs().max() > 0


@pytest.mark.parametrize("kind", few(["siglip naflex", "bert"], ["bert"]))
@both_kinds
def test_compare_is_independent_of_the_batch(kind: str, items: list) -> None:
    firsts, seconds = [items[0], items[1], items[0]], [items[3], items[2], items[1]]
    together = compare(kind, firsts, seconds)
    for answer, first, second in zip(together, firsts, seconds, strict=True):
        alone = compare(kind, first, second)
        agree(answer.first, alone.first)
        agree(answer.second, alone.second)
        assert answer.similarity == pytest.approx(alone.similarity, abs=1e-5)


@pytest.mark.slow
def test_compare_of_whole_images_is_independent_of_the_batch() -> None:
    model = tiny.fresh("clip", resize="whole")
    answers = nibt.compare(model, tiny.IMAGES, tiny.IMAGES[0], batch_size=8)
    assert len({answer.first.grid.shape for answer in answers}) == 3
    for answer, image in zip(answers, tiny.IMAGES, strict=True):
        assert answer.first.source == image.source
        agree(answer.second, nibt.compare(model, image, tiny.IMAGES[0]).second)


@both_kinds
def test_compare_explains_a_difference_by_the_difference_of_maps(items: list) -> None:
    against = {"against": items[2]}
    answer = compare("siglip", items[0], items[1], target="difference", **against)
    this, that = (compare("siglip", items[0], other) for other in items[1:3])
    torch.testing.assert_close(scores(answer.first), scores(this.first) - scores(that.first), atol=1e-6, rtol=1e-4)
    other = compare("siglip", items[1], items[2])
    assert answer.target["value"] == answer.target["first"]["value"]
    assert answer.target["second"]["value"] == pytest.approx(this.similarity - other.similarity, abs=1e-5)
    assert {answer.target[place]["name"] for place in ("first", "second")} == {"difference"}


def test_compare_with_logit_and_softmax_uses_the_scale_of_the_model() -> None:
    model = tiny.model("siglip")
    plain = compare("siglip", *tiny.IMAGES[:2])
    logit = compare("siglip", *tiny.IMAGES[:2], target="logit")
    assert logit.target["value"] == pytest.approx(model.scale * plain.similarity + model.bias, rel=1e-4)
    softmax = compare("siglip", *tiny.IMAGES[:2], target="softmax", against=tiny.IMAGES[2:])
    cosines = torch.tensor([compare("siglip", tiny.IMAGES[0], other).similarity for other in tiny.IMAGES[1:]])
    assert softmax.target["value"] == pytest.approx(float((model.scale * cosines).softmax(0)[0]), abs=1e-5)
    assert softmax.target["options"]["against_images"] == [image.source for image in tiny.IMAGES[2:]]


@pytest.mark.slow
@both_kinds
def test_compare_with_centered_uses_the_shipped_centre(items: list) -> None:
    model = nibt.load_model("scenes")
    kind = "image" if items is tiny.IMAGES else "text"
    answer = nibt.compare(model, items[0], items[1], target="centered")
    embedded = F.normalize(encode(model.tower(kind), [getattr(item, "text", item) for item in items[:2]]), dim=-1)
    center = shipped_mean_states(model).tensors[f"centre.{kind}"]
    expected = F.cosine_similarity(embedded[0], embedded[1] - center, dim=0)
    assert answer.target["value"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.slow
def test_compare_finds_the_common_object_of_scenes() -> None:
    """Chance is the share of the area, 0.06. Measured: energy 0.5, above chance in all maps."""
    data = list(Scenes(count=60, seed=31, fewest=2, most=3))
    shared = [
        (one, other, {obj.name for obj in one.objects} & {obj.name for obj in other.objects})
        for one, other in combinations(data, 2)
    ]
    chosen = [(one, other, nouns.pop()) for one, other, nouns in shared if len(nouns) == 1][:16]
    assert len(chosen) == 16
    answers = nibt.compare("scenes", [one.image for one, _, _ in chosen], [other.image for _, other, _ in chosen])
    energies, areas = [], []
    for answer, (one, other, noun) in zip(answers, chosen, strict=True):
        for part, scene in zip(answer.sides.values(), (one, other), strict=True):
            mask = np.any([obj.mask for obj in scene.objects if obj.name == noun], axis=0)
            positive_only = score_map(part).clip(0)
            energies.append(positive_only[mask].sum() / positive_only.sum())
            areas.append(mask.mean())
    assert np.mean(energies) > 4 * np.mean(areas)
    assert np.mean(np.array(energies) > np.array(areas)) > 0.8


@pytest.mark.slow
def test_compare_finds_the_common_noun_of_captions() -> None:
    nouns = ["cat", "dog", "car", "tree", "ball", "bird"]
    pairs = [
        (shared, one, other)
        for shared, one, other in zip(nouns, nouns[1:] + nouns[:1], nouns[2:] + nouns[:2], strict=True)
    ]
    firsts = [nibt.Caption(f"{with_article(one)} and {with_article(shared)}") for shared, one, _ in pairs]
    seconds = [f"{with_article(shared)} and {with_article(other)}" for shared, _, other in pairs]
    strongest = [
        (max(part.words, key=lambda word: word.score).text, shared)
        for answer, (shared, *_) in zip(nibt.compare("scenes", firsts, seconds), pairs, strict=True)
        for part in answer.sides.values()
    ]
    right = sum(word == shared for word, shared in strongest)
    assert right >= len(strongest) - 1, strongest  # for one of them, "and" has the largest exact integral


@pytest.mark.slow
def test_explain_takes_any_image_type_in_second_place(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    tiny.IMAGES[0].pil_image.save(path)
    array = np.asarray(tiny.IMAGES[0].pil_image)
    ways = [path, tiny.IMAGES[0].pil_image, array, torch.from_numpy(array.copy()).permute(2, 0, 1), tiny.IMAGES[0]]
    wanted = compare("clip", tiny.IMAGES[1], tiny.IMAGES[0])
    for way in ways:
        actual = compare("clip", tiny.IMAGES[1], way)
        assert torch.equal(actual.second.grid, wanted.second.grid)
    assert len(compare("clip", str(path), ways)) == len(ways)


def test_compare_pairs_up_lists() -> None:
    assert len(compare("clip", CAPTIONS[:3], "a cat")) == 3
    assert len(compare("clip", CAPTIONS[0], ["a cat", nibt.Caption("two cars")])) == 2
    assert isinstance(compare("clip", [CAPTIONS[0]], "a cat"), list)
    done: list[Progress] = []
    nibt.compare(tiny.model("clip"), tiny.IMAGES, tiny.IMAGES[::-1], batch_size=3, on_progress=done.append)
    assert done == [Progress(3, 4), Progress(4, 4)]


def test_explain_takes_a_caption_object_in_second_place() -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.IMAGES[0], CAPTIONS[0])
    assert isinstance(answer, nibt.Explanation)
    assert answer.caption == tiny.CAPTIONS[0]


def test_explain_notes_a_caption_that_names_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.IMAGES[0].pil_image.save("cat.png")
    model = tiny.model("clip")
    (note,) = [
        warning for warning in nibt.explain(model, tiny.IMAGES[3], "cat.png").warnings if "used as a caption" in warning
    ]
    assert "nibt.compare" in note
    assert any("used as a caption" in warning for warning in nibt.explain(model, tiny.IMAGES[3], "sample:cat").warnings)
    for second in ("dog.png", nibt.Caption("cat.png"), "cat"):
        assert not any(
            "used as a caption" in warning for warning in nibt.explain(model, tiny.IMAGES[3], second).warnings
        )


def test_compare_notes_name_their_side() -> None:
    warnings = compare("clip", tiny.IMAGES[0], tiny.IMAGES[1]).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["first", "second"]
    assert all("cropped" in warning for warning in warnings)
    missed = compare("clip", tiny.IMAGES[0], tiny.IMAGES[1], tolerance=1e-9).warnings
    assert any("all tokens of the second image, special tokens included" in warning for warning in missed)


@pytest.mark.parametrize(
    ("first", "second", "options", "kind", "warning"),
    [
        (CAPTIONS[0], tiny.IMAGES[0], {}, BadInput, "swap them"),
        (CAPTIONS[0], [tiny.IMAGES[0]], {}, BadInput, "swap them"),
        (tiny.IMAGES[0], ["a cat", tiny.IMAGES[1]], {}, BadInput, "second place must have images only"),
        (tiny.IMAGES[0], "a cat", {}, BadInput, "got an image and the caption 'a cat'"),
        ([CAPTIONS[0], tiny.IMAGES[0]], "a cat", {}, BadInput, "first place must have images only"),
        (tiny.IMAGES[:2], tiny.IMAGES[:3], {}, BadInput, "2 images and 3 images cannot be paired"),
        (CAPTIONS[:2], CAPTIONS[:3], {}, BadInput, "2 captions and 3 captions cannot be paired"),
        (tiny.IMAGES[0], [], {}, BadInput, "nothing to explain"),
        (nibt.Caption(" "), "a cat", {}, BadInput, "blank"),
        (tiny.IMAGES[0], Path("none.png"), {}, BadInput, "no such file"),
        (tiny.IMAGES[0], tiny.IMAGES[1], {"target": "softmax"}, BadOption, "give images in against"),
        (CAPTIONS[0], "a cat", {"target": "difference"}, BadOption, "give captions in against"),
        (tiny.IMAGES[0], tiny.IMAGES[1], {"target": "softmax", "against": "a dog"}, BadOption, "with other images"),
        (CAPTIONS[0], "a cat", {"target": "softmax", "against": tiny.IMAGES[2]}, BadOption, "other captions"),
        (CAPTIONS[0], "a cat", {"target": "cosine", "against": "a dog"}, BadOption, "compares with nothing"),
        (CAPTIONS[0], "a cat", {"target": "difference", "against": ["a", "b"]}, BadOption, "one other caption"),
        (CAPTIONS[0], "a cat", {"target": "ensemble"}, BadOption, r"needs an image and a caption \(got two captions\)"),
        (
            tiny.IMAGES[0],
            tiny.IMAGES[1],
            {"target": "ensemble"},
            BadOption,
            r"needs an image and a caption \(got two images\)",
        ),
        (tiny.IMAGES[0], tiny.IMAGES[1], {"target": "centered"}, BadOption, "needs something to compare with"),
        (tiny.IMAGES[0], tiny.IMAGES[1], {"text_layer": 1}, BadOption, "text_layer is an option of a side"),
        (CAPTIONS[0], "a cat", {"image_layer": 1}, BadOption, "two captions do not have"),
    ],
)
def test_compare_rejects_inputs_that_do_not_go_together(
    first: Any, second: Any, options: dict, kind: type, warning: str
) -> None:
    with pytest.raises(kind, match=warning):
        nibt.compare(tiny.model("clip"), first, second, **options)


@pytest.mark.usefixtures("unchecked")
def test_explain_rejects_inputs_of_other_types() -> None:
    for pair, warning in (
        ((tiny.IMAGES[0], 5), "must be a string"),
        ((5, "a cat"), "must be a path, the bytes of a file"),
    ):
        with pytest.raises(BadInput, match=rf"{warning}.*\(got int\)"):
            nibt.explain(tiny.model("clip"), *pair)  # pyright: ignore


@pytest.mark.usefixtures("unchecked")
def test_other_functions_reject_two_images_or_captions() -> None:
    model: Any = tiny.model("clip")
    with pytest.raises(BadInput, match=r"regions takes pairs of .* \(got an image and an image\)"):
        nibt.regions(model, *tiny.IMAGES[:2])  # pyright: ignore
    with pytest.raises(BadInput, match=r"regions takes pairs of .* \(got a Caption and a string\)"):
        nibt.regions(model, CAPTIONS[0], "a cat")  # pyright: ignore
    wrong: list[Any] = [
        SameModalityPair(*tiny.IMAGES[:2]),
        SameModalityPair("a cat", "a dog"),
        nibt.Pair(*tiny.IMAGES[:2]),
        "a cat",
    ]  # pyright: ignore
    for pair in wrong:
        with pytest.raises(BadInput, match="measure takes pairs of an image and a caption"):
            nibt.measure(model, [pair], ["special_token_share"], "ones")
    assert nibt.rank(model, tiny.IMAGES[0], [CAPTIONS[0], "two cars"])[0].label in (tiny.CAPTIONS[0], "two cars")


def test_tuples_are_pairs() -> None:
    """An image in any form, a caption, and perhaps the mask of what the caption names."""
    model, image = tiny.model("clip"), tiny.image(64, 64)
    mask = np.zeros((64, 64), bool)
    mask[:32] = True
    of_tuple = nibt.measure(model, [(image.pil_image, "a cat", mask)], ["energy"], "ones", side="image")
    assert of_tuple[0].value == pytest.approx(0.5, abs=0.01)
    of_pair = nibt.measure(model, [nibt.Pair(image, "a cat")], ["special_token_share"], "nib", side="image")
    without = nibt.measure(model, [(image.pil_image, "a cat")], ["special_token_share"], "nib", side="image")
    assert [row.value for row in without] == [row.value for row in of_pair]


def test_compare_needs_only_what_its_tower_offers() -> None:
    """A convolutional trunk has no attention, but its captions can be compared by methods that need attention."""
    assert compare("efficientnet", CAPTIONS[0], CAPTIONS[1], method="rollout").similarity
    with pytest.raises(nibt.NibtError, match="needs attention"):
        compare("efficientnet", tiny.IMAGES[0], tiny.IMAGES[1], method="rollout")


@both_kinds
def test_comparison_is_saved_and_loaded(tmp_path: Path, items: list) -> None:
    answer = compare("clip", items[0], items[2])
    answer.save(tmp_path / "x.json")
    again = nibt.Explanation.load(tmp_path / "x.json")
    assert again.to_json() == answer.to_json()
    warning = answer.to_json()
    plain = nibt.explain(tiny.model("clip"), tiny.IMAGES[0], tiny.CAPTIONS[0]).to_json()
    kind = "image" if items is tiny.IMAGES else "text"
    for place in ("first", "second"):
        side, other = warning["sides"][place], plain["sides"][kind]
        assert set(side) == set(other)
        assert side["modality"] == other["modality"] == kind
        assert set(side["path"]) == set(other["path"])
    nibt.save([answer, answer], tmp_path / "two.json")
    for name in ("two", "none"):
        with pytest.raises(BadInput, match="not a file of kind 'explanation'"):
            nibt.Explanation.load(tmp_path / f"{name}.json")
    with pytest.raises(BadInput, match="a comparison has the sides first and second, without image"):
        _ = again.image
