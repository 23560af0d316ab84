"""Tests of ``nibt.decisive_region`` of answers: by the forward of the model on images that are painted here."""

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import nibt
from nibt.core.perturbation import backdrop
from nibt.data.images import ImageInput
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.generators.forced import AnswerRequest
from nibt.generators.results.answer import AnswerExplanation
from nibt.registry import find
from tests import tiny
from tests.generators.test_several_images import own_inputs
from tests.suites import few
from tests.tiny_vision_language import generator

PROMPT, ANSWER = "a photo of a cat", "two red cars"
REGIONS = ("keep", "change")
KIND = "llava"


@cache
def explained(seed: int, against: str | None = None, kind: str = KIND) -> AnswerExplanation:
    return nibt.explain_answer(
        generator(kind),
        tiny.image(64, 64, seed),
        PROMPT,
        ANSWER,
        "occlusion",
        other_images=[],
        narrow=["image"],
        against=against,
    )


def own_logits(image: ImageInput, shown: Any, behind: Any = 0.0, answer: str = ANSWER) -> Any:
    """Return the logits of the model at the tokens of the answer, with what hides the other cells, and their ids."""
    values = own_inputs(KIND, image, answer=answer)
    pixels = values["pixel_values"]
    keep = F.interpolate(shown[None, None].float(), pixels.shape[-2:], mode="nearest")[0]
    values["pixel_values"] = pixels * keep + behind * (1 - keep)
    root: Any = generator(KIND).module
    tower: Any = generator(KIND).answers
    count = len(tower.read(AnswerRequest.of(image, PROMPT, answer, None).forced(generator(KIND)).prompted, answer).ids)
    with torch.no_grad():
        return root(**values).logits[0, -count - 1 : -1].float(), values["input_ids"][0, -count:]


def own_value(explanation: AnswerExplanation, shown: Any, word: int | None, behind: Any = 0.0) -> float:
    """Return the log-probability of a word, or of the answer, or the difference of the logits of a word."""
    assert explanation.input is not None
    logits, ids = own_logits(explanation.input, shown, behind)
    if explanation.alternatives:
        assert word is not None
        place = explanation.words[word].tokens[0]
        tower: Any = generator(KIND).answers
        words = explanation.answer.split()[:word]
        other = tower.tokenizer(" ".join(["", *words, explanation.target["options"]["against"]])).input_ids
        assert tower.tokenizer.decode([other[-1]]) == explanation.alternatives[word]
        return float(logits[place, ids[place]] - logits[place, other[-1]])

    words = explanation.words if word is None else [explanation.words[word]]
    tokens = [token for each in words for token in each.tokens]
    return float(logits.log_softmax(-1)[tokens, ids[tokens]].sum())


def ends(explanation: AnswerExplanation, word: int | None) -> tuple[float, float]:
    whole = torch.ones(explanation.grid.shape)
    return own_value(explanation, 0 * whole, word), own_value(explanation, whole, word)


@pytest.mark.parametrize("region", few(REGIONS, ["change"]))
@pytest.mark.parametrize("word", few([None, 0, "cars"], ["cars"]))
def test_the_part_keeps_more_than_half_and_needs_each_cell(region: Any, word: Any) -> None:
    found = 0
    for seed in range(3):
        explanation = explained(seed)
        number = explanation.position(word) if word is not None else None
        nothing, everything = ends(explanation, number)
        result = nibt.decisive_region(generator(KIND), explanation, region, word=word, hide="mean")
        decisive = result.decisive
        assert (decisive is None) == (everything <= nothing)
        if decisive is None:
            assert "no region is decisive: the image adds nothing to the log-probability" in result.warnings[-1]
            continue

        found += 1
        assert (decisive.decision, decisive.word) == ("log_probability", number)
        limit = (nothing + everything) / 2

        def decides(cells: Any, explanation: Any = explanation, number: Any = number, limit: Any = limit) -> bool:
            shown = cells if region == "keep" else ~cells
            return (own_value(explanation, shown, number) > limit) == (region == "keep")

        assert decides(decisive.cells)
        for place in decisive.cells.nonzero().tolist():
            fewer = decisive.cells.clone()
            fewer[tuple(place)] = False
            assert not decides(fewer)
    assert found


