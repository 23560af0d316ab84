"""Tests of ``nibt.engine.reactions``: notes on words that the model does not react to, or that lower the score."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.engine import reactions as reacting
from nibt.engine.encode import encode
from nibt.engine.reactions import NEAR_BLANK, NO_REACTION_TO, SMALL, UNMOVED
from nibt.models.base import Model
from nibt.preprocessing.captions import FUNCTION_WORDS
from nibt.report.html.view import fragment
from nibt.report.html.view_data import Panel
from nibt.results.explanation import NO_REACTION
from tests import tiny
from tests.suites import VARIED, few

CAPTION = "a red bird and two cars"
LOWERS = "red regions do not show what"


def notes(result: nibt.Explanation | nibt.Regions) -> list[str]:
    return [line for line in result.warnings if line.startswith(f"{NO_REACTION_TO} '")]


def blanked(kind: str, *words: str) -> Model:
    """Return a model in which words have the embedding of the padding token, so that removing them changes nothing."""
    model = tiny.fresh(kind)
    with torch.no_grad():
        for word in words:
            (place,) = (each for text, each in zip(*_tokens(model, CAPTION), strict=True) if text == word)
            model.text.embedder.weight[place] = model.text.embedder.weight[model.text.pad[0]]  # pyright: ignore
    return model


def _tokens(model: Model, caption: str) -> tuple[list[str], list[int]]:
    inputs = model.text.prepare([caption])
    assert inputs.words is not None
    words = inputs.words.words[0]
    return [word.text for word in words], [int(inputs.values[0, word.tokens[0]]) for word in words]


@pytest.mark.parametrize("kind", few([kind for kind in VARIED if kind in ("clip", "siglip", "bert")], ["clip"]))
@pytest.mark.parametrize("method", ["center", "nib", "occlusion"])
def test_each_word_whose_embedding_is_that_of_padding_is_named(kind: str, method: str) -> None:
    """Function words are not, even if removing them changes nothing."""
    model = blanked(kind, "red", "bird", "and")
    answer = nibt.explain(model, tiny.image(), CAPTION, method)
    start = f"{NO_REACTION_TO} 'red', 'bird': without any one of them, the caption's embedding hardly changes"
    assert notes(answer) == [start]
    assert notes(nibt.regions(model, tiny.image(), CAPTION)) == [start]
    assert notes(nibt.explain(tiny.model(kind), tiny.image(), CAPTION, method)) == []


@pytest.mark.parametrize("kind", few(("clip", "siglip", "coca"), ("clip",)))
def test_the_note_follows_the_distance_of_the_embeddings(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle blends each word alone to padding, with limits that separate the words; also in a batch."""
    model, inputs = tiny.model(kind), tiny.model(kind).text.prepare([CAPTION])
    assert inputs.words is not None
    words = inputs.words.words[0]
    whole, distances = F.normalize(model.text.encode(inputs), dim=-1), {}
    for word in (*words, None):
        keep = torch.ones(1, inputs.words.count)
        keep[0, [place for each in words for place in each.tokens] if word is None else list(word.tokens)] = 0
        with model.text.blend_to_padding(keep):
            distances[word and word.text] = float((F.normalize(model.text.encode(inputs), dim=-1) - whole).norm())
    content = sorted(distances[name] for name in ("red", "bird", "cars"))
    limit = (content[0] + content[1]) / 2
    for name, share in (("NEAR_BLANK", limit), ("UNMOVED", limit / distances[None])):
        monkeypatch.setattr("nibt.engine.reactions.NEAR_BLANK", 9.0)
        monkeypatch.setattr("nibt.engine.reactions.UNMOVED", 9.0)
        monkeypatch.setattr(f"nibt.engine.reactions.{name}", share)
        (least,) = (name for name in ("red", "bird", "cars") if distances[name] < limit)
        for answer in nibt.explain(model, tiny.image(), ["two cars", CAPTION, "cat"], "center")[1:2]:
            assert notes(answer) == [f"{NO_REACTION_TO} {least!r}: without it, the caption's embedding hardly changes"]


def test_two_captions_name_the_side() -> None:
    model = blanked("clip", "bird")
    answer = nibt.compare(model, nibt.Caption(CAPTION), "two cars", "center")
    assert [line for line in answer.warnings if NO_REACTION_TO in line] == [
        f"first: {NO_REACTION_TO} 'bird': without it, the caption's embedding hardly changes"
    ]


