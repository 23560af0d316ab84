"""Tests of explanations against another image or caption: why this one and not that one."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nibt
from nibt.data.images import ImageInput, read_image
from nibt.errors import BadInput, BadOption, MissingSide
from nibt.report.request import question
from nibt.results.attribution import ImageAttribution, TextAttribution
from tests import tiny, tiny_vision_language
from tests.suites import few

A, B, CAPTION, OTHER = tiny.image(seed=3), tiny.image(seed=4), "two cars", "a small gray bird"
MODELS = few(("clip", "siglip", "own vit", "coca", "convnext", "colpali"), ("clip", "colpali"))


def _model(kind: str) -> nibt.Model:
    return tiny_vision_language.model(kind) if kind == "colpali" else tiny.model(kind)


@pytest.mark.parametrize("kind", MODELS)
def test_difference_is_divided_among_both_images(kind: str) -> None:
    model = _model(kind)
    answer = nibt.explain(model, A, CAPTION, against_images=B)
    plain = nibt.explain(model, [A, B], CAPTION, image_views=answer.method["image"]["views"])
    assert answer.target["value"] == pytest.approx(plain[0].similarity - plain[1].similarity, abs=1e-5)
    for name, of_image in zip(("image", "against"), plain, strict=True):
        torch.testing.assert_close(answer.sides[name].scores, of_image.image.scores, atol=1e-6, rtol=1e-4)
        assert answer.target[name]["value"] == pytest.approx(of_image.similarity, abs=1e-5)
    paths = answer.image.path, answer.against.path
    first, second = (path for path in paths if path is not None)
    assert float(first.at_baseline) == pytest.approx(
        float(second.at_baseline), abs=1e-6
    )  # one blank image, so that nothing is left
    sums = float(answer.grid.sum()) - float(answer.against.scores.sum())
    gap = float(first.gap) - float(second.gap)
    assert sums + gap == pytest.approx(answer.target["value"], abs=1e-5)
    words = [torch.tensor([word.score for word in each.words]) for each in (answer, *plain)]
    torch.testing.assert_close(words[0], words[1] - words[2], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", few(("clip", "siglip", "own vit", "colpali"), ("clip",)))
def test_difference_costs_no_more_than_both_explanations(kind: str) -> None:
    """Counted in the items that go through the blocks of both towers, with the same number of views."""
    model, counts = _model(kind), []
    for pairs in ((A, B), (A,), (B,)):
        nibt.explain(model, pairs[0], CAPTION, image_views=3)  # what is kept on the model is computed before
        passes: list[int] = []
        hooks = [
            module.register_forward_pre_hook(lambda _, inputs, passes=passes: passes.append(len(inputs[0])))
            for module in model.module.modules()
            if isinstance(module, torch.nn.LayerNorm)
        ]
        try:
            nibt.explain(model, pairs[0], CAPTION, against_images=pairs[1:], image_views=3)
        finally:
            for hook in hooks:
                hook.remove()
        counts.append(sum(passes))
    assert 0 < counts[0] <= counts[1] + counts[2]


@pytest.mark.parametrize(("kind", "views"), [("clip", 5), ("siglip", 1), ("convnext", 3)])
def test_two_images_have_five_views_unless_the_head_reads_patches(kind: str, views: int) -> None:
    model = _model(kind)
    assert nibt.explain(model, A, CAPTION, against_images=B).method["image"]["views"] == views
    for options in ({"variant": "fast"}, {"views": 2, "text_views": 1} if views == 5 else {"variant": "fast"}):
        kept = nibt.explain(model, A, CAPTION, **options).method["image"]
        assert nibt.explain(model, A, CAPTION, against_images=B, **options).method["image"] == kept


@pytest.mark.parametrize("kind", MODELS)
def test_exchange_of_both_images_changes_the_sign(kind: str) -> None:
    model = _model(kind)
    one, other = nibt.explain(model, A, CAPTION, against_images=B), nibt.explain(model, B, CAPTION, against_images=A)
    assert one.target["value"] == pytest.approx(-other.target["value"], abs=1e-6)
    torch.testing.assert_close(one.text.scores, -other.text.scores, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(one.image.scores, other.against.scores, atol=1e-6, rtol=1e-4)


def test_difference_is_divided_among_the_words_of_both_captions() -> None:
    model = tiny.model("clip")
    answer = nibt.explain(model, A, CAPTION, against=OTHER)
    assert isinstance(answer.against, TextAttribution)
    plain = nibt.explain(model, A, [CAPTION, OTHER])
    for name, of_caption in zip(("text", "against"), plain, strict=True):
        torch.testing.assert_close(answer.sides[name].scores, of_caption.text.scores, atol=1e-6, rtol=1e-4)
    assert answer.target["value"] == pytest.approx(plain[0].similarity - plain[1].similarity, abs=1e-6)
    torch.testing.assert_close(answer.grid, plain[0].grid - plain[1].grid, atol=1e-5, rtol=1e-3)


def test_other_image_does_not_depend_on_its_batch_mates() -> None:
    model = tiny.model("clip")
    batch = nibt.explain(model, tiny.IMAGES, list(tiny.CAPTIONS), against_images=B, batch_size=4)
    for image, caption, answer in zip(tiny.IMAGES, tiny.CAPTIONS, batch, strict=True):
        alone = nibt.explain(model, image, caption, against_images=B)
        for name, side in alone.sides.items():
            bound = 1e-5 * float(side.scores.abs().max())
            torch.testing.assert_close(answer.sides[name].scores, side.scores, atol=bound, rtol=0)


def test_sides_that_both_compare_have_no_third() -> None:
    answer = nibt.explain(tiny.model("clip"), A, CAPTION, against=OTHER, against_images=B)
    assert list(answer.sides) == ["image", "text"]
    with pytest.raises(MissingSide, match="without against"):
        _ = answer.against


def _changed() -> ImageInput:
    """Return the image A with other pixels in its last quarter."""
    pixels = np.array(A.pil_image.convert("RGB"))
    pixels[24:, 32:] = np.array(B.pil_image.convert("RGB"))[24:, 32:]
    return read_image(pixels)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("views", few((1, 3), (1,)))
def test_path_from_the_other_image_adds_up_to_the_difference(kind: str, views: int) -> None:
    model, other = _model(kind), _changed()
    options = {"image_baseline": "against", "image_tolerance": 0.01, "image_views": views}
    answer = nibt.explain(model, A, CAPTION, against_images=other, **options)
    cosines = [nibt.explain(model, each, CAPTION, "center").similarity for each in (A, other)]
    path = answer.image.path
    assert list(answer.sides) == ["image", "text"]
    assert path is not None
    assert float(path.at_input) == pytest.approx(cosines[0], abs=1e-5)
    assert float(path.at_baseline) == pytest.approx(cosines[1], abs=1e-5)
    change, bound = cosines[0] - cosines[1], 0.05 if kind == "colpali" else 0.011  # MaxSim has kinks
    assert float(answer.grid.sum() + path.special_tokens) == pytest.approx(change, abs=bound * max(abs(change), 0.01))
    back = nibt.explain(model, other, CAPTION, against_images=A, **options)
    bound = 0.05 * float(answer.grid.abs().max())  # other nodes, if the tolerance takes more of them
    torch.testing.assert_close(answer.grid, -back.grid, atol=bound, rtol=0)


def test_what_both_images_share_has_no_score_on_the_path_between_them() -> None:
    options = {"against_images": _changed(), "image_baseline": "against", "image_layer": 0, "image_views": 1}
    model = tiny.model("clip")
    grid = nibt.explain(model, A, CAPTION, **options).grid
    rows, columns = grid.shape
    assert grid[: rows // 2 - 1].abs().max() <= 1e-6 * grid.abs().max()  # a row less, since the image is resized
    assert grid[:, : columns // 2 - 1].abs().max() <= 1e-6 * grid.abs().max()
    batch = nibt.explain(model, [B, A], CAPTION, **options)
    torch.testing.assert_close(batch[1].grid, grid, atol=1e-5 * float(grid.abs().max()), rtol=0)


@pytest.mark.parametrize(
    "options",
    [{"image_baseline": "against"}, {"baseline": "against", "against_images": B}, {"text_baseline": "against"}],
)
def test_the_baseline_against_needs_an_image(options: dict) -> None:
    with pytest.raises(
        BadOption, match="the baseline against is the state of one other image, with the target difference"
    ):
        nibt.explain(tiny.model("clip"), A, CAPTION, **options)


def test_the_baseline_against_needs_images_of_one_size() -> None:
    with pytest.raises(BadOption, match="two images of one size"):
        nibt.explain(
            tiny.model("siglip naflex"), A, CAPTION, against_images=tiny.image(90, 30), image_baseline="against"
        )


def test_image_is_not_compared_with_itself() -> None:
    with pytest.raises(BadInput, match="compared with itself"):
        nibt.explain(tiny.model("clip"), A, CAPTION, against_images=A)


def test_a_caption_among_labels_counts_once() -> None:
    """A list of labels serves all images, also those that have one of them as their caption."""
    model, labels = tiny.model("clip"), ["a cat", "a dog", "A  red car"]
    captions = ["a cat", "a red car", "two hats"]
    images = tiny.IMAGES[:3]
    together = nibt.explain(model, images, captions, "gae", target="softmax", against=labels, against_images=images)
    for row, (image, caption, actual) in enumerate(zip(images, captions, together, strict=True)):
        others = [label for label in labels if label.lower().split() != caption.split()]
        other_images = [other for place, other in enumerate(images) if place != row]
        alone = nibt.explain(
            model, image, caption, "gae", target="softmax", against=others, against_images=other_images
        )
        torch.testing.assert_close(actual.grid, alone.grid, atol=1e-6, rtol=1e-4)
        scores = [[word.score for word in result.words] for result in (actual, alone)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_an_image_among_those_of_two_images_is_refused() -> None:
    with pytest.raises(BadInput, match="is compared with itself"):
        nibt.compare(tiny.model("clip"), A, B, "gae", target="softmax", against=[A, tiny.IMAGES[2]])
    with pytest.raises(BadInput, match="compared with itself alone"):
        nibt.explain(tiny.model("clip"), A, "a cat", target="softmax", against=["A cat", "a  cat"])


@pytest.mark.parametrize("against", [{"against_images": B}, {"against": OTHER}])
def test_third_side_is_kept_by_files(against: dict, tmp_path: Path) -> None:
    answer = nibt.explain(tiny.model("clip"), A, CAPTION, **against)
    for ending in ("json", "png", "html"):
        nibt.save(answer, tmp_path / f"x.{ending}")
    loaded = nibt.Explanation.load(tmp_path / "x.json")
    assert loaded.to_json() == answer.to_json()
    assert loaded.against.source in repr(loaded)
    assert "against_sum" in nibt.to_frame(loaded).columns


def test_ranking_of_images_explains_the_best_against_the_second() -> None:
    model, images = tiny.model("clip"), [tiny.image(seed=seed) for seed in range(4)]
    cosines = [nibt.rank(model, image, [CAPTION, OTHER]) for image in images]
    of_caption = [next(one.similarity for one in ranked if one.label == CAPTION) for ranked in cosines]
    ranked = nibt.rank(model, CAPTION, images)
    assert [one.similarity for one in ranked] == pytest.approx(sorted(of_caption, reverse=True), abs=1e-5)
    assert sum(one.probability for one in ranked) == pytest.approx(1, abs=1e-5)
    answer = nibt.explain_ranking(model, CAPTION, images)
    assert answer.ranking == tuple(ranked)
    assert (answer.source, answer.against.source) == (ranked[0].label, ranked[1].label)
    assert isinstance(answer.against, ImageAttribution)
    assert answer.target["value"] == pytest.approx(ranked[0].similarity - ranked[1].similarity, abs=1e-5)
    assert question(answer) == f"Why does {ranked[0].label} match \u201c{CAPTION}\u201d better than {ranked[1].label}?"


def test_images_in_memory_have_their_own_names() -> None:
    model, arrays = tiny.model("clip"), [np.array(image.pil_image) for image in tiny.IMAGES]
    ranked = nibt.rank(model, CAPTION, arrays)
    assert sorted(one.position for one in ranked) == [0, 1, 2, 3]
    assert [one.label for one in ranked] == [f"array {one.position}" for one in ranked]
    answer = nibt.explain_ranking(model, CAPTION, arrays)
    assert (answer.source, answer.against.source) == (ranked[0].label, ranked[1].label)


@pytest.mark.usefixtures("unchecked")  # an array is no Sequence
def test_a_batch_of_images_is_ranked_as_a_list_of_them() -> None:
    images = [np.array(tiny.image(seed=seed).pil_image) for seed in range(3)]
    model = tiny.model("clip")
    assert nibt.rank(model, CAPTION, np.stack(images)) == nibt.rank(model, CAPTION, images)


def test_ranking_refuses_what_it_cannot_rank() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="a list of at least two images"):
        nibt.rank(model, CAPTION, [A])
    with pytest.raises(BadInput, match="'noise 3' occurs twice"):
        nibt.explain_ranking(model, CAPTION, [A, B, A])
    with pytest.raises(BadInput, match="images must be a list"):
        nibt.rank(model, CAPTION, "sample:scene")
    with pytest.raises(BadOption, match="against_images cannot be set"):
        nibt.explain_ranking(model, CAPTION, [A, B], against_images=B)


@pytest.mark.parametrize("label", ["sample:coffee", "dog.jpg", "https://example.org/dog.png"])
def test_label_that_names_an_image_is_an_error(label: str) -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match=r"an image is ranked with labels .* a label of that name is a Caption"):
        nibt.rank(model, A, ["a cat", label])
    assert {ranked.label for ranked in nibt.rank(model, A, ["a cat", nibt.Caption(label)])} == {"a cat", label}
