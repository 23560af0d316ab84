"""How metrics hide, the published protocol, infidelity and sensitivity, and scores beside the explained one."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from scipy.ndimage import gaussian_filter

import linear
import nibt
import tiny
from helpers import Golden, both_sides, count_hooks, make_side, stretch
from nibt.core.perturbation import backdrop, item_rng, masker, perturbed
from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.pair import Pair
from nibt.data.units import Words
from nibt.errors import BadInput, BadOption, UnknownName, Unsupported
from nibt.methods.nib import NIB
from nibt.methods.occlusion import Occlusion
from nibt.methods.ones import Ones
from nibt.metrics._confidence import of_all_rows
from nibt.metrics.base import MetricInput
from nibt.metrics.confidence_drop import ConfidenceDrop
from nibt.metrics.confidence_increase import ConfidenceIncrease
from nibt.metrics.deletion import Deletion
from nibt.metrics.infidelity import Infidelity
from nibt.metrics.insertion import Insertion
from nibt.metrics.max_sensitivity import MaxSensitivity
from nibt.models.base import Model
from nibt.results.attribution import Attribution

TEXTS = ("clip", "siglip", "own vit", "own text both ways", "coca", "bert", "roberta", "mt5", "m2m", "clip adapted")


def pairs(count: int = 3) -> list[Pair]:
    return [Pair(tiny.image(seed=seed), caption) for seed, caption in enumerate(tiny.CAPTIONS[:count])]


def values(model: Model, given: list[Pair], metric: Any, **options: Any) -> list[float]:
    return [row.value for row in nibt.measure(model, given, [metric], **options)]


def trial(of: Side, method: Any) -> MetricInput:
    return MetricInput(of, method(of), again=method)


# -------------------------------------------------------------------------------------------------- ways to hide


@pytest.mark.parametrize("kind", ["clip", "siglip naflex", "convnext"])
@pytest.mark.parametrize("hide", ["mean", "blur", "noise"])
def test_what_is_kept_is_the_picture_and_what_is_not_is_the_backdrop(kind: str, hide: str) -> None:
    of = make_side(tiny.model(kind), "image")
    if (kind, hide) == ("siglip naflex", "blur"):
        with pytest.raises(Unsupported, match=r"given patches.*mean or noise"):
            backdrop(of, hide)
        return
    behind, everything = backdrop(of, hide, 3), torch.ones(2, of.units.count)  # pyright: ignore
    values = torch.zeros_like(of.inputs.values) if behind is None else behind
    if kind == "siglip naflex":  # padding stays what it is
        values = values * of.inputs.extra["pixel_attention_mask"][..., None]
    hidden = of.score(of.tower.encode(replace(of.inputs, values=values)))
    for smooth in (False, True):
        score = masker(of, of.units, smooth, hide, 3)
        torch.testing.assert_close(score(everything), of.value(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(score(0 * everything), hidden, atol=1e-5, rtol=1e-5)
    half = (torch.arange(of.units.count) % 2).expand(3, 2, -1).float()  # pyright: ignore
    for found in masker(of, of.units, False, hide, 3)(half):
        torch.testing.assert_close(found, masker(of, of.units, False, hide, 3)(half[0]), atol=1e-5, rtol=1e-5)


def test_the_mean_colour_is_what_it_was() -> None:
    """To the bit: pixels are scaled, nothing is added."""
    of, keep = make_side(tiny.model("clip"), "image"), torch.rand(2, 16, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(keep.reshape(1, 2, 4, 4), (32, 32), mode="bilinear")[0]
    by_hand = of.score(of.tower.encode(replace(of.inputs, values=of.inputs.values * pixels[:, None])))
    assert torch.equal(masker(of, of.units, smooth=True)(keep), by_hand)


def test_blur_is_scipys() -> None:
    of = make_side(tiny.model("clip"), "image")
    sigma = 32 * 10 / 224
    expected = gaussian_filter(of.inputs.values, sigma, mode="mirror", axes=(2, 3), radius=int(np.ceil(3 * sigma)))
    np.testing.assert_allclose(backdrop(of, "blur"), expected, atol=1e-5)


def test_noise_is_an_items_own() -> None:
    of = make_side(tiny.model("clip"), "image")
    noise = backdrop(of, "noise", 1)
    assert noise is not None
    alone = replace(of, trace=of.tower.trace(of.inputs.item(1)))
    assert torch.equal(noise[1], backdrop(alone, "noise", 1)[0])  # pyright: ignore
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, backdrop(of, "noise", 2))  # pyright: ignore
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("metric", [ConfidenceDrop, ConfidenceIncrease, Deletion, Insertion, Infidelity])
def test_hiding_is_an_option_and_does_not_depend_on_the_batch(metric: Any) -> None:
    model, given = tiny.model("clip"), pairs()
    few = {"masks": 8} if metric is Infidelity else {}
    plain, noisy = (values(model, given, metric(hide=hide, **few), steps=2) for hide in ("mean", "noise"))
    alone = values(model, given, metric(hide="noise", **few), steps=2, batch_size=1)
    np.testing.assert_allclose(noisy, alone, atol=1e-3, rtol=1e-3)
    assert plain[1::2] == noisy[1::2], "words fade as ever"
    if metric is not ConfidenceIncrease:
        assert plain[::2] != noisy[::2]
    with pytest.raises(BadOption, match="hide must be one of mean, blur, noise"):
        metric(hide="grey")
    with pytest.raises(BadOption, match="seed"):
        metric(seed=-1)


# ------------------------------------------------------------------------------------------- the published protocol


def authors(model: Model, image: ImageInput, caption: str, rows: np.ndarray) -> tuple[float, float]:
    """The score of a caption and of what is kept of it, as the authors' code takes them: in a copy of the model whose
    table is edited, for ``rows``, the token scores in [0, 1] with start and end.
    """
    ids = model.text.prepare([caption]).values[:, 1:-1]
    edited = copy.deepcopy(model.module)
    with torch.no_grad():
        weight = edited.text_model.embeddings.token_embedding.weight
        for token, keep in zip(ids[0].tolist(), rows[1:-1].tolist(), strict=True):
            weight[token] = weight[token] * keep
        image = model.image.encode(model.image.prepare([image]))
        before, after = (
            torch.cosine_similarity(image, one.get_text_features(ids).pooler_output).item()
            for one in (model.module, edited)
        )
    return before, after


@pytest.mark.parametrize("case", [0, 1])
def test_the_paper_protocol_reads_the_authors_maps(golden: Golden, case: int) -> None:
    """The maps that the metric hides by are the golden ones, and the numbers those of an edited copy."""
    model = golden.model
    pair = Pair(nibt.data.images.read_image(golden.images[case]), golden.captions[case])
    image, text = (
        tower.trace(tower.prepare([item])) for tower, item in ((model.image, pair.image), (model.text, pair.caption))
    )
    method, metric = NIB((9,), "zero", "riemann", 10), ConfidenceDrop(protocol="paper")
    of = trial(Side(model, text, lambda here: torch.cosine_similarity(here, image.embedding, dim=-1)), method)
    rows = golden.outputs[f"nib_s10_l9_t_{case}"].ravel()
    np.testing.assert_allclose(stretch(of_all_rows(of)[0]), rows, atol=1e-4)
    captions = torch.cat(metric.scores(of)).tolist()
    assert captions == pytest.approx(authors(model, pair.image, pair.caption, rows), abs=1e-4)
    of = trial(Side(model, image, lambda here: torch.cosine_similarity(here, text.embedding, dim=-1)), method)
    keep = torch.from_numpy(stretch(nibt.results.attribution.to_pixels(of.attribution.grid, 224, 224)[0]))
    np.testing.assert_allclose(keep[::8, ::8], golden.outputs[f"nib_s10_l9_v_{case}"], atol=1e-4)
    seen = of.side.score(model.image.encode(replace(image.inputs, values=image.inputs.values * keep)))
    images = torch.cat(metric.scores(of)).tolist()
    assert images == pytest.approx([of.side.value().item(), seen.item()], abs=1e-6)
    for kind, number in (
        (ConfidenceDrop, lambda whole, kept: 100 * max(0.0, whole - kept)),
        (ConfidenceIncrease, lambda whole, kept: 100.0 * (kept > whole)),
    ):
        found = values(model, [pair], kind(protocol="paper"), variant="paper", layer=9)
        assert found == pytest.approx([number(*images), number(*captions)], abs=1e-3)


@pytest.mark.parametrize("kind", ["clip", "clip legacy end"])
def test_a_repeated_word_is_scaled_by_the_product_of_its_scores(kind: str) -> None:
    model, image = tiny.model(kind), tiny.image()
    captions = ["cat dog cat cat", "a red cat on the red mat", "dog"]
    before = model.weights_hash, count_hooks(model.module)
    metrics = [ConfidenceDrop(protocol="paper"), ConfidenceIncrease(protocol="paper")]
    found = nibt.measure(
        model, [Pair(image, caption) for caption in captions], metrics, variant="paper", only="text", layer=2
    )
    for place, caption in enumerate(captions):
        text, there = model.text.prepare([caption]), model.image.encode(model.image.prepare([image]))
        of = Side(model, model.text.trace(text), lambda here, there=there: torch.cosine_similarity(here, there, dim=-1))
        asked = trial(of, NIB((2,), "zero", "riemann", 10))
        rows = of_all_rows(asked)[0]
        assert rows[0] != 0, "the start token has its score"
        whole, kept = authors(model, image, caption, stretch(rows))
        assert torch.cat(metrics[0].scores(asked)).tolist() == pytest.approx([whole, kept], abs=1e-5)
        drop, rise = (row.value for row in found if row.item == place)
        assert drop == pytest.approx(100 * max(0.0, whole - kept), abs=1e-3)
        assert rise == 100 * (kept > whole)
    assert (model.weights_hash, count_hooks(model.module)) == before


def test_the_paper_protocol_of_pictures_stretches_the_pixels() -> None:
    of = make_side(tiny.model("clip"), "image")
    scores = torch.randn(2, 16, generator=torch.Generator().manual_seed(4))
    scores[1] = 3.0  # a flat map keeps nothing
    found = ConfidenceDrop(protocol="paper")(MetricInput(of, Attribution(scores, of.units, torch.zeros(2))))
    pixels = torch.nn.functional.interpolate(scores.reshape(2, 1, 4, 4), (32, 32), mode="bilinear")
    keep = torch.stack([torch.from_numpy(stretch(pixels[0])), torch.zeros(1, 32, 32)])
    seen = of.score(of.tower.encode(replace(of.inputs, values=of.inputs.values * keep)))
    torch.testing.assert_close(found, 100 * (of.value() - seen).clamp_min(0), atol=1e-3, rtol=1e-4)


def test_the_paper_protocol_is_refused_where_it_has_no_meaning() -> None:
    for kind in ("siglip", "own vit", "bert"):
        with pytest.raises(Unsupported, match="protocol='correct'"):
            values(tiny.model(kind), pairs(1), ConfidenceDrop(protocol="paper"), only="text")
        assert np.isfinite(values(tiny.model(kind), pairs(1), ConfidenceDrop(protocol="paper"), only="image"))
    of = make_side(tiny.model("clip"), "text")
    with pytest.raises(Unsupported, match=r"nibt\.measure"):
        ConfidenceDrop(protocol="paper")(MetricInput(of, Ones()(of)))
    with pytest.raises(BadOption, match="leave hide out"):
        ConfidenceDrop(protocol="paper", hide="blur")
    with pytest.raises(BadOption, match="correct or paper"):
        ConfidenceDrop(protocol="published")


# -------------------------------------------------------------------------------------------------------- infidelity


def exact(of: Side) -> Attribution:
    return Attribution(linear.parts(of), of.units, torch.zeros(len(of.inputs)))


@linear.both_sides
def test_infidelity_of_the_exact_parts_of_a_linear_score_is_zero(of: Side) -> None:
    scores = exact(of)
    assert Infidelity()(MetricInput(of, scores)).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert Infidelity(scaled=True)(
        MetricInput(of, replace(scores, scores=7 * scores.scores))
    ).tolist() == pytest.approx([0, 0], abs=1e-6)
    metric = Infidelity(masks=20, seed=3)
    wrong = replace(scores, scores=of.units.keep(scores.scores + 0.5))
    hidden = metric.hidden(MetricInput(of, wrong))
    by_hand = (0.5 * hidden.sum(-1)).square().mean(0)  # each hidden unit tells half too much
    torch.testing.assert_close(metric(MetricInput(of, wrong)), by_hand, atol=1e-4, rtol=1e-4)


def ordered(of: Side, metric: Any) -> tuple[torch.Tensor, ...]:
    """The metric of the exact map, of an even one of the same sum, and of the exact one turned round, of a linear
    score above zero.
    """
    sign = of.value().sign()
    up = replace(of, score=lambda here: sign * of.score(here))
    best = replace(exact(of), scores=sign[:, None] * exact(of).scores)
    explained = of.units.explained if isinstance(of.units, Words) else torch.ones_like(best.scores, dtype=torch.bool)
    mean = best.scores.sum(-1, keepdim=True) / explained.sum(-1, keepdim=True)
    maps = best.scores, mean * explained, (2 * mean - best.scores) * explained
    return tuple(metric(MetricInput(up, replace(best, scores=scores))) for scores in maps)


long_sides = pytest.mark.parametrize(
    "of", [linear.image_side(), linear.text_side(((3, 1, 4, 1, 5), (2, 6, 7, 3)))], ids=["image", "text"]
)


@long_sides
@pytest.mark.parametrize(("metric", "sign"), [(Deletion(), 1), (Insertion(), -1), (Infidelity(), 1)])
def test_a_perfect_map_is_best_and_a_reversed_one_worst(of: Side, metric: Any, sign: int) -> None:
    best, even, worst = (sign * found for found in ordered(of, metric))
    assert (best < even).all()
    assert (even < worst).all()


@long_sides
def test_a_perfect_map_drops_least(of: Side) -> None:
    """An even map is read as one that keeps nothing, so it drops all there is."""
    best, even, worst = ordered(of, ConfidenceDrop())
    torch.testing.assert_close(even, 100 * (of.value().abs() - nothing(of)).clamp_min(0), rtol=1e-4, atol=1e-3)
    assert (best < even).all()
    assert (best < worst).all()


def nothing(of: Side) -> torch.Tensor:
    """What the start of a caption gives to a linear score above zero."""
    return (of.value() - exact(of).scores.sum(-1)) * of.value().sign()


@both_sides
def test_infidelity_is_captums(modality: str) -> None:
    whole = make_side(tiny.model("clip"), modality)
    of = replace(
        whole,
        trace=whole.trace.take([0]),
        score=lambda here: whole.score(here.expand(*here.shape[:-2], 2, -1))[..., :1],
    )
    answer, metric = Occlusion()(of), Infidelity(masks=12, seed=5)
    if modality == "text":  # what words take away together is against what they take away one by one in this net
        answer = replace(answer, scores=-answer.scores)
    hidden, score = metric.hidden(MetricInput(of, answer))[:, 0].float(), masker(of, of.units)

    def perturbed(keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hidden, keep - hidden

    def forward(keep: torch.Tensor) -> torch.Tensor:
        return score(keep[:, None])[:, 0]

    for scaled in (False, True):
        theirs = infidelity(
            forward,
            perturbed,
            torch.ones_like(answer.scores),
            answer.scores,
            n_perturb_samples=12,
            max_examples_per_batch=12,
            normalize=scaled,
        )
        torch.testing.assert_close(
            replace(metric, scaled=scaled)(MetricInput(of, answer)), theirs, atol=1e-7, rtol=1e-4
        )
    turned = MetricInput(of, replace(answer, scores=-answer.scores))  # no factor below 0 may mend it
    taken = of.value() - score((1 - hidden)[:, None])
    torch.testing.assert_close(Infidelity(masks=12, seed=5, scaled=True)(turned), taken.square().mean(0))


# --------------------------------------------------------------------------------------------------- max-sensitivity


def test_max_sensitivity_is_captums() -> None:
    of, method = make_side(tiny.model("clip"), "image"), NIB((1,), "zero", "gauss", 2)
    metric = MaxSensitivity(samples=3, radius=0.1, seed=2)
    noise = [
        torch.stack(
            [
                torch.from_numpy(
                    item_rng(of.inputs, item, 2, 2, sample).uniform(-1, 1, of.inputs.values.shape[1:])
                ).float()
                for sample in range(3)
            ]
        )
        for item in range(2)
    ]

    def explain(pixels: Any) -> tuple[torch.Tensor]:
        pixels, found = pixels[0] if isinstance(pixels, tuple) else pixels, []  # item by item, as captum repeats them
        for place, one in enumerate(pixels):
            item = place // (len(pixels) // 2)
            inputs = replace(of.inputs.item(item), values=one[None])
            score = lambda here, item=item: of.score(here.expand(*here.shape[:-2], 2, -1))[..., item : item + 1]  # noqa: E731
            with torch.enable_grad():
                found.append(method(Side(of.model, of.tower.trace(inputs), score)).scores)
        return (torch.cat(found),)

    theirs = sensitivity_max(
        explain, of.inputs.values, lambda x, _: x + 0.1 * torch.cat(noise), 0.1, 3, max_examples_per_batch=6
    )
    torch.testing.assert_close(metric(trial(of, method)), theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", TEXTS)
def test_captions_are_shaken_in_the_embeddings_of_their_words(kind: str) -> None:
    of = make_side(tiny.model(kind), "text")
    words, plain, blank = of.inputs.words, of.stem().hidden, of.tower.blank(of.inputs, None)
    assert words is not None
    before = count_hooks(of.model.module)
    with perturbed(of, 0.1, 0, 0) as other:
        moved, explained = other.stem().hidden - plain, words.explained[:, : plain.shape[1]]
        assert (moved[~explained] == 0).all()
        assert (moved[explained] != 0).any(-1).all()
        size = torch.stack([row[rows].square().mean().sqrt() for row, rows in zip(plain, explained, strict=True)])
        assert (moved.abs().amax((1, 2)) <= 0.1 * size + 1e-5).all()
        assert torch.equal(other.tower.blank(other.inputs, None), blank)
        assert not torch.allclose(other.value(), of.value(), atol=1e-6)
        put = other.score(other.stem().rest(other.stem().hidden[None]))[0]
        torch.testing.assert_close(put, other.value(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            masker(other, other.units)(torch.ones(explained.shape)), other.value(), atol=1e-4, rtol=1e-4
        )
    assert count_hooks(of.model.module) == before
    torch.testing.assert_close(of.tower.encode(of.inputs), of.trace.embedding)
    with pytest.raises(RuntimeError, match="stop"), perturbed(of, 0.1, 0, 0):
        raise RuntimeError("stop")
    assert count_hooks(of.model.module) == before


@both_sides
def test_max_sensitivity_does_not_depend_on_the_batch_and_ones_have_none(modality: Any) -> None:
    model, metric = tiny.model("siglip naflex"), MaxSensitivity(samples=2)
    together, alone = (
        values(model, pairs(2), metric, only=modality, method="occlusion", batch_size=size) for size in (2, 1)
    )
    np.testing.assert_allclose(together, alone, atol=1e-4, rtol=2e-3)
    assert min(together) > 0
    assert values(model, pairs(2), metric, only=modality, method="ones") == [0, 0]
    larger = values(model, pairs(2), replace(metric, radius=0.2), only=modality, method="occlusion")
    assert (np.array(larger) > np.array(together)).all()


def test_max_sensitivity_needs_a_method_to_ask() -> None:
    of = make_side(tiny.model("clip"), "image")
    assert MaxSensitivity()(MetricInput(of, Ones()(of))).isnan().all()
    with pytest.raises(BadOption, match="samples must be at least 1"):
        MaxSensitivity(samples=0)
    with pytest.raises(BadOption, match="masks must be at least 1"):
        Infidelity(masks=0)


# ------------------------------------------------------------------------------- a score beside the explained one


def by_hand(model: Model, given: list[Pair], number: Callable[[torch.Tensor, int], float]) -> list[float]:
    """100 max(0, S - S of the blank image), since the map of ones keeps nothing."""
    found = []
    for place, pair in enumerate(given):
        inputs = model.image.prepare([pair.image])
        seen, nothing = (model.image.encode(replace(inputs, values=inputs.values * keep))[0] for keep in (1, 0))
        found.append(100 * max(0.0, number(seen, place) - number(nothing, place)))
    return found


def test_a_measured_softmax_is_over_the_other_captions_of_the_call() -> None:
    model = tiny.model("clip")
    given = [*pairs(3), Pair(tiny.image(seed=9), tiny.CAPTIONS[0])]  # one caption comes again
    texts = torch.nn.functional.normalize(model.text.encode(model.text.prepare(tiny.CAPTIONS[:3])), dim=-1)

    def number(image: torch.Tensor, place: int) -> float:
        cosines = texts @ torch.nn.functional.normalize(image, dim=-1)
        return float((model.scale * cosines).softmax(-1)[place % 3])

    ones = {"method": "ones", "only": "image", "measured": "softmax"}
    for size in (1, 3, 16):
        assert values(model, given, ConfidenceDrop(), batch_size=size, **ones) == pytest.approx(
            by_hand(model, given, number), abs=1e-3
        )


@both_sides
def test_the_map_explains_the_target_whatever_is_measured(modality: Any) -> None:
    model, given = tiny.model("clip"), pairs(2)
    same = {"only": modality, "steps": 2}
    asked = MaxSensitivity(samples=1)  # it asks again, and for the same
    assert values(model, given, asked, measured="softmax", **same) == values(model, given, asked, **same)
    for metric in (ConfidenceDrop(), Deletion(), Insertion(), Infidelity(masks=4), "special_share", "completeness_gap"):
        plain = values(model, given, metric, **same)
        np.testing.assert_allclose(values(model, given, metric, measured="cosine", **same), plain, atol=1e-5, rtol=1e-5)
        logit = values(model, given, metric, measured="logit", **same)
        if isinstance(metric, str):
            assert logit == plain, "they are of the map"
        elif isinstance(metric, ConfidenceDrop):
            np.testing.assert_allclose(logit, model.scale * np.array(plain), atol=1e-3, rtol=1e-3)


def test_what_is_given_in_against_is_measured_as_it_is_explained() -> None:
    model, given, against = tiny.model("clip"), pairs(2), ["two cars", "a bird", "a dog"]
    for metric in (ConfidenceDrop(), Deletion()):
        one = values(model, given, metric, target="softmax", against=against, only="image", steps=2)
        two = values(model, given, metric, target="softmax", against=against, measured="softmax", only="image", steps=2)
        np.testing.assert_allclose(one, two, atol=1e-4, rtol=1e-4)
    values(model, given, ConfidenceDrop(), measured="difference", against="a dog", only="image")
    values(model, given, ConfidenceDrop(), measured="difference")  # of two pairs each is the other's other


def test_a_measured_score_that_cannot_be_had_is_refused() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="other captions, and the call has none"):
        values(model, pairs(1), ConfidenceDrop(), measured="softmax")
    with pytest.raises(BadOption, match="one other, and the image side has 2 captions"):
        values(model, pairs(3), ConfidenceDrop(), measured="difference")
    with pytest.raises(BadOption, match="ensemble rewords"):
        values(model, pairs(2), ConfidenceDrop(), measured="ensemble")
    with pytest.raises(BadOption, match="compares with nothing"):
        values(model, pairs(2), ConfidenceDrop(), measured="logit", against="a dog")
    with pytest.raises(UnknownName):
        values(model, pairs(2), ConfidenceDrop(), measured="beauty")


def test_a_metric_may_be_asked_for_twice_with_other_options() -> None:
    rows = nibt.measure(tiny.model("clip"), pairs(1), [Deletion(levels=2), Deletion(levels=5)], only="image")
    assert [row.metric for row in rows] == ["deletion", "deletion"]
    assert rows[0].value != rows[1].value