@pytest.mark.slow
@pytest.mark.parametrize("region", REGIONS)
def test_a_word_is_ahead_of_another_one_because_of_the_part(region: Any) -> None:
    """The decision is the sign of the difference of logits, if that of the blank image has the other sign."""
    decisions = []
    for seed, against, word in product(range(3), ["mat", "dog", "blue"], range(3)):
        explanation = explained(seed, against)
        nothing, everything = ends(explanation, word)
        decisive = nibt.decisive_region(generator(KIND), explanation, region, word=word, hide="mean").decisive
        if decisive is None:
            assert everything <= nothing + 1e-5
            continue

        is_first = nothing <= 0 < everything
        assert decisive.decision == ("first" if is_first else "difference")
        shown = decisive.cells if region == "keep" else ~decisive.cells
        value = own_value(explanation, shown, word)
        limit = 0.0 if is_first else (nothing + everything) / 2
        assert (value > limit - 1e-5) if region == "keep" else (value <= limit + 1e-5)
        assert decisive.instead == (against if is_first and region == "change" else "")
        decisions.append(decisive.decision)
    assert "difference" in decisions


@pytest.mark.slow
def test_the_scene_decides_that_the_word_is_ahead() -> None:
    model = nibt.load_generator("scenes_generator")
    explanation = nibt.explain_answer(
        model, "sample:scene", "what is left of the house ?", method="occlusion", against="tree"
    )
    lost = nibt.decisive_region(model, explanation, "change").decisive
    assert lost is not None
    assert (lost.decision, lost.instead, lost.word) == ("first", "tree", 0)
    kept = nibt.decisive_region(model, explanation, "keep", hide="mean")
    assert kept.decisive is not None
    assert "“hamburger”: " in kept.decisive_about
    assert "keeps the word first if all else is removed" in kept.decisive_about
    assert kept.decisive_about in repr(kept)


@pytest.mark.slow
@pytest.mark.parametrize("hide", ["blur", "noise"])
def test_hidden_cells_are_filled_as_requested(hide: Any) -> None:
    """The part decides with the blurred image, or with each of five draws of noise, in the other cells."""
    for seed, word in product(range(8), (None, 0, 1, 2)):
        explanation = explained(seed)
        decisive = nibt.decisive_region(generator(KIND), explanation, "keep", hide=hide, word=word).decisive
        if decisive is None:
            continue
        forced = AnswerRequest.of(explanation.input, PROMPT, ANSWER, None).forced(generator(KIND))  # pyright: ignore
        side = forced.side([0], None, None)
        fillings = [backdrop(side, hide, draw) for draw in range(5 if hide == "noise" else 1)]
        whole = torch.ones(explanation.grid.shape)
        nothing = max(own_value(explanation, 0 * whole, word, behind) for behind in fillings)
        limit = (nothing + own_value(explanation, whole, word)) / 2
        assert all(own_value(explanation, decisive.cells, word, behind) > limit - 1e-5 for behind in fillings)
        return
    pytest.fail("no image decides")


@pytest.mark.slow
def test_a_probability_has_a_bound() -> None:
    for seed, word in product(range(8), (None, 0, 1, 2)):
        explanation = explained(seed)
        decisive = nibt.decisive_region(generator(KIND), explanation, "keep", probability=0.8, word=word).decisive
        if decisive is None:
            continue
        assert decisive.probability is not None
        assert decisive.draws >= 100
        forced = AnswerRequest.of(explanation.input, PROMPT, ANSWER, None).forced(generator(KIND))  # pyright: ignore
        side = forced.side([0], None, None)
        whole = torch.ones(explanation.grid.shape)
        ends_of = [own_value(explanation, 0 * whole, word, backdrop(side, "noise", draw)) for draw in range(5)]
        limit = (max(ends_of) + own_value(explanation, whole, word)) / 2
        kept = [
            own_value(explanation, decisive.cells, word, backdrop(side, "noise", 10_000 + draw)) > limit
            for draw in range(60)
        ]
        assert np.mean(kept) >= decisive.probability - 0.15
        return
    pytest.fail("no image decides")


@pytest.mark.parametrize("count", few([1, 2], [2]))
@pytest.mark.parametrize("kind", few(["qwen2_vl", "blip_caption", "git", "paligemma", "internvl"], ["qwen2_vl"]))
def test_with_all_cells_and_with_none_words_are_as_probable_as_in_the_explanation(kind: str, count: int) -> None:
    model = generator(kind)
    if count > 1 and kind in ("blip_caption", "git"):
        return
    prompt = "" if model.answers.prompts == "none" else PROMPT
    images = [tiny.image(64, 64), tiny.image(96, 64, 1)][:count]
    explanation = nibt.explain_answer(model, images, prompt, ANSWER, "occlusion", narrow=["image"], other_images=[])
    for word in (None, 0, 1):
        words = explanation.words if word is None else [explanation.words[word]]
        expected = [sum(each.with_blank_image for each in words), sum(each.log_probability for each in words)]
        with find("decisions", "answer").opened(model, explanation, word, "mean") as hidden:
            assert hidden.of_ends()[0, :, 0].tolist() == pytest.approx(expected, abs=1e-3)
            last = torch.ones(1, hidden.cells, dtype=torch.bool)
            last[0, -1] = False
            drop = sum(float(each.grid[-1, -1]) for each in words)
            assert float(hidden.shown(last)) == pytest.approx(expected[1] - drop, abs=1e-3), "that of occlusion"

        result = nibt.decisive_region(model, explanation, "change", word=word)
        assert (result.decisive is None) == (expected[1] <= expected[0])


