"""Tests of ``nibt.engine.explanations``."""

from dataclasses import replace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import nibt
from nibt.data.images import ImageInput, read_image, sample_captions
from nibt.datasets.scenes import Scenes
from nibt.engine.encode import encode
from nibt.engine.explanations import CLEAR, MARGIN, NOISE_SHARE, WEAK_SHARE, usual_change
from nibt.engine.reactions import SPELLED
from nibt.models._text_tower import TextTower
from nibt.models.base import Model
from nibt.preprocessing.captions import NOUNS
from nibt.report.colors import DEFAULT
from nibt.report.html.view import fragment
from nibt.report.html.view_data import Panel
from nibt.results.explanation import MISMATCH, NEGLIGIBLE, NO_REACTION, WEAK
from nibt.results.notes import NO_MATCH, NOISE, WEAK_MATCH, Note, WithNotes, note_fields
from tests import tiny, tiny_vision_language
from tests.suites import few

KINDS = ("clip", "siglip", "siglip naflex", "convnext", "coca", "mt5")


def blank_image(model: Model, size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    """Return the embedding of an image of zeros, by the forward pass of the model."""
    inputs = model.image.prepare([tiny.image(*size)])
    return model.image.encode(replace(inputs, values=torch.zeros_like(inputs.values)))


def blank_caption(model: Model, caption: str) -> torch.Tensor:
    """Return the embedding of a caption whose words are all replaced by padding, by the forward pass of the model."""
    tower, inputs = model.text, model.text.prepare([caption])
    assert isinstance(tower, TextTower)
    assert inputs.words is not None
    with tower.blend_to_padding((~inputs.words.explained).float()):
        return tower.encode(inputs)


def expected(model: Model, image: ImageInput, caption: str) -> list[str]:
    """Return the blanks that the rule names."""
    image, text = model.image.encode(model.image.prepare([image])), model.text.encode(model.text.prepare([caption]))
    pairs = ((image, text), (image, blank_caption(model, caption)), (blank_image(model), text))
    pair, *blanks = [model.scale * float(F.cosine_similarity(*both)) for both in pairs]
    names = ("blank caption", "blank image")
    return [name for name, blank in zip(names, blanks, strict=True) if pair < blank - MARGIN]


def named(result: WithNotes) -> list[str]:
    return [name for name in ("blank caption", "blank image") if name in result.mismatch]


@pytest.mark.parametrize("kind", few(KINDS, ["clip", "convnext"]))
def test_mismatch_follows_its_rule_alone_and_in_batches(kind: str) -> None:
    model = replace(tiny.model(kind), scale=15.0)  # the scale of a tiny SigLIP is 1.0, at which cosines hardly differ
    images = [tiny.image(seed=seed) for seed in range(3) for _ in tiny.CAPTIONS]
    captions = list(tiny.CAPTIONS) * 3
    together = nibt.explain(model, images, captions, "center")
    for image, caption, answer in zip(images, captions, together, strict=True):
        assert named(answer) == expected(model, image, caption)
        assert named(nibt.explain(model, image, caption, "center")) == named(answer)
    assert {bool(answer.mismatch) for answer in together} == {True, False}


def test_mismatch_warning_comes_first_and_gives_the_similarity(scenes: Model) -> None:
    """The test above compares more than empty lists."""
    pair = Scenes(1, seed=3)[0]
    absent = next(noun for noun in ("drum", "snail", "bus") if noun not in {one.name for one in pair.objects})
    match = nibt.explain(scenes, pair.image, pair.caption, "center")
    no_match = nibt.explain(scenes, pair.image, f"a {absent}", "center")
    assert match.mismatch == ""
    assert no_match.warnings[0].startswith(MISMATCH)
    assert f"similarity {no_match.similarity:.3f}" in no_match.warnings[0]
    assert no_match.other_warnings == no_match.warnings[1:]


@pytest.mark.parametrize(
    ("target", "options"),
    few(
        [
            ("cosine", {}),
            ("logit", {}),
            ("difference", {"against": "a cat"}),
            ("softmax", {"against": ["a cat", "a dog"]}),
            ("ensemble", {}),
        ],
        [("logit", {}), ("difference", {"against": "a cat"})],
    ),
)
def test_mismatch_is_independent_of_method_and_target(target: str, options: dict[str, Any]) -> None:
    model = tiny.model("clip")
    wanted = expected(model, tiny.image(seed=1), "two cars")
    for method in ("nib", "grad_cam"):
        answer = nibt.explain(model, tiny.image(seed=1), "two cars", method, target, **options)
        assert named(answer) == wanted
    assert named(nibt.regions(model, tiny.image(seed=1), "two cars")) == wanted


@pytest.mark.parametrize("baseline", ["blank", "zero"])
def test_notes_on_a_blank_image_name_another_baseline_of_the_scores(baseline: str) -> None:
    """So that a positive change in the note does not contradict a negative one in the table, or the reverse."""
    model, seen = replace(tiny.model("clip"), scale=20.0, defaults={"usual_change": 0.9}), set()
    for caption in tiny.CAPTIONS:
        for answer in nibt.explain(model, tiny.IMAGES, caption, baseline=baseline):
            note = " ".join(line for line in answer.warnings if line.startswith((MISMATCH, WEAK)))
            path = answer.image.path
            assert path is not None
            named = note.endswith(f"; the scores of the image start from another baseline, {baseline}")
            assert named == ("blank image" in note and baseline != "blank")
            seen.add("blank image" in note)
    assert True in seen


def test_mismatch_is_not_reported_for_two_of_a_kind() -> None:
    model = tiny.model("clip")
    two = [nibt.compare(model, tiny.image(), tiny.image(seed=seed), "center") for seed in range(1, 5)]
    two += [nibt.compare(model, nibt.Caption("two cars"), caption, "center") for caption in tiny.CAPTIONS]
    assert [answer.mismatch for answer in two] == [""] * len(two)


def test_mismatch_is_recomputed_for_other_weights() -> None:
    model = tiny.fresh("clip")
    for _ in range(2):
        answers = [nibt.explain(model, tiny.image(), caption, "center") for caption in tiny.CAPTIONS]
        assert [named(one) for one in answers] == [expected(model, tiny.image(), caption) for caption in tiny.CAPTIONS]
        with torch.no_grad():
            for parameter in model.image.root.parameters():
                parameter.mul_(-1.3)


# Captions that the model does not react to

UNKNOWN = ("florbish grunkle", "\u043a\u043e\u0448\u043a\u0430", "qzx vbn", "\u732b")
KNOWN = ("a cat", "a camera on a tripod", "a red car", "dogs")


@pytest.mark.slow
def test_captions_that_the_model_does_not_react_to_are_named() -> None:
    """Random towers tell every caption from a blank one; ``lite`` only those with a word of its vocabulary."""
    known, unknown = (nibt.explain("lite", "sample:chelsea", list(captions), "center") for captions in (KNOWN, UNKNOWN))
    assert not [answer for answer in known if answer.mismatch.startswith(NO_REACTION)]
    for answer, caption in zip(unknown, UNKNOWN, strict=True):
        assert answer.mismatch.startswith(f"{NO_REACTION} (similarity {answer.similarity:.4f}; with a blank")
        assert all(repr(word) in str(answer.other_warnings) for word in caption.split())
    for kind in KINDS:
        answers = nibt.explain(tiny.model(kind), tiny.image(), list(tiny.CAPTIONS), "center")
        assert not [answer for answer in answers if answer.mismatch.startswith(NO_REACTION)]


@pytest.mark.slow
def test_only_words_with_unknown_tokens_are_called_unknown() -> None:
    (answer,) = nibt.explain("lite", "sample:chelsea", ["a florbish cat, florbish"], "center")
    assert "the model does not know 'florbish'" in answer.warnings


def test_words_that_a_tokenizer_spells_are_named() -> None:
    """Words of two letters a token or more are not: "tuba" is two tokens of CLIP's."""
    spelled, read = nibt.explain("scenes", "sample:scene", ["a zeppelin or cats", "a hamburger in red"], "center")
    assert "splits 'zeppelin', 'cats' into pieces of one or two letters" in str(spelled.warnings)
    in_bytes = nibt.explain("scenes", "sample:scene", "a cat \U0001f431 \u732b", "center")
    assert "splits '\U0001f431', '\u732b' into single bytes: the model has hardly learned these words" in str(
        in_bytes.warnings
    )
    assert "into pieces" not in str(read.warnings)
    tokenize = open_clip.get_tokenizer("ViT-B-32").encode
    assert not [noun for noun in NOUNS if 2 * len(tokenize(noun)) > len(noun) >= SPELLED]


@pytest.mark.slow
def test_a_map_of_noise_is_drawn_pale() -> None:
    """Also in pages, unless they show another answer, too."""
    noise, clear = nibt.explain("lite", "sample:chelsea", ["florbish", "a cat"], "center")
    saturation = [np.asarray(nibt.draw(answer).convert("HSV"))[200:500, 620:1150, 1].max() for answer in (noise, clear)]
    assert saturation[0] < 0.6 * saturation[1]
    for answers, look in (((noise,), DEFAULT.pale), ((clear,), DEFAULT), ((noise, clear), DEFAULT)):
        page = fragment([Panel(answer) for answer in answers], look=DEFAULT)
        assert f'"for":{list(look.palette.positive)}'.replace(" ", "") in page
    assert not DEFAULT.pale.outlined
    assert DEFAULT.palette.names == DEFAULT.pale.palette.names


# Scores far below those of a match


def mean_color(model: Model) -> ImageInput:
    """Return an image of the mean color, which is blank but for the rounding of its pixels."""
    mean = model.request.processor.image_processor.image_mean
    return ImageInput(Image.new("RGB", (64, 64), tuple(round(255 * value) for value in mean)), "mean")


@pytest.mark.parametrize("name", few(["lite", "scenes", "clip"], ["clip"]))
def test_usual_change_is_the_median_over_the_samples(name: str) -> None:
    """By the forward pass of the model; embedded models store it."""
    model = tiny.model(name) if name == "clip" else nibt.load_model(name)
    changes = []
    for sample, caption in sample_captions().items():
        image = model.image.encode(model.image.prepare([read_image(f"sample:{sample}")]))
        text = model.text.encode(model.text.prepare([caption]))
        changes.append(float(F.cosine_similarity(image, text) - F.cosine_similarity(blank_image(model), text)))
    assert usual_change(model) == pytest.approx(np.median(changes), abs=1e-4)
    assert ("usual_change" in model.defaults) == (name != "clip")


@pytest.mark.parametrize("target", ["cosine", "logit", "ensemble"])
def test_negligible_scores_are_noted_and_pale(target: str) -> None:
    """Also in a batch, where the note belongs to its pair only."""
    model = replace(tiny.model("clip"), defaults={"usual_change": 0.2})
    images = [mean_color(model), tiny.image(seed=1)]
    answers = nibt.explain(model, images, "two cars", target=target)
    unit = model.scale if target == "logit" else 1.0
    share = float(answers[0].image.scores.abs().sum()) / (unit * 0.2)
    assert share < NOISE_SHARE < float(answers[1].image.scores.abs().sum()) / (unit * 0.2)
    amount = f"{100 * share:.2g} % of what this model usually gives to a match"
    text = f"the absolute scores of the image side add up to {amount}"
    for answer in (answers[0], nibt.explain(model, images[0], "two cars", target=target)):
        assert f"{NEGLIGIBLE} {text}" in answer.warnings
        assert answer.is_noise("image")
    assert not answers[1].is_noise("image")


@pytest.mark.slow
@pytest.mark.parametrize("usual", [0.001, 0.2, 0.9])
def test_matches_far_below_the_usual_change_are_weak(usual: float) -> None:
    """The oracle has the change from a blank image by the forward pass of the model."""
    model, verdicts = replace(tiny.model("clip"), scale=20.0, defaults={"usual_change": usual}), set()
    for caption in tiny.CAPTIONS:
        image, text = (
            model.image.encode(model.image.prepare([tiny.image()])),
            model.text.encode(model.text.prepare([caption])),
        )
        change = float(F.cosine_similarity(image, text) - F.cosine_similarity(blank_image(model), text))
        lower = expected(model, tiny.image(), caption)
        is_weak = not lower and change < WEAK_SHARE * usual and 20 * change < CLEAR and 20 * usual >= 2 * MARGIN
        share = f"{100 * change / usual:.2g} % of what a match usually adds with this model"
        note = f"{WEAK} the similarity is {change:.3g} above that with a blank image, {share}"
        if change <= 0:
            note = f"{WEAK} the similarity is not above that with a blank image"
        assert (note in nibt.explain(model, tiny.image(), caption).warnings) == is_weak
        verdicts.add(is_weak)
    assert verdicts == {usual == 0.9} or verdicts == {True, False}


def test_scores_without_the_unit_of_the_score_are_not_judged() -> None:
    model = tiny.model("clip")
    assert not nibt.explain(model, mean_color(model), "two cars", "grad_cam").is_noise("image")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nib", "grad_cam"])
def test_a_difference_of_captions_that_the_model_hardly_distinguishes_is_noise(method: str) -> None:
    """Only the map of the image compares with the other caption: the words of the caption keep their colors."""
    lite = nibt.load_model("lite")
    captions = "a tabby cat", "the tabby cat", "a cup of coffee"
    first, near, far = F.normalize(encode(lite.text, captions).float(), dim=-1)
    assert (first - near).norm() < NOISE_SHARE * usual_change(lite) < (first - far).norm()
    clear = nibt.explain(lite, "sample:chelsea", captions[0], method, against=captions[2])
    noise = nibt.explain(lite, "sample:chelsea", captions[0], method, against=captions[1])
    assert not clear.is_noise("image")
    assert noise.is_noise("image")
    assert not noise.is_noise("text")
    assert "noise:image" in noise.codes
    assert "hardly distinguishes the two captions" in noise.mismatch


def test_noise_of_the_other_caption_is_not_said_of_the_map() -> None:
    answer = nibt.explain("lite", "sample:chelsea", "a cat", against="a dog")
    assert "noise:against" in answer.codes
    assert answer.gravest is None
    assert any(text.startswith("the scores of the other caption are noise: ") for text in answer.warnings)


def test_usual_change_is_measured_once_per_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = tiny.fresh("clip"), []
    monkeypatch.setattr(
        "nibt.engine.explanations.encode", lambda *arguments: calls.append(arguments) or encode(*arguments)
    )
    before = set(vars(model.module))
    for _ in range(2):
        nibt.explain(model, mean_color(model), "two cars")
    assert len(calls) == 2, "the images and the captions of the package"
    assert set(vars(model.module)) == before


@pytest.mark.parametrize("kind", few(KINDS, ("siglip",)))
def test_scores_of_matches_are_not_negligible(kind: str) -> None:
    answers = nibt.explain(tiny.model(kind), tiny.IMAGES, list(tiny.CAPTIONS), "occlusion")
    assert not [answer for answer in answers if answer.is_noise("image")]


@pytest.mark.slow
def test_no_scene_with_its_caption_is_noise() -> None:
    pairs = list(Scenes(60, seed=21))
    answers = nibt.explain("scenes", [pair.image for pair in pairs], [pair.caption for pair in pairs])
    assert not [answer for answer in answers if answer.is_noise("image")]


def test_late_interaction_is_judged_with_its_similarity() -> None:
    model = tiny_vision_language.model("colpali")
    answer = nibt.explain(model, tiny.image(seed=1), "two cars", "occlusion")
    assert not answer.is_noise("image")


def test_the_gravest_note_stands_above_the_map(scenes: Model) -> None:
    explanation = nibt.explain(scenes, "sample:scene", "a cat", "center")
    weak, noise, no_match = Note(WEAK_MATCH, "a"), Note(NOISE, "b", "image"), Note(NO_MATCH, "c")
    noted = replace(explanation, **note_fields([weak, "other", noise]))
    assert noted.gravest == noise
    assert noted.other_warnings == ("a", "other")
    assert noted.codes == ("weak_match", "note", "noise:image")
    assert noted.notes == (weak, Note("note", "other"), noise)
    assert replace(explanation, **note_fields([noise, no_match])).mismatch == "c"
    assert replace(explanation, **note_fields(["other"])).gravest is None
    assert noted.is_noise("image")
    assert not noted.is_noise("text")
    assert not noted.is_noise()
    read = nibt.Explanation.from_json(noted.to_json())
    assert read.notes == noted.notes
