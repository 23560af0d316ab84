"""Tests of ``nibt.evaluation.audit.evidence``, on maps that are known by construction."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import nibt
from nibt.data.images import ImageInput
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.data.typography import text_mask
from nibt.evaluation.audit.checks import LEAST_PAIRS
from nibt.evaluation.audit.evidence import LEAST_IMAGES, SIDE_OF, Evidence, corner_cells, fixed_place, in_corners
from nibt.evaluation.audit.exchange import Exchange
from nibt.evaluation.audit.runner import AuditRunner
from nibt.evaluation.maps import Map
from nibt.registry import MethodSpec
from nibt.report.html.audit import page
from nibt.results.audit import Audit, Check
from nibt.results.audit_questions import QUESTIONNAIRES
from nibt.types import Modality
from tests import tiny
from tests.helpers import check_page, noise_pairs

pytest.importorskip("scipy", reason="an audit has intervals")

CAPTION, NAME, MANY, SIDE = "a red cat", (6, 9), 40, 8
IMAGE = tiny.image(64, 64)
WORDS = ("a", "red", "cat")
CHECKS = QUESTIONNAIRES["pairs"].checks
CORNER, CENTER = np.s_[0, 0], np.s_[3:5, 3:5]


def mirrored(scores: np.ndarray, number: int) -> np.ndarray:
    """Return one of the four mirror images of a map."""
    return scores[:: 1 - 2 * (number % 2), :: 1 - 2 * (number // 2 % 2)]


def grid(place: object = ..., side: int = SIDE) -> np.ndarray:
    """Return a map that is 1 at a place, and -1 elsewhere."""
    scores = -np.ones((side, side))
    scores[place] = 1.0  # pyright: ignore
    return scores


def pair(place: object = CENTER, **changes: object) -> Pair:
    """Return a pair whose named object covers the cells of a place."""
    mask = np.kron(grid(place) > 0, np.ones((64 // SIDE, 64 // SIDE))) > 0
    return replace(Pair(IMAGE, CAPTION, (Object("cat", None, mask, (NAME,)),)), **changes)  # pyright: ignore


def checks(grids: list[np.ndarray], words: tuple[float, ...] = (-1, -1, 1), **changes: object) -> dict[str, Check]:
    """Return the checks of pairs with these maps, by name; changes are of all pairs, or a list for each."""
    model = tiny.model("clip")
    region = model.image.prepare([IMAGE]).regions[0]
    of_each = [
        {name: value[item] if isinstance(value, list) else value for name, value in changes.items()}
        for item in range(len(grids))
    ]
    texts = [Map(np.array(words, float), WORDS) for _ in grids]
    pairs = [pair(**each) for each in of_each]  # pyright: ignore
    detected = Evidence.of(model, pairs, [Map(one, region=region) for one in grids], texts).checks("nib")
    return {check.name: check for check in detected if check.question == 9}


@pytest.mark.parametrize(
    ("place", "inside", "border", "fixed"),
    [
        pytest.param(CENTER, 1, 0, 1, id="on the object, in the center"),
        pytest.param(..., 0, 1, 1, id="everywhere"),
        pytest.param(CORNER, -4 / 60, 64 / 28, 4, id="in a corner"),
        pytest.param(np.s_[0], -4 / 60, 64 / 28, 2, id="along the upper border"),
        pytest.param(np.s_[[0, 0, -1, -1], [0, -1, 0, -1]], -4 / 60, 64 / 28, 1, id="in all corners"),
    ],
)
def test_the_same_place_in_all_images(place: object, inside: float, border: float, fixed: float) -> None:
    actual = checks([grid(place)] * MANY)
    values = [actual[name].value for name in ("inside", "border", "fixed_place")]
    assert values == pytest.approx([inside, border, fixed])
    assert [actual[name].count for name in ("inside", "border", "fixed_place")] == [MANY] * 3


def test_places_at_random_are_not_the_same() -> None:
    draws = np.random.default_rng(0)
    check = checks([draws.normal(size=(SIDE, SIDE)) ** 3 for _ in range(64)])["fixed_place"]
    assert check.low < 1 < check.high < 1.2
    assert check.verdict == "pass"


@pytest.mark.parametrize("by", ["caption", "label"])
@pytest.mark.parametrize("images", [LEAST_IMAGES, LEAST_IMAGES - 1])
def test_each_label_has_a_place_if_it_has_enough_images(by: str, images: int) -> None:
    """With fewer, all images are compared, and a fourth is in each corner."""
    numbers = [number for number in range(4) for _ in range(images)]
    grids = [mirrored(grid(CORNER), number) for number in numbers]
    labels: dict[str, object] = {"labels": ("a", "b", "c", "d"), "label": numbers}
    captions: dict[str, object] = {"caption": [f"{CAPTION} {'abcd'[number]}" for number in numbers], "objects": ()}
    check = checks(grids, **(labels if by == "label" else captions))["fixed_place"]
    others = 4 * images - 1
    assert check.value == pytest.approx(4 if images == LEAST_IMAGES else (images - 1) / (others / 4))


def test_maps_of_other_sizes_are_compared_with_their_own() -> None:
    check = checks([grid(CORNER)] * 5 + [grid(CORNER, side=6)] * 5 + [grid(CENTER, side=7)])["fixed_place"]
    assert check.value == pytest.approx(4)


@pytest.mark.parametrize(
    ("words", "objects", "absent", "expected"),
    [
        pytest.param((-1, -1, 1), True, (), 0, id="the noun"),
        pytest.param((1, 2, 1), True, (), 3 / 4, id="the words before it"),
        pytest.param((0, 0, 1), False, (NAME,), 0, id="the noun of an absent object"),
        pytest.param((1, 2, 1), False, (), 1 / 4, id="function words, if no noun is known"),
    ],
)
def test_words(words: tuple[float, ...], objects: bool, absent: tuple[tuple[int, int], ...], expected: float) -> None:
    changes: dict[str, object] = {} if objects else {"objects": ()}
    actual = checks([grid(CENTER)] * MANY, words, absent=absent, **changes)
    assert actual["words"].value == pytest.approx(expected)
    assert ("inside" in actual) == objects


def test_words_of_an_object_that_the_whole_caption_names_are_function_words() -> None:
    """As those of a folder with one mask of each pair."""
    whole = Object("", None, np.ones((64, 64), bool), ((0, len(CAPTION)),))
    actual = checks([grid(CENTER)] * MANY, (1, 2, 1), objects=(whole,))
    assert actual["words"].value == pytest.approx(1 / 4)


def test_pairs_without_a_positive_score_are_left_out() -> None:
    negative = -np.ones((SIDE, SIDE))
    actual = checks([grid(CENTER), negative] * MANY)
    assert [actual[name].count for name in ("inside", "border", "fixed_place")] == [MANY] * 3
    assert actual["inside"].value == 1
    assert checks([negative] * MANY, (-1, 0, -1)) == {}


def test_pairs_are_sorted_by_what_is_inside() -> None:
    model = tiny.model("clip")
    places = [CENTER, ..., CORNER, np.s_[3:4, 3:5]]
    pairs = [pair() for _ in places] + [pair(objects=())]
    region = model.image.prepare([IMAGE]).regions[0]
    images = [Map(grid(place), region=region) for place in (*places, CORNER)]
    evidence = Evidence.of(model, pairs, images, [Map(np.ones(3), WORDS) for _ in images])
    assert evidence.worst("inside") == [2, 1, 0, 3, 4]


LETTERED = ImageInput(Image.new("RGB", (64, 64), "white"), "lettered")
ImageDraw.Draw(LETTERED.pil_image).text((4, 40), "EXIT", "black", ImageFont.load_default(20))
TEXT = text_mask(LETTERED.pil_image).reshape(SIDE, 64 // SIDE, SIDE, 64 // SIDE).mean((1, 3))
"""The share of each cell that is text."""


@pytest.mark.parametrize(
    ("place", "share"),
    [
        pytest.param(..., TEXT.mean(), id="everywhere"),
        pytest.param(CORNER, 0, id="beside the text"),
        pytest.param(TEXT == TEXT.max(), TEXT.max(), id="on the text"),
    ],
)
def test_score_on_text_is_relative_to_its_area(place: object, share: float) -> None:
    check = checks([grid(place)] * MANY, image=LETTERED)["typography"]
    assert 0.1 < TEXT.mean() < 0.5
    assert check.value == pytest.approx((share - TEXT.mean()) / (1 - TEXT.mean()))
    assert check.count == MANY
    assert check.verdict == ("cannot tell" if share > 0.5 else "pass")


def test_text_on_a_named_object_is_not_counted() -> None:
    whole = Object("sign", None, np.ones((64, 64), bool), (NAME,))
    assert "typography" not in checks([grid(CORNER)] * MANY, image=LETTERED, objects=(whole,))


def test_few_images_with_text_have_no_check_of_text() -> None:
    for few, expected in ((LEAST_PAIRS - 1, False), (LEAST_PAIRS, True)):
        images = [LETTERED] * few + [IMAGE] * (MANY - few)
        assert ("typography" in checks([grid(CORNER)] * MANY, image=images)) == expected


def test_maps_of_few_cells_have_no_border() -> None:
    assert checks([np.ones((2, 2))] * MANY).keys() == {"inside", "fixed_place", "words"}


@pytest.mark.slow
def test_notes_say_why_text_is_not_checked() -> None:
    model, whole = tiny.model("clip"), Object("sign", None, np.ones((64, 64), bool), (NAME,))
    region = model.image.prepare([IMAGE]).regions[0]

    def notes(count: int, covered: int) -> tuple[str, ...]:
        pairs = [pair(image=LETTERED if item < count else IMAGE) for item in range(MANY)]
        pairs[:covered] = [replace(each, objects=(whole,)) for each in pairs[:covered]]
        maps = [Map(grid(CORNER), region=region)] * MANY
        return Evidence.of(model, pairs, maps, [Map(np.ones(3), WORDS)] * MANY).notes

    assert notes(0, 0) == notes(LEAST_PAIRS, 0) == ()
    beginning, end = f"text was found in 3 of {MANY} images, in 3 of them", " beside the named objects"
    assert notes(3, 0) == (f"{beginning}{end}: typography is checked with at least 8",)
    assert notes(9, 2)[0].startswith(f"text was found in 9 of {MANY} images, in 7 of them")
    assert notes(10, 2)[0].startswith("in 2 of 10 images with text, most of it is on the named objects")


@pytest.mark.parametrize("known", [1, 2])
def test_one_value_is_no_check(known: int) -> None:
    grids = [grid(CENTER)] * known + [-np.ones((SIDE, SIDE))] * (MANY - known)
    assert ("inside" in checks(grids)) == (known > 1)


def lettered(seed: int) -> ImageInput:
    """Return an image of noise with a label, in a corner that is not on the object."""
    image = tiny.image(64, 64, seed).pil_image.copy()
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 63, 20), "white")
    draw.text((4, 2), "EXIT", "black", ImageFont.load_default(14))
    return ImageInput(image, "lettered")


def test_pairs_of_checks_that_do_not_pass_are_the_worst() -> None:
    pairs = [replace(pair(), image=lettered(seed), caption=f"{CAPTION} {seed}") for seed in range(24)]
    runner = AuditRunner(tiny.model("clip"), pairs, [MethodSpec("random")], 0, 16)
    evidence = runner.evidence["random"]
    detected = list(evidence.checks("random"))
    doubtful = []
    for check in detected:
        beyond = math.inf if check.better == "higher" else -math.inf
        doubtful.append(replace(check, passes=beyond, fails=-beyond, least_pairs=1))
    assert {check.verdict for check in doubtful} == {"warn"}
    examples = list(runner.finds(doubtful))
    names = {check.name for check in detected}
    assert names == set(SIDE_OF)
    assert {example.check for example in examples} == names
    for name in names:
        values = [example.value for example in examples if example.check == name]
        assert len(values) == 10
        assert values == sorted(values, reverse=name != "inside"), name  # pyright: ignore
        find, worst = next(one for one in examples if one.check == name), evidence.worst(name)[0]
        assert (find.caption, find.method) == (pairs[worst].caption, "random")
        assert find.value == evidence.values[name][worst]
        assert find.maps.keys() == find.words.keys() == {"evidence"}
    passing = [
        replace(check, value=0.0, low=0.0, passes=-9.0, fails=-99.0, better="higher", least_pairs=1)
        for check in detected
    ]
    assert list(runner.finds(passing)) == []


@pytest.mark.slow
def test_audit_without_objects_is_saved_and_shows_pairs_with_what_to_do() -> None:
    audit = nibt.audit(tiny.model("clip"), noise_pairs(40), "ones", quick=True)
    assert Audit.from_json(audit.to_json()) == audit
    detected = {check.name: check.value for check in audit.checks if check.question == 9}
    assert detected.keys() == {"border", "fixed_place", "words"}
    assert [detected[name] for name in ("border", "fixed_place")] == pytest.approx([1, 1])
    shown = {example.check for example in audit.examples} - {""}
    failing = {check.name for check in audit.checks if check.question == 9 and check.verdict != "pass"}
    assert shown == failing == {"border", "words"}
    text = check_page(page(audit))
    for name in SIDE_OF:
        assert (CHECKS[name].advice in text) == (name in shown), name


@pytest.mark.parametrize("spans", [(), (NAME,)])
def test_masks_that_are_not_used_are_named(spans: tuple[tuple[int, int], ...]) -> None:
    image = tiny.image(64, 64)
    objects = (Object("zebra", None, pair().objects[0].mask, spans),)
    pairs = [Pair(image, CAPTION, objects), Pair(tiny.image(64, 64, 1), CAPTION, objects)]
    runner = AuditRunner(tiny.model("clip"), pairs, [MethodSpec("random")], 0, 16)
    assert runner.evidence["random"].has_masks == bool(spans)
    note = "the masks and boxes of 2 of 2 images are not used: their captions name none of the objects, such as 'zebra'"
    assert any(text.startswith(note) for text in runner.notes) != bool(spans)


def test_an_object_that_is_not_seen_says_nothing() -> None:
    hidden = Object("cat", None, np.zeros((64, 64), bool), (NAME,))
    detected = checks([grid(CENTER)] * MANY, objects=(hidden,))
    assert "inside" not in detected
    assert "without masks or boxes" in checks([grid(CORNER)] * MANY, objects=(hidden,))["fixed_place"].unclear


def test_an_object_may_be_where_all_maps_are_without_masks() -> None:
    """An honest model has this value if the object is always in the corner."""
    check = checks([grid(CORNER)] * MANY, objects=())["fixed_place"]
    assert (check.value, check.verdict) == (4, "cannot tell")
    assert "without masks or boxes" in check.unclear


def test_what_is_beside_the_objects_fails_only_if_the_model_uses_it() -> None:
    model = tiny.model("clip")
    region = model.image.prepare([IMAGE]).regions[0]
    images, texts = [Map(grid(CORNER), region=region)] * MANY, [Map(np.array([-1.0, -1.0, 1.0]), WORDS)] * MANY
    evidence = Evidence.of(model, [pair()] * MANY, images, texts)

    def verdicts(used: float) -> list[str]:
        losses = used + np.random.default_rng(0).normal(0, 0.02, MANY)
        exchanges: dict[Modality, Exchange] = {
            "image": Exchange(losses, 1 - losses),
            "text": Exchange(np.full(MANY, np.nan), np.full(MANY, np.nan)),
        }
        detected = {check.name: check for check in evidence.checks("nib", exchanges)}
        assert ("lowers the similarity too little" in detected["inside"].unclear) == (used < 0.2)
        return [detected[name].verdict for name in ("inside", "border")]

    assert verdicts(0.02) == ["cannot tell", "cannot tell"]
    assert verdicts(0.6) == ["fail", "fail"]


@pytest.mark.parametrize("shape", [(8, 8), (24, 24), (14, 14), (7, 7), (3, 5)])
def test_corners(shape: tuple[int, int]) -> None:
    cells = corner_cells(shape)
    assert in_corners(np.ones(shape)) == pytest.approx(1)
    assert in_corners(cells * -2.0) == pytest.approx(1 / cells.mean())
    assert in_corners((~cells).astype(float)) == 0
    assert np.isnan(in_corners(np.zeros(shape)))


def test_error_of_overlaps_is_that_of_the_jackknife() -> None:
    draws = np.random.default_rng(0)
    grids = [draws.random((SIDE, SIDE)) ** 2 for _ in range(60)]
    values, interval = fixed_place(grids, [""] * len(grids))
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert (interval.high - interval.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.15)
    assert interval.low < interval.mean < interval.high