@pytest.mark.slow
def test_what_the_model_wrote_is_decided() -> None:
    model = generator("qwen2_vl")
    explanation = nibt.explain_answer(
        model, tiny.image(64, 64), PROMPT, method="occlusion", max_words=2, narrow=["image"], other_images=[]
    )
    assert explanation.written
    nibt.decisive_region(model, explanation)
    other = replace(explanation, input=tiny.image(64, 64, 3))
    if nibt.explain_answer(model, other.input, PROMPT, method="ones", max_words=2).answer != explanation.answer:  # pyright: ignore
        with pytest.raises(BadInput, match="the model now writes another answer than"):
            nibt.decisive_region(model, other)


@pytest.mark.slow
def test_results_are_saved_and_drawn(tmp_path: Path) -> None:
    for seed, word in product(range(6), (None, 1)):
        result = nibt.decisive_region(generator(KIND), explained(seed), "change", word=word)
        if result.decisive is None:
            continue
        for ending in ("json", "png", "html"):
            result.save(tmp_path / f"{seed}-{word}.{ending}")
        read = AnswerExplanation.load(tmp_path / f"{seed}-{word}.json")
        assert read.decisive == result.decisive
        assert result.decisive_about in (tmp_path / f"{seed}-{word}.html").read_text()
        assert nibt.draw(result).tobytes() != nibt.draw(replace(result, decisive=None)).tobytes()
        data = result.to_json()
        data["decisive"]["cells"] = [[True]]
        with pytest.raises(BadInput, match="decisive must have the cells of the maps of words"):
            AnswerExplanation.from_json(data)
        data = result.to_json()
        data["decisive"]["word"] = 3
        with pytest.raises(BadInput, match=r"decisive.word must be below 3, the number of words \(got 3\)"):
            AnswerExplanation.from_json(data)


@pytest.mark.usefixtures("unchecked")
def test_other_inputs_are_refused_by_name() -> None:
    model, explanation = generator(KIND), explained(0)
    with pytest.raises(UnknownName, match="unknown word"):
        nibt.decisive_region(model, explanation, word="dog")
    with pytest.raises(UnknownName, match="unknown word True"):
        nibt.decisive_region(model, explanation, word=True)
    assert str(UnknownName("words", "dog", ["cup", "a", "cup"])) == "unknown word 'dog'. Known words: a, cup."
    with pytest.raises(BadInput, match=r"word must be between 0 and 2 \(got 5\)"):
        nibt.decisive_region(model, explanation, word=5)
    with pytest.raises(BadInput, match="word is missing: each word of the answer is compared with 'mat'"):
        nibt.decisive_region(model, explained(0, "mat"))
    with pytest.raises(BadInput, match=r"with another weights_hash than the model|with another family than the model"):
        nibt.decisive_region(generator("qwen2_vl"), explanation)
    difference = nibt.explain_answer(
        model, tiny.image(64, 64), PROMPT, ANSWER, "ones", against_image=tiny.image(64, 64, 1)
    )
    with pytest.raises(BadInput, match="got the difference of two images"):
        nibt.decisive_region(model, difference)
    caption = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "ones")
    with pytest.raises(BadOption, match="word is for answers: leave it out"):
        nibt.decisive_region(tiny.model("clip"), caption, word=0)
    with pytest.raises(BadInput, match="takes results of class AnswerExplanation or Explanation"):
        nibt.decisive_region(model, "answer.json")  # pyright: ignore


def margin(explanation: AnswerExplanation, shown: Any, tokens: int) -> float:
    """Return by how much the first tokens of the answer are ahead of all others in the model's own logits."""
    assert explanation.input is not None
    logits, ids = own_logits(explanation.input, shown, answer=explanation.answer)
    margins = []
    for place in range(tokens):
        others = logits[place].clone()
        others[ids[place]] = -torch.inf
        margins.append(float(logits[place, ids[place]] - others.max()))
    return min(margins)