def test_words_with_large_scores_along_a_path_take_no_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "nibt.engine.reactions.moves", lambda side, words: calls.append(words) or torch.ones(len(words))
    )
    model = tiny.model("clip")
    answer = nibt.explain(model, tiny.image(), CAPTION)
    largest = max(abs(word.score) for word in answer.words)
    small = [
        word.text for word in answer.words if abs(word.score) <= SMALL * largest and word.text not in FUNCTION_WORDS
    ]
    assert [word.text for words in calls for word in words] == small
    calls.clear()
    nibt.explain(model, tiny.image(), "cat")
    assert not calls


@pytest.mark.slow
def test_lite_names_the_words_that_it_was_not_taught() -> None:
    captions = {
        "donuts in a shop": "'donuts'",
        "a fire hydrant among flowers": "'hydrant'",
        "a red cat and a red car": "'red'",
        "a cat on a car": "",
    }
    answers = nibt.explain("lite", "sample:chelsea", list(captions))
    assert [
        notes(answer)[0].split(":")[0].removeprefix(f"{NO_REACTION_TO} ") if notes(answer) else "" for answer in answers
    ] == [*captions.values()]
    assert not any(line.startswith(NO_REACTION + " (") for answer in answers for line in answer.warnings)


def test_limits_are_below_what_any_known_word_moves() -> None:
    assert 0 < UNMOVED < 1
    assert 0 < NEAR_BLANK < 0.1


# Words that lower the score


def test_words_that_lower_the_score_are_named_in_text_page_and_picture() -> None:
    """The limit is a share of the largest score; methods without signs, and maps of noise, have no such sentence."""
    model = replace(tiny.model("clip"), defaults={"usual_change": 1e-6})  # no map is noise
    seen = set()
    for seed, caption in enumerate((CAPTION, *tiny.CAPTIONS)):
        answer = nibt.explain(model, tiny.image(seed=seed), caption)
        largest = max(abs(word.score) for word in answer.words)
        lowering = [
            f"{word.text!r} ({word.score:+.4f})"
            for word in answer.words
            if word.score < -SMALL * largest and word.text not in FUNCTION_WORDS
        ]
        lines = [line for line in answer.warnings if LOWERS in line]
        verb, noun = ("lowers", "this word names") if len(lowering) == 1 else ("lower", "these words name")
        sentence = f"{', '.join(lowering)} {verb} the score: {LOWERS} {noun}"
        assert lines == ([sentence] if lowering else [])
        for line in lines:
            assert line in repr(answer)
            assert json.dumps(line)[1:-1] in json.dumps(answer.to_json())
            assert line.split("(")[1].split(")")[0] in fragment([Panel(answer)])
        seen.add(len(lowering))
        assert not [
            line for line in nibt.explain(model, tiny.image(seed=seed), caption, "gae").warnings if LOWERS in line
        ]
    assert len(seen) > 1


@pytest.mark.slow
def test_words_of_a_difference_are_not_compared_with_maps_of_similarities() -> None:
    """With another image, negative words prefer that one, and red regions of both images raise their own similarity."""
    (first, second), (cup, cat) = ("sample:chelsea", "sample:coffee"), ("a cup of coffee", "a cat")
    for image, other, caption in ((first, second, cup), (second, first, cat)):
        answer = nibt.explain("lite", image, caption, against_images=other)
        assert min(word.score for word in answer.words) < 0
        assert not [warning for warning in answer.warnings if "the score: do not read" in warning]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "caption", "named"),
    [
        ("lite", "no bus", {"negations": "'no'"}),
        ("lite", "two cats on a table", {"numbers": "'two'", "relations": "'on'"}),
        ("lite", "2 cats and a dog", {"numbers": "'2'"}),
        ("lite", "a cat near a dog", {"relations": "'near'"}),
        ("lite", "a cat next to a dog with a ball", {"relations": "'next', 'with'"}),
        ("lite", "a photo of a bus", {}),
        ("scenes", "no bus", {"negations": "'no'"}),
        ("scenes", "a bus and a drum", {}),
    ],
)
def test_words_of_classes_that_a_model_does_not_read_are_named(model: str, caption: str, named: dict[str, str]) -> None:
    loaded = nibt.load_model(model)
    explanation = nibt.explain(loaded, "sample:scene", caption)
    texts = {note.code: note.text for note in explanation.notes}
    for name in ("numbers", "negations", "relations"):
        assert (f"unread_{name}" in texts) == (name in named)
        assert named.get(name, "") in texts.get(f"unread_{name}", "")


def test_the_reaction_to_word_classes_is_that_of_the_embeddings_and_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, calls = tiny.fresh("clip"), []
    monkeypatch.setattr(reacting, "encode", lambda *inputs: calls.append(inputs) or encode(*inputs))
    first = reacting.class_reactions(model)
    assert reacting.class_reactions(model) == first
    assert len(calls) == 3
    assert set(first) == {"numbers", "negations", "relations"}
    assert all(value > 0 for value in first.values())
