"""Late interaction: MaxSim, maps of queries and of their words, and what is refused."""

import numpy as np
import pytest
import torch

import nibt
from benchmarks.models.tiny_vision_language import LATE
from nibt.data.pair import Pair
from nibt.errors import BadOption, Unsupported
from nibt.targets.base import MaxSim
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import built, model

QUERY = "a photo of a cat and a dog"
PAGE, OTHER = tiny.image(64, 48, 0), tiny.image(90, 30, 1)
METHODS = ("nib", "occlusion", "similarity_map")


def embeddings(kind: str, queries: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    loaded = model(kind)
    return loaded.image.encode(loaded.image.prepare([PAGE])), loaded.text.encode(loaded.text.prepare(queries))


@pytest.mark.parametrize("kind", LATE)
def test_similarity_is_that_of_the_processor(kind: str) -> None:
    page, queries = embeddings(kind, [QUERY])
    expected = built(kind).processor.score_retrieval(list(queries), list(page))
    answer = nibt.explain(model(kind), PAGE, QUERY, "similarity_map")
    assert isinstance(answer, nibt.Explanation)
    assert answer.similarity == pytest.approx(float(expected), abs=1e-4)


def test_similarity_does_not_depend_on_padding() -> None:
    page, queries = embeddings("colqwen2", [QUERY, "two cars"])
    _, alone = embeddings("colqwen2", ["two cars"])
    longer = torch.cat([page, torch.zeros_like(page)], 1)
    expected = MaxSim()(page, alone)
    torch.testing.assert_close(MaxSim()(page, queries[1:]), expected)
    torch.testing.assert_close(MaxSim()(longer, queries[1:]), expected)
    torch.testing.assert_close(MaxSim().swapped()(queries[1:], longer), expected)
    torch.testing.assert_close(MaxSim().to_each(page, queries)[0, 1:], expected)


def test_padding_of_a_document_is_never_the_best_match() -> None:
    document, query = torch.tensor([[[-1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    assert MaxSim()(document, query).tolist() == [-1.0]


@pytest.mark.parametrize("kind", LATE)
def test_similarity_map_is_the_product_of_the_vectors(kind: str) -> None:
    page, queries = embeddings(kind, [QUERY])
    answer = nibt.explain(model(kind), PAGE, QUERY, "similarity_map")
    assert isinstance(answer, nibt.Explanation)
    rows = list(model(kind).image.trace(model(kind).image.prepare([PAGE])).cut(0).units.tokens)
    products = (page[0] @ queries[0].T).sum(-1)
    grid = model(kind).image.trace(model(kind).image.prepare([PAGE])).cut(0).units
    if kind == "colmodernvbert":  # the similarity of a cell of the overview is divided among the patches that it covers
        coarse = grid.overview
        down, across = grid.rows // coarse.rows, grid.columns // coarse.columns
        own, whole = products[rows].reshape(grid.rows, grid.columns), products[list(coarse.tokens)]
        shares = whole.reshape(coarse.rows, coarse.columns).repeat_interleave(down, 0).repeat_interleave(across, 1)
        torch.testing.assert_close(answer.image.grid, own + shares / (down * across), atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(answer.image.scores.flatten(), products[rows], atol=1e-5, rtol=1e-5)
    words = (page[0] @ queries[0].T).amax(0)
    torch.testing.assert_close(float(words.sum()), answer.similarity, atol=1e-4, rtol=1e-5)
    explained = answer.text.units.explained
    torch.testing.assert_close(answer.text.scores[explained], words[explained], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", few(LATE, list(LATE)[:1]))
def test_rows_of_a_table_add_up_to_the_map_of_the_query(kind: str, method: str) -> None:
    table = nibt.regions(model(kind), PAGE, QUERY, method=method)
    answer = nibt.explain(model(kind), PAGE, QUERY, method)
    assert isinstance(table, nibt.Regions)
    assert isinstance(answer, nibt.Explanation)
    assert [word.text for word in table.words] == QUERY.split()
    scale = float(answer.image.scores.abs().max())
    torch.testing.assert_close(
        table.scores[:, :-1].sum(0), answer.image.scores.flatten(), atol=2e-5 * max(1.0, scale), rtol=1e-4
    )


def test_row_of_a_word_does_not_depend_on_the_other_words() -> None:
    loaded = model("colpali")
    whole = nibt.regions(loaded, PAGE, QUERY, method="occlusion")
    one = nibt.regions(loaded, PAGE, QUERY, words="cat", method="occlusion")
    assert isinstance(whole, nibt.Regions)
    assert isinstance(one, nibt.Regions)
    torch.testing.assert_close(one.table[0], whole.table[4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    few(
        ["nib steps=64 quadrature=gauss image_views=1", "nib tolerance=1e-9", "occlusion", "similarity_map"],
        ["nib tolerance=1e-9"],
    ),
)
def test_product_is_the_change_of_the_similarity_and_a_table_with_another_sum_says_so(method: str) -> None:
    """With enough steps, the table of a path adds up to it."""
    loaded = model("colpali")
    table = nibt.regions(loaded, PAGE, QUERY, method)
    assert isinstance(table, nibt.Regions)
    page, queries = embeddings("colpali", [QUERY])
    inputs = loaded.image.prepare([PAGE])
    blank = loaded.image.trace(inputs).cut(loaded.image.depth)
    with torch.no_grad():
        without = blank.rest(loaded.image.blank(inputs, loaded.image.depth)[None])[0]
    assert table.product == pytest.approx(float(MaxSim()(page, queries) - MaxSim()(without, queries)), abs=1e-4)
    notes = [note for note in table.warnings if "the table adds up to" in note]
    if "quadrature" in method:
        assert abs(table.gap) < 0.05 * abs(table.product)
        assert not notes
    elif "tolerance" in method:
        assert "compare its scores with each other" in notes[0]
    else:
        assert bool(notes) == (abs(table.gap) > 0.3 * max(abs(table.product), 0.01))
        assert notes or method != "similarity_map"


@pytest.mark.parametrize("target", ["difference", "softmax"])
def test_page_is_explained_against_another_page(target: str) -> None:
    answer = nibt.explain(
        model("colqwen2"), PAGE, QUERY, "occlusion", target=target, against=["two cars"], against_images=[OTHER]
    )
    assert isinstance(answer, nibt.Explanation)
    page, queries = embeddings("colqwen2", [QUERY, "two cars"])
    other = model("colqwen2").image.encode(model("colqwen2").image.prepare([OTHER]))
    by_page = torch.cat([MaxSim()(page, queries[:1]), MaxSim()(other, queries[:1])])
    by_query = torch.cat([MaxSim()(page, queries[:1]), MaxSim()(page, queries[1:])])
    value = {"difference": lambda both: both[0] - both[1], "softmax": lambda both: both.softmax(0)[0]}[target]
    assert answer.target["text"]["value"] == pytest.approx(float(value(by_page)), abs=1e-4)  # pyright: ignore
    assert answer.target["image"]["value"] == pytest.approx(float(value(by_query)), abs=1e-4)  # pyright: ignore


@pytest.mark.parametrize("kind", few([*LATE, "qwen2_vl", "qwen3_vl", "idefics3"], ["colqwen2"]))
def test_best_page_is_explained_against_the_second(kind: str) -> None:
    """Pages may have different sizes; values are those of the model's own embeddings."""
    loaded, pages = model(kind), [PAGE, OTHER, tiny.image(48, 96, 2)]
    queries = loaded.text.encode(loaded.text.prepare([QUERY]))
    embedded = [loaded.image.encode(loaded.image.prepare([page])) for page in pages]
    scores = [
        float(MaxSim()(page, queries) if kind in LATE else torch.cosine_similarity(page, queries)) for page in embedded
    ]
    ranked = nibt.rank(loaded, QUERY, pages)
    assert [page.similarity for page in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
    answer = nibt.explain_ranking(loaded, QUERY, pages, "occlusion")
    assert isinstance(answer, nibt.Explanation)
    assert (answer.source, answer.against.source) == (ranked[0].label, ranked[1].label)
    assert answer.target["value"] == pytest.approx(ranked[0].similarity - ranked[1].similarity, abs=1e-4)
    for side in (answer.image, answer.against):
        page = next(page for page in pages if page.source == side.source)
        shape = loaded.image.trace(loaded.image.prepare([page])).cut(0).units
        assert side.grid.shape == (shape.rows, shape.columns)  # pyright: ignore


def test_labels_are_ranked_by_max_sim() -> None:
    page, queries = embeddings("colpali", ["cat", "two cars"])
    ranked = nibt.rank(model("colpali"), PAGE, ["cat", "two cars"])
    assert {one.label: one.similarity for one in ranked} == pytest.approx(
        dict(zip(["cat", "two cars"], MaxSim().to_each(page, queries)[0].tolist(), strict=True)), abs=1e-4
    )


def test_files_say_that_the_similarity_is_max_sim() -> None:
    answer = nibt.explain(model("colpali"), PAGE, QUERY, "similarity_map")
    assert isinstance(answer, nibt.Explanation)
    assert answer.model["similarity"] == "max_sim"  # pyright: ignore


@pytest.mark.parametrize("target", ["centered", "ensemble"])
def test_targets_with_means_are_refused(target: str) -> None:
    with pytest.raises(BadOption, match=f"the target {target} takes means of embeddings, .* compares sets of vectors"):
        nibt.explain(model("colpali"), PAGE, QUERY, target=target)


def test_what_needs_one_vector_is_refused() -> None:
    loaded = model("colpali")
    with pytest.raises(BadOption, match=r"by late interaction \(got two images\): give an image and a caption"):
        nibt.compare(loaded, PAGE, OTHER)
    with pytest.raises(BadOption, match="has no scale of logits: choose cosine"):
        nibt.explain(loaded, PAGE, QUERY, target="logit")
    with pytest.raises(Unsupported, match="compares sets of vectors, so an image has no single one"):
        nibt.contributions(loaded, PAGE)
    with pytest.raises(Unsupported, match="compares sets of vectors, so an image has no single one"):
        nibt.explain_embeddings(loaded, PAGE, torch.ones(1, 12))


def test_dual_encoders_have_no_similarity_map() -> None:
    clip = tiny.model("clip")
    with pytest.raises(Unsupported, match="similarity_map needs vectors"):
        nibt.explain(clip, PAGE, QUERY, "similarity_map")


@pytest.mark.slow
def test_measured_targets_compare_as_the_model_does() -> None:
    """The measured cosine is MaxSim, which is explained too; what cannot be explained cannot be measured."""
    loaded, pairs = model("colqwen2"), [Pair(PAGE, QUERY), Pair(OTHER, "two cars")]
    options = {"metrics": ["confidence_drop", "deletion"], "method": "similarity_map"}
    explained = nibt.measure(loaded, pairs, **options)
    measured = nibt.measure(loaded, pairs, **options, measured="cosine")
    assert [row.value for row in measured] == pytest.approx([row.value for row in explained], rel=1e-5)
    assert all(np.isfinite(row.value) for row in nibt.measure(loaded, pairs, **options, measured="softmax"))
    for target, message in (("centered", "takes means of embeddings"), ("logit", "has no scale of logits")):
        with pytest.raises(BadOption, match=message):
            nibt.measure(loaded, pairs, **options, measured=target)


def test_unknown_words_of_a_query_are_named() -> None:
    warnings = nibt.explain(model("colpali"), PAGE, "a zyzzyva cat", "similarity_map").warnings
    assert any(warning.startswith("the model does not know 'zyzzyva'") for warning in warnings)