def first_token_of(image: ImageInput, shown: Any) -> str:
    """Return the text of the token that the model writes first for an image with some cells hidden."""
    logits, _ = own_logits(image, shown)
    tower: Any = generator(KIND).answers
    return tower.tokenizer.decode([int(logits[0].argmax())]).strip()


def answers_without_cells(seed: int) -> list[str]:
    """Return the words that the model writes first for an image without some cells, and not with all of them."""
    image = tiny.image(64, 64, seed)
    whole = torch.ones(4, 4)
    with_all = first_token_of(image, whole)
    found = []
    for cell in range(16):
        shown = whole.clone()
        shown.flatten()[cell:] = 0
        found.append(first_token_of(image, shown))
    return sorted({word for word in found if word.isalpha() and word != with_all})


@pytest.mark.slow
def test_without_the_part_the_model_writes_the_answer() -> None:
    """Each part lets the model write the first word of an answer, and needs each of its cells."""
    corrected = 0
    for seed in range(6):
        for answer in answers_without_cells(seed):
            image = tiny.image(64, 64, seed)
            explanation = nibt.explain_answer(
                generator(KIND), image, PROMPT, answer, "occlusion", other_images=[], narrow=["image"]
            )
            count = len(explanation.words[0].tokens)
            whole = torch.ones(explanation.grid.shape)
            if [explanation.words[0].tokens] != [tuple(range(count))] or margin(explanation, whole, count) > 0:
                continue

            result = nibt.decisive_region(generator(KIND), explanation, "correct", word=0)
            decisive = result.decisive
            if decisive is None:
                assert "no region corrects the answer: the model does not write" in result.warnings[-1]
                continue

            corrected += 1
            assert (decisive.region, decisive.decision, decisive.instead) == ("correct", "written", answer)
            assert f"the model writes \u201c{answer}\u201d" in result.decisive_about
            assert margin(explanation, ~decisive.cells, count) > 0
            for place in decisive.cells.nonzero().tolist():
                fewer = decisive.cells.clone()
                fewer[tuple(place)] = False
                assert margin(explanation, ~fewer, count) <= 0
    assert corrected


def test_what_the_model_writes_needs_no_correction() -> None:
    model = generator("qwen2_vl")
    explanation = nibt.explain_answer(
        model, tiny.image(64, 64), PROMPT, method="occlusion", max_words=2, narrow=["image"], other_images=[]
    )
    for word in (None, 0):
        result = nibt.decisive_region(model, explanation, "correct", word=word)
        assert result.decisive is None
        assert "with the whole image; explain the answer that it should write" in result.warnings[-1]


@pytest.mark.usefixtures("unchecked")
def test_a_correction_that_cannot_be_told_is_refused() -> None:
    with pytest.raises(BadOption, match="a region that corrects is for one answer, not a difference"):
        nibt.decisive_region(generator(KIND), explained(0, "blue"), "correct", word=0)
    with pytest.raises(BadOption, match="region must be one of keep, change, correct"):
        nibt.decisive_region(generator(KIND), explained(0), "mend")  # pyright: ignore
    with pytest.raises(BadOption, match="correct is for answers"):
        nibt.decisive_region("scenes", nibt.explain("scenes", "sample:scene", "a cat", "occlusion"), "correct")


@pytest.mark.slow
def test_the_shipped_generator_is_corrected_as_it_writes() -> None:
    """The model writes the answer itself for an image whose part is painted with the mean color."""
    model = nibt.load_generator("scenes_generator")
    pair = Scenes(count=40, seed=7)[9]
    assert nibt.explain_answer(model, pair.image, "describe the picture", method="ones").words[1].text == "snake"
    explanation = nibt.explain_answer(
        model, pair.image, "describe the picture", "a turtle", "nib", views=1, narrow=["image"], other_images=[]
    )
    decisive = nibt.decisive_region(model, explanation, "correct").decisive
    assert decisive is not None
    assert decisive.share < 0.1

    pixels = np.array(pair.image.pil_image.convert("RGB"))
    rows, columns = decisive.cells.shape
    mask = decisive.cells.numpy().repeat(pixels.shape[0] // rows, 0).repeat(pixels.shape[1] // columns, 1)
    tower: Any = model.answers
    pixels[mask] = np.round(255 * np.array(tower.processor.image_processor.image_mean))
    painted = ImageInput(Image.fromarray(pixels), "painted")
    written = nibt.explain_answer(model, painted, "describe the picture", method="ones", max_words=2)
    assert written.answer == "a turtle"
